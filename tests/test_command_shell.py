"""The command ``kgraph`` around its subcommands: engines, caches, terminals, processes."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kgraph
import kgraph.command.parts as parts
from kgraph import disk
from tests.commands import Run, data_of, running, started


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command: (status, output, errors)."""
    with running("", tmp_path, monkeypatch, capsys) as found:
        yield found


# ---------------------------------------------------------------------------------------------------- engines, caches, settings


def test_engines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGRAPH_BACKEND", "numpy")
    status, text, _ = run("engines", "numpy")
    assert status == 0
    assert text.splitlines()[1].split()[:4] == ["*", "numpy", "ready", np.__version__]
    (found,) = data_of(run("engines", "numpy", "--json"))["engines"]
    assert found["configured"]
    assert found["version"] == np.__version__
    assert f"{os.cpu_count()} cores" in found["devices"][0]

    def broken(name: str) -> Any:
        raise OSError("libnothing.so: cannot open shared object file")

    monkeypatch.setattr("kgraph.command.engines.load_engine", broken)
    status, text, _ = run("engines", "tensorflow")
    assert status == 1
    assert "it cannot be loaded: OSError: libnothing.so" in text
    status, _, errors = run("engines", "thano")
    assert (status, errors) == (2, "kgraph: there is no engine 'thano'\n  hint: the engines are numpy, theano, tensorflow\n")
    monkeypatch.setenv("KGRAPH_BACKEND", "jax")
    assert "jax is configured (from KGRAPH_BACKEND), and there is no engine of that name" in run("engines", "numpy")[1]


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders as Theano leaves them, by whose they are; each has a file that is none of Theano's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THEANO_FLAGS", f"base_compiledir={tmp_path / 'mine'}")
    monkeypatch.setenv("THEANORC", str(tmp_path / "none"))
    folders = {"own": disk.compile_folder(), "flags": tmp_path / "mine", "theano": tmp_path / "home" / ".theano"}
    for folder in folders.values():
        inside = folder / "compiledir_Linux-64" / "tmp1"
        inside.mkdir(parents=True)
        (inside / "key.pkl").write_bytes(b"0" * 100)
        (inside / "mod.so").write_bytes(b"0" * 900)
        (folder / "precious").write_text("kept")
    return folders


def test_the_cache_is_shown_and_only_what_is_compiled_is_cleared(run: Run, caches: dict[str, Path]) -> None:
    found = data_of(run("cache", "--json"))["caches"]
    assert [Path(each["folder"]) for each in found] == list(caches.values())
    assert [(each["bytes"], each["operations"]) for each in found] == [(1000, 1)] * 3
    assert "1 kB" in run("cache")[1]
    status, text, _ = run("cache", "clear")
    assert status == 0
    assert text.startswith(f"deleted 1 kB, 1 operations: {caches['own']}\n")
    assert f"{caches['flags']} is of THEANO_FLAGS or .theanorc; --yes deletes what is compiled there too" in text
    assert sorted(each.name for each in caches["own"].iterdir()) == ["precious"]
    for whose in ("flags", "theano"):
        assert (caches[whose] / "compiledir_Linux-64" / "tmp1" / "mod.so").exists()
    found = data_of(run("cache", "clear", "--yes", "--json"))
    assert [Path(each["folder"]) for each in found["deleted"]] == [caches["flags"], caches["theano"]]
    for folder in caches.values():
        assert sorted(each.name for each in folder.iterdir()) == ["precious"]
    assert run("cache", "clear", "--yes")[1] == "there is nothing to delete\n"


def test_links_in_a_cache_are_not_followed(run: Run, caches: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("kept")
    (caches["own"] / "compiledir_link").symlink_to(tmp_path / "elsewhere")
    run("cache", "clear")
    assert not (caches["own"] / "compiledir_link").exists()
    assert (tmp_path / "elsewhere" / "file").read_text() == "kept"


def test_a_compiledir_of_the_user_loses_only_what_theano_wrote(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THEANO_FLAGS", f"compiledir={tmp_path / 'mine'}")
    for name in ("tmp1", "cutils_ext", "photos"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "file").write_text("text")
    run("cache", "clear")
    assert len(list((tmp_path / "mine").iterdir())) == 3
    run("cache", "clear", "--yes")
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["photos"]


def test_a_file_that_is_wrong_keeps_nobody_from_mending_it(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text('{"floatx": "float8"}')
    shown = started("config", folder=tmp_path)
    errors = shown.communicate(timeout=120)[1]
    assert errors.startswith(f"kgraph: {tmp_path / 'keras.json'}: floatx is 'float8'; it has to be")
    assert shown.returncode == 2
    mended = started("config", "floatx=float32", folder=tmp_path)
    assert mended.communicate(timeout=120)[1] == ""
    assert mended.returncode == 0
    assert json.loads((tmp_path / "keras.json").read_text()) == {"floatx": "float32"}


# ---------------------------------------------------------------------------------------------------- in a shell


def test_a_process_of_its_own_and_a_reader_who_has_enough(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(
        "from kgraph import backend as K\nx = K.placeholder((2,), name='x')\n"
        "for i in range(3000):\n    x = K.exp(x) if i % 2 else x * float(i)\n"
    )
    read, write = os.pipe()
    process = started("show", "long.py:x", "--lines", "all", "--no-fold", folder=tmp_path, stdout=write)
    os.close(write)
    assert os.read(read, 4).startswith(b"%0")
    os.close(read)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == parts.PIPE_BROKEN


def test_ctrl_c_ends_it_at_once_and_quietly(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(60)\n")
    process = started("show", "slow.py:x", folder=tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == parts.INTERRUPTED


@contextmanager
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Standard error is a terminal in the block; gives what is written there from now on."""
    ours, theirs = os.openpty()
    with open(theirs, "w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        patch.setenv("TERM", "xterm")

        def read() -> str:
            file.flush()
            found = b""
            while select.select([ours], [], [], 0.03)[0]:
                found += os.read(ours, 4096)
            return found.decode(errors="replace")

        yield read
    os.close(ours)


def test_a_bar_in_a_terminal_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_terminal(monkeypatch) as written:
        with parts.working("fast") as step:
            step("first")
            assert kgraph.terminal.taken
        assert written() == ""  # it was over before
        monkeypatch.setattr(parts, "PATIENCE", 0.0)
        with parts.working("counting", 2) as step:
            shown = ""
            for what in ("first", "second"):
                step(what)
                until = time.monotonic() + 30
                while f"counting: {what}" not in shown and time.monotonic() < until:
                    shown += written()
                assert f"counting: {what}" in shown
        assert written().endswith("\x1b[2K")  # it is taken away
        assert not kgraph.terminal.taken


def test_what_libraries_say_while_they_are_loaded(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)

    def noisy() -> None:
        with parts.hushed():
            os.write(2, b"loading 1 of 999 things\n")
            if warned:
                warnings.warn("no BLAS", stacklevel=2)
            if broken:
                raise OSError

    broken = warned = False
    noisy()
    assert capfd.readouterr().err == ""
    warned = True
    with pytest.warns(UserWarning, match="no BLAS"):
        noisy()
    warned = False
    broken = True
    with pytest.raises(OSError):
        noisy()
    assert capfd.readouterr().err == "loading 1 of 999 things\n"
    broken = False
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    noisy()
    assert capfd.readouterr().err == "loading 1 of 999 things\n"

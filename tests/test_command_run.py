"""``kgraph check``, ``profile`` and ``memory``: what the command adds to `kgraph.compare`, `fn.profile` and `fn.memory`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph.command import run
from kgraph.lower.engine import Engine, register, unregister
from kgraph.lower.numpy import RULES
from tests.commands import Run, running

PROGRAM = """\
import numpy as np
from kgraph import backend as K

x = K.placeholder((None, 64), name="x")
small = K.variable(np.ones((64, 64)), name="small")
large = K.variable(np.ones((64, 4096)), name="large")
hidden = K.tanh(K.dot(x, small))
wide = K.dot(hidden, large)
loss = K.mean(wide)
dropped = K.mean(K.in_train_phase(K.dropout(x, 0.5), x))
"""

@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command in a folder with a program, model.py: (status, output, errors)."""
    with running(PROGRAM, tmp_path, monkeypatch, capsys) as found:
        yield found


@pytest.fixture
def off() -> Iterator[str]:
    """An engine whose tanh is a little off."""
    register(Engine("off", {**RULES, o.tanh: lambda x: np.tanh(x) * 1.01}))
    yield "off"
    unregister("off")


def test_which_engine_is_off_and_where(command: Run, off: str) -> None:
    status, text, _ = command("check", "model.py:loss", "--engines", f"numpy,{off}", "--size", "n=4")
    assert status == 1
    assert text.startswith("fed random floats from 0 to 1 (seed 0): x float32[4, 64]\n")
    assert "tanh" in text
    assert "model.py:7" in text
    status, text, _ = command("check", "model.py:loss", "--engines", f"numpy,{off}", "--json", "--no-shrink")
    found = json.loads(text)
    assert status == 1
    assert found["comparison"]["agree"] is False
    assert found["fed"]["values"] == [{"name": "x", "type": "float32[32, 64]"}]
    assert command("check", "model.py:loss", "--engines", "numpy")[0] == 0


def test_engines_that_cannot_run_are_left_out_unless_they_are_named(
    command: Run, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        if name != "numpy":
            raise OSError(f"{name} is broken")

    monkeypatch.setattr(run.parts, "load_engine", load)
    status, text, _ = command("check", "model.py:loss")
    assert status == 0
    assert text.endswith("left out: theano, tensorflow, off, which cannot run here; kgraph engines says why\n")
    assert json.loads(command("check", "model.py:loss", "--json")[1])["left_out"] == ["theano", "tensorflow", "off"]
    assert command("check", "model.py:loss", "--engines", "numpy,off")[0] == 3
    status, _, errors = command("check", "model.py:loss", "--engines", "nunpy")
    assert (status, errors.splitlines()[0]) == (2, "kgraph: there is no engine 'nunpy'")


def test_an_engine_of_the_programs_own(command: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from kgraph.lower.engine import Engine, register\nfrom kgraph.lower.numpy import RULES\nfrom model import loss\n"
        "register(Engine('mine', RULES))\n"
    )
    try:
        status, text, _ = command("check", "mine.py:loss", "--engines", "mine")
        assert status == 0
        assert "\nmine " in text
    finally:
        unregister("mine")


def test_which_line_costs_most_time(command: Run) -> None:
    status, text, _ = command("profile", "model.py:loss", "--engine", "numpy", "--runs", "3", "--size", "n=512")
    assert status == 0
    assert text.startswith("fed random floats from 0 to 1 (seed 0): x float32[512, 64]\n")
    table = text[text.index("\nline ") + 1 :].splitlines()
    assert table[1].split()[0] == "model.py:8"
    assert isinstance(json.loads(command("profile", "model.py:loss", "--runs", "1", "--json")[1])["profile"], dict)


def test_which_variable_holds_most_memory(command: Run) -> None:
    status, text, _ = command("memory", "model.py:loss", "--engine", "numpy", "--size", "n=2")
    assert status == 0
    table = text[text.index("\nvariable ") + 1 :].splitlines()
    assert table[1].split()[:2] == ["large", f"{64 * 4096 * 4:,}"]
    assert isinstance(json.loads(command("memory", "model.py:loss", "--json")[1])["memory"], dict)


def test_the_phase_and_the_engine_are_passed_on(command: Run, tmp_path: Path) -> None:
    for more, drawn in (((), False), (("--training",), True)):
        status, text, _ = command("profile", "model.py:dropped", "--runs", "1", *more)
        assert status == 0
        assert ("random_uniform" in text) is drawn
    _, _, errors = command("profile", "model.py:loss", "--engine", "nunpy")
    assert errors == "kgraph: there is no engine 'nunpy'\n  hint: the engines are numpy, theano, tensorflow\n"

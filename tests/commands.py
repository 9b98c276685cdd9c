"""Running the command ``kgraph`` in tests: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kgraph.command import main
from tests.process import ROOT

#: Arguments -> (status, output, errors).
Run = Callable[..., tuple[int, str, str]]


@contextmanager
def running(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Gives what runs the command in this process, in a folder that has a program, model.py."""
    (folder / "model.py").write_text(program)
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        return status, *capsys.readouterr()

    yield run
    for name, module in list(sys.modules.items()):  # what one test imports, another one does not know
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def started(*arguments: str, folder: Path, **more: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, in a folder where the settings file is too."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "KERAS_HOME": str(folder)}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen([sys.executable, "-m", "kgraph", *arguments], text=True, cwd=folder, env=environment, **streams)


def data_of(found: tuple[int, str, str]) -> Any:
    """The JSON of an output, which is all of it, and has no number that JSON does not know."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(found[1], parse_constant=refuse)

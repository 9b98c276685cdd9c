"""The example that README.md begins with, as its user runs it, on every engine."""

from __future__ import annotations

import functools
import re

import pytest

from kgraph.lower.engine import engine_names
from tests.engines import engines_installed
from tests.process import run_python

# As `python examples/digits_mlp.py` does it.
DIGITS = "import runpy, sys; sys.path.insert(0, 'examples'); runpy.run_path('examples/digits_mlp.py', run_name='__main__')"


@functools.cache
def accuracies(engine: str) -> list[float]:
    """In percent: on the images that the network was trained on, and on those held out."""
    printed = run_python(DIGITS, "--engine", engine)
    assert printed.endswith(f" s on {engine}\n")
    return [float(found) for found in re.findall(r"^(?:train|held-out) +([\d.]+) %", printed, re.MULTILINE)]


@pytest.mark.parametrize("engine", engines_installed())
def test_digits_are_learnt_as_well_on_every_engine(engine: str) -> None:
    trained, held_out = accuracies(engine)
    assert trained > 99.5
    assert held_out >= 97
    assert abs(held_out - accuracies("numpy")[1]) <= 1


def refusal(program: str, engine: str) -> str:
    """What is written to stderr, and nothing to stdout."""
    with pytest.raises(AssertionError) as caught:
        run_python(program, "--engine", engine, KGRAPH_BACKEND="")
    status, stderr = str(caught.value).split("\n\n", 1)
    assert status == "exit status 1"
    return stderr


@pytest.mark.parametrize("engine", ["thaeno", "kgraph", ""])
def test_an_engine_that_there_is_not_is_one_line(engine: str) -> None:
    assert refusal(DIGITS, engine) == f"there is no engine {engine!r}: the engines are {', '.join(engine_names())}\n"


def test_an_engine_that_is_not_installed_is_one_line_with_what_to_install() -> None:
    hidden = "import sys; sys.modules['tensorflow'] = None; "
    assert refusal(hidden + DIGITS, "tensorflow") == "TensorFlow is not installed: python -m pip install 'kgraph[tensorflow]'\n"

"""The examples, as their users run them: how well they learn, and that they learn alike on every engine."""

from __future__ import annotations

import functools
import importlib
import re

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.lower.engine import engine_names
from tests.engines import engines_tested
from tests.process import ROOT, run_python

#: Example -> the shape of an image, and the least accuracy on images held out, in percent.
EXAMPLES: dict[str, tuple[tuple[int, ...], float]] = {
    "digits_mlp": ((64,), 97), "digits_lstm": ((8, 8), 95), "digits_conv": ((1, 8, 8), 98),
}  # fmt: skip


def program(example: str) -> str:
    """What `python examples/<example>.py` does."""
    return f"import runpy, sys; sys.path.insert(0, 'examples'); runpy.run_path('examples/{example}.py', run_name='__main__')"


@functools.cache
def accuracies(example: str, engine: str) -> list[float]:
    """In percent: on the images that the network was trained on, and on those held out."""
    printed = run_python(program(example), "--engine", engine, OMP_NUM_THREADS="1")
    assert printed.endswith(f" s on {engine}\n")
    return [float(found) for found in re.findall(r"^(?:train|held-out) +([\d.]+) %", printed, re.MULTILINE)]


@pytest.mark.parametrize("engine", engines_tested())
def test_digits_are_learnt_as_well_on_every_engine(engine: str) -> None:
    trained, held_out = accuracies("digits_mlp", engine)
    assert trained > 99.5
    assert held_out >= 97
    assert abs(held_out - accuracies("digits_mlp", "numpy")[1]) <= 1


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_learns_the_digits(example: str) -> None:
    trained, held_out = accuracies(example, "numpy")
    assert trained > 99
    assert held_out >= EXAMPLES[example][1]


@functools.cache
def losses(example: str, engine: str) -> list[float]:
    """Those of the first 20 steps, without dropout."""
    K.set_seed(0)  # the same first weights each time
    train, _ = importlib.import_module(example).build(16, 0.0, engine)
    images, labels = importlib.import_module("training").load_digits(EXAMPLES[example][0])
    return [float(train([images[i : i + 32], labels[i : i + 32]], training=True)) for i in range(0, 20 * 32, 32)]


@pytest.mark.parametrize("engine", engines_tested())
@pytest.mark.parametrize("example", EXAMPLES)
def test_losses_of_each_example_fall_alike_on_every_engine(
    example: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    found = losses(example, engine)
    assert found[-1] < found[0]
    np.testing.assert_allclose(found, losses(example, "numpy"), rtol=0, atol=1e-3)


def refusal(program: str, engine: str) -> str:
    """What is written to stderr, and nothing to stdout."""
    with pytest.raises(AssertionError) as caught:
        run_python(program, "--engine", engine, KGRAPH_BACKEND="")
    status, stderr = str(caught.value).split("\n\n", 1)
    assert status == "exit status 1"
    return stderr


@pytest.mark.parametrize("engine", ["thaeno", "kgraph", ""])
def test_an_engine_that_there_is_not_is_one_line(engine: str) -> None:
    assert refusal(program("digits_mlp"), engine) == f"there is no engine {engine!r}: the engines are {', '.join(engine_names())}\n"


def test_an_engine_that_is_not_installed_is_one_line_with_what_to_install() -> None:
    hidden = "import sys; sys.modules['tensorflow'] = None; "
    assert refusal(hidden + program("digits_mlp"), "tensorflow") == "TensorFlow is not installed: python -m pip install 'kgraph[tensorflow]'\n"

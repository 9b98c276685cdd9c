"""Whose memory the results of a TensorFlow program are in: the caller's alone, though a session copies nothing by itself.

Collected where TensorFlow is installed, see conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf  # conftest.py has loaded it, quietly

from kgraph import backend as K

v1 = tf.compat.v1

pytestmark = pytest.mark.usefixtures("on_tensorflow")

LARGE = 70_000  # elements: more than NumPy copies
CONSTANT = np.arange(float(LARGE), dtype="float32")

OUTPUTS: dict[str, Callable[[Any, Any], Any]] = {
    "what is fed": lambda x, v: x,
    "a variable": lambda x, v: v,
    "a constant": lambda x, v: CONSTANT * K.cast(1, "float32"),
    "a sum with zeros": lambda x, v: x + np.zeros(LARGE, "float32"),
    "a product with ones": lambda x, v: x * np.ones(LARGE, "float32"),
    "a product with zeros": lambda x, v: K.cast(x, "int32") * 0,
    "a sum with a product with zeros": lambda x, v: K.cast(x, "int32") + K.cast(x, "int32") * 0,
    "a difference from itself": lambda x, v: K.cast(x, "int32") - K.cast(x, "int32"),
    "another shape": lambda x, v: K.reshape(x, (2, LARGE // 2)),
    "a shape and back": lambda x, v: K.transpose(K.reshape(v, (1, LARGE))),
    "a slice": lambda x, v: x[: LARGE - 8],
    "a computed value": lambda x, v: K.exp(-x) + v,
    "a sum of nothing": lambda x, v: K.sum(K.reshape(x[:0], (0, LARGE)), axis=0),
    "a broadcast constant": lambda x, v: K.ones_like(x),
    "a branch of constants": lambda x, v: K.switch(x[0] > 2, lambda: CONSTANT * K.cast(1, "float32"), lambda: CONSTANT + v),
    "a branch": lambda x, v: K.switch(K.sum(v) > 0, x, v),
}


#: How programs are run, and the options for it. In a session of the user's TensorFlow rewrites more.
HOW: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "in a session of the user": lambda: K.set_session(v1.Session(graph=tf.Graph())) or {},
    "xla": lambda: {"xla": True},
}


def aligned(count: int) -> np.ndarray:
    """An array of float32 that TensorFlow takes without a copy."""
    room = np.empty(count + 64, "float32")
    start = (-room.ctypes.data // 4) % 16
    found = room[start : start + count]
    found[:] = np.linspace(0, 1, count)
    return found


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_result_is_the_callers_alone(name: str, known: bool, how: str) -> None:
    options = HOW[how]()
    v, x = K.variable(np.full(LARGE, 2.0)), K.placeholder((LARGE if known else None,))
    out = OUTPUTS[name](x, v)
    f = K.function([x], [out, out, K.identity(out)], options=options)
    fed = aligned(LARGE)
    first = f([fed])
    wanted = [result.copy() for result in first]
    for i, result in enumerate(first):
        assert not any(np.shares_memory(result, other) for other in (fed, *first[:i]))
        result[...] = -7
    assert fed[-1] == 1
    np.testing.assert_array_equal(K.get_value(v), 2)
    for result, value in zip(f([fed]), wanted, strict=True):
        np.testing.assert_array_equal(result, value)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(
    "new",
    [
        lambda x, v: x,
        lambda x, v: x + np.zeros(LARGE, "float32"),
        lambda x, v: x * np.ones(LARGE, "float32"),
        lambda x, v: K.reshape(K.reshape(x, (LARGE, 1)), (LARGE,)),
        lambda x, v: K.cast(K.cast(x, "int32") * 0, "float32") + x,
        lambda x, v: K.switch(K.sum(v) > 0, x, v),
        lambda x, v: K.maximum(x, -np.full(LARGE, np.inf, "float32")),
    ],
    ids=["itself", "plus zeros", "times ones", "reshaped", "plus a product with zeros", "branch", "maximum"],
)
def test_a_variable_takes_no_memory_that_was_fed(new: Callable[[Any, Any], Any], known: bool, how: str) -> None:
    options = HOW[how]()
    v, w, x = K.variable(np.full(LARGE, 2.0)), K.variable(np.zeros(LARGE)), K.placeholder((LARGE if known else None,))
    value = new(x, v)
    f = K.function([x], value, [(v, value), (w, value)], options=options)
    fed = aligned(LARGE)
    wanted = fed.copy()
    out = f([fed])
    fed[:] = out[:] = -1
    for variable in (v, w):
        np.testing.assert_array_equal(K.get_value(variable), wanted)

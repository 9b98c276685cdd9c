"""Gradients by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Of the differences of float64 values of unit size: the step squared, and the rounding over the step.
RTOL, ATOL = 1e-6, 1e-7


def central_difference(f: Callable[..., Any], inputs: Sequence[Array], position: int, step: float = 1e-5) -> Array:
    """The gradient of a scalar function with respect to one of its inputs, a float64 array."""
    moved = [np.array(x) for x in inputs]
    x = moved[position]
    found = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        held = x[at]
        x[at] = held + step
        above = f(*moved)
        x[at] = held - step
        found[at] = (above - f(*moved)) / (2 * step)
        x[at] = held
    return found


def assert_gradient(found: Any, wanted: Array) -> None:
    """Asserts that a gradient is what differences say; None where they are all zero."""
    if found is None:
        assert not wanted.any()
        return
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=RTOL, atol=ATOL)


def weights(shape: Sequence[int], seed: int = 3) -> Array:
    """What the elements of a result are weighted with, so that a gradient that mixes them up is seen."""
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 1.5, tuple(shape)))


def arange(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    """1, 2, 3, ... in a shape."""
    return np.arange(1, 1 + np.prod(shape, dtype=int), dtype=dtype).reshape(shape)

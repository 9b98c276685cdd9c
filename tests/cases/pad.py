"""Rows of zeros around a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import Array, Case, bools, floats, ints

Padding = tuple[tuple[int, int], ...]


def padded(x: Array, padding: Padding) -> Array:
    """Element by element."""
    out = np.zeros([before + size + behind for size, (before, behind) in zip(x.shape, padding, strict=True)], x.dtype)
    for at in np.ndindex(x.shape):
        out[tuple(i + before for i, (before, _) in zip(at, padding, strict=True))] = x[at]
    return out


def _row(x: Array, padding: Padding) -> Case:
    # What is padded has the size 1 when it was empty: that size is not known to be 1 where the other was not known.
    return Case(o.pad, [x], {"padding": padding}, lambda x: padded(x, padding), stretches=False)


ROWS: list[Any] = [
    *[
        _row(floats(*shape), padding)
        for shape, padding in [
            ((3,), ((1, 2),)), ((3,), ((0, 0),)), ((2, 3), ((1, 0), (0, 2))), ((2, 3), ((0, 0), (2, 1))), ((2, 3), ((3, 1), (1, 1))), ((), ()),
            ((0,), ((1, 0),)), ((0,), ((0, 1),)), ((0, 2), ((1, 1), (0, 0))), ((2, 0), ((0, 0), (1, 0))), ((1, 1), ((1, 0), (0, 0))), ((1,), ((0, 0),)),
            ((2, 1, 3), ((0, 0), (1, 1), (2, 0))), ((2, 2, 3, 2), ((0, 0), (0, 0), (1, 2), (0, 1))), ((1, 2, 2, 1, 2), ((0, 0), (0, 0), (1, 0), (2, 1), (0, 1))),
        ]
    ],
    *[_row(x, ((1, 0), (0, 2))) for x in (ints(2, 3, dtype="uint8"), ints(2, 3, dtype="int64"), bools(2, 3), floats(2, 3, dtype="float16"), floats(2, 3, dtype="float64"))],
]  # fmt: skip

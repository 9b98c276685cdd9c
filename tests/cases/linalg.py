"""Rows of linear algebra."""

from __future__ import annotations

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import INF, NAN, Array, Case, array, floats, ints


def product(x: Array, y: Array) -> Array:
    """The sum of products, spelled out."""
    out = np.zeros((*x.shape[:-1], y.shape[-1]), x.dtype)
    for at in np.ndindex(x.shape[:-2]):
        for i in range(x.shape[-2]):
            for j in range(y.shape[-1]):
                out[(*at, i, j)] = sum(x[(*at, i, k)] * y[(*at, k, j)] for k in range(x.shape[-1]))
    return out


ROWS = [
    *[
        Case(o.matmul, [floats(*x), floats(*y, seed=1)], {}, product, rtol=2e-6)
        for x, y in [
            ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((2, 1), (1, 2)), ((2, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (2, 1, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
            ((2, 3), (3, 0)), ((0, 2, 3), (0, 3, 2)),
        ]
    ],
    Case(o.matmul, [floats(3, 4, dtype="float64"), floats(4, 2, dtype="float64")], {}, product),
    Case(o.matmul, [floats(3, 4, dtype="float16"), floats(4, 2, dtype="float16")], {}, product, rtol=4e-3),
    *[Case(o.matmul, [ints(2, 3, low=0, dtype=d), ints(3, 2, low=0, seed=1, dtype=d)], {}, product) for d in ("uint8", "int8", "int32", "int64")],
    Case(o.matmul, [array([[NAN, 1], [INF, 0]]), array([[1, 0], [0, 1]])], {}, lambda x, y: [[NAN, NAN], [INF, NAN]], grad=False, note="special"),
]  # fmt: skip

"""Rows of the functions of linear algebra."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import INF, NAN, Array, array, bools, floats, ints
from tests.kcases.base import FLOATX, KCase


def dot(x: Array, y: Array) -> Array:
    """The sum over the last axis of x and the second-to-last (or only) of y, number by number."""
    inner = max(y.ndim - 2, 0)
    turned = np.moveaxis(y, inner, -1)
    out = np.zeros((*x.shape[:-1], *turned.shape[:-1]), np.result_type(x, y))
    for i, j in itertools.product(np.ndindex(x.shape[:-1]), np.ndindex(turned.shape[:-1])):
        out[i + j] = sum(a * b for a, b in zip(x[i], turned[j], strict=True))
    return out


def batch_dot(ax: int, ay: int) -> Any:
    """Sample by sample; the remaining axes of x, then those of y; rank 2 at least."""

    def over(x: Array, y: Array) -> Array:
        samples = [np.tensordot(a, b, (ax - 1, ay - 1)) for a, b in zip(x, y, strict=True)]
        rest = [n for i, n in enumerate(x.shape) if i not in (0, ax)] + [n for i, n in enumerate(y.shape) if i not in (0, ay)]
        out = np.array(samples).reshape(len(x), *rest)
        return out if out.ndim > 1 else out[:, None]

    return over


def _rowwise(ax: int, ay: int) -> Any:
    """Two matrices, by the code of Keras 1.2.2 on TensorFlow."""

    def over(x: Array, y: Array) -> Array:
        product = (x * y).sum(ax) if ax == ay else (x.T * y).sum(ay)
        return product[:, None]

    return over


def _dots() -> list[KCase]:
    rows = [
        KCase(K.dot, [floats(*a), floats(*b, seed=1)], {}, dot, rtol=4e-6, stretches=False)
        for a, b in [
            ((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (4, 3, 5)), ((2, 2, 3), (3, 4)), ((2, 2, 3), (3,)), ((3,), (2, 3, 2)),
            ((2, 3, 4), (2, 4, 3)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0,), (0,)), ((2, 0), (4, 0, 5)), ((1, 1), (1, 1)), ((2, 1), (1, 3)),
        ]
    ]  # fmt: skip
    rows += [
        KCase(K.dot, [ints(2, 3, low=0, dtype=d), ints(3, 2, low=0, seed=1, dtype=d)], {}, dot)
        for d in ("uint8", "int8", "int32", "int64")
    ]
    rows += [
        KCase(K.dot, [floats(2, 3, dtype=d), floats(3, 2, dtype=d)], {}, dot, rtol=4e-3 if d == "float16" else None)
        for d in ("float16", "float64")
    ]
    rows += [
        KCase(K.dot, [ints(2, 3), floats(3, 2)], {}, dot, dtype="float32", note="of two kinds", rtol=4e-6),
        KCase(K.dot, [bools(2, 3), floats(3, 2)], {}, dot, dtype="float32", note="of two kinds", rtol=4e-6),
        KCase(K.dot, [array([[1, NAN]]), array([[1, 0], [0, INF]])], {}, lambda x, y: [[NAN, NAN]], note="special", grad=False),
        KCase(
            K.dot,
            [floats(2, 3)],
            {},
            lambda x: x @ np.array([1.0, 2, 3]),
            call=lambda x: K.dot(x, [1, 2, 3]),
            note="of a list",
            arrays=False,
            rtol=4e-6,
        ),
    ]
    return rows


def _batch_dots() -> list[KCase]:
    rows = []
    for a, b, axes, pair in [
        ((2, 3, 4), (2, 4, 5), None, (2, 1)), ((2, 3, 4), (2, 4, 5), (2, 1), (2, 1)), ((2, 3, 4), (2, 4, 5), [2, 1], (2, 1)), ((2, 3, 4), (2, 5, 4), 2, (2, 2)),
        ((2, 3, 4), (2, 3, 5), 1, (1, 1)), ((2, 3, 4), (2, 3, 5), (1, -2), (1, 1)), ((2, 3, 4), (2, 5, 4), -1, (2, 2)), ((2, 3, 4), (2, 4), (2, 1), (2, 1)),
        ((2, 4), (2, 4, 5), (1, 1), (1, 1)), ((2, 4), (2, 3, 4), (1, 2), (1, 2)), ((2, 3, 4, 5), (2, 5, 4), (3, 1), (3, 1)), ((2, 3, 4), (2, 5, 4, 3), (2, 2), (2, 2)),
        ((2, 3, 4, 5), (2, 3, 5, 2), None, (3, 2)), ((0, 3, 4), (0, 4, 5), None, (2, 1)), ((2, 0, 4), (2, 4, 5), None, (2, 1)), ((2, 3, 0), (2, 0, 5), None, (2, 1)),
        ((2, 1, 4), (2, 4, 1), None, (2, 1)), ((1, 3, 4), (1, 4, 5), None, (2, 1)), ((2, 3, 4), (2, 3), 1, (1, 1)),
    ]:  # fmt: skip
        rows.append(
            KCase(K.batch_dot, [floats(*a), floats(*b, seed=1)], {"axes": axes}, batch_dot(*pair), rtol=4e-6, stretches=False)
        )
    for a, b, axes, pair in [
        ((2, 3), (2, 3), 1, (1, 1)), ((2, 3), (2, 3), (1, 1), (1, 1)), ((2, 3), (2, 3), -1, (1, 1)), ((2, 3), (2, 3), 0, (0, 0)), ((2, 3), (2, 3), (0, 0), (0, 0)),
        ((3, 2), (2, 3), (0, 1), (0, 1)), ((3, 2), (2, 3), (1, 0), (1, 0)), ((3, 3), (3, 3), None, (1, 0)), ((4, 1), (4, 1), 1, (1, 1)), ((0, 3), (0, 3), 1, (1, 1)),
        ((2, 0), (2, 0), 1, (1, 1)),
    ]:  # fmt: skip
        rows.append(
            KCase(K.batch_dot, [floats(*a), floats(*b, seed=1)], {"axes": axes}, _rowwise(*pair), rtol=4e-6, stretches=False)
        )
    rows += [
        KCase(
            K.batch_dot,
            [array([[1, 2], [3, 4]]), array([[5, 6], [7, 8]])],
            {"axes": 1},
            lambda x, y: [[17], [53]],
            note="the page's example",
            grad=False,
        ),
        KCase(K.batch_dot, [ints(2, 3, 2), ints(2, 2, 3, seed=1)], {}, batch_dot(2, 1)),
        KCase(K.batch_dot, [ints(2, 3), floats(2, 3)], {"axes": 1}, _rowwise(1, 1), dtype="float32", note="of two kinds"),
        KCase(
            K.batch_dot, [floats(2, 3, 2, dtype="float16"), floats(2, 2, 3, dtype="float16")], {}, batch_dot(2, 1), rtol=4e-3
        ),
        KCase(K.batch_dot, [array([[1, NAN]]), array([[1, 1]])], {"axes": 1}, lambda x, y: [[NAN]], note="special", grad=False),
    ]
    return rows


def normalized(axis: tuple[int, ...]) -> Any:
    def over(x: Array) -> Array:
        total = np.zeros([1 if a in axis else n for a, n in enumerate(x.shape)])
        for at in np.ndindex(x.shape):
            total[tuple(0 if a in axis else i for a, i in enumerate(at))] += x[at] ** 2
        return x / np.sqrt(np.maximum(total, 1e-12))

    return over


def _normalize() -> list[KCase]:
    rows = [
        KCase(K.l2_normalize, [floats(2, 3, 4)], {"axis": axis}, normalized(axes), rtol=2e-6)
        for axis, axes in [(0, (0,)), (1, (1,)), (-1, (2,)), (-2, (1,)), ([0, 2], (0, 2)), (None, (0, 1, 2)), ((1,), (1,))]
    ]
    rows += [KCase(K.l2_normalize, [floats(3, 4, dtype=d)], {"axis": 1}, normalized((1,))) for d in ("float16", "float64")]
    rows += [
        KCase(K.l2_normalize, [ints(3, 4, low=1)], {"axis": 1}, normalized((1,)), dtype=FLOATX),
        KCase(K.l2_normalize, [floats(0, 3)], {"axis": 1}, normalized((1,))),
        KCase(K.l2_normalize, [floats(2, 0)], {"axis": 1}, normalized((1,))),
        KCase(
            K.l2_normalize,
            [array([[0, 0], [3, 4]])],
            {"axis": 1},
            lambda x: [[0, 0], [0.6, 0.8]],
            note="zero vector",
            grad=lambda w, x: [_slopes(w, x)],
            second=False,
        ),
        KCase(K.l2_normalize, [array([[3e-8, 4e-8]])], {"axis": 1}, lambda x: [[3e-2, 4e-2]], note="tiny vector", grad=False),
        KCase(
            K.l2_normalize,
            [array([[1, NAN], [INF, 1]])],
            {"axis": 1},
            lambda x: [[NAN, NAN], [NAN, 0]],
            note="special",
            grad=False,
        ),
    ]
    return rows


def _slopes(w: Array, x: Array) -> Array:
    """Of each row: (w - u (u . w)) / |x| with u = x / |x|; of a zero row, w / 1e-6."""
    out = np.zeros(x.shape)
    for i, row in enumerate(x):
        length = math.sqrt((row**2).sum())
        out[i] = w[i] / 1e-6 if length == 0 else (w[i] - row / length * (row / length * w[i]).sum()) / length
    return out


ROWS = [*_dots(), *_batch_dots(), *_normalize()]

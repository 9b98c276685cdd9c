"""Rows of reductions and running totals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import INF, NAN, Array, Case, array, bools, floats, ints

Axes = tuple[int, ...]


def over(f: Callable[[list[Any]], Any], axis: Axes, keepdims: bool) -> Callable[[Array], Array]:
    """A function of a list of numbers, over axes of an array, in Python loops."""

    def reduce(x: Array) -> Array:
        kept = [n for a, n in enumerate(x.shape) if a not in axis]
        rows = np.moveaxis(x, axis, range(x.ndim - len(axis), x.ndim)).reshape(
            (*kept, -1) if x.size else (*kept, _count(x, axis))
        )
        found = np.array([f(row.tolist()) for row in rows.reshape((math.prod(kept), rows.shape[-1]))])
        return found.reshape([1 if a in axis else n for a, n in enumerate(x.shape)] if keepdims else kept)

    return reduce


def _count(x: Array, axis: Axes) -> int:
    return math.prod(x.shape[a] for a in axis)


def running(f: Callable[[Any, Any], Any], axis: int) -> Callable[[Array], Array]:
    def accumulate(x: Array) -> Array:
        rows = np.moveaxis(x, axis, -1)
        found = np.array(
            [list(itertools.accumulate(row.tolist(), f)) for row in rows.reshape((-1, rows.shape[-1]))] if x.size else []
        )
        return np.moveaxis(found.reshape(rows.shape), -1, axis)

    return accumulate


def log_sum_exp(row: Iterable[float]) -> float:
    row = list(row)
    top = max(row, default=-INF)
    return top + math.log(math.fsum(math.exp(v - top) for v in row)) if math.isfinite(top) else top


def recurrence(axis: int) -> Callable[[Array, Array], Array]:
    def over_axis(a: Array, b: Array) -> Array:
        a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
        rows: list[Array] = []
        for i in range(len(b)):
            rows.append(b[i] if not i else a[i] * rows[-1] + b[i])
        return np.moveaxis(np.array(rows).reshape(b.shape), 0, axis)

    return over_axis


def first(best: Callable[[list[Any]], Any]) -> Callable[[list[Any]], int]:
    return lambda row: row.index(best(row))


_AXES: list[tuple[tuple[int, ...], Axes]] = [
    ((2, 3, 4), (0,)), ((2, 3, 4), (1,)), ((2, 3, 4), (2,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (0, 1, 2)), ((2, 3), ()), ((), ()), ((1, 3), (0,)),
    ((4, 1), (1,)),
]  # fmt: skip
_EMPTY: list[tuple[tuple[int, ...], Axes]] = [((2, 0), (1,)), ((0, 3), (0,)), ((0, 3), (0, 1)), ((0, 3), ()), ((0,), (0,))]


def _attrs(axis: Axes, keepdims: bool) -> dict[str, Any]:
    return {"axis": axis, "keepdims": keepdims}


def ties(axis: Axes) -> Callable[..., list[Array]]:
    """Equal extremes share the gradient. The row keeps the axes."""

    def shares(best: Array, w: Array, x: Array) -> list[Array]:
        equal = x == best
        return [w * equal / equal.sum(axis, keepdims=True)]

    return lambda w, x: shares(x.max(axis, keepdims=True), w, x)


def _totals() -> list[Case]:
    rows = []
    for op, f in ((o.sum, math.fsum), (o.prod, math.prod), (o.max, max), (o.min, min), (o.logsumexp, log_sum_exp)):
        smooth = op not in (o.max, o.min)
        for (shape, axis), keepdims in itertools.product(_AXES, (False, True)):
            rows.append(Case(op, [floats(*shape, low=0.5)], _attrs(axis, keepdims), over(f, axis, keepdims), second=smooth))
        rows.append(Case(op, [floats(3, 4, dtype="float64")], _attrs((1,), False), over(f, (1,), False)))
        rows.append(Case(op, [floats(3, 4, low=0.5, dtype="float16")], _attrs((1,), False), over(f, (1,), False)))
        if smooth:
            rows += [Case(op, [floats(*s)], _attrs(a, k), over(f, a, k)) for s, a in _EMPTY for k in (False, True)]
        else:
            rows += [
                Case(op, [floats(*s)], _attrs(a, False), over(f, a, False))
                for s, a in [((0, 3), (1,)), ((0, 3), ()), ((2, 0), (0,))]
            ]
        if op is not o.logsumexp:
            for dtype in ("uint8", "int8", "int16", "int32", "int64"):
                x = ints(3, 4, low=1, high=4, dtype=dtype) if dtype == "uint8" else ints(3, 4, low=-2, high=3, dtype=dtype)
                rows.append(Case(op, [x], _attrs((1,), False), over(f if op is not o.sum else sum, (1,), False)))
    for op, f in ((o.sum, sum), (o.prod, math.prod)):
        for axis in ((0,), (0, 1), ()):
            rows.append(Case(op, [bools(3, 4)], _attrs(axis, False), over(f, axis, False), dtype="int64"))
        rows.append(Case(op, [bools(0, 3)], _attrs((0,), True), over(f, (0,), True), dtype="int64"))
    for op, f in ((o.any, any), (o.all, all)):
        for (shape, axis), keepdims in itertools.product([*_AXES, *_EMPTY], (False, True)):
            rows.append(Case(op, [bools(*shape)], _attrs(axis, keepdims), over(f, axis, keepdims)))
    for op, best in ((o.argmax, max), (o.argmin, min)):
        for shape, axis in [((2, 3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), 2), ((5,), 0), ((1, 3), 0), ((0, 3), 1)]:
            rows.append(Case(op, [floats(*shape)], {"axis": axis}, over(first(best), (axis,), False), dtype="int64"))
        for dtype in ("bool", "uint8", "int8", "int64", "float16", "float64"):
            x = ints(4, 5, low=0, high=3).astype(dtype)
            rows.append(Case(op, [x], {"axis": 1}, over(first(best), (1,), False), dtype="int64", note="first of a tie"))
    return rows


def _running() -> list[Case]:
    rows = []
    for op, f in ((o.cumsum, lambda a, b: a + b), (o.cumprod, lambda a, b: a * b)):
        for shape, axis in [
            ((5,), 0),
            ((2, 3, 4), 0),
            ((2, 3, 4), 1),
            ((2, 3, 4), 2),
            ((1, 3), 0),
            ((0, 3), 0),
            ((0, 3), 1),
            ((2, 0), 1),
        ]:
            rows.append(Case(op, [floats(*shape)], {"axis": axis}, running(f, axis)))
        rows += [
            Case(op, [ints(2, 4, low=0, high=3, dtype=d)], {"axis": 1}, running(f, 1))
            for d in ("uint8", "int8", "int32", "int64")
        ]
        rows.append(Case(op, [floats(2, 4, dtype="float16")], {"axis": 1}, running(f, 1), rtol=4e-3))
        rows.append(Case(op, [floats(2, 4, dtype="float64")], {"axis": 1}, running(f, 1)))
        rows.append(Case(op, [bools(2, 4)], {"axis": 1}, running(f, 1), dtype="int64"))
    return rows


ROWS = [
    *_totals(),
    *_running(),
    *[
        Case(op, [array(x, "float64")], {"axis": axis}, f(axis), note="zeros")
        for op, f in ((o.cumprod, lambda axis: running(lambda a, b: a * b, axis)),)
        for x, axis in [([2, 0, 3, 0, 4], 0), ([0, 0, 0], 0), ([[1, 0], [0, 5], [2, 3]], 0), ([[1, 0], [0, 5], [2, 3]], 1)]
    ],
    *[
        Case(o.prod, [array(x, "float64")], _attrs(axis, keepdims), over(math.prod, axis, keepdims), note="zeros")
        for x, axis in [([2, 0, 3], (0,)), ([2, 0, 3, 0], (0,)), ([[1, 0, 2], [4, 5, 6]], (1,)), ([[1, 0, 2], [4, 5, 0]], (0, 1))]
        for keepdims in (False, True)
    ],
    *[
        Case(o.max, [array(x)], _attrs(axis, True), over(max, axis, True), grad=ties(axis), note="ties")
        for x, axis in [([1, 3, 3, 2], (0,)), ([[1, 1], [1, 1]], (0, 1)), ([[1, 1], [2, 1]], (1,)), ([[1, 2], [2, 1]], (0, 1))]
    ],
    Case(o.min, [array([3, 1, 1, 2])], _attrs((0,), False), over(min, (0,), False), grad=lambda w, x: [w * np.array([0, 0.5, 0.5, 0])], note="ties"),
    *[
        Case(op, [array([[1, NAN, 3], [INF, -INF, 0]])], _attrs((1,), False), lambda x, wanted=wanted: wanted, grad=False, note="special")
        for op, wanted in ((o.sum, [NAN, NAN]), (o.prod, [NAN, NAN]), (o.max, [NAN, INF]), (o.min, [NAN, -INF]), (o.logsumexp, [NAN, INF]))
    ],
    Case(o.argmax, [array([[1, NAN, NAN], [1, INF, INF], [NAN, NAN, NAN]])], {"axis": 1}, lambda x: [1, 1, 0], dtype="int64", note="special"),
    Case(o.argmin, [array([[1, NAN, NAN], [1, -INF, -INF], [-0.0, 0.0, 1]])], {"axis": 1}, lambda x: [1, 1, 0], dtype="int64", note="special"),
    Case(o.sum, [array([100, 100, 100], "int8")], _attrs((0,), False), lambda x: 44, note="wraps around"),
    Case(o.sum, [np.ones((1, 100_000), "float32") / 3], _attrs((1,), False), lambda x: [100_000 * np.float32(1 / 3)], note="of many", grad=False, rtol=1e-5),
    *[
        Case(o.logsumexp, [array(x)], _attrs((1,), False), over(log_sum_exp, (1,), False), grad=lambda w, x: [w[:, None] * _softmax(x)], note=note, rtol=1e-6)
        for note, x in {
            "thousands": [[1000, 1000, 999], [-1000, -1000, -1001], [1e4, -1e4, 0]],
            "infinite": [[-INF, 0, 1], [-INF, -INF, 2], [-INF, 5, -INF]],
        }.items()
    ],
    Case(o.logsumexp, [array([[-INF, -INF]])], _attrs((1,), True), lambda x: [[-INF]], grad=lambda w, x: [0 * np.ones((1, 2))], note="of nothing but -inf"),
    Case(o.logsumexp, [array([[INF, INF], [INF, -INF]])], _attrs((1,), False), lambda x: [INF, INF], grad=False, note="plus infinity"),
    Case(o.logsumexp, [np.zeros((1, 70_000), "float16")], _attrs((1,), False), lambda x: [math.log(70_000)], grad=False, note="of many"),
    *[
        Case(o.linear_recurrence, [floats(*shape), floats(*shape, seed=1)], {"axis": axis}, recurrence(axis))
        for shape, axis in [((5,), 0), ((2, 3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), 2), ((1, 3), 0), ((0, 3), 0), ((3, 0), 0)]
    ],
    Case(o.linear_recurrence, [array([2, 0, 0, 3], "float64"), array([1, 0, 2, 0], "float64")], {"axis": 0}, recurrence(0), note="zeros"),
    Case(o.linear_recurrence, [floats(3, dtype="float16"), floats(3, seed=1, dtype="float16")], {"axis": 0}, recurrence(0), rtol=4e-3),
    Case(o.linear_recurrence, [array([1, NAN, 1, 1]), array([1, 1, INF, 1])], {"axis": 0}, lambda a, b: [1, NAN, NAN, NAN], grad=False, note="special"),
]  # fmt: skip


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)

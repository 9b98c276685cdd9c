"""Rows of the functions that take elements together along axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import INF, NAN, Array, array, bools, floats, ints
from tests.cases.reduce import first, log_sum_exp, over, running, ties
from tests.kcases.base import FLOATX, KCase

_INTEGERS = ("uint8", "int8", "int16", "int32", "int64")


def mean(row: list[float]) -> float:
    return math.fsum(row) / len(row) if row else NAN


def variance(row: list[float]) -> float:
    return mean([(x - mean(row)) ** 2 for x in row])


#: function -> of a list of numbers, dtype of integers ("" is their own), dtype of bools
_REDUCTIONS: dict[Callable[..., Any], tuple[Callable[[list[Any]], Any], str, str]] = {
    K.sum: (sum, "", "int64"), K.prod: (math.prod, "", "int64"), K.max: (max, "", "bool"), K.min: (min, "", "bool"),
    K.mean: (mean, FLOATX, FLOATX), K.var: (variance, FLOATX, FLOATX), K.std: (lambda row: math.sqrt(variance(row)), FLOATX, FLOATX),
    K.logsumexp: (log_sum_exp, FLOATX, FLOATX), K.any: (lambda row: any(x != 0 for x in row), "uint8", "uint8"),
    K.all: (lambda row: all(x != 0 for x in row), "uint8", "uint8"),
}  # fmt: skip
#: axis as a user writes it, for rank 3 -> as a set
_AXES: list[tuple[Any, tuple[int, ...]]] = [
    (None, (0, 1, 2)), (0, (0,)), (1, (1,)), (-1, (2,)), (-3, (0,)), ([0, 2], (0, 2)), ((1,), (1,)), ([2, -3], (0, 2)), ([], ()), ((), ()),
    ([0, 1, 2], (0, 1, 2)), (np.int64(1), (1,)),
]  # fmt: skip


def _reductions() -> list[KCase]:
    rows = []
    for f, (oracle, of_ints, of_bools) in _REDUCTIONS.items():
        flat = f in (K.max, K.min, K.any, K.all)
        truth = "uint8" if f in (K.any, K.all) else None
        for axis, axes in _AXES:
            # over no axes there is no deviation, and its square root has no gradient
            smooth = not (f is K.std and not axes)
            for keepdims in (False, True):
                rows.append(KCase(f, [floats(2, 3, 4, low=0.5)], {"axis": axis, "keepdims": keepdims}, over(oracle, axes, keepdims), dtype=truth,
                                  grad=smooth, second=smooth and not flat, atol=2e-6))  # fmt: skip
        rows.append(
            KCase(f, [floats(2, 3, low=0.5)], {}, over(oracle, (0, 1), False), dtype=truth, note="by default", second=not flat)
        )
        for shape in ((), (5,), (1, 3)):
            axes = tuple(range(len(shape)))
            rows.append(
                KCase(
                    f,
                    [floats(*shape, low=0.5)],
                    {"axis": None},
                    over(oracle, axes, False),
                    dtype=truth,
                    grad=f is not K.std or len(shape) == 1,
                )
            )
        rows += [
            KCase(f, [floats(3, 5, low=0.5, dtype=d)], {"axis": 1}, over(oracle, (1,), False), dtype=truth)
            for d in ("float16", "float64")
        ]
        for dtype in _INTEGERS:
            rows.append(
                KCase(
                    f, [ints(3, 4, low=0, high=3, dtype=dtype)], {"axis": 1}, over(oracle, (1,), False), dtype=of_ints or dtype
                )
            )
        rows.append(KCase(f, [bools(3, 4)], {"axis": 1}, over(oracle, (1,), False), dtype=of_bools))
        rows.append(KCase(f, [bools(3, 4)], {"axis": [], "keepdims": True}, over(oracle, (), True), dtype=of_bools))
        if f not in (K.max, K.min):
            for shape, axis in (((0, 3), 0), ((2, 0), 1), ((0, 3), None), ((0,), -1)):
                axes = tuple(range(len(shape))) if axis is None else (axis % len(shape),)
                rows += [
                    KCase(f, [floats(*shape)], {"axis": axis, "keepdims": k}, over(oracle, axes, k), dtype=truth, grad=False)
                    for k in (False, True)
                ]
        rows += [
            KCase(f, [floats(0, 3)], {"axis": axis}, over(oracle, axes, False), dtype=truth, note="of none")
            for axis, axes in ((1, (1,)), ([], ()))
        ]
    return rows


def _special() -> list[KCase]:
    x = array([[1, NAN, 3], [INF, 1, 0], [INF, -INF, 0]])
    wanted: dict[Callable[..., Any], list[float]] = {
        K.sum: [NAN, INF, NAN], K.prod: [NAN, NAN, NAN], K.max: [NAN, INF, INF], K.min: [NAN, 0, -INF], K.mean: [NAN, INF, NAN], K.var: [NAN] * 3,
        K.std: [NAN] * 3, K.logsumexp: [NAN, INF, INF],
    }  # fmt: skip
    truth = {K.any: [1, 1, 1], K.all: [1, 0, 0]}
    return [
        *[KCase(f, [x], {"axis": 1}, lambda x, w=w: w, note="special", grad=False) for f, w in wanted.items()],
        *[KCase(f, [x], {"axis": 1}, lambda x, w=w: w, dtype="uint8", note="special") for f, w in truth.items()],
    ]


def _places() -> list[KCase]:
    rows = []
    for f, best in ((K.argmax, max), (K.argmin, min)):
        for attrs, axis in [({}, 2), ({"axis": 0}, 0), ({"axis": 1}, 1), ({"axis": -1}, 2), ({"axis": -3}, 0)]:
            rows.append(KCase(f, [floats(2, 3, 4)], attrs, over(first(best), (axis,), False), dtype="int64"))
        rows += [
            KCase(
                f,
                [ints(4, 5, low=0, high=3).astype(d)],
                {},
                over(first(best), (1,), False),
                dtype="int64",
                note="first of a tie",
            )
            for d in ("bool", *_INTEGERS, "float16", "float64")
        ]
        rows.append(KCase(f, [floats(4)], {}, over(first(best), (0,), False), dtype="int64"))
        rows.append(KCase(f, [floats(0, 3)], {}, over(first(best), (1,), False), dtype="int64"))
        rows.append(
            KCase(
                f,
                [array([[NAN, 1, NAN], [INF, -INF, 0]])],
                {},
                lambda x, f=f: [0, 0 if f is K.argmax else 1],
                dtype="int64",
                note="special",
            )
        )
    return rows


def _running() -> list[KCase]:
    rows = []
    for f, step in ((K.cumsum, lambda a, b: a + b), (K.cumprod, lambda a, b: a * b)):
        for attrs, axis in [({}, 0), ({"axis": 1}, 1), ({"axis": -1}, 2), ({"axis": -3}, 0)]:
            rows.append(KCase(f, [floats(2, 3, 4)], attrs, running(step, axis)))
        rows += [KCase(f, [ints(2, 4, low=0, high=3, dtype=d)], {"axis": 1}, running(step, 1)) for d in _INTEGERS]
        rows += [
            KCase(f, [floats(2, 4, dtype=d)], {"axis": 1}, running(step, 1), rtol=4e-3 if d == "float16" else None)
            for d in ("float16", "float64")
        ]
        rows.append(KCase(f, [bools(2, 4)], {"axis": 1}, running(step, 1), dtype="int64"))
        rows += [
            KCase(f, [floats(*s)], {"axis": a}, running(step, a)) for s, a in [((0,), 0), ((0, 3), 0), ((0, 3), 1), ((2, 0), 1)]
        ]
    rows.append(KCase(K.cumsum, [array([1, NAN, 2, INF])], {}, lambda x: [1, NAN, NAN, NAN], note="special", grad=False))
    rows.append(KCase(K.cumprod, [array([2, 0, INF, 1])], {}, lambda x: [2, 0, NAN, NAN], note="special", grad=False))
    rows.append(KCase(K.cumprod, [array([2, 0, 3, 0, 4])], {}, running(lambda a, b: a * b, 0), note="gradient at zeros"))
    return rows


def _equal_shares(axis: tuple[int, ...]) -> Callable[..., list[Array]]:
    return lambda w, x: ties(axis)(w.reshape([1 if a in axis else n for a, n in enumerate(x.shape)]), x)


ROWS = [
    *_reductions(), *_special(), *_places(), *_running(),
    KCase(K.max, [array([[1, 3, 3], [2, 2, 2]])], {"axis": 1}, over(max, (1,), False), grad=_equal_shares((1,)), note="ties"),
    KCase(K.max, [array([[1, 3, 3], [2, 2, 3]])], {}, over(max, (0, 1), False), grad=_equal_shares((0, 1)), note="ties"),
    KCase(K.min, [array([3, 1, 1])], {}, over(min, (0,), False), grad=lambda w, x: [w * np.array([0, 0.5, 0.5])], note="ties"),
    KCase(K.prod, [array([[2, 0, 3], [0, 0, 1], [1, 2, 3]])], {"axis": 1}, over(math.prod, (1,), False), note="gradient at zeros"),
    KCase(K.prod, [array([[2, 0], [3, 4]])], {}, over(math.prod, (0, 1), False), note="gradient at zeros"),
    KCase(K.logsumexp, [array([[1000, 1000], [-1000, -1001], [1e4, -1e4], [-INF, 3]])], {"axis": 1}, over(log_sum_exp, (1,), False), note="thousands",
          grad=False, atol=0),
    KCase(K.logsumexp, [array([[1000, 999.5], [-1000, -1001]])], {"axis": 1}, over(log_sum_exp, (1,), False), note="gradient of thousands"),
    KCase(K.logsumexp, [array([[-INF, -INF]])], {"axis": 1}, lambda x: [-INF], note="of nothing but -inf", grad=lambda w, x: [np.zeros((1, 2))]),
    KCase(K.mean, [np.full((3, 70_000), 3, "float16")], {"axis": 1}, lambda x: [3, 3, 3], note="of many", grad=False),
    KCase(K.var, [np.tile(array([300, -300], "float16"), 1000)], {}, lambda x: INF, note="beyond float16", grad=False),
    KCase(K.std, [np.tile(array([300, -300], "float16"), 1000)], {}, lambda x: 300, note="of a variance beyond float16", grad=False),
    KCase(K.mean, [np.full((2, 100), 255, "uint8")], {}, lambda x: 255, dtype=FLOATX, note="of a sum beyond uint8"),
    KCase(K.sum, [np.full(3, 100, "int8")], {}, lambda x: 300 - 256, note="wraps around"),
    KCase(K.any, [array([[0, -0.0], [0, 0.1]])], {"axis": -1}, lambda x: [0, 1], dtype="uint8", note="of floats"),
    KCase(K.any, [array([[0, 2], [0, 0]], "int32")], {"axis": -1, "keepdims": True}, lambda x: [[1], [0]], dtype="uint8", note="of a mask"),
    KCase(K.std, [array([[1, 3], [2, 6]])], {"axis": 1}, lambda x: [1, 2], note="of the population", grad=False),
    KCase(K.var, [array([[1, 3], [2, 6]])], {"axis": 1}, lambda x: [1, 4], note="of the population", grad=False),
    KCase(K.sum, [floats(2, 3)], {"axis": 1}, lambda x: x.sum(1), call=lambda x: K.sum(x, 1), note="axis by position"),
    KCase(K.mean, [floats(2, 3)], {}, lambda x: x.mean(), call=lambda x: K.mean(x, axis=None, keepdims=0), note="keepdims as an int"),
]  # fmt: skip

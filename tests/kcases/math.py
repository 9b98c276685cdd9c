"""Rows of the element-wise functions of one or two operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import INF, NAN, SPECIAL, array, bools, floats, ints
from tests.cases.elementwise import choice, each, zeros
from tests.kcases.base import FLOATX, KCase

_INTEGERS = ("uint8", "int8", "int16", "int32", "int64")


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


#: function -> of numbers, where its gradient is checked, whether integers stay integers
_UNARY: dict[Callable[..., Any], tuple[Callable[[Any], Any], float, float, bool]] = {
    K.abs: (abs, -2, 2, True),
    K.square: (lambda x: x * x, -2, 2, True),
    K.sign: (sign, -2, 2, True),
    K.round: (round, -2, 2, True),
    K.sqrt: (lambda x: math.sqrt(max(x, 0)), 0.1, 3, False),
    K.exp: (math.exp, -2, 2, False),
    K.log: (math.log, 0.1, 3, False),
    K.sin: (math.sin, -4, 4, False),
    K.cos: (math.cos, -4, 4, False),
}


def _unary() -> list[KCase]:
    rows = []
    for f, (oracle, low, high, stays) in _UNARY.items():
        for shape in ((3, 4), (), (0, 2), (1, 3)):
            rows.append(KCase(f, [floats(*shape, low=low, high=high)], {}, each(oracle), second=f not in (K.sign, K.round)))
        rows += [
            KCase(f, [floats(5, low=low, high=high, dtype=d)], {}, each(oracle), second=f not in (K.sign, K.round))
            for d in ("float16", "float64")
        ]
        for dtype in _INTEGERS:
            rows.append(KCase(f, [ints(6, low=1, high=5, dtype=dtype)], {}, each(oracle), dtype=dtype if stays else FLOATX))
        if not stays:
            rows.append(KCase(f, [np.ones(2, bool)], {}, each(oracle), dtype=FLOATX))
    rows += [KCase(f, [array([-3, 0, 3], "int32")], {}, each(_UNARY[f][0])) for f in (K.abs, K.square, K.sign, K.round)]
    return rows


def _at(
    f: Callable[..., Any], xs: list[float], wanted: list[float], slopes: list[float] | None = None, **keywords: Any
) -> list[KCase]:
    return [
        KCase(f, [array(xs, d)], {}, lambda x: wanted, note=keywords.get("note", "special"),
              grad=False if slopes is None else lambda w, x: [w * np.array(slopes)])
        for d in ("float32", "float64")
    ]  # fmt: skip


_COMPARISONS: dict[Callable[..., Any], Callable[[Any, Any], bool]] = {
    K.equal: lambda x, y: x == y, K.not_equal: lambda x, y: x != y, K.greater: lambda x, y: x > y, K.greater_equal: lambda x, y: x >= y,
    K.lesser: lambda x, y: x < y, K.lesser_equal: lambda x, y: x <= y,
}  # fmt: skip
_SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (3, 4)),
    ((3, 1), (4,)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((0, 3), (1, 3)),
]
_X = [NAN, 1.0, INF, -INF, 2.0, 3.0, NAN]
_Y = [1.0, NAN, 1.0, 1.0, 2.0, -1.0, NAN]


def _binary() -> list[KCase]:
    rows = []
    for f, oracle in {**_COMPARISONS, K.maximum: max, K.minimum: min, K.pow: lambda x, y: x**y}.items():
        result = "bool" if f in _COMPARISONS else None
        low = 0.2 if f is K.pow else -2.0
        for a, b in _SHAPES:
            rows.append(KCase(f, [floats(*a, low=low), floats(*b, seed=1)], {}, each(oracle), dtype=result, rtol=1e-5))
        for dtype in (*_INTEGERS, "float16", "float64"):
            rows.append(KCase(f, [ints(3, 4, low=0, high=3).astype(dtype), ints(3, 4, low=0, high=3, seed=1).astype(dtype)], {}, each(oracle), dtype=result,
                              note="with ties", grad=False))  # fmt: skip
        if f is not K.pow:
            rows.append(KCase(f, [bools(8), bools(8, seed=1)], {}, each(oracle), dtype=result))
        if f in _COMPARISONS:
            rows.append(KCase(f, [array(_X), array(_Y)], {}, each(oracle), dtype="bool", note="special"))
        # a number, a list, an array on either side
        for other in (2, 0.5, np.float64(0.5), np.array(0.5), [0.5, 1.0, 1.5], np.array([0.5, 1, 1.5], "float32")):
            x = floats(2, 3, low=low, seed=2)
            kind = f"{type(other).__name__} {np.shape(other)} {other}" if np.ndim(other) == 0 else type(other).__name__
            rows.append(KCase(f, [x], {}, lambda x, f=oracle, other=other: each(f)(x, np.asarray(other, "float64")), call=lambda x, f=f, other=other: f(x, other),
                              dtype=result, note=f"{kind} right", arrays=False, rtol=1e-5))  # fmt: skip
            rows.append(KCase(f, [x], {}, lambda x, f=oracle, other=other: each(f)(np.asarray(other, "float64"), x), call=lambda x, f=f, other=other: f(other, x),
                              dtype=result, note=f"{kind} left", arrays=False, rtol=1e-5))  # fmt: skip
    return rows


ROWS = [
    *_unary(),
    *_binary(),
    *_at(K.abs, SPECIAL, [NAN, INF, INF, 0, 0, 1, 1], [NAN, 1, -1, 0, 0, 1, -1]),
    *_at(K.sign, SPECIAL, [NAN, 1, -1, 0, 0, 1, -1], [0] * 7, note="sign(0) is 0, and the gradient is zero"),
    *_at(K.round, [0.5, 1.5, 2.5, -0.5, -1.5, NAN, INF, -INF], [0, 2, 2, 0, -2, NAN, INF, -INF], [0] * 8, note="half to even, gradient zero"),
    *_at(K.sqrt, [-1, -0.0, 0, 4, NAN, INF, -INF], [0, 0, 0, 2, NAN, INF, 0], note="clipped at 0"),
    *_at(K.sqrt, [-1, 4, -INF], [0, 2, 0], [0, 0.25, 0], note="gradient 0 below 0"),
    *_at(K.exp, [NAN, INF, -INF, 0, 1e4, -1e4], [NAN, INF, 0, 1, INF, 0]),
    *_at(K.log, SPECIAL, [NAN, INF, NAN, -INF, -INF, 0, NAN]),
    *_at(K.sin, [NAN, INF, 0], [NAN, NAN, 0]),
    *_at(K.cos, [NAN, INF, 0], [NAN, NAN, 1]),
    KCase(K.maximum, [array(_X), array(_Y)], {}, lambda x, y: [NAN, NAN, INF, 1, 2, 3, NAN], note="special", grad=False),
    KCase(K.minimum, [array(_X), array(_Y)], {}, lambda x, y: [NAN, NAN, 1, -INF, 2, -1, NAN], note="special", grad=False),
    KCase(K.maximum, [array([1, 2, 3]), array([1, 5, 0])], {}, each(max), grad=choice(np.greater_equal), note="tie goes to x"),
    KCase(K.minimum, [array([1, 2, 3]), array([1, 5, 0])], {}, each(min), grad=choice(np.less_equal), note="tie goes to x"),
    KCase(K.maximum, [array([-2, 0, 2])], {}, each(lambda x: max(x, 0)), call=lambda x: K.maximum(x, 0), note="of a number", arrays=False, grad=False),
    KCase(K.maximum, [array([-2, 0, 2], "int32")], {}, each(lambda x: max(x, 0.5)), call=lambda x: K.maximum(x, 0.5), dtype=FLOATX, note="of a float",
          arrays=False),
    KCase(K.pow, [array([-1, 0, 0, 2, NAN, 4, -8], "float64"), array([0.5, 0, -1, -1, 0, 0.5, 3], "float64")], {}, lambda x, y: [NAN, 1, INF, 0.5, 1, 2, -512],
          note="special", grad=False),
    KCase(K.pow, [floats(4, low=-2, high=-0.5)], {}, lambda x: x * x * x, call=lambda x: K.pow(x, 3), note="negative base", arrays=False, rtol=1e-5),
    KCase(K.pow, [array([0, 1, 2])], {}, lambda x: x * x, call=lambda x: K.pow(x, 2), note="base 0", arrays=False),
    KCase(K.pow, [array([0, 1, 2])], {}, lambda x: x**0, call=lambda x: K.pow(x, 0), note="exponent 0", arrays=False),
    KCase(K.pow, [array([0, 1, 2])], {}, lambda x: 0.9**x, call=lambda x: K.pow(0.9, x), note="of a number", arrays=False),
    KCase(K.pow, [ints(4, low=0)], {}, lambda x: x**2, call=lambda x: K.pow(x, 2), note="of integers", arrays=False),
    KCase(K.pow, [ints(4, low=0, high=5)], {}, lambda x: np.sqrt(x), call=lambda x: K.pow(x, 0.5), dtype=FLOATX, note="of integers", arrays=False),
    KCase(K.equal, [ints(3, low=0, high=2)], {}, each(lambda x: x == 1), call=lambda x: K.equal(x, 1), dtype="bool", note="of integers", arrays=False),
    KCase(K.equal, [array([1, 2], "int32")], {}, lambda x: [False, False], call=lambda x: K.equal(x, 1.5), dtype="bool", note="of a float", arrays=False),
    KCase(K.greater, [array([1, 2], "int32"), array([1.5, 1.5])], {}, lambda x, y: [False, True], dtype="bool", note="of two kinds"),
    KCase(K.equal, [bools(4)], {}, lambda x: x, call=lambda x: K.equal(x, True), dtype="bool", note="of bools", arrays=False),
    KCase(K.round, [floats(3)], {}, lambda x: x - (x - np.rint(x)), grad=zeros, note="gradient zero"),
]  # fmt: skip

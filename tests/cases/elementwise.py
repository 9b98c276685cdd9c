"""Rows of the element-wise ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Identity
from kgraph.ir.op import Op
from tests.cases.base import INF, NAN, SPECIAL, Array, Case, array, bools, floats, ints

BIG = 1e4  # far beyond where exp overflows in float32 and float64


def zeros(w: Array, *inputs: Array) -> list[Array]:
    """No gradient: zero for each float operand."""
    return [np.zeros(x.shape) for x in inputs]


# ---------------------------------------------------------------------------------------------------- one operand

_FUNCTIONS: dict[Op, tuple[Callable[[float], float], float, float]] = {
    # op -> scalar function, and where its gradients are checked
    o.negative: (lambda x: -x, -2, 2),
    o.absolute: (abs, -2, 2),
    o.sign: (lambda x: (x > 0) - (x < 0), -2, 2),
    o.square: (lambda x: x * x, -2, 2),
    o.round: (round, -2, 2),  # Python's round takes halves to even
    o.floor: (math.floor, -2, 2),
    o.exp: (math.exp, -2, 2),
    o.expm1: (math.expm1, -2, 2),
    o.log: (math.log, 0.1, 3),
    o.log1p: (math.log1p, -0.8, 3),
    o.sqrt: (math.sqrt, 0.1, 3),
    o.sin: (math.sin, -4, 4),
    o.cos: (math.cos, -4, 4),
    o.tanh: (math.tanh, -3, 3),
    o.sigmoid: (lambda x: 1 / (1 + math.exp(-x)), -6, 6),
    o.softplus: (lambda x: math.log1p(math.exp(x)), -6, 6),
    o.relu: (lambda x: max(x, 0.0), -2, 2),
}
_OF_INTEGERS = (o.negative, o.absolute, o.sign, o.square, o.relu)


def each(f: Callable[..., Any]) -> Callable[..., Array]:
    """A function of numbers, over arrays, element by element."""

    def over(*xs: Array) -> Array:
        broadcast = np.broadcast_arrays(*xs)
        values = [f(*numbers) for numbers in zip(*[x.ravel().tolist() for x in broadcast], strict=True)]
        return np.array(values, "float64" if any(x.dtype.kind == "f" for x in xs) else None).reshape(broadcast[0].shape)

    return over


def _unary() -> list[Case]:
    rows = []
    for op, (f, low, high) in _FUNCTIONS.items():
        for x in (
            floats(3, 4, low=low, high=high),
            floats(2, 5, low=low, high=high, dtype="float64"),
            floats(6, low=low, high=high, dtype="float16"),
            floats(low=low, high=high),
            floats(2, 0, 3),
            floats(1, 3, 1, low=low, high=high),
        ):
            rows.append(Case(op, [x], {}, each(f), second=op not in (o.sign, o.round, o.floor)))
        if op in _OF_INTEGERS:
            rows += [Case(op, [ints(3, 4, dtype=dtype)], {}, each(f)) for dtype in ("int8", "int16", "int32", "int64")]
            if op is not o.negative:
                rows.append(Case(op, [ints(3, 4, low=0, high=15, dtype="uint8")], {}, each(f)))
    return rows


def _special(op: Op, xs: list[float], wanted: list[float], **keywords: Any) -> list[Case]:
    """A row per float dtype: NaN, infinity and what lies at the ends of the range."""
    return [
        Case(
            op,
            [array(xs, dtype)],
            {},
            lambda x: wanted,
            note="special",
            rtol=keywords.get("rtol"),
            atol=0,
            grad=keywords.get("grad", False),
        )
        for dtype in ("float32", "float64")
    ]


def _slopes(*slopes: float) -> Callable[..., list[Array]]:
    return lambda w, x: [w * np.array(slopes)]


ROWS = [
    *_unary(),
    *_special(o.negative, SPECIAL, [NAN, -INF, INF, -0.0, 0.0, -1, 1]),
    *_special(o.absolute, SPECIAL, [NAN, INF, INF, 0, 0, 1, 1], grad=_slopes(NAN, 1, -1, 0, 0, 1, -1)),
    *_special(o.sign, SPECIAL, [NAN, 1, -1, 0, 0, 1, -1], grad=zeros),
    *_special(o.square, SPECIAL, [NAN, INF, INF, 0, 0, 1, 1]),
    *_special(o.round, [0.5, 1.5, 2.5, -0.5, -1.5, NAN, INF, -INF], [0, 2, 2, -0.0, -2, NAN, INF, -INF], grad=zeros),
    *_special(o.floor, [0.5, -0.5, 2.0, -2.0, NAN, INF, -INF], [0, -1, 2, -2, NAN, INF, -INF], grad=zeros),
    *_special(o.exp, [*SPECIAL, BIG, -BIG], [NAN, INF, 0, 1, 1, math.e, 1 / math.e, INF, 0]),
    *_special(o.expm1, [NAN, INF, -INF, 0, 1e-30, -BIG], [NAN, INF, -1, 0, 1e-30, -1]),
    *_special(o.log, SPECIAL, [NAN, INF, NAN, -INF, -INF, 0, NAN]),
    *_special(o.log1p, [NAN, INF, -1, -2, 1e-30], [NAN, INF, -INF, NAN, 1e-30]),
    *_special(o.sqrt, SPECIAL, [NAN, INF, NAN, 0, -0.0, 1, NAN]),
    *_special(o.sin, [NAN, INF, -INF, 0.0], [NAN, NAN, NAN, 0]),
    *_special(o.cos, [NAN, INF, -INF, 0.0], [NAN, NAN, NAN, 1]),
    *_special(o.tanh, [NAN, INF, -INF, 0.0, BIG, -BIG], [NAN, 1, -1, 0, 1, -1], grad=_slopes(NAN, 0, 0, 1, 0, 0)),
    *_special(o.sigmoid, [NAN, INF, -INF, 0.0, BIG, -BIG, -60], [NAN, 1, 0, 0.5, 1, 0, math.exp(-60)],
              grad=_slopes(NAN, 0, 0, 0.25, 0, 0, math.exp(-60)), rtol=2e-6),
    *_special(o.softplus, [NAN, INF, -INF, 0.0, BIG, -BIG, -60], [NAN, INF, 0, math.log(2), BIG, 0, math.exp(-60)],
              grad=_slopes(NAN, 1, 0, 0.5, 1, 0, math.exp(-60)), rtol=2e-6),
    *_special(o.relu, SPECIAL, [NAN, INF, 0, 0, 0, 1, 0]),
    *_special(o.relu, SPECIAL[1:], [INF, 0, 0, 0, 1, 0], grad=_slopes(1, 0, 0, 0, 1, 0)),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- two operands


_NUMBERS: dict[Op, Callable[[Any, Any], Any]] = {
    o.add: lambda x, y: x + y,
    o.subtract: lambda x, y: x - y,
    o.multiply: lambda x, y: x * y,
    o.floor_divide: lambda x, y: x // y,
    o.remainder: lambda x, y: x % y,
    o.maximum: max,
    o.minimum: min,
}
_COMPARISONS: dict[Op, Callable[[Any, Any], bool]] = {
    o.equal: lambda x, y: x == y,
    o.not_equal: lambda x, y: x != y,
    o.less: lambda x, y: x < y,
    o.less_equal: lambda x, y: x <= y,
    o.greater: lambda x, y: x > y,
    o.greater_equal: lambda x, y: x >= y,
}
_LOGIC: dict[Op, Callable[[bool, bool], bool]] = {
    o.logical_and: lambda x, y: x and y,
    o.logical_or: lambda x, y: x or y,
}
# shapes that meet, with stretched axes on either side, missing axes, scalars, and empty ones
_SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (3, 4)), ((3, 1), (1, 4)), ((4,), (3, 4)), ((2, 3, 1), (3, 5)), ((), (2, 3)), ((), ()), ((0, 3), (1, 3)), ((1,), (0,)),
    ((1, 1), (1, 1)),
]  # fmt: skip


def _binary() -> list[Case]:
    rows = []
    for op, f in _NUMBERS.items():
        for a, b in _SHAPES:
            flat = {"grad": zeros} if op is o.floor_divide else {"second": op is not o.remainder}
            y = floats(
                *b, low=1.3 if op in (o.floor_divide, o.remainder) else -2, seed=1
            )  # far from where differences meet jumps
            rows.append(Case(op, [floats(*a), y], {}, each(f), rtol=1e-5 if op is o.remainder else None, **flat))
        rows.append(Case(op, [floats(3, 4, dtype="float64"), floats(4, seed=1, dtype="float64")], {}, each(f), grad=False))
        rows.append(
            Case(op, [array([3, -3, 3, -3, 0.5], "float16"), array([2, 2, -2, -2, 4], "float16")], {}, each(f), grad=False)
        )
        for dtype in ("int8", "int16", "int32", "int64"):
            y = ints(4, seed=1, dtype=dtype)
            rows.append(Case(op, [ints(3, 4, dtype=dtype), np.where(y == 0, 3, y).astype(dtype)], {}, each(f)))
        rows.append(Case(op, [ints(3, 4, low=6, high=12, dtype="uint8"), ints(4, low=1, high=6, dtype="uint8")], {}, each(f)))
    for op, f in (_COMPARISONS | {o.maximum: max, o.minimum: min}).items():
        if op in _COMPARISONS:
            rows += [Case(op, [floats(*a), floats(*b, seed=1)], {}, each(f), dtype="bool") for a, b in _SHAPES]
        for dtype in ("bool", "uint8", "int8", "int32", "int64", "float16", "float64"):
            x, y = [np.abs(ints(3, 4, low=0, high=3, seed=seed)).astype(dtype) for seed in (0, 1)]
            rows.append(
                Case(op, [x, y], {}, each(f), dtype="bool" if op in _COMPARISONS else None, note="with ties", grad=False)
            )
    for op, f in _LOGIC.items():
        rows += [Case(op, [bools(*a), bools(*b, seed=1)], {}, each(f)) for a, b in _SHAPES]
        rows.append(
            Case(op, [array([True, True, False, False], "bool"), array([True, False, True, False], "bool")], {}, each(f))
        )
    return rows


def choice(takes_x: Callable[[Array, Array], Array]) -> Callable[..., list[Array]]:
    """The gradient of a choice between two operands of one shape."""
    return lambda w, x, y: [w * takes_x(x, y), w * ~takes_x(x, y)]


_X = [NAN, 1.0, INF, -INF, 2.0, 3.0, NAN]
_Y = [1.0, NAN, 1.0, 1.0, 2.0, -1.0, NAN]

ROWS += [
    *_binary(),
    *[Case(o.divide, [floats(*a), floats(*b, low=0.5, seed=1)], {}, each(lambda x, y: x / y)) for a, b in _SHAPES],
    Case(o.divide, [floats(5, dtype="float16"), floats(5, low=0.5, seed=1, dtype="float16")], {}, each(lambda x, y: x / y)),
    Case(o.divide, [floats(5, dtype="float64"), floats(5, low=-2, high=-0.5, seed=1, dtype="float64")], {}, each(lambda x, y: x / y)),
    Case(o.divide, [array([1, -1, 0, INF]), array([0, 0, 0, INF])], {}, lambda x, y: [INF, -INF, NAN, NAN], note="by zero", grad=False),
    *[
        Case(op, [array(xs, dtype), array(ys, dtype)], {}, each(f), note="sign rule", grad=False)
        for op, f in ((o.floor_divide, lambda x, y: x // y), (o.remainder, lambda x, y: x % y))
        for dtype in ("int8", "int32", "float32")
        for xs, ys in [([7, -7, 7, -7, 6, -6, 0, 1], [2, 2, -2, -2, 3, -3, 5, -5])]
    ],
    *[Case(o.power, [floats(*a, low=0.2), floats(*b, seed=1)], {}, each(lambda x, y: x**y), rtol=1e-5) for a, b in _SHAPES],
    Case(o.power, [ints(4, low=-3, high=4), ints(3, 1, low=0, high=4)], {}, each(lambda x, y: x**y)),
    Case(o.power, [floats(4, low=-2, high=-0.5, dtype="float64"), array([1, 2, 3, 4], "float64")], {}, each(lambda x, y: x**y),
         grad=lambda w, x, y: [w * y * x ** (y - 1), w * NAN * x], note="negative base"),
    Case(o.power, [array([0, 0, 0, 2, NAN, 1, -1, INF], "float64"), array([0, 2, 0.5, 0, 0, NAN, 0.5, -1], "float64")], {},
         lambda x, y: [1, 0, 0, 1, 1, 1, NAN, 0], grad=False, note="special"),
    Case(o.power, [array([0, 0, 0, 3], "float64"), array([0, 1, 2, 0], "float64")], {}, lambda x, y: [1, 0, 0, 1],
         grad=lambda w, x, y: [w * [0, 1, 0, 0], w * [0, 0, 0, math.log(3)]], second=False, note="at zero"),
    Case(o.maximum, [array(_X), array(_Y)], {}, lambda x, y: [NAN, NAN, INF, 1, 2, 3, NAN], grad=False, note="special"),
    Case(o.minimum, [array(_X), array(_Y)], {}, lambda x, y: [NAN, NAN, 1, -INF, 2, -1, NAN], grad=False, note="special"),
    Case(o.maximum, [array([1, 2, 3]), array([1, 5, 0])], {}, each(max), grad=choice(np.greater_equal), note="tie goes to x"),
    Case(o.minimum, [array([1, 2, 3]), array([1, 5, 0])], {}, each(min), grad=choice(np.less_equal), note="tie goes to x"),
    *[
        Case(op, [array(_X), array(_Y)], {}, each(f), dtype="bool", note="special")
        for op, f in _COMPARISONS.items()
    ],
    Case(o.add, [array([INF, 1, NAN]), array([-INF, INF, 1])], {}, lambda x, y: [NAN, INF, NAN], grad=False, note="special"),
    Case(o.multiply, [array([INF, 0, 3e38]), array([0, NAN, 10])], {}, lambda x, y: [NAN, NAN, INF], grad=False, note="special"),
    Case(o.add, [array([120], "int8"), array([10], "int8")], {}, lambda x, y: [-126], note="wraps around"),
    Case(o.logical_not, [bools(3, 4)], {}, each(lambda x: not x)),
    Case(o.logical_not, [bools(0, 2)], {}, each(lambda x: not x)),
    Case(o.logical_not, [np.array(True)], {}, each(lambda x: not x)),
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- choice, dtype, identity

_pick = each(lambda c, x, y: x if c else y)

ROWS += [
    *[
        Case(o.where, [bools(*c), floats(*a), floats(*b, seed=1)], {}, _pick, dtype="float32")
        for c, a, b in [((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), ()), ((), (2, 3), (2, 1)), ((4,), (3, 4), (3, 1)), ((0, 2), (1, 2), (2,))]
    ],
    *[Case(o.where, [bools(4), ints(4, low=0, dtype=d), ints(4, low=0, seed=1, dtype=d)], {}, _pick, dtype=d) for d in ("bool", "uint8", "int64")],
    Case(o.where, [array([True, False], "bool"), array([1, NAN]), array([NAN, 2])], {}, lambda c, x, y: [1, 2], dtype="float32",
         grad=lambda w, c, x, y: [None, w * c, w * ~c], note="NaN of the other side"),
    *[
        Case(o.cast, [floats(3, 4, dtype=source)], {"dtype": target}, lambda x: x, dtype=target, rtol=1e-6, second=target == "float64")
        for source in ("float16", "float32", "float64")
        for target in ("float32", "float64")
    ],
    *[
        Case(o.cast, [floats(3, 4, dtype=source)], {"dtype": "float16"}, lambda x: x, dtype="float16", rtol=1e-3, grad=lambda w, x: [w.astype("float16")])
        for source in ("float16", "float32", "float64")
    ],
    *[
        Case(o.cast, [array([1.7, -1.7, 0.0, 2.0])], {"dtype": target}, each(int), dtype=target, note="towards zero", grad=False)
        for target in ("int8", "int16", "int32", "int64")
    ],
    Case(o.cast, [array([1.7, 0.3, 200])], {"dtype": "uint8"}, each(int), dtype="uint8", note="towards zero", grad=False),
    Case(o.cast, [array([0, -0.0, 0.1, NAN, -2])], {"dtype": "bool"}, lambda x: [False, False, True, True, True], dtype="bool", grad=False),
    Case(o.cast, [ints(5)], {"dtype": "bool"}, each(bool), dtype="bool"),
    *[Case(o.cast, [bools(2, 3)], {"dtype": target}, each(int), dtype=target) for target in ("bool", "uint8", "int64", "float16", "float64")],
    *[Case(o.cast, [ints(2, 3)], {"dtype": target}, lambda x: x, dtype=target) for target in ("int8", "int64", "float32")],
    Case(o.cast, [ints()], {"dtype": "float32"}, lambda x: x, dtype="float32"),
    Case(o.cast, [floats(0, 2)], {"dtype": "float64"}, lambda x: x, dtype="float64"),
    *[
        Case(o.identity, [x], {"uid": Identity()}, lambda x: x)
        for x in (floats(3, 4), floats(), floats(0, 2), ints(3, dtype="uint8"), bools(2))
    ],
    Case(o.identity, [array(SPECIAL)], {"uid": Identity()}, lambda x: x, note="special", grad=False),
    *[Case(o.stop_gradient, [x], {}, lambda x: x, grad=zeros) for x in (floats(3, 4), floats(dtype="float64"), floats(0, 2), ints(3))],
]  # fmt: skip

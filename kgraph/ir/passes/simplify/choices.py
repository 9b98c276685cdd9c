"""Comparisons, truth values, the larger and the smaller, and where."""

from __future__ import annotations

import math

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.passes.fitting import fitted, instead
from kgraph.ir.passes.simplify.arithmetic import filled
from kgraph.ir.passes.simplify.signs import never_negative
from kgraph.ir.pattern import const, number_of, p, var, whole
from kgraph.ir.rewrite import Rules
from kgraph.ir.types import kind

X, Y, C = var("x"), var("y"), var("c")
INT, BOOL = var("x", "int"), var("x", "bool")

choices = Rules("simplify")
rule = choices.rule

# ---------------------------------------------------------------------------------------------------- extremes


@rule(p.maximum(X, X), p.minimum(X, X), p.logical_and(X, X), p.logical_or(X, X))
def of_itself(x: Node) -> Node:
    """maximum(x, x) -> x; so minimum, and, or"""
    return x


@rule(p.maximum(X, const("c")), p.minimum(X, const("c")))
def beyond_all(x: Node, c: Node, out: Node) -> Node | str:
    """maximum(x, c) -> x, where c is -inf, the least integer, or below what is never negative; minimum(x, inf) -> x"""
    value, dtype = number_of(c), x.type.dtype
    if value is None or dtype == "bool":
        return "it is no number"
    if kind(dtype) == "int":
        bounds = np.iinfo(dtype)
        least = value == (bounds.min if out.op is o.maximum else bounds.max)
    elif out.op is o.maximum:
        least = value == -math.inf or (value <= 0 and never_negative(x))
    else:
        least = value == math.inf
    return fitted(x, out) if least else "there are numbers beyond it"


@rule(p.maximum(p.maximum(X, const("a")), const("b")), p.minimum(p.minimum(X, const("a")), const("b")))
def extremes(x: Node, a: Node, b: Node, out: Node) -> Node | str:
    """maximum(maximum(x, a), b) -> maximum(x, maximum(a, b)); so minimum"""
    values = number_of(a), number_of(b)
    if None in values or values[0] == values[1] or any(math.isnan(value or 0) for value in values) or a.ndim or b.ndim:
        return "they are not two numbers, the one above the other"
    first = (values[0] > values[1]) == (out.op is o.maximum)  # type: ignore[operator]
    return instead(out.op(x, a if first else b), out)


# ---------------------------------------------------------------------------------------------------- comparisons


@rule(p.less(X, X), p.greater(X, X), p.not_equal(INT, INT))
def never_so(x: Node, out: Node) -> Node | str:
    """x < x, x > x -> False; of integers x != x -> False"""
    return filled(False, out)


@rule(p.equal(INT, INT), p.less_equal(INT, INT), p.greater_equal(INT, INT))
def always_so(x: Node, out: Node) -> Node | str:
    """x == x, x <= x, x >= x -> True, of integers"""
    return filled(True, out)


@rule(p.less(X, const("c")), p.greater(const("c"), X))
def below_all(x: Node, c: Node, out: Node) -> Node | str:
    """x < c -> False, where c is no number above the least that x can be"""
    value, dtype = number_of(c), x.type.dtype
    if value is None or dtype == "bool":
        return "it is no number"
    least = value <= np.iinfo(dtype).min if kind(dtype) == "int" else value == -math.inf or (value <= 0 and never_negative(x))
    return filled(False, out) if least else "there are numbers below it"


@rule(p.greater_equal(INT, const("c")), p.less_equal(const("c"), INT))
def not_below_all(x: Node, c: Node, out: Node) -> Node | str:
    """x >= c -> True, where c is the least integer of its dtype"""
    value = number_of(c)
    if value is None or value > np.iinfo(x.type.dtype).min:
        return "there are numbers below it"
    return filled(True, out)


@rule(p.not_equal(p.cast(BOOL), 0), p.not_equal(p.cast(BOOL), 0.0), p.greater(p.cast(BOOL), 0), p.greater(p.cast(BOOL), 0.0),
      p.equal(p.cast(BOOL), 1), p.equal(p.cast(BOOL), 1.0))  # fmt: skip
def truth_again(x: Node, out: Node) -> Node | str:
    """cast(x) != 0, cast(x) > 0, cast(x) == 1 -> x, of a bool x"""
    return fitted(x, out)


@rule(p.equal(p.cast(BOOL), 0), p.equal(p.cast(BOOL), 0.0), p.not_equal(p.cast(BOOL), 1), p.not_equal(p.cast(BOOL), 1.0))
def truth_turned(x: Node, out: Node) -> Node | str:
    """cast(x) == 0, cast(x) != 1 -> not x, of a bool x"""
    return fitted(o.logical_not(x), out)


# ---------------------------------------------------------------------------------------------------- truth


@rule(p.logical_not(p.logical_not(X)))
def not_not(x: Node) -> Node:
    """not not x -> x"""
    return x


@rule(p.logical_and(X, True), p.logical_or(X, False))
def neutral_truth(x: Node, out: Node) -> Node | str:
    """x and True, x or False -> x"""
    return fitted(x, out)


@rule(p.logical_and(X, False), p.logical_and(X, p.logical_not(X)))
def no_truth(x: Node, out: Node) -> Node | str:
    """x and False, x and not x -> False"""
    return filled(False, out)


@rule(p.logical_or(X, True), p.logical_or(X, p.logical_not(X)))
def all_truth(x: Node, out: Node) -> Node | str:
    """x or True, x or not x -> True"""
    return filled(True, out)


_OPPOSITE: dict[Op, Op] = {
    o.equal: o.not_equal, o.not_equal: o.equal, o.less: o.greater_equal, o.greater_equal: o.less, o.greater: o.less_equal,
    o.less_equal: o.greater,
}  # fmt: skip


@rule(*[p.logical_not(whole(op)) for op in _OPPOSITE])
def opposite(out: Node) -> Node | str:
    """not x == y -> x != y; not x != y -> x == y; but of floats not x < y -> x >= y"""
    (x,) = out.inputs
    if x.op not in (o.equal, o.not_equal) and x.inputs[0].type.is_float:
        return "NaN is neither below nor above"
    return _OPPOSITE[x.op](*x.inputs)


# ---------------------------------------------------------------------------------------------------- where


@rule(p.where(C, X, X))
def either(x: Node, out: Node) -> Node | str:
    """where(c, x, x) -> x"""
    return fitted(x, out)


@rule(p.where(True, X, Y))
def surely(x: Node, out: Node) -> Node | str:
    """where(True, x, y) -> x"""
    return fitted(x, out)


@rule(p.where(False, X, Y))
def surely_not(y: Node, out: Node) -> Node | str:
    """where(False, x, y) -> y"""
    return fitted(y, out)


@rule(p.where(p.logical_not(C), X, Y))
def where_not(c: Node, x: Node, y: Node) -> Node:
    """where(not c, x, y) -> where(c, y, x)"""
    return o.where(c, y, x)


@rule(p.where(C, p.where(C, X, Y), whole()), p.where(C, whole(), p.where(C, X, Y)))
def where_again(c: Node, x: Node, y: Node, out: Node) -> Node | str:
    """where(c, where(c, x, y), z) -> where(c, x, z); where(c, z, where(c, x, y)) -> where(c, z, y)"""
    _, first, second = out.inputs
    inside = first.op is o.where and first.inputs == (c, x, y)
    made = o.where(c, x, second) if inside else o.where(c, first, y)
    return instead(made, out, *out.inputs)


@rule(p.where(C, True, False))
def truth_chosen(c: Node, out: Node) -> Node | str:
    """where(c, True, False) -> c"""
    return fitted(c, out)


@rule(p.where(C, False, True))
def untruth_chosen(c: Node, out: Node) -> Node | str:
    """where(c, False, True) -> not c"""
    return fitted(o.logical_not(c), out)

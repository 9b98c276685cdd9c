"""Constants that meet are one constant."""

from __future__ import annotations

from fractions import Fraction
from math import frexp, isfinite
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.fitting import instead
from kgraph.ir.pattern import const, number_of, p, var, whole
from kgraph.ir.rewrite import Rules
from kgraph.quiet import quietly

X, A, B = var("x"), const("a"), const("b")
FLOAT, INT = var("x", "float"), var("x", "int")

constants = Rules("simplify")
rule = constants.rule


@quietly
def _combined(f: Any, a: Node, b: Node) -> Node | None:
    """The constant f(a, b); None if it has more elements than both, or elements that are not finite, or have lost digits."""
    x, y = a.attrs[0][1].array, b.attrs[0][1].array
    found = np.asarray(f(x, y))
    if found.size > max(x.size, y.size) or not found.size:
        return None
    if found.dtype.kind == "f":
        for each in (x, y, found):
            size = np.abs(each)
            if not ((size >= np.finfo(found.dtype).tiny) & (size < np.inf)).all():
                return None
    return o.constant_of(found)


_NO = "the constants make one that is larger, or not as exact"


@rule((INT * A) * B)
def factors_of_integers(x: Node, a: Node, b: Node, out: Node) -> Node | str:
    """(x * a) * b -> x * (a * b), of integers"""
    c = _combined(np.multiply, a, b)
    return _NO if c is None else instead(o.multiply(x, c), out)


@rule(
    (FLOAT * A) * B, (FLOAT / A) * B, (FLOAT * A) / B, (FLOAT / A) / B,
    p.divide(A, FLOAT) * B, p.divide(A, FLOAT) / B,
    p.divide(B, FLOAT * A), p.divide(B, FLOAT / A), p.divide(B, p.divide(A, FLOAT)),
    claim="rounding",
)  # fmt: skip
def factors(x: Node, a: Node, b: Node, out: Node) -> Node | str:
    """(x * a) * b -> x * (a * b), and what else is x, or 1 / x, times or through two constants"""
    first, second = out.inputs
    inner = second if first is b else first
    if inner is b:  # both operands are constants: that is folded
        return "both are constants"
    # The value is x ** power * a ** i * b ** j.
    power = -1 if inner.op is o.divide and inner.inputs[0] is a else 1
    i = -1 if inner.op is o.divide and inner.inputs[1] is a else 1
    j = -1 if out.op is o.divide and second is b else 1
    if out.op is o.divide and first is b:
        power, i = -power, -i
    if i == j == -1:
        c = _combined(np.multiply, a, b)
        made = None if c is None else o.divide(x, c)
    else:
        c = _combined(np.multiply, a, b) if i == j else _combined(np.divide, *((a, b) if i == 1 else (b, a)))
        made = None if c is None else o.multiply(x, c) if power == 1 else o.divide(c, x)
    return _NO if made is None else instead(made, out)


@rule(FLOAT / A)
def through_power_of_two(x: Node, a: Node) -> Node | str:
    """x / a -> x * (1 / a), for a power of two a, but in a mean"""
    value = number_of(a)
    if value is None or not isfinite(value) or abs(frexp(value)[0]) != 0.5:
        return "it is no power of two"
    if x.op is o.sum:
        return "means are known by their form"
    bounds = np.finfo(x.type.dtype)
    if not float(bounds.tiny) <= abs(1 / value) <= float(bounds.max):
        return "its inverse is no such number"
    inverse = o.scalar(1 / value, x.type.dtype)
    # A constant of another shape stretches x as it did.
    return o.multiply(x, inverse if a.ndim == 0 else o.constant_of(np.full(a.type.shape, inverse.attrs[0][1].array)))


@rule((FLOAT * A) * p.divide(B, p.cast(whole(o.size))), claim="rounding")
def factor_of_mean(x: Node, a: Node, b: Node, out: Node) -> Node | str:
    """(x * a) * (b / n) -> x * (b / n * a), for a count n: one number, as in the gradient of a mean"""
    if a.ndim or b.ndim or x.type is not out.type:
        return "they are no numbers"
    if x.type.dtype == "float16" or any(not _LEAST <= abs(number_of(each) or 0) <= 1 / _LEAST for each in (a, b)):
        return "their product may overflow"
    share = next(i for i in out.inputs if i.op is o.divide and i.inputs[0] is b)
    return o.multiply(x, o.multiply(share, a))


_LEAST = 2.0**-20  # with it, no count makes the product too small for float32

# ---------------------------------------------------------------------------------------------------- sums


def _term(node: Node, a: Node) -> tuple[int, Node, int]:
    """(i, x, j) where a node, the sum or difference of a constant a and something else, is i * x + j * a."""
    x, y = node.inputs
    if node.op is o.add:
        return 1, y if x is a else x, 1
    return (-1, y, 1) if x is a else (1, x, -1)


@rule((FLOAT + A) + B, (FLOAT - A) + B, p.subtract(A, FLOAT) + B, (FLOAT + A) - B, (FLOAT - A) - B, p.subtract(A, FLOAT) - B,
      p.subtract(B, FLOAT + A), p.subtract(B, FLOAT - A), p.subtract(B, p.subtract(A, FLOAT)), claim="rounding")  # fmt: skip
def terms(x: Node, a: Node, b: Node, out: Node) -> Node | str:
    """(x + a) + b -> x + (a + b), and what else is x, or -x, and two constants; of floats, where a + b is exact"""
    outer, inner, j = _term(out, b)
    i, x, k = _term(inner, a)
    first, second = number_of(a), number_of(b)
    if first is None or second is None or a.ndim or b.ndim or not (isfinite(first) and isfinite(second)):
        return "they are no finite numbers"
    exact = outer * k * Fraction(first) + j * Fraction(second)
    if abs(exact) > Fraction(float(np.finfo(x.type.dtype).max)):
        return "their sum is not finite"
    total = o.scalar(float(exact), x.type.dtype)
    if Fraction(number_of(total) or 0.0) != exact:
        return "their sum is not exact"
    if outer * i < 0:
        return o.subtract(total, x)
    return o.add(x, total) if exact >= 0 else o.subtract(x, o.scalar(-float(exact), x.type.dtype))


@rule((INT + A) + B, (INT - A) + B, p.subtract(A, INT) + B, (INT + A) - B, (INT - A) - B, p.subtract(A, INT) - B,
      p.subtract(B, INT + A), p.subtract(B, INT - A), p.subtract(B, p.subtract(A, INT)))  # fmt: skip
def terms_of_integers(x: Node, a: Node, b: Node, out: Node) -> Node | str:
    """(x + a) + b -> x + (a + b), and what else is x, or -x, and two constants, of integers"""
    outer, inner, j = _term(out, b)
    i, x, k = _term(inner, a)
    sign, k = outer * i, outer * k
    values = [np.multiply(c.attrs[0][1].array, c.attrs[0][1].array.dtype.type(1)) for c in (a, b)]
    signed = [value if s > 0 else np.negative(value) for value, s in zip(values, (k, j), strict=True)]
    total = np.asarray(_wrapping(*signed))
    if total.size > max(value.size for value in values):
        return _NO
    c = o.constant_of(total)
    return instead(o.add(x, c) if sign > 0 else o.subtract(c, x), out)


@quietly
def _wrapping(x: Any, y: Any) -> Any:
    return np.add(x, y)


@rule(X + X)
def doubled(x: Node) -> Node:
    """x + x -> x * 2"""
    return o.multiply(x, o.scalar(2, x.type.dtype))


_SUMS = (p.add(whole(o.multiply), whole()), p.subtract(whole(o.multiply), whole()), p.subtract(whole(), whole(o.multiply)))


@rule(*_SUMS)
def multiples_of_integers(out: Node) -> Node | str:
    """x * a + x * b -> x * (a + b); x + x * a -> x * (a + 1); so differences; of integers"""
    return "they are floats" if out.type.is_float else _multiples(out)


@rule(*_SUMS, claim="rounding")
def multiples(out: Node) -> Node | str:
    """x * a + x * b -> x * (a + b); x + x * a -> x * (a + 1); so differences"""
    return _multiples(out) if out.type.is_float else "integers have a rule of their own"


def _multiples(out: Node) -> Node | str:
    first, second = out.inputs
    for x, a in _scaled(first):
        for y, b in _scaled(second):
            if x is y and (a or b) is not None:
                one = o.scalar(1, x.type.dtype)
                c = _combined(np.add if out.op is o.add else np.subtract, a or one, b or one)
                return _NO if c is None else instead(o.multiply(x, c), out)
    return "they are no multiples of one node by constants"


def _scaled(node: Node) -> list[tuple[Node, Node | None]]:
    """(node, None), and (x, a) if it is x * a with a constant a."""
    found: list[tuple[Node, Node | None]] = [(node, None)]
    if node.op is o.multiply:
        x, y = node.inputs
        if y.op is o.constant:
            found.append((x, y))
        elif x.op is o.constant:
            found.append((y, x))
    return found


@rule(*[op(whole(o.multiply), whole(o.multiply)) for op in (p.add, p.subtract)])
def common_factor(out: Node) -> Node | str:
    """a * x + a * y -> a * (x + y), of integers; so differences"""
    if out.type.is_float:
        return "they are floats"
    first, second = out.inputs
    for n, a in enumerate(first.inputs):
        for m, b in enumerate(second.inputs):
            x, y = first.inputs[1 - n], second.inputs[1 - m]
            if a is b and x.type is y.type is out.type:
                return instead(o.multiply(a, out.op(x, y)), out, *first.inputs, *second.inputs)
    return "no factor is common, or the sum would be larger than its terms"

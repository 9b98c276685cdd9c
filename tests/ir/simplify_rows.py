"""What each rule of simplify makes of what: rows of (rule, before, after), and of what no rule may touch, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Identity, Node
from kgraph.ir.types import TensorType


class Leaves:
    """Makes placeholders and constants of one dtype."""

    def __init__(self, dtype: str):
        self.dtype = dtype

    def __call__(self, *shape: int | None, dtype: str | None = None) -> Node:
        return o.placeholder(type=TensorType(dtype or self.dtype, shape or (9, 9)), uid=Identity())

    def scalar(self, dtype: str | None = None) -> Node:
        return o.placeholder(type=TensorType(dtype or self.dtype, ()), uid=Identity())

    def c(self, value: Any) -> Node:
        return o.constant_of(np.array(value, self.dtype))


class Row(NamedTuple):
    """before and after, made of leaves; a text in the place of after is the reason why the rule does not apply."""

    rule: str
    made: Callable[[Leaves], tuple[Node, Node | str]]
    kinds: str = "f"
    sums: bool = False

    def __str__(self) -> str:
        return self.rule


ROWS: list[Row] = []


def row(rule: str, kinds: str = "f", sums: bool = False) -> Callable[[Any], Any]:
    def add(made: Any) -> Any:
        ROWS.append(Row(rule, made, kinds, sums))
        return made

    return add


def unary(rule: str, before: Callable[..., Node], after: Any, kinds: str = "f") -> None:
    """Of one operand x, which a constant of its dtype may be beside: before(x, c), after(x, c)."""

    def made(leaf: Leaves) -> tuple[Node, Node | str]:
        x = leaf()
        return before(x, leaf.c), after if isinstance(after, str) else after(x, leaf.c)

    ROWS.append(Row(rule, made, kinds))


def binary(rule: str, before: Callable[..., Node], after: Any, kinds: str = "f") -> None:
    def made(leaf: Leaves) -> tuple[Node, Node | str]:
        x, y = leaf(), leaf()
        return before(x, y), after if isinstance(after, str) else after(x, y)

    ROWS.append(Row(rule, made, kinds))


def same(x: Node, c: Any = None) -> Node:
    return x


def all_of(value: Any) -> Callable[..., Node]:
    return lambda x, c=None: o.broadcast_to(o.scalar(value, x.dtype), shape=x.type.shape)


def truth(value: bool) -> Callable[..., Node]:
    return lambda x, c=None: o.broadcast_to(o.scalar(value, "bool"), shape=x.type.shape)


# ---------------------------------------------------------------------------------------------------- arithmetic

unary("neutral", lambda x, c: x + c(-0.0), same)
unary("neutral", lambda x, c: x - c(0.0), same)
unary("neutral", lambda x, c: o.add(c(0), x), same, "i")
unary("neutral", lambda x, c: x - c(0), same, "i")
unary("neutral", lambda x, c: o.multiply(c(1), x), same, "fi")
unary("neutral", lambda x, c: x / c(1), same)
unary("neutral", lambda x, c: x // c(1), same, "i")
unary("neutral", lambda x, c: o.power(x, c(1)), same, "i")
unary("first_power", lambda x, c: o.power(x, c(1)), same)
unary("first_power", lambda x, c: o.power(x, c(1.5)), "it is another power")
unary("neutral", lambda x, c: x * c(np.ones((1, 9))), same, "fi")
unary("neutral", lambda x, c: x + c(0.0), "it is not -0.0")
unary("neutral", lambda x, c: x // c(1), "it is of another kind than int")
unary("plus_zero", lambda x, c: x + c(0.0), same)
unary("plus_zero", lambda x, c: x - c(-0.0), same)
unary("turned", lambda x, c: o.subtract(c(-0.0), x), lambda x, c: -x)
unary("turned", lambda x, c: o.subtract(c(0), x), lambda x, c: -x, "i")
unary("turned", lambda x, c: x * c(-1), lambda x, c: -x, "fs")
unary("turned", lambda x, c: x / c(-1), lambda x, c: -x)
unary("from_zero", lambda x, c: o.subtract(c(0.0), x), lambda x, c: -x)
unary("to_the_zero", lambda x, c: o.power(x, c(0)), all_of(1), "f")
unary("nothing", lambda x, c: x * c(0), all_of(0), "i")
unary("nothing", lambda x, c: o.remainder(x, c(1)), all_of(0), "i")
unary("no_difference", lambda x, c: x - x, all_of(0), "i")
unary("nothing", lambda x, c: x * c(0), "it is of another kind than int")
unary("finite_nothing", lambda x, c: x * c(0.0), all_of(0.0))
unary("no_finite_difference", lambda x, c: x - x, all_of(0.0))
unary("finite_nothing", lambda x, c: o.divide(c(0.0), x), all_of(0.0))
unary("finite_one", lambda x, c: x / x, all_of(1.0))

unary("twice_negative", lambda x, c: o.negative(-x), same, "fi")
binary("negative_difference_of_integers", lambda x, y: -(x - y), lambda x, y: y - x, "i")
binary("negative_difference", lambda x, y: -(x - y), lambda x, y: y - x)
binary("add_negative", lambda x, y: x + (-y), lambda x, y: x - y, "fi")
binary("add_negative", lambda x, y: (-y) + x, lambda x, y: x - y, "fi")
binary("subtract_negative", lambda x, y: x - (-y), lambda x, y: x + y, "fi")
binary("both_negative", lambda x, y: (-x) * (-y), lambda x, y: x * y, "fi")
binary("both_negative", lambda x, y: (-x) / (-y), lambda x, y: x / y)
unary("negative_constant", lambda x, c: (-x) * c(3), lambda x, c: x * c(-3), "fs")
unary("negative_constant", lambda x, c: (-x) / c(3), lambda x, c: x / c(-3))
unary("negative_constant", lambda x, c: o.divide(c(3), -x), lambda x, c: o.divide(c(-3), x))
binary("outer_negative", lambda x, y: (-x) * y, lambda x, y: -(x * y), "fi")
binary("outer_negative", lambda x, y: (-x) / y, lambda x, y: -(x / y))
binary("outer_negative", lambda x, y: y / (-x), lambda x, y: -(y / x))
for op, attrs in ((o.expand_dims, {"axis": 0}), (o.reshape, {"shape": (81,)}), (o.transpose, {"perm": (1, 0)}), (o.flip, {"axes": (0,)})):
    unary("moved_negative", lambda x, c, op=op, attrs=attrs: op(-x, **attrs), lambda x, c, op=op, attrs=attrs: -op(x, **attrs), "fi")
unary("square_of_negative", lambda x, c: o.square(-x), lambda x, c: o.square(x), "fi")
unary("square_of_absolute", lambda x, c: o.square(o.absolute(x)), lambda x, c: o.square(x), "fi")
unary("absolute_of_negative", lambda x, c: o.absolute(-x), lambda x, c: o.absolute(x), "fs")
unary("absolute_of_negative", lambda x, c: o.absolute(-x), "-x of an integer without sign is another number", "u")
unary("absolute_of_positive", lambda x, c: o.absolute(o.square(x)), lambda x, c: o.square(x))
unary("absolute_of_positive", lambda x, c: o.absolute(o.absolute(x)), lambda x, c: o.absolute(x), "fi")
unary("absolute_of_positive", lambda x, c: o.absolute(o.sqrt(o.exp(x))), lambda x, c: o.sqrt(o.exp(x)))
unary("absolute_of_positive", lambda x, c: o.absolute(o.square(x)), "it may be negative", "s")  # it overflows
unary("absolute_of_positive", lambda x, c: o.absolute(o.sum(x, axis=(0,), keepdims=False)), "it may be negative")
for op in (o.relu, o.sign):
    unary("once_is_enough", lambda x, c, op=op: op(op(x)), lambda x, c, op=op: op(x), "fi")
for op, inner in ((o.round, o.round), (o.floor, o.floor), (o.round, o.floor), (o.floor, o.round)):
    unary("once_is_enough", lambda x, c, op=op, inner=inner: op(inner(x)), lambda x, c, inner=inner: inner(x))
unary("relu_of_positive", lambda x, c: o.relu(o.exp(x)), lambda x, c: o.exp(x))
unary("relu_of_positive", lambda x, c: o.relu(o.sqrt(x)), "it may be negative")

unary("log_of_exp", lambda x, c: o.log(o.exp(x)), same)
unary("log_of_exp", lambda x, c: o.log1p(o.expm1(x)), same)
unary("exp_of_log", lambda x, c: o.exp(o.log(o.absolute(x))), lambda x, c: o.absolute(x))
unary("exp_of_log", lambda x, c: o.square(o.sqrt(o.absolute(x))), lambda x, c: o.absolute(x))
unary("exp_of_log", lambda x, c: o.exp(o.log(x)), "of a negative number it is NaN")
unary("expm1_of_log1p", lambda x, c: o.expm1(o.log1p(o.absolute(x))), lambda x, c: o.absolute(x))
unary("expm1_of_log1p", lambda x, c: o.expm1(o.log1p(x)), "below -1 it is NaN")

unary("squared", lambda x, c: x * x, lambda x, c: o.square(x), "fi")
unary("power_of_integer", lambda x, c: o.power(x, c(2)), lambda x, c: o.square(x), "i")
unary("power_of_integer", lambda x, c: o.power(x, c(3)), lambda x, c: o.square(x) * x, "i")
unary("power", lambda x, c: o.power(x, c(2)), lambda x, c: o.square(x))
unary("power", lambda x, c: o.power(x, c(3)), lambda x, c: o.square(x) * x)
unary("power", lambda x, c: o.power(x, c(-1)), lambda x, c: o.divide(c(1), x))
unary("power", lambda x, c: o.power(o.absolute(x), c(0.5)), lambda x, c: o.sqrt(o.absolute(x)))
unary("power", lambda x, c: o.power(o.absolute(x), c(-0.5)), lambda x, c: o.divide(c(1), o.sqrt(o.absolute(x))))
unary("power", lambda x, c: o.power(x, c(0.5)), "the root of -inf or -0.0 is another one")
unary("square_of_sqrt", lambda x, c: o.square(o.sqrt(x)), same)
binary("product_with_inverse", lambda x, y: y * o.divide(o.scalar(1, x.dtype), x), lambda x, y: y / x)
unary("stopped", lambda x, c: o.stop_gradient(x), same, "fi")


@row("product_with_inverse")
def _(leaf: Leaves) -> Any:
    x, y = leaf(9), leaf()
    return y * o.divide(leaf.c(1), x), "to divide by few numbers"


@row("outer_negative", "fi")
def _(leaf: Leaves) -> Any:
    x, y = leaf(9), leaf()
    return (-x) * y, "there would be more to turn"


@row("neutral", "fi")  # what is stretched by ones is stretched without them
def _(leaf: Leaves) -> Any:
    x = leaf(9, 1)
    return x * leaf.c(np.ones(4)), o.broadcast_to(x, shape=(9, 4))


@row("neutral", "fi")
def _(leaf: Leaves) -> Any:
    x, y = leaf(None, 1), leaf(None, 3)
    return o.multiply(x * y, leaf.c([1, 1, 1])), x * y


@row("neutral", "fi")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 1)
    return x * leaf.c([[1, 1, 1]]), "a size is unknown that another operand has to agree with"


# ---------------------------------------------------------------------------------------------------- constants

unary("factors_of_integers", lambda x, c: (x * c(3)) * c(5), lambda x, c: x * c(15), "i")
unary("factors", lambda x, c: (x * c(3)) * c(5), lambda x, c: x * c(15))
unary("factors", lambda x, c: (c(3) * x) * c(np.arange(1, 10)), lambda x, c: x * c(3 * np.arange(1, 10)))
unary("factors", lambda x, c: (x / c(4)) * c(6), lambda x, c: x * c(1.5))
unary("factors", lambda x, c: (x * c(6)) / c(4), lambda x, c: x * c(1.5))
unary("factors", lambda x, c: (x / c(3)) / c(5), lambda x, c: x / c(15))
unary("factors", lambda x, c: o.divide(c(3), x) * c(5), lambda x, c: o.divide(c(15), x))
unary("factors", lambda x, c: o.divide(c(6), x) / c(4), lambda x, c: o.divide(c(1.5), x))
unary("factors", lambda x, c: o.divide(c(6), x * c(4)), lambda x, c: o.divide(c(1.5), x))
unary("factors", lambda x, c: o.divide(c(3), x / c(5)), lambda x, c: o.divide(c(15), x))
unary("factors", lambda x, c: o.divide(c(6), o.divide(c(4), x)), lambda x, c: x * c(1.5))
unary("factors", lambda x, c: (x * c(3e-4)) * c(3e-5 if x.dtype == "float16" else 0), "the constants make one that is larger, or not as exact")
unary("factors", lambda x, c: (x * c(np.full((9, 1), 2))) * c(np.full(9, 2)), "the constants make one that is larger, or not as exact")
unary("through_power_of_two", lambda x, c: x / c(8), lambda x, c: x * c(0.125))
unary("through_power_of_two", lambda x, c: x / c(-0.5), lambda x, c: x * c(-2))
unary("through_power_of_two", lambda x, c: x / c(6), "it is no power of two")
unary("through_power_of_two", lambda x, c: o.sum(x, axis=(0,), keepdims=True) / c(8), "means are known by their form")
unary("terms", lambda x, c: (x + c(1)) + c(2), lambda x, c: x + c(3))
unary("terms", lambda x, c: (x - c(1)) + c(2), lambda x, c: x + c(1))
unary("terms", lambda x, c: (x + c(1)) - c(3), lambda x, c: x - c(2))
unary("terms", lambda x, c: (x - c(1)) - c(2), lambda x, c: x - c(3))
unary("terms", lambda x, c: o.subtract(c(1), x) + c(2), lambda x, c: o.subtract(c(3), x))
unary("terms", lambda x, c: o.subtract(c(1), x) - c(2), lambda x, c: o.subtract(c(-1), x))
unary("terms", lambda x, c: o.subtract(c(1), o.subtract(c(1), x)), lambda x, c: x + c(0))
unary("terms", lambda x, c: o.subtract(c(1), x + c(2)), lambda x, c: o.subtract(c(-1), x))
unary("terms", lambda x, c: o.subtract(c(1), x - c(2)), lambda x, c: o.subtract(c(3), x))
unary("terms", lambda x, c: (x + c(1)) + c(1e-7), "their sum is not exact")
unary("terms", lambda x, c: (x + c(np.finfo(x.dtype).max)) + c(np.finfo(x.dtype).max), "their sum is not finite")
unary("terms", lambda x, c: (x + c(np.nan)) + c(1), "they are no finite numbers")
unary("through_power_of_two", lambda x, c: x / c(np.finfo(x.dtype).smallest_subnormal), "its inverse is no such number")
unary("terms_of_integers", lambda x, c: (x + c(1)) + c(2), lambda x, c: x + c(3), "i")
unary("terms_of_integers", lambda x, c: (x - c(1)) + c(2), lambda x, c: x + c(1), "i")
unary("terms_of_integers", lambda x, c: o.subtract(c(5), o.subtract(c(4), x)), lambda x, c: x + c(1), "i")
unary("terms_of_integers", lambda x, c: o.subtract(c(5), x + c(4)), lambda x, c: o.subtract(c(1), x), "i")
unary("doubled", lambda x, c: x + x, lambda x, c: x * c(2), "fi")
unary("multiples_of_integers", lambda x, c: x * c(3) + c(4) * x, lambda x, c: x * c(7), "i")
unary("multiples_of_integers", lambda x, c: x - x * c(2), lambda x, c: x * o.constant_of(np.array(1 - 2).astype(x.dtype)), "s")
unary("multiples", lambda x, c: x * c(3) + c(4) * x, lambda x, c: x * c(7))
unary("multiples", lambda x, c: x * c(3) - x * c(4), lambda x, c: x * c(-1))
unary("multiples", lambda x, c: x * c(3) + x, lambda x, c: x * c(4))
unary("multiples", lambda x, c: x - x * c(0.25), lambda x, c: x * c(0.75))
unary("multiples", lambda x, c: x * c(3) - x, lambda x, c: x * c(2))
unary("multiples", lambda x, c: x * c(3) - x * c(3), "the constants make one that is larger, or not as exact")


@row("common_factor", "i")
def _(leaf: Leaves) -> Any:
    a, x, y = leaf(), leaf(), leaf()
    return a * x + y * a, a * (x + y)


@row("common_factor", "i")
def _(leaf: Leaves) -> Any:
    a, x, y = leaf(), leaf(9), leaf(9, 1)
    return a * x + y * a, "no factor is common, or the sum would be larger than its terms"


@row("factor_of_mean", "w")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 3)
    share = o.divide(leaf.c(1), o.cast(o.size(x, axes=(0, 1)), dtype=leaf.dtype))
    return (leaf.c(2) * x) * share, x * (share * leaf.c(2))


@row("factor_of_mean", "h")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 3)
    share = o.divide(leaf.c(1), o.cast(o.size(x, axes=(0, 1)), dtype=leaf.dtype))
    return (leaf.c(2) * x) * share, "their product may overflow"


# ---------------------------------------------------------------------------------------------------- choices

for op in (o.maximum, o.minimum):
    unary("of_itself", lambda x, c, op=op: op(x, x), same, "fib")
for op in (o.logical_and, o.logical_or):
    unary("of_itself", lambda x, c, op=op: op(x, x), same, "b")
unary("beyond_all", lambda x, c: o.maximum(x, c(-np.inf)), same)
unary("beyond_all", lambda x, c: o.minimum(c(np.inf), x), same)
unary("beyond_all", lambda x, c: o.maximum(o.square(x), c(0)), lambda x, c: o.square(x))
unary("beyond_all", lambda x, c: o.maximum(x, c(0)), "there are numbers beyond it")
unary("beyond_all", lambda x, c: o.maximum(x, c(np.inf)), "there are numbers beyond it")
unary("beyond_all", lambda x, c: o.maximum(x, c(np.iinfo(x.dtype).min)), same, "i")
unary("beyond_all", lambda x, c: o.minimum(x, c(np.iinfo(x.dtype).max)), same, "i")
unary("extremes", lambda x, c: o.maximum(o.maximum(x, c(1)), c(3)), lambda x, c: o.maximum(x, c(3)), "fi")
unary("extremes", lambda x, c: o.minimum(o.minimum(x, c(1)), c(3)), lambda x, c: o.minimum(x, c(1)), "fi")
unary("extremes", lambda x, c: o.maximum(o.maximum(x, c(0.0)), c(-0.0)), "they are not two numbers, the one above the other")
unary("never_so", lambda x, c: o.less(x, x), truth(False), "fi")
unary("never_so", lambda x, c: o.not_equal(x, x), truth(False), "i")
unary("never_so", lambda x, c: o.not_equal(x, x), "it is of another kind than int")
unary("always_so", lambda x, c: o.equal(x, x), truth(True), "i")
unary("always_so", lambda x, c: o.greater_equal(x, x), truth(True), "i")
unary("always_so", lambda x, c: o.equal(x, x), "it is of another kind than int")
unary("below_all", lambda x, c: o.less(o.square(x), c(0)), truth(False))
unary("below_all", lambda x, c: o.greater(c(-np.inf), x), truth(False))
unary("below_all", lambda x, c: o.less(x, c(0)), truth(False), "u")
unary("below_all", lambda x, c: o.less(x, c(0)), "there are numbers below it", "fs")
unary("not_below_all", lambda x, c: o.greater_equal(x, c(0)), truth(True), "u")
unary("not_below_all", lambda x, c: o.less_equal(c(0), x), "there are numbers below it", "s")
for name, turned, rows in (
    ("truth_again", False, ((o.not_equal, 0), (o.greater, 0), (o.equal, 1))), ("truth_turned", True, ((o.equal, 0), (o.not_equal, 1))),
):  # fmt: skip
    for op, number in rows:
        for dtype in ("uint8", "float32"):
            unary(
                name, lambda x, c, op=op, number=number, dtype=dtype: op(o.cast(x, dtype=dtype), o.scalar(number, dtype)),
                (lambda x, c: o.logical_not(x)) if turned else same, "b",
            )  # fmt: skip
unary("not_not", lambda x, c: o.logical_not(o.logical_not(x)), same, "b")
unary("neutral_truth", lambda x, c: o.logical_and(c(True), x), same, "b")
unary("neutral_truth", lambda x, c: o.logical_or(x, c(False)), same, "b")
unary("no_truth", lambda x, c: o.logical_and(x, c(False)), truth(False), "b")
unary("no_truth", lambda x, c: o.logical_and(o.logical_not(x), x), truth(False), "b")
unary("all_truth", lambda x, c: o.logical_or(x, c(True)), truth(True), "b")
unary("all_truth", lambda x, c: o.logical_or(x, o.logical_not(x)), truth(True), "b")
binary("opposite", lambda x, y: o.logical_not(o.equal(x, y)), lambda x, y: o.not_equal(x, y), "fi")
binary("opposite", lambda x, y: o.logical_not(o.not_equal(x, y)), lambda x, y: o.equal(x, y), "fi")
for op, other in ((o.less, o.greater_equal), (o.greater_equal, o.less), (o.greater, o.less_equal), (o.less_equal, o.greater)):
    binary("opposite", lambda x, y, op=op: o.logical_not(op(x, y)), lambda x, y, other=other: other(x, y), "i")
binary("opposite", lambda x, y: o.logical_not(o.less(x, y)), "NaN is neither below nor above")


def chosen(rule: str, before: Callable[..., Node], after: Any, kinds: str = "fi") -> None:
    """Of a condition and two operands."""

    def made(leaf: Leaves) -> tuple[Node, Node | str]:
        given = leaf(dtype="bool"), leaf(), leaf()
        return before(*given), after(*given)

    ROWS.append(Row(rule, made, kinds))


TRUE, FALSE = o.scalar(True, "bool"), o.scalar(False, "bool")
chosen("either", lambda c, x, y: o.where(c, x, x), lambda c, x, y: x)
chosen("surely", lambda c, x, y: o.where(TRUE, x, y), lambda c, x, y: x)
chosen("surely_not", lambda c, x, y: o.where(FALSE, x, y), lambda c, x, y: y)
chosen("where_not", lambda c, x, y: o.where(o.logical_not(c), x, y), lambda c, x, y: o.where(c, y, x))
chosen("where_again", lambda c, x, y: o.where(c, o.where(c, x, y), x + y), lambda c, x, y: o.where(c, x, x + y))
chosen("where_again", lambda c, x, y: o.where(c, x + y, o.where(c, x, y)), lambda c, x, y: o.where(c, x + y, y))
chosen("truth_chosen", lambda c, x, y: o.where(c, TRUE, FALSE), lambda c, x, y: c, "b")
chosen("untruth_chosen", lambda c, x, y: o.where(c, FALSE, TRUE), lambda c, x, y: o.logical_not(c), "b")


@row("either", "fi")
def _(leaf: Leaves) -> Any:
    c, x = leaf(None, 3, dtype="bool"), leaf(None, 3)
    return o.where(c, x, x), "a size is unknown that another operand has to agree with"


@row("either", "fi")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 3)
    one = o.max(x, axis=(0,), keepdims=True)
    return o.where(o.less(x, x), one, one), o.broadcast_like(one, o.less(x, x))


@row("either", "f")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 3)
    return o.where(o.less(x, leaf.c(0)), x, x), x


@row("surely", "f")
def _(leaf: Leaves) -> Any:
    x, y = leaf(3), leaf(2, 3)
    return o.where(TRUE, x, y), o.broadcast_to(x, shape=(2, 3))

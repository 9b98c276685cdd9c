"""Neutral and absorbing numbers, signs, inverse functions, powers."""

from __future__ import annotations

from math import copysign

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.fitting import fitted, instead
from kgraph.ir.passes.simplify.signs import never_negative
from kgraph.ir.pattern import alone, const, number_of, p, var
from kgraph.ir.rewrite import Rules

X, Y, C = var("x"), var("y"), const("c")
FLOAT, INT = var("x", "float"), var("x", "int")

arithmetic = Rules("simplify")
rule = arithmetic.rule


def filled(value: float, out: Node) -> Node | str:
    """One number in the place of out."""
    return fitted(o.scalar(value, out.type.dtype), out)


# ---------------------------------------------------------------------------------------------------- neutral numbers

# These look for any constant and then at its value: a number in a pattern may be a stretched one too, so that it would be tried
# wherever two operands meet. (Where another operand has the shape, stretched numbers have become plain ones.)

def _is(c: Node, *values: float) -> bool:
    """Whether a constant is one of some numbers; the sign of a zero counts where it is a float."""
    found = number_of(c)
    if found is None or found not in values:
        return False
    return found.__class__ is int or any(found == v and copysign(1, found) == copysign(1, v) for v in values)


@rule(X + C, X - C, X * C, X / C, p.floor_divide(INT, C), INT**C)
def neutral(x: Node, c: Node, out: Node) -> Node | str:
    """x + -0.0, x - 0.0, x * 1, x / 1 -> x; of integers x + 0, x - 0, x // 1, x ** 1 -> x

    ``-0.0 + 0.0`` is 0.0: that is `plus_zero`.
    """
    wanted = (-0.0,) if out.op is o.add else (0.0,) if out.op is o.subtract else (1.0,)
    return fitted(x, out) if _is(c, *wanted) else f"it is not {wanted[0]}"


@rule(FLOAT + C, FLOAT - C, claim="rounding")
def plus_zero(x: Node, c: Node, out: Node) -> Node | str:
    """x + 0.0 -> x, a zero with its sign"""
    return fitted(x, out) if _is(c, 0.0 if out.op is o.add else -0.0) else "it is another number"


@rule(C - X, X * C, X / C)
def turned(x: Node, c: Node, out: Node) -> Node | str:
    """-0.0 - x, x * -1, x / -1 -> -x; of integers 0 - x -> -x"""
    return fitted(o.negative(x), out) if _is(c, -0.0 if out.op is o.subtract else -1.0) else "it is another number"


@rule(FLOAT**C, claim="rounding")
def first_power(x: Node, c: Node, out: Node) -> Node | str:
    """x ** 1 -> x: NumPy 1.26 may give its neighbour"""
    return fitted(x, out) if _is(c, 1.0) else "it is another power"


@rule(C - FLOAT, claim="rounding")
def from_zero(x: Node, c: Node, out: Node) -> Node | str:
    """0.0 - x -> -x, a zero with its sign"""
    return fitted(o.negative(x), out) if _is(c, 0.0) else "it is another number"


@rule(X**C)
def to_the_zero(x: Node, c: Node, out: Node) -> Node | str:
    """x ** 0 -> 1, of NaN too"""
    return filled(1, out) if _is(c, 0.0, -0.0) else "it is another number"


@rule(INT * C, p.remainder(INT, C))
def nothing(x: Node, c: Node, out: Node) -> Node | str:
    """x * 0, x % 1 -> 0, of integers"""
    return filled(0, out) if _is(c, 0 if out.op is o.multiply else 1) else "it is another number"


@rule(INT - INT)
def no_difference(x: Node, out: Node) -> Node | str:
    """x - x -> 0, of integers"""
    return filled(0, out)


@rule(FLOAT * C, C / FLOAT, claim="finite")
def finite_nothing(x: Node, c: Node, out: Node) -> Node | str:
    """x * 0.0, 0.0 / x -> 0.0, of finite numbers, and of no zero below"""
    return filled(0.0, out) if _is(c, 0.0, -0.0) else "it is another number"


@rule(FLOAT - FLOAT, claim="finite")
def no_finite_difference(x: Node, out: Node) -> Node | str:
    """x - x -> 0.0, of finite numbers"""
    return filled(0.0, out)


@rule(FLOAT / FLOAT, claim="finite")
def finite_one(x: Node, out: Node) -> Node | str:
    """x / x -> 1, of finite numbers other than zero"""
    return filled(1.0, out)


# ---------------------------------------------------------------------------------------------------- signs


@rule(p.negative(p.negative(X)))
def twice_negative(x: Node) -> Node:
    """-(-x) -> x"""
    return x


@rule(p.negative(alone(p.subtract(INT, Y))))
def negative_difference_of_integers(x: Node, y: Node) -> Node:
    """-(x - y) -> y - x, of integers"""
    return o.subtract(y, x)


@rule(p.negative(alone(p.subtract(FLOAT, Y))), claim="rounding")
def negative_difference(x: Node, y: Node) -> Node:
    """-(x - y) -> y - x: 0.0 where x is y, and not -0.0"""
    return o.subtract(y, x)


@rule(X + p.negative(Y))
def add_negative(x: Node, y: Node) -> Node:
    """x + (-y) -> x - y"""
    return o.subtract(x, y)


@rule(X - p.negative(Y))
def subtract_negative(x: Node, y: Node) -> Node:
    """x - (-y) -> x + y"""
    return o.add(x, y)


@rule(p.negative(X) * p.negative(Y), p.negative(X) / p.negative(Y))
def both_negative(x: Node, y: Node, out: Node) -> Node:
    """(-x) * (-y) -> x * y; (-x) / (-y) -> x / y"""
    return out.op(x, y)


@rule(p.negative(X) * const("c"), p.negative(X) / const("c"), const("c") / p.negative(X))
def negative_constant(x: Node, c: Node, out: Node) -> Node:
    """(-x) * c -> x * (-c); (-x) / c -> x / (-c); c / (-x) -> (-c) / x"""
    turned = o.constant_of(-c.attrs[0][1].array)
    return out.op(turned, x) if out.inputs[0] is c else out.op(x, turned)


@rule(alone(p.negative(X)) * Y, alone(p.negative(X)) / Y, p.divide(Y, alone(p.negative(X))))
def outer_negative(x: Node, y: Node, out: Node) -> Node | str:
    """(-x) * y -> -(x * y); (-x) / y -> -(x / y); y / (-x) -> -(y / x): there it meets a sum, or another sign"""
    if x.type is not out.type:
        return "there would be more to turn"
    return o.negative(out.op(y, x) if out.op is o.divide and out.inputs[0] is y else out.op(x, y))


@rule(*[op(alone(p.negative(X))) for op in (p.expand_dims, p.squeeze, p.reshape, p.transpose, p.flip)])
def moved_negative(x: Node, out: Node) -> Node:
    """expand_dims(-x) -> -expand_dims(x); so squeeze, reshape, transpose and flip: there it meets a sum, or a constant"""
    return o.negative(out.op.apply((x,), out.attrs))


@rule(p.square(p.negative(X)))
def square_of_negative(x: Node) -> Node:
    """square(-x) -> square(x)"""
    return o.square(x)


@rule(p.square(p.absolute(X)))
def square_of_absolute(x: Node) -> Node:
    """square(abs(x)) -> square(x)"""
    return o.square(x)


@rule(p.absolute(p.negative(X)))
def absolute_of_negative(x: Node) -> Node | str:
    """abs(-x) -> abs(x)"""
    return "-x of an integer without sign is another number" if x.type.dtype == "uint8" else o.absolute(x)


@rule(*[p.absolute(op(X)) for op in (p.square, p.absolute, p.exp, p.sigmoid, p.softmax, p.sum, p.sqrt)])
def absolute_of_positive(out: Node) -> Node | str:
    """abs(x) -> x, where x is never negative"""
    (x,) = out.inputs
    if x.op is o.absolute or x.type.dtype == "uint8" or never_negative(x):
        return x
    return "it may be negative"


@rule(
    p.relu(p.relu(X)), p.sign(p.sign(X)), p.round(p.round(X)), p.round(p.floor(X)), p.floor(p.floor(X)), p.floor(p.round(X)),
)  # fmt: skip
def once_is_enough(out: Node) -> Node:
    """relu(relu(x)) -> relu(x); so sign, round and floor"""
    return out.inputs[0]


@rule(*[p.relu(op(X)) for op in (p.square, p.absolute, p.exp, p.sigmoid, p.softmax, p.sum, p.sqrt)])
def relu_of_positive(out: Node) -> Node | str:
    """relu(x) -> x, where x is never negative"""
    (x,) = out.inputs
    return x if never_negative(x) else "it may be negative"


# ---------------------------------------------------------------------------------------------------- inverse functions


@rule(p.log(p.exp(X)), p.log1p(p.expm1(X)), claim="rounding")
def log_of_exp(x: Node) -> Node:
    """log(exp(x)), log1p(expm1(x)) -> x, finite for every finite x"""
    return x


@rule(p.exp(p.log(X)), p.square(p.sqrt(X)), claim="rounding")
def exp_of_log(x: Node) -> Node | str:
    """exp(log(x)), square(sqrt(x)) -> x, where x is never negative"""
    return x if never_negative(x) else "of a negative number it is NaN"


@rule(p.expm1(p.log1p(X)), claim="rounding")
def expm1_of_log1p(x: Node) -> Node | str:
    """expm1(log1p(x)) -> x, where x is never negative"""
    return x if never_negative(x) else "below -1 it is NaN"


# ---------------------------------------------------------------------------------------------------- powers


@rule(X * X)
def squared(x: Node) -> Node:
    """x * x -> square(x)"""
    return o.square(x)


@rule(INT**C)
def power_of_integer(x: Node, c: Node, out: Node) -> Node | str:
    """x ** 2 -> square(x); x ** 3 -> square(x) * x; of integers"""
    if not _is(c, 2, 3):
        return "it takes more products"
    made = o.square(x)
    return fitted(made if _is(c, 2) else o.multiply(made, x), out)


@rule(FLOAT**C, claim="rounding")
def power(x: Node, c: Node, out: Node) -> Node | str:
    """x ** 2 -> square(x); x ** 3 -> square(x) * x; x ** -1 -> 1 / x; where x is never negative also x ** 0.5 -> sqrt(x)

    and x ** -0.5 -> 1 / sqrt(x).
    """
    n = number_of(c)
    if n not in (2, 3, -1, 0.5, -0.5):
        return "it is no such power"
    if n in (0.5, -0.5) and not never_negative(x):
        return "the root of -inf or -0.0 is another one"
    one = o.scalar(1.0, x.type.dtype)
    if n == 2:
        made = o.square(x)
    elif n == 3:
        made = o.multiply(o.square(x), x)
    elif n == -1:
        made = o.divide(one, x)
    else:
        made = o.sqrt(x) if n == 0.5 else o.divide(one, o.sqrt(x))
    return fitted(made, out)


@rule(p.square(alone(p.sqrt(X))), claim="finite")
def square_of_sqrt(x: Node) -> Node:
    """square(sqrt(x)) -> x, for x from 0 on"""
    return x


@rule(p.multiply(Y, alone(p.divide(1.0, X))), claim="rounding")
def product_with_inverse(x: Node, y: Node, out: Node) -> Node | str:
    """y * (1 / x) -> y / x"""
    if x.type is not out.type:
        return "to divide by few numbers, and to multiply by their inverses, takes less time"
    return instead(o.divide(y, x), out, *out.inputs)


@rule(p.stop_gradient(X))
def stopped(x: Node) -> Node:
    """stop_gradient(x) -> x: gradients are taken before"""
    return x

"""Neutral and absorbing numbers, signs, inverse functions, powers."""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.fitting import fitted, instead
from kgraph.ir.passes.simplify.signs import never_negative
from kgraph.ir.pattern import alone, const, number_of, p, var
from kgraph.ir.rewrite import Rules

X, Y = var("x"), var("y")
FLOAT, INT = var("x", "float"), var("x", "int")

arithmetic = Rules("simplify")
rule = arithmetic.rule


def filled(value: float, out: Node) -> Node | str:
    """One number in the place of out."""
    return fitted(o.scalar(value, out.type.dtype), out)


# ---------------------------------------------------------------------------------------------------- neutral numbers


@rule(X + -0.0, FLOAT - 0.0, INT + 0, INT - 0, X * 1.0, X / 1.0, p.floor_divide(INT, 1), X**1.0)
def neutral(x: Node, out: Node) -> Node | str:
    """x + -0.0, x - 0.0, x * 1, x / 1, x ** 1 -> x; of integers x + 0, x - 0, x // 1 -> x

    ``-0.0 + 0.0`` is 0.0: that is `plus_zero`.
    """
    return fitted(x, out)


@rule(FLOAT + 0.0, FLOAT - -0.0, claim="rounding")
def plus_zero(x: Node, out: Node) -> Node | str:
    """x + 0.0 -> x, a zero with its sign"""
    return fitted(x, out)


@rule(p.subtract(-0.0, X), p.subtract(0, INT), X * -1.0, X / -1.0)
def turned(x: Node, out: Node) -> Node | str:
    """-0.0 - x, x * -1, x / -1 -> -x; of integers 0 - x -> -x"""
    return fitted(o.negative(x), out)


@rule(p.subtract(0.0, FLOAT), claim="rounding")
def from_zero(x: Node, out: Node) -> Node | str:
    """0.0 - x -> -x, a zero with its sign"""
    return fitted(o.negative(x), out)


@rule(X**0.0)
def to_the_zero(x: Node, out: Node) -> Node | str:
    """x ** 0 -> 1, of NaN too"""
    return filled(1, out)


@rule(INT * 0, p.remainder(INT, 1), INT - INT)
def nothing(x: Node, out: Node) -> Node | str:
    """x * 0, x % 1, x - x -> 0, of integers"""
    return filled(0, out)


@rule(FLOAT * 0.0, FLOAT * -0.0, p.divide(0.0, FLOAT), FLOAT - FLOAT, claim="finite")
def finite_nothing(x: Node, out: Node) -> Node | str:
    """x * 0.0, 0.0 / x, x - x -> 0.0, of finite numbers, and of no zero below"""
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


@rule(X * X, INT**2)
def squared(x: Node) -> Node:
    """x * x -> square(x); of integers x ** 2 -> square(x)"""
    return o.square(x)


@rule(INT**3)
def cubed_integer(x: Node) -> Node:
    """x ** 3 -> square(x) * x, of integers"""
    return o.multiply(o.square(x), x)


@rule(*[FLOAT**n for n in (2.0, 3.0, -1.0, 0.5, -0.5)], claim="rounding")
def power(x: Node, out: Node) -> Node | str:
    """x ** 2 -> square(x); x ** 3 -> square(x) * x; x ** -1 -> 1 / x; where x is never negative also x ** 0.5 -> sqrt(x)

    and x ** -0.5 -> 1 / sqrt(x).
    """
    n = number_of(out.inputs[1])
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

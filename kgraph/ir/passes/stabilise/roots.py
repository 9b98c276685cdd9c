"""Squares: under a root, and in variances."""

from __future__ import annotations

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.stabilise.rules import fitted, product, stabilise
from kgraph.ir.pattern import Pattern, alone, attr, named, number_of, p, var, whole
from kgraph.ir.types import product as product_of

X, Z = var("x"), var("z")
AXIS, KEEPDIMS = attr("axis"), attr("keepdims")
SQUARES = (p.square(X), X * X, X**2.0)


@stabilise.rule(
    *[p.sqrt(square) for square in SQUARES], *[p.sqrt(p.maximum(square, 0.0)) for square in SQUARES], claim="rounding"
)
def root_of_square(x: Node, out: Node) -> Node | str:
    """sqrt(x * x) -> |x|

    Right where x * x overflows, or is 0 though x is not.
    """
    return fitted(o.absolute(x), out)


@stabilise.rule(whole(o.multiply), claim="rounding")
def gradient_of_root(out: Node) -> Node | str:
    """where(x * x >= 0, g / |x|, 0) * x -> g * sign(x): the gradient of sqrt(x * x), perhaps with another factor

    Right where x * x overflows, or is 0 though x is not; 0 at 0, where the plain formula is NaN. The condition does not hold
    for NaN alone, and sign(NaN) is NaN.
    """
    a, b = out.inputs
    if a.op not in _WITH_CHOICE and b.op not in _WITH_CHOICE:
        return "no factor is a choice"
    factors = [*(a.inputs if a.op is o.multiply else (a,)), *(b.inputs if b.op is o.multiply else (b,))]
    for choice in factors:
        if choice.op is o.where and choice.inputs[1].op is o.divide and number_of(choice.inputs[2]) == 0:
            condition, quotient, _ = choice.inputs
            g, below = quotient.inputs
            if below.op is not o.absolute or below.inputs[0] not in factors or not _is_always(condition, below.inputs[0]):
                continue
            x = below.inputs[0]
            others = list(factors)
            others.remove(choice)
            others.remove(x)
            return fitted(product([g, o.sign(x), *others]), out)
    return "no factor is the gradient of the root of a square"


_WITH_CHOICE = frozenset((o.where, o.multiply))


def _is_always(condition: Node, x: Node) -> bool:
    """Whether a condition is x * x >= 0."""
    if condition.op is not o.greater_equal or number_of(condition.inputs[1]) != 0:
        return False
    square = condition.inputs[0]
    if square.op is o.square or (square.op is o.power and number_of(square.inputs[1]) == 2):
        return square.inputs[0] is x
    return square.op is o.multiply and square.inputs == (x, x)


_SUMS = [p.sum(square, axis=AXIS, keepdims=KEEPDIMS) for square in SQUARES]


@stabilise.rule(
    *[p.sqrt(named("total", each)) for each in _SUMS], *[p.sqrt(p.maximum(named("total", each), 0.0)) for each in _SUMS],
    claim="rounding",
)
def norm(x: Node, total: Node, axis: tuple[int, ...], keepdims: bool, out: Node) -> Node | str:
    """sqrt(sum(x * x)) -> m * sqrt(sum((x / m) ** 2)), m = max(|x|), where the sum overflows or has lost digits; else as it is

    Source: J. L. Blue, A portable Fortran program to find the Euclidean norm of a vector, 1978. Which of the two is decided
    once for all elements, when the program runs: a look at the sums, and no more where they are as sums mostly are.
    """
    if not axis or not all(x.type.shape[a] for a in axis):
        return "an axis of the sum may be empty"
    facts = np.finfo(x.dtype)
    zero, one, infinity = (o.scalar(number, x.dtype) for number in (0.0, 1.0, float("inf")))
    least = o.scalar(float(facts.tiny / facts.eps), x.dtype)
    safe = o.logical_and(o.greater_equal(total, least), o.less(total, infinity))
    # Under a root with another bound than 0 the rule does not find its own work again. Sums that are safe are above the bound,
    # as are those of scaled numbers: one of these is 1 or -1, but where all are 0.
    floor = o.scalar(float(facts.tiny), x.dtype)
    size = o.max(o.absolute(x), axis=axis, keepdims=True)
    scale = o.where(o.logical_and(o.greater(size, zero), o.less(size, infinity)), size, one)
    scaled = o.sqrt(o.maximum(o.sum(o.square(x / scale), axis=axis, keepdims=keepdims), floor))
    if not keepdims:
        for a in reversed(axis):
            size = o.squeeze(size, axis=a)
    is_safe = o.all(safe, axis=tuple(range(safe.ndim)), keepdims=False)
    return fitted(o.switch(is_safe, o.sqrt(o.maximum(total, floor)), size * scaled), out)


# The mean over n elements as it is built: the sum divided by a number, or times one.
def _variances(square: Pattern) -> list[Pattern]:
    found = []
    for mean in (p.divide, p.multiply):
        of_squares = mean(alone(p.sum(alone(square), axis=AXIS, keepdims=KEEPDIMS)), Z)
        of_all = mean(p.sum(X, axis=AXIS, keepdims=KEEPDIMS), Z)
        found += [of_squares - p.square(of_all), of_squares - of_all * of_all, of_squares - of_all**2.0]
    return found


@stabilise.rule(*[pattern for square in SQUARES for pattern in _variances(square)], claim="rounding")
def variance(x: Node, z: Node, out: Node, axis: tuple[int, ...], keepdims: bool) -> Node | str:
    """mean(x * x) - mean(x) ** 2 -> mean((x - mean(x)) ** 2)

    It keeps the digits of a variance that is small next to the mean, and is not below 0. Finite where x * x overflows and the
    deviations do not. It costs one subtraction of the size of x.
    """
    if not isinstance(axis, tuple) or any(size != 1 for size in z.type.shape):
        return "what is divided by is no scalar"
    mean_op = out.inputs[0].op
    if not _is_count(z, mean_op is o.divide, x, axis):
        return "what is divided by is not the number of elements"
    mean = out.inputs[1].inputs[0]
    if not keepdims:
        for a in axis:
            mean = o.expand_dims(mean, axis=a)
    squares = o.square(x - mean)
    return fitted(mean_op(o.sum(squares, axis=axis, keepdims=keepdims), z), out)


def _is_count(z: Node, divides: bool, x: Node, axis: tuple[int, ...]) -> bool:
    """Whether z is the number of elements over axis, or one by it."""
    count = product_of([x.type.shape[a] for a in axis])
    if count is not None:
        number = number_of(z)
        return number is not None and count > 0 and number == (count if divides else 1 / count)
    n = z.inputs[0] if z.op is o.cast else z
    return divides and n.op is o.size and n.inputs[0] is x and n.attr("axes") == axis

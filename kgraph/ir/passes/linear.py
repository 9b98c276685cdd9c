"""Linear algebra: products in the order that costs least, factors and biases where there are fewest elements.

What is scaled or shifted after a product of matrices or a convolution can be in its weights instead: batch normalisation of a
test program goes into the kernel and the bias of the layer before it. The sums of a product have rounding errors of their own,
larger than what the other order adds to them. After anything else, a difference that cancels would lose its digits: so these
rules stay with products.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.joining import swapped, swaps
from kgraph.ir.pattern import Pattern, alone, attr, named, p, var, whole
from kgraph.ir.rewrite import Rules

linear = Rules("linear")

X, Y, Z, B, C, S = var("x"), var("y"), var("z"), var("b"), var("c"), var("s")

#: What sizes that are not known are tried as: what costs less for both costs less.
_TRIED = (1, 1_000_000)


def _elements(node: Node, unknown: int) -> int:
    return math.prod([unknown if size is None else size for size in node.type.shape])


def _less(one: Callable[[int], int], other: Callable[[int], int]) -> bool:
    """Whether one count is less than another, whatever the sizes that are not known."""
    return all(one(unknown) < other(unknown) for unknown in _TRIED)


def _smaller(x: Node, y: Node) -> bool:
    return _less(lambda unknown: _elements(x, unknown), lambda unknown: _elements(y, unknown))


# ---------------------------------------------------------------------------------------------------- the order of products


def _products(x: Node, y: Node, unknown: int) -> int:
    return _elements(x, unknown) * (unknown if y.type.shape[-1] is None else y.type.shape[-1])


@linear.rule(p.matmul(alone(named("c", p.matmul(X, Y))), Z), claim="rounding")
def right_first(x: Node, y: Node, z: Node, c: Node) -> Node | str:
    """(x @ y) @ z -> x @ (y @ z), where that is fewer products"""
    after = o.matmul(y, z)
    if _less(lambda n: _products(y, z, n) + _products(x, after, n), lambda n: _products(x, y, n) + _products(c, z, n)):
        return o.matmul(x, after)
    return "it would not be fewer products"


@linear.rule(p.matmul(X, alone(named("c", p.matmul(Y, Z)))), claim="rounding")
def left_first(x: Node, y: Node, z: Node, c: Node) -> Node | str:
    """x @ (y @ z) -> (x @ y) @ z, where that is fewer products"""
    after = o.matmul(x, y)
    if _less(lambda n: _products(x, y, n) + _products(after, z, n), lambda n: _products(y, z, n) + _products(x, c, n)):
        return o.matmul(after, z)
    return "it would not be fewer products"


@linear.rule(
    p.transpose(alone(p.matmul(p.transpose(X, perm=attr("inner")), Y)), perm=attr("outer")),
    claim="rounding",
)
def transposed_left(x: Node, y: Node, inner: tuple[int, ...], outer: tuple[int, ...]) -> Node | str:
    """transpose(transpose(x) @ y) -> transpose(y) @ x"""
    return o.matmul(swapped(y), x) if swaps(inner) and swaps(outer) else "other axes change places"


@linear.rule(
    p.transpose(alone(p.matmul(X, p.transpose(Y, perm=attr("inner")))), perm=attr("outer")),
    claim="rounding",
)
def transposed_right(x: Node, y: Node, inner: tuple[int, ...], outer: tuple[int, ...]) -> Node | str:
    """transpose(x @ transpose(y)) -> y @ transpose(x)"""
    return o.matmul(y, swapped(x)) if swaps(inner) and swaps(outer) else "other axes change places"


# ---------------------------------------------------------------------------------------------------- factors


def _is_scalar(x: Node) -> bool:
    return all(size == 1 for size in x.type.shape)


def _number(s: Node) -> Node:
    return o.reshape(s, shape=()) if s.ndim else s


@linear.rule(p.matmul(alone(X * S), Y), p.matmul(Y, alone(X * S)), claim="rounding")
def factor_out(x: Node, s: Node, y: Node, out: Node) -> Node | str:
    """(s * x) @ y -> s * (x @ y), for a scalar s, where the product has fewer elements"""
    if not _is_scalar(s) or x.ndim != out.ndim:
        return "the factor is no scalar"
    if not _smaller(out, x):
        return "the product has no fewer elements"
    first = out.inputs[0].op is o.multiply and out.inputs[1] is y
    return _number(s) * (o.matmul(x, y) if first else o.matmul(y, x))


@linear.rule(alone(p.matmul(X, Y)) * S, claim="rounding")
def factor_in(x: Node, y: Node, s: Node, out: Node) -> Node | str:
    """(x @ y) * s -> (x * s) @ y, for a scalar s, where x or y has fewer elements than the product"""
    if not _is_scalar(s) or s.ndim > x.ndim:
        return "the factor is no scalar"
    s = _number(s)
    if _smaller(x, out) and not _smaller(y, x):
        return o.matmul(x * s, y)
    return o.matmul(x, y * s) if _smaller(y, out) else "neither operand has fewer elements than the product"


# ---------------------------------------------------------------------------------------------------- weights of a layer


def _product(alone_too: bool = True) -> tuple[Pattern, ...]:
    """A product of matrices or a convolution, bound to y: x by weights z."""
    made = (named("y", p.matmul(X, Z)), named("y", p.conv(X, Z)))
    return tuple([alone(each) for each in made]) if alone_too else made


def _along_last(s: Node, y: Node) -> Node | None:
    """What has one number for each index of the last axis of y, or one for all: as a vector, or a scalar; None for the rest."""
    *rest, last = s.type.shape if s.ndim else (1,)
    if s.ndim > y.ndim or any(size != 1 for size in rest) or last not in (1, y.type.shape[-1]) or last is None:
        return None
    return o.reshape(s, shape=(last,) if last != 1 else ()) if s.ndim != (last != 1) else s


def _applied(y: Node, weights: Node) -> Node:
    return y.op.apply((y.inputs[0], weights), y.attrs)


@linear.rule(*[each * S for each in _product()], *[each / S for each in _product()], claim="rounding")
def scale_in_weights(y: Node, s: Node, z: Node, out: Node) -> Node | str:
    """conv(x, z) * s -> conv(x, z * s), where the weights z have fewer elements; the same of matmul, and of a quotient"""
    factor = _along_last(s, y)
    if factor is None or y.type is not out.type:
        return "it is no factor for each of the last axis"
    if not _smaller(z, y):
        return "the weights have no fewer elements"
    return _applied(y, z / factor if out.op is o.divide else z * factor)


@linear.rule(
    *[alone(shifted) * S for each in _product() for shifted in (each + B, each - B)],
    *[alone(shifted) / S for each in _product() for shifted in (each + B, each - B)],
    claim="rounding",
)
def scale_in_bias(y: Node, b: Node, s: Node, z: Node, out: Node) -> Node | str:
    """(conv(x, z) + b) * s -> conv(x, z * s) + b * s, where the weights z and b have fewer elements"""
    factor, bias = _along_last(s, y), _along_last(b, y)
    if factor is None or bias is None or y.type is not out.type:
        return "they are no factor and no bias for each of the last axis"
    if not _smaller(z, y):
        return "the weights have no fewer elements"
    shifted = next(i for i in out.inputs if y in i.inputs)
    if out.op is o.divide:
        return shifted.op(_applied(y, z / factor), bias / factor)
    return shifted.op(_applied(y, z * factor), bias * factor)


_SHIFTED = [alone(named("shifted", shifted)) for shifted in (whole() + whole(), whole() - whole())]


@linear.rule(*[each + C for each in _SHIFTED], *[each - C for each in _SHIFTED], claim="rounding")
def one_bias(shifted: Node, c: Node, out: Node) -> Node | str:
    """(conv(x, z) + b) + c -> conv(x, z) + (b + c), where b and c have one number for each of the last axis"""
    for y, b in (shifted.inputs, shifted.inputs[::-1])[: 2 if shifted.op is o.add else 1]:
        if y.op not in (o.matmul, o.conv) or y.type is not out.type:
            continue
        first = _along_last(b, y)
        second = None if first is None else _along_last(c, y)
        if first is not None and second is not None:
            if shifted.op is o.add:
                return y + out.op(first, second)
            return y - (first - second if out.op is o.add else first + second)
    return "it is no product, or they are not both a bias for each of the last axis"

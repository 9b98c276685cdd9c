"""Reductions of what is reduced, stretched, scaled or rearranged already."""

from __future__ import annotations

import math

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.pattern import alone, attr, const, number_of, p, var, whole
from kgraph.ir.rewrite import Rules, refines
from kgraph.ir.types import kind, product

X = var("x")
FLOAT, INT = var("x", "float"), var("x", "int")

reductions = Rules("simplify")
rule = reductions.rule

_EXTREMES = (p.max, p.min, p.any, p.all)

# ---------------------------------------------------------------------------------------------------- over nothing


@rule(p.sum(INT), p.prod(X), *[op(X) for op in _EXTREMES])
def over_one(x: Node, out: Node) -> Node | str:
    """max(x) -> x, over no axes, or over axes of size 1; so min, any, all, prod, and the sum of integers"""
    return _over_one(x, out)


@rule(p.sum(FLOAT), p.logsumexp(X), claim="rounding")
def sum_over_one(x: Node, out: Node) -> Node | str:
    """sum(x), logsumexp(x) -> x, over no axes, or over axes of size 1: a zero keeps its sign"""
    return _over_one(x, out)


def _over_one(x: Node, out: Node) -> Node | str:
    axis = out.attr("axis")
    if any(x.type.shape[a] != 1 for a in axis):
        return "an axis has more than one element, or perhaps has"
    if x.type.dtype != out.type.dtype:
        return "it is of another dtype"
    if not out.attr("keepdims"):
        for a in reversed(axis):
            x = o.squeeze(x, axis=a)
    return x


# ---------------------------------------------------------------------------------------------------- twice


def _pairs(*ops: object, of: str | None = None) -> list[object]:
    return [op(alone(op(var("x", of), axis=attr("a"), keepdims=attr("k"))), axis=attr("b"), keepdims=attr("l")) for op in ops]  # type: ignore[operator]


@rule(*_pairs(*_EXTREMES), *_pairs(p.sum, p.prod, of="int"))  # type: ignore[arg-type]
def twice(x: Node, out: Node, a: tuple[int, ...], k: bool, b: tuple[int, ...], l: bool) -> Node | str:  # noqa: E741
    """max(max(x)) -> max(x), over the axes of both; so min, any, all, and sums and products of integers"""
    return _twice(x, out, a, k, b, l)


@rule(*_pairs(p.sum, of="float"), claim="rounding")  # type: ignore[arg-type]
def sum_of_sum(x: Node, out: Node, a: tuple[int, ...], k: bool, b: tuple[int, ...], l: bool) -> Node | str:  # noqa: E741
    """sum(sum(x)) -> sum(x), over the axes of both"""
    return _twice(x, out, a, k, b, l)


def _twice(x: Node, out: Node, a: tuple[int, ...], k: bool, b: tuple[int, ...], l: bool) -> Node | str:  # noqa: E741
    left = list(range(x.ndim)) if k else [axis for axis in range(x.ndim) if axis not in a]
    second = {left[axis] for axis in b}
    if k != l and not (k and set(a) <= second):
        return "axes of size 1 would have to be added, or to go"
    made = out.op(x, axis=tuple(sorted({*a, *second})), keepdims=l)
    return made if refines(made.type, out.type) else f"it would be {made.type}"


# ---------------------------------------------------------------------------------------------------- rearranged


def _of(inner: tuple[object, ...], *ops: object, of: str | None = None) -> list[object]:
    return [op(i(var("x", of)), keepdims=False) for op in ops for i in inner]  # type: ignore[operator]


_MOVES = (p.reshape, p.transpose, p.expand_dims, p.squeeze, p.flip)


@rule(*_of(_MOVES, *_EXTREMES), *_of(_MOVES, p.sum, p.prod, of="int"))  # type: ignore[arg-type]
def all_rearranged(x: Node, out: Node) -> Node | str:
    """max(reshape(x)) -> max(x), over all axes; so of transpose, expand_dims, squeeze and flip, and other reductions"""
    return _all_rearranged(x, out)


@rule(*_of(_MOVES, p.sum, of="float"), claim="rounding")  # type: ignore[arg-type]
def sum_rearranged(x: Node, out: Node) -> Node | str:
    """sum(reshape(x)) -> sum(x), over all axes; so of transpose, expand_dims, squeeze and flip"""
    return _all_rearranged(x, out)


def _all_rearranged(x: Node, out: Node) -> Node | str:
    (moved,) = out.inputs
    if len(out.attr("axis")) != moved.ndim:
        return "it is not over all axes"
    if moved.op is o.squeeze and x.type.shape[moved.attr("axis")] != 1:
        return "whether the axis has size 1 is seen when the program runs"
    return out.op(x, axis=tuple(range(x.ndim)), keepdims=False)


# ---------------------------------------------------------------------------------------------------- stretched


_STRETCHES = (o.broadcast_to, o.broadcast_like)


@rule(*[op(whole(inner)) for op in (p.max, p.min, p.any, p.all) for inner in _STRETCHES])
def extreme_of_stretched(out: Node) -> Node | str:
    """max(broadcast(x)) -> max(x), over the axes that x has; so min, any and all"""
    found = _unstretched(out)
    return found if isinstance(found, str) else found[0]


@rule(*[p.sum(whole(inner)) for inner in _STRETCHES], claim="rounding")
def sum_of_stretched(out: Node) -> Node | str:
    """sum(broadcast(x)) -> sum(x) * n, over the axes that x has, for n elements that are equal"""
    if kind(out.type.dtype) != "float":
        return "integers have a rule of their own"
    return _times_count(out)


@rule(*[p.sum(whole(inner)) for inner in _STRETCHES])
def sum_of_stretched_integers(out: Node) -> Node | str:
    """sum(broadcast(x)) -> sum(x) * n, of integers"""
    if kind(out.inputs[0].type.dtype) != "int":
        return "they are no integers"
    return _times_count(out)


def _times_count(out: Node) -> Node | str:
    found = _unstretched(out)
    if isinstance(found, str):
        return found
    reduced, count = found
    dtype = out.type.dtype
    if kind(dtype) == "float":
        return o.multiply(reduced, o.scalar(float(count), dtype)) if count <= np.finfo(dtype).max else "there are too many"
    return o.multiply(reduced, o.scalar(count, dtype)) if count <= np.iinfo(dtype).max else "there are too many"


def _unstretched(out: Node) -> tuple[Node, int] | str:
    """The reduction of what was stretched before, and how many equal elements of it there were for each that is left."""
    wide = out.inputs[0]
    x, shape, axis = wide.inputs[0], wide.type.shape, out.attr("axis")
    lead = wide.ndim - x.ndim
    gone = [a for a in axis if a < lead or (x.type.shape[a - lead] == 1 and shape[a] != 1)]
    count = product([shape[a] for a in gone])
    if not gone or not count:
        return "no axis that is stretched is reduced, or it may have no elements"
    if any(a not in axis for a in range(lead)):
        return "axes would have to be added"
    if out.attr("keepdims") and lead:
        return "axes would have to be added"
    own = tuple([a - lead for a in axis if a >= lead])
    made = out.op(x, axis=own, keepdims=out.attr("keepdims")) if own else x
    if not refines(made.type, out.type):
        # Axes that are stretched and stay: the result is stretched again.
        if None in out.type.shape:
            return f"it would be {made.type}"
        made = o.broadcast_to(made, shape=out.type.shape)
    return made, count


# ---------------------------------------------------------------------------------------------------- scaled


@rule(p.sum(alone(p.negative(FLOAT)), axis=attr("axis"), keepdims=attr("keepdims")), claim="rounding")
def sum_of_negative(x: Node, axis: tuple[int, ...], keepdims: bool) -> Node:
    """sum(-x) -> -sum(x)"""
    return o.negative(o.sum(x, axis=axis, keepdims=keepdims))


@rule(p.sum(alone(p.negative(INT)), axis=attr("axis"), keepdims=attr("keepdims")))
def sum_of_negative_integers(x: Node, axis: tuple[int, ...], keepdims: bool) -> Node:
    """sum(-x) -> -sum(x), of integers"""
    return o.negative(o.sum(x, axis=axis, keepdims=keepdims))


@rule(p.sum(alone(FLOAT * const("c")), axis=attr("axis"), keepdims=attr("keepdims")),
      p.sum(alone(FLOAT / const("c")), axis=attr("axis"), keepdims=attr("keepdims")), claim="rounding")  # fmt: skip
def sum_of_multiple(x: Node, c: Node, out: Node, axis: tuple[int, ...], keepdims: bool) -> Node | str:
    """sum(x * c) -> sum(x) * c; sum(x / c) -> sum(x) / c; where sums do not overflow that did not before"""
    value = number_of(c)
    if c.ndim or value is None or not math.isfinite(value) or not value:
        return "it is no finite number but 0"
    (scaled,) = out.inputs
    if x.type is not scaled.type:
        return "x is stretched"
    grows = abs(value) >= 1 if scaled.op is o.multiply else abs(value) <= 1
    if not grows and x.type.dtype == "float16":
        return "in float16 the sum of what is not scaled down soon overflows"
    return scaled.op(o.sum(x, axis=axis, keepdims=keepdims), c)


@rule(p.sum(alone(INT * const("c")), axis=attr("axis"), keepdims=attr("keepdims")))
def sum_of_multiple_of_integers(x: Node, c: Node, out: Node, axis: tuple[int, ...], keepdims: bool) -> Node | str:
    """sum(x * c) -> sum(x) * c, of integers"""
    if c.ndim or x.type is not out.inputs[0].type:
        return "it is no number"
    return o.multiply(o.sum(x, axis=axis, keepdims=keepdims), c)

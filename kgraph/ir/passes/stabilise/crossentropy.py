"""Cross-entropies of softmax and sigmoid whose clipped logarithms are written out, as the K functions write them."""

from __future__ import annotations

import math

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.passes.stabilise.rules import fitted, stabilise
from kgraph.ir.pattern import Pattern, alone, attr, const, number_of, p, var

T, X = var("t"), var("x")
AXIS = attr("axis")
SOFTMAX = p.softmax(X, axis=attr("along"))


@stabilise.rule(SOFTMAX / p.sum(SOFTMAX, axis=AXIS, keepdims=True), claim="rounding")
def rescaled(x: Node, along: int, axis: tuple[int, ...], out: Node) -> Node | str:
    """softmax(x) / sum(softmax(x)) -> softmax(x)"""
    return fitted(out.inputs[0], out) if axis == (along,) else "the sum is over other axes"


@stabilise.rule(p.pick(SOFTMAX, T) / p.sum(SOFTMAX, axis=AXIS, keepdims=False), claim="rounding")
def rescaled_choice(x: Node, along: int, axis: tuple[int, ...], out: Node) -> Node | str:
    """pick(softmax(x), t) / sum(softmax(x)) -> pick(softmax(x), t)"""
    return fitted(out.inputs[0], out) if axis == (along,) == (x.ndim - 1,) else "the sum is over other axes"


def _clipped(x: Pattern) -> Pattern:
    return alone(p.minimum(alone(p.maximum(x, const("low"))), const("high")))


def _bound(low: Node, high: Node) -> float | str:
    """The epsilon of a clip to [epsilon, 1 - epsilon], whose upper bound is below 1 in its dtype too."""
    least, most = number_of(low), number_of(high)
    if least is None or most is None or not 0 < least < 0.5 or low.type.shape or high.type.shape:
        return "the bounds are no numbers between 0 and 1"
    if abs(most - (1 - least)) > float(np.finfo(low.dtype).eps):
        return "the bounds are not as far from 0 and 1"
    return least


@stabilise.rule(
    p.sum(alone(T * alone(p.log(_clipped(SOFTMAX)))), axis=AXIS, keepdims=False), claim="rounding"
)  # fmt: skip
def of_classes(t: Node, x: Node, along: int, axis: tuple[int, ...], low: Node, high: Node, out: Node) -> Node | str:
    """sum(t * log(clip(softmax(x), eps, 1 - eps))) -> -softmax_crossentropy(x, t, eps)

    Fewer roundings, and one pass; the clip stays.
    """
    if axis != (x.ndim - 1,) or along != x.ndim - 1:
        return "the classes are not along the last axis"
    if t.type is not x.type:
        return "the targets have another type than the scores"
    least = _bound(low, high)
    return least if isinstance(least, str) else fitted(-o.softmax_crossentropy(x, t, o.scalar(least, x.dtype)), out)


@stabilise.rule(p.log(_clipped(p.pick(SOFTMAX, T))), claim="rounding")
def of_one_class(t: Node, x: Node, along: int, low: Node, high: Node, out: Node) -> Node | str:
    """log(clip(pick(softmax(x), t), eps, 1 - eps)) -> clip(pick(log_softmax(x), t), log(eps), log(1 - eps))"""
    if along != x.ndim - 1:
        return "the classes are not along the last axis"
    least = _bound(low, high)
    if isinstance(least, str):
        return least
    made = o.maximum(o.pick(o.log_softmax(x, axis=along), t), o.scalar(math.log(least), x.dtype))
    return fitted(o.minimum(made, o.scalar(math.log1p(-least), x.dtype)), out)


_P = var("held")
_LOG, _LOG_OF_REST = T * alone(p.log(_P)), var("rest") * alone(p.log1p(-_P))


@stabilise.rule(-_LOG - _LOG_OF_REST, -(_LOG + _LOG_OF_REST), claim="rounding")
def of_one_bit(t: Node, rest: Node, held: Node, out: Node) -> Node | str:
    """-t * log(p) - (1 - t) * log(1 - p) -> sigmoid_crossentropy(clip(x), t), for p = clip(sigmoid(x), eps, 1 - eps)

    Fewer roundings; the clip stays, as one of x.
    """
    outer = _parts(held, o.minimum)
    inner = None if outer is None else _parts(outer[0], o.maximum)
    if outer is None or inner is None or inner[0].op is not o.sigmoid:
        return "it is not a sigmoid that is clipped"
    low, most = inner[1], outer[1]
    x = inner[0].inputs[0]
    if t.type is not x.type:
        return "the targets have another type than the scores"
    if rest is not 1.0 - t and not _is_rest(rest, t):
        return "the factor of the second logarithm is not 1 less the first one"
    least = _bound(low, most)
    if isinstance(least, str):
        return least
    bound = math.log1p(-least) - math.log(least)  # the score whose probability is 1 - epsilon
    z = o.minimum(o.maximum(x, o.scalar(-bound, x.dtype)), o.scalar(bound, x.dtype))
    return fitted(o.sigmoid_crossentropy(z, t), out)


def _is_rest(rest: Node, t: Node) -> bool:
    """Whether rest is 1 - t, of constants."""
    if rest.op is not o.constant or t.op is not o.constant or rest.type is not t.type:
        return False
    return bool((rest.attr("value").array == 1 - t.attr("value").array).all())


def _parts(node: Node, op: Op) -> tuple[Node, Node] | None:
    """What is held within a bound, and the bound, of an op that commutes."""
    if node.op is not op:
        return None
    x, bound = node.inputs
    if bound.op is not o.constant:
        x, bound = bound, x
    return (x, bound) if bound.op is o.constant else None

"""Logarithms of what is positive by the way it is made: of exponentials, their sums, products and quotients, softmax, sigmoid.

The logarithm is taken before the exponential is, and so neither overflows nor is the logarithm of 0.
"""

from __future__ import annotations

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.stabilise.rules import fitted, is_shifted, is_top, negated, seen, stabilise
from kgraph.ir.pattern import alone, attr, number_of, p, var, whole

X, Y = var("x"), var("y")
AXIS, KEEPDIMS = attr("axis"), attr("keepdims")

#: Ops within ops that are looked at.
DEEPEST = 8

#: What rearranges the elements of its first operand.
_LAYOUT = frozenset((
    o.expand_dims, o.squeeze, o.reshape, o.transpose, o.broadcast_to, o.broadcast_like, o.stop_gradient, o.index, o.flip,
    o.pick, o.gather,
))  # fmt: skip
_GROWING = frozenset((o.exp, o.sum, o.add, o.multiply, o.divide))
_POSITIVE = _GROWING | _LAYOUT | {o.softmax, o.sigmoid, o.subtract, o.cast}


def log_of(node: Node, depth: int = DEEPEST) -> Node | None:
    """The logarithm of a node that is positive by the way it is made; None for any other."""
    op = node.op
    if op is o.constant:
        return _log_of_constant(node)
    if op not in _POSITIVE or not depth:
        return None
    x = node.inputs[0]
    if op is o.cast:
        return o.log(node) if x.op is o.size else None  # the number of elements of a mean
    if op is o.exp:
        return x
    if op is o.softmax:
        return o.log_softmax(x, axis=node.attr("axis"))
    if op is o.sigmoid:
        return -o.softplus(negated(x))
    if op is o.subtract:
        s = seen(node.inputs[1])
        return -o.softplus(s.inputs[0]) if number_of(x) == 1 and s.op is o.sigmoid and s.type is node.type else None
    if op in _LAYOUT:
        log = log_of(x, depth - 1)
        return None if log is None else op(log, *node.inputs[1:], **dict(node.attrs))
    if op is o.sum:
        log = log_of(x, depth - 1) if grows(x) else None
        return None if log is None or is_shifted(log) else o.logsumexp(log, **dict(node.attrs))
    if op is o.add and not any(map(grows, node.inputs)):
        return None  # it is finite as it is
    logs = [log_of(i, depth - 1) for i in node.inputs]
    if logs[0] is None or logs[1] is None:
        return None
    if op is o.add:
        return _log_of_sum(logs[0], logs[1])
    return logs[0] + logs[1] if op is o.multiply else logs[0] - logs[1]


def grows(node: Node, depth: int = DEEPEST) -> bool:
    """Whether a positive node may be too large for its dtype, or so small that it is 0."""
    while node.op in _LAYOUT:
        node = node.inputs[0]
    if node.op is o.exp:
        return True
    return node.op in _GROWING and depth > 0 and any(grows(i, depth - 1) for i in node.inputs)


def _log_of_constant(node: Node) -> Node | None:
    array = node.attr("value").array
    if array.dtype.kind != "f" or array.size > 4096 or not (array > 0).all():
        return None
    with np.errstate(all="ignore"):
        return o.constant_of(np.log(array))


def _log_of_sum(a: Node, b: Node) -> Node:
    """log(exp(a) + exp(b))"""
    for x, y in ((a, b), (b, a)):
        if number_of(y) == 0:
            return o.softplus(x)
    gap = a - b
    if o.constant not in (a.op, b.op):
        # Of two infinities there is no difference.
        gap = o.where(o.equal(a, b), o.scalar(0.0, a.dtype), gap)
    return o.maximum(a, b) + o.softplus(-o.absolute(gap))


@stabilise.rule(whole(o.log), claim="rounding")
def logarithm(out: Node) -> Node | str:
    """log(softmax(x)) -> log_softmax(x), and of other positive results

    log(exp(x)) -> x, log(sigmoid(x)) -> -softplus(-x), log(1 - sigmoid(x)) -> -softplus(x), log(sum(exp(x))) -> logsumexp(x),
    log(1 + exp(x)) -> softplus(x), log(exp(x) + exp(y)) -> max(x, y) + softplus(-|x - y|), and of products, quotients, sums and
    other layouts of these and of positive constants. Finite for every finite x, also where exp(x) overflows, or softmax(x) and
    sigmoid(x) are 0 or 1 to the last digit.
    """
    if out.inputs[0].op not in _POSITIVE:
        return "it is not the logarithm of what is positive by the way it is made"
    log = log_of(out.inputs[0])
    return "what it is of may be negative, or is finite as it is" if log is None else fitted(log, out)


@stabilise.rule(whole(o.log1p), claim="rounding")
def logarithm_of_one_more(out: Node) -> Node | str:
    """log1p(exp(x)) -> softplus(x), and log1p(-sigmoid(x)) -> -softplus(x)

    Finite where exp(x) overflows, and where sigmoid(x) is 1 to the last digit.
    """
    x = out.inputs[0]
    if x.op is o.negative:
        s = seen(x.inputs[0])
        return -o.softplus(s.inputs[0]) if s.op is o.sigmoid else "it is 1 less another thing than a sigmoid"
    log = log_of(x) if x.op in _POSITIVE and grows(x) else None
    return "what it is of is no exponential" if log is None else fitted(o.softplus(log), out)


@stabilise.rule(p.log(1.0 + X), claim="rounding")
def near_one(x: Node, out: Node) -> Node | str:
    """log(1 + x) -> log1p(x)

    Exact where 1 + x has lost the digits of x: for 1e-20, say.
    """
    return fitted(o.log1p(x), out)


@stabilise.rule(p.log(1.0 - X), claim="rounding")
def just_below_one(x: Node, out: Node) -> Node | str:
    """log(1 - x) -> log1p(-x)

    Exact where 1 - x has lost the digits of x.
    """
    return fitted(o.log1p(negated(x)), out)


@stabilise.rule(alone(p.exp(X)) - 1.0, claim="rounding")
def exponential_less_one(x: Node, out: Node) -> Node | str:
    """exp(x) - 1 -> expm1(x), if nothing else needs the exponential

    Exact where exp(x) has lost the digits of x.
    """
    return fitted(o.expm1(x), out)


@stabilise.rule(X + p.log(p.sum(p.exp(p.subtract(var("z"), Y)), axis=AXIS, keepdims=KEEPDIMS)), claim="rounding")
def shifted_sum(x: Node, y: Node, z: Node, axis: tuple[int, ...], keepdims: bool, out: Node) -> Node | str:
    """m + log(sum(exp(x - m))) -> logsumexp(x), where m is max(x)

    Right where m is infinite too.
    """
    if not is_top(y, z, axis):
        return "what is taken away is not the largest over the same axes"
    if x is not y and not (_is_dropped(x, y, axis) if not keepdims else is_top(x, z, axis)):
        return "what is added is not what was taken away"
    if x is y and not keepdims:
        return "what is added has other axes"
    return fitted(o.logsumexp(z, axis=axis, keepdims=keepdims), out)


def _is_dropped(x: Node, top: Node, axes: tuple[int, ...]) -> bool:
    """Whether x is top, which has axes with size 1, without these."""
    x, top = seen(x), seen(top)
    if x.op is o.max:
        same = top.op is o.max and x.inputs == top.inputs and x.attr("axis") == axes == top.attr("axis")
        return same and not x.attr("keepdims")
    for axis in axes:  # the last one is dropped first
        if x.op is not o.squeeze or x.attr("axis") != axis:
            return False
        x = seen(x.inputs[0])
    return x is top


@stabilise.rule(X - alone(p.logsumexp(X, axis=AXIS, keepdims=True)), claim="rounding")
def difference(x: Node, axis: tuple[int, ...], out: Node) -> Node | str:
    """x - logsumexp(x) -> log_softmax(x), over one axis

    It keeps the digits of differences where x is large.
    """
    if axis not in [(a,) for a in range(x.ndim)]:
        return "there are several axes, or none"
    return fitted(o.log_softmax(x, axis=axis[0]), out)

"""Quotients of exponentials, as sigmoid and softmax, and what cancels in the gradients of logarithms.

A gradient has a quotient in one place, and the factor that goes with it in another: g / sum(exp(x)), stretched over the axes
that were summed over, times exp(x). Neither is finite for large x. Their product is g times softmax(x).
"""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.passes.stabilise.logarithms import log_of
from kgraph.ir.passes.stabilise.rules import (
    fitted,
    is_bounded,
    is_complement,
    is_nothing,
    is_shifted,
    negated,
    seen,
    stabilise,
    unshifted,
)  # fmt: skip
from kgraph.ir.passes.stabilise.search import NO, Labels, Search, bottom, inner, tail
from kgraph.ir.pattern import alone, number_of, p, var, whole

X = var("x")

# ---------------------------------------------------------------------------------------------------- the parts


def twin(node: Node) -> Node | None:
    """The same in other words: 1 - sigmoid(x) of sigmoid(-x), and the other way round."""
    if node.op is o.sigmoid:
        return 1.0 - o.sigmoid(negated(node.inputs[0]))
    return o.sigmoid(negated(node.inputs[1].inputs[0])) if is_complement(node) else None


def _with_nan_of(node: Node, f: Node) -> Node:
    """A node, NaN where f is, which lies between 0 and 1."""
    return node + o.multiply(o.scalar(0.0, f.dtype), f)


def _factors(node: Node, most: int = 6) -> list[Node]:
    """What a node is the product of, but for its sign."""
    found: list[Node] = []
    waiting = [node]
    while waiting and len(found) < most:
        node = waiting.pop()
        if node.op is o.multiply or node.op is o.negative:
            waiting += node.inputs
        else:
            found.append(node)
    return found


def _source(node: Node) -> Node | None:
    """The x of what is positive by the way it is made: exp(x), softmax(x), sigmoid(x) or sigmoid(-x), 1 - sigmoid(x)."""
    if node.op is o.subtract:
        return node.inputs[1].inputs[0] if is_complement(node) else None
    if node.op in (o.exp, o.softmax, o.sigmoid):
        x = node.inputs[0]
        return x.inputs[0] if x.op is o.negative and node.op is o.sigmoid else x
    return None


def _share(e: Node) -> tuple[list[Node], Search]:
    """A search for what exp(x) is to be divided by: then the list has the softmax, if it is one, that is left of both.

    A sigmoid is left in its place: exp(x) * sigmoid(-x) is sigmoid(x).
    """
    share: list[Node] = []

    def test(divisor: Node, labels: Labels) -> Node | str | None:
        under, axes = bottom(divisor, labels)
        if under.op is o.sum and _is_sum_of(under, e, axes):
            made = _share_of_sum(under, e)
            if made is None or share not in ([], [made]):
                return NO
            share[:] = [made]
            return None
        if under.op is o.divide and under.inputs[1].op in (o.constant, o.cast) and not under.inputs[1].type.shape:
            left = test(under.inputs[0], axes)  # the mean of exponentials
            return under.inputs[1] if left is None else NO
        if divisor.op is o.add:
            return _share_of_two(divisor, e, labels)
        return NO

    x = e.inputs[0]
    back = o.sigmoid(negated(x))
    return share, Search(test, {back: o.sigmoid(x), 1.0 - o.sigmoid(x): o.sigmoid(x)})


def _is_sum_of(total: Node, e: Node, labels: Labels) -> bool:
    """Whether total is the sum of e, each element over those that it is summed with."""
    if total.inputs[0] is not e:
        return False
    kept = tuple([axis for axis in range(e.ndim) if axis not in total.attr("axis")])
    return kept == (tuple([labels[axis] for axis in kept]) if total.attr("keepdims") else labels)


def _share_of_sum(total: Node, e: Node) -> Node | None:
    axes, x = total.attr("axis"), e.inputs[0]
    if len(axes) == 1:
        return o.softmax(unshifted(x, axes), axis=axes[0])
    if not axes or is_shifted(x):
        return None
    shifted = o.exp(x - o.largest(x, axes))
    return shifted / o.sum(shifted, axis=axes, keepdims=True)


def _share_of_two(divisor: Node, e: Node, labels: Labels) -> Node | str:
    """sigmoid(x - log(y)), for exp(x) / (exp(x) + y)"""
    if tail(labels, e) != tuple(range(e.ndim)):
        return NO
    terms: list[Node] = []
    waiting = [divisor]
    while waiting and len(terms) < 8:
        node = waiting.pop()
        if node.op is o.add:
            waiting += node.inputs[::-1]
        else:
            terms.append(node)
    if e not in terms or waiting:
        return NO
    terms.remove(e)
    rest = _product(terms, o.add)
    log = log_of(rest)
    return NO if log is None else o.sigmoid(_less(e.inputs[0], log))


def _less(x: Node, y: Node) -> Node:
    return x if number_of(y) == 0 else x - y


# ------------------------------------------------------------------------------------------------- quotients as written


@stabilise.rule(whole(o.divide), claim="rounding")
def share(out: Node) -> Node | str:
    """exp(x) / sum(exp(x)) -> softmax(x), and exp(x) / (exp(x) + y) -> sigmoid(x - log(y))

    Also 1 / (1 + exp(x)) -> sigmoid(-x), with x - max(x) for x, and with other factors above. y is positive by the way it is
    made. Finite where exp(x) overflows.
    """
    above, below = out.inputs
    if below.op not in _BELOW:
        return "it is divided by another thing than a sum"
    under, _ = bottom(below, tuple(range(below.ndim)))
    if under.op is not o.sum and under.op is not o.add and under.op is not o.divide:
        return "it is divided by another thing than a sum"
    if below.op is o.add and number_of(above) is not None:
        return _one_of_two(above, below, out)
    for e, others in _exponentials(above):
        if e.ndim != out.ndim:
            continue
        found, search = _share(e)
        left = search.test(below, tuple(range(out.ndim))[out.ndim - below.ndim :])
        if not isinstance(left, str):
            made = _product([*found, *([] if left is None else [left]), *others])
            return fitted(made, out)
    return "nothing above is the exponential of what is summed below"


_BELOW = frozenset((o.sum, o.add, o.expand_dims, o.broadcast_to, o.broadcast_like, o.divide, o.stop_gradient))


def _one_of_two(number: Node, below: Node, out: Node) -> Node | str:
    for one, e in (below.inputs, below.inputs[::-1]):
        if number_of(one) == 1 and e.op is o.exp:
            s = o.sigmoid(negated(e.inputs[0]))
            return fitted(s if number_of(number) == 1 else number * s, out)
    return "what is below is not 1 and an exponential"


def _exponentials(node: Node) -> list[tuple[Node, list[Node]]]:
    """The exponentials among the factors of a node, each with the other factors."""
    sign = node.op is o.negative
    if sign:
        node = node.inputs[0]
    factors = list(node.inputs) if node.op is o.multiply else [node]
    found = []
    for i, factor in enumerate(factors):
        if seen(factor).op is o.exp:
            others = factors[:i] + factors[i + 1 :]
            if sign:
                others = [o.scalar(-1.0, node.dtype), *others] if not others else [negated(others[0]), *others[1:]]
            found.append((seen(factor), others))
    return found


def _product(factors: list[Node], op: Op = o.multiply) -> Node:
    made = factors[0]
    for factor in factors[1:]:
        made = op(made, factor)
    return made


@stabilise.rule(1.0 - alone(p.sigmoid(X)), claim="rounding")
def complement(x: Node, out: Node) -> Node | str:
    """1 - sigmoid(x) -> sigmoid(-x), if nothing else needs sigmoid(x)

    Above 0 where sigmoid(x) is 1 to the last digit.
    """
    return fitted(o.sigmoid(negated(x)), out)


# ---------------------------------------------------------------------------------------------------- products in gradients


@stabilise.rule(whole(o.multiply), claim="rounding")
def factor(out: Node) -> Node | str:
    """(g / sum(exp(x))) * exp(x) -> g * softmax(x), and (g / (exp(x) + y)) * exp(x) -> g * sigmoid(x - log(y))

    The quotient may stand in a sum, all of whose terms have it, be stretched, negated, or have other factors. Finite where
    exp(x) overflows.
    """
    a, b = out.inputs
    if a.op not in _FACTORS and b.op not in _FACTORS:
        return "no factor is an exponential"
    for left, right in ((a, b), (b, a)):
        for e, others in _exponentials(left) if left.op in _FACTORS else ():
            if e.ndim != out.ndim or right.op not in _LINEAR:
                continue
            found, search = _share(e)
            rest = search.out(right, tuple(range(out.ndim))[out.ndim - right.ndim :])
            if rest is not None:
                return fitted(_product([rest, *others, *found]), out)
    return "no factor is the exponential of what another one is divided by"


_FACTORS = frozenset((o.exp, o.multiply, o.negative, o.stop_gradient))
_LINEAR = frozenset((
    o.divide, o.multiply, o.negative, o.add, o.subtract, o.sum, o.where, o.expand_dims, o.squeeze, o.broadcast_to,
    o.broadcast_like, o.sigmoid,
))  # fmt: skip
_KEPT = frozenset((o.softmax, o.sigmoid, o.exp, o.subtract, o.multiply))


@stabilise.rule(whole(o.multiply), claim="rounding")
def cancel(out: Node) -> Node | str:
    """p * (g / p - s) -> g - p * s, (p * q) * (g / p) -> q * g, p * (g / p) -> g + 0 * p, where p is positive

    p and q are softmax(x), sigmoid(x), 1 - sigmoid(x) or exp(x), of one x. In s, what is multiplied and divided by the same
    softmax(x) cancels too. Finite where p is 0 to the last digit. A NaN in x is not lost, which is what 0 * p is for.
    """
    a, b = out.inputs
    if a.op not in _KEPT and b.op not in _KEPT:
        return "no factor is positive by the way it is made"
    for left, right in ((a, b), (b, a)):
        if left.op not in _KEPT or right.op not in _LINEAR:
            continue
        factors = [left] if left.op is not o.multiply else list(left.inputs)
        sources = [_source(f) for f in factors]
        if not any(source is not None for source in sources):
            continue
        made = _cancelled(factors, sources, right, tuple(range(out.ndim)))
        if made is not None:
            return fitted(made, out)
    return "nothing is divided by a factor"


def _cancelled(factors: list[Node], sources: list[Node | None], right: Node, labels: Labels) -> Node | None:
    terms = _terms(right)
    made: list[tuple[bool, Node]] = []
    cancelled = kept = 0
    gone: Node | None = None
    for negative, term in terms:
        for i, f in enumerate(factors):
            if sources[i] is None or f.ndim != len(labels):
                continue
            rest = _divided_by(f).out(term, tail(labels, term))
            if rest is not None:
                others = factors[:i] + factors[i + 1 :]
                # What is left must be NaN where x is, here or in another term.
                kept += any(_source(other) is sources[i] for other in [*others, *_factors(rest)])
                cancelled += 1
                gone = f
                made.append((negative, _product([rest, *others])))
                break
        else:
            made.append((negative, _product([*factors, _cleaned(term, factors[0], tail(labels, term))])))
    if gone is None:
        if len(terms) > 1:
            return None
        carriers = [f for f, source in zip(factors, sources, strict=True) if source is not None]
        cleaned = _cleaned(right, carriers[0], tail(labels, right))
        return None if cleaned is right else _product([*factors, cleaned])
    uncancelled = len(terms) - cancelled
    if uncancelled > 1 or (not uncancelled and kept < cancelled and not is_bounded(gone)):
        return None
    negative, total = made[0]
    total = negated(total) if negative else total
    for negative, term in made[1:]:
        total = total - term if negative else total + term
    return _with_nan_of(total, gone) if not uncancelled and kept < cancelled else total


def _terms(node: Node) -> list[tuple[bool, Node]]:
    """The terms of a sum of two, and whether each is taken away."""
    sign = node.op is o.negative
    if sign:
        node = node.inputs[0]
    if node.op is not o.add and node.op is not o.subtract:
        return [(sign, node)]
    found = []
    for x, taken in zip(node.inputs, (sign, sign != (node.op is o.subtract)), strict=True):
        minus = x.op is o.negative
        found.append((taken != minus, x.inputs[0] if minus else x))
    return found


def _divided_by(f: Node) -> Search:
    """A search for what is divided by f, element by element."""

    other = twin(f)

    def test(divisor: Node, labels: Labels) -> Node | str | None:
        under, axes = bottom(divisor, labels)
        return None if (under is f or under is other) and axes == tuple(range(f.ndim)) else NO

    return Search(test)


def _cleaned(node: Node, carrier: Node, labels: Labels, depth: int = 8) -> Node:
    """A factor of carrier, without what is in it both multiplied and divided by.

    Of a softmax, sums over its axis are looked into too: if one x is NaN then all of the row is.
    """
    if not depth or not node.inputs:
        return node
    x = node.inputs[0]
    if node.op is o.multiply:
        for f, other in (node.inputs, node.inputs[::-1]):
            under, axes = bottom(f, tail(labels, f))
            if _may_go(under, carrier) and axes == tuple(range(under.ndim)):
                rest = _divided_by(under).out(other, tail(labels, other))
                if rest is not None:
                    return rest
        parts = [_cleaned(i, carrier, tail(labels, i), depth - 1) for i in node.inputs]
    elif node.op is o.add or node.op is o.subtract:
        y = node.inputs[1]
        if is_nothing(y) and _may_go(y.inputs[1], carrier) and x.type is node.type and tail(labels, y) == tuple(range(y.ndim)):
            return x
        parts = [_cleaned(i, carrier, tail(labels, i), depth - 1) for i in node.inputs]
    elif node.op is o.sum:
        if carrier.op is not o.softmax or len(labels) != carrier.ndim - (not node.attr("keepdims")):
            return node
        axis = carrier.attr("axis")
        if node.attr("axis") != (axis,):
            return node
        summed = list(labels)
        if node.attr("keepdims"):
            summed[axis] = axis
        else:
            summed.insert(axis, axis)
        parts = [_cleaned(x, carrier, tuple(summed), depth - 1)]
        if parts[0].type.shape[axis] != x.type.shape[axis]:
            return node
    else:
        below = inner(node, labels)
        if below is None:
            return node
        parts = [_cleaned(x, carrier, below, depth - 1), *node.inputs[1:]]
    return node if tuple(parts) == node.inputs else node.op(*parts, **dict(node.attrs))


def _may_go(f: Node, carrier: Node) -> bool:
    """Whether carrier is NaN wherever f is."""
    return f is carrier or (_source(f) is not None and f.op is not o.softmax and _source(f) is _source(carrier))


@stabilise.rule(whole(o.divide), claim="rounding")
def cancel_below(out: Node) -> Node | str:
    """(g * p) / p -> g + 0 * p, where p is softmax(x), sigmoid(x) or 1 - sigmoid(x)

    Finite where p is 0 to the last digit. A NaN in x is not lost, which is what 0 * p is for.
    """
    above, below = out.inputs
    if not is_bounded(below) or above.op not in (o.multiply, o.negative) or above.type is not below.type:
        return "it is not divided by what is positive, and no more than 1"
    rest = _without_factor(above, below, twin(below))
    return "what is above does not have the factor" if rest is None else fitted(_with_nan_of(rest, below), out)


def _without_factor(node: Node, f: Node, other: Node | None, depth: int = 6) -> Node | None:
    if node.op is o.negative:
        rest = _without_factor(node.inputs[0], f, other, depth - 1) if depth else None
        return None if rest is None else negated(rest)
    if node.op is not o.multiply or not depth:
        return None
    for x, y in (node.inputs, node.inputs[::-1]):
        if x is f or x is other:
            return y
    for x, y in (node.inputs, node.inputs[::-1]):
        rest = _without_factor(x, f, other, depth - 1)
        if rest is not None:
            return o.multiply(rest, y)
    return None

"""Quotients of exponentials, as sigmoid and softmax, also where they are in two places.

A gradient has a quotient in one place, and the factor that goes with it in another: g / sum(exp(x)), stretched over the axes
that were summed over, times exp(x). Neither is finite for large x. Their product is g times softmax(x).
"""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.stabilise.logarithms import log_of
from kgraph.ir.passes.stabilise.rules import (
    are_opposite,
    fitted,
    is_complement,
    is_shifted,
    negated,
    product,
    seen,
    stabilise,
    unshifted,
)  # fmt: skip
from kgraph.ir.passes.stabilise.search import LINEAR, NO, Labels, Search, bottom, is_of_exponentials, may_find, tail
from kgraph.ir.pattern import alone, number_of, p, var, whole

X = var("x")

# ---------------------------------------------------------------------------------------------------- the parts


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

    def instead(node: Node) -> Node | None:
        x, s = e.inputs[0], node
        if is_complement(node):
            s = node.inputs[1]
            return s if s.inputs[0] is x else None
        return o.sigmoid(x) if s.op is o.sigmoid and are_opposite(s.inputs[0], x) else None

    return share, Search(test, instead)


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
    if not axes or is_shifted(x) or x.type.size == 0:  # of no elements the largest is a constant, and what is shifted not known
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
    rest = product(terms, o.add)
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
            made = product([*found, *([] if left is None else [left]), *others])
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
            if e.ndim != out.ndim or right.op not in LINEAR or not may_find(right, is_of_exponentials, True):
                continue
            found, search = _share(e)
            rest = search.out(right, tuple(range(out.ndim))[out.ndim - right.ndim :])
            if rest is not None:
                return fitted(product([rest, *others, *found]), out)
    return "no factor is the exponential of what another one is divided by"


_FACTORS = frozenset((o.exp, o.multiply, o.negative, o.stop_gradient))

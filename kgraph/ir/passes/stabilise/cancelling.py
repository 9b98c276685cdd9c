"""What is multiplied and divided by: the gradient of a logarithm is a quotient, and that of what it is of has it as a factor.

Both are softmax(x), say, which may be 0 to the last digit: 0 / 0 is no number, where all that is needed is what it is of.
"""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.stabilise.rules import (
    are_opposite,
    fitted,
    is_bounded,
    is_complement,
    is_nothing,
    negated,
    product,
    stabilise,
)
from kgraph.ir.passes.stabilise.search import LINEAR, NO, Labels, Search, bottom, inner, may_find, tail, unmoved
from kgraph.ir.pattern import whole

#: Terms of one sum that are looked at.
MOST_TERMS = 8

_KEPT = frozenset((o.softmax, o.sigmoid, o.exp, o.subtract, o.multiply))


def is_twin(x: Node, y: Node) -> bool:
    """Whether two nodes are sigmoid(z) and 1 - sigmoid(-z)."""
    if x.op is o.subtract:
        x, y = y, x
    return x.op is o.sigmoid and is_complement(y) and are_opposite(x.inputs[0], y.inputs[1].inputs[0])


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
        if left.op not in _KEPT or right.op not in LINEAR:
            continue
        factors = [left] if left.op is not o.multiply else list(left.inputs)
        sources = [_source(f) for f in factors]
        if not any(source is not None for source in sources) or not may_find(right, _is_positive):
            continue
        made = _cancelled(factors, sources, right, tuple(range(out.ndim)))
        if made is not None:
            return fitted(made, out)
    return "nothing is divided by a factor"


def _is_positive(divisor: Node) -> bool:
    return _source(unmoved(divisor)) is not None


def _cancelled(factors: list[Node], sources: list[Node | None], right: Node, labels: Labels) -> Node | None:
    free: list[Term] = []  # without the divisor
    rest: list[Term] = []
    kept, gone = True, factors[0]
    waiting = _terms(right)[::-1]
    while waiting:
        negative, term = waiting.pop()
        for i, f in enumerate(factors):
            if sources[i] is None or f.ndim != len(labels):
                continue
            without = _divided_by(f).out(term, tail(labels, term))
            if without is not None:
                others = factors[:i] + factors[i + 1 :]
                # What is left must be NaN where x is, here or in another term.
                kept = kept and any(_source(other) is sources[i] for other in [*others, *_factors(without)])
                gone = f
                free.append((negative, product([without, *others])))
                break
        else:
            parts = _distributed(term, factors, labels) if len(free) + len(rest) + len(waiting) < MOST_TERMS else []
            waiting += [(negative != minus, part) for minus, part in reversed(parts)]
            if not parts:
                rest.append((negative, term))
    if not free:
        carrier = next(f for f, source in zip(factors, sources, strict=True) if source is not None)
        cleaned = _cleaned(right, carrier, tail(labels, right)) if len(rest) == 1 else right
        return None if cleaned is right else product([*factors, cleaned])
    if rest:
        minus = rest[0][0]
        total = _total([(negative != minus, _cleaned(term, gone, tail(labels, term))) for negative, term in rest])
        return _total([*free, (minus, product([*factors, total]))])
    if kept:
        return _total(free)
    return _with_nan_of(_total(free), gone) if is_bounded(gone) else None


def _distributed(term: Node, factors: list[Node], labels: Labels) -> list[Term]:
    """c * g / p - c * s for c * (g / p - s), as terms; none if it is of another form."""
    if term.op is not o.multiply:
        return []
    for c, total in (term.inputs, term.inputs[::-1]):
        parts = _terms(total)
        if len(parts) < 2 or total.ndim != len(labels) or c.ndim != len(labels):
            continue
        if any(_divided_by(f).out(part, tail(labels, part)) is not None for f in factors for _, part in parts):
            return [(minus, o.multiply(c, part)) for minus, part in parts]
    return []


#: A term of a sum, and whether it is taken away.
Term = tuple[bool, Node]


def _terms(node: Node, most: int = MOST_TERMS) -> list[Term]:
    """The terms of a sum."""
    found: list[Term] = []
    waiting = [(False, node)]
    while waiting:
        minus, node = waiting.pop()
        if node.op is o.negative:
            waiting.append((not minus, node.inputs[0]))
            continue
        total = node.inputs[0] if node.op is o.transpose else node  # its axes may have changed places after it was added up
        if total.op in (o.add, o.subtract) and not is_nothing(total.inputs[1]) and len(found) + len(waiting) < most:
            x, y = total.inputs if total is node else [_transposed(i, node.attr("perm")) for i in total.inputs]
            waiting += [(minus != (total.op is o.subtract), y), (minus, x)]
        else:
            found.append((minus, node))
    return found


def _transposed(x: Node, perm: tuple[int, ...]) -> Node:
    for _ in range(len(perm) - x.ndim):
        x = o.expand_dims(x, axis=0)
    return o.transpose(x, perm=perm)


def _total(terms: list[Term]) -> Node:
    minus, total = terms[0]
    total = negated(total) if minus else total
    for minus, term in terms[1:]:
        total = total - term if minus else total + term
    return total


def _divided_by(f: Node) -> Search:
    """A search for what is divided by f, element by element."""

    def test(divisor: Node, labels: Labels) -> Node | str | None:
        under, axes = bottom(divisor, labels)
        return None if (under is f or is_twin(under, f)) and axes == tuple(range(f.ndim)) else NO

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
    """(g * p) / p -> g + 0 * p, (g * p + s * p) / p -> g + s + 0 * p, where p is softmax(x), sigmoid(x) or 1 - sigmoid(x)

    Finite where p is 0 to the last digit. A NaN in x is not lost, which is what 0 * p is for.
    """
    above, below = out.inputs
    if not is_bounded(below) or above.op not in _PRODUCTS:
        return "it is not divided by what is positive, and no more than 1"
    rest = _without_factor(above, below)
    return "what is above does not have the factor" if rest is None else fitted(_with_nan_of(rest, below), out)


_PRODUCTS = (o.multiply, o.negative, o.add, o.subtract)


def _without_factor(node: Node, f: Node, depth: int = 6) -> Node | None:
    if node.op is o.negative:
        rest = _without_factor(node.inputs[0], f, depth - 1) if depth else None
        return None if rest is None else negated(rest)
    if node.op in (o.add, o.subtract) and depth:
        left, right = [_without_factor(i, f, depth - 1) for i in node.inputs]
        return None if left is None or right is None else node.op(left, right)
    if node.op is not o.multiply or not depth:
        return None
    for x, y in (node.inputs, node.inputs[::-1]):
        if x is f or is_twin(x, f):
            return y
    for x, y in (node.inputs, node.inputs[::-1]):
        rest = _without_factor(x, f, depth - 1)
        if rest is not None:
            return o.multiply(rest, y)
    return None

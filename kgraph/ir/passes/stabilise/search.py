"""Taking a divisor out of what is linear in quotients: of (g / d) * c - sum(g / d), say, g * c - sum(g).

Gradients are such: what the user has divided by is found among the factors, under sums, and under stretched axes.
The axes of each node on the way are labelled with the axes of the whole that they are, so that a divisor is known to be the
same along the axes that are summed over.
"""

from __future__ import annotations

from collections.abc import Callable

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.stabilise.rules import is_complement, is_nothing, negated
from kgraph.ir.pattern import number_of

#: For each axis of a node, the axis of the whole that it is; _OTHER for one that is not among these.
Labels = tuple[int, ...]
_OTHER = -1

#: Nodes that a search visits, and so the time that it takes.
MOST = 30

_STRETCHING = (o.broadcast_to, o.broadcast_like)
_MOVING = frozenset((o.broadcast_to, o.broadcast_like, o.expand_dims, o.transpose, o.stop_gradient))


def tail(labels: Labels, x: Node) -> Labels:
    """The labels of an operand: axes are counted from the last."""
    return labels[len(labels) - x.ndim :]


def inner(node: Node, labels: Labels) -> Labels | None:
    """The labels of the operand of an op that moves axes; None for other ops."""
    op = node.op
    if op in _STRETCHING:
        return tail(labels, node.inputs[0])
    if op is o.stop_gradient or op is o.negative:
        return labels
    if op is o.expand_dims:
        axis = node.attr("axis")
        return labels[:axis] + labels[axis + 1 :]
    if op is o.transpose:
        moved = dict(zip(node.attr("perm"), labels, strict=True))
        return tuple([moved[axis] for axis in range(len(moved))])
    if op is o.squeeze:
        axis = node.attr("axis")
        return (*labels[:axis], _OTHER, *labels[axis:])
    if op is o.sum:
        axes, rest = node.attr("axis"), list(labels)
        for axis in axes:
            if node.attr("keepdims"):
                rest[axis] = _OTHER
            else:
                rest.insert(axis, _OTHER)
        return tuple(rest)
    return None


def bottom(node: Node, labels: Labels) -> tuple[Node, Labels]:
    """What a node is, under axes of size 1, stretching, and the order of its axes."""
    while node.op in _MOVING:
        under = inner(node, labels)
        assert under is not None
        node, labels = node.inputs[0], under
    return node, labels


#: What a search goes through, or changes.
LINEAR = frozenset((
    o.divide, o.multiply, o.negative, o.add, o.subtract, o.sum, o.where, o.expand_dims, o.squeeze, o.broadcast_to,
    o.broadcast_like, o.sigmoid, o.transpose, o.stop_gradient,
))  # fmt: skip

_PLAIN = LINEAR - {o.divide, o.sigmoid, o.subtract}

#: (divisor, its labels) -> what is left of dividing by it (None: nothing, it is gone), or NO.
Test = Callable[[Node, Labels], "Node | str | None"]
NO = "no"


def may_find(node: Node, fits: Callable[[Node], bool], sigmoids: bool = False) -> bool:
    """Whether a search may find something: a look without labels, before one for each factor is begun.

    Args:
      fits: whether a divisor is worth a search.
      sigmoids: whether these count too.
    """
    waiting = [node]  # what is near comes first
    for visited, node in enumerate(waiting):  # which grows meanwhile
        op = node.op
        if op in _PLAIN:
            waiting += node.inputs
        elif op is o.divide:
            x, divisor = node.inputs
            if fits(divisor):
                return True
            waiting.append(x)
        elif op is o.sigmoid:
            if sigmoids:
                return True
        elif op is o.subtract:
            if sigmoids and is_complement(node):
                return True
            waiting += node.inputs
        if visited == MOST:
            break
    return False


def unmoved(node: Node) -> Node:
    """What a node is, under what changes its axes alone."""
    while node.op in _MOVING:
        node = node.inputs[0]
    return node


def is_of_exponentials(node: Node) -> bool:
    """Whether exponentials are in a divisor: they, or what they are parts of, are looked for."""
    while node.op in _MOVING or node.op is o.add or node.op is o.sum or node.op is o.divide:
        if node.op is o.add and any(i.op is o.exp for i in node.inputs):
            return True
        node = node.inputs[0]
    return node.op in _EXPONENTIAL or is_complement(node)


_EXPONENTIAL = frozenset((o.exp, o.softmax, o.sigmoid))


class Search:
    """One search for divisors that pass a test. ``out`` gives a node without them; None if not all of its terms have one.

    Args:
      instead: a node of all axes -> what stands in its place without the divisor, if it has one.
    """

    def __init__(self, test: Test, instead: Callable[[Node], Node | None] = lambda node: None):
        self.test, self.left, self.instead = test, MOST, instead
        self.failed: set[tuple[Node, Labels]] = set()

    def out(self, node: Node, labels: Labels) -> Node | None:
        if (node, labels) in self.failed:
            return None
        self.left -= 1
        found = self._out(node, labels) if node.inputs and self.left >= 0 else None
        if found is None:
            self.failed.add((node, labels))
        return found

    def _out(self, node: Node, labels: Labels) -> Node | None:
        op = node.op
        if (op is o.sigmoid or op is o.subtract) and labels == tuple(range(node.ndim)):
            made = self.instead(node)
            if made is not None:
                return made
        x = node.inputs[0]
        if op is o.divide:
            return self._quotient(node, labels)
        if op is o.multiply:
            return self._product(node, labels)
        if op is o.add or op is o.subtract:
            parts = [i if is_nothing(i) else self.out(i, tail(labels, i)) for i in node.inputs]
            left, right = parts
            return None if left is None or right is None else op(left, right)
        if op is o.where:
            return self._choice(node, labels)
        under = inner(node, labels)
        if under is None:
            return None
        without = self.out(x, under)
        if without is None:
            return None
        if op is o.negative:
            return negated(without)
        if op is o.sum and any(without.type.shape[a] != x.type.shape[a] for a in node.attr("axis")):
            return None  # it was the divisor that had all the terms
        others = node.inputs[1:]
        if op is o.broadcast_like and others[0].op is o.exp:
            others = others[0].inputs  # of the same shape; nothing may need the exponential any more
        return op(without, *others, **dict(node.attrs))

    def _product(self, node: Node, labels: Labels) -> Node | None:
        x, y = node.inputs
        # The quotient itself first: what else there is may be large.
        for first, second in ((y, x), (x, y)) if y.op is o.divide else ((x, y), (y, x)):
            without = self.out(first, tail(labels, first))
            if without is not None:
                return o.multiply(without, second) if first is x else o.multiply(second, without)
        return None

    def _quotient(self, node: Node, labels: Labels) -> Node | None:
        x, divisor = node.inputs
        left = self.test(divisor, tail(labels, divisor))
        if not isinstance(left, str):
            made = x if left is None else o.multiply(x, left)
        else:
            without = self.out(x, tail(labels, x))
            if without is None:
                return None
            made = o.divide(without, divisor)
        while made.ndim < node.ndim:
            made = o.expand_dims(made, axis=0)
        return made

    def _choice(self, node: Node, labels: Labels) -> Node | None:
        condition, *sides = node.inputs
        made = []
        for side in sides:
            without = side if number_of(side) == 0 else self.out(side, tail(labels, side))
            if without is None:
                return None
            made.append(without)
        return o.where(condition, *made)

"""What a program over NumPy needs to know of its graph: who reads what last, whose memory a value is in."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.sizes import sized_by_values
from kgraph.ir.traverse import toposort

#: Ops whose result is an array of its own, besides the ufuncs. Any other may return a view of an operand.
_FRESH = {
    o.matmul, o.power, o.where, o.sigmoid, o.softplus, o.relu, o.softmax, o.log_softmax, o.sum, o.prod, o.max, o.min, o.argmax,
    o.argmin, o.logsumexp, o.cumsum, o.cumprod, o.gather, o.scatter_add, o.scatter_index, o.pick, o.unpick, o.one_hot,
    o.concatenate, o.random_uniform, o.random_normal, o.softmax_crossentropy, o.sigmoid_crossentropy,
    o.conv, o.conv_input_grad, o.conv_kernel_grad, o.max_pool, o.max_pool_grad, o.max_pool_pick, o.avg_pool, o.avg_pool_grad,
    o.pad, o.ctc_loss, o.ctc_posterior, o.ctc_tangent, o.ctc_beam_search,
}  # fmt: skip

#: Views of the whole operand, each element of which they have once: who has the view alone has the operand.
WHOLE_VIEWS = {o.reshape, o.expand_dims, o.squeeze, o.transpose, o.identity, o.stop_gradient, o.print_}

#: Ops that pass their operand on.
_ALIASES = {o.identity, o.stop_gradient}

#: Ops that stretch an operand; element-wise ops stretch by themselves.
_STRETCHES = {o.broadcast_like, o.broadcast_to}


class Plan:
    """What holds for the whole graph: who reads what last, who owns which memory, what needs no statement."""

    def __init__(self, graph: Graph, handed_on: bool, loose: Iterable[Node]):
        self.graph, self.handed_on = graph, handed_on
        self.order = toposort(graph.roots, stop=graph.inputs)
        self.given = set(graph.inputs)
        self.number = {node: number for number, node in enumerate(self.order)}
        self.number.update(dict.fromkeys(graph.inputs, -1))
        self.stands_for = self._resolve()
        #: Value -> the one that made the memory in which it has each element once.
        self.whole: dict[Node, Node] = {}
        self.owners = self._own()
        self.loose = sized_by_values(self.order, loose)
        self.counts = self._counts()
        # The number of the last node that reads a value, and of the last that reads the memory of an owner, in whatever
        # value. What has results to give is read after all nodes.
        self.last_use: dict[Node, int] = {}
        self.last_touch: dict[Node, int] = {}
        for root in graph.roots:
            self._use(self.value(root), len(self.order))
        for number in range(len(self.order) - 1, -1, -1):
            node = self.order[number]
            if node in self.last_use or node.op.effect:
                for value in self.read_by(node):
                    self._use(value, number)

    def value(self, node: Node) -> Node:
        """The node whose value this one's is."""
        return self.stands_for.get(node, node)

    def read_by(self, node: Node) -> list[Node]:
        """The values that the statement of a node reads, operand by operand."""
        if node in self.given or node in self.stands_for:
            return []
        return [self.value(i) for i in node.inputs]

    def needs_statement(self, node: Node) -> bool:
        """Whether anyone reads what a node computes; of some operands no more than the shape is needed, which is known."""
        return node not in self.given and node not in self.stands_for and (node in self.last_use or node.op.effect)

    def is_constant(self, node: Node) -> bool:
        return node.op is o.constant and node not in self.given

    def _use(self, value: Node, number: int) -> None:
        """Notes who reads a value: the last one comes first."""
        self.last_use.setdefault(value, number)
        for owner in self.owners[value]:
            self.last_touch.setdefault(owner, number)

    def _resolve(self) -> dict[Node, Node]:
        """Nodes without a statement of their own -> the value that stands for them."""
        users: dict[Node, list[Node]] = {node: [] for node in self.order if node.op in _STRETCHES and node not in self.given}
        if users:
            for node in self.order:
                for i in node.inputs:
                    if i in users:
                        users[i].append(node)
            for root in self.graph.roots:
                users.pop(root, None)
        found: dict[Node, Node] = {}
        for node in self.order:
            if node in self.given:
                continue
            if node.op in _ALIASES or (node in users and all(_stretches(user, node) for user in users[node])):
                found[node] = found.get(node.inputs[0], node.inputs[0])
        return found

    def _own(self) -> dict[Node, tuple[Node, ...]]:
        """Value -> the values in whose memory it may be. A scalar is in none: NumPy hands those on by value."""
        found: dict[Node, tuple[Node, ...]] = {node: (node,) for node in self.given}
        for node in self.order:
            if node in self.given or node in self.stands_for:
                continue
            if _makes_own(node):
                self.whole[node] = node
            elif node.op in WHOLE_VIEWS and self.value(node.inputs[0]) in self.whole:
                self.whole[node] = self.whole[self.value(node.inputs[0])]
            if node.op is o.scan:
                found[node] = ()  # its results are arrays of their own, each
            elif node.op is o.constant or _makes_own(node):
                found[node] = (node,) if node.ndim else ()
            else:
                found[node] = tuple(dict.fromkeys(owner for i in node.inputs for owner in found[self.value(i)]))
        return found

    def _counts(self) -> set[Node]:
        """Sizes that are read as the shape of a result or as a float alone: there Python's int does as well as an array."""
        found = {node for node in self.order if node.op is o.size and node not in self.given and len(node.attr("axes")) == 1}
        for node in self.order if found else ():
            for place, value in enumerate(node.inputs):
                if value in found:
                    entry = node.op.sized and place >= len(node.inputs) - node.attr(node.op.sized).count(None)
                    if not entry and not (node.op is o.cast and node.type.is_float):
                        found.remove(value)
        return found.difference(self.graph.roots)

    def may_overwrite(self, number: int, operand: int) -> bool:
        """Whether the result of a node may be written over one of its operands."""
        node = self.order[number]
        value = self.value(node.inputs[operand])
        owner = self.whole.get(value)
        return (
            owner is not None
            and self.last_touch.get(owner) == number
            and value.type.dtype == node.type.dtype
            and fits(value, node)
            and sum(owner in self.owners[other] for other in {self.value(i) for i in node.inputs}) == 1
        )


def _makes_own(node: Node) -> bool:
    """Whether the result is never in the memory of an operand."""
    if node.op is o.cast:
        return node.dtype != node.inputs[0].dtype
    if node.op is o.item and node.inputs[0].op is o.scan:
        return True
    return node.op in _FRESH or isinstance(node.op.numpy, np.ufunc)


def fits(operand: Node, result: Node) -> bool:
    """Whether an operand of an element-wise op has the shape of its result: no axis of it is stretched."""
    shape, wanted = operand.type.shape, result.type.shape
    return len(shape) == len(wanted) and all(size != 1 or other == 1 for size, other in zip(shape, wanted, strict=True))


def _stretches(user: Node, operand: Node) -> bool:
    """Whether a user stretches the operand as far by itself: it has another operand of its result's full shape."""
    if not user.op.broadcasts or not (isinstance(user.op.numpy, np.ufunc) or user.op in (o.where, o.power)):
        return False  # a product of matrices is a ufunc too, and stretches nothing
    return any(i.op not in _STRETCHES and fits(i, user) for i in user.inputs if i is not operand)

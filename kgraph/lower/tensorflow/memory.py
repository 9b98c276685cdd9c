"""Whose memory a result is in.

A session hands its results out without a copy, and a variable keeps the tensor that is assigned to it. Either may be in memory
that something else is in: an array that was fed, a variable, a constant of the program, another result; also where the graph
says otherwise, because TensorFlow's optimiser leaves out what changes nothing, such as a sum with zeros.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.traverse import toposort
from kgraph.ir.types import numpy_dtype

#: Bytes up to which a result is copied by NumPy: that takes less time than one more op in the program.
SMALL = 2**16

#: Ops whose result is never in the memory of an operand.
_NEW: set[Op] = {
    o.matmul, o.sqrt, o.exp, o.expm1, o.log, o.log1p, o.sin, o.cos, o.tanh, o.sigmoid, o.softplus, o.relu, o.softmax,
    o.log_softmax, o.softmax_crossentropy,
}  # fmt: skip

#: Ops of which TensorFlow makes one operand, if it knows the other to be this.
_NEUTRAL: dict[Op, int] = {o.add: 0, o.subtract: 0, o.multiply: 1, o.divide: 1}

#: Ops of several operands whose value it does not find as long as it knows none of theirs. (Of x - x it does.)
_MIXING: set[Op] = {o.add, o.multiply, o.maximum, o.minimum, o.matmul, o.softmax_crossentropy}


def apart(x: Any) -> Any:
    """x in memory that nothing else is in: copied, unless nothing else holds it when it is asked for."""
    # TensorFlow makes one op of two equal ones, but for placeholders.
    return tf.raw_ops.Snapshot(input=tf.raw_ops.PlaceholderWithDefault(input=x, shape=x.shape))


class Memory:
    """What is known of the memory of a program's results.

    Args:
      graph: of the program.
    """

    def __init__(self, graph: Graph):
        order = [node for node in toposort(graph.roots, stop=graph.inputs) if node not in graph.inputs]
        unknown = set(graph.inputs)
        for node in order:
            if _stays_unknown(node, unknown):
                unknown.add(node)
        self._unknown = unknown
        self._fed = {node for node in graph.inputs if node.op is not o.variable}
        for node in order:
            if any(i in self._fed and self._passes(node, i) for i in node.inputs):
                self._fed.add(node)

    def copied(self, node: Node) -> bool:
        """Whether NumPy copies an output, rather than `apart`: it is small, or the program may keep it as a constant."""
        return _bytes(node) <= SMALL or node not in self._unknown

    def _passes(self, node: Node, operand: Node) -> bool:
        """Whether the result may be in the memory of an operand."""
        if node.op not in _NEUTRAL:
            return node.op not in _NEW
        return all(self._may_be_neutral(node.op, other) for other in node.inputs if other is not operand)

    def _may_be_neutral(self, op: Op, other: Node) -> bool:
        if other.op is o.constant:
            return bool((other.attrs[0][1].array == _NEUTRAL[op]).all())
        return other not in self._unknown

    def may_be_fed(self, node: Node) -> bool:
        """Whether a result may be in the memory of an array that was fed."""
        return node in self._fed


def _distinct(node: Node) -> bool:
    return len(set(node.inputs)) == len(node.inputs)


def _stays_unknown(node: Node, unknown: set[Node]) -> bool:
    """Whether TensorFlow cannot find the value of a node before the program is called."""
    known = [i for i in node.inputs if i not in unknown]
    if node.op.bodies or (not known and any(0 in i.type.shape for i in node.inputs)):
        return False
    if len(node.inputs) == 1:
        return not known and node.op is not o.shape
    if not known:
        return node.op in _MIXING and _distinct(node)
    scaled = len(known) == 1 and known[0].op is o.constant and node.op in (o.multiply, o.divide)
    return scaled and bool(known[0].attrs[0][1].array.all())


def _bytes(node: Node) -> float:
    """The size of a value, infinite while it is unknown."""
    sizes = [math.inf if size is None else size for size in node.type.shape]
    return math.inf if math.inf in sizes else math.prod(sizes) * numpy_dtype(node.dtype).itemsize

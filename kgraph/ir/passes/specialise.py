"""Fixing what is a value of its own while the graph is built, and a constant of the program: the learning phase."""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Graph
from kgraph.ir.passes.record import Record
from kgraph.ir.traverse import substitute, toposort


def specialise(graph: Graph, record: Record, phase: int) -> Graph:
    """The graph of one phase: 0 test, 1 train. What only the other phase needs falls away when it is folded."""
    # Bodies take the phase as one of their inputs, so that it is enough to look outside of them.
    for node in toposort(graph.roots):
        if node.op is o.learning_phase:
            fixed = o.scalar(phase, node.dtype)
            record.note("specialise", "learning_phase", node, fixed)
            return graph.with_roots(substitute(graph.roots, {node: fixed}))
    return graph

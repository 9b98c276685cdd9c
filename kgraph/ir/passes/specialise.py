"""Fixing what is open while the graph is built, and known to a program: the learning phase, sizes, values of placeholders."""

from __future__ import annotations

from collections.abc import Mapping

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.record import Record
from kgraph.ir.traverse import substitute, toposort


def specialise(graph: Graph, record: Record, phase: int | None = None, givens: Mapping[Node, Node] | None = None) -> Graph:
    """The graph of one phase; what only the other phase needs falls away when it is folded.

    Args:
      phase: 0 test, 1 train; None leaves it open.
      givens: placeholder -> a constant, or a placeholder of more known sizes.
    """
    known = dict(givens or {})
    if phase is not None:
        # Bodies take the phase as one of their inputs, so that it is enough to look outside of them.
        for node in toposort(graph.roots):
            if node.op is o.learning_phase:
                known[node] = o.scalar(phase, node.dtype)
                break
    if not known:
        return graph
    for before, after in known.items():
        record.note("specialise", before.op.name, before, after)
    inputs = [known.get(node, node) for node in graph.inputs]
    roots = substitute(graph.roots, known, steps=record.steps)
    count = len(graph.outputs)
    updates = zip((variable for variable, _ in graph.updates), roots[count:], strict=True)
    return Graph([i for i in inputs if i.op is not o.constant], roots[:count], updates, graph.built_as)

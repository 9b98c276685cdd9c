"""Meeting the engine: an op that it has no rule for is expanded into simpler ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import kgraph.ir.ops as o
from kgraph.errors import GraphError, MissingRule
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.op import Op
from kgraph.ir.origin import building
from kgraph.ir.record import Record
from kgraph.ir.traverse import rebuilt, substitute

#: An expansion may use ops that are expanded in their turn; more rounds than this is a circle.
MOST_ROUNDS = 20


def legalise(graph: Graph, record: Record, rules: Collection[Op]) -> Graph:
    """The graph in ops that have rules. Raises MissingRule naming the op and the K function that used it."""
    for _ in range(MOST_ROUNDS):
        changed = False

        def rebuild(node: Node, inputs: tuple[Any, ...]) -> Any:
            nonlocal changed
            if node.op is o.item and isinstance(inputs[0], tuple):
                return inputs[0][node.attr("index")]  # of an op with several results that has been expanded
            if node.op.source or node.op in rules:
                return rebuilt(node, inputs, lambda body: legalise(body, record, rules))
            if node.op.expand is None:
                raise missing_rule(node)
            changed = True
            before, building.origin = building.origin, node.origins[0]
            try:
                made = node.op.expand(*inputs, **dict(node.attrs))
            finally:
                building.origin = before
            record.note("legalise", "expand", node, made[0] if isinstance(made, tuple) else made)
            return made

        graph = graph.with_roots(substitute(graph.roots, {}, rebuild, every=True, steps=record.steps))
        if not changed:
            return graph
    raise GraphError(f"expanding the ops that the engine has no rule for came to no end in {MOST_ROUNDS} rounds")


def missing_rule(node: Node) -> MissingRule:
    """The error that names the op and the K function. The engine, and those that have the op, are for the caller to name."""
    error = MissingRule(f"there is no rule for the op {node.op.name}, and it has no expansion into simpler ops")
    error.op = node.op.name
    error.at(node.origin.function, [f"node: {describe(node)}"], str(node.origin))
    return error

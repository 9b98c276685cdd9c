"""The places of nodes: in a graph, and in the bodies of its loops and branches, with the lines that they come from there."""

from __future__ import annotations

from typing import NamedTuple

import kgraph.ir.ops as o
from kgraph.errors import KGraphError
from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import Origin
from kgraph.ir.traverse import substitute, toposort

#: Where a node is, from the outermost graph to the innermost body: the attr that holds the body ("" for the graph itself), and
#: the number of the node in its order.
Path = tuple[tuple[str, int], ...]


class Place(NamedTuple):
    """A node of a graph or body, and where its user has built it."""

    node: Node
    origin: Origin


def places(graph: Graph) -> dict[Path, Place]:
    """Every node of a graph and its bodies.

    Functions share bodies that are equal, with the lines of one of them. So a node of a body has the line of its twin: the
    same node over what the user has built it over.
    """
    found: dict[Path, Place] = {}
    pending: list[tuple[Path, str, list[Node], list[Node]]] = []

    def add(outer: Path, attr: str, body: Graph, over: dict[Node, Node]) -> None:
        order = toposort(body.roots, stop=body.inputs)
        pending.append((outer, attr, order, _twins(order, over) if over else order))

    add((), "", graph, {})
    for outer, attr, order, twins in pending:  # grows while it is gone through
        for number, (node, twin) in enumerate(zip(order, twins, strict=True)):
            path = (*outer, (attr, number))
            found[path] = Place(node, twin.origin)
            for name in node.op.bodies:
                body: Graph = node.attr(name)
                built = body.built_as if node.op is o.scan else twin.inputs[len(twin.inputs) - len(body.inputs) :]
                add(path, name, body, dict(zip(body.inputs, built, strict=False)))
    return found


def _twins(order: list[Node], over: dict[Node, Node]) -> list[Node]:
    try:
        return substitute(order, over)
    except KGraphError:  # a rule has made use of a size that was not known where it was built
        return order

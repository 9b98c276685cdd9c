"""``kgraph gradients``: which variables a gradient gets to, and where it ends."""

from __future__ import annotations

import argparse
from typing import Any

from kgraph.arguments import as_graph
from kgraph.command.parts import DIFFERS, FINE, TARGET, Answer, Command, argument, count, near, working, wrong
from kgraph.command.target import load
from kgraph.flow import gradient_ends
from kgraph.ir.node import Graph, Node
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort


def _gradients(asked: argparse.Namespace) -> Answer:
    """Follows the gradient of the outputs back to each variable, through loops and branches. Of a variable that it does
    not get to, says which node ends it, why, and your line. The exit status is 1 if there is such a variable.
    """
    graph = as_graph(load(asked.target))
    if asked.output is not None:
        if asked.output > len(graph.outputs):
            raise wrong(f"--output is {asked.output}, and there are {len(graph.outputs)} outputs")
        graph = Graph(graph.inputs, [graph.outputs[asked.output - 1]])
    variables: Any = None
    if asked.of:
        variables = [Tensor(node) for name in asked.of for node in _named(graph, name)]
    with working("following the gradient"):
        found = gradient_ends(graph, variables)
    return Answer(lambda: str(found), lambda: {"variables": found.as_data()}, FINE if found.reached else DIFFERS)


def _named(graph: Graph, name: str) -> list[Node]:
    """The variables and placeholders of a name. Raises ArgumentError for none."""
    order = toposort((*graph.inputs, *graph.roots, *[variable for variable, _ in graph.updates]), stop=graph.inputs)
    found = [node for node in order if node.name == name]
    if not found:
        known = [node.name for node in order if node.name]
        raise wrong(f"the graph has no variable called {name!r}", hint=near(name, known, "its variables and placeholders"))
    return found


COMMANDS = (
    Command(
        "gradients", "which variables get a gradient, where it ends",
        ("kgraph gradients model.py:loss", "kgraph gradients step.safetensors --of embedding --output 1"),
        (
            TARGET,
            argument("--of", metavar="NAME", action="append", default=[], help="only this variable, or placeholder"),
            argument("--output", metavar="N", type=count, help="the loss is the Nth output, not all of them together"),
        ),
        _gradients,
    ),
)  # fmt: skip

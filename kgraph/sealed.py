"""A graph that reads nothing but what it is fed, and has no effect: of variables, draws and prints placeholders are left, at
whatever depth of loops and branches they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.bounds import DRAWS
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.origin import building
from kgraph.ir.traverse import rebuilt, substitute, toposort
from kgraph.ir.types import numpy_dtype
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES
from kgraph.quiet import quietly

Array = np.ndarray[Any, Any]


@quietly
def sealed(graph: Graph, values: Mapping[Node, Any]) -> tuple[Graph, dict[Node, Array]]:
    """The graph over placeholders alone, and the value of each.

    What is drawn is what the NumPy engine would draw next, as the streams stay where they are. New values of variables
    are outputs of the result, after its own.

    Args:
      values: of the placeholders. The learning phase has to be known.
    """
    roots = without_prints(graph.roots)
    made, fed = _without_state(roots)
    known: dict[Node, Any] = dict(values)
    for node in toposort(fed.values()):
        if node.op is o.variable:
            known[node] = node.attr("uid").get()
        elif node.op is o.stream:
            known[node] = node.attr("uid").key
    drawn = evaluator(Graph(list(known), list(fed.values())), RULES)(*known.values())
    given = {node: np.asarray(value) for node, value in values.items()}
    for stand_in, value in zip(fed, drawn, strict=True):
        given[stand_in] = np.asarray(value, numpy_dtype(stand_in.dtype))
    return Graph(list(given), made), given


def without_prints(roots: Sequence[Node]) -> list[Node]:
    """The roots with nothing printed."""

    def change(body: Graph) -> Graph:
        return Graph(body.inputs, without_prints(body.outputs), built_as=body.built_as)

    def remake(node: Node, inputs: tuple[Node, ...]) -> Node:
        return inputs[0] if node.op is o.print_ else rebuilt(node, inputs, change)

    return substitute(roots, {}, remake, every=True)


def _without_state(roots: Sequence[Node], stop: Sequence[Node] = ()) -> tuple[list[Node], dict[Node, Node]]:
    """The roots over placeholders in the place of variables and draws; and these placeholders, with what they stand for."""
    fed: dict[Node, Node] = {}

    def stand_in(of: Node, name: str | None = None) -> Node:
        found = o.placeholder(type=of.type, uid=Identity(name))
        fed[found] = of
        return found

    def remake(node: Node, inputs: tuple[Node, ...]) -> Node:
        before, building.origin = building.origin, node.origins[0]
        try:
            if node.op is o.variable:
                return stand_in(node, node.name)
            if node.op in DRAWS or node.op is o.stream:
                return stand_in(node)
            if node.op is o.scan:
                return _loop(node, inputs, stand_in)
            if node.op is o.cond:
                return _branch(node, inputs, stand_in)
            return rebuilt(node, inputs)
        finally:
            building.origin = before

    made = substitute(roots, {node: node for node in stop}, remake, every=True)
    used = set(toposort(made))
    return made, {stand: of for stand, of in fed.items() if stand in used}


def _loop(node: Node, inputs: tuple[Node, ...], stand_in: Any) -> Node:
    """A loop which is given what its steps draw as further sequences."""
    attrs = dict(node.attrs)
    body: Graph = attrs["body"]
    outputs, fed = _without_state(body.outputs, body.inputs)
    if not fed:
        return rebuilt(node, inputs)
    # The draws of all steps are what a loop would give that has them as further results.
    drawing = Graph(body.inputs, [*body.outputs, *fed.values()], built_as=body.built_as)
    loop = o.scan(*node.inputs, **{**attrs, "body": drawing})
    stacks = [stand_in(o.item(loop, index=len(body.outputs) + i)) for i in range(len(fed))]
    split = 1 + attrs["sequences"]
    over, built = [[*nodes[:split], *fed, *nodes[split:]] if nodes else [] for nodes in (body.inputs, body.built_as)]
    attrs |= {"body": _closed(over, outputs, built), "sequences": attrs["sequences"] + len(fed)}
    return o.scan(*inputs[:split], *stacks, *inputs[split:], **attrs)


def _branch(node: Node, inputs: tuple[Node, ...], stand_in: Any) -> Node:
    """A branch which is given what its sides draw."""
    attrs = dict(node.attrs)
    sides: list[Graph] = [attrs["then"], attrs["orelse"]]
    made = [_without_state(side.outputs, side.inputs) for side in sides]
    fed = [*made[0][1], *made[1][1]]
    if not fed:
        return rebuilt(node, inputs)
    drawing = [
        Graph(side.inputs, [*side.outputs, *[own.get(stand) or o.absent(type=stand.type) for stand in fed]])
        for side, (_, own) in zip(sides, made, strict=True)
    ]
    branch = o.cond(*node.inputs, then=drawing[0], orelse=drawing[1])
    count = len(sides[0].outputs)
    given = [stand_in(o.item(branch, index=count + i)) for i in range(len(fed))]
    then, orelse = [_closed([*side.inputs, *fed], outputs) for side, (outputs, _) in zip(sides, made, strict=True)]
    return o.cond(*inputs, *given, then=then, orelse=orelse)


def _closed(over: Sequence[Node], outputs: Sequence[Node], built_as: Sequence[Node] = ()) -> Graph:
    """The body with parameters in the place of some nodes."""
    parameters = [o.param(index=i, type=node.type) for i, node in enumerate(over)]
    results = substitute(outputs, dict(zip(over, parameters, strict=True)))
    return Graph(parameters, results, built_as=built_as)

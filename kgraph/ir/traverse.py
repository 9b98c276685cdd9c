"""The only walks of a graph. Each keeps its own stack: depth costs nothing but memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import building
from kgraph.ir.types import TensorType


def toposort(outputs: Iterable[Node], stop: Iterable[Node] = ()) -> list[Node]:
    """Every node that the outputs need, inputs before users, in the order of a depth-first visit of inputs from left to right.

    The order depends on the structure alone, so that equal structures are listed alike.

    Args:
      stop: nodes that are given: they are listed where they are needed, what they are made of is not.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    add = seen.add
    given = set(stop)
    stack: list[Node | None] = []
    pop, push = stack.pop, stack.append
    for output in outputs:
        push(output)
        # A None on the stack means that the node under it has all of its inputs listed.
        while stack:
            node = pop()
            if node is None:
                order.append(pop())  # type: ignore[arg-type]
                continue
            if node in seen:
                continue
            add(node)
            inputs = node.inputs
            if not inputs or node in given:
                order.append(node)
                continue
            push(node)
            push(None)
            if len(inputs) == 1:
                if inputs[0] not in seen:
                    push(inputs[0])
            else:
                for i in inputs[::-1]:
                    if i not in seen:
                        push(i)
    return order


def substitute(
    roots: Sequence[Node],
    replaced: Mapping[Node, Node],
    rebuild: Callable[[Node, tuple[Node, ...]], Node] | None = None,
    every: bool = False,
    steps: dict[Node, Node] | None = None,
) -> list[Node]:
    """The roots with some nodes replaced by others, and their users rebuilt over those.

    Args:
      replaced: old node -> new node. What a replaced node was made of is not visited.
      rebuild: ``(node, new inputs) -> node`` instead of `rebuilt`, called for nodes whose inputs changed.
      every: call it for every node.
      steps: takes, for each node that another came in the place of, that one.
    """
    made: dict[Node, Node] = dict(replaced)
    remake = rebuild or rebuilt
    for node in toposort(roots, stop=replaced):
        if node not in made:
            inputs = tuple([made[i] for i in node.inputs])
            made[node] = remake(node, inputs) if every or inputs != node.inputs else node
    if steps is not None:
        for node, new in made.items():
            if new is not node and isinstance(new, Node):
                steps.setdefault(node, new)
    return [made[root] for root in roots]


def rebuilt(node: Node, inputs: tuple[Node, ...], change: Callable[[Graph], Graph] | None = None) -> Node:
    """The same op and attrs over other inputs, from the same place in the user's program.

    Args:
      change: what becomes of the bodies, if it has any.
    """
    before, building.origin = building.origin, node.origins[0]
    try:
        attrs = node.attrs
        if node.op.bodies:
            types = tuple([i.type for i in inputs])
            given = types if node.op.given is None else node.op.given(*types, **dict(attrs))
            attrs = tuple(
                [(name, _body_over(value, given, change) if name in node.op.bodies else value) for name, value in attrs]
            )
        return node if inputs == node.inputs and attrs == node.attrs else node.op.apply(inputs, attrs)
    finally:
        building.origin = before


def _body_over(body: Graph, types: Sequence[TensorType], change: Callable[[Graph], Graph] | None) -> Graph:
    """A body for parameters of the last of some types, which may be known more precisely than its own were."""
    given = types[len(types) - len(body.inputs) :]
    if any(parameter.type is not type for parameter, type in zip(body.inputs, given, strict=True)):
        parameters = [
            p.op.apply((), (("index", i), ("type", type))) for i, (p, type) in enumerate(zip(body.inputs, given, strict=True))
        ]
        outputs = substitute(body.outputs, dict(zip(body.inputs, parameters, strict=True)))
        body = Graph(parameters, outputs, built_as=body.built_as)
    return body if change is None else change(body)


def reachable(order: Sequence[Node], sources: Iterable[Node], through: Callable[[Node], bool] = lambda node: True) -> set[Node]:
    """The sources and every node of the order (inputs first) that is made of one of them, over nodes that let pass."""
    found = set(sources)
    for node in order:
        if node not in found and through(node) and any(i in found for i in node.inputs):
            found.add(node)
    return found


def sources(order: Iterable[Node], op_name: str) -> list[Node]:
    """The nodes of one source op, in order."""
    return [node for node in order if node.op.name == op_name]

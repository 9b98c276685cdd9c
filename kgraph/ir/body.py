"""Closed bodies: making a `Graph` of what depends on its parameters, every outer value an explicit input.

A loop is traced: its step function is called once with parameters of its own, which bear an identity until the body is
closed. A branch is closed over the nodes that only it needs. Parameters of a closed body are positional, so that equal
bodies are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import kgraph.ir.ops as o
from kgraph.errors import BodyError
from kgraph.ir.node import Graph, Identity, Node, describe
from kgraph.ir.origin import here
from kgraph.ir.traverse import reachable, rebuilt, toposort
from kgraph.ir.types import TensorType


class Parameter(Identity):
    """Whose parameter a node is while a body is traced: of which loop or branch, begun at which line."""

    __slots__ = ("of", "place")

    def __init__(self, name: str | None = None, of: str = "body", place: str = ""):
        super().__init__(name)
        self.of, self.place = of, place


def trace(
    build: Callable[..., Iterable[Node]], types: Sequence[TensorType], of: str, names: Sequence[str] | None = None
) -> tuple[Graph, tuple[Node, ...]]:
    """The closed body that ``build`` makes of parameters of the given types.

    Args:
      build: takes one node per type, returns the results.
      of: what the body belongs to, for messages: "rnn", "map_fn".
      names: what messages call the parameters.
    Returns: the body, whose first inputs are the parameters and whose others are the captures; the outer nodes captured.
    """
    place = str(here(2))
    birth = Identity().number  # what is born later is born inside
    given = [
        o.param(index=Parameter(names[i] if names else f"{of}[{i}]", of, place), type=type) for i, type in enumerate(types)
    ]
    outputs = tuple(build(*given))
    order = toposort(outputs)
    inside = reachable(order, [*given, *(node for node in order if _belongs(node, birth))])
    body, captures = close(outputs, [node for node in order if node in inside], given)
    return Graph(body.inputs, body.outputs, built_as=[*given, *captures, *outputs]), captures


def _belongs(node: Node, birth: int) -> bool:
    """Whether a node that depends on no parameter belongs to the body all the same: a print or a draw built in it."""
    return (node.op.effect and node.attr("uid").number > birth) or any(
        i.op is o.stream and i.attr("uid").number > birth for i in node.inputs
    )


def close(outputs: Sequence[Node], inside: Iterable[Node], given: Sequence[Node] = ()) -> tuple[Graph, tuple[Node, ...]]:
    """The body of outputs that consists of the nodes inside; what they use from outside becomes inputs, after those given.

    Args:
      inside: inputs before users.
      given: nodes that become the first inputs of the body.

    Constants are no captures: they are in the body as they are.
    """
    captures: list[Node] = []
    made: dict[Node, Node] = {node: o.param(index=i, type=node.type) for i, node in enumerate(given)}

    def resolve(node: Node) -> Node:
        found = made.get(node)
        if found is None:
            found = node
            if node.op is not o.constant and node.op is not o.absent:
                found = o.param(index=len(given) + len(captures), type=node.type)
                captures.append(node)
            made[node] = found
        return found

    for node in inside:
        if node not in made:
            inputs = tuple([resolve(i) for i in node.inputs])
            made[node] = node if inputs == node.inputs else rebuilt(node, inputs)
    results = [resolve(node) for node in outputs]
    types = [node.type for node in (*given, *captures)]
    return Graph([o.param(index=i, type=type) for i, type in enumerate(types)], results), tuple(captures)


def check_no_strays(order: Iterable[Node], call: str = "function") -> None:
    """Raises BodyError, in the name of a call, for a parameter of a body that is used outside of it."""
    for node in order:
        if node.op is o.param and isinstance(node.attr("index"), Parameter):
            parameter = node.attr("index")
            raise BodyError(
                f"a value of the body of {parameter.of} is used outside of it",
                hint=f"return it from the function given to {parameter.of}, and use what {parameter.of} returns",
            ).at(call, [f"value: {describe(node)}", f"body:  {parameter.of} at {parameter.place}"], str(node.origin))

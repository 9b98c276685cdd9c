"""A graph computed by NumPy, one node after the other, while somebody watches: what each is given, and what it gives.

NumPy's meaning of an op is what every engine is held to, so that what is seen here is so on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import IndexOutOfRange, KGraphError, ShapeError
from kgraph.ir.node import Graph, Node
from kgraph.ir.traverse import toposort
from kgraph.lower.numpy import RULES
from kgraph.quiet import quietly

if TYPE_CHECKING:
    from kgraph.function import Function

Array = np.ndarray[Any, Any]


class Place(NamedTuple):
    """Where in a loop or branch a node is: which one, which of its bodies, and in which step, if it is a loop."""

    owner: Node
    body: str
    step: int | None

    def __str__(self) -> str:
        what = f"step {self.step} of" if self.step is not None else "a side of"
        return f"{what} {self.owner.origin.function or self.owner.op.name} at {self.owner.origin}"


#: (node, its operands, its result, the loops and branches that it is in, outermost first).
Watcher = Callable[[Node, Sequence[Any], Any, tuple[Place, ...]], None]


@quietly
def watched(graph: Graph, values: Mapping[Node, Any], watch: Watcher) -> list[Any]:
    """The values of a graph's roots.

    Args:
      values: of placeholders, variables and streams.
      watch: called after each node, those in bodies each time that they run, and before its users.
    """
    given = list(values)
    program = _Watched(watch).program(Graph(given, graph.roots))
    return list(program(*values.values()))


def _explained(error: Exception, node: Node) -> Exception:
    """What a rule has raised, with the node, its operands and the user's line."""
    if isinstance(error, KGraphError):
        return error if error.place else node.op.explained(error, node.inputs, node.origin)
    kind = IndexOutOfRange if isinstance(error, IndexError) else ShapeError
    return node.op.explained(kind(str(error)), node.inputs, node.origin)


class _Watched:
    def __init__(self, watch: Watcher):
        self.watch = watch
        self.places: tuple[Place, ...] = ()

    def program(self, graph: Graph) -> Any:
        """The function that computes a graph's roots."""
        rows = []
        slots = {node: i for i, node in enumerate(graph.inputs)}
        for node in toposort(graph.roots, stop=graph.inputs):
            if node not in slots:
                bodies = {name: self._body(node, name) for name in node.op.bodies}
                rows.append((node, [slots[i] for i in node.inputs], {**dict(node.attrs), **bodies}))
                slots[node] = len(slots)
        results = [slots[root] for root in graph.roots]

        def run(*values: Any) -> tuple[Any, ...]:
            found = list(values)
            for node, operands, attrs in rows:
                given = [found[i] for i in operands]
                try:
                    made = RULES[node.op](*given, **attrs)
                except (IndexError, ValueError) as error:
                    raise _explained(error, node) from None
                self.watch(node, given, made, self.places)
                found.append(made)
            return tuple([found[i] for i in results])

        run.types = [root.type for root in graph.roots]  # type: ignore[attr-defined]
        return run

    def _body(self, owner: Node, name: str) -> Any:
        inner = self.program(owner.attr(name))

        def run(*values: Any) -> tuple[Any, ...]:
            before = self.places
            self.places = (*before, Place(owner, name, int(values[0]) if owner.op is o.scan else None))
            try:
                return inner(*values)
            finally:
                self.places = before

        run.types = inner.types  # type: ignore[attr-defined]
        return run


def held(graph: Graph) -> dict[Node, Any]:
    """The values of a graph's variables, and the keys of its streams, which stay where they are."""
    found: dict[Node, Any] = {}
    for node in toposort(graph.roots):
        if node.op is o.variable:
            found[node] = node.attr("uid").get()
        elif node.op is o.stream:
            found[node] = node.attr("uid").key
    return found


def without_updates(
    function: Function, args: Sequence[Any], named: dict[str, Any], training: Any
) -> tuple[Graph, dict[Node, Any], int]:
    """For who looks at a call: the graph as the engine gets it, but new values of variables are outputs, and none is written;
    the values of its inputs, and of the placeholders that it does not need; the phase.

    Args:
      args, named, training: as of the call.
    """
    arrays, now = function._values(args, named, training)
    closed, _ = function._closed(now, function._listing(), function.engine)
    arrays.update({node: node.attrs[0][1].array for node in closed.inputs if node.op is o.constant})
    return Graph(closed.inputs, closed.roots), {**arrays, **held(closed)}, now

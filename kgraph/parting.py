"""The first node at which an engine parts from the reference.

Each node gets the operands that NumPy has computed, so that a node is blamed for what it does alone. All nodes are one program
of the engine, which is compiled once; the nodes of a body are another one, called once per step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.bounds import allowed, is_alike, units, within
from kgraph.function import Function, restored
from kgraph.ir.node import Graph, Identity, Node, describe
from kgraph.ir.origin import Origin, building
from kgraph.ir.passes import Passes, chosen
from kgraph.ir.traverse import rebuilt, toposort
from kgraph.ir.types import is_tuple, numpy_dtype
from kgraph.lower.engine import Engine
from kgraph.quiet import quietly
from kgraph.watch import Array, Place, watched

#: Steps of a loop that are looked into.
MOST_STEPS = 100


def function_of(
    graph: Graph, engine: str | Engine, made: Origin, passes: Passes | None = None, options: Mapping[str, Any] | None = None
) -> Function:
    """A function of a graph of placeholders; as built, unless passes are named."""
    plan = chosen(False) if passes is None else passes
    shown, names = [describe(node) for node in graph.inputs], [node.name for node in graph.inputs]
    return restored(graph, None, shown, names, False, made, engine, plan, dict(options or {}))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Parting:
    """A node that gives something else on an engine, of operands that are the same.

    Attributes:
      engine: its name.
      node: carries the user's line.
      operands: what it was given.
      output: which of its results it is, if it has several.
      wanted, found: the result of the reference and of the engine; found is None if the engine has raised an error.
      places: the loops, with the step, and the branches that the node is in, outermost first.
      error: what the engine has raised.
    """

    engine: str
    node: Node
    operands: tuple[Array, ...]
    output: int
    wanted: Array
    found: Array | None
    places: tuple[Place, ...] = ()
    error: str | None = None

    @property
    def index(self) -> tuple[int, ...]:
        """Of the element that is furthest off."""
        if self.found is None:
            return ()
        return worst(self.found, self.wanted)

    @property
    def line(self) -> str:
        """The user's, as ``file:line``."""
        return str(o.as_built(self.places[-1].owner, self.node).origin if self._in_loop else self.node.origin)

    @property
    def _in_loop(self) -> bool:
        return bool(self.places) and self.places[-1].step is not None

    def __str__(self) -> str:
        call = self.node.origin.function or self.node.op.name
        what = self.node.op.name if call == self.node.op.name else f"{self.node.op.name} (of {call})"
        role = " in a gradient" if self.node.origin.role == "gradient" else ""
        lines = [f"{self.engine} parts first at {what}{role}, at {self.line}"]
        lines += [f"  in {place}" for place in reversed(self.places)]
        if self.found is None:
            lines.append(f"  it raises {self.error}")
        elif not is_alike(self.found, self.wanted):
            forms = [f"{x.dtype}{list(x.shape)}" for x in (self.found, self.wanted)]
            lines.append(f"  it gives {forms[0]}, numpy {forms[1]}")
        else:
            at = f" at {list(self.index)}" if self.index else ""
            lines.append(f"  it gives {self.found[self.index]!s}{at}, numpy {self.wanted[self.index]!s}")
        names = [*self.node.op.input_names, *[self.node.op.rest_name] * len(self.operands)]
        for name, i, array in zip(names, self.node.inputs, self.operands, strict=False):
            there = ""
            if array.shape == self.wanted.shape and self.index and array.size > 1:
                there = f", {array[self.index]!s} there"
            lines.append(f"  {name}: {i.type}{there or _short(array)}")
        return "\n".join(lines)


def _short(array: Array) -> str:
    return f", {array.tolist()}" if array.size <= 4 else ""


def worst(found: Array, wanted: Array) -> tuple[int, ...]:
    """The index of the element that is furthest off."""
    if not is_alike(found, wanted) or not wanted.size:
        return ()
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(units(found, wanted))), wanted.shape))


@dataclass(frozen=True)
class Frame:
    """What the nodes of a graph, or of a body in one step, have given."""

    values: Mapping[Node, Any]
    places: tuple[Place, ...] = ()


class Batch:
    """The nodes of a graph as one function of an engine, each over placeholders in the place of its operands."""

    def __init__(self, nodes: Sequence[Node], engine: str | Engine, made: Origin):
        self.nodes = nodes
        given: dict[Node, Node] = {}

        def stand_in(node: Node) -> Node:
            if node.op in (o.constant, o.absent):
                return node
            if node not in given:
                before, building.origin = building.origin, node.origins[0]
                try:
                    given[node] = o.placeholder(type=node.type, uid=Identity(node.name))
                finally:
                    building.origin = before
            return given[node]

        roots: list[Node] = []
        self.counts = []
        for node in nodes:
            alone = rebuilt(node, tuple([stand_in(i) for i in node.inputs]))
            results = [o.item(alone, index=i) for i in range(len(node.type.items))] if is_tuple(node.type) else [alone]  # type: ignore[attr-defined]
            self.counts.append(len(results))
            roots += results
        self.operands = list(given)
        self.function = function_of(Graph(list(given.values()), roots), engine, made)

    def results(self, frame: Frame) -> list[list[Array]]:
        """What the engine gives: per node its results."""
        found = iter(self.function([as_array(frame.values[node], node) for node in self.operands]))
        return [[next(found) for _ in range(count)] for count in self.counts]


def as_array(value: Any, node: Node) -> Array:
    return np.asarray(value, numpy_dtype(node.dtype))


class Search:
    """Looks for the first node at which an engine parts.

    Args:
      made: the line that asks.
    """

    def __init__(self, engine: str | Engine, made: Origin):
        self.engine, self.made = engine, made
        self.name = engine.name if isinstance(engine, Engine) else engine

    @quietly
    def first(self, graph: Graph, values: Mapping[Node, Any]) -> Parting | None:
        """The first node of a graph over placeholders; None if each is as it should be."""
        return self._first(toposort(graph.roots), [Frame(computed(graph, values))])

    def _first(self, order: Iterable[Node], frames: Iterable[Frame]) -> Parting | None:
        nodes = [node for node in order if not node.op.source and node.op is not o.item]
        if not nodes:
            return None
        batch = None
        for frame in frames:
            try:
                batch = batch or Batch(nodes, self.engine, self.made)
                made = batch.results(frame)
            except Exception as error:  # a rule may raise anything
                return self._raising(nodes, frame, error)
            for node, results in zip(nodes, made, strict=True):
                parting = self._look(node, results, frame)
                if parting is not None:
                    return self._inside(parting) or parting
        return None

    def _look(self, node: Node, results: Sequence[Array], frame: Frame) -> Parting | None:
        operands = operands_of(node, frame.values)
        wanted = frame.values[node] if is_tuple(node.type) else [frame.values[node]]
        types = node.type.items if is_tuple(node.type) else [node.type]  # type: ignore[attr-defined]
        for i, (found, value, type) in enumerate(zip(results, wanted, types, strict=True)):
            right = np.asarray(value, numpy_dtype(type.dtype))
            if parts(node, operands, found, right, i):
                return Parting(self.name, node, operands, i, right, found, frame.places)
        return None

    def _inside(self, parting: Parting) -> Parting | None:
        """The node of a loop or branch that is to blame; None if it is the loop itself."""
        node = parting.node
        if not node.op.bodies:
            return None
        values = dict(zip(node.inputs, parting.operands, strict=True))
        for name in node.op.bodies:
            body: Graph = node.attr(name)
            found = self._first(toposort(body.outputs, stop=body.inputs), frames_of(node, name, values, parting.places))
            if found is not None:
                return found
        return None

    def _raising(self, nodes: Sequence[Node], frame: Frame, error: Exception) -> Parting | None:
        """The first node that makes the engine raise an error alone, by halves."""
        while len(nodes) > 1:
            half = len(nodes) // 2
            again = self._error(nodes[:half], frame)
            nodes, error = (nodes[:half], again) if again is not None else (nodes[half:], error)
        last = self._error(nodes, frame)
        if last is None:
            return None
        (node,) = nodes
        value = frame.values[node][0] if is_tuple(node.type) else frame.values[node]
        operands = operands_of(node, frame.values)
        parting = Parting(self.name, node, operands, 0, np.asarray(value), None, frame.places, message_of(last))
        return self._inside(parting) or parting

    def _error(self, nodes: Sequence[Node], frame: Frame) -> Exception | None:
        try:
            Batch(nodes, self.engine, self.made).results(frame)
        except Exception as error:  # whatever a rule raises
            return error
        return None


def parts(node: Node, operands: Sequence[Array], found: Array, wanted: Array, output: int) -> bool:
    """Whether a result is further off than is allowed."""
    if within(found, wanted, 0.0):
        return False
    return not is_alike(found, wanted) or not within(found, wanted, allowed(node, operands, wanted, output))


def message_of(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def operands_of(node: Node, values: Mapping[Node, Any]) -> tuple[Array, ...]:
    return tuple([as_array(_value(i, values), i) for i in node.inputs])


def _value(node: Node, values: Mapping[Node, Any]) -> Any:
    if node not in values and node.op is o.constant:
        return node.attr("value").array
    return values[node]


def computed(graph: Graph, values: Mapping[Node, Any]) -> dict[Node, Any]:
    """The value of every node of a graph, as NumPy has it."""
    found = dict(values)

    def watch(node: Node, operands: Sequence[Any], result: Any, places: tuple[Place, ...]) -> None:
        if not places:
            found[node] = result

    watched(graph, values, watch)
    return found


def frames_of(
    owner: Node, name: str, values: Mapping[Node, Any], places: tuple[Place, ...]
) -> Iterator[Frame]:  # fmt: skip
    """What the nodes of a body give each time that it runs, the first times."""
    body: Graph = owner.attr(name)
    frames: list[tuple[Place, dict[Node, Any]]] = []

    def watch(node: Node, operands: Sequence[Any], result: Any, inside: tuple[Place, ...]) -> None:
        if len(inside) != 1 or inside[0].body != name:
            return
        if not frames or frames[-1][0] is not inside[0]:
            frames.append((inside[0], {}))
        found = frames[-1][1]
        found[node] = result
        for i, value in zip(node.inputs, operands, strict=True):
            found.setdefault(i, value)

    watched(Graph(list(values), [owner]), values, watch)
    for place, found in frames[:MOST_STEPS]:
        if all(node in found or node.op.source for node in toposort(body.outputs, stop=body.inputs)):
            yield Frame(found, (*places, place))

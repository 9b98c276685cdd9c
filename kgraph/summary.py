"""What a graph is made of, and what it costs, added up by op, by name scope and by variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kgraph.errors import ArgumentError
from kgraph.ir import cost
from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import Origin
from kgraph.ir.polynomial import Polynomial, interpolated
from kgraph.ir.repeats import SAVED
from kgraph.ir.traverse import toposort

HEADS = ("nodes", "parameters", "flops", "bytes")
LARGEST = 10  # variables that are listed


class Part(NamedTuple):
    """A part of a graph.

    Attributes:
      name: of the op, the scope ("encoder/layer_1"; "" for what is in none) or the variable.
      nodes: how many, those of bodies, sources and constants among them.
      parameters: elements of variables.
      flops, bytes: see `kgraph.ir.cost`; polynomials where sizes are not known, None where they follow from values alone.
      line: of a variable.
    """

    name: str
    nodes: int
    parameters: int
    flops: Any
    bytes: Any
    line: str = ""


class Summary:
    """The parts of a graph.

    Args:
      sizes: values of unknown sizes, by the names that they have in the polynomials.
    Raises: ArgumentError for sizes that do not fit.

    Attributes:
      total: the whole.
      ops: by op, the dearest first.
      scopes: by name scope, in order; with what is in the scopes within.
      variables: the largest first; their bytes are those that they hold.
    """

    def __init__(self, graph: Graph, sizes: Mapping[str, int] | None = None):
        nodes = list(_every_node(graph))
        ops = dict.fromkeys(node.op.name for node in nodes)
        scopes = _in_order(dict.fromkeys(node.origin.scope for node in nodes))
        places = {("op", name): i for i, name in enumerate(ops)}
        places.update({("scope", name): len(ops) + i for i, name in enumerate(scopes)})
        self._size = len(places) + 1  # the last one is the whole
        self._places = places
        self._known: dict[tuple[str, Origin], list[int]] = {}
        counts, parameters = [0] * self._size, [0] * self._size
        variables = [node for node in dict.fromkeys(nodes) if node.op.name == "variable"]
        for node in nodes:
            for place in self._places_of(node):
                counts[place] += 1
        for node in variables:
            for place in self._places_of(node):
                parameters[place] += node.type.size or 0
        flops, moved = self._figures(graph, sizes)
        parts = [
            Part(name, *figures)
            for name, *figures in zip([*ops, *scopes, "total"], counts, parameters, flops, moved, strict=True)
        ]
        self.ops = sorted(parts[: len(ops)], key=_dearness)
        self.scopes, self.total = parts[len(ops) : -1], parts[-1]
        held = [
            Part(node.name or "", 1, node.type.size or 0, None, cost.bytes_of(node.type), str(node.origin))
            for node in variables
            if node.type.is_static
        ]
        self.variables = sorted(held, key=lambda part: -part.bytes)

    def _places_of(self, node: Node) -> list[int]:
        origin = node.origin
        found = self._known.get((node.op.name, origin))
        if found is None:
            names = [("op", node.op.name), *[("scope", name) for name in _around(origin.scope)]]
            found = self._known[node.op.name, origin] = [*[self._places[name] for name in names], self._size - 1]
        return found

    def _figures(self, graph: Graph, sizes: Mapping[str, int] | None) -> tuple[Sequence[Any], Sequence[Any]]:
        """Operations and bytes of each part."""
        try:
            unknown = cost.Unknowns(graph)
        except ArgumentError:
            return [None] * self._size, [None] * self._size
        if sizes is not None or not unknown.of:
            found: Sequence[Any] = self._tally(unknown.at(sizes or {}))
        else:
            names = list(unknown.of)
            degree = cost.degree_for(names)
            found = interpolated(names, lambda values: self._tally(unknown.walk(values)), degree, cost.STEP)
        return found[: self._size], found[self._size :]

    def _tally(self, walk: Any) -> list[int]:
        flops, moved = [0] * self._size, [0] * self._size
        pending = [(walk, 1)]
        for each, times in pending:
            for node, one in each.each.items():
                if node in each.inside:
                    pending += [(inner, times * count) for inner, count in each.inside[node]]
                    continue
                for place in self._places_of(node):
                    flops[place] += times * one.flops
                    moved[place] += times * one.bytes
        return flops + moved

    def as_data(self) -> dict[str, Any]:
        """The same as lists and dicts of numbers and texts, for JSON."""
        tables = {"ops": self.ops, "scopes": self.scopes, "variables": self.variables}
        data: dict[str, Any] = {name: [_plain(part) for part in parts] for name, parts in tables.items()}
        return {"total": _plain(self.total), **data}

    def tables(self) -> list[list[tuple[str, ...]]]:
        """Rows of cells: by op, by scope if there are any, and the largest variables."""
        found = [[("op", *HEADS), *map(_cells, self.ops), _cells(self.total)]]
        if any(part.name for part in self.scopes):
            found.append([("scope", *HEADS), *_scope_rows(self.scopes)])
        if self.variables:
            shown = [(part.name, f"{part.parameters:,}", _text(part.bytes), part.line) for part in self.variables[:LARGEST]]
            if len(self.variables) > LARGEST:
                rest = self.variables[LARGEST:]
                total = sum(part.parameters for part in rest), sum(part.bytes for part in rest)
                shown.append((f"{len(rest):,} more", f"{total[0]:,}", f"{total[1]:,}", ""))
            found.append([("variable", "parameters", "bytes", "line"), *shown])
        return found


def _scope_rows(scopes: Sequence[Part]) -> Iterator[tuple[str, ...]]:
    """A row for each scope, indented; neighbours of one cost, with no scopes in them, are one."""
    at = 0
    while at < len(scopes):
        part = scopes[at]
        around, _, name = part.name.rpartition("/")
        end = at
        while end < len(scopes) and scopes[end][1:] == part[1:] and scopes[end].name.rpartition("/")[0] == around:
            end += 1
        if end < len(scopes) and scopes[end].name.startswith(scopes[end - 1].name + "/"):
            end -= 1  # the last one has scopes in it
        if end - at > SAVED:
            name += f" to {scopes[end - 1].name.rpartition('/')[2]}, each of {end - at:,}"
        else:
            end = at + 1
        yield ("  " * part.name.count("/") + (name or "(none)"), *_cells(part)[1:])
        at = end


def _every_node(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of its bodies: those of a body as often as it stands somewhere."""
    pending = [graph]
    for each in pending:
        for node in toposort((*each.inputs, *each.roots, *[v for v, _ in each.updates]), stop=each.inputs):
            yield node
            if node.op.bodies:
                pending += [value for _, value in node.attrs if isinstance(value, Graph)]


def _around(scope: str) -> list[str]:
    """A scope and those around it, the outermost first."""
    parts = scope.split("/")
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _in_order(scopes: Mapping[str, None]) -> list[str]:
    """The scopes, and those around them, each behind the one that it is in."""
    within: dict[str | None, dict[str, None]] = {}
    for scope in scopes:
        around: str | None = None
        for name in _around(scope):
            within.setdefault(around, {})[name] = None
            around = name
    found: list[str] = []
    pending = list(within.get(None, ()))[::-1]
    while pending:
        name = pending.pop()
        found.append(name)
        pending += list(within.get(name, ()))[::-1]
    return found


def _dearness(part: Part) -> tuple[Any, ...]:
    """The order of a table: by operations, by bytes, by nodes, the most first."""
    return (*[-_size_of(count) for count in (part.flops, part.bytes)], -part.nodes, part.name)


def _size_of(count: Any) -> Any:
    """A number to sort by: a polynomial's value for large sizes."""
    if isinstance(count, Polynomial):
        return count(**dict.fromkeys(count.names, cost.STEP))
    return count or 0


def _cells(part: Part) -> tuple[str, ...]:
    return part.name, f"{part.nodes:,}", f"{part.parameters:,}" if part.parameters else "", _text(part.flops), _text(part.bytes)


def _text(count: Any) -> str:
    return "?" if count is None else f"{count:,}" if isinstance(count, int) else str(count)


def _plain(part: Part) -> dict[str, Any]:
    found = {name: value for name, value in part._asdict().items() if name != "line" or value}
    for name in ("flops", "bytes"):
        if isinstance(found[name], Polynomial):
            found[name] = str(found[name])
    return found

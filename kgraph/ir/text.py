"""A graph as text: a line per node, inputs before users, bodies of branches and loops indented.

What stands on a line is a `Row`; only the rows that are shown are spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.origin import Origin
from kgraph.ir.repeats import SAVED, Run, folded
from kgraph.ir.traverse import toposort

LONGEST = 200  # lines; a larger graph is cut in the middle


class Row(NamedTuple):
    """What stands on a line.

    Attributes:
      depth: how far it is indented.
      label: the name of a node, or what the line is: "return", "then:" ...
      node: None on lines that are no node's.
      names: of the operands.
      text: in the place of the call, on other lines.
      given: whether the node is an input of the graph: what it was made of is not computed.
    """

    depth: int
    label: str
    node: Node | None = None
    names: Mapping[Node, str] = {}
    text: str = ""
    given: bool = False


def listing(graph: Graph, lines: int = LONGEST) -> str:
    """The text of a graph: number, type, op with operands and attrs, line of the user."""
    return aligned([cells(row) for row in middle_cut(list(rows(graph)), lines)])


def rows(graph: Graph, fold: bool = False, depth: int = 0) -> Iterator[Row]:
    """The rows of a graph.

    Args:
      fold: whether runs of equal structure are shown once.
    """
    nodes, names = numbered(graph)
    given = set(graph.inputs)
    parts: Iterable[Node | Run] = folded(nodes, given) if fold else nodes
    yield from _rows_of(parts, names, given, fold, depth)
    yield from ends(graph, names, fold, depth)


def _rows_of(parts: Iterable[Node | Run], names: Mapping[Node, str], given: set[Node], fold: bool, depth: int) -> Iterator[Row]:
    for part in parts:
        if isinstance(part, Run):
            text = f"%{part.first} to %{part.first + part.count * part.size - 1}, {part.size} nodes each"
            yield Row(depth, f"{part.count:,} times:", text=text if part.size > 1 else text.partition(",")[0])
            yield from _rows_of(part.parts, names, given, fold, depth + 1)
            continue
        yield Row(depth, names[part], part, names, given=part in given)
        if part.op.bodies:
            for name, value in part.attrs:
                if isinstance(value, Graph):
                    yield Row(depth + 1, f"{name}:")
                    yield from rows(value, fold, depth + 2)


def ends(graph: Graph, names: Mapping[Node, str], fold: bool = False, depth: int = 0) -> Iterator[Row]:
    """The rows of results and updates."""
    yield Row(depth, "return", text=", ".join(names[node] for node in graph.outputs))
    texts = [f"{names[variable]} <- {names[value]}" for variable, value in graph.updates]
    # Updates of layers one like the other are a run: their numbers are the same steps apart.
    steps = [_step(one, other) for one, other in pairwise(texts)] if fold else []
    at = 0
    while at < len(texts):
        end = at + 1
        while end <= len(steps) and steps[end - 1] is not None and steps[end - 1] == steps[at]:
            end += 1
        if end - at - 2 >= SAVED:
            yield Row(depth, f"{end - at:,} times:", text=f"to {texts[end - 1]}")
            yield Row(depth + 1, "update", text=texts[at])
        else:
            end = at + 1
            yield Row(depth, "update", text=texts[at])
        at = end


def _step(one: str, other: str) -> list[int] | None:
    """How far the numbers of a text are from those of another; None if they differ in more."""
    if re.sub(r"%\d+", "%", one) != re.sub(r"%\d+", "%", other):
        return None
    numbers = [re.findall(r"%(\d+)", text) for text in (one, other)]
    return [int(y) - int(x) for x, y in zip(*numbers, strict=True)]


class Names(dict[Node, str]):
    """The names of nodes. That of a small constant is its value, spelled out when it is asked for."""

    def __missing__(self, node: Node) -> str:
        found = self[node] = repr(node.attrs[0][1])
        return found


def numbered(graph: Graph) -> tuple[list[Node], Names]:
    """The nodes that have a line, in order, and their names; small constants are shown where they are used."""
    targets = [variable for variable, _ in graph.updates]
    order = toposort((*graph.inputs, *graph.roots, *targets), stop=graph.inputs)
    nodes = [node for node in order if not is_inline(node)]
    return nodes, Names({node: f"%{number}" for number, node in enumerate(nodes)})


def is_inline(node: Node) -> bool:
    """Whether a node is a constant that is shown where it is used."""
    return node.op.name == "constant" and node.type.size is not None and node.type.size <= 4


def cells(row: Row) -> tuple[str, str, str, str]:
    """A row in columns: name, type, call, line of the user."""
    label = "  " * row.depth + row.label
    node = row.node
    if node is None:
        return label, "", row.text, ""
    return label, repr(node.type), call(node, row.names, row.given), str(node.origin)


def call(node: Node, names: Mapping[Node, str], given: bool = False) -> str:
    """What a node is: its op with operands and attrs, or what its user calls it."""
    if node.name:
        return f"{node.op.name} {node.name!r}"
    # In a call, what an input was made of is not computed.
    operands = ["..."] if given and node.inputs else [names[i] for i in node.inputs]
    attrs = [f"{name}={spelled(value)}" for name, value in node.attrs if name != "type" and not isinstance(value, Graph)]
    return f"{node.op.name}({', '.join(operands + attrs)})"


def spelled(value: Any) -> str:
    """An attr as text."""
    if isinstance(value, Identity):
        return value.name or f"#{value.number}"
    if isinstance(value, Constant):
        return repr(value)
    return str(value)


def scope_and_role(origin: Origin) -> str:
    """What else is known of the place of a node."""
    return " ".join(filter(None, [origin.scope, "" if origin.role == "forward" else origin.role]))


def middle_cut(found: list[Row], lines: int | None) -> list[Row]:
    """The first and the last of some rows, with how many there are between them."""
    if lines is None or len(found) <= lines:
        return found
    end = len(found) - (lines - lines // 2)
    return [*found[: lines // 2], Row(0, "", text=f"... {len(found) - lines} more ..."), *found[end:]]


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need be."""
    return "\n".join("  ".join(padded).rstrip() for padded in columns(table))


def columns(table: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells of a table filled up to the widths of their columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]

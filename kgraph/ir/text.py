"""A graph as text: a line per node, inputs before users, bodies of branches and loops indented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.traverse import toposort

LONGEST = 200  # lines; a larger graph is cut in the middle


def listing(graph: Graph, lines: int = LONGEST) -> str:
    """The text of a graph: number, type, op with operands and attrs, line of the user."""
    rows = list(_rows(graph, ""))
    if len(rows) > lines:
        rows = [*rows[: lines // 2], ("", "", f"... {len(rows) - lines} more ...", ""), *rows[-(lines - lines // 2) :]]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "\n".join(
        "  ".join(part.ljust(width) for part, width in zip(row, (*widths, 0), strict=True)).rstrip() for row in rows
    )


def _rows(graph: Graph, indent: str) -> Iterator[tuple[str, str, str, str]]:
    targets = [variable for variable, _ in graph.updates]
    given = set(graph.inputs)
    order = toposort((*graph.inputs, *graph.roots, *targets), stop=given)
    names: dict[Node, str] = {}
    number = 0
    for node in order:
        if node.op.name == "constant" and node.type.size is not None and node.type.size <= 4:
            names[node] = repr(node.attrs[0][1])
            continue
        number, names[node] = number + 1, f"%{number}"
        cut = node.inputs and node in given  # in a call: what it was made of is not computed
        operands = ["..."] if cut else [names[i] for i in node.inputs]
        attrs = [f"{name}={_shown(value)}" for name, value in node.attrs if name != "type" and not isinstance(value, Graph)]
        called = f"{node.op.name} {node.name!r}" if node.name else f"{node.op.name}({', '.join(operands + attrs)})"
        yield f"{indent}{names[node]}", repr(node.type), called, str(node.origin)
        for name, value in node.attrs:
            if isinstance(value, Graph):
                yield f"{indent}  {name}:", "", "", ""
                yield from _rows(value, indent + "    ")
    results = ", ".join(names[node] for node in graph.outputs)
    yield f"{indent}return", "", results, ""
    for variable, value in graph.updates:
        yield f"{indent}update", "", f"{names[variable]} <- {names[value]}", ""


def _shown(value: Any) -> str:
    if isinstance(value, Identity):
        return value.name or f"#{value.number}"
    if isinstance(value, Constant):
        return repr(value)
    return str(value)

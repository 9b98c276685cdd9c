"""A graph as text, for people: what is in it, what became of it, what it costs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kgraph.arguments import as_graph
from kgraph.diff import Diff, around_changes
from kgraph.errors import ArgumentError
from kgraph.ir.node import Graph
from kgraph.ir.text import LONGEST, Row, cells, columns, middle_cut, rows, scope_and_role
from kgraph.optimizer import optimize
from kgraph.summary import Summary
from kgraph.terminal import Line, plain, width_of, write

_STYLES = ("cyan", "green", "", "dim", "yellow")
_MARKS = {" ": "", "-": "red", "+": "green", "~": "yellow"}
_LEAST_CALL = 24  # columns: lines are not made to fit where less would be left of the call


def show(
    x: Any,
    passes: bool | Iterable[str] = False,
    *,
    exclude: Iterable[str] = (),
    finite: bool = False,
    training: bool | None = None,
    givens: Mapping[Any, Any] | None = None,
    engine: str | None = None,
    diff: Any = None,
    summary: bool = False,
    sizes: Mapping[str, int] | None = None,
    lines: int | None = LONGEST,
    fold: bool = True,
    file: Any = None,
) -> None:
    """Print a graph: a line for each node, inputs before users, with its name, type, op, operands, attrs, your line, and scope.

    In a terminal the lines are coloured and cut to its width; anywhere else, and with NO_COLOR, they are plain text.

    Args:
      x: a tensor, a list of tensors, a graph, or a function, which is shown as it was built; ``fn.optimized()`` is what its
        engine gets.
      passes, exclude, finite, training, givens, engine: as in `kgraph.optimize`: what is done to x first. Nothing, as they are.
      diff: what x was before: anything that x may be, or True for x as it was built. Of the two graphs is shown what went (-),
        what came (+), and what stayed with other operands (~).
      summary: show what the graph has and costs by op, by name scope and by variable.
      sizes: of a summary: values of sizes that are not known, by the names that it has for them, which give numbers.
      lines: at most so many, the first and the last ones; None for all.
      fold: whether runs of equal structure, such as the steps of an unrolled loop, are shown once, with how often they come.
      file: where to print to; None for what sys.stdout is.
    Raises: GraphError for what is no graph; ArgumentError for summary and diff together, and what `kgraph.optimize` raises.
    """
    target = sys.stdout if file is None else file
    graph, old = _graphs(x, passes, exclude, finite, training, givens, engine, diff, summary)
    write(_page(graph, old, summary, sizes, lines, fold, width_of(target)), target)


def to_text(
    x: Any,
    passes: bool | Iterable[str] = False,
    *,
    exclude: Iterable[str] = (),
    finite: bool = False,
    training: bool | None = None,
    givens: Mapping[Any, Any] | None = None,
    engine: str | None = None,
    diff: Any = None,
    summary: bool = False,
    sizes: Mapping[str, int] | None = None,
    lines: int | None = LONGEST,
    fold: bool = True,
) -> str:
    """What `show` prints for the same arguments, without colours."""
    graph, old = _graphs(x, passes, exclude, finite, training, givens, engine, diff, summary)
    return plain(_page(graph, old, summary, sizes, lines, fold, None))


def _graphs(
    x: Any,
    passes: bool | Iterable[str],
    exclude: Iterable[str],
    finite: bool,
    training: bool | None,
    givens: Mapping[Any, Any] | None,
    engine: str | None,
    diff: Any,
    summary: bool,
) -> tuple[Graph, Graph | None]:
    """The graph to show, and the one to compare it with."""
    if summary and diff is not None and diff is not False:
        raise ArgumentError("summary and diff were asked for together", hint="ask for one after the other").at("show")
    built = as_graph(x)
    if passes is False and training is None and givens is None and engine is None:
        graph = built
    else:
        graph = optimize(built, passes, exclude=exclude, finite=finite, training=training, givens=givens, engine=engine)
    if diff is None or diff is False:
        return graph, None
    return graph, built if diff is True else as_graph(diff)


def _page(
    graph: Graph, old: Graph | None, summary: bool, sizes: Mapping[str, int] | None, lines: int | None, fold: bool,
    width: int | None,
) -> list[Line]:  # fmt: skip
    if lines is not None and lines < 1:
        raise ArgumentError(f"lines is {lines}", hint="one at least, or None for all").at("show")
    if summary:
        return _summary_page(Summary(graph, sizes), lines)
    if old is not None:
        return _diff_page(Diff(old, graph), lines, width)
    found = middle_cut(list(rows(graph, fold)), lines)
    return _styled([_cells(row) for row in found], [[_label_style(row), *_STYLES[1:]] for row in found], width)


def _cells(row: Row) -> list[str]:
    found = [*cells(row), scope_and_role(row.node.origin) if row.node is not None else ""]
    if row.node is not None and row.node.op.name == "learning_phase":
        found[3:] = ["", ""]  # one node for all programs: it has the line of the first
    return found


def _label_style(row: Row) -> str:
    return "cyan" if row.node is not None else "bold"


def _diff_page(diff: Diff, lines: int | None, width: int | None) -> list[Line]:
    marked = around_changes(list(diff.rows()))
    if lines is not None and len(marked) > lines:
        cut = middle_cut([each.row for each in marked], lines)[lines // 2]
        end = len(marked) - (lines - lines // 2)
        marked = [*marked[: lines // 2], marked[0]._replace(mark=" ", row=cut, was=""), *marked[end:]]
    table, styles = [], []
    for each in marked:
        row = _cells(each.row)
        if each.was:
            row[2] += f"   was {each.was}"
        table.append([each.mark, *row])
        colour = _MARKS[each.mark]
        styles.append([colour, *([colour] * 5 if colour else [_label_style(each.row), *_STYLES[1:]])])
    return [[(diff.head, "bold")], *_styled(table, styles, width)]


def _summary_page(found: Summary, lines: int | None) -> list[Line]:
    page: list[Line] = []
    for table in found.tables():
        if lines is not None and len(table) > lines:
            end = len(table) - (lines - lines // 2)
            cut = (f"... {len(table) - lines} more ...", *[""] * (len(table[0]) - 1))
            table = [*table[: lines // 2], cut, *table[end:]]
        if page:
            page.append([])
        styles = [["bold"] * len(row) if i == 0 else ["cyan", *[""] * (len(row) - 1)] for i, row in enumerate(table)]
        page += _styled(table, styles, None)
    return page


def _styled(table: Sequence[Sequence[str]], styles: Sequence[Sequence[str]], width: int | None) -> list[Line]:
    """The lines of a table. Where these are longer than a terminal is wide, the longest calls are cut."""
    padded = columns(table)
    call = len(padded[0]) - 3
    over = sum(map(len, padded[0])) + 2 * (len(padded[0]) - 1) - (width or 0)
    room = len(padded[0][call]) - over
    if width is not None and over > 0 and room >= _LEAST_CALL:
        shorter = [list(row) for row in table]
        for row in shorter:
            if len(row[call]) > room:
                row[call] = row[call][: room - 3] + "..."
        padded = columns(shorter)
    found: list[Line] = []
    for row, style in zip(padded, styles, strict=True):
        pieces = [piece for cell, colour in zip(row, style, strict=True) for piece in ((cell, colour), ("  ", ""))]
        while pieces and not pieces[-1][0].strip():
            pieces.pop()
        found.append(pieces)
    return found

"""What the nodes of a function take, measured by its engine: by node, by line, by op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

import kgraph.ir.ops as o
from kgraph.call import holding
from kgraph.errors import ArgumentError
from kgraph.ir.cost import Cost, walk_of
from kgraph.ir.node import Graph, Node
from kgraph.ir.places import Path, Place, places
from kgraph.ir.text import aligned
from kgraph.ir.traverse import toposort
from kgraph.lower.measured import Measured, Sample
from kgraph.watch import without_updates

if TYPE_CHECKING:
    from kgraph.function import Function

Run = TypeVar("Run")

#: Rows of each table that are printed.
SHOWN = 12
REST = "not attributed"


@dataclass(frozen=True)
class NodeTime:
    """What one node takes in a run.

    Attributes:
      node: of the optimised graph, or of a body in it; None for what belongs to no node.
      op: its name.
      function: the K function that its line calls.
      line: of the user's program, through all rewrites; of a gradient that of the forward computation.
      scope: the name scope.
      role: "forward" or "gradient".
      seconds: without those of nodes in its bodies.
      calls: of a node in a loop, one for each step.
      bytes: read and written; None where they are not known.
    """

    node: Node | None
    op: str
    function: str
    line: str
    scope: str
    role: str
    seconds: float
    calls: int
    bytes: int | None


class Part(NamedTuple):
    """What the nodes of one line, or of one op, take in a run together.

    Attributes:
      name: the line, or the op.
      seconds, calls, bytes: added up.
      gradient: the seconds of those nodes that are of a gradient.
      functions: the K functions, or ops, of these nodes, the dearest first.
    """

    name: str
    seconds: float
    calls: int
    bytes: int | None
    gradient: float
    functions: tuple[str, ...]


class Profile:
    """A measurement of a function. Print it, or ask it.

    Attributes:
      engine: the name of the one that was measured.
      runs: how many; the figures are means of the faster half of them, as something else kept the machine busy in the others.
      seconds: of a run, in nodes and in what belongs to none. Where an engine works on several nodes at the same time, it is
        more than passes on the clock.
      call_seconds: of a run that is not measured, on the clock: what measuring adds is the difference.
    """

    def __init__(self, engine: str, runs: int, rows: Iterable[NodeTime], rest: float, call_seconds: float):
        self.engine, self.runs, self.call_seconds = engine, runs, call_seconds
        found = [*rows, NodeTime(None, REST, "", "", "", "", rest, 0, None)]
        self._rows = tuple(sorted(found, key=lambda row: -row.seconds))
        self.seconds = sum(row.seconds for row in found)

    def nodes(self) -> tuple[NodeTime, ...]:
        """The nodes that ran, and what belongs to none ("not attributed"); the dearest first."""
        return self._rows

    def dearest(self) -> NodeTime:
        """The node that takes most time. Raises ArgumentError if the program computes nothing."""
        for row in self._rows:
            if row.node is not None:
                return row
        raise ArgumentError("no node ran: the program computes nothing")

    def by_line(self) -> tuple[Part, ...]:
        """The same by line of the user's program, gradients with their forward line; the dearest first."""
        return self._parts(lambda row: row.line or REST, lambda row: row.function or row.op)

    def by_op(self) -> tuple[Part, ...]:
        """The same by op."""
        return self._parts(lambda row: row.op, lambda row: row.function)

    def by_scope(self) -> tuple[Part, ...]:
        """The same by name scope."""
        return self._parts(lambda row: row.scope if row.node else REST, lambda row: row.function)

    def _parts(self, key: Callable[[NodeTime], str], label: Callable[[NodeTime], str]) -> tuple[Part, ...]:
        groups: dict[str, list[NodeTime]] = {}
        for row in self._rows:
            groups.setdefault(key(row), []).append(row)
        parts = [
            Part(
                name,
                sum(row.seconds for row in rows),
                sum(row.calls for row in rows),
                None if any(row.bytes is None for row in rows) else sum(row.bytes or 0 for row in rows),
                sum(row.seconds for row in rows if row.role == "gradient"),
                tuple(dict.fromkeys(text for row in rows if (text := label(row)) and row.node is not None)),
            )
            for name, rows in groups.items()
        ]
        return tuple(sorted(parts, key=lambda part: -part.seconds))

    def share(self, seconds: float) -> float:
        """What part of a run so many seconds are."""
        return seconds / self.seconds if self.seconds else 0.0

    def as_data(self) -> dict[str, Any]:
        """The same as lists and dicts of numbers and texts, for JSON."""
        names = ("op", "function", "line", "scope", "role", "seconds", "calls", "bytes")
        nodes = [{**{name: getattr(row, name) for name in names}, "share": self.share(row.seconds)} for row in self._rows]

        def plain(parts: Sequence[Part]) -> list[dict[str, Any]]:
            return [{**p._asdict(), "functions": list(p.functions), "share": self.share(p.seconds)} for p in parts]

        return {
            "engine": self.engine, "runs": self.runs, "seconds": self.seconds, "call_seconds": self.call_seconds,
            "nodes": nodes, "lines": plain(self.by_line()), "ops": plain(self.by_op()), "scopes": plain(self.by_scope()),
        }  # fmt: skip

    def __str__(self) -> str:
        many = f"{self.runs:,} run{'s' if self.runs > 1 else ''}"
        first = f"{many} on {self.engine}: {_time(self.seconds)} each; not measured, a run takes {_time(self.call_seconds)}"
        lines: list[tuple[str, ...]] = [("line", "share", "time", "of gradients", "calls", "bytes", "functions")]
        for part in (parts := self.by_line())[:SHOWN]:
            gradient = _time(part.gradient) if part.gradient else ""
            some = ", ".join(part.functions[:3]) + (", ..." if len(part.functions) > 3 else "")
            lines.append((part.name, *self._figures(part.seconds), gradient, *_counts(part.calls, part.bytes), some))
        lines += self._more([part.seconds for part in parts], "lines", 7)
        nodes: list[tuple[str, ...]] = [("node", "share", "time", "time of a call", "calls", "bytes", "line", "scope")]
        for row in self._rows[:SHOWN]:
            per_call = _time(row.seconds / row.calls) if row.calls else ""
            what = row.op if row.role != "gradient" else f"{row.op} (gradient)"
            figures = (*self._figures(row.seconds), per_call, *_counts(row.calls, row.bytes))
            nodes.append((what, *figures, row.line, row.scope))
        nodes += self._more([row.seconds for row in self._rows], "nodes", 8)
        return "\n\n".join([first, aligned(lines), aligned(nodes)])

    def _figures(self, seconds: float) -> tuple[str, str]:
        return f"{100 * self.share(seconds):.1f} %", _time(seconds)

    def _more(self, seconds: Sequence[float], what: str, wide: int) -> list[tuple[str, ...]]:
        rest = seconds[SHOWN:]
        return [(f"{len(rest):,} more {what}", *self._figures(sum(rest)), *[""] * (wide - 3))] if rest else []


def _time(seconds: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _counts(calls: int, size: int | None) -> tuple[str, str]:
    return f"{calls:,}" if calls else "", "" if size is None else f"{size:,}"


# ---------------------------------------------------------------------------------------------------- measuring


def profiled(function: Function, args: Sequence[Any], named: dict[str, Any], runs: int, training: Any) -> Profile:
    """See `Function.profile`."""
    if type(runs) is not int or runs < 1:
        raise ArgumentError(f"runs is {runs!r:.40}, not a whole number from 1 on").at("profile")
    engine = function.engine
    closed, arrays, now = without_updates(function, args, named, training)

    def measure() -> tuple[list[Measured], list[float]]:
        storages = function._storages(closed, engine) if engine.stateful else {}
        profiler = engine.profiler(closed, storages, function.options)
        given = [arrays[node] for node in closed.inputs if node not in storages]
        try:
            profiler.measure(given)  # the first one has to find memory, and on some engines compiles
            found = [profiler.measure(given) for _ in range(runs)]
            return found, [_seconds(lambda: profiler.run(given)) for _ in range(runs + 1)][1:]
        except Exception as error:
            raise function._explained(error, now, profiler) from error.__cause__

    variables = sorted([node.attr("uid") for node in closed.inputs if node.op is o.variable], key=lambda v: v.number)
    measured, calls = holding([variable.lock for variable in variables], measure)
    shapes = {node: np.shape(arrays[node]) for node in closed.inputs}
    rows, rest = rows_of(closed, shapes, _faster(measured, lambda run: run.rest + sum(each.seconds for each in run.samples)))
    kept = _faster(calls, float)
    return Profile(engine.name, runs, rows, rest, sum(kept) / len(kept))


def _seconds(call: Callable[[], Any]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def _faster(runs: Sequence[Run], seconds: Callable[[Run], float]) -> list[Run]:
    """The faster half: in the others something else kept the machine busy."""
    return sorted(runs, key=seconds)[: (len(runs) + 1) // 2]


# ---------------------------------------------------------------------------------------------------- from samples to rows


def rows_of(
    graph: Graph, shapes: Mapping[Node, Sequence[int]], runs: Sequence[Measured]
) -> tuple[list[NodeTime], float]:
    """What was measured, in the mean of some runs, by the nodes and lines that it belongs to; the seconds that belong to none.

    The time of what an engine has fused is divided among its nodes, by the operations that the model of costs counts for each.

    Args:
      graph: the one that was measured.
      shapes: of its inputs.
    """
    found, costs = places(graph), _costs(graph, shapes)
    seconds: dict[Path, float] = {}
    calls: dict[Path, int] = {}
    sizes: dict[Path, int | None] = {}
    for sample in runs[-1].samples:
        for path in sample.paths:
            calls[path] = max(calls.get(path, 0), sample.calls)
            if sample.bytes is not None:
                sizes[path] = sample.bytes
    for path, count in calls.items():
        if path not in sizes:
            sizes[path] = (int(costs[path].bytes) * count if path in costs else 0) if costs else None
    for run in runs:
        for sample in run.samples:
            for path, part in _shares(sample, costs):
                seconds[path] = seconds.get(path, 0.0) + part * sample.seconds / len(runs)
    rest = sum(run.rest for run in runs) / len(runs)
    rest += sum([seconds.pop(path) for path in list(seconds) if found[path].node.op is o.absent])  # it computes nothing
    return [_row(found[path], took, calls[path], sizes[path]) for path, took in seconds.items()], rest


def _row(place: Place, seconds: float, calls: int, size: int | None) -> NodeTime:
    node, origin = place
    return NodeTime(node, node.op.name, origin.function, str(origin), origin.scope, origin.role, seconds, calls, size)


def _shares(sample: Sample, costs: Mapping[Path, Cost]) -> list[tuple[Path, float]]:
    flops = [float(costs[path].flops) if path in costs else 0.0 for path in sample.paths]
    total = sum(flops)
    if not total:
        flops, total = [1.0] * len(flops), float(len(flops))
    return [(path, each / total) for path, each in zip(sample.paths, flops, strict=True)]


def _costs(graph: Graph, shapes: Mapping[Node, Sequence[int]]) -> dict[Path, Cost]:
    """What each node costs, once; loops and branches by themselves nothing. Empty where sizes follow from values alone."""
    try:
        walk = walk_of(graph, shapes)
    except ArgumentError:
        return {}
    found: dict[Path, Cost] = {}
    pending: list[tuple[Path, str, Graph, Any]] = [((), "", graph, walk)]
    for outer, attr, body, each in pending:  # grows while it is gone through
        for number, node in enumerate(toposort(body.roots, stop=body.inputs)):
            path = (*outer, (attr, number))
            if node in each.inside:
                found[path] = Cost(1, 0, 0, 0, 0)
                inside = [inner for inner, _ in each.inside[node]]
                pending += [(path, name, node.attr(name), inner) for name, inner in zip(node.op.bodies, inside, strict=True)]
            elif node in each.each:
                found[path] = each.each[node]
    return found

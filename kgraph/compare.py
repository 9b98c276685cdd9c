"""One graph on several engines: how far apart their results are, where they part, how long they take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from kgraph.arguments import as_graph, check_sources, cut
from kgraph.bounds import RUNS, distance, is_alike, jittered, plain, units, within
from kgraph.call import refused
from kgraph.errors import EngineError
from kgraph.explain import bisected
from kgraph.function import Function, restored
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin, here
from kgraph.ir.passes import Record, Rewrite, chosen, run_pipeline
from kgraph.ir.passes.specialise import specialise
from kgraph.lower.engine import Engine, engine_names, evaluator, get_engine
from kgraph.lower.numpy import RULES
from kgraph.parting import Parting, Search, as_array, computed, function_of, message_of, worst
from kgraph.quiet import quietly
from kgraph.sealed import sealed

Array = np.ndarray[Any, Any]

#: How often each engine is called; one call that takes longer than `LONG` seconds is enough.
CALLS, LONG = 5, 1.0

#: A bound of an output beyond which rounding alone says nothing of it: relative to its size.
BLIND = 1e-3

#: Runs with jitter that are made before an engine is said to be off although no node of it is.
MORE_RUNS = 16


@dataclass(frozen=True)
class Row:
    """How far one output of an engine is from the reference.

    Attributes:
      output: "output 0", or "new value of 'w'".
      units: the largest difference in units in the last place of the dtype; infinite where only one of two is a finite number.
        Of integers and booleans it is 0 or 1.
      unequal: how many elements differ.
      absolute, relative: the largest differences, each by itself.
      index: of the element that is furthest off in units; None if none is.
      allowed: whether rounding explains it.
    """

    engine: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    units: float
    unequal: int
    absolute: float
    relative: float
    index: tuple[int, ...] | None
    allowed: bool


@dataclass(frozen=True)
class Times:
    """Seconds: until the first result, less the call itself; and of a call, the median of a few. None where it has failed."""

    compile: float | None
    call: float | None


@dataclass
class Comparison:
    """What `kgraph.compare` found. Print it.

    Attributes:
      agree: whether all engines compute what NumPy does, to rounding.
      rows: per engine and output.
      times: by engine.
      errors: by engine, what those have raised that failed, in one line.
      first: where the first of the engines that are off parts from NumPy: the node, its line, its operands. None if none does,
        or if no single node is to blame.
      partings: the same for each engine that is off.
      rewrites: engine -> the rewrite of the optimiser that makes it part, where the graph as it was built is computed rightly.
      notes: what else is to be said, in lines.
      program: the smallest program that shows the difference; None if there is none.
    """

    rows: list[Row] = field(default_factory=list)
    times: dict[str, Times] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    partings: dict[str, Parting] = field(default_factory=dict)
    rewrites: dict[str, Rewrite] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    program: str | None = None

    @property
    def agree(self) -> bool:
        return not (self.errors or self.partings or self.rewrites) and all(row.allowed for row in self.rows)

    @property
    def first(self) -> Parting | None:
        return next(iter(self.partings.values()), None)

    def as_data(self) -> dict[str, Any]:
        """The same for JSON, where infinity is the text "inf"."""
        first = self.first
        return {
            "agree": self.agree,
            "outputs": [
                {**vars(row), "shape": list(row.shape), "index": None if row.index is None else list(row.index)}
                | {name: _number(getattr(row, name)) for name in ("units", "absolute", "relative")}
                for row in self.rows
            ],
            "times": {name: {"compile": each.compile, "call": each.call} for name, each in self.times.items()},
            "errors": dict(self.errors),
            "first": None if first is None else {
                "engine": first.engine, "op": first.node.op.name, "function": first.node.origin.function, "line": first.line,
                "inside": [str(place) for place in first.places], "index": list(first.index), "error": first.error,
            },
            "rewrites": {name: str(rewrite) for name, rewrite in self.rewrites.items()},
            "notes": list(self.notes),
            "program": self.program,
        }  # fmt: skip

    def __str__(self) -> str:
        cells: list[Sequence[str]] = [("engine", "output", "units", "unequal", "absolute", "relative", "at", "")]
        for row in self.rows:
            at = "" if row.index is None else str(list(row.index))
            numbers = [_shown(row.units), str(row.unequal), _shown(row.absolute), _shown(row.relative)]
            cells.append((row.engine, row.output, *numbers, at, "" if row.allowed else "off"))
        parts = [_table(cells)] if self.rows else []
        times: list[Sequence[str]] = [("engine", "compile", "call")]
        times += [(name, _time(each.compile), _time(each.call)) for name, each in self.times.items()]
        parts.append(_table(times))
        found = [f"{name} raises {message}" for name, message in self.errors.items()]
        found += [str(parting) for parting in self.partings.values()]
        found += [f"{name} is right without the optimiser; it goes wrong by {each}" for name, each in self.rewrites.items()]
        found += self.notes
        parts.append("\n".join([*found, *(["The engines agree."] if self.agree else [])]))
        if self.program:
            parts.append(f"The smallest program that shows it:\n\n{self.program}")
        return "\n\n".join(parts)


def compare(
    x: Any, inputs: Any, engines: Iterable[str | Engine] | None = None, *, training: bool = False, shrink: bool = True
) -> Comparison:  # fmt: skip
    """Computes a graph on several engines, and compares each with what NumPy makes of the graph as it was built.

    New values of variables are compared too; nothing is written, nothing printed, and streams of random numbers stay where they
    are: what the graph draws, which differs from engine to engine, is drawn once and given to all.

    Args:
      x: a function, a tensor, a list of tensors, or a graph.
      inputs: the values of a call: in a list, or by placeholder or name in a dict.
      engines: names; None for all that can run here.
      training: the learning phase.
      shrink: whether to look for the smallest program that shows the difference, if there is one.
    Raises: what a call with these values raises; EngineError for an engine that is not known or not installed.
    """
    made = here(2)
    function = _function(x, made)
    values, phase = _values(function, inputs)
    phase = int(training or phase)
    arrays = dict(zip(function.feeds.nodes, function.feeds.admit(values), strict=True))
    case = _Case(function, specialise(function.graph, Record(), phase), arrays, made)
    found = Comparison()
    for engine in _ready(found.notes) if engines is None else [get_engine(name) for name in engines]:
        case.look(engine, found)
    if shrink and not found.agree:
        from kgraph.shrink import smallest

        try:
            found.program = smallest(case.problem(found))
        except Exception as error:  # what has been found is told all the same
            found.notes.append(f"no program that shows it was made: {message_of(error)}")
    return found


def _ready(notes: list[str]) -> list[Engine]:
    """The engines that can run; those that are installed and cannot are noted."""
    found = []
    for name in engine_names():
        try:
            found.append(get_engine(name))
        except Exception as error:  # of a library that is broken, anything
            if not isinstance(error, EngineError) or "is not installed" not in error.message:
                notes.append(f"{name} is left out, it cannot run here: {message_of(error)}")
    return found


def _function(x: Any, made: Origin) -> Function:
    """x as a function, of which nothing is compiled."""
    if isinstance(x, Function):
        return x
    graph = as_graph(x)
    graph = cut(graph, graph.inputs, made)
    check_sources(graph, made)
    shown, names = [describe(node) for node in graph.inputs], [node.name for node in graph.inputs]
    return restored(graph, None, shown, names, False, made, None, chosen(), {})


def _values(function: Function, inputs: Any) -> tuple[list[Any], int]:
    """The values in the order of the function's inputs, and the phase if it is among them."""
    if not isinstance(inputs, Mapping):
        return function._arrange(inputs if isinstance(inputs, (list, tuple)) else [inputs], {})
    named = {key: value for key, value in inputs.items() if isinstance(key, str)}
    placed = {key.node: value for key, value in inputs.items() if isinstance(key, Operators)}
    nodes = function.feeds.nodes
    for key in inputs:
        if not isinstance(key, (str, Operators)) or (isinstance(key, Operators) and key.node not in nodes):
            what = describe(key.node) if isinstance(key, Operators) else repr(key)
            raise refused(f"{what} is no input", function._made, [f"input {i}: {describe(n)}" for i, n in enumerate(nodes)])
    if not placed:
        return function._arrange([], named)
    rest = [node for node in nodes if node not in placed]
    names = [node.name for node in rest]
    if wrong := [name for name in named if names.count(name) != 1]:
        raise refused(f"{names.count(wrong[0]) or 'no'} inputs not fed yet have the name {wrong[0]!r}", function._made)
    if missing := [node for node in rest if node.name not in named]:
        raise refused("not every input is fed", function._made, [describe(node) for node in missing])
    return [placed[node] if node in placed else named[str(node.name)] for node in nodes], 0


class _Case:
    """A graph and values, and what NumPy makes of them.

    Attributes:
      graph: over placeholders alone.
      plain: the same with its branches lazy.
    """

    def __init__(self, function: Function, graph: Graph, arrays: Mapping[Node, Any], made: Origin):
        self.passes, self.made = function.passes, made
        self.engine, self.options = function._engine, function.options
        self.engines: dict[str, Engine] = {}
        self.names = [f"output {i}" for i in range(len(graph.outputs))]
        self.names += [f"new value of {variable.name or i!r}" for i, (variable, _) in enumerate(graph.updates)]
        try:
            self.graph, self.values = sealed(graph, arrays)
            self.plain = run_pipeline(self.graph, None, chosen(False))
            known = computed(self.plain, self.values)
        except Exception:
            _explain(function, getattr(self, "graph", graph), {**arrays, **getattr(self, "values", {})})
            raise
        self.wanted = [as_array(known[root], root) for root in self.plain.roots]
        self._bounds: dict[int, list[Array]] = {}

    def bounds(self, runs: int) -> list[Array]:
        """What the outputs may differ by."""
        if runs not in self._bounds:
            self._bounds[runs] = jittered(self.plain, self.values, self.wanted, runs)
        return self._bounds[runs]

    def function(self, engine: Engine) -> Function:
        """The graph on an engine, with what the user's function asks of its own."""
        options = self.options if engine is self.engine else None
        return function_of(self.graph, engine, self.made, self.passes, options)

    # -------------------------------------------------------------------------------------------- one engine

    def look(self, engine: Engine, found: Comparison) -> None:
        """Adds what one engine does."""
        self.engines[engine.name] = engine
        results, error, found.times[engine.name] = self._timed(self.function(engine))
        search = Search(engine, self.made)
        if error is not None:
            found.errors[engine.name] = message_of(error)
            parting = search.first(self.plain, self.values)
            if parting is not None:
                found.partings[engine.name] = parting
            return
        bounds = [plain(y) for y in self.wanted]
        inside = near = self._inside(results, bounds)
        if not all(near):
            bounds = self.bounds(RUNS)
            inside = self._inside(results, bounds)
        if not all(inside) or (not all(near) and self._blind(bounds)):
            parting = search.first(self.plain, self.values)
            if parting is not None:
                found.partings[engine.name] = parting
            elif not all(inside):
                inside = self._inside(results, self.bounds(MORE_RUNS))
            if parting is None and all(inside):
                found.notes.append(
                    f"{engine.name}: no node is off by itself; the graph makes much of a difference in the last place"
                )
            elif parting is None:
                self._whole(engine, found)
        for name, x, y, allowed in zip(self.names, results, self.wanted, inside, strict=True):
            found.rows.append(_row(engine.name, name, x, y, allowed))

    def _inside(self, results: Sequence[Array], bounds: Sequence[Array]) -> list[bool]:
        return [within(x, y, bound) for x, y, bound in zip(results, self.wanted, bounds, strict=True)]

    def _blind(self, bounds: Sequence[Array]) -> bool:
        """Whether rounding may take an output so far that it shows nothing."""
        for wanted, bound in zip(self.wanted, bounds, strict=True):
            if wanted.size and float(bound.max()) > BLIND * float(np.abs(np.nan_to_num(wanted.astype("float64"))).max()) > 0:
                return True
        return False

    def _whole(self, engine: Engine, found: Comparison) -> None:
        """Each node is right alone, but not all of them together: the optimiser, or the engine's compiler."""
        bounds = self.bounds(MORE_RUNS)

        def right(graph: Graph, with_engine: bool) -> bool:
            if with_engine:
                results = function_of(graph, engine, self.made)([*self.values.values()])
            else:
                results = _evaluated(graph, list(self.values.values()))
            results = [np.asarray(x, y.dtype) for x, y in zip(results, self.wanted, strict=True)]
            return all(self._inside(results, bounds))

        def run(record: Record) -> Graph:
            return run_pipeline(self.graph, None, self.passes, engine.rules.keys(), record)

        try:
            if not right(self.graph, True):
                found.notes.append(f"{engine.name}: each node is right alone, but not all of them together")
                return
            alone = right(run(Record()), False)
            rewrite = bisected(run, lambda graph: right(graph, alone))
        except Exception as error:  # of the engine; the numbers are reported all the same
            found.notes.append(f"{engine.name}: while looking for the rewrite: {message_of(error)}")
            return
        if rewrite is not None:
            found.rewrites[engine.name] = rewrite
        else:
            found.notes.append(f"{engine.name}: the optimised graph is computed wrongly, but no rewrite makes it so")

    def _timed(self, function: Function) -> tuple[list[Array], Exception | None, Times]:
        values = list(self.values.values())
        try:
            begin = time.perf_counter()
            results = function(values)
            first = time.perf_counter() - begin
            calls = []
            for _ in range(CALLS):
                begin = time.perf_counter()
                function(values)
                calls.append(time.perf_counter() - begin)
                if calls[-1] > LONG:
                    break
        except Exception as error:  # an engine may raise anything
            return [], error, Times(None, None)
        return results, None, Times(max(0.0, first - median(calls)), median(calls))

    def problem(self, found: Comparison) -> Any:
        """What is to be shrunk: the first thing that is off."""
        from kgraph.shrink import Problem

        first = found.first
        if first is not None:
            return Problem.of_node(first, self.engines[first.engine], self.made)
        name = next(iter([*found.errors, *found.rewrites, *[row.engine for row in found.rows if not row.allowed]]))
        order = [i for i, row in enumerate([row for row in found.rows if row.engine == name]) if not row.allowed]
        graph = Graph(self.graph.inputs, [self.graph.outputs[i] for i in order] or self.graph.outputs)
        rewrite, error = found.rewrites.get(name), found.errors.get(name)
        return Problem(graph, dict(self.values), self.engines[name], self.passes, self.made, rewrite, error)


def _explain(function: Function, graph: Graph, values: Mapping[Node, Any]) -> None:
    """Raises what a call of the function would, with the node and its line; if none would raise, nothing."""
    graph = Graph(graph.inputs, graph.roots)
    twin = restored(graph, None, function._shown, function._names, False, function._made, "numpy", chosen(False), {})
    twin([values[node] for node in graph.inputs])


@quietly
def _evaluated(graph: Graph, values: Sequence[Any]) -> Sequence[Any]:
    return evaluator(graph, RULES)(*values)


def _row(engine: str, output: str, found: Array, wanted: Array, allowed: bool) -> Row:
    if not is_alike(found, wanted):
        return Row(engine, output, found.dtype.name, found.shape, math.inf, wanted.size, math.inf, math.inf, None, False)
    apart, far = units(found, wanted), distance(found, wanted)
    unequal = int((apart > 0).sum())
    if not unequal:
        return Row(engine, output, wanted.dtype.name, wanted.shape, 0.0, 0, 0.0, 0.0, None, allowed)
    with np.errstate(all="ignore"):
        size = np.abs(wanted.astype("float64"))
        relative = np.where(far > 0, np.where(np.isinf(far), np.inf, far / size), 0.0)
    most, absolute, share = [float(x.max()) for x in (apart, far, relative)]
    at = worst(found, wanted)
    return Row(engine, output, wanted.dtype.name, wanted.shape, most, unequal, absolute, share, at, allowed)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == int(value if math.isfinite(value) else 1) and value < 1e15 else f"{value:.2g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "failed"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _table(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)

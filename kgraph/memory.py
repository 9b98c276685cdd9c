"""The most memory that a call holds at a time, and what holds it then."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.cost import VIEWS
from kgraph.ir.listing import is_large
from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import Origin
from kgraph.ir.places import Path, places
from kgraph.ir.text import aligned
from kgraph.ir.traverse import toposort
from kgraph.lower.emit import NumpyProgram
from kgraph.watch import without_updates

if TYPE_CHECKING:
    from kgraph.function import Function

#: Rows of each table that are printed.
SHOWN = 12

#: Bytes that a node has to take for itself to be worth mentioning: NumPy has buffers for whatever it casts.
SMALL = 2**16
#: Bytes that a loop has to make room for, between its nodes, to be told from what Python takes for its own objects.
ROOM = 2**12

KINDS = ("variables", "inputs", "constants", "results", "work")


class Holder(NamedTuple):
    """What holds memory.

    Attributes:
      name: of a variable or placeholder; else the op.
      kind: "variable", "input" (what is fed), "constant", "result" (of a node), or "work" (memory that NumPy takes while it
        computes a node, and gives back).
      bytes: that it holds.
      arrays: how many: a node in a loop may hold one for each step.
      line: of the user's program.
      scope: the name scope.
      role: "forward" or "gradient".
      node: of the optimised graph, or of a body in it.
    """

    name: str
    kind: str
    bytes: int
    arrays: int
    line: str
    scope: str
    role: str
    node: Node


class Memory:
    """The memory of one call at its peak. Print it, or ask it.

    Attributes:
      peak: bytes that are held at most, all kinds together.
      at: the node that is computed then, which has its line; None if nothing is.
      line: its line.
      variables: all that the function reads or writes, the largest first: they are held before and after the call too.
      inputs: what is fed, the largest first.
      constants: the largest first.
      results: nodes whose results are held at the peak, the largest first.
      work: what the node that is computed takes for itself, if it is worth mentioning.
    """

    def __init__(self, given: Iterable[Holder], results: Iterable[Holder], at: Node | None, line: str):
        rows = list(given)

        def of(kind: str) -> tuple[Holder, ...]:
            return tuple(sorted((row for row in rows if row.kind == kind), key=lambda row: -row.bytes))

        self.variables, self.inputs, self.constants = of("variable"), of("input"), of("constant")
        self.work = of("work")
        self.results = tuple(sorted(results, key=lambda row: -row.bytes))
        self.at, self.line = at, line
        self.peak = sum(row.bytes for row in self.holders())

    def holders(self) -> tuple[Holder, ...]:
        """All that is held at the peak, the largest first."""
        found = (*self.variables, *self.inputs, *self.constants, *self.results, *self.work)
        return tuple(sorted(found, key=lambda row: -row.bytes))

    def as_data(self) -> dict[str, Any]:
        """The same as lists and dicts of numbers and texts, for JSON."""

        def plain(rows: Sequence[Holder]) -> list[dict[str, Any]]:
            return [{name: value for name, value in row._asdict().items() if name != "node"} for row in rows]

        at = None if self.at is None else {"op": self.at.op.name, "line": self.line}
        return {"peak": self.peak, "at": at, **{kind: plain(getattr(self, kind)) for kind in KINDS}}

    def __str__(self) -> str:
        at = f", while {self.at.op.name} at {self.line} is computed" if self.at is not None else ""
        parts = [f"{kind} {sum(row.bytes for row in getattr(self, kind)):,}" for kind in KINDS if getattr(self, kind)]
        first = f"at most {self.peak:,} bytes are held{at}" + (f": {', '.join(parts)}" if parts else "")
        large = [row for row in self.constants if is_large(row.node.attrs[0][1])]
        shown = {"variable": self.variables, "result": self.results, "input": self.inputs, "constant": large}
        tables = [self._table(kind, rows) for kind, rows in shown.items()]
        return "\n\n".join([first, *[table for table in tables if table]])

    def _table(self, kind: str, rows: Sequence[Holder]) -> str:
        if not rows:
            return ""
        cells = [(kind, "bytes", "share", "arrays", "line", "scope")]
        for row in rows[:SHOWN]:
            what = f"{row.name} (gradient)" if row.role == "gradient" else row.name
            arrays = f"{row.arrays:,}" if row.arrays > 1 else ""
            cells.append((what, f"{row.bytes:,}", self._share(row.bytes), arrays, row.line, row.scope))
        if rest := rows[SHOWN:]:
            size = sum(row.bytes for row in rest)
            cells.append((f"{len(rest):,} more", f"{size:,}", self._share(size), "", "", ""))
        return aligned(cells)

    def _share(self, size: int) -> str:
        return f"{100 * size / self.peak:.1f} %" if self.peak else ""


# ---------------------------------------------------------------------------------------------------- watching a program


class _Array(NamedTuple):
    """An array that was alive: the key of the node whose result it is, and its bytes."""

    key: int
    bytes: int


class _Ledger:
    """Which arrays are alive, while a program runs (see `kgraph.lower.emit.Watch`).

    It asks the arrays themselves, by weak references. At the peak it takes no copy of what is alive, which would take time with
    the square of the number of nodes; it notes what has come and gone since.
    """

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.peak, self.at, self.work = 0, -1, 0
        self._base = 0
        self._open: list[tuple[int, list[int]]] = []  # loops and branches at work, and the numbers of the room that they made
        self._nodes: list[Node] = []
        self._total = 0
        self._count = 0
        self._alive: dict[int, _Array] = {}  # by numbers of their own: an id may be used again
        self._known: dict[int, tuple[Any, int]] = {}  # id -> the reference, and the number; -1 of what is not counted here
        self._gone: list[int] = []  # since the last node began, in order: they were alive then
        self._come_since: set[int] = set()
        self._gone_since: dict[int, _Array] = {}

    def give(self, arrays: Iterable[Any]) -> None:
        """Arrays that are there before the program runs, and are counted elsewhere."""
        for array in arrays:
            self._known[id(_owner(array))] = (_owner(array), -1)

    def key(self, path: Path, node: Node) -> int:
        self.paths.append(path)
        self._nodes.append(node)
        return len(self.paths) - 1

    def before(self, key: int, *operands: Any) -> None:
        if self._open:  # a loop makes room for its results before its first step; it hands them over after the last one
            gone = sum([self._alive[number].bytes for number in self._gone])
            room = tracemalloc.get_traced_memory()[0] - self._base + gone
            if room > ROOM:
                owner, rooms = self._open[-1]
                rooms.append(self._add(owner, room))
        if self._nodes[key].op.bodies:
            self._open.append((key, []))
        self._begin()

    def after(self, key: int, result: Any) -> None:
        made = result if isinstance(result, (tuple, list)) else (result,)
        op = self._nodes[key].op
        rooms = self._open.pop()[1] if op.bodies else []
        self._end(key, [(key, array, op in VIEWS or bool(op.bodies)) for array in made], rooms)

    def results(self, keys: Sequence[int], arrays: Sequence[Any]) -> None:
        """What the program has returned: copies, where a result would share memory."""
        if keys:
            self._end(keys[-1], [(key, array, True) for key, array in zip(keys, arrays, strict=True)])

    def _begin(self) -> None:
        """From here on Python notes what is taken at most."""
        while self._gone:
            self._drop(self._gone.pop())
        tracemalloc.reset_peak()
        self._base = tracemalloc.get_traced_memory()[0]

    def _end(self, key: int, made: Iterable[tuple[int, Any, bool]], rooms: Iterable[int] = ()) -> None:
        """What has been made since `_begin`: (key, array, whether it may be one that was there). It is on top of what was there
        then; some of that may have gone before it was made."""
        most = self._total + tracemalloc.get_traced_memory()[1] - self._base
        for number in rooms:
            self._drop(number)
        for of, array, passed_on in made:
            if isinstance(array, np.ndarray):
                self._note(of, _owner(array), passed_on or array.base is not None)
        for number in self._gone[:]:  # those of the last step of a loop, which go before its results are put together
            if self._total <= most:
                break
            self._gone.remove(number)
            self._drop(number)
        work = most - self._total
        self._compare(key, work if work > SMALL else 0)
        self._begin()

    def held(self) -> list[tuple[int, int, int]]:
        """What was alive at the peak: (key, bytes, arrays), in the order of the program."""
        found: dict[int, tuple[int, int]] = {}
        there = [array for number, array in self._alive.items() if number not in self._come_since]
        for key, size in [*there, *self._gone_since.values()]:
            total, count = found.get(key, (0, 0))
            found[key] = (total + size, count + 1)
        return [(key, total, count) for key, (total, count) in sorted(found.items())]

    def _note(self, key: int, array: Any, passed_on: bool) -> None:
        """An array that a node has given: a new one, one that it was given (``passed_on``), or has written over."""
        known = self._known.get(id(array))
        if known is not None:
            if passed_on or known[1] < 0:
                return
            self._drop(known[1])
        number, place = self._add(key, array.nbytes), id(array)

        def died(_: Any) -> None:
            del self._known[place]
            self._gone.append(number)

        # One reference for each array: what is written over is let go of by hand above, and its reference with it.
        self._known[place] = (weakref.ref(array, died), number)

    def _add(self, key: int, size: int) -> int:
        self._count += 1
        self._alive[self._count] = _Array(key, size)
        self._come_since.add(self._count)
        self._total += size
        return self._count

    def _drop(self, number: int) -> None:
        array = self._alive.pop(number)
        self._total -= array.bytes
        if number in self._come_since:
            self._come_since.remove(number)
        else:
            self._gone_since[number] = array

    def _compare(self, key: int, work: int = 0) -> None:
        if self._total + work > self.peak:
            self.peak, self.at, self.work = self._total + work, key, work
            self._come_since.clear()
            self._gone_since.clear()


@contextmanager
def _traced() -> Iterator[None]:
    """Within it Python notes how much memory is taken, which NumPy tells it."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def _owner(array: Any) -> Any:
    """The array in whose memory another one is."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# ---------------------------------------------------------------------------------------------------- the memory of a function


def remembered(function: Function, args: Sequence[Any], named: dict[str, Any], training: Any) -> Memory:
    """See `Function.memory`.

    Args:
      function: on NumPy.
    """
    closed, values, now = without_updates(function, args, named, training)
    found = places(closed)
    constants = {place.node: place.origin for place in found.values() if place.node.op is o.constant}
    given = [values[node] for node in closed.inputs]
    ledger = _Ledger()
    ledger.give([*given, *[node.attrs[0][1].array for node in constants]])
    program = NumpyProgram(closed, watch=ledger)
    try:
        with _traced():
            results = program(*given)
            ledger.results(_keys(closed, ledger), results)
    except Exception as error:
        raise function._explained(error, now, program) from error.__cause__

    def row(kind: str, node: Node, origin: Origin, size: int, arrays: int = 1) -> Holder:
        name = node.name or (repr(node.attrs[0][1]) if node.op is o.constant else node.op.name)
        return Holder(name, kind, size, arrays, str(origin), origin.scope, origin.role, node)

    updated = [variable for variable, _ in function.graph.updates]
    variables = dict.fromkeys([node for node in closed.inputs if node.op is o.variable] + updated)
    rows = [row("variable", node, node.origin, node.attr("uid").get().nbytes) for node in variables]
    fed = [node for node in function.feeds.nodes if node.op is not o.variable]
    rows += [row("input", node, node.origin, values[node].nbytes) for node in fed]
    rows += [row("constant", node, origin, node.attrs[0][1].array.nbytes) for node, origin in constants.items()]
    held_then = [row("result", *found[ledger.paths[key]], size, arrays) for key, size, arrays in ledger.held()]
    at = found[ledger.paths[ledger.at]] if ledger.at >= 0 else None
    if at is not None and ledger.work:
        rows.append(row("work", *at, ledger.work))
    return Memory(rows, held_then, at.node if at else None, str(at.origin) if at else "")


def _keys(graph: Graph, ledger: _Ledger) -> list[int]:
    """The keys of the results of a graph, new ones for those that have no statement."""
    numbers = {path: key for key, path in enumerate(ledger.paths)}
    order = {node: number for number, node in enumerate(toposort(graph.roots, stop=graph.inputs))}
    paths: list[Path] = [(("", order[root]),) for root in graph.roots]
    return [
        numbers[path] if path in numbers else ledger.key(path, root) for path, root in zip(paths, graph.roots, strict=True)
    ]

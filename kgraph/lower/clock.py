"""Measuring a program over NumPy: its twin, with a clock before and after each statement."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from types import TracebackType
from typing import Any

from kgraph.ir.cost import MOVES, OF_SHAPE, VIEWS
from kgraph.ir.node import Graph, Node
from kgraph.ir.places import Path
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.measured import Measured, Sample


class Clock:
    """Takes the time of each node, and the bytes of its operands and results, as they are.

    What it does itself belongs to no node: it looks at the clock when it is called, and again when it goes.
    """

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._nodes: list[Node] = []
        self._reads: list[Sequence[int]] = []
        self.clear()

    def clear(self) -> None:
        """Forget what was measured."""
        count = len(self.paths)
        self.calls, self.seconds = [0] * count, [0.0] * count
        self.read, self.written = [0] * count, [0] * count
        # Of the nodes at work: when they came, when they began, and the seconds since that are not theirs.
        self._stack: list[list[float]] = [[0.0, 0.0, 0.0]]

    def key(self, path: Path, node: Node) -> int:
        self.paths.append(path)
        self._nodes.append(node)
        moved = node.op not in VIEWS and not node.op.bodies
        shapes = OF_SHAPE.get(node.op, ())
        self._reads.append([i for i in range(len(node.inputs)) if i not in shapes] if moved and node.op not in MOVES else ())
        return len(self.paths) - 1

    def before(self, key: int, *operands: Any) -> None:
        came = perf_counter()
        reads = self._reads[key]
        if reads:
            self.read[key] += sum([getattr(operands[i], "nbytes", 0) for i in reads])
        entry = [came, 0.0, 0.0]
        self._stack.append(entry)
        entry[1] = perf_counter()

    def after(self, key: int, result: Any) -> None:
        ended = perf_counter()
        came, began, others = self._stack.pop()
        self.calls[key] += 1
        self.seconds[key] += ended - began - others
        self.written[key] += getattr(result, "nbytes", 0)
        self._stack[-1][2] += perf_counter() - came

    def samples(self) -> list[Sample]:
        """What was measured of the nodes that ran."""
        rows = zip(self.paths, self._nodes, self.calls, self.seconds, self.read, self.written, strict=True)
        return [Sample((path,), n, took, _moved(node, read, written)) for path, node, n, took, read, written in rows if n]

    @property
    def others(self) -> float:
        """Seconds within nodes, and of the clock itself."""
        return self._stack[0][2]


def _moved(node: Node, read: int, written: int) -> int:
    """Bytes read and written, by what the op does with them."""
    if node.op in VIEWS or node.op.bodies:
        return 0
    return 2 * written if node.op in MOVES else read + written


class NumpyProfiler:
    """The program of a graph, and its twin with a clock."""

    def __init__(self, graph: Graph):
        self._clock = Clock()
        self._plain, self._timed = NumpyProgram(graph), NumpyProgram(graph, watch=self._clock)

    def run(self, values: Sequence[Any]) -> Any:
        return self._plain(*values)

    def measure(self, values: Sequence[Any]) -> Measured:
        clock = self._clock
        clock.clear()
        began = perf_counter()
        self._timed(*values)
        rest = perf_counter() - began - clock.others
        return Measured(clock.samples(), max(rest, 0.0))

    def locate(self, trace: TracebackType | None) -> list[tuple[str, int]]:
        """As of a program: an error comes from the twin, which runs first."""
        return self._timed.locate(trace)

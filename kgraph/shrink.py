"""The smallest graph and values on which an engine still parts from NumPy.

The graph is cut: around the node that is to blame, or ever closer to what goes wrong; what is cut off becomes a placeholder
with the value that NumPy has computed. Then axes are made shorter and numbers simpler. Each step is kept only if the difference
stays, so that there is always something to show, whenever the tries are used up.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.bounds import jittered, within
from kgraph.function import Function
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.origin import Origin, building
from kgraph.ir.passes import Passes, Rewrite, chosen
from kgraph.ir.traverse import rebuilt, substitute, toposort
from kgraph.ir.types import TensorType, is_tuple
from kgraph.lower.engine import Engine
from kgraph.parting import Parting, as_array, computed, function_of, message_of, parts
from kgraph.program_text import ProgramText
from kgraph.quiet import quietly
from kgraph.watch import Array

#: Programs that are compiled, calls that are made, and seconds that are spent.
MOST_PROGRAMS, MOST_CALLS, MOST_SECONDS = 60, 600, 60.0


@dataclass(frozen=True)
class Problem:
    """A graph over placeholders, and values, on which an engine parts from NumPy.

    Attributes:
      passes: of the optimiser, which the engine's graph goes through.
      rewrite: the one that is to blame, if it is known.
      error: what the engine raises, in one line, if that is the difference.
    """

    graph: Graph
    values: Mapping[Node, Array]
    engine: Engine
    passes: Passes
    made: Origin
    rewrite: Rewrite | None = None
    error: str | None = None

    @classmethod
    def of_node(cls, parting: Parting, engine: Engine, made: Origin) -> Problem:
        """The node alone, over its operands."""
        given: dict[Node, Node] = {}
        for node in parting.node.inputs:
            if node not in given:
                given[node] = node if node.op is o.constant else o.placeholder(type=node.type, uid=Identity(_name(node)))
        alone = rebuilt(parting.node, tuple([given[node] for node in parting.node.inputs]))
        root = o.item(alone, index=parting.output) if is_tuple(alone.type) else alone
        values = {given[n]: x for n, x in zip(parting.node.inputs, parting.operands, strict=True) if n.op is not o.constant}
        return cls(Graph(list(values), [root]), values, engine, chosen(False), made, error=parting.error)


def _name(node: Node) -> str | None:
    return node.name if node.op is not o.param else None


@quietly
def smallest(problem: Problem) -> str | None:
    """The program that shows what is left of a problem; None if the difference does not show again."""
    shrinker = _Shrinker(problem)
    if not shrinker.keeps(problem.graph, problem.values):
        return None
    if len(_work(shrinker.best.graph)) > 1:
        shrinker.cut_graph()
    shrinker.know_sizes()
    shrinker.drop_operands()
    shrinker.thin_bodies()
    shrinker.shorten_axes()
    shrinker.simplify_values()
    shrinker.done()
    best = shrinker.best
    text = ProgramText(best.graph)
    return text.text(best.values, best.engine.name, optimize=best.passes != chosen(False))


def _work(graph: Graph) -> list[Node]:
    """The nodes that compute something."""
    return [node for node in toposort(graph.roots) if not node.op.source and node.op is not o.item]


class _Shrinker:
    def __init__(self, problem: Problem):
        self.best = problem
        self.programs = self.calls = 0
        self.begin = time.monotonic()
        self.functions: dict[Graph, Function] = {}
        self.shows = sys.stderr.isatty()

    # -------------------------------------------------------------------------------------------- a try

    def left(self) -> bool:
        spent = time.monotonic() - self.begin > MOST_SECONDS
        return not spent and self.programs < MOST_PROGRAMS and self.calls < MOST_CALLS

    def keeps(self, graph: Graph, values: Mapping[Node, Array]) -> bool:
        """Whether the engine parts on a graph too. Then it is the best one so far."""
        if not self.left():
            return False
        self.calls += 1
        used = {node: values[node] for node in toposort(graph.roots) if node.op is o.placeholder}
        graph = Graph(list(used), graph.roots)
        try:
            wrong = self._parts(graph, used)
        except Exception:  # NumPy refuses it, or the passes do
            return False
        if wrong:
            self.best = replace(self.best, graph=graph, values=used)
        if self.shows:
            message = f"\rshrinking: {self.calls} tries, {len(_work(self.best.graph))} nodes"
            print(message, end="", file=sys.stderr, flush=True)
        return wrong

    def done(self) -> None:
        if self.shows:
            print(file=sys.stderr)

    def _parts(self, graph: Graph, values: Mapping[Node, Array]) -> bool:
        known = computed(graph, values)
        wanted = [as_array(known[root], root) for root in graph.roots]
        function = self.functions.get(graph)
        if function is None:
            self.programs += 1
            function = self.functions[graph] = function_of(graph, self.best.engine, self.best.made, self.best.passes)
        try:
            found = function(list(values.values()))
        except Exception as error:  # another one than the engine's is another problem
            return message_of(error).partition(":")[0] == (self.best.error or "").partition(":")[0]
        if self.best.error is not None:
            return False
        work = _work(graph)
        (root,) = graph.roots[:1]
        if len(work) == 1 and len(graph.roots) == 1:
            (node,) = work
            operands = [np.asarray(known[i]) if i in known else i.attr("value").array for i in node.inputs]
            return parts(node, operands, found[0], wanted[0], root.attr("index") if root.op is o.item else 0)
        bounds = jittered(graph, values, wanted, 8)
        return not all(within(x, y, bound) for x, y, bound in zip(found, wanted, bounds, strict=True))

    # -------------------------------------------------------------------------------------------- the graph

    def cut_graph(self) -> None:
        """Leaves of the graph what is around one root, then what cannot be replaced by its value."""
        rewrite, roots = self.best.rewrite, list(self.best.graph.roots)
        if rewrite is not None:
            roots.insert(0, rewrite.before)
        else:
            self._raise_root()
            roots = [*self.best.graph.roots]
        start = self.best
        for root in roots:
            try:
                known = computed(Graph(list(start.values), [root]), start.values)
            except Exception:  # a node that passes have made of placeholders of their own
                continue
            depth, size = 1, 0
            while self.left():
                graph, values = around(root, depth, known)
                if len(_work(graph)) == size:
                    break
                if self.keeps(graph, values):
                    self._thin()
                    return
                depth, size = 2 * depth, len(_work(graph))
        self._thin()

    def _raise_root(self) -> None:
        """Takes away what comes after the first thing that goes wrong, by halves."""
        start = self.best
        order = [node for node in toposort(start.graph.roots) if not node.op.source and not is_tuple(node.type)]
        low, high = 0, len(order) - 1
        while low < high and self.left():
            middle = (low + high) // 2
            if self.keeps(Graph((), [order[middle]]), start.values):
                high = middle
            else:
                low = middle + 1

    def _thin(self) -> None:
        """Replaces nodes by their values, one after the other, those next to the root first."""
        tried: set[Node] = set()
        while self.left():
            graph, values = self.best.graph, self.best.values
            known = computed(graph, values)
            order = [n for n in _work(graph)[::-1] if n not in tried and n not in graph.roots and not is_tuple(n.type)]
            if not order:
                return
            node = order[0]
            tried.add(node)
            stand_in = _stand_in(node)
            self.keeps(
                Graph((), substitute(graph.roots, {node: stand_in})), {**values, stand_in: np.asarray(known[node])}
            )  # fmt: skip

    def know_sizes(self) -> None:
        """Placeholders of the sizes that their values have."""
        given = {node: (TensorType(node.dtype, value.shape), value) for node, value in self.best.values.items()}
        if any(type is not node.type for node, (type, _) in given.items()):
            self._over(given)

    def _over(self, given: Mapping[Node, tuple[TensorType, Array]], sizes: Mapping[int, int] | None = None) -> bool:
        """Tries the graph over placeholders of other types.

        Args:
          sizes: what becomes of sizes that attrs name.
        """
        made: dict[Node, Node] = {}
        values = {}
        for node, (type, value) in given.items():
            made[node] = _stand_in(node, type)
            values[made[node]] = np.array(value)
        for change in (sizes, None) if sizes else (None,):

            def remake(node: Node, inputs: tuple[Node, ...], change: Any = change) -> Node:
                if change and node.op is o.constant and not node.ndim and node.dtype.startswith(("int", "uint")):
                    value = node.attr("value").array.item()
                    return o.scalar(change.get(value, value), node.dtype)  # the number of steps of a loop, say
                attrs = tuple([(name, _resized(name, value, change)) for name, value in node.attrs]) if change else node.attrs
                if attrs != node.attrs and not node.op.bodies:
                    return node.op.apply(inputs, attrs)
                return rebuilt(node, inputs)

            try:
                roots = substitute(self.best.graph.roots, made, remake, every=True)
            except Exception:  # sizes that do not go together
                continue
            if self.keeps(Graph((), roots), values):
                return True
        return False

    # -------------------------------------------------------------------------------------------- operands

    def drop_operands(self) -> None:
        """Leaves out operands of ops that take any number of them; feeds one value in the place of several that are alike."""
        work = _work(self.best.graph)
        if len(work) != 1 or work[0].op is not o.concatenate:
            return
        while len(work[0].inputs) > 1 and self.left():
            inputs = work[0].inputs
            for i in range(len(inputs)):
                fewer = work[0].op.apply(inputs[:i] + inputs[i + 1 :], work[0].attrs)
                if self.keeps(Graph((), [fewer]), self.best.values):
                    break
            else:
                return
            work = _work(self.best.graph)

    def thin_bodies(self) -> None:
        """Takes nodes out of the bodies of a loop or branch, passing on one of their operands."""
        again = True
        while again and self.left():
            again = any(self.keeps(Graph((), [root]), self.best.values) for root in self._thinner())

    def _thinner(self) -> Iterator[Node]:
        (root,) = self.best.graph.roots[:1]
        node = root.inputs[0] if root.op is o.item else root
        for name in node.op.bodies:
            body: Graph = node.attr(name)
            for inner in toposort(body.outputs, stop=body.inputs)[::-1]:
                for operand in inner.inputs:
                    if operand.type is inner.type:
                        thinner = Graph(body.inputs, substitute(body.outputs, {inner: operand}))
                        made = node.op(*node.inputs, **{**dict(node.attrs), name: thinner})
                        yield o.item(made, index=root.attr("index"))

    def shorten_axes(self) -> None:
        """Takes a part of the axes of one size at a time, then of single axes."""
        again = True
        while again and self.left():
            again = False
            for places, size in self._groups():
                for start, count in _parts_of(size):
                    given = {}
                    for number, (node, value) in enumerate(self.best.values.items()):
                        for axis in range(value.ndim):
                            if (number, axis) in places:
                                value = np.take(value, range(start, start + count), axis)
                        given[node] = (TensorType(node.dtype, value.shape), value)
                    if self._over(given, {size: count}):
                        again = True
                        break
                if again:
                    break

    def _groups(self) -> Iterator[tuple[set[tuple[int, int]], int]]:
        """Axes of equal size, as pairs (number of the operand, axis); all of one size first."""
        axes: dict[int, set[tuple[int, int]]] = {}
        for number, value in enumerate(self.best.values.values()):
            for axis, size in enumerate(value.shape):
                if size > 1:
                    axes.setdefault(size, set()).add((number, axis))
        for size, places in sorted(axes.items(), reverse=True):
            yield places, size
        for size, places in sorted(axes.items(), reverse=True):
            if len(places) > 1:
                for place in sorted(places):
                    yield {place}, size

    # -------------------------------------------------------------------------------------------- values

    def simplify_values(self) -> None:
        """Writes simpler numbers: for whole arrays, then for halves of them, down to single ones."""
        for node in list(self.best.values):
            for simpler in _simpler(self.best.values[node].dtype.kind):
                array = self.best.values.get(node)
                if array is None or not array.size:
                    break
                self._simplify(node, simpler, 0, array.size)

    def _simplify(self, node: Node, simpler: Callable[[Array], Array], start: int, stop: int) -> None:
        todo = [(start, stop)]
        while todo and self.left():
            first, last = todo.pop()
            flat = self.best.values[node].reshape(-1).copy()
            with np.errstate(all="ignore"):
                new = np.asarray(simpler(flat[first:last])).astype(flat.dtype)
            if np.array_equal(new, flat[first:last], equal_nan=flat.dtype.kind == "f"):
                continue
            if not _is_simpler(new, flat[first:last]):
                continue
            flat[first:last] = new
            changed = flat.reshape(self.best.values[node].shape)
            if not self.keeps(self.best.graph, {**self.best.values, node: changed}) and last - first > 1:
                middle = (first + last) // 2
                todo += [(middle, last), (first, middle)]


def around(root: Node, depth: int, known: Mapping[Node, Any]) -> tuple[Graph, dict[Node, Array]]:
    """The graph of a root down to a depth, over placeholders in the place of what is below, and their values."""
    at = {root: 0}
    made: dict[Node, Node] = {}
    values: dict[Node, Array] = {}
    for node in reversed(toposort([root])):  # users before inputs
        if node not in at:
            continue
        if node.op is o.constant or node.op is o.absent:
            continue
        if node.op is o.placeholder or (at[node] >= depth and not is_tuple(node.type) and node is not root):
            made[node] = node if node.op is o.placeholder else _stand_in(node)
            values[made[node]] = np.asarray(known[node])
            continue
        for i in node.inputs:
            at[i] = min(at.get(i, depth), at[node] + 1) if not is_tuple(i.type) else at[node]
    (made_root,) = substitute([root], made)
    return Graph(list(values), [made_root]), values


def _stand_in(node: Node, type: TensorType | None = None) -> Node:
    before, building.origin = building.origin, node.origins[0]
    try:
        return o.placeholder(type=node.type if type is None else type, uid=Identity(node.name))
    finally:
        building.origin = before


def _resized(name: str, value: Any, sizes: Mapping[int, int]) -> Any:
    if name != "shape" or not isinstance(value, tuple):
        return value
    return tuple([sizes.get(entry, entry) if isinstance(entry, int) else entry for entry in value])


def _parts_of(size: int) -> Iterator[tuple[int, int]]:
    """(start, count) of the parts of an axis that are tried, the shortest first."""
    yield from [(0, 1), (size - 1, 1)]
    count = 2
    while count < size:
        yield from [(start, count) for start in range(0, size - count + 1, count)][:4]
        count *= 2
    if size > 2:
        yield from [(0, size - 1), (1, size - 1)]
    if size <= 8:
        yield from [(start, 1) for start in range(1, size - 1)]


def _simpler(kind: str) -> Sequence[Callable[[Array], Array]]:
    if kind != "f":
        return (lambda x: np.zeros_like(x), lambda x: np.ones_like(x))
    return (
        lambda x: np.zeros_like(x), lambda x: np.ones_like(x), lambda x: -np.ones_like(x), np.trunc, np.round,
        lambda x: _digits(x, 1), lambda x: _digits(x, 2), lambda x: _digits(x, 3),
    )  # fmt: skip


def _digits(x: Array, count: int) -> Array:
    """The numbers with so many digits that count."""
    return np.array([float(f"{float(v):.{count}g}") for v in x])


def _is_simpler(new: Array, old: Array) -> bool:
    """Whether all numbers are simpler: 0, 1, -1, then by how many digits they are written with."""
    return sum(map(_length, new.tolist())) < sum(map(_length, old.tolist()))


def _length(value: Any) -> float:
    if value == 0:
        return 0
    if value in (1, -1):
        return 1 if value == 1 else 1.5
    return 2 + len(repr(value))

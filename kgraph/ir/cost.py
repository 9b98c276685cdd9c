"""What a graph costs: operations on floats, bytes read and written, and the memory that it holds at most.

A model, not a measurement: it counts what each op has to do, whichever engine does it. That is one operation per element for
arithmetic and comparisons, `DEAR` for functions such as exp, two per product that a matrix product or a convolution adds up.
What only names elements otherwise (reshape, transpose, slices) costs nothing. Of the sides of a branch the dearer one counts; a
loop costs its body times its steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import kgraph.ir.ops as o
from kgraph.errors import ArgumentError, KGraphError
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.op import Op
from kgraph.ir.polynomial import Polynomial, interpolated
from kgraph.ir.sizes import known_value, note_value, real_type
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TupleType, is_tuple, numpy_dtype

#: Operations that one element of a transcendental function counts for: the order of what vectorised libraries take.
DEAR = 10

Count = int | Polynomial


class Cost(NamedTuple):
    """What a graph, or a node, costs; polynomials where sizes are not known.

    Attributes:
      nodes: how many, those of bodies included, constants and what is fed not.
      flops: operations.
      read, written: bytes.
      peak: bytes that are held at the same time at most: of inputs, variables and constants too.
    """

    nodes: int
    flops: Any
    read: Any
    written: Any
    peak: Any

    @property
    def bytes(self) -> Any:
        """Bytes read and written."""
        if isinstance(self.read, Polynomial):
            both = dict(self.read.terms)
            for powers, coefficient in self.written.terms.items():
                both[powers] = both.get(powers, 0) + coefficient
            return Polynomial(self.read.names, both)
        return self.read + self.written


# ---------------------------------------------------------------------------------------------------- operations of an op

#: Ops that only name elements otherwise.
VIEWS = frozenset((
    o.reshape, o.transpose, o.expand_dims, o.squeeze, o.flip, o.broadcast_to, o.broadcast_like, o.index, o.identity,
    o.stop_gradient, o.print_, o.item, o.shape, o.size, o.absent,
))  # fmt: skip

_DEAR_OPS = frozenset((
    o.exp, o.expm1, o.log, o.log1p, o.sqrt, o.sin, o.cos, o.tanh, o.sigmoid, o.softplus, o.power, o.random_uniform,
    o.random_normal, o.logsumexp, o.softmax, o.log_softmax, o.softmax_crossentropy, o.softmax_crossentropy_grad,
    o.sigmoid_crossentropy,
))  # fmt: skip

#: Ops that move elements: they read as many as they write.
MOVES = frozenset((o.concatenate, o.repeat, o.tile, o.pad, o.gather, o.pick, o.one_hot, o.arange, o.cast))


def _matmul(node: Node, operands: Sequence[Any], out: Any) -> int:
    return 2 * out.size * operands[0].shape[-1]


def _conv(node: Node, operands: Sequence[Any], out: Any) -> int:
    return 2 * out.size * math.prod(operands[1].shape[:-1])


def _conv_input_grad(node: Node, operands: Sequence[Any], out: Any) -> int:
    return 2 * operands[0].size * math.prod(operands[1].shape[:-1])


def _conv_kernel_grad(node: Node, operands: Sequence[Any], out: Any) -> int:
    return 2 * operands[1].size * math.prod(out.shape[:-1])


def _pool(node: Node, operands: Sequence[Any], out: Any) -> int:
    return math.prod(node.attr("size")) * min(out.size, operands[0].size)


#: Op -> the operands of which it reads the shape alone.
OF_SHAPE: dict[Op, tuple[int, ...]] = {
    o.shape: (0,), o.size: (0,), o.broadcast_like: (1,), o.scatter_index: (1,), o.scatter_add: (2,), o.unpick: (2,),
}  # fmt: skip

#: Op -> (node, types of its operands, type of its result) -> operations.
_OPERATIONS: dict[Op, Callable[[Node, Sequence[Any], Any], int]] = {
    o.matmul: _matmul, o.conv: _conv, o.conv_input_grad: _conv_input_grad, o.conv_kernel_grad: _conv_kernel_grad,
    o.max_pool: _pool, o.max_pool_grad: _pool, o.max_pool_pick: _pool, o.avg_pool: _pool, o.avg_pool_grad: _pool,
}  # fmt: skip


def _operations(node: Node, operands: Sequence[Any], out: Any) -> int:
    if node.op in VIEWS or node.op in MOVES:
        return 0
    count = _OPERATIONS.get(node.op)
    if count is not None:
        return count(node, operands, out)
    elements = max([out.size, *[x.size for x in operands if not is_tuple(x)]])
    return elements * (DEAR if node.op in _DEAR_OPS else 1)


def bytes_of(type: Any) -> int:
    """The bytes of a value of a type whose sizes are known."""
    if is_tuple(type):
        return sum(map(bytes_of, type.items))
    return type.size * numpy_dtype(type.dtype).itemsize


# ---------------------------------------------------------------------------------------------------- a graph of known sizes


class _Meet(Exception):
    """Sizes that were taken for different ones meet."""

    def __init__(self, sizes: Sequence[int], error: KGraphError):
        super().__init__(str(error))
        self.sizes, self.error = sizes, error


class _Walk:
    """The costs of the nodes of a graph, or of a body, whose sizes are all known.

    Args:
      given: types of its inputs and other sources.

    Attributes:
      types: of all nodes.
      each: node -> its cost; of a node with a body, with that body's.
      inside: node with bodies -> for each of them its walk, and how many times it counts.
      total: of the graph.
    """

    def __init__(self, graph: Graph, given: Mapping[Node, Any]):
        self.types: dict[Node, Any] = dict(given)
        self.values: dict[Node, Any] = {}
        self.each: dict[Node, Cost] = {}
        self.inside: dict[Node, list[tuple[_Walk, int]]] = {}
        order = toposort(graph.roots, stop=graph.inputs)
        needed = _read(graph, order)
        for node in order:
            if node in self.types:
                continue
            if node.op.source:
                self.types[node] = _filled(node.type)  # what is absent from a side may have sizes that are not known
                continue
            operands = [self.types[i] for i in node.inputs]
            if node not in needed and not node.op.effect:
                self.types[node] = _filled(self._type(node, operands))
            elif node.op is o.scan:
                self._loop(node, operands)
            elif node.op.bodies:
                self._branch(node, operands)
            else:
                self._plain(node, operands)
        costs = list(self.each.values())
        nodes, flops, read, written = (sum(cost[i] for cost in costs) for i in range(4))
        self.total = Cost(nodes, flops, read, written, self._peak(graph, order))

    def _plain(self, node: Node, operands: Sequence[Any]) -> None:
        self.types[node] = out = self._type(node, operands)
        if node.op in VIEWS:
            self.each[node] = Cost(1, 0, 0, 0, 0)
            return
        written = bytes_of(out)
        read = written if node.op in MOVES else sum(map(bytes_of, operands))
        self.each[node] = Cost(1, _operations(node, operands, out), read, written, 0)

    def _type(self, node: Node, operands: Sequence[Any]) -> Any:
        try:
            out = real_type(node, operands, self.values)
        except KGraphError as error:
            raise _Meet(sorted({size for x in operands if not is_tuple(x) for size in x.shape}), error) from None
        note_value(node, operands, self.values)
        return _filled(out)

    def _branch(self, node: Node, operands: Sequence[Any]) -> None:
        bodies = [node.attr(name) for name in node.op.bodies]
        sides = [_inside(body, operands) for body in bodies]
        dearest = max(sides, key=lambda side: (side.total.flops, side.total.bytes))
        results = [[side.types[root] for root in body.outputs] for body, side in zip(bodies, sides, strict=True)]
        absent = [[root.op is o.absent for root in body.outputs] for body in bodies]
        # A result that is absent from one side has the type that it has in the other.
        known = [x if y_is else y if x_is else x for x, y, x_is, y_is in zip(*results, *absent, strict=True)]
        self.types[node] = TupleType(tuple(map(_filled, known)))
        self.each[node] = dearest.total._replace(nodes=1 + sum(side.total.nodes for side in sides))
        self.inside[node] = [(side, int(side is dearest)) for side in sides]

    def _loop(self, node: Node, operands: Sequence[Any]) -> None:
        attrs = dict(node.attrs)
        body, first = attrs["body"], 1 + attrs["sequences"]
        steps = known_value(node.inputs[0], self.values)
        lengths = [x.shape[0] for x in operands[1:first]]
        count = lengths[0] if lengths else 1 if steps is None else int(steps)
        inside = _inside(body, node.op.given(*operands, **attrs))  # type: ignore[misc]
        stacked = [inside.types[root] for root in body.outputs[attrs["states"] :]]
        finals = operands[first : first + attrs["states"]]
        self.types[node] = TupleType((*finals, *[t.with_shape((count, *t.shape)) for t in stacked]))
        nodes, flops, read, written, peak = inside.total
        self.each[node] = Cost(1 + nodes, count * flops, count * read, count * written, peak)
        self.inside[node] = [(inside, count)]

    def _peak(self, graph: Graph, order: Sequence[Node]) -> int:
        """Bytes held at most, if each value is freed after its last use; a view holds what it is a view of."""
        owner: dict[Node, Node] = {}
        last: dict[Node, int] = {}
        for number, node in enumerate(order):
            owner[node] = owner[node.inputs[0]] if node.op in VIEWS and node.inputs else node
            for i in node.inputs:
                last[owner[i]] = number
        given = set(graph.inputs)
        fed = [node for node in order if node.op.source or node in given]
        for node in (*graph.roots, *fed):
            last[owner.get(node, node)] = len(order)
        dying: dict[int, list[Node]] = {}
        for node, number in last.items():
            dying.setdefault(number, []).append(node)
        held = sum(bytes_of(self.types[node]) for node in fed)
        peak = held
        for number, node in enumerate(order):
            if node in self.each and owner[node] is node:
                held += bytes_of(self.types[node])
            peak = max(peak, held + (self.each[node].peak if node in self.each else 0))
            held -= sum(bytes_of(self.types[n]) for n in dying.get(number, ()))
        return peak


def _read(graph: Graph, order: Sequence[Node]) -> set[Node]:
    """The nodes of which more is read than the shape, which is known before they are computed."""
    found = set(graph.roots)
    for node in reversed(order):
        if node in found or node.op.effect:
            shapes = OF_SHAPE.get(node.op, ())
            found.update(i for place, i in enumerate(node.inputs) if place not in shapes)
    return found


def _inside(body: Graph, operands: Sequence[Any]) -> _Walk:
    return _Walk(body, dict(zip(body.inputs, operands[len(operands) - len(body.inputs) :], strict=True)))


def _filled(type: Any) -> Any:
    """A type whose sizes that only values decide are taken for one."""
    if is_tuple(type):
        return TupleType(tuple(map(_filled, type.items)))
    if type.is_static:
        return type
    return type.with_shape(tuple([1 if size is None else size for size in type.shape]))


# ---------------------------------------------------------------------------------------------------- sizes that are not known

#: Costs are at most of this degree in the unknown sizes: a product of three sizes for each matrix product, say.
_DEGREE = 3
#: Sizes are tried at multiples of this one: strides and windows divide them, and what is held at the same time is what is held
#: for large sizes.
STEP = 12_000


class Unknowns:
    """The sizes of a graph that are not known: those that have to be equal have one name.

    Attributes:
      of: name -> the axes of sources, as (source, axis), that have it. Named n for the first axis, and by the placeholder else.
      settled: (source, axis) -> the only size that it can have.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.settled: dict[tuple[Node, int], int] = {}
        given = set(graph.inputs)
        sources = [n for n in toposort((*graph.inputs, *graph.roots), stop=graph.inputs) if n.op.source or n in given]
        sources = [node for node in sources if not is_tuple(node.type) and not node.type.is_static]
        groups: list[list[tuple[Node, int]]] = []
        for node in sources:
            groups += [[(node, axis)] for axis, size in enumerate(node.type.shape) if size is None]
        while True:
            try:
                self.of = _named(groups)
                # Sizes that are far apart: two that meet are equal by no accident.
                self.walk(dict(zip(self.of, _APART, strict=False)))
                return
            except _Meet as meet:
                named = [int(number) for number in re.findall(r"\d+", meet.error.message)]
                if not any(_join(groups, sizes) for sizes in (named, meet.sizes)) and not self._settle(groups, meet.sizes):
                    raise ArgumentError(f"no sizes that go together were found: {meet.error.message}") from meet.error

    def _settle(self, groups: list[list[tuple[Node, int]]], sizes: Sequence[int]) -> bool:
        """Gives one of the unknown sizes that an op refuses the only value that it can have there. Returns whether one was."""
        numbers = [number for number in range(len(groups)) if _APART[number] in sizes]
        if not numbers:
            return False
        known = max([size for size in sizes if size not in _APART], default=1)
        value = 1 if 1 in sizes or len(sizes) > 2 or known in (0, 1) else known
        self.settled.update(dict.fromkeys(groups.pop(numbers[0]), value))
        return True

    def walk(self, sizes: Mapping[str, int]) -> _Walk:
        """The walk of the graph with values for the unknown sizes."""
        by_axis = {place: sizes[name] for name, places in self.of.items() for place in places} | self.settled
        given: dict[Node, Any] = {}
        for node, _ in by_axis:
            shape = tuple([by_axis.get((node, axis), size) for axis, size in enumerate(node.type.shape)])
            given[node] = node.type.with_shape(shape)
        given.update({node: node.type for node in self.graph.inputs if node not in given})
        return _Walk(self.graph, given)

    def at(self, sizes: Mapping[str, int]) -> _Walk:
        """The same for sizes that a user gives. Raises: ArgumentError if one is not unknown, is missing, or does not fit."""
        if set(sizes) != set(self.of):
            shown = ", ".join(f"{name} ({_place(places)})" for name, places in self.of.items())
            raise ArgumentError(f"sizes is {dict(sizes)!r}", hint=f"the unknown sizes are {shown or 'none'}")
        try:
            return self.walk(sizes)
        except _Meet as meet:
            raise ArgumentError(f"the sizes {dict(sizes)!r} do not go together: {meet.error.message}") from meet.error


#: Divisible by what strides and shapes are likely to divide by.
_APART = [12 * (10007 * 7**k + 2) for k in range(40)]


def walk_of(graph: Graph, shapes: Mapping[Node, Sequence[int]]) -> _Walk:
    """The costs of the nodes of a graph whose inputs have these shapes.

    Raises: ArgumentError if they do not go together.
    """
    try:
        return _Walk(graph, {node: node.type.with_shape(tuple(shapes[node])) for node in graph.inputs})
    except _Meet as meet:
        raise ArgumentError(f"the sizes do not go together: {meet.error.message}") from meet.error


def _named(groups: Sequence[Sequence[tuple[Node, int]]]) -> dict[str, list[tuple[Node, int]]]:
    found: dict[str, list[tuple[Node, int]]] = {}
    for group in groups:
        node, axis = group[0]
        base = "n" if axis == 0 else f"{node.name or 'size'}_{axis}".replace("-", "_")
        name = next(name for name in (base, *[f"{base}{i}" for i in range(2, 1000)]) if name not in found)
        found[name] = list(group)
    return found


def _join(groups: list[list[tuple[Node, int]]], sizes: Sequence[int]) -> bool:
    """Makes one of the groups whose sizes meet. Returns whether there are such."""
    places = [number for number in range(len(groups)) if _APART[number] in sizes]
    if len(places) < 2:
        return False
    first, *rest = places
    for number in reversed(rest):
        groups[first] += groups.pop(number)
    return True


def cost(graph: Graph, sizes: Mapping[str, int] | None = None) -> Cost:
    """What a graph costs.

    Args:
      sizes: values of the unknown sizes, by the names that `Unknowns` has for them; without it they are the unknowns of
        polynomials, which are exact at sizes that strides and windows divide.
    Raises: ArgumentError for a size that is not unknown, or is missing.
    """
    unknown = Unknowns(graph)
    if sizes is not None or not unknown.of:
        return unknown.at(sizes or {}).total
    names = list(unknown.of)
    nodes, *found = interpolated(names, lambda values: unknown.walk(values).total, degree_for(names), STEP)
    flops, read, written, peak = found
    return Cost(nodes(**dict.fromkeys(names, 0)), flops, read, written, peak)


def degree_for(names: Sequence[str]) -> int:
    """Of the polynomials in some unknown sizes."""
    return _DEGREE if len(names) <= 4 else 2  # more would take too many walks


def _place(places: Sequence[tuple[Node, int]]) -> str:
    return " = ".join(f"axis {axis} of {describe(node)}" for node, axis in places)

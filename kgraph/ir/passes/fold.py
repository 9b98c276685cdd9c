"""Computing what is known: constant sub-graphs, the arithmetic of known sizes, and branches whose condition is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.listing import is_large
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.origin import building
from kgraph.ir.passes.loops import part_of
from kgraph.ir.passes.record import Record
from kgraph.ir.traverse import rebuilt, substitute
from kgraph.ir.types import TensorType
from kgraph.quiet import quietly

#: Elements; a constant that would be larger, and larger than what it is made of, is computed when the program runs.
LARGEST = 4096


def fold(graph: Graph, record: Record) -> Graph:
    """Constants in the place of what is known before the program runs."""

    def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op is o.scan and any(i.op is o.constant for i in inputs):
            node, inputs = _with_constants_inside(node, inputs, record)
        made = rebuilt(node, inputs, lambda body: fold(body, record)) if inputs != node.inputs or node.op.bodies else node
        before, building.origin = building.origin, node.origins[0]
        try:
            for rule, fold_one in _RULES:
                folded = fold_one(made)
                if folded is not None:
                    record.note("fold", rule, made, folded)
                    return folded
        finally:
            building.origin = before
        return made

    return graph.with_roots(substitute(graph.roots, {}, rebuild, every=True))


def _with_constants_inside(node: Node, inputs: tuple[Node, ...], record: Record) -> tuple[Node, tuple[Node, ...]]:
    """A loop whose captures are no constants: the learning phase of a program, say, decides branches in its body."""
    node = rebuilt(node, inputs)  # the types of its operands are known as precisely as can be
    body: Graph = node.attr("body")
    first = 1 + node.attr("sequences") + node.attr("states")
    captured = zip(body.inputs[first:], inputs[first:], strict=True)
    fixed = {p: i for p, i in captured if i.op is o.constant and not is_large(i.attrs[0][1])}
    if not fixed:
        return node, inputs
    left = [(p, i) for p, i in zip(body.inputs, inputs, strict=True) if p not in fixed]
    parameters = [o.param(index=n, type=p.type) for n, (p, _) in enumerate(left)]
    places = {p: parameter for (p, _), parameter in zip(left, parameters, strict=True)}
    numbers = [n for n, p in enumerate(body.inputs) if p not in fixed]
    inside = Graph(parameters, substitute(body.outputs, {**places, **fixed}), built_as=part_of(body, numbers))
    inputs = tuple([i for _, i in left])
    attrs = tuple([(name, inside if name == "body" else value) for name, value in node.attrs])
    before, building.origin = building.origin, node.origins[0]
    try:
        made = o.scan.apply(inputs, attrs)
    finally:
        building.origin = before
    record.note("fold", "capture", node, made)
    return made, inputs


def _branch(node: Node) -> Node | None:
    """A branch whose condition is known, or whose sides are one, is a side."""
    if node.op is o.switch and node.inputs[1] is node.inputs[2]:
        return node.inputs[1]
    if node.op is o.switch and node.inputs[0].op is o.constant:
        return node.inputs[1] if _value(node.inputs[0]) else node.inputs[2]
    return None


def _size(node: Node) -> Node | None:
    """Sizes that are known are numbers."""
    if node.op is o.shape and node.inputs[0].type.is_static:
        return o.constant_of(np.array(node.inputs[0].type.shape, "int32"))
    if node.op in _SIZES:
        known = o.static_int(node)
        return None if known is None else o.scalar(known, node.dtype)
    return None


def _dynamic_size(node: Node) -> Node | None:
    """A symbolic size that is known goes from the inputs into the attrs, and the type gets more precise."""
    if node.op.sized is None:
        return None
    attrs = dict(node.attrs)
    entries = list(attrs[node.op.sized])
    holes = [i for i, entry in enumerate(entries) if entry is None]
    split = len(node.inputs) - len(holes)
    kept = []
    for hole, size in zip(holes, node.inputs[split:], strict=True):
        known = o.static_int(size)
        if known is None:
            kept.append(size)
        else:
            entries[hole] = known
    if len(kept) == len(holes):
        return None
    attrs[node.op.sized] = tuple(entries)
    return node.op(*node.inputs[:split], *kept, **attrs)


def _constant(node: Node) -> Node | None:
    """An op over constants is a constant."""
    meaning = node.op.numpy
    if meaning is None or node.op.source or node.op.effect or node.op in _NOT_COMPUTED:
        return None
    if not node.inputs or not all(i.op is o.constant for i in node.inputs) or node.type.__class__ is not TensorType:
        return None
    size = node.type.size
    if size is None or size > max(LARGEST, *(i.type.size or 0 for i in node.inputs)):
        return None
    try:
        return o.constant_of(_computed(node, meaning))
    except (ValueError, IndexError, ZeroDivisionError):
        return None  # the program raises it, in the call, where it can be told from an error of kgraph's own


@quietly
def _computed(node: Node, meaning: Callable[..., Any]) -> np.ndarray[Any, Any]:
    return np.asarray(meaning(*map(_value, node.inputs), **dict(node.attrs)))


def _value(node: Node) -> Any:
    return node.attrs[0][1].array


_SIZES: tuple[Op, ...] = (o.size, o.index)
# An identity is asked for as a node of its own; a branch is folded by its condition alone.
_NOT_COMPUTED: tuple[Op, ...] = (o.identity, o.switch, o.cond, o.item)
_RULES: tuple[tuple[str, Callable[[Node], Node | None]], ...] = (
    ("branch", _branch), ("size", _size), ("dynamic_size", _dynamic_size), ("constant", _constant),
)  # fmt: skip

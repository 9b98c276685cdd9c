"""Reverse-mode gradients: cotangents along the reversed order, graph to graph, so that gradients of gradients work.

What belongs to one side of a branch stays inside of that side on the way back too: a cotangent is wrapped in a ``switch``
only where it leaves the side.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph.errors import GradientError
from kgraph.ir.guards import DEEPEST, Guard, enter, guards
from kgraph.ir.node import Node, describe
from kgraph.ir.ops.elementwise import zero_vjp
from kgraph.ir.origin import GRADIENT, building, here
from kgraph.ir.parts import joined
from kgraph.ir.traverse import reachable, toposort
from kgraph.ir.types import is_tuple

#: What to do about a variable that the loss does not depend on.
DISCONNECTED = ("raise", "zeros", "none")


def gradients(loss: Node, wrt: Sequence[Node], disconnected: str = "raise") -> list[Node | None]:
    """The gradient of the sum of loss with respect to each of wrt, which may be any nodes.

    Args:
      loss: float, any shape.
      disconnected: for a node that loss does not depend on: "raise", "zeros" or "none".
    Returns: per node of wrt a node of its type; None only where that was asked for.
    Raises: GradientError if loss is no float, or names the disconnected node and the op where its path ends.
    """
    if disconnected not in DISCONNECTED:
        hint = f"it is one of {', '.join(map(repr, DISCONNECTED))}"
        raise GradientError(f"disconnected is {disconnected!r}", hint=hint).at(here(2).function, (), str(here(2)))
    if is_tuple(loss.type) or not loss.type.is_float:
        hint = "cast what it is computed from, with K.cast; a cast of the loss alone has no gradient either"
        raise GradientError(f"the loss is {loss.type}, and only floats have gradients", hint=hint).at(
            here(2).function, [f"loss: {describe(loss)}"], str(here(2))
        )
    found = cotangents([loss], [o.ones_like(loss)], wrt)
    for position, (node, gradient) in enumerate(zip(wrt, found, strict=True)):
        if gradient is None and disconnected != "none":
            if disconnected == "raise" and not _ends_in_zeros(loss, node):
                raise _disconnected(loss, node)
            found[position] = o.zeros_like(node)
    return found


def cotangents(outputs: Sequence[Node], gs: Sequence[Node | None], wrt: Sequence[Node]) -> list[Node | None]:
    """The cotangent of each of wrt, given those of the outputs; None where there is none."""
    order = toposort(outputs)
    targets = set(wrt)
    needed = reachable(order, targets, _passes)
    sides = guards(order, outputs)
    found: dict[Node, list[Any]] = {}
    for output, g in zip(outputs, gs, strict=True):
        if g is not None and output in needed:
            found.setdefault(output, []).append(g)
    totals: dict[Node, Any] = {}
    before = building.origin
    try:
        for node in reversed(order):
            if node not in found:
                continue
            building.origin = before or node.origins[0].with_role(GRADIENT)
            g = _total(found.pop(node), node)
            if node in targets:
                totals[node] = g
            if not _passes(node) or not any(i in needed for i in node.inputs):
                continue
            for position, (i, part) in enumerate(zip(node.inputs, _parts(node, g, sides), strict=True)):
                if part is not None and i in needed:
                    if sides:
                        part = _leave(part, _side_of(node, position, sides), sides.get(i), i)
                    if is_tuple(i.type) or i.type.is_float:
                        found.setdefault(i, []).append(part)
        return [_leave(totals[node], sides.get(node), None, node) if node in totals else None for node in wrt]
    finally:
        building.origin = before


def _passes(node: Node) -> bool:
    """Whether a gradient goes through the node."""
    vjp = node.op.vjp
    return vjp is not None and vjp is not zero_vjp and (is_tuple(node.type) or node.type.is_float)


def _parts(node: Node, g: Any, sides: dict[Node, Guard | None]) -> Sequence[Any]:
    """The cotangents of a node's inputs."""
    if node.op is o.switch and sides:
        outer = sides.get(node)
        told = None if outer is None else outer.holds(node.inputs[0])
        if told is not None:
            return (None, g, None) if told else (None, None, g)
        if outer is None or outer.depth < DEEPEST:
            return None, g, g  # each goes on inside of its side; `_leave` wraps it where it comes out
    assert node.op.vjp is not None
    return node.op.vjp(g, node, *node.inputs, **dict(node.attrs))


def _side_of(node: Node, position: int, sides: dict[Node, Guard | None]) -> Guard | None:
    """Where the cotangent of one input is valid: where the node is, and for a branch within its side."""
    side = sides.get(node)
    if node.op is o.switch and position:
        return enter(side, node.inputs[0], position == 1)
    return side


def _leave(g: Any, inside: Guard | None, outside: Guard | None, x: Node) -> Any:
    """g, a cotangent of x that is valid inside of some sides, as one that is valid outside: zero where they are not taken."""
    while inside is not outside and inside is not None:
        if outside is None or outside.holds(inside.condition) is None:
            sides = (g, o.zeros_like(x)) if inside.side else (o.zeros_like(x), g)
            g = o.switch(inside.condition, *sides)
        inside = inside.outer
    return g


def _total(parts: list[Any], x: Node) -> Any:
    """The sum of the cotangents of x that its users hand it. Of a tuple it is a tuple, with None for results that have none."""
    if is_tuple(x.type):
        columns = [[part for part in column if part is not None] for column in zip(*parts, strict=True)]
        return tuple([functools.reduce(o.add, column) if column else None for column in columns])
    return functools.reduce(lambda a, b: _sum(a, b, x), joined(parts, x))


def _sum(a: Node, b: Node, x: Node) -> Node:
    """The sum of two cotangents of x. What both sides of one branch hand out is one branch again: the zeros of the side that
    is not taken are not added."""
    if a.op is o.switch and b.op is o.switch and a.inputs[0] is b.inputs[0]:
        zeros = o.zeros_like(x)
        pairs = zip(a.inputs[1:], b.inputs[1:], strict=True)
        return o.switch(a.inputs[0], *[d if c is zeros else c if d is zeros else o.add(c, d) for c, d in pairs])
    return o.add(a, b)


def _ends_in_zeros(loss: Node, node: Node) -> bool:
    """Whether the loss depends on the node through ops that are constant to the gradient, and through nothing else."""
    order = toposort([loss])
    return node.type.is_float and loss in reachable(
        order, [node], lambda n: n.op.vjp is not None and (is_tuple(n.type) or n.type.is_float)
    )


def _disconnected(loss: Node, node: Node) -> GradientError:
    """The error that names the node and the op where its path to the loss ends."""
    order = toposort([loss])
    origin = here(3)
    operands = [f"loss:     {describe(loss)}", f"variable: {describe(node)}"]
    hint = "disconnected='zeros' or 'none' gives those instead"
    name = repr(node.name) if node.name else "the variable"
    below = reachable(order, [node], _passes)
    ends = [n for n in order if n not in below and any(i in below for i in n.inputs)]
    if not node.type.is_float:
        message = f"{name} is {node.type.dtype}, and only floats have gradients"
    elif ends:
        why = "which has no gradient" if ends[0].op.vjp is None else f"whose result is {ends[0].type.dtype}"
        message = f"the gradient path from {name} ends at {ends[0].op.name}, {why}"
        operands.append(f"ends at:  {describe(ends[0])}")
    else:
        message = f"the loss does not depend on {name}"
    return GradientError(message, hint=hint).at(origin.function, operands, str(origin))  # type: ignore[return-value]

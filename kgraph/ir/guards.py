"""Which nodes are needed only when a branch takes one of its sides.

A guard is a path of (condition, side): the node is needed only where all of them hold. ``None`` is the empty path: always
needed. Gradients stay inside the side that they belong to with it, and the sinking pass fills the branches from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kgraph.ir.node import Node
from kgraph.ir.weak import WeakTable

_GUARDS = WeakTable()

#: Deeper nesting than this is computed with its surrounding side; it bounds the work per node.
DEEPEST = 32


class Guard:
    """One step of a path: within ``outer``, condition has the value side. Interned."""

    __slots__ = ("outer", "condition", "side", "depth", "__weakref__")

    def __init__(self, outer: Guard | None, condition: Node, side: bool):
        self.outer, self.condition, self.side = outer, condition, side
        self.depth: int = 1 if outer is None else outer.depth + 1

    def holds(self, condition: Node) -> bool | None:
        """The side that the path takes of a condition; None if it says nothing of it."""
        step: Guard | None = self
        while step is not None:
            if step.condition is condition:
                return step.side
            step = step.outer
        return None

    @property
    def first(self) -> Guard:
        """The outermost step."""
        step: Guard = self
        while step.outer is not None:
            step = step.outer
        return step


def enter(outer: Guard | None, condition: Node, side: bool) -> Guard | None:
    """The path one step longer; the same path where it says so already, contradicts it, or is deep enough."""
    if outer is not None and (outer.depth >= DEEPEST or outer.holds(condition) is not None):
        return outer
    return _step(outer, condition, side)


def _step(outer: Guard | None, condition: Node, side: bool) -> Guard:
    key = (outer, condition, side)
    found: Guard | None = _GUARDS.get(key)
    return _GUARDS.setdefault(key, Guard(outer, condition, side)) if found is None else found


def taken(node: Node, guard: Guard | None) -> Node | None:
    """The side that a switch takes wherever it is needed, because its guard says so; None otherwise, or for another op."""
    told = guard.holds(node.inputs[0]) if guard is not None and node.op.name == "switch" else None
    return None if told is None else node.inputs[1 if told else 2]


def meet(x: Guard | None, y: Guard | None) -> Guard | None:
    """The steps that both have, in the order of the first."""
    kept = []
    step = x
    while step is not y and step is not None and y is not None:
        if y.holds(step.condition) is step.side:
            kept.append(step)
        step = step.outer
    found = y if step is y else None
    for step in reversed(kept):
        found = _step(found, step.condition, step.side)
    return found


def guards(order: Sequence[Node], roots: Iterable[Node]) -> dict[Node, Guard | None]:
    """Node -> guard, for the nodes of an order (inputs first) of which roots are always needed. Empty if none has a guard.

    A node that only sides need that are never taken (the other side of a condition, within one side of it) is left out.
    """
    if not any(node.op.name == "switch" for node in order):
        return {}
    found: dict[Node, Guard | None] = dict.fromkeys(roots)
    for node in reversed(order):
        if node not in found:
            continue
        guard = found[node]
        known = taken(node, guard)
        for position, i in enumerate(node.inputs):
            if known is not None and i is not known:
                continue
            need = guard
            if position and node.op.name == "switch":
                need = enter(guard, node.inputs[0], position == 1)
            found[i] = meet(found[i], need) if i in found else need
    for node in order:
        if node.op.name == "item" and node in found:
            found[node] = found[node.inputs[0]]  # a tuple is not handed into a side as one value
    return found if any(guard is not None for guard in found.values()) else {}

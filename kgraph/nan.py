"""Where the first number came from that is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node, describe
from kgraph.watch import Array, Place, watched


@dataclass(frozen=True)
class NotFinite:
    """The first node whose result is not finite, though what it was made of is: infinite of finite numbers, or NaN of numbers.

    Attributes:
      node: carries the user's line; a placeholder or variable, if that is where the NaN comes in.
      value: its result.
      operands: what it was given.
      index: of the first element that is not finite.
      places: the loops, with the step, and the branches that it is in, outermost first.
    """

    node: Node
    value: Array
    operands: tuple[Array, ...]
    index: tuple[int, ...]
    places: tuple[Place, ...] = ()

    @property
    def kind(self) -> str:
        """"NaN" or "infinity"."""
        return "NaN" if np.isnan(self.value[self.index]) else "infinity"

    def as_data(self) -> dict[str, Any]:
        """The same as lists and dicts of numbers and texts, for JSON; of the arrays the shapes."""
        return {
            "kind": self.kind, "op": self.node.op.name, "name": self.node.name, "type": repr(self.node.type),
            "line": str(self.node.origin), "role": self.node.origin.role, "index": list(self.index),
            "count": int((~np.isfinite(self.value)).sum()), "shape": list(self.value.shape),
            "operands": [
                {"node": describe(i), "shape": list(array.shape), "values": _summary(array)}
                for i, array in zip(self.node.inputs, self.operands, strict=False)
            ],
            "places": [{"in": str(place), "step": place.step} for place in self.places],
        }  # fmt: skip

    def __str__(self) -> str:
        count = int((~np.isfinite(self.value)).sum())
        at = f" at {list(self.index)}" if self.index else ""
        many = f", one of {count} of {self.value.size} elements" if count > 1 else ""
        verb = "holds" if not self.node.inputs else "gives"
        lines = [f"{self.node.op.name} {verb} {self.value[self.index]!s}{at}{many}", f"  {describe(self.node)}"]
        lines += [f"  in {place}" for place in reversed(self.places)]
        names = [*self.node.op.input_names, *[self.node.op.rest_name] * len(self.operands)]
        for name, i, array in zip(names, self.node.inputs, self.operands, strict=False):
            lines.append(f"  {name}: {describe(i)}: {_summary(array)}{self._there(array)}")
        return "\n".join(lines)

    def _there(self, operand: Array) -> str:
        """What an operand is at the same place, if it works element by element."""
        if not (self.node.op.broadcasts or operand.shape == self.value.shape) or not self.index:
            return ""
        try:
            return f", {np.broadcast_to(operand, self.value.shape)[self.index]!s} there"
        except ValueError:
            return ""


def _summary(array: Array) -> str:
    if array.size <= 4:
        return f"{array.tolist()}"
    if array.dtype.kind == "b":
        return f"{int(array.sum())} of {array.size} hold"
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return f"from {finite.min()!s} to {finite.max()!s}" if finite.size else "no finite number"


class _Found(Exception):
    def __init__(self, found: NotFinite):
        super().__init__()
        self.found = found


def first_not_finite(graph: Graph, values: Mapping[Node, Any]) -> NotFinite | None:
    """The first node of a graph whose result is not finite, though what it was made of is; None if there is none.

    Args:
      values: of placeholders, variables and streams.
    """

    def watch(node: Node, operands: Sequence[Any], result: Any, places: tuple[Place, ...]) -> None:
        if node.op.bodies or node.op is o.item or node.op is o.constant:
            return  # its nodes were looked at one by one; a constant is as the user, or a rule, has written it
        made = np.asarray(result)
        if made.dtype.kind != "f" or np.isfinite(made).all():
            return
        floats = [x for x in operands if np.asarray(x).dtype.kind == "f"]
        if any(np.isnan(x).any() for x in floats) or (not np.isnan(made).any() and any(np.isinf(x).any() for x in floats)):
            return
        wrong = np.isnan(made) if np.isnan(made).any() else ~np.isfinite(made)
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise _Found(NotFinite(node, made, tuple(np.asarray(x) for x in operands), index, places))

    try:
        for node, value in values.items():
            watch(node, (), value, ())
        watched(graph, values, watch)
    except _Found as found:
        return found.found
    return None

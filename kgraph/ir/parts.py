"""Putting together what was taken apart: the cotangent of a tensor that its users read in parts, the gates of an LSTM, say.

Each part alone is its cotangent within zeros. The sum of these is as many passes over the whole as there are parts; where the
parts lie side by side along an axis, and leave nothing out, it is their concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.ops.index import HIGHEST
from kgraph.ir.types import Size

_ALL = (0, HIGHEST, 1)


class _Part(NamedTuple):
    """A cotangent of the elements from start to stop along an axis; single if the axis was dropped."""

    axis: int
    start: int
    stop: int
    g: Node
    single: bool


def joined(parts: Sequence[Node], x: Node) -> list[Node]:
    """The cotangents of x with those in the place of which a concatenation stands put together."""
    known = [(part, _part(part, x)) for part in parts] if len(parts) > 1 else []
    by_axis: dict[int, list[_Part]] = {}
    for _, found in known:
        if found is not None:
            by_axis.setdefault(found.axis, []).append(found)
    for axis, pieces in by_axis.items():
        row = sorted(pieces, key=lambda piece: (piece.start, piece.stop))
        ends = [0, *[piece.stop for piece in row]]
        if len(row) > 1 and ends[-1] == x.type.shape[axis] and all(p.start == end for p, end in zip(row, ends, strict=False)):
            whole = o.concatenate(*[o.expand_dims(p.g, axis=axis) if p.single else p.g for p in row], axis=axis)
            if whole.type is x.type:
                return [whole, *[part for part, found in known if found is None or found.axis != axis]]
    return list(parts)


def _part(part: Node, x: Node) -> _Part | None:
    """What part is of x, if it is some neighbouring elements of one axis, and zeros elsewhere."""
    if part.op is not o.scatter_index or part.inputs[1].type is not x.type:
        return None
    found: _Part | None = None
    numbers: Sequence[Size] = part.attr("numbers")
    at = 0
    for axis, letter in enumerate(part.attr("form")):
        if letter == "n":
            return None
        size = x.type.shape[axis]
        width = 1 if letter == "i" else 3
        entry = tuple(numbers[at : at + width])
        at += width
        if entry == _ALL:
            continue
        if found is not None or size is None or None in entry:
            return None
        if letter == "i":
            start = entry[0] % size  # type: ignore[operator]
            found = _Part(axis, start, start + 1, part.inputs[0], True)
            continue
        taken = range(size)[slice(*entry)]
        if taken.step != 1:
            return None
        found = _Part(axis, taken.start, taken.stop, part.inputs[0], False)
    return found

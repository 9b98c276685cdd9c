"""Zeros around a tensor, and the regions that they surround."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.index import HIGHEST
from kgraph.ir.types import TensorType

#: How many zeros come before an axis and behind it, for each axis.
Padding = tuple[tuple[int, int], ...]


def _pad_type(x: TensorType, *, padding: Padding) -> TensorType:
    if len(padding) != x.ndim:
        raise ShapeError(f"padding names {len(padding)} axes, x has {x.ndim}")
    if any(count < 0 for pair in padding for count in pair):
        raise ShapeError(f"padding {padding} has a negative entry")
    sizes = zip(x.shape, padding, strict=True)
    return TensorType(x.dtype, tuple([None if size is None else before + size + behind for size, (before, behind) in sizes]))


def _pad(x: Any, *, padding: Padding) -> Any:
    sizes = zip(x.shape, padding, strict=True)
    result = np.zeros([before + size + behind for size, (before, behind) in sizes], x.dtype)
    result[tuple([slice(before, -behind or None) for before, behind in padding])] = x
    return result


def padded_region(padding: Padding) -> tuple[int, ...]:
    """Where x is in the result: start, stop and step for each axis, as the ops of indexing take them."""
    return tuple([number for before, behind in padding for number in (before, -behind or HIGHEST, 1)])


def _pad_vjp(g: Node, out: Node, x: Node, *, padding: Padding) -> tuple[Node, ...]:
    return (o.shaped_like(o.index(g, form="s" * x.ndim, numbers=padded_region(padding)), x),)


def _expand_pad(x: Node, *, padding: Padding) -> Node:
    sizes = [o.size_of(x, axis) + before + behind for axis, (before, behind) in enumerate(padding)]
    entries, nodes = o.entries_of(sizes)
    around = o.broadcast_to(o.scalar(0, x.dtype), *nodes, shape=entries)
    return o.scatter_index(x, around, form="s" * x.ndim, numbers=padded_region(padding))


pad: Op = Op(
    "pad", _pad_type, numpy=_pad, vjp=_pad_vjp, expand=_expand_pad,
    doc="x with so many zeros before and behind each of its axes.",
)  # fmt: skip

__all__ = ["pad"]

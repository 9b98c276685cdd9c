"""What every K function does with its arguments: make nodes of them, and refuse what does not fit in the user's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import ArgumentError, AxisError, DTypeError, KGraphError, ShapeError
from kgraph.ir.node import Node, as_given, describe
from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin, here
from kgraph.ir.promote import as_node
from kgraph.ir.types import as_axes, as_axis, as_dtype


def refuse(kind: type[KGraphError], message: str, *, hint: str | None = None, **operands: Any) -> KGraphError:
    """The error to raise: it names the K function, the operands as the user named them, and the user's line.

    >>> raise refuse(ShapeError, "inner sizes differ: 3 (last axis of x) != 4 (second-to-last axis of y)", x=x, y=y)
    Traceback (most recent call last):
    kgraph.errors.ShapeError: inner sizes differ: 3 (last axis of x) != 4 (second-to-last axis of y)
    """
    width = max(map(len, operands), default=0) + 1
    origin = here(2)
    lines = [f"{name + ':':<{width}} {show(value, origin)}" for name, value in operands.items()]
    return kind(message, hint=hint).at(origin.function, lines, str(origin))


def show(value: Any, call: Origin | None = None) -> str:
    """An argument of a call as an error message shows it."""
    if isinstance(value, Operators):
        return describe(value.node if call is None else as_given(value.node, call))
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}  array"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def axis_of(axis: Any, x: Node) -> int:
    """One axis of x as an int from 0. Raises AxisError naming x."""
    try:
        return as_axis(axis, x.ndim)
    except AxisError as error:
        raise refuse(AxisError, error.message, x=x) from None


def axes_of(axis: Any, x: Node) -> tuple[int, ...]:
    """None, an int or ints as the sorted axes of x; ``[]`` is no axis, None every one. Raises AxisError naming x."""
    try:
        return as_axes(axis, x.ndim)
    except AxisError as error:
        raise refuse(AxisError, error.message, x=x) from None


def dtype_of(dtype: Any, default: str) -> str:
    """The name of a dtype; default for None. Raises DTypeError."""
    if dtype is None:
        return default
    try:
        return as_dtype(dtype)
    except DTypeError as error:
        raise refuse(DTypeError, error.message, hint=error.hint) from None


def sizes_of(
    sizes: Sequence[Any], what: str = "shape", lowest: int = 0, **operands: Any
) -> tuple[tuple[int | None, ...], tuple[Node, ...]]:
    """A user's sizes (ints mixed with symbolic integer scalars) as an op takes them: its ``sized`` attr, its last inputs.

    A symbolic size whose value is known while the graph is built counts as the int.

    Args:
      operands: for messages.
    Raises: ShapeError for anything else, or an int below lowest.
    """
    entries: list[int | None] = []
    nodes: list[Node] = []
    for size in sizes:
        if isinstance(size, Operators):
            node = size.node
            known = o.static_int(node)
            if known is None:
                if node.ndim or node.type.dtype not in ("uint8", "int8", "int16", "int32", "int64"):
                    raise refuse(
                        ShapeError,
                        f"an entry of {what} is no integer scalar",
                        hint="K.shape(x)[i] is one",
                        **operands,
                        entry=size,
                    )
                entries.append(None)
                nodes.append(node)
                continue
            size = known
        try:
            index = size.__index__()
        except AttributeError:
            # A whole float is what an old program gets from a true division of sizes by mistake; do not guess.
            hint = "sizes are divided with //, which gives an int" if isinstance(size, float) else None
            message = f"an entry of {what} is {show(size)}, not an int or a symbolic integer scalar"
            raise refuse(ShapeError, message, hint=hint, **operands) from None
        if index < lowest:
            raise refuse(ShapeError, f"an entry of {what} is {index}; the least is {lowest}", **operands)
        entries.append(int(index))
    return tuple(entries), tuple(nodes)


def number_of(value: Any, what: str, allowed: str, **operands: Any) -> float:
    """A plain number in [0, 1). Raises ArgumentError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < 1:
        raise refuse(ArgumentError, f"{what} is {show(value)}; it has to be {allowed}", **operands)
    return number


def count_of(value: Any, what: str, least: int = 0) -> int:
    """An int of at least so many. Raises ArgumentError."""
    if isinstance(value, (Operators, bool)) or not hasattr(value, "__index__") or value.__index__() < least:
        raise refuse(ArgumentError, f"{what} is {show(value)}, not an int of at least {least}")
    return int(value.__index__())


def node_of(x: Any) -> Node:
    """A tensor, number, list or array as a node. Raises DTypeError."""
    return as_node(x)


def of_size_one(x: Node, axis: int) -> Node:
    """x, an axis of which is 1: it meets a size that is known to be 1, and nothing is stretched over an unknown one."""
    return o.expand_dims(o.squeeze(x, axis=axis), axis=axis)

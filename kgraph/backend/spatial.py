"""What convolution and pooling do with their arguments: layouts, strides, border modes, and hints of shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import node_of, refuse, show
from kgraph.config import settings
from kgraph.errors import ArgumentError, DTypeError, KGraphError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.ops.windows import BORDERS
from kgraph.ir.promote import as_float, promoted
from kgraph.ir.types import merge_size, same_size, show_shape

ORDERINGS = ("th", "tf")


def ordering_of(ordering: Any) -> str:
    """'th' or 'tf'; 'default' means `image_dim_ordering`. Raises ArgumentError for anything else."""
    name = settings.image_dim_ordering if ordering == "default" else ordering
    if name not in ORDERINGS:
        allowed = ", ".join(map(repr, (*ORDERINGS, "default")))
        raise refuse(ArgumentError, f"dim_ordering is {show(ordering)}; it is one of {allowed}")
    return str(name)


class Layout:
    """Where the channels of tensors and kernels are. The ops have them last; 'th' has them before the spatial axes.

    Args:
      rank: the number of spatial axes.
      ordering: 'th', 'tf' or 'default'. Raises ArgumentError for anything else.
    """

    def __init__(self, rank: int, ordering: Any = "tf"):
        self.rank, self.name = rank, ordering_of(ordering)
        self.first = self.name == "th"
        self.channel = 1 if self.first else rank + 1
        self.space = tuple(range(2, rank + 2)) if self.first else tuple(range(1, rank + 1))

    def last(self, x: Node) -> Node:
        """A tensor with its channels last."""
        return o.transpose(x, perm=(0, *range(2, x.ndim), 1)) if self.first else x

    def back(self, x: Node) -> Node:
        """A tensor with its channels last, in this layout."""
        return o.transpose(x, perm=(0, x.ndim - 1, *range(1, x.ndim - 1))) if self.first else x

    def kernel(self, w: Node) -> Node:
        """A kernel as [*spatial, channels, filters]; here 'th' is [filters, channels, *spatial]."""
        return o.transpose(w, perm=(*range(2, w.ndim), 1, 0)) if self.first else w

    def sizes(self, x: Sequence[Any]) -> tuple[Any, ...]:
        """The entries of a shape for the spatial axes."""
        return tuple([x[axis] for axis in self.space])

    def check_rank(self, x: Node, name: str, /, **operands: Any) -> None:
        """x has a batch, or it is a kernel and has filters; and spatial axes and channels. Raises ShapeError."""
        axes = self.rank + 2
        if x.ndim != axes:
            space = _AXES[self.rank]
            if name == "x":
                shown = ["batch", "channels", *space] if self.first else ["batch", *space, "channels"]
            else:
                shown = ["filters", "channels", *space] if self.first else [*space, "channels", "filters"]
            ordering = f" in the ordering {self.name!r}" if self.rank > 1 else ""
            hint = f"its axes{ordering} are [{', '.join(shown)}]"
            raise refuse(ShapeError, f"{name} has {x.ndim} axes, not {axes}", hint=hint, **operands)


_AXES = {1: ["steps"], 2: ["rows", "columns"], 3: ["depth", "rows", "columns"]}


def numbers_of(value: Any, rank: int, what: str, /, **operands: Any) -> tuple[int, ...]:
    """An int, or one for each spatial axis, from 1. Raises ArgumentError."""
    listed = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    try:
        if any(isinstance(n, bool) for n in listed):
            raise AttributeError
        numbers = tuple([int(n.__index__()) for n in listed])
    except AttributeError:
        numbers = ()
    if len(numbers) != rank or min(numbers) < 1:
        wanted = f" or {rank} of them, one for each spatial axis" if rank > 1 else ""
        raise refuse(ArgumentError, f"{what} is {show(value)}, not a positive int{wanted}", **operands)
    return numbers


def border_of(mode: Any, /, **operands: Any) -> str:
    """A border mode. Raises ArgumentError."""
    if not isinstance(mode, str) or mode not in BORDERS:
        allowed = ", ".join(map(repr, BORDERS))
        raise refuse(ArgumentError, f"border_mode is {show(mode)}; it is one of {allowed}", **operands)
    return mode


def hinted(x: Node, hint: Any, what: str, /, **operands: Any) -> Node:
    """x, with the sizes of a hint where its own are unknown. Raises ShapeError where they contradict what is known."""
    if hint is None:
        return x
    if not isinstance(hint, (tuple, list)) or len(hint) != x.ndim:
        raise refuse(ShapeError, f"{what} is {show(hint)}, not a size or None for each of the {x.ndim} axes", **operands)
    sizes: list[int | None] = []
    for entry in hint:
        value = o.static_int(entry.node) if isinstance(entry, Operators) else entry
        if value is not None and (not hasattr(value, "__index__") or value.__index__() < 0):
            raise refuse(ShapeError, f"{what} is {show(hint)}; its entries are sizes or None", **operands)
        sizes.append(None if value is None else int(value.__index__()))
    own = x.type.shape
    if not all(map(same_size, sizes, own)):
        raise refuse(ShapeError, f"{what} is {show_shape(sizes)}, and the shape is {show_shape(own)}", **operands)
    known = tuple(map(merge_size, own, sizes))
    return x if known == own else o.reshape_to(x, [o.size_of(x, i) if n is None else n for i, n in enumerate(known)])


def pair_of(x: Any, kernel: Any) -> tuple[Node, Node]:
    """x and a kernel as floats of one dtype; integers go to floatx."""
    a, b = promoted(x, kernel)
    return as_float(a), as_float(b)


def float_of(x: Any) -> Node:
    return as_float(node_of(x))


def named(build: Callable[..., Node], /, *nodes: Node, how: dict[str, Any], **operands: Any) -> Node:
    """A node of an op; what the op refuses is said of the operands of the K function, as the user named them."""
    try:
        return build(*nodes, **how)
    except (ShapeError, DTypeError) as error:
        message, hint = error.message, error.hint
        kind: type[KGraphError] = type(error)
    raise refuse(kind, message, hint=hint, **operands)

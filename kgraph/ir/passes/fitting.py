"""What takes the place of a node, of the node's own type: an operand of it as it is, or stretched.

With unknown sizes that asks for more than equal types: two sizes that are unknown are equal for sure only where both come from
one size of one node. `source` follows sizes up to where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.rewrite import refines
from kgraph.ir.types import broadcast_shapes, is_tuple

#: A size: a node and one of its axes.
Place = tuple[Node, int]

#: A longer way from a size to where it comes from counts as its end.
LONGEST = 64

_UNKNOWN = "a size is unknown that another operand has to agree with when the program runs"

# ---------------------------------------------------------------------------------------------------- where sizes come from


def source(node: Node, axis: int) -> Place:
    """Where an unknown size comes from: equal sources are equal sizes. A size that is known is its own source."""
    if node.type.shape[axis] is not None:
        return node, axis
    for _ in range(LONGEST):
        before = _BEFORE.get(node.op)
        found = None if before is None else before(node, axis)
        if found is None or found[0].type.shape[found[1]] is not None:
            break
        node, axis = found
    return node, axis


class Sources:
    """`source` of many sizes of one graph. Each step is taken once for all of them, so that no way is too long."""

    def __init__(self) -> None:
        self._known: dict[Place, Place] = {}

    def __call__(self, node: Node, axis: int) -> Place:
        way: list[Place] = []
        place = node, axis
        while place not in self._known:
            way.append(place)
            before = _BEFORE.get(node.op)
            found = None if node.type.shape[axis] is not None or before is None else before(node, axis)
            if found is None or found[0].type.shape[found[1]] is not None:
                break
            place = node, axis = found
        end = self._known.get(place, place)
        for each in way:
            self._known[each] = end
        return end


def _first(node: Node, axis: int) -> Place:
    return node.inputs[0], axis


def _stretching(node: Node, axis: int) -> Place | None:
    """Of operands that broadcast, the first one whose size is unknown too."""
    from_end = axis - node.ndim
    for i in node.inputs:
        if -from_end <= i.ndim and i.type.shape[from_end] is None:
            return i, i.ndim + from_end
    return None


def _like(node: Node, axis: int) -> Place:
    return node.inputs[1], axis


def _from_size(node: Node, axis: int) -> Place | None:
    """The size of another tensor, that an op was given as a number."""
    assert node.op.sized is not None
    entries = node.attr(node.op.sized)
    if entries[axis] is not None:
        return None
    size = node.inputs[len(node.inputs) - entries[axis:].count(None)]
    if size.op is o.size and len(size.attr("axes")) == 1:
        return size.inputs[0], size.attr("axes")[0]
    return None


def _reshaped(node: Node, axis: int) -> Place | None:
    x, shape = node.inputs[0], node.attr("shape")
    if shape[axis] != -1:
        return _from_size(node, axis)
    # The one size that is worked out, of the one that is unknown, with as much beside it.
    sizes = x.type.shape
    if None in shape or sizes.count(None) != 1:
        return None
    total = factor = 1
    for size in shape:
        total *= 1 if size == -1 else size
    for known in sizes:
        factor *= 1 if known is None else known
    return (x, sizes.index(None)) if total == factor else None


def _reduced(node: Node, axis: int) -> Place:
    if not node.attr("keepdims"):
        for gone in node.attr("axis"):
            axis += gone <= axis
    return node.inputs[0], axis


def _squeezed(node: Node, axis: int) -> Place:
    return node.inputs[0], axis + (node.attr("axis") <= axis)


def _expanded(node: Node, axis: int) -> Place:
    return node.inputs[0], axis - (node.attr("axis") < axis)


def _product(node: Node, axis: int) -> Place:
    return node.inputs[axis == node.ndim - 1], axis


def _indexed(node: Node, axis: int) -> Place | None:
    at = place = 0
    numbers = list(node.attr("numbers"))
    for letter in node.attr("form"):
        if letter == "s":
            part, numbers = numbers[:3], numbers[3:]
            if place == axis:
                return (node.inputs[0], at) if part == [0, 2**63 - 1, 1] else None
        elif letter == "i":
            numbers = numbers[1:]
        elif place == axis:
            return None
        place += letter != "i"
        at += letter != "n"
    return node.inputs[0], at + axis - place


def _gathered(node: Node, axis: int) -> Place:
    x, indices = node.inputs
    return (indices, axis) if axis < indices.ndim else (x, axis - indices.ndim + 1)


def _joined(node: Node, axis: int) -> Place | None:
    if axis == node.attr("axis"):
        return None
    return next(((i, axis) for i in node.inputs if i.type.shape[axis] is None), None)


def _padded(node: Node, axis: int) -> Place | None:
    return (node.inputs[0], axis) if node.attr("padding")[axis] == (0, 0) else None


def _batch(node: Node, axis: int) -> Place | None:
    return None if axis else (node.inputs[0], 0)


_SAME = (
    o.negative, o.absolute, o.sign, o.square, o.round, o.floor, o.exp, o.expm1, o.log, o.log1p, o.sqrt, o.sin, o.cos, o.tanh,
    o.sigmoid, o.softplus, o.relu, o.logical_not, o.cast, o.identity, o.stop_gradient, o.flip, o.cumsum, o.cumprod, o.softmax,
    o.log_softmax, o.softmax_crossentropy,
)  # fmt: skip
_BEFORE: dict[Op, Callable[[Node, int], Place | None]] = {
    **{op: _stretching for op in o.OPS.values() if op.broadcasts},
    **dict.fromkeys(_SAME, _first),
    **dict.fromkeys((o.sum, o.prod, o.max, o.min, o.any, o.all, o.logsumexp), _reduced),
    o.broadcast_like: _like, o.scatter_index: _like, o.softmax_crossentropy_grad: _like,
    o.scatter_add: lambda node, axis: (node.inputs[2], axis),
    o.unpick: lambda node, axis: (node.inputs[2], axis),
    o.broadcast_to: _from_size, o.random_uniform: _from_size, o.random_normal: _from_size,
    o.reshape: _reshaped,
    o.transpose: lambda node, axis: (node.inputs[0], node.attr("perm")[axis]),
    o.squeeze: _squeezed, o.expand_dims: _expanded, o.matmul: _product, o.index: _indexed, o.gather: _gathered,
    o.concatenate: _joined, o.pad: _padded,
    o.conv: _batch, o.max_pool: _batch, o.avg_pool: _batch, o.max_pool_grad: _like,
}  # fmt: skip


def surely_alike(x: Node, y: Node) -> bool:
    """Whether two nodes have one shape, whatever their unknown sizes turn out to be."""
    shape = x.type.shape
    if y.type.shape != shape:
        return False
    return x is y or None not in shape or all(s is not None or source(x, a) == source(y, a) for a, s in enumerate(shape))


def settled(x: Node, others: Iterable[Node]) -> bool:
    """Whether x has every size that is unknown in the others, counted from the last axis, for sure."""
    for other in others:
        if is_tuple(other.type):
            return False
        for from_end in range(-other.ndim, 0):
            if other.type.shape[from_end] is None and (
                -from_end > x.ndim or source(other, other.ndim + from_end) != source(x, x.ndim + from_end)
            ):
                return False
    return True


# ---------------------------------------------------------------------------------------------------- what fits


def fitted(x: Node, out: Node) -> Node | str:
    """x, of the type of out, which works element by element; stretched where out stretches it.

    Returns: a text if that could hide that sizes differ when the program runs, or if it has another dtype.
    """
    if x.type.dtype != out.type.dtype:
        return "the dtypes differ"
    shape = out.type.shape
    if refines(x.type, out.type):
        if None not in shape or settled(x, out.inputs):
            return x
        if not any(size == 1 and wanted is None for size, wanted in zip(x.type.shape, shape, strict=True)):
            return _UNKNOWN
    if None not in shape:
        return o.broadcast_to(x, shape=shape)
    like = next((i for i in out.inputs if i.type.shape == shape and settled(i, out.inputs)), None)
    return _UNKNOWN if like is None else o.broadcast_like(x, like)


def instead(made: Node, out: Node, *gone: Node) -> Node | str:
    """What was made in the place of out, if it says as much of its type, without nodes whose sizes out had to agree with."""
    if not refines(made.type, out.type):
        return f"it would be {made.type}, not {out.type}"
    return made if settled(made, gone) else _UNKNOWN


def fills(rest: Iterable[Node], out: Node) -> bool:
    """Whether some operands of out, which works element by element, have its shape without the other ones."""
    rest = list(rest)
    shape = out.type.shape
    if broadcast_shapes([i.type.shape for i in rest]) != shape:
        return False
    if None not in shape:
        return True
    others = [i for i in out.inputs if i not in rest]
    whole = [i for i in rest if i.type.shape == shape]
    return any(settled(i, others) for i in whole)


__all__ = ["Sources", "fills", "fitted", "instead", "settled", "source", "surely_alike"]

"""Ops that rearrange or repeat elements, and that read and make sizes.

A size that is unknown while the graph is built is an input of the op (an integer scalar): the attr named by ``sized`` holds
None in its place.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import AxisError, DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.elementwise import number_like, unbroadcast
from kgraph.ir.types import INTEGERS, Shape, Size, TensorType, merge_size, numpy_dtype, product, same_size, show_shape

Entries = tuple[int | None, ...]

# ---------------------------------------------------------------------------------------------------- sizes


def fill_sizes(entries: Entries, values: Sequence[Any]) -> tuple[int, ...]:
    """A ``sized`` attr as ints: None entries filled, in order, from values (integer scalars)."""
    if not values:
        return entries  # type: ignore[return-value]
    rest = iter(values)
    return tuple([int(next(rest)) if entry is None else entry for entry in entries])


def check_sizes(entries: Entries, sizes: Sequence[TensorType], what: str) -> None:
    """One integer scalar per None entry. Raises ShapeError, DTypeError."""
    if entries.count(None) != len(sizes):
        raise ShapeError(f"{what} has {entries.count(None)} entries to fill, but there are {len(sizes)} sizes")
    for size in sizes:
        if size.shape:
            raise ShapeError(f"an entry of {what} is {size}, not a scalar", hint="K.shape(x)[i] is one")
        if size.dtype not in INTEGERS:
            raise DTypeError(f"an entry of {what} is {size.dtype}, not an integer", hint="cast it: K.cast(n, 'int32')")


def size_of(x: Node, *axes: int) -> int | Node:
    """The number of elements along axes of x: an int where it is known, else a node."""
    known = product([x.type.shape[axis] for axis in axes])
    return o.size(x, axes=tuple(axes)) if known is None else known


def entries_of(sizes: Sequence[int | Node]) -> tuple[Entries, tuple[Node, ...]]:
    """Sizes as an op takes them: its ``sized`` attr, and its last inputs."""
    return tuple([s if isinstance(s, int) else None for s in sizes]), tuple([s for s in sizes if not isinstance(s, int)])


def reshape_to(x: Node, sizes: Sequence[int | Node]) -> Node:
    """x in another shape that holds as many elements; one unknown size is left to be worked out where that is possible."""
    entries, nodes = entries_of(sizes)
    if len(nodes) == 1 and 0 not in entries:
        # -1 needs no node for the size, and does not keep alive what the size was read from.
        return o.reshape(x, shape=tuple([-1 if entry is None else entry for entry in entries]))
    return o.reshape(x, *nodes, shape=entries)


def shaped_like(g: Node, x: Node) -> Node:
    """g, whose shape is that of x when the program runs, with the type to say so."""
    shape = x.type.shape
    if all(size is None or size == other for size, other in zip(shape, g.type.shape, strict=True)):
        return g
    return reshape_to(g, [size_of(x, axis) for axis in range(len(shape))])


# ---------------------------------------------------------------------------------------------------- layout


def _reshape_type(x: TensorType, *sizes: TensorType, shape: Entries) -> TensorType:
    check_sizes(shape, sizes, "shape")
    wrong = [entry for entry in shape if entry is not None and entry < -1]
    if wrong:
        raise ShapeError(f"shape {show_shape(shape)} has the size {wrong[0]}")
    if shape.count(-1) > 1:
        raise ShapeError(f"shape {show_shape(shape)} has more than one -1; only one size can be worked out")
    open_entries = [entry for entry in shape if entry is None or entry == -1]
    known = math.prod([entry for entry in shape if entry is not None and entry != -1])
    result = [None if entry == -1 else entry for entry in shape]
    total = x.size
    if not known and -1 in open_entries:
        raise ShapeError(f"-1 in shape {show_shape(shape)} could be any size, because another one is 0")
    if total is None:
        # All that is certain: x holds a multiple of the product of its known sizes.
        factor = math.prod([size for size in x.shape if size is not None])
        if not open_entries and known % factor:
            raise ShapeError(f"no {show_shape(x.shape)} has the {known} elements of shape {show_shape(shape)}")
    elif not open_entries:
        if total != known:
            raise ShapeError(
                f"{show_shape(x.shape)} has {total} elements, shape {show_shape(shape)} has {known}", hint=_batch_hint(x, shape)
            )
    elif total % known if known else total:
        raise ShapeError(
            f"the {total} elements of {show_shape(x.shape)} do not fill shape {show_shape(shape)}", hint=_batch_hint(x, shape)
        )
    elif open_entries == [-1]:
        result[shape.index(-1)] = total // known
    return TensorType(x.dtype, tuple(result))


def _batch_hint(x: TensorType, shape: Entries) -> str | None:
    rest = product(x.shape[1:])
    return "keep the first axis: start the shape with -1" if x.shape and rest == math.prod(s for s in shape if s) else None


def _reshape_vjp(g: Node, out: Node, x: Node, *sizes: Node, shape: Entries) -> tuple[Node | None, ...]:
    gx = reshape_to(g, [size_of(x, axis) for axis in range(x.ndim)])
    return gx, *[None for _ in sizes]


reshape: Op = Op(
    "reshape", _reshape_type, numpy=lambda x, *sizes, shape: x.reshape(fill_sizes(shape, sizes)),
    vjp=_reshape_vjp, sized="shape",
    doc="The elements of x, in row-major order, in another shape; one size may be -1, and follows from the others.",
)  # fmt: skip


def _transpose_type(x: TensorType, *, perm: tuple[int, ...]) -> TensorType:
    if sorted(perm) != list(range(x.ndim)):
        raise AxisError(f"{perm} does not name each of the {x.ndim} axes once")
    return TensorType(x.dtype, tuple([x.shape[axis] for axis in perm]))


def _transpose_vjp(g: Node, out: Node, x: Node, *, perm: tuple[int, ...]) -> tuple[Node, ...]:
    return (o.transpose(g, perm=tuple(sorted(range(len(perm)), key=perm.__getitem__))),)


transpose: Op = Op(
    "transpose", _transpose_type, numpy=lambda x, *, perm: x.transpose(perm), vjp=_transpose_vjp,
    doc="The axes of x in another order: axis i of the result is axis perm[i] of x.",
)  # fmt: skip


def _expand_dims_type(x: TensorType, *, axis: int) -> TensorType:
    if not 0 <= axis <= x.ndim:
        raise AxisError(f"axis {axis} is outside of the result; its axes are from 0 to {x.ndim}")
    return TensorType(x.dtype, (*x.shape[:axis], 1, *x.shape[axis:]))


def _expand_dims(x: Any, *, axis: int) -> Any:
    shape = x.shape
    return x.reshape((*shape[:axis], 1, *shape[axis:]))


expand_dims: Op = Op(
    "expand_dims", _expand_dims_type, numpy=_expand_dims, vjp=lambda g, out, x, *, axis: (o.squeeze(g, axis=axis),),
    doc="A new axis of size 1; axis counts in the result.",
    expand=lambda x, *, axis: reshape_to(x, [*_sizes(x)[:axis], 1, *_sizes(x)[axis:]]),
)  # fmt: skip


def _squeeze_type(x: TensorType, *, axis: int) -> TensorType:
    check_axis(axis, x)
    if not same_size(x.shape[axis], 1):
        raise ShapeError(f"axis {axis} has size {x.shape[axis]}, not 1", hint="only an axis of size 1 can be dropped")
    return TensorType(x.dtype, x.shape[:axis] + x.shape[axis + 1 :])


def check_axis(axis: int, x: TensorType) -> None:
    """Raises AxisError unless x has this axis, counted from 0."""
    if not 0 <= axis < x.ndim:
        raise AxisError(f"axis {axis} is outside of the tensor, which has {x.ndim} axes")


squeeze: Op = Op(
    "squeeze", _squeeze_type, numpy=lambda x, *, axis: x.squeeze(axis),
    vjp=lambda g, out, x, *, axis: (o.expand_dims(g, axis=axis),),
    doc="x without an axis of size 1; another size is an error when the program runs.",
)  # fmt: skip


def _flip_type(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    for axis in axes:
        check_axis(axis, x)
    return x


_FORWARD, _BACKWARD = slice(None), slice(None, None, -1)

flip: Op = Op(
    "flip", _flip_type,
    numpy=lambda x, *, axes: x[tuple([_BACKWARD if axis in axes else _FORWARD for axis in range(x.ndim)])],
    vjp=lambda g, out, x, *, axes: (o.flip(g, axes=axes),),
    doc="The elements in reverse order along axes.",
    expand=lambda x, *, axes: x[tuple([_BACKWARD if axis in axes else _FORWARD for axis in range(x.ndim)])],
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- stretching


def _stretched(x: TensorType, shape: Entries, what: str) -> TensorType:
    """x stretched to shape: static axes of size 1 and missing leading axes take any size, the others keep theirs."""
    lead = len(shape) - x.ndim
    if lead < 0:
        raise ShapeError(f"x has {x.ndim} axes, {what} only {len(shape)}")
    result = list(shape)
    for axis, size in enumerate(x.shape, lead):
        if size != 1:
            if not same_size(size, shape[axis]):
                raise ShapeError(
                    f"axis {axis} cannot be stretched from {size} to {shape[axis]}", hint="only an axis of size 1 is stretched"
                )
            result[axis] = merge_size(size, shape[axis])
    return TensorType(x.dtype, tuple(result))


def _stretch(x: Any, shape: tuple[int, ...]) -> Any:
    if x.shape == shape:
        return x
    if not x.shape:
        # One element under every index. A write would hit them all, so none is allowed.
        view: Any = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
        view.flags.writeable = False
        return view
    if math.prod(shape) > 4096:
        return np.broadcast_to(x, shape)
    copy = np.empty(shape, x.dtype)  # of a few kilobytes: faster than np.broadcast_to, which is written in Python
    copy[...] = x
    return copy


def _broadcast_to_type(x: TensorType, *sizes: TensorType, shape: Entries) -> TensorType:
    check_sizes(shape, sizes, "shape")
    if any(entry is not None and entry < 0 for entry in shape):
        raise ShapeError(f"shape {show_shape(shape)} has a negative size")
    return _stretched(x, shape, f"shape {show_shape(shape)}")


def _broadcast_to_vjp(g: Node, out: Node, x: Node, *sizes: Node, shape: Entries) -> tuple[Node | None, ...]:
    return shaped_like(unbroadcast(g, x), x), *[None for _ in sizes]


broadcast_to: Op = Op(
    "broadcast_to", _broadcast_to_type, numpy=lambda x, *sizes, shape: _stretch(x, fill_sizes(shape, sizes)),
    vjp=_broadcast_to_vjp, sized="shape", broadcasts=True,
    doc="x stretched to shape: axes whose static size is 1, and missing leading axes, take any size.",
)  # fmt: skip


def _broadcast_like_vjp(g: Node, out: Node, x: Node, like: Node) -> tuple[Node | None, ...]:
    return shaped_like(unbroadcast(g, x), x), None


broadcast_like: Op = Op(
    "broadcast_like", lambda x, like: _stretched(x, like.shape, "like"), numpy=lambda x, like: _stretch(x, like.shape),
    vjp=_broadcast_like_vjp, broadcasts=True, doc="x stretched to the shape of like, of which nothing else is read.",
    expand=lambda x, like: _broadcast_to_sizes(x, _sizes(like)),
)  # fmt: skip


def _sizes(x: Node) -> list[int | Node]:
    return [size_of(x, axis) for axis in range(x.ndim)]


def _broadcast_to_sizes(x: Node, sizes: Sequence[int | Node]) -> Node:
    entries, nodes = entries_of(sizes)
    return o.broadcast_to(x, *nodes, shape=entries)


def filled_like(x: Node, value: float, dtype: str) -> Node:
    """One value in the shape of x."""
    number = o.scalar(value, dtype)
    shape = x.type.shape
    if not shape:
        return number
    return o.broadcast_like(number, x) if None in shape else o.broadcast_to(number, shape=shape)


def zeros_like(x: Node) -> Node:
    """Zeros in the shape and dtype of x."""
    return filled_like(x, 0, x.type.dtype)


def ones_like(x: Node) -> Node:
    """Ones in the shape and dtype of x."""
    return filled_like(x, 1, x.type.dtype)


# ---------------------------------------------------------------------------------------------------- joining, repeating


def _concatenate_type(*operands: TensorType, axis: int) -> TensorType:
    if not operands:
        raise ShapeError("there is nothing to concatenate")
    first = operands[0]
    if not first.ndim:
        raise ShapeError("a scalar has no axis to concatenate along", hint="K.stack joins scalars")
    check_axis(axis, first)
    shape: list[Size] = list(first.shape)
    for i, x in enumerate(operands[1:], 2):
        if x.dtype != first.dtype:
            raise DTypeError(f"dtypes differ: {first.dtype} (operand 1) != {x.dtype} (operand {i})", hint="cast with K.cast")
        if x.ndim != first.ndim:
            raise ShapeError(f"ranks differ: {first.ndim} (operand 1) != {x.ndim} (operand {i})")
        for a, size in enumerate(x.shape):
            if a != axis and not same_size(size, shape[a]):
                raise ShapeError(
                    f"sizes differ on axis {a}: {shape[a]} != {size} (operand {i})", hint=f"only axis {axis} may differ in size"
                )
            shape[a] = merge_size(shape[a], size)
    sizes = [x.shape[axis] for x in operands]
    shape[axis] = None if None in sizes else sum([size or 0 for size in sizes])
    return TensorType(first.dtype, tuple(shape))


def _concatenate_vjp(g: Node, out: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    parts = []
    start: int | Node = 0
    for x in xs:
        stop = start + size_of(x, axis)
        entries, nodes = entries_of([*[0, 2**63 - 1, 1] * axis, start, stop, 1])
        parts.append(shaped_like(o.index(g, *nodes, form="s" * (axis + 1), numbers=entries), x))
        start = stop
    return tuple(parts)


def _concatenate(*xs: Any, axis: int) -> Any:
    flags = xs[0].flags
    if flags.c_contiguous or not flags.f_contiguous:
        return np.concatenate(xs, axis)
    # Of transposes NumPy makes a transpose, which as the right operand of a small product takes twice as long as rows do.
    shape = list(xs[0].shape)
    shape[axis] = sum([x.shape[axis] for x in xs])
    return np.concatenate(xs, axis, out=np.empty(shape, xs[0].dtype))


concatenate: Op = Op(
    "concatenate", _concatenate_type, numpy=_concatenate, vjp=_concatenate_vjp,
    doc="Tensors joined along axis; their other sizes agree.",
)  # fmt: skip


def _repeat_type(x: TensorType, *sizes: TensorType, axis: int, repeats: Entries) -> TensorType:
    check_axis(axis, x)
    check_sizes(repeats, sizes, "repeats")
    (count,) = repeats
    if count is not None and count < 0:
        raise ShapeError(f"{count} repeats; the least is 0")
    return TensorType(x.dtype, (*x.shape[:axis], product((x.shape[axis], count)), *x.shape[axis + 1 :]))


def _repeat_vjp(g: Node, out: Node, x: Node, *sizes: Node, axis: int, repeats: Entries) -> tuple[Node | None, ...]:
    own = _sizes(x)
    count = repeats[0] if repeats[0] is not None else sizes[0]
    if count in (1, 2, 3, 4):
        # Every second (third ...) element, from each place: NumPy takes ten times as long for the sum over a short axis.
        numbers = [(0, 2**63 - 1, 1) * axis + (place, 2**63 - 1, count) for place in range(count)]
        places = [o.index(g, form="s" * (axis + 1), numbers=each) for each in numbers]
        return (shaped_like(functools.reduce(o.add, places), x),)
    parts = _reshape_exactly(g, [*own[: axis + 1], count, *own[axis + 1 :]])
    return o.sum(parts, axis=(axis + 1,), keepdims=False), *[None for _ in sizes]


def _reshape_exactly(x: Node, sizes: Sequence[int | Node]) -> Node:
    # A size that is 0 when the program runs makes a -1 elsewhere ambiguous, so each unknown size is given.
    entries, nodes = entries_of(sizes)
    return o.reshape(x, *nodes, shape=entries)


def _repeat_expand(x: Node, *sizes: Node, axis: int, repeats: Entries) -> Node:
    own = _sizes(x)
    count = repeats[0] if repeats[0] is not None else sizes[0]
    parts = _broadcast_to_sizes(o.expand_dims(x, axis=axis + 1), [*own[: axis + 1], count, *own[axis + 1 :]])
    return _reshape_exactly(parts, [*own[:axis], _times(own[axis], count), *own[axis + 1 :]])


def _times(x: int | Node, y: int | Node) -> int | Node:
    if 0 in (x, y):
        return 0  # whatever the other one is: the result's type says so too
    if isinstance(y, Node):
        y = o.cast(y, dtype="int64")  # a user's count may be of a narrow dtype
    return x * y


repeat: Op = Op(
    "repeat", _repeat_type, numpy=lambda x, *sizes, axis, repeats: x.repeat(fill_sizes(repeats, sizes)[0], axis),
    vjp=_repeat_vjp, expand=_repeat_expand, sized="repeats", doc="Each element so many times, one after the other, along axis.",
)  # fmt: skip


def _tile_type(x: TensorType, *sizes: TensorType, reps: Entries) -> TensorType:
    check_sizes(reps, sizes, "reps")
    if len(reps) != x.ndim:
        raise ShapeError(f"reps names {len(reps)} axes, x has {x.ndim}")
    if any(count is not None and count < 0 for count in reps):
        raise ShapeError(f"reps {show_shape(reps)} has a negative entry")
    return TensorType(x.dtype, tuple([product(pair) for pair in zip(x.shape, reps, strict=True)]))


def _tile(x: Any, *sizes: Any, reps: Entries) -> Any:
    counts = fill_sizes(reps, sizes)
    result = tuple([size * count for size, count in zip(x.shape, counts, strict=True)])
    if 0 in result:
        return np.empty(result, x.dtype)
    width = x.size
    for size, count in zip(x.shape, counts, strict=True):
        if count != 1:
            x = x.reshape((-1, width)).repeat(count, 0)
        width //= size
    return x.reshape(result)


def _tile_parts(x: Node, sizes: Sequence[Node], reps: Entries) -> tuple[list[int | Node], list[int | Node]]:
    rest = iter(sizes)
    return _sizes(x), [next(rest) if count is None else count for count in reps]


def _tile_vjp(g: Node, out: Node, x: Node, *sizes: Node, reps: Entries) -> tuple[Node | None, ...]:
    own, counts = _tile_parts(x, sizes, reps)
    parts = _reshape_exactly(g, [size for pair in zip(counts, own, strict=True) for size in pair])
    return o.sum(parts, axis=tuple(range(0, 2 * x.ndim, 2)), keepdims=False), *[None for _ in sizes]


def _tile_expand(x: Node, *sizes: Node, reps: Entries) -> Node:
    own, counts = _tile_parts(x, sizes, reps)
    apart = _reshape_exactly(x, [size for own_size in own for size in (1, own_size)])
    parts = _broadcast_to_sizes(apart, [size for pair in zip(counts, own, strict=True) for size in pair])
    return _reshape_exactly(parts, [_times(*pair) for pair in zip(own, counts, strict=True)])


tile: Op = Op(
    "tile", _tile_type, numpy=_tile, vjp=_tile_vjp, expand=_tile_expand, sized="reps",
    doc="x, as a whole, so many times along each axis.",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- sizes as values

shape: Op = Op(
    "shape", lambda x: TensorType("int32", (x.ndim,)), numpy=lambda x: np.array(x.shape, np.int32),
    doc="The sizes of x, as int32.",
)  # fmt: skip


def _size_type(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    for axis in axes:
        check_axis(axis, x)
    return TensorType("int32", ())


size: Op = Op(
    "size", _size_type, numpy=lambda x, *, axes: np.array(math.prod([x.shape[axis] for axis in axes]), np.int32),
    doc="The number of elements along axes (the product of their sizes), as int32.",
    expand=lambda x, *, axes: _product([o.index(o.shape(x), form="i", numbers=(axis,)) for axis in axes]),
)  # fmt: skip


def _product(nodes: Sequence[Node]) -> Node:
    total = nodes[0] if nodes else o.scalar(1, "int32")
    for node in nodes[1:]:
        total = total * node
    return total


def _arange_type(*sizes: TensorType, bounds: Entries, dtype: str) -> TensorType:
    check_sizes(bounds, sizes, "bounds")
    number_like(TensorType(dtype, ()))
    if bounds[2] == 0:
        raise ShapeError("the step is 0")
    start, stop, step = bounds
    known = None if start is None or stop is None or step is None else len(range(start, stop, step))
    return TensorType(dtype, (known,))


def _arange(*sizes: Any, bounds: Entries, dtype: str) -> Any:
    start, stop, step = fill_sizes(bounds, sizes)
    return np.arange(start, stop, step, dtype=np.int64).astype(numpy_dtype(dtype), copy=False)


arange: Op = Op(
    "arange", _arange_type, numpy=_arange, sized="bounds",
    doc="The integers from start up to stop (not included), step apart; none where stop lies the other way.",
)  # fmt: skip


_INTEGER_RESULT: dict[str, Callable[..., int]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "floor_divide": operator.floordiv,
    "remainder": operator.mod, "maximum": max, "minimum": min, "negative": operator.neg, "cast": int, "identity": int,
}  # fmt: skip
_LOOKED_AT = 200  # arithmetic on sizes is short; a longer chain counts as unknown


def static_int(node: Node) -> int | None:
    """The value of an integer scalar that is known while the graph is built; None where it is not."""
    found: dict[Node, int | None] = {}
    stack = [node]
    while stack:
        top = stack[-1]
        if top in found:
            stack.pop()
            continue
        compute = _INTEGER_RESULT.get(top.op.name)
        if compute is None or top.type.shape or top.type.dtype not in INTEGERS:
            found[top] = _read_int(top)
            continue
        waiting = [x for x in top.inputs if x not in found]
        if waiting:
            if len(found) + len(stack) > _LOOKED_AT:
                return None
            stack += waiting
            continue
        values = [found[x] for x in top.inputs]
        if None in values or (values[-1] == 0 and top.op.name in ("floor_divide", "remainder")):
            found[top] = None
        else:
            found[top] = _within(compute(*values), top.type.dtype)
    return found[node]


def _read_int(node: Node) -> int | None:
    if node.type.shape or node.type.dtype not in INTEGERS:
        return None
    name = node.op.name
    sizes: Shape
    if name == "constant":
        return int(node.attr("value").array)
    if name == "size":
        sizes = node.inputs[0].type.shape
        return product([sizes[axis] for axis in node.attr("axes")])
    if name == "index" and node.inputs[0].op.name == "shape" and node.attr("numbers")[0] is not None:
        sizes = node.inputs[0].inputs[0].type.shape
        return sizes[int(node.attr("numbers")[0])]
    return None


def _within(value: int, dtype: str) -> int | None:
    bounds = np.iinfo(dtype)
    return value if bounds.min <= value <= bounds.max else None


__all__ = [
    "arange", "broadcast_like", "broadcast_to", "check_axis", "check_sizes", "concatenate", "entries_of", "expand_dims",
    "fill_sizes", "filled_like", "flip", "ones_like", "repeat", "reshape", "reshape_to", "shape", "shaped_like", "size",
    "size_of", "squeeze", "static_int", "tile", "transpose", "zeros_like",
]  # fmt: skip

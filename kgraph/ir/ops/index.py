"""Ops that select elements by position, and their gradients, which put elements back there."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, IndexOutOfRange, KGraphError, ShapeError
from kgraph.ir.node import Node, describe
from kgraph.ir.op import Op
from kgraph.ir.operators import Operators
from kgraph.ir.ops.shape import Entries, check_sizes, entries_of, fill_sizes
from kgraph.ir.origin import here
from kgraph.ir.types import INTEGERS, Size, TensorType, merge_size, numpy_dtype, same_size, show_shape

# What stands for an absent bound of a slice, so that equal indexings are equal attrs.
LOWEST, HIGHEST = -(2**63), 2**63 - 1

# ---------------------------------------------------------------------------------------------------- basic indexing


def _sliced_size(size: Size, start: Size, stop: Size, step: int) -> Size:
    """How many elements a slice takes of an axis, None where it is not known."""
    if (start, stop) == ((0, HIGHEST) if step > 0 else (HIGHEST, LOWEST)) and step in (1, -1):
        return size
    if size is None or start is None or stop is None:
        return None
    return len(range(*slice(start, stop, step).indices(size)))


def _index_type(x: TensorType, *positions: TensorType, form: str, numbers: Entries) -> TensorType:
    check_sizes(numbers, positions, "the index")
    if len(form) - form.count("n") > x.ndim:
        raise IndexOutOfRange(f"too many indices: {len(form) - form.count('n')} for a tensor of {x.ndim} axes")
    result: list[Size] = []
    rest = iter(numbers)
    axis = 0
    for letter in form:
        if letter == "n":
            result.append(1)
            continue
        size = x.shape[axis]
        number = next(rest)
        if letter == "i":
            if number is not None and size is not None and not -size <= number < size:
                raise IndexOutOfRange(f"index {number} is out of range for axis {axis}, which has size {size}")
        else:
            stop, step = next(rest), next(rest)
            if not step:
                raise ShapeError("the step of a slice is a static int, and not 0")
            result.append(_sliced_size(size, number, stop, step))
        axis += 1
    return TensorType(x.dtype, (*result, *x.shape[axis:]))


def _key(form: str, numbers: tuple[int, ...]) -> tuple[Any, ...]:
    rest = iter(numbers)
    key: list[Any] = []
    for letter in form:
        if letter == "n":
            key.append(None)
        else:
            number = next(rest)
            key.append(number if letter == "i" else slice(number, next(rest), next(rest)))
    return tuple(key)


_static_key = functools.lru_cache(10_000)(_key)


def _index(x: Any, *sizes: Any, form: str, numbers: Entries) -> Any:
    return x[_key(form, fill_sizes(numbers, sizes)) if sizes else _static_key(form, numbers)]


def _index_vjp(g: Node, out: Node, x: Node, *sizes: Node, form: str, numbers: Entries) -> tuple[Node | None, ...]:
    return o.scatter_index(g, x, *sizes, form=form, numbers=numbers), *[None for _ in sizes]


index: Op = Op(
    "index", _index_type, numpy=_index, vjp=_index_vjp, sized="numbers",
    doc="x[...] with an entry per letter of form: i an int, s a slice (start, stop, step), n a new axis.",
)  # fmt: skip


def _fits(g: tuple[Size, ...], wanted: tuple[Size, ...]) -> bool:
    return len(g) == len(wanted) and all(map(same_size, g, wanted))


def _scatter_index_type(g: TensorType, like: TensorType, *positions: TensorType, form: str, numbers: Entries) -> TensorType:
    region = _index_type(like, *positions, form=form, numbers=numbers).shape
    if not _fits(g.shape, region):
        raise ShapeError(f"g is {show_shape(g.shape)}, the region indexed {show_shape(region)}")
    return TensorType(g.dtype, like.shape)


def _scatter_index(g: Any, like: Any, *sizes: Any, form: str, numbers: Entries) -> Any:
    result = np.zeros(like.shape, g.dtype)
    result[_key(form, fill_sizes(numbers, sizes)) if sizes else _static_key(form, numbers)] = g
    return result


def _scatter_index_vjp(
    g: Node, out: Node, x: Node, like: Node, *sizes: Node, form: str, numbers: Entries
) -> tuple[Node | None, ...]:
    return o.shaped_like(o.index(g, *sizes, form=form, numbers=numbers), x), None, *[None for _ in sizes]


scatter_index: Op = Op(
    "scatter_index", _scatter_index_type, numpy=_scatter_index, vjp=_scatter_index_vjp, sized="numbers",
    doc="Zeros in the shape of like (nothing else of it is read), with g at the positions that index would take.",
)  # fmt: skip


def basic_index(x: Any, spec: Any) -> Any:
    """``x[spec]`` by NumPy's basic indexing, for a node or a handle.

    Args:
      spec: an int, a slice, ``...``, None, a symbolic integer scalar, or a tuple of those; symbolic bounds of slices too.
    Raises: DTypeError for anything else; IndexOutOfRange for a static index outside of its axis, or too many indices.
    """
    node: Node = x.node
    items = _without_ellipsis(spec if isinstance(spec, tuple) else (spec,), node)
    form: list[str] = []
    entries: list[int | Node] = []
    axis = 0
    for item in items:
        if item is None:
            form.append("n")
            continue
        size = node.type.shape[axis]
        if isinstance(item, slice):
            form.append("s")
            entries += _slice_entries(item, size, node)
        else:
            form.append("i")
            entry = _number(item, node, "an index")
            if isinstance(entry, int):
                if not LOWEST <= entry <= HIGHEST:
                    raise _refuse(IndexOutOfRange, f"index {entry} is out of range for axis {axis}", node)
                if size is not None and -size <= entry < 0:
                    entry += size
            entries.append(entry)
        axis += 1
    while form and form[-1] == "s" and entries[-3:] == [0, HIGHEST, 1]:
        form.pop()
        del entries[-3:]
    if not form:
        return x.wrap(node)
    if form == ["i"] and node.ndim == 1 and isinstance(entries[0], int):
        return x.wrap(_entry(node, entries[0]))
    numbers, nodes = entries_of(entries)
    return x.wrap(o.index(node, *nodes, form="".join(form), numbers=numbers))


def _without_ellipsis(items: tuple[Any, ...], node: Node) -> tuple[Any, ...]:
    """One entry per axis or new axis; the axes that are left out at the end stay left out."""
    places = [i for i, item in enumerate(items) if item is Ellipsis]
    used = sum([item is not None and item is not Ellipsis for item in items])
    if used > node.ndim:
        raise _refuse(IndexOutOfRange, f"too many indices: {used} for a tensor of {node.ndim} axes", node)
    if len(places) > 1:
        raise _refuse(IndexOutOfRange, "an index can only have a single ellipsis ('...')", node)
    if not places:
        return items
    return (*items[: places[0]], *[slice(None)] * (node.ndim - used), *items[places[0] + 1 :])


def _slice_entries(item: slice, size: Size, node: Node) -> list[int | Node]:
    step = 1 if item.step is None else _number(item.step, node, "the step of a slice")
    if not isinstance(step, int):
        raise _refuse(DTypeError, "the step of a slice has to be known while the graph is built", node)
    if step == 0:
        raise _refuse(ShapeError, "the step of a slice is 0", node)
    default = (0, HIGHEST) if step > 0 else (HIGHEST, LOWEST)
    bounds = [
        absent if bound is None else _number(bound, node, "a bound of a slice")
        for bound, absent in zip((item.start, item.stop), default, strict=True)
    ]
    start, stop = [max(LOWEST, min(bound, HIGHEST)) if isinstance(bound, int) else bound for bound in bounds]
    step = max(LOWEST, min(step, HIGHEST))
    if (
        step == 1 and size is not None and isinstance(start, int) and isinstance(stop, int)
        and _sliced_size(size, start, stop, step) == size
    ):  # fmt: skip
        start, stop = default
    return [start, stop, step]


def _number(value: Any, node: Node, what: str) -> int | Node:
    """An int, or the node of a symbolic integer scalar."""
    if isinstance(value, Operators):
        given = value.node
        if given.type.dtype in INTEGERS and not given.ndim:
            known = o.static_int(given)
            return given if known is None else known
        message = f"{what} is {describe(given)}, not an integer scalar"
        raise _refuse(DTypeError, message, node, _GATHER if given.ndim else "cast it: K.cast(index, 'int32')")
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    text = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    message = f"{what} is {text} ({type(value).__name__}), not an int or a symbolic integer scalar"
    several = np.ndim(value) or isinstance(value, (list, bool, np.bool_))
    hint = _GATHER if several else "sizes are divided with //, which gives an int" if isinstance(value, float) else None
    raise _refuse(DTypeError, message, node, hint)


_GATHER = "K.gather(x, indices) selects by an array of indices; K.switch or multiplication by a cast mask selects by condition"


def _refuse(kind: type[KGraphError], message: str, node: Node, hint: str | None = None) -> KGraphError:
    origin = here(2)
    return kind(message, hint=hint).at(origin.function or "index", [f"x: {describe(node)}"], str(origin))


def _entry(node: Node, i: int) -> Node:
    """Entry i of a vector, read from what the vector was made of where that is seen at once: sizes stay known sizes."""
    while True:
        size, name = node.type.shape[0], node.op.name
        if size is None or not -size <= i < size:
            break
        i %= size
        if name == "shape":
            known = node.inputs[0].type.shape[i]
            return o.size(node.inputs[0], axes=(i,)) if known is None else o.scalar(known, "int32")
        if name == "expand_dims":
            return node.inputs[0]
        if name == "index" and node.attr("form") == "s" and None not in node.attr("numbers"):
            inner = node.inputs[0].type.shape[0]
            if inner is None:
                break
            node, i = node.inputs[0], range(*slice(*node.attr("numbers")).indices(inner))[i]
        elif name == "concatenate":
            for part in node.inputs:
                (count,) = part.type.shape
                if count is None or i < count:
                    break
                i -= count
            node = part
            if count is None:
                break
        else:
            break
    return o.index(node, form="i", numbers=(i,))


# ---------------------------------------------------------------------------------------------------- by arrays of positions


def _integer_indices(indices: TensorType, name: str = "indices") -> None:
    if indices.dtype not in INTEGERS:
        raise DTypeError(f"the {name} are {indices.dtype}, not integers", hint=f"cast them: K.cast({name}, 'int32')")


def _gather_type(x: TensorType, indices: TensorType) -> TensorType:
    _integer_indices(indices)
    if not x.ndim:
        raise ShapeError("a scalar has no rows to gather")
    return TensorType(x.dtype, indices.shape + x.shape[1:])


def _gather_vjp(g: Node, out: Node, x: Node, indices: Node) -> tuple[Node | None, ...]:
    return o.scatter_add(g, indices, x), None


gather: Op = Op(
    "gather", _gather_type, numpy=lambda x, indices: x.take(indices, 0), vjp=_gather_vjp,
    doc="Rows of x along its first axis; a negative index counts from the end, one out of range is an error.",
)  # fmt: skip


def _scatter_add_type(g: TensorType, indices: TensorType, like: TensorType) -> TensorType:
    rows = _gather_type(like, indices).shape
    if not _fits(g.shape, rows):
        raise ShapeError(f"g is {show_shape(g.shape)}, the rows are {show_shape(rows)}")
    return TensorType(g.dtype, like.shape)


def _scatter_add(g: Any, indices: Any, like: Any) -> Any:
    result = np.zeros(like.shape, g.dtype)
    if g.size < 2048:
        np.add.at(result, indices, g)
        return result
    # Element by element in one dimension: there np.add.at is several times as fast as over rows.
    rows = like.shape[0]
    places = indices.reshape((-1, 1)).astype(np.int64)
    places[places < 0] += rows
    lowest, highest = np.minimum.reduce(places, axis=None), np.maximum.reduce(places, axis=None)
    if lowest < 0 or highest >= rows:
        raise IndexError(f"index {lowest - rows if lowest < 0 else highest} is out of bounds for axis 0 with size {rows}")
    width = g.size // places.size
    np.add.at(result.reshape(-1), (places * width + np.arange(width)).reshape(-1), g.reshape(-1))
    return result


def _scatter_add_vjp(g: Node, out: Node, x: Node, indices: Node, like: Node) -> tuple[Node | None, ...]:
    return o.shaped_like(o.gather(g, indices), x), None, None


scatter_add: Op = Op(
    "scatter_add", _scatter_add_type, numpy=_scatter_add, vjp=_scatter_add_vjp,
    doc="Zeros in the shape of like (nothing else of it is read), with the rows of g added at indices.",
)  # fmt: skip


def _pick_type(x: TensorType, indices: TensorType) -> TensorType:
    _integer_indices(indices)
    if x.ndim != indices.ndim + 1 or not _fits(x.shape[:-1], indices.shape):
        raise ShapeError(
            f"indices of shape {show_shape(indices.shape)} do not pick along the last axis of {show_shape(x.shape)}",
            hint="the shape of indices is that of x without the last axis",
        )
    return TensorType(x.dtype, tuple(map(merge_size, x.shape[:-1], indices.shape)))


def _pick(x: Any, indices: Any) -> Any:
    count = indices.size
    if x.ndim == 2:
        return x[np.arange(count), indices]
    return x.reshape((count, x.shape[-1]))[np.arange(count), indices.reshape(count)].reshape(indices.shape)


pick: Op = Op(
    "pick", _pick_type, numpy=_pick, vjp=lambda g, out, x, indices: (o.unpick(g, indices, x), None),
    doc="One element of each last axis: x[..., indices[...]]; negative from the end, out of range is an error.",
)  # fmt: skip


def _unpick_type(g: TensorType, indices: TensorType, like: TensorType) -> TensorType:
    picked = _pick_type(like, indices).shape
    if not _fits(g.shape, picked):
        raise ShapeError(f"g is {show_shape(g.shape)}, what is picked {show_shape(picked)}")
    return TensorType(g.dtype, like.shape)


def _unpick(g: Any, indices: Any, like: Any) -> Any:
    count = indices.size
    result = np.zeros((count, like.shape[-1]), g.dtype)
    result[np.arange(count), indices.reshape(count)] = g.reshape(count)
    return result.reshape(like.shape)


def _unpick_vjp(g: Node, out: Node, x: Node, indices: Node, like: Node) -> tuple[Node | None, ...]:
    return o.shaped_like(o.pick(g, indices), x), None, None


unpick: Op = Op(
    "unpick", _unpick_type, numpy=_unpick, vjp=_unpick_vjp,
    doc="Zeros in the shape of like (nothing else of it is read), with g where pick takes its elements.",
)  # fmt: skip


def _one_hot_type(indices: TensorType, *, depth: int, dtype: str) -> TensorType:
    _integer_indices(indices)
    if depth < 0:
        raise ShapeError(f"the depth is {depth}; the least is 0")
    numpy_dtype(dtype)
    return TensorType(dtype, (*indices.shape, depth))


def _one_hot(indices: Any, *, depth: int, dtype: str) -> Any:
    return (indices.reshape((*indices.shape, 1)) == np.arange(depth)).astype(dtype)


def _one_hot_expand(indices: Node, *, depth: int, dtype: str) -> Node:
    classes = o.arange(bounds=(0, depth, 1), dtype="int64")
    # In int64, because depth may be more than the dtype of the indices holds.
    return o.cast(o.equal(o.expand_dims(o.cast(indices, dtype="int64"), axis=indices.ndim), classes), dtype=dtype)


one_hot: Op = Op(
    "one_hot", _one_hot_type, numpy=_one_hot, expand=_one_hot_expand,
    doc="1 at the index along a new last axis of size depth, 0 elsewhere; only zeros for an index out of range.",
)  # fmt: skip


def _in_top_k_type(predictions: TensorType, targets: TensorType, *, k: int) -> TensorType:
    _integer_indices(targets, "targets")
    if not predictions.is_float:
        raise DTypeError(f"the predictions are {predictions.dtype}, not floats", hint="cast them: K.cast(x, K.floatx())")
    if predictions.ndim != 2 or targets.ndim != 1 or not same_size(predictions.shape[0], targets.shape[0]):
        given = f"{show_shape(predictions.shape)} and {show_shape(targets.shape)}"
        raise ShapeError(f"predictions and targets are {given}, not [batch, classes] and [batch]")
    return TensorType("bool", (merge_size(predictions.shape[0], targets.shape[0]),))


def _in_top_k(predictions: Any, targets: Any, *, k: int) -> Any:
    batch, classes = predictions.shape
    if not classes:
        return np.zeros(batch, np.bool_)
    inside = (targets >= 0) & (targets < classes)
    score = predictions[np.arange(batch), np.where(inside, targets, 0)]
    ahead = np.add.reduce(predictions > score[:, None], axis=1, dtype=np.int64)
    return inside & np.isfinite(score) & (ahead < k)


def _in_top_k_expand(predictions: Node, targets: Node, *, k: int) -> Node:
    dtype = predictions.dtype
    wide = o.cast(targets, dtype="int64")
    # Compared with each class instead of picked, so that a target out of range is no error: it matches none.
    bounds, nodes = entries_of([0, o.size_of(predictions, 1), 1])
    classes = o.arange(*nodes, bounds=bounds, dtype="int64")
    is_target = o.equal(o.expand_dims(wide, axis=1), o.expand_dims(classes, axis=0))
    nothing = o.scalar(-np.inf, dtype)
    score = o.largest(o.where(is_target, predictions, nothing), (1,))
    finite = o.less_equal(o.absolute(score), o.scalar(float(np.finfo(dtype).max), dtype))
    ahead = o.sum(o.cast(o.greater(predictions, score), dtype="int64"), axis=(1,), keepdims=False)
    return o.logical_and(o.squeeze(finite, axis=1), o.less(ahead, o.scalar(k, "int64")))


in_top_k: Op = Op(
    "in_top_k", _in_top_k_type, numpy=_in_top_k, expand=_in_top_k_expand,
    doc="Whether fewer than k predictions exceed the target's, which has to be finite; False for a target out of range.",
)  # fmt: skip

__all__ = [
    "basic_index", "gather", "in_top_k", "index", "one_hot", "pick", "scatter_add", "scatter_index", "unpick",
]  # fmt: skip

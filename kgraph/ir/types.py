"""The type of a node: dtype and shape. The promotion of dtypes, and the algebra of shapes with unknown sizes.

A shape is a tuple of sizes; a size is an int, or None where it is not known before the program runs. The rank is always known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kgraph.errors import AxisError, DTypeError, ShapeError
from kgraph.ir.weak import WeakTable

Size = int | None
Shape = tuple[Size, ...]

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = ("bool", *INTEGERS, *FLOATS)

_NUMPY_DTYPES = {name: np.dtype(name) for name in DTYPES}
_KIND = {name: ("bool", "int", "float")[(name in INTEGERS) + 2 * (name in FLOATS)] for name in DTYPES}
_KIND_ORDER = {"bool": 0, "int": 1, "float": 2}


class TensorType:
    """dtype and shape. Interned: equal types are one object, so that they compare and hash by identity."""

    __slots__ = ("dtype", "shape", "__weakref__")
    dtype: str
    shape: Shape

    def __new__(cls, dtype: str, shape: Shape) -> TensorType:
        key = (dtype, shape)
        found = _TYPES.get(key)
        if found is None:
            made = object.__new__(cls)
            made.dtype, made.shape = dtype, shape
            found = _TYPES.setdefault(key, made)
        return found

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        """Number of elements, None where it is not known."""
        return product(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_static(self) -> bool:
        return None not in self.shape

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(dtype, self.shape)

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorType, (self.dtype, self.shape)

    def __repr__(self) -> str:
        return f"{self.dtype}{show_shape(self.shape)}"


_TYPES = WeakTable()


class TupleType:
    """The type of a node with several results. Interned, like `TensorType`."""

    __slots__ = ("items", "__weakref__")
    items: tuple[TensorType, ...]

    def __new__(cls, items: tuple[TensorType, ...]) -> TupleType:
        found = _TYPES.get(items)
        if found is None:
            made = object.__new__(cls)
            made.items = items
            found = _TYPES.setdefault(items, made)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return TupleType, (self.items,)

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self.items))})"


def is_tuple(type: object) -> bool:
    """Whether a type is that of several results. (Nodes are annotated with the type that nearly all of them have.)"""
    return type.__class__ is TupleType


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    return _NUMPY_DTYPES[dtype]


def kind(dtype: str) -> str:
    """'bool', 'int' or 'float'."""
    return _KIND[dtype]


def as_dtype(dtype: Any) -> str:
    """The name of a dtype given as a name, a NumPy dtype or a NumPy scalar type. Raises DTypeError."""
    try:
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in _NUMPY_DTYPES:
        raise DTypeError(f"there is no dtype {name!r}", hint=f"kgraph has {', '.join(DTYPES)}")
    return name


def _promote(x: str, y: str) -> str:
    if kind(x) != kind(y):
        return max(x, y, key=lambda name: _KIND_ORDER[kind(name)])
    if {x, y} == {"uint8", "int8"}:
        return "int16"  # the only pair of one kind in which neither holds the other
    return max(x, y, key=lambda name: _NUMPY_DTYPES[name].itemsize)


#: (dtype, dtype) -> dtype of their combination: equal kinds take the wider, integer with float the float, bool with x takes x.
PROMOTION: dict[tuple[str, str], str] = {(x, y): _promote(x, y) for x in DTYPES for y in DTYPES}


def show_shape(shape: Iterable[Size]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes: None if one is unknown, unless another is 0."""
    total: Size = 1
    for size in sizes:
        if size == 0:
            return 0
        total = None if size is None or total is None else total * size
    return total


def same_size(x: Size, y: Size) -> bool:
    """Whether two sizes may be the same when the program runs."""
    return x is None or y is None or x == y


def merge_size(x: Size, y: Size) -> Size:
    """The one size that x and y both name, as precisely as it is known."""
    return y if x is None else x


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """The shape of an element-wise combination. Only an axis of static size 1 is stretched. Raises ShapeError."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(map(len, shapes))
    result: list[Size] = []
    for axis in range(-rank, 0):
        size: Size = 1
        for shape in shapes:
            if -axis <= len(shape) and shape[axis] != 1:
                other = shape[axis]
                if size == 1:
                    size = other
                elif not same_size(size, other):
                    raise ShapeError(
                        f"sizes differ on axis {axis}: {size} != {other}",
                        hint="only an axis of size 1 is stretched; reshape, or add an axis with K.expand_dims",
                    )
                else:
                    size = merge_size(size, other)
        result.append(size)
    return tuple(result)


def as_axis(axis: Any, rank: int) -> int:
    """axis as an int in [0, rank). Raises AxisError."""
    try:
        index = axis.__index__()
    except AttributeError:
        raise AxisError(f"an axis is an int, not {axis!r}") from None
    if not -rank <= index < rank:
        allowed = f"from {-rank} to {rank - 1}" if rank else "none: it is a scalar"
        raise AxisError(f"axis {index} is outside of the tensor; its axes are {allowed}")
    return int(index % rank)


def as_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """axis (None, int, or ints) as a sorted tuple of distinct ints in [0, rank); None means every axis. Raises AxisError."""
    if axis is None:
        return tuple(range(rank))
    axes = [as_axis(a, rank) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    if len(set(axes)) < len(axes):
        raise AxisError(f"axis {axis!r} names an axis twice")
    return tuple(sorted(axes))


def reduced_shape(shape: Shape, axis: tuple[int, ...], keepdims: bool) -> Shape:
    """The shape after a reduction over axis (canonical)."""
    if keepdims:
        return tuple([1 if i in axis else size for i, size in enumerate(shape)])
    return tuple([size for i, size in enumerate(shape) if i not in axis])

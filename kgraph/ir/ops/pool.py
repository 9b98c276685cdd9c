"""Pooling over windows of [batch, *spatial, channels], and its gradients.

Padding is never the maximum of a window, and does not count in its mean. Of equal maxima the first one, in row-major order,
has the gradient; NaN is larger than any number, as in `numpy.argmax`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.shape import Entries, check_sizes, entries_of, fill_sizes, shaped_like, size_of
from kgraph.ir.ops.windows import (
    check_moves,
    check_windows,
    in_float32,
    readings,
    real_elements,
    spatial,
    taps_along,
    window_counts,
)  # fmt: skip
from kgraph.ir.types import Shape, Size, TensorType, same_size, show_shape

Ints = tuple[int, ...]

# ---------------------------------------------------------------------------------------------------- type rules


def _pooled(space: Shape, size: Ints, strides: Ints, border: str) -> tuple[Size, ...]:
    """How many windows there are. Raises ShapeError, also for windows of padding alone."""
    check_moves(len(space), border, size=size, strides=strides)
    if border == "full" and 0 in space:
        raise ShapeError(f"an input of {show_shape(space)} in space has no elements for windows to cover")
    return window_counts(space, size, strides, (1,) * len(size), border)


def _pool_type(x: TensorType, *, size: Ints, strides: Ints, border: str) -> TensorType:
    counts = _pooled(spatial(x, "x"), size, strides, border)
    return TensorType(x.dtype, (x.shape[0], *counts, x.shape[-1]))


def _check_pair(x: TensorType, y: TensorType, names: str) -> None:
    if x.dtype != y.dtype:
        raise DTypeError(f"dtypes differ: {x.dtype} != {y.dtype}", hint="cast one of them with K.cast")
    if x.ndim != y.ndim or not same_size(x.shape[0], y.shape[0]) or not same_size(x.shape[-1], y.shape[-1]):
        raise ShapeError(f"the shapes of {names} do not go together: {show_shape(x.shape)}, {show_shape(y.shape)}")


def _max_pool_grad_type(
    g: TensorType, x: TensorType, *tops: TensorType, size: Ints, strides: Ints, border: str
) -> TensorType:
    pooled = _pool_type(x, size=size, strides=strides, border=border)
    if len(tops) > 1:
        raise ShapeError(f"there are {len(tops)} tensors of maxima; there is one, or none")
    for top in tops:
        _check_pair(top, pooled, "the maxima and what is pooled")
        check_windows(top.shape[1:-1], pooled.shape[1:-1], "the maxima")
    _check_pair(g, pooled, "g and what is pooled")
    check_windows(g.shape[1:-1], pooled.shape[1:-1], "g")
    return x


def _max_pool_pick_type(h: TensorType, x: TensorType, *, size: Ints, strides: Ints, border: str) -> TensorType:
    pooled = _pool_type(x, size=size, strides=strides, border=border)
    _check_pair(h, x, "h and x")
    if not all(map(same_size, h.shape, x.shape)):
        raise ShapeError(f"shapes differ: {show_shape(h.shape)} (h) != {show_shape(x.shape)} (x)")
    return pooled


def _avg_pool_grad_type(
    g: TensorType, *sizes: TensorType, shape: Entries, size: Ints, strides: Ints, border: str
) -> TensorType:
    space = spatial(g, "g")
    check_sizes(shape, sizes, "shape")
    if len(shape) != len(space):
        raise ShapeError(f"shape is {show_shape(shape)}, not {len(space)} sizes, one for each spatial axis")
    check_windows(space, _pooled(shape, size, strides, border), "g")
    return TensorType(g.dtype, (g.shape[0], *shape, g.shape[-1]))


# ---------------------------------------------------------------------------------------------------- gradients


def _max_pool_vjp(g: Node, out: Node, x: Node, **how: Any) -> tuple[Node, ...]:
    return (o.max_pool_grad(g, x, out, **how),)


def _max_pool_grad_vjp(h: Node, out: Node, g: Node, x: Node, *tops: Node, **how: Any) -> tuple[Node | None, ...]:
    # Where the maximum is does not change with x, but for jumps.
    return shaped_like(o.max_pool_pick(h, x, **how), g), None, *[None for _ in tops]


def _max_pool_pick_vjp(g: Node, out: Node, h: Node, x: Node, **how: Any) -> tuple[Node | None, ...]:
    return shaped_like(o.max_pool_grad(g, x, **how), h), None


def _avg_pool_vjp(g: Node, out: Node, x: Node, **how: Any) -> tuple[Node, ...]:
    shape, sizes = entries_of([size_of(x, axis) for axis in range(1, x.ndim - 1)])
    return (shaped_like(o.avg_pool_grad(g, *sizes, shape=shape, **how), x),)


def _avg_pool_grad_vjp(h: Node, out: Node, g: Node, *sizes: Node, shape: Entries, **how: Any) -> tuple[Node | None, ...]:
    return shaped_like(o.avg_pool(h, **how), g), *[None for _ in sizes]


# ---------------------------------------------------------------------------------------------------- NumPy


def _along(x: Any, axis: int, k: int, stride: int, border: str, first: float, join: Any) -> Any:
    """The taps of each window along one axis, joined by a ufunc; first is what it leaves unchanged."""
    if k == stride == 1:
        return x
    n = x.shape[axis]
    taps = taps_along(n, k, stride, 1, border)
    (count,) = window_counts((n,), (k,), (stride,), (1,), border)
    lead = (slice(None),) * axis
    if taps and taps[0][1] == slice(0, count):  # the first tap of every window is an element
        out = x[(*lead, taps[0][2])].copy()
        taps = taps[1:]
    else:
        out = np.full((*x.shape[:axis], count, *x.shape[axis + 1 :]), first, x.dtype)
    for _, windows, elements in taps:
        part = out[(*lead, windows)]
        join(part, x[(*lead, elements)], out=part)
    return out


def _over(x: Any, size: Ints, strides: Ints, border: str, first: float, join: Any) -> Any:
    """All spatial axes, one after the other: k + k steps in the place of k k. The result is no part of x."""
    _pooled(x.shape[1:-1], size, strides, border)
    out = x
    for axis, (k, stride) in enumerate(zip(size, strides, strict=True), 1):
        out = _along(out, axis, k, stride, border, first, join)
    return out.copy() if out is x else out


def _max_pool(x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    return _over(x, size, strides, border, -np.inf, np.maximum)


def _maxima(
    x: Any, size: Ints, strides: Ints, border: str, top: Any = None
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], Any]]:
    """Tap by tap: the windows, the elements that they read, and in which windows that is the maximum."""
    if top is None:
        top = _max_pool(x, size=size, strides=strides, border=border)
    missing = bool(np.isnan(top).any())
    waiting = np.ones(top.shape, bool)
    taps = list(readings(x.shape[1:-1], size, strides, (1,) * len(size), border))
    for _, windows, elements in taps[:-1]:
        part = x[elements]
        found = part == top[windows]
        if missing:
            found |= part != part  # NaN
        left = waiting[windows]
        found &= left
        left ^= found
        yield windows, elements, found
    for _, windows, elements in taps[-1:]:
        yield windows, elements, waiting[windows]  # what has this tap, and no maximum so far, has it here


def _tiled(space: Ints, size: Ints, strides: Ints, border: str) -> tuple[bool, bool]:
    """Whether no element is under two windows, and whether each is under one."""
    apart = all(k <= stride for k, stride in zip(size, strides, strict=True))
    whole = size == strides and (border == "same" or not any(n % k for n, k in zip(space, size, strict=True)))
    return apart, apart and whole and border != "full"


def _max_pool_grad(g: Any, x: Any, *tops: Any, size: Ints, strides: Ints, border: str) -> Any:
    if x.dtype.char == "e":
        wide = map(in_float32, (g, x, *tops))
        return _max_pool_grad(*wide, size=size, strides=strides, border=border).astype("float16")
    apart, whole = _tiled(x.shape[1:-1], size, strides, border)
    out = np.empty(x.shape, g.dtype) if whole else np.zeros(x.shape, g.dtype)
    # An integer of the same bits times 0 or 1: a float that is infinite or NaN would not go to 0, and `where` takes longer.
    bits = np.dtype(f"i{g.itemsize}")
    given, into = np.ascontiguousarray(g).view(bits), out.view(bits)
    for windows, elements, found in _maxima(x, size, strides, border, *tops):
        if apart:
            np.multiply(given[windows], found, out=into[elements])
        else:
            out[elements] += np.multiply(given[windows], found).view(g.dtype)
    return out


def _max_pool_pick(h: Any, x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    counts = window_counts(x.shape[1:-1], size, strides, (1,) * len(size), border)
    out = np.zeros((x.shape[0], *counts, x.shape[-1]), h.dtype)
    for windows, elements, found in _maxima(x, size, strides, border):
        np.copyto(out[windows], h[elements], where=found)
    return out


def _elements(space: Ints, size: Ints, strides: Ints, border: str, dtype: Any) -> Any:
    """How many elements are under each window, as what [windows, channels] broadcasts with."""
    found = np.ones((), dtype)
    for n, k, stride in zip(space, size, strides, strict=True):
        found = found[..., None] * np.array(real_elements(n, k, stride, border), dtype)
    return found[..., None]


def _avg_pool(x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    if x.dtype.char == "e":
        return _avg_pool(in_float32(x), size=size, strides=strides, border=border).astype("float16")
    out = _over(x, size, strides, border, 0.0, np.add)
    out /= _elements(x.shape[1:-1], size, strides, border, x.dtype) if border != "valid" else x.dtype.type(math.prod(size))
    return out


def _avg_pool_grad(g: Any, *sizes: Any, shape: Entries, size: Ints, strides: Ints, border: str) -> Any:
    space = fill_sizes(shape, sizes)
    if g.dtype.char == "e":
        return _avg_pool_grad(in_float32(g), shape=space, size=size, strides=strides, border=border).astype("float16")
    check_windows(g.shape[1:-1], _pooled(space, size, strides, border), "g")
    out = g / (_elements(space, size, strides, border, g.dtype) if border != "valid" else g.dtype.type(math.prod(size)))
    for axis, (n, k, stride) in enumerate(zip(space, size, strides, strict=True), 1):
        lead = (slice(None),) * axis
        if k == stride == 1:
            continue
        apart, whole = _tiled((n,), (k,), (stride,), border)
        wide: Any = (*out.shape[:axis], n, *out.shape[axis + 1 :])
        spread = np.empty(wide, g.dtype) if whole else np.zeros(wide, g.dtype)
        for _, windows, elements in taps_along(n, k, stride, 1, border):
            if apart:
                spread[(*lead, elements)] = out[(*lead, windows)]
            else:
                spread[(*lead, elements)] += out[(*lead, windows)]
        out = spread
    return out


max_pool: Op = Op(
    "max_pool", _pool_type, numpy=_max_pool, vjp=_max_pool_vjp, doc="The largest element under each window; NaN if one is."
)  # fmt: skip

max_pool_grad: Op = Op(
    "max_pool_grad", _max_pool_grad_type, numpy=_max_pool_grad, vjp=_max_pool_grad_vjp,
    doc="g added up where the first maximum of each window of x is; zero elsewhere; top is max_pool of x, where it is at hand.",
)  # fmt: skip

max_pool_pick: Op = Op(
    "max_pool_pick", _max_pool_pick_type, numpy=_max_pool_pick, vjp=_max_pool_pick_vjp,
    doc="The elements of h that are where the first maximum of each window of x is.",
)  # fmt: skip

avg_pool: Op = Op(
    "avg_pool", _pool_type, numpy=_avg_pool, vjp=_avg_pool_vjp,
    doc="The mean of the elements under each window, without padding.",
)  # fmt: skip

avg_pool_grad: Op = Op(
    "avg_pool_grad", _avg_pool_grad_type, numpy=_avg_pool_grad, vjp=_avg_pool_grad_vjp, sized="shape",
    doc="The cotangent of the x of avg_pool, whose spatial sizes are shape, from that of its result.",
)  # fmt: skip

__all__ = ["avg_pool", "avg_pool_grad", "max_pool", "max_pool_grad", "max_pool_pick"]

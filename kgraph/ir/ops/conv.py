"""Convolution, its two gradients, and how NumPy computes them through BLAS.

x is [batch, *spatial, channels], with one to three spatial axes; the kernel is [*spatial, channels / groups, filters], and is
not flipped: this is correlation. ``groups`` is 1, or the number of channels, of which each has filters of its own then (those
of the first channel come first). The three ops are each other's gradients, so that gradients of any order are made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
    chunks,
    in_float32,
    padding,
    readings,
    spatial,
    window_count,
    window_counts,
)  # fmt: skip
from kgraph.ir.types import Shape, Size, TensorType, same_size, show_shape

Ints = tuple[int, ...]

# ---------------------------------------------------------------------------------------------------- type rules


def _kernel(w: TensorType, rank: int, groups: int) -> tuple[Ints, Size, Size]:
    """The spatial sizes of a kernel, the channels that it takes, and its filters. Raises ShapeError."""
    if w.ndim != rank + 2:
        raise ShapeError(f"the kernel has {w.ndim} axes, not {rank} of space, channels and filters")
    sizes = w.shape[:-2]
    if None in sizes:
        raise ShapeError(f"the kernel is {show_shape(w.shape)}; its spatial sizes have to be known while the graph is built")
    if 0 in sizes:
        raise ShapeError(f"the kernel is {show_shape(w.shape)}, without elements in space")
    channels, filters = w.shape[-2:]
    if groups > 1:
        if not same_size(channels, 1):
            raise ShapeError(f"the kernel has {channels} channels for each of {groups} groups, not 1")
        if filters is not None and filters % groups:
            raise ShapeError(f"{filters} filters are no multiple of the {groups} channels, each of which has as many")
        channels = groups
    return sizes, channels, filters  # type: ignore[return-value]


def _same_dtype(x: TensorType, y: TensorType) -> None:
    if x.dtype != y.dtype:
        raise DTypeError(f"dtypes differ: {x.dtype} != {y.dtype}", hint="cast one of them with K.cast")


def _same_channels(size: Size, wanted: Size) -> None:
    if not same_size(size, wanted):
        raise ShapeError(f"x has {size} channels, the kernel takes {wanted}")


def _conv_type(x: TensorType, w: TensorType, *, strides: Ints, dilation: Ints, border: str, groups: int) -> TensorType:
    space = spatial(x, "x")
    _same_dtype(x, w)
    check_moves(len(space), border, strides=strides, dilation=dilation)
    taps, channels, filters = _kernel(w, len(space), groups)
    _same_channels(x.shape[-1], channels)
    return TensorType(x.dtype, (x.shape[0], *window_counts(space, taps, strides, dilation, border), filters))


def _conv_input_grad_type(
    g: TensorType, w: TensorType, *sizes: TensorType, shape: Entries, strides: Ints, dilation: Ints, border: str, groups: int
) -> TensorType:
    space = spatial(g, "g")
    _same_dtype(g, w)
    check_sizes(shape, sizes, "shape")
    check_moves(len(space), border, strides=strides, dilation=dilation)
    taps, channels, filters = _kernel(w, len(space), groups)
    if len(shape) != len(space) or any(n is not None and n < 0 for n in shape):
        raise ShapeError(f"shape is {show_shape(shape)}, not {len(space)} sizes, one for each spatial axis")
    check_windows(space, window_counts(shape, taps, strides, dilation, border), "g")
    if not same_size(g.shape[-1], filters):
        raise ShapeError(f"g has {g.shape[-1]} channels, the kernel {filters} filters")
    return TensorType(g.dtype, (g.shape[0], *shape, channels))


def _conv_kernel_grad_type(
    x: TensorType, g: TensorType, *, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int
) -> TensorType:
    space = spatial(x, "x")
    _same_dtype(x, g)
    check_moves(len(space), border, shape=shape, strides=strides, dilation=dilation)
    if g.ndim != x.ndim:
        raise ShapeError(f"g has {g.ndim} axes, x {x.ndim}")
    if not same_size(x.shape[0], g.shape[0]):
        raise ShapeError(f"batches differ: {x.shape[0]} (x) != {g.shape[0]} (g)")
    check_windows(g.shape[1:-1], window_counts(space, shape, strides, dilation, border), "g")
    channels: Size = x.shape[-1]
    if groups > 1:
        _same_channels(channels, groups)
        channels = 1
    made: Shape = (*shape, channels, g.shape[-1])
    _kernel(TensorType(x.dtype, made), len(space), groups)
    return TensorType(x.dtype, made)


# ---------------------------------------------------------------------------------------------------- gradients


def _spatial_sizes(x: Node) -> tuple[Entries, tuple[Node, ...]]:
    """The spatial sizes of x as `conv_input_grad` takes them."""
    return entries_of([size_of(x, axis) for axis in range(1, x.ndim - 1)])


def _conv_vjp(g: Node, out: Node, x: Node, w: Node, **how: Any) -> tuple[Node, ...]:
    shape, sizes = _spatial_sizes(x)
    gx = o.conv_input_grad(g, w, *sizes, shape=shape, **how)
    gw = o.conv_kernel_grad(x, g, shape=w.type.shape[:-2], **how)
    return shaped_like(gx, x), shaped_like(gw, w)


def _conv_input_grad_vjp(h: Node, out: Node, g: Node, w: Node, *sizes: Node, shape: Entries, **how: Any) -> tuple[Any, ...]:
    gw = o.conv_kernel_grad(h, g, shape=w.type.shape[:-2], **how)
    return shaped_like(o.conv(h, w, **how), g), shaped_like(gw, w), *[None for _ in sizes]


def _conv_kernel_grad_vjp(h: Node, out: Node, x: Node, g: Node, *, shape: Ints, **how: Any) -> tuple[Node, ...]:
    entries, sizes = _spatial_sizes(x)
    gx = o.conv_input_grad(g, h, *sizes, shape=entries, **how)
    return shaped_like(gx, x), shaped_like(o.conv(x, h, **how), g)


# ---------------------------------------------------------------------------------------------------- NumPy

#: Bytes of patches that are laid out at a time. They stay in the cache of the processor until BLAS has read them; laid out
#: all at once they take twice as long, most of it for pages of memory that are new.
_BUDGET = 2**21


def _padded(x: Any, taps: Sequence[int], strides: Ints, dilation: Ints, border: str) -> Any:
    """x with the zeros around it."""
    sizes = x.shape[1:-1]
    pads = [padding(n, k, s, d, border) for n, k, s, d in zip(sizes, taps, strides, dilation, strict=True)]
    if not any(map(any, pads)):
        return np.ascontiguousarray(x)
    shape = [n + before + behind for n, (before, behind) in zip(sizes, pads, strict=True)]
    made = np.zeros((x.shape[0], *shape, x.shape[-1]), x.dtype)
    made[(slice(None), *[slice(before, before + n) for n, (before, _) in zip(sizes, pads, strict=True)])] = x
    return made


def _patches(
    x: Any, taps: Ints, strides: Ints, dilation: Ints, border: str
) -> Iterator[tuple[Any, tuple[slice, slice]]]:
    """What the windows read, as matrices [windows, taps and channels]: a piece of the batch, or of its rows, at a time."""
    counts = [window_count(n, k, s, d, border) for n, k, s, d in zip(x.shape[1:-1], taps, strides, dilation, strict=True)]
    x = _padded(x, taps, strides, dilation, border)
    batch, channels = x.shape[0], x.shape[-1]
    width = math.prod(taps) * channels
    steps = x.strides[1:-1]
    view = np.lib.stride_tricks.as_strided(
        x,
        (batch, *counts, *taps, channels),
        (x.strides[0], *map(int.__mul__, steps, strides), *map(int.__mul__, steps, dilation), x.strides[-1]),
        writeable=False,
    )
    row = math.prod(counts[1:]) * width
    space = np.empty(0, x.dtype)
    for piece in chunks(batch, counts[0], row * x.itemsize, _BUDGET):
        part = view[piece]
        if space.size < part.size:
            space = np.empty(part.size, x.dtype)
        laid_out = space[: part.size].reshape(part.shape)
        laid_out[...] = part
        yield laid_out.reshape((math.prod(part.shape[: 1 + len(taps)]), width)), piece


def _is_product(x: Any, taps: Ints, strides: Ints) -> bool:
    """Whether each window reads one element, and each element has its window: a product of matrices."""
    return all(k == 1 for k in taps) and all(s == 1 for s in strides)


def _conv(x: Any, w: Any, *, strides: Ints, dilation: Ints, border: str, groups: int) -> Any:
    if x.dtype.char == "e":
        wide = _conv(in_float32(x), in_float32(w), strides=strides, dilation=dilation, border=border, groups=groups)
        return wide.astype("float16")
    taps, filters = w.shape[:-2], w.shape[-1]
    if groups > 1:
        return _conv_by_channel(x, w, strides=strides, dilation=dilation, border=border)
    matrix = w.reshape((math.prod(w.shape[:-1]), filters))
    if _is_product(x, taps, strides):
        return (x.reshape((math.prod(x.shape[:-1]), x.shape[-1])) @ matrix).reshape((*x.shape[:-1], filters))
    counts = window_counts(x.shape[1:-1], taps, strides, dilation, border)
    out = np.empty((x.shape[0], *counts, filters), x.dtype)
    for patches, piece in _patches(x, taps, strides, dilation, border):
        np.matmul(patches, matrix, out=out[piece].reshape((len(patches), filters)))
    return out


def _conv_input_grad(
    g: Any, w: Any, *sizes: Any, shape: Entries, strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    shape = fill_sizes(shape, sizes)
    if g.dtype.char == "e":
        wide = _conv_input_grad(
            in_float32(g), in_float32(w), shape=shape, strides=strides, dilation=dilation, border=border, groups=groups
        )
        return wide.astype("float16")
    taps = w.shape[:-2]
    check_windows(g.shape[1:-1], window_counts(shape, taps, strides, dilation, border), "g")
    batch, filters, channels = g.shape[0], g.shape[-1], w.shape[-2] * groups
    if groups == 1 and _is_product(g, taps, strides):
        matrix = w.reshape((channels, filters)).T
        return (g.reshape((math.prod(g.shape[:-1]), filters)) @ matrix).reshape((*g.shape[:-1], channels))
    out = np.zeros((batch, *shape, channels), g.dtype)
    read = list(readings(shape, taps, strides, dilation, border))
    windows = math.prod(g.shape[1:-1])
    for piece, _ in chunks(batch, 1, windows * max(filters, channels) * g.itemsize, _BUDGET):
        part, into = g[piece], out[piece]
        if groups > 1:
            part = part.reshape((*part.shape[:-1], groups, filters // groups))
            for at, there, here in read:
                into[here] += np.einsum("...cm,cm->...c", part[there], w[at].reshape((groups, filters // groups)))
            continue
        matrix = part.reshape((len(part) * windows, filters))
        product = np.empty((*part.shape[:-1], channels), g.dtype)
        flat = product.reshape((len(matrix), channels))
        for at, there, here in read:
            np.matmul(matrix, w[at].T, out=flat)
            into[here] += product[there]
    return out


def _conv_kernel_grad(x: Any, g: Any, *, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int) -> Any:
    if x.dtype.char == "e":
        wide = _conv_kernel_grad(
            in_float32(x), in_float32(g), shape=shape, strides=strides, dilation=dilation, border=border, groups=groups
        )
        return wide.astype("float16")
    check_windows(g.shape[1:-1], window_counts(x.shape[1:-1], shape, strides, dilation, border), "g")
    channels, filters = x.shape[-1], g.shape[-1]
    if groups > 1:
        return _kernel_grad_by_channel(x, g, shape=shape, strides=strides, dilation=dilation, border=border)
    if _is_product(x, shape, strides):
        rows = math.prod(x.shape[:-1])
        return (x.reshape((rows, channels)).T @ g.reshape((rows, filters))).reshape((*shape, channels, filters))
    out = np.zeros((math.prod(shape) * channels, filters), x.dtype)
    for patches, piece in _patches(x, shape, strides, dilation, border):
        out += patches.T @ g[piece].reshape((len(patches), filters))
    return out.reshape((*shape, channels, filters))


# A channel with filters of its own is no product of matrices: tap by tap, element by element.


def _conv_by_channel(x: Any, w: Any, *, strides: Ints, dilation: Ints, border: str) -> Any:
    taps, channels = w.shape[:-2], x.shape[-1]
    each = w.shape[-1] // channels
    counts = window_counts(x.shape[1:-1], taps, strides, dilation, border)
    out = np.zeros((x.shape[0], *counts, channels, each), x.dtype)
    for at, there, here in readings(x.shape[1:-1], taps, strides, dilation, border):
        out[there] += x[here][..., None] * w[at].reshape((channels, each))
    return out.reshape((*out.shape[:-2], channels * each))


def _kernel_grad_by_channel(x: Any, g: Any, *, shape: Ints, strides: Ints, dilation: Ints, border: str) -> Any:
    channels = x.shape[-1]
    each = g.shape[-1] // channels
    g = g.reshape((*g.shape[:-1], channels, each))
    out = np.zeros((*shape, channels * each), x.dtype)
    letters = "nabd"[: len(shape) + 1]
    for at, there, here in readings(x.shape[1:-1], shape, strides, dilation, border):
        out[at] = np.einsum(f"{letters}c,{letters}cm->cm", x[here], g[there]).reshape(channels * each)
    return out[..., None, :]


conv: Op = Op(
    "conv", _conv_type, numpy=_conv, vjp=_conv_vjp,
    doc="Correlation: the sum over taps t and channels c of x[b, stride i + dilation t - padding, c] w[t, c, f].",
)  # fmt: skip

conv_input_grad: Op = Op(
    "conv_input_grad", _conv_input_grad_type, numpy=_conv_input_grad, vjp=_conv_input_grad_vjp, sized="shape",
    doc="The cotangent of the x of conv, whose spatial sizes are shape, from that of its result.",
)  # fmt: skip

conv_kernel_grad: Op = Op(
    "conv_kernel_grad", _conv_kernel_grad_type, numpy=_conv_kernel_grad, vjp=_conv_kernel_grad_vjp,
    doc="The cotangent of the kernel of conv, whose spatial sizes are shape, from that of its result.",
)  # fmt: skip

__all__ = ["conv", "conv_input_grad", "conv_kernel_grad"]

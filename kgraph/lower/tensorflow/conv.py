"""The rules of convolution for TensorFlow.

Its kernels are used where they mean the same; what they cannot do is made of slices, one for each tap of the windows. What is
said of kernels holds of TensorFlow 2.21 on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import kgraph.ir.ops as o
from kgraph.ir.op import Op
from kgraph.ir.ops.windows import span
from kgraph.lower.tensorflow.checks import by_xla
from kgraph.lower.tensorflow.windows import (
    PADDING,
    Ints,
    Rule,
    Sizes,
    Windows,
    filled,
    in_float32,
    length,
    more_of,
    space_of,
    vector,
)

raw = tf.raw_ops

# ---------------------------------------------------------------------------------------------------- convolution by slices


def _by_channel(w: Any, groups: int) -> Any:
    """[*taps, 1, filters] as [*taps, channels, filters of each]."""
    taps = w.shape[:-2]
    return tf.reshape(w, [*taps, groups, -1 if w.shape[-1] is None else w.shape[-1] // groups])


def _patches(x: Any, windows: Windows) -> Any:
    """What the windows read, [batch, *windows, taps and channels]."""
    return tf.concat(windows.read(windows.padded(x)), -1)


def _flat(x: Any, width: Any) -> Any:
    rows = [length(x, axis) for axis in range(len(x.shape) - 1)]
    return tf.reshape(x, vector([_product(rows), width]))


def _product(sizes: Sizes) -> Any:
    known = math.prod([size for size in sizes if isinstance(size, int)])
    for size in sizes:
        if not isinstance(size, int):
            known = size * known
    return known


def _tap_matrices(w: Any, count: int) -> list[Any]:
    return tf.unstack(tf.reshape(w, vector([count, length(w, -2), length(w, -1)])), num=count)


def _conv_by_slices(x: Any, w: Any, windows: Windows, groups: int) -> Any:
    if groups > 1:
        kernels = tf.unstack(tf.reshape(_by_channel(w, groups), vector([math.prod(windows.taps), groups, _each(w, groups)])))
        parts = windows.read(windows.padded(x))
        total = tf.add_n([tf.expand_dims(part, -1) * kernel for part, kernel in zip(parts, kernels, strict=True)])
        return tf.reshape(total, vector([length(x, 0), *windows.counts, length(w, -1)]))
    width = _product([*windows.taps, length(w, -2)])
    filters = length(w, -1)
    out = tf.matmul(_flat(_patches(x, windows), width), tf.reshape(w, vector([width, filters])))
    return tf.reshape(out, vector([length(x, 0), *windows.counts, filters]))


def _each(w: Any, groups: int) -> Any:
    return length(w, -1) // groups


def _input_grad_by_slices(g: Any, w: Any, windows: Windows, groups: int) -> Any:
    count = math.prod(windows.taps)
    batch = length(g, 0)
    if groups > 1:
        each = _each(w, groups)
        kernels = tf.unstack(tf.reshape(_by_channel(w, groups), vector([count, groups, each])))
        wide = tf.reshape(g, vector([batch, *windows.counts, groups, each]))
        return windows.write([tf.reduce_sum(wide * kernel, -1) for kernel in kernels], batch, groups)
    channels = length(w, -2)
    rows = _flat(g, length(g, -1))
    shape = vector([batch, *windows.counts, channels])
    parts = [tf.reshape(tf.matmul(rows, kernel, transpose_b=True), shape) for kernel in _tap_matrices(w, count)]
    return windows.write(parts, batch, channels)


def _kernel_grad_by_slices(x: Any, g: Any, windows: Windows, groups: int) -> Any:
    filters = length(g, -1)
    if groups > 1:
        each = filters // groups
        wide = tf.reshape(g, vector([length(g, 0), *windows.counts, groups, each]))
        axes = list(range(len(windows.taps) + 1))
        parts = [tf.reduce_sum(tf.expand_dims(part, -1) * wide, axes) for part in windows.read(windows.padded(x))]
        return tf.reshape(tf.stack(parts), vector([*windows.taps, 1, filters]))
    width = _product([*windows.taps, length(x, -1)])
    out = tf.matmul(_flat(_patches(x, windows), width), _flat(g, filters), transpose_a=True)
    return tf.reshape(out, vector([*windows.taps, length(x, -1), filters]))


# ---------------------------------------------------------------------------------------------------- convolution by kernels


class _Kernel:
    """The arguments of TensorFlow's kernels: of two axes for one and two, of three for three.

    Attributes:
      usable: there is a kernel, for this direction too.
    """

    def __init__(
        self, channels: Any, filters: Any, taps: Ints, strides: Ints, dilation: Ints, border: str, groups: int, back: bool
    ):
        rank = len(taps)
        self.flat = rank == 1
        spread = any(d > 1 for d in dilation)
        # The gradients of a dilated kernel exist for float32 alone, by oneDNN, which may be switched off. Those of three axes
        # know no explicit padding. A kernel without channels or filters is refused, and groups have no gradients; of a kernel
        # for each channel there is no uneven stride, and no dilation but for float32.
        self.usable = bool(channels) and bool(filters) and groups == 1 and not (spread and (back or rank == 3))
        self.usable = self.usable and not (rank == 3 and border == "full")
        self.by_channel = groups > 1 and rank < 3 and not spread and len(set(strides)) == 1 and bool(filters)
        lead = [1] if self.flat else []
        self.attrs: dict[str, Any] = {
            "strides": [1, *(strides if self.by_channel and self.flat else lead), *strides, 1],
            "padding": PADDING[border],
            "dilations": [1, *lead, *dilation, 1],
        }  # fmt: skip
        if border == "full":
            pads = [span(k, d) - 1 for k, d in zip(taps, dilation, strict=True)]
            self.attrs["explicit_paddings"] = [0, 0, *([0, 0] if self.flat else []), *[n for n in pads for _ in (0, 1)], 0, 0]

    def up(self, x: Any, axis: int) -> Any:
        """A tensor or kernel of one axis as one of two."""
        return tf.expand_dims(x, axis) if self.flat else x

    def down(self, x: Any, axis: int) -> Any:
        return tf.squeeze(x, [axis]) if self.flat else x


def _conv(x: Any, w: Any, *, strides: Ints, dilation: Ints, border: str, groups: int) -> Any:
    taps = w.shape[:-2].as_list()
    kernel = _Kernel(w.shape[-2], w.shape[-1], taps, strides, dilation, border, groups, back=False)
    if _may_be_misplaced(x.shape[1:-1], strides, border):
        return _conv_by_slices(x, w, Windows(space_of(x), taps, strides, dilation, border), groups)
    if kernel.usable and len(taps) == 3:
        return raw.Conv3D(input=x, filter=w, **kernel.attrs)
    if kernel.usable:
        made = kernel.down(raw.Conv2D(input=kernel.up(x, 1), filter=kernel.up(w, 0), **kernel.attrs), 1)
        return made if all(x.shape[:-1]) else _of_conv_shape(made, x, w.shape[-1], taps, strides, dilation, border)
    if kernel.by_channel and _has_elements(x):
        filters = kernel.up(_by_channel(w, groups), 0)
        made = kernel.down(raw.DepthwiseConv2dNative(input=kernel.up(x, 1), filter=filters, **kernel.attrs), 1)
        return made if all(x.shape[:-1]) else _of_conv_shape(made, x, w.shape[-1], taps, strides, dilation, border)
    return _conv_by_slices(x, w, Windows(space_of(x), taps, strides, dilation, border), groups)


def _may_be_misplaced(space: Sequence[Any], strides: Ints, border: str) -> bool:
    """Whether XLA may be wrong in how many windows there are: in an image without elements it finds one."""
    return by_xla() and border == "same" and max(strides) > 1 and not all(isinstance(n, int) and n for n in space)


def _of_conv_shape(
    made: Any, x: Any, filters: int, taps: Ints, strides: Ints, dilation: Ints, border: str
) -> Any:
    """A convolution, which oneDNN gives the shape of x where x is empty."""
    more = [more_of(k, s, d, border) for k, s, d in zip(taps, strides, dilation, strict=True)]
    kept = np.array([1] * (len(taps) + 1) + [0])
    sizes = tf.shape(x, out_type=tf.int64) * kept + np.array([0, *more, filters])
    return tf.reshape(made, sizes // np.array([1, *strides, 1]))


def _has_elements(x: Any) -> bool:
    """Whether no axis is known to be empty, or may be but for the batch: some kernels leave results without a value then."""
    return x.shape[0] != 0 and all(x.shape[1:])


def _conv_input_grad(
    g: Any, w: Any, *sizes: Any, shape: Sequence[int | None], strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    taps = w.shape[:-2].as_list()
    space = filled(shape, sizes)
    kernel = _Kernel(w.shape[-2], w.shape[-1], taps, strides, dilation, border, groups, back=True)
    if _may_be_misplaced(space, strides, border):
        return _input_grad_by_slices(g, w, Windows(space, taps, strides, dilation, border), groups)
    if kernel.usable or (kernel.by_channel and all(isinstance(n, int) and n for n in space) and g.shape[0] != 0):
        channels = groups if groups > 1 else w.shape[-2]
        target = tf.cast(vector([length(g, 0), *([1] if kernel.flat else []), *space, channels]), tf.int32)
        if len(taps) == 3:
            return raw.Conv3DBackpropInputV2(input_sizes=target, filter=w, out_backprop=g, **kernel.attrs)
        up = kernel.up(g, 1)
        if groups > 1:
            filters = kernel.up(_by_channel(w, groups), 0)
            made = raw.DepthwiseConv2dNativeBackpropInput(input_sizes=target, filter=filters, out_backprop=up, **kernel.attrs)
        else:
            filters = kernel.up(w, 0)
            made = raw.Conv2DBackpropInput(input_sizes=target, filter=filters, out_backprop=up, **kernel.attrs)
        return kernel.down(made, 1)
    return _input_grad_by_slices(g, w, Windows(space, taps, strides, dilation, border), groups)


def _conv_kernel_grad(
    x: Any, g: Any, *, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    kernel = _Kernel(x.shape[-1], g.shape[-1], shape, strides, dilation, border, groups, back=True)
    if _may_be_misplaced(x.shape[1:-1], strides, border):
        return _kernel_grad_by_slices(x, g, Windows(space_of(x), shape, strides, dilation, border), groups)
    if kernel.usable or (kernel.by_channel and _has_elements(x)):
        target = [*([1] if kernel.flat else []), *shape, x.shape[-1], g.shape[-1] // groups]
        if len(shape) == 3:
            made = raw.Conv3DBackpropFilterV2(input=x, filter_sizes=target, out_backprop=g, **kernel.attrs)
        elif groups > 1:
            made = raw.DepthwiseConv2dNativeBackpropFilter(
                input=kernel.up(x, 1), filter_sizes=target, out_backprop=kernel.up(g, 1), **kernel.attrs
            )
            return tf.reshape(made, [*shape, 1, g.shape[-1]])
        else:
            made = raw.Conv2DBackpropFilter(
                input=kernel.up(x, 1), filter_sizes=target, out_backprop=kernel.up(g, 1), **kernel.attrs
            )
        made = kernel.down(made, 0)
        if not all(x.shape[1:-1]):
            # Of an image without elements the kernel for float64 leaves the gradient without a value.
            made = tf.where(tf.size(x) > 0, made, tf.zeros((), x.dtype))
        return made
    return _kernel_grad_by_slices(x, g, Windows(space_of(x), shape, strides, dilation, border), groups)


RULES: dict[Op, Rule] = {
    o.conv: in_float32(_conv),
    o.conv_input_grad: in_float32(_conv_input_grad),
    o.conv_kernel_grad: in_float32(_conv_kernel_grad),
}

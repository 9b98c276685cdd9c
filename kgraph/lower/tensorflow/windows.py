"""The rules of convolution and pooling for TensorFlow.

Its kernels are used where they mean the same; what they cannot do is made of slices, one for each tap of the windows. What is
said of kernels holds of TensorFlow 2.21 on a CPU.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import kgraph.ir.ops as o
from kgraph.ir.op import Op
from kgraph.ir.ops.windows import BORDERS, span

Rule = Callable[..., Any]
Ints = Sequence[int]
Sizes = Sequence[Any]

raw = tf.raw_ops

#: How TensorFlow calls the border modes that it has.
_PADDING = {"valid": "VALID", "same": "SAME", "full": "EXPLICIT"}
assert set(_PADDING) == set(BORDERS)


def _in_float32(rule: Rule) -> Rule:
    """A rule that computes float16 in float32."""

    def computed(x: Any, *others: Any, **attrs: Any) -> Any:
        if x.dtype != tf.float16:
            return rule(x, *others, **attrs)
        wide = [tf.cast(y, tf.float32) if y.dtype == tf.float16 else y for y in (x, *others)]
        return tf.cast(rule(*wide, **attrs), tf.float16)

    return computed


# ---------------------------------------------------------------------------------------------------- sizes


def _space(x: Any) -> list[Any]:
    """The spatial sizes of [batch, *spatial, channels]: ints, or int64 scalars where they are unknown."""
    sizes = tf.shape(x, out_type=tf.int64)
    return [sizes[axis] if x.shape[axis] is None else x.shape[axis] for axis in range(1, len(x.shape) - 1)]


def _filled(shape: Sequence[int | None], sizes: Sequence[Any]) -> list[Any]:
    rest = iter(sizes)
    return [tf.cast(next(rest), tf.int64) if entry is None else entry for entry in shape]


def _vector(sizes: Sizes) -> Any:
    if all(isinstance(size, int) for size in sizes):
        return tf.constant(list(sizes), tf.int64, [len(sizes)])
    return tf.stack([tf.cast(size, tf.int64) for size in sizes])


def _at_least(least: Any, size: Any) -> Any:
    return max(least, size) if isinstance(least, int) and isinstance(size, int) else tf.maximum(_long(least), _long(size))


def _long(size: Any) -> Any:
    return tf.constant(size, tf.int64) if isinstance(size, int) else size


def _count(n: Any, k: int, stride: int, dilation: int, border: str) -> Any:
    """How many windows there are along an axis."""
    return (n + _more(k, stride, dilation, border)) // stride


def _more(k: int, stride: int, dilation: int, border: str) -> int:
    """What is added to a size for the number of windows to be a stride's part of it, rounded down."""
    reach = span(k, dilation)
    return {"same": stride - 1, "full": reach + stride - 2, "valid": stride - reach}[border]


def _pads(n: Any, k: int, stride: int, dilation: int, border: str) -> tuple[Any, Any]:
    """The padding before and behind an axis."""
    reach = span(k, dilation)
    if border != "same":
        return (reach - 1,) * 2 if border == "full" else (0, 0)
    total = _at_least(0, (_count(n, k, stride, dilation, border) - 1) * stride + reach - n)
    return total // 2, total - total // 2


class _Windows:
    """Windows over the spatial axes of a tensor, as slices of it with its padding.

    Args:
      sizes: the spatial sizes.
    """

    def __init__(self, sizes: Sizes, taps: Ints, strides: Ints, dilation: Ints, border: str):
        self.sizes, self.taps, self.strides, self.dilation = sizes, taps, strides, dilation
        moves = list(zip(sizes, taps, strides, dilation, strict=True))
        self.counts = [_count(*each, border) for each in moves]
        self.pads = [_pads(*each, border) for each in moves]
        self.are_padded = border != "valid" and any(not isinstance(n, int) or n for pair in self.pads for n in pair)

    def padded(self, x: Any, value: float = 0.0) -> Any:
        if not self.are_padded:
            return x
        pairs = [(0, 0), *self.pads, (0, 0)]
        return tf.pad(x, tf.reshape(_vector([n for pair in pairs for n in pair]), [-1, 2]), constant_values=value)

    def slices(self) -> list[dict[str, Any]]:
        """The arguments of a strided slice for each tap, in row-major order."""
        rank = len(self.taps)
        ends = 1 | 1 << rank + 1  # the batch and the channels are whole
        found = []
        for tap in itertools.product(*map(range, self.taps)):
            begin = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            # Of no windows at all the end would lie before the begin, and below 0 count from the other end.
            end = [
                _at_least(b, b + (n - 1) * s + 1) for b, n, s in zip(begin, self.counts, self.strides, strict=True)
            ]
            found.append({
                "begin": _vector([0, *begin, 0]), "end": _vector([0, *end, 0]), "strides": _vector([1, *self.strides, 1]),
                "begin_mask": ends, "end_mask": ends,
            })  # fmt: skip
        return found

    def read(self, padded: Any) -> list[Any]:
        """What each tap reads of a padded tensor."""
        return [raw.StridedSlice(input=padded, **where) for where in self.slices()]

    def write(self, parts: Sequence[Any], batch: Any, channels: Any) -> Any:
        """Parts added up where each tap reads, in the sizes without padding."""
        sizes = [n + before + behind for n, (before, behind) in zip(self.sizes, self.pads, strict=True)]
        shape = _vector([batch, *sizes, channels])
        places = zip(self.slices(), parts, strict=True)
        total = tf.add_n([raw.StridedSliceGrad(shape=shape, dy=part, **where) for where, part in places])
        if not self.are_padded:
            return total
        begin = _vector([0, *[before for before, _ in self.pads], 0])
        return tf.slice(total, begin, _vector([batch, *self.sizes, channels]))


def _length(x: Any, axis: int) -> Any:
    return tf.shape(x, out_type=tf.int64)[axis] if x.shape[axis] is None else x.shape[axis]


# ---------------------------------------------------------------------------------------------------- convolution by slices


def _by_channel(w: Any, groups: int) -> Any:
    """[*taps, 1, filters] as [*taps, channels, filters of each]."""
    taps = w.shape[:-2]
    return tf.reshape(w, [*taps, groups, -1 if w.shape[-1] is None else w.shape[-1] // groups])


def _patches(x: Any, windows: _Windows) -> Any:
    """What the windows read, [batch, *windows, taps and channels]."""
    return tf.concat(windows.read(windows.padded(x)), -1)


def _flat(x: Any, width: Any) -> Any:
    rows = [_length(x, axis) for axis in range(len(x.shape) - 1)]
    return tf.reshape(x, _vector([_product(rows), width]))


def _product(sizes: Sizes) -> Any:
    known = math.prod([size for size in sizes if isinstance(size, int)])
    for size in sizes:
        if not isinstance(size, int):
            known = size * known
    return known


def _tap_matrices(w: Any, count: int) -> list[Any]:
    return tf.unstack(tf.reshape(w, _vector([count, _length(w, -2), _length(w, -1)])), num=count)


def _conv_by_slices(x: Any, w: Any, windows: _Windows, groups: int) -> Any:
    if groups > 1:
        kernels = tf.unstack(tf.reshape(_by_channel(w, groups), _vector([math.prod(windows.taps), groups, _each(w, groups)])))
        parts = windows.read(windows.padded(x))
        total = tf.add_n([tf.expand_dims(part, -1) * kernel for part, kernel in zip(parts, kernels, strict=True)])
        return tf.reshape(total, _vector([_length(x, 0), *windows.counts, _length(w, -1)]))
    width = _product([*windows.taps, _length(w, -2)])
    filters = _length(w, -1)
    out = tf.matmul(_flat(_patches(x, windows), width), tf.reshape(w, _vector([width, filters])))
    return tf.reshape(out, _vector([_length(x, 0), *windows.counts, filters]))


def _each(w: Any, groups: int) -> Any:
    return _length(w, -1) // groups


def _input_grad_by_slices(g: Any, w: Any, windows: _Windows, groups: int) -> Any:
    count = math.prod(windows.taps)
    batch = _length(g, 0)
    if groups > 1:
        each = _each(w, groups)
        kernels = tf.unstack(tf.reshape(_by_channel(w, groups), _vector([count, groups, each])))
        wide = tf.reshape(g, _vector([batch, *windows.counts, groups, each]))
        return windows.write([tf.reduce_sum(wide * kernel, -1) for kernel in kernels], batch, groups)
    channels = _length(w, -2)
    rows = _flat(g, _length(g, -1))
    shape = _vector([batch, *windows.counts, channels])
    parts = [tf.reshape(tf.matmul(rows, kernel, transpose_b=True), shape) for kernel in _tap_matrices(w, count)]
    return windows.write(parts, batch, channels)


def _kernel_grad_by_slices(x: Any, g: Any, windows: _Windows, groups: int) -> Any:
    filters = _length(g, -1)
    if groups > 1:
        each = filters // groups
        wide = tf.reshape(g, _vector([_length(g, 0), *windows.counts, groups, each]))
        axes = list(range(len(windows.taps) + 1))
        parts = [tf.reduce_sum(tf.expand_dims(part, -1) * wide, axes) for part in windows.read(windows.padded(x))]
        return tf.reshape(tf.stack(parts), _vector([*windows.taps, 1, filters]))
    width = _product([*windows.taps, _length(x, -1)])
    out = tf.matmul(_flat(_patches(x, windows), width), _flat(g, filters), transpose_a=True)
    return tf.reshape(out, _vector([*windows.taps, _length(x, -1), filters]))


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
            "padding": _PADDING[border],
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
    if kernel.usable and len(taps) == 3:
        return raw.Conv3D(input=x, filter=w, **kernel.attrs)
    if kernel.usable:
        made = kernel.down(raw.Conv2D(input=kernel.up(x, 1), filter=kernel.up(w, 0), **kernel.attrs), 1)
        return made if all(x.shape[:-1]) else _of_conv_shape(made, x, taps, strides, dilation, border)
    if kernel.by_channel and _has_elements(x):
        filters = kernel.up(_by_channel(w, groups), 0)
        return kernel.down(raw.DepthwiseConv2dNative(input=kernel.up(x, 1), filter=filters, **kernel.attrs), 1)
    return _conv_by_slices(x, w, _Windows(_space(x), taps, strides, dilation, border), groups)


def _of_conv_shape(made: Any, x: Any, taps: Ints, strides: Ints, dilation: Ints, border: str) -> Any:
    """A convolution, which oneDNN gives the shape of x where x is empty."""
    more = [_more(k, s, d, border) for k, s, d in zip(taps, strides, dilation, strict=True)]
    kept = np.array([1] * (len(taps) + 1) + [0])
    sizes = tf.shape(x, out_type=tf.int64) * kept + np.array([0, *more, made.shape[-1]])
    return tf.reshape(made, sizes // np.array([1, *strides, 1]))


def _has_elements(x: Any) -> bool:
    """Whether no axis is known to be empty, or may be but for the batch: some kernels leave results without a value then."""
    return x.shape[0] != 0 and all(x.shape[1:])


def _conv_input_grad(
    g: Any, w: Any, *sizes: Any, shape: Sequence[int | None], strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    taps = w.shape[:-2].as_list()
    space = _filled(shape, sizes)
    kernel = _Kernel(w.shape[-2], w.shape[-1], taps, strides, dilation, border, groups, back=True)
    if kernel.usable or (kernel.by_channel and all(isinstance(n, int) and n for n in space) and g.shape[0] != 0):
        channels = groups if groups > 1 else w.shape[-2]
        target = tf.cast(_vector([_length(g, 0), *([1] if kernel.flat else []), *space, channels]), tf.int32)
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
    return _input_grad_by_slices(g, w, _Windows(space, taps, strides, dilation, border), groups)


def _conv_kernel_grad(
    x: Any, g: Any, *, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    kernel = _Kernel(x.shape[-1], g.shape[-1], shape, strides, dilation, border, groups, back=True)
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
    return _kernel_grad_by_slices(x, g, _Windows(_space(x), shape, strides, dilation, border), groups)


# ---------------------------------------------------------------------------------------------------- pooling


def _once(x: Any, key: Any, make: Callable[[], Any]) -> Any:
    """What is made of x once in its graph: a gradient takes what the pooling before it has made."""
    held = x.graph.get_collection_ref("kgraph_windows")
    if not held:
        held.append({})
    kept: dict[Any, Any] = held[0]
    if (x.name, key) not in kept:
        kept[x.name, key] = make()
    return kept[x.name, key]


def _plain(x: Any) -> Any:
    """Whether the kernels for the maximum can be used: x has elements, and all are finite. They take NaN for the least number,
    and that for -infinity. (A sum that overflows only makes what follows slower.)"""

    def make() -> Any:
        finite = tf.math.is_finite(tf.reduce_sum(x))
        return finite if all(x.shape) else tf.logical_and(finite, tf.size(x) > 0)

    return _once(x, "plain", make)


def _pool_attrs(size: Ints, strides: Ints, border: str) -> dict[str, Any]:
    lead = [1] if len(size) == 1 else []
    attrs: dict[str, Any] = {
        "ksize": [1, *lead, *size, 1], "strides": [1, *lead, *strides, 1], "padding": _PADDING[border],
    }  # fmt: skip
    if border == "full":
        attrs["explicit_paddings"] = [0, 0, *(0 for _ in lead * 2), *[k - 1 for k in size for _ in (0, 1)], 0, 0]
    return attrs


def _native_max(x: Any, size: Ints, strides: Ints, border: str) -> tuple[Any, Any]:
    """The operand and the result of TensorFlow's kernel, with two spatial axes at least."""
    attrs = _pool_attrs(size, strides, border)

    def make() -> Any:
        up = tf.expand_dims(x, 1) if len(size) == 1 else x
        if not all(x.shape):
            # The kernel of the gradient ends the process where there are no elements.
            least = np.array(attrs["ksize"])
            given = up
            up = tf.cond(tf.size(x) > 0, lambda: given, lambda: tf.zeros(tf.maximum(tf.shape(given), least), x.dtype))
            up.set_shape([None if n == 0 else n for n in given.shape])
        return up, raw.MaxPool(input=up, **attrs)

    made: tuple[Any, Any] = _once(x, ("max", *size, *strides, border), make)
    return made


def _max_by_slices(x: Any, windows: _Windows) -> Any:
    parts = windows.read(windows.padded(x, -np.inf))
    for part in parts[1:]:
        parts[0] = tf.maximum(parts[0], part)
    return tf.identity(parts[0])


def _max_pool(x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    if len(size) == 3 or not _may_be_pooled(x):
        return _max_by_slices(x, _pool_windows(x, size, strides, border))
    _, native = _native_max(x, size, strides, border)
    return tf.cond(
        _plain(x),
        lambda: tf.squeeze(native, [1]) if len(size) == 1 else tf.identity(native),
        lambda: _max_by_slices(x, _pool_windows(x, size, strides, border)),
    )


def _may_be_pooled(x: Any) -> bool:
    """Whether no axis is known to be empty."""
    return all(size != 0 for size in x.shape)


def _pool_windows(x: Any, size: Ints, strides: Ints, border: str) -> _Windows:
    return _Windows(_space(x), size, strides, (1,) * len(size), border)


def _maxima(x: Any, windows: _Windows) -> list[Any]:
    """For each tap, in which windows it is the first maximum."""
    top = _max_by_slices(x, windows)
    real: list[Any] = [None] * math.prod(windows.taps)
    if windows.are_padded:
        real = windows.read(windows.padded(tf.ones(_vector([1, *windows.sizes, 1]), tf.float32)))
    found: list[Any] = []
    before: Any = None
    for part, inside in zip(windows.read(windows.padded(x, -np.inf)), real, strict=True):
        here = tf.logical_or(tf.equal(part, top), tf.math.is_nan(part))
        if inside is not None:
            here = tf.logical_and(here, inside > 0)
        found.append(here if before is None else tf.logical_and(here, tf.logical_not(before)))
        before = here if before is None else tf.logical_or(before, here)
    return found


def _max_grad_by_slices(g: Any, x: Any, windows: _Windows) -> Any:
    zero = tf.zeros((), g.dtype)
    parts = [tf.where(here, g, zero) for here in _maxima(x, windows)]
    return windows.write(parts, _length(x, 0), _length(x, -1))


def _max_pool_grad(g: Any, x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    # The kernel for three axes gives each of several maxima the gradient.
    if len(size) == 3 or not _may_be_pooled(x):
        return _max_grad_by_slices(g, x, _pool_windows(x, size, strides, border))
    flat = len(size) == 1
    up, top = _native_max(x, size, strides, border)
    given = tf.expand_dims(g, 1) if flat else g
    if not all(x.shape):
        wide = given
        given = tf.cond(tf.size(x) > 0, lambda: wide, lambda: tf.zeros_like(top))
    # Outside of the branch: beside the kernel that has found the maximum, oneDNN takes a tenth of the time.
    native = raw.MaxPoolGrad(orig_input=up, orig_output=top, grad=given, **_pool_attrs(size, strides, border))
    return tf.cond(
        _plain(x),
        lambda: tf.squeeze(native, [1]) if flat else tf.identity(native),
        lambda: _max_grad_by_slices(g, x, _pool_windows(x, size, strides, border)),
    )


def _max_pool_pick(h: Any, x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    windows = _pool_windows(x, size, strides, border)
    zero = tf.zeros((), h.dtype)
    parts = zip(_maxima(x, windows), windows.read(windows.padded(h)), strict=True)
    return tf.add_n([tf.where(here, part, zero) for here, part in parts])


def _elements(windows: _Windows, dtype: Any) -> Any:
    """How many elements are under each window."""
    return tf.add_n(windows.read(windows.padded(tf.ones(_vector([1, *windows.sizes, 1]), dtype))))


def _averaged_by_slices(x: Any, size: Ints, border: str) -> bool:
    """Whether there is no kernel for the mean: of three axes there is one for float32 alone."""
    return border == "full" or not _may_be_pooled(x) or (len(size) == 3 and x.dtype != tf.float32)


def _avg_pool(x: Any, *, size: Ints, strides: Ints, border: str) -> Any:
    if _averaged_by_slices(x, size, border):
        windows = _pool_windows(x, size, strides, border)
        return tf.add_n(windows.read(windows.padded(x))) / _elements(windows, x.dtype)
    attrs = _pool_attrs(size, strides, border)
    if len(size) == 3:
        return raw.AvgPool3D(input=x, **attrs)
    if len(size) == 1:
        return tf.squeeze(raw.AvgPool(value=tf.expand_dims(x, 1), **attrs), [1])
    return raw.AvgPool(value=x, **attrs)


def _avg_pool_grad(
    g: Any, *sizes: Any, shape: Sequence[int | None], size: Ints, strides: Ints, border: str
) -> Any:
    space = _filled(shape, sizes)
    batch, channels = _length(g, 0), _length(g, -1)
    if _averaged_by_slices(g, size, border) or g.shape[-1] is None:  # the kernel refuses to have no channels
        windows = _Windows(space, size, strides, (1,) * len(size), border)
        part = g / _elements(windows, g.dtype)
        return windows.write([part] * math.prod(size), batch, channels)
    target = tf.cast(_vector([batch, *([1] if len(size) == 1 else []), *space, channels]), tf.int32)
    attrs = _pool_attrs(size, strides, border)
    if len(size) == 3:
        return raw.AvgPool3DGrad(orig_input_shape=target, grad=g, **attrs)
    if len(size) == 1:
        return tf.squeeze(raw.AvgPoolGrad(orig_input_shape=target, grad=tf.expand_dims(g, 1), **attrs), [1])
    return raw.AvgPoolGrad(orig_input_shape=target, grad=g, **attrs)


RULES: dict[Op, Rule] = {
    o.conv: _in_float32(_conv),
    o.conv_input_grad: _in_float32(_conv_input_grad),
    o.conv_kernel_grad: _in_float32(_conv_kernel_grad),
    o.max_pool: _max_pool,
    o.max_pool_grad: _in_float32(_max_pool_grad),
    o.max_pool_pick: _max_pool_pick,
    o.avg_pool: _in_float32(_avg_pool),
    o.avg_pool_grad: _in_float32(_avg_pool_grad),
}

"""The rules of pooling for TensorFlow.

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
from kgraph.lower.tensorflow.checks import by_xla, once
from kgraph.lower.tensorflow.extremes import larger
from kgraph.lower.tensorflow.windows import PADDING, Ints, Rule, Windows, filled, in_float32, length, space_of, vector

raw = tf.raw_ops


def _plain(x: Any) -> Any:
    """Whether the kernels for the maximum can be used: x has elements, and all are finite. They take NaN for the least number,
    and that for -infinity. (A sum that overflows only makes what follows slower.)"""

    def make() -> Any:
        finite = tf.math.is_finite(tf.reduce_sum(x))
        return finite if all(x.shape) else tf.logical_and(finite, tf.size(x) > 0)

    return once(x, "plain", make)


def _pool_attrs(size: Ints, strides: Ints, border: str) -> dict[str, Any]:
    lead = [1] if len(size) == 1 else []
    attrs: dict[str, Any] = {
        "ksize": [1, *lead, *size, 1], "strides": [1, *lead, *strides, 1], "padding": PADDING[border],
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

    made: tuple[Any, Any] = once(x, ("max", *size, *strides, border), make)
    return made


def _max_by_slices(x: Any, windows: Windows) -> Any:
    parts = windows.read(windows.padded(x, -np.inf))
    top = tf.identity(parts[0])
    for part in parts[1:]:
        top = larger(top, part)
    return top


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
    """Whether no axis is known to be empty. (XLA fuses slices itself; it finds a window where there are no elements.)"""
    return all(size != 0 for size in x.shape) and not by_xla()


def _pool_windows(x: Any, size: Ints, strides: Ints, border: str) -> Windows:
    return Windows(space_of(x), size, strides, (1,) * len(size), border)


def _maxima(x: Any, windows: Windows) -> list[Any]:
    """For each tap, in which windows it is the first maximum."""
    top = _max_by_slices(x, windows)
    real: list[Any] = [None] * math.prod(windows.taps)
    if windows.are_padded:
        real = windows.read(windows.padded(tf.ones(vector([1, *windows.sizes, 1]), tf.float32)))
    found: list[Any] = []
    before: Any = None
    for part, inside in zip(windows.read(windows.padded(x, -np.inf)), real, strict=True):
        here = tf.logical_or(tf.equal(part, top), tf.math.is_nan(part))
        if inside is not None:
            here = tf.logical_and(here, inside > 0)
        found.append(here if before is None else tf.logical_and(here, tf.logical_not(before)))
        before = here if before is None else tf.logical_or(before, here)
    return found


def _max_grad_by_slices(g: Any, x: Any, windows: Windows) -> Any:
    zero = tf.zeros((), g.dtype)
    parts = [tf.where(here, g, zero) for here in _maxima(x, windows)]
    return windows.write(parts, length(x, 0), length(x, -1))


def _max_pool_grad(g: Any, x: Any, *tops: Any, size: Ints, strides: Ints, border: str) -> Any:
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


def _elements(windows: Windows, dtype: Any) -> Any:
    """How many elements are under each window."""
    return tf.add_n(windows.read(windows.padded(tf.ones(vector([1, *windows.sizes, 1]), dtype))))


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
    space = filled(shape, sizes)
    batch, channels = length(g, 0), length(g, -1)
    if _averaged_by_slices(g, size, border) or g.shape[-1] is None:  # the kernel refuses to have no channels
        windows = Windows(space, size, strides, (1,) * len(size), border)
        part = g / _elements(windows, g.dtype)
        return windows.write([part] * math.prod(size), batch, channels)
    target = tf.cast(vector([batch, *([1] if len(size) == 1 else []), *space, channels]), tf.int32)
    attrs = _pool_attrs(size, strides, border)
    if len(size) == 3:
        return raw.AvgPool3DGrad(orig_input_shape=target, grad=g, **attrs)
    if len(size) == 1:
        return tf.squeeze(raw.AvgPoolGrad(orig_input_shape=target, grad=tf.expand_dims(g, 1), **attrs), [1])
    return raw.AvgPoolGrad(orig_input_shape=target, grad=g, **attrs)


RULES: dict[Op, Rule] = {
    o.max_pool: _max_pool,
    o.max_pool_grad: in_float32(_max_pool_grad),
    o.max_pool_pick: _max_pool_pick,
    o.avg_pool: in_float32(_avg_pool),
    o.avg_pool_grad: in_float32(_avg_pool_grad),
}

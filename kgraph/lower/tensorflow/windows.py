"""Windows over the spatial axes of TensorFlow's tensors, as slices: one for each tap, in sizes that may be unknown."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from kgraph.ir.ops.windows import BORDERS, span

Rule = Callable[..., Any]
Ints = Sequence[int]
Sizes = Sequence[Any]

raw = tf.raw_ops

#: How TensorFlow calls the border modes that it has.
PADDING = {"valid": "VALID", "same": "SAME", "full": "EXPLICIT"}
assert set(PADDING) == set(BORDERS)


def in_float32(rule: Rule) -> Rule:
    """A rule that computes float16 in float32."""

    def computed(x: Any, *others: Any, **attrs: Any) -> Any:
        if x.dtype != tf.float16:
            return rule(x, *others, **attrs)
        wide = [tf.cast(y, tf.float32) if y.dtype == tf.float16 else y for y in (x, *others)]
        return tf.cast(rule(*wide, **attrs), tf.float16)

    return computed


# ---------------------------------------------------------------------------------------------------- sizes


def space_of(x: Any) -> list[Any]:
    """The spatial sizes of [batch, *spatial, channels]: ints, or int64 scalars where they are unknown."""
    sizes = tf.shape(x, out_type=tf.int64)
    return [sizes[axis] if x.shape[axis] is None else x.shape[axis] for axis in range(1, len(x.shape) - 1)]


def filled(shape: Sequence[int | None], sizes: Sequence[Any]) -> list[Any]:
    rest = iter(sizes)
    return [tf.cast(next(rest), tf.int64) if entry is None else entry for entry in shape]


def vector(sizes: Sizes) -> Any:
    if all(isinstance(size, int) for size in sizes):
        return tf.constant(list(sizes), tf.int64, [len(sizes)])
    return tf.stack([tf.cast(size, tf.int64) for size in sizes])


def _at_least(least: Any, size: Any) -> Any:
    return max(least, size) if isinstance(least, int) and isinstance(size, int) else tf.maximum(_long(least), _long(size))


def _long(size: Any) -> Any:
    return tf.constant(size, tf.int64) if isinstance(size, int) else size


def _count(n: Any, k: int, stride: int, dilation: int, border: str) -> Any:
    """How many windows there are along an axis."""
    return (n + more_of(k, stride, dilation, border)) // stride


def more_of(k: int, stride: int, dilation: int, border: str) -> int:
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


class Windows:
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
        return tf.pad(x, tf.reshape(vector([n for pair in pairs for n in pair]), [-1, 2]), constant_values=value)

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
                "begin": vector([0, *begin, 0]), "end": vector([0, *end, 0]), "strides": vector([1, *self.strides, 1]),
                "begin_mask": ends, "end_mask": ends,
            })  # fmt: skip
        return found

    def read(self, padded: Any) -> list[Any]:
        """What each tap reads of a padded tensor."""
        return [raw.StridedSlice(input=padded, **where) for where in self.slices()]

    def write(self, parts: Sequence[Any], batch: Any, channels: Any) -> Any:
        """Parts added up where each tap reads, in the sizes without padding."""
        sizes = [n + before + behind for n, (before, behind) in zip(self.sizes, self.pads, strict=True)]
        shape = vector([batch, *sizes, channels])
        places = zip(self.slices(), parts, strict=True)
        total = tf.add_n([raw.StridedSliceGrad(shape=shape, dy=part, **where) for where, part in places])
        if not self.are_padded:
            return total
        begin = vector([0, *[before for before, _ in self.pads], 0])
        return tf.slice(total, begin, vector([batch, *self.sizes, channels]))


def length(x: Any, axis: int) -> Any:
    return tf.shape(x, out_type=tf.int64)[axis] if x.shape[axis] is None else x.shape[axis]

"""Where the windows of a convolution or a pooling lie along the spatial axes: sizes, padding, and what each tap reads.

A window has ``k`` taps, ``dilation`` apart; windows begin ``stride`` apart. Border modes are those of Keras:

- valid: windows lie within the ``n`` elements; there are ceil((n - span + 1) / stride), with span = (k - 1) dilation + 1.
- same: there are ceil(n / stride); the odd element of padding is at the end.
- full: every window that covers an element; span - 1 elements of padding at each side.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from kgraph.errors import ArgumentError, DTypeError, ShapeError
from kgraph.ir.types import Shape, Size, TensorType, same_size, show_shape

BORDERS = ("valid", "same", "full")

#: Of one tap along one axis: its number, the windows for which it lies on an element, and these elements.
Tap = tuple[int, slice, slice]

#: Of one tap of a window: its numbers, the windows of an output [batch, *spatial, channels], the elements of an input.
Reading = tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]


def span(k: int, dilation: int) -> int:
    """From the first tap of a window to its last."""
    return (k - 1) * dilation + 1


def window_count(n: int, k: int, stride: int, dilation: int, border: str) -> int:
    """How many windows there are along an axis of n elements. Raises ShapeError if none fits within them."""
    reach = span(k, dilation)
    if border == "same":
        return -(-n // stride)
    if border == "full":
        return -(-(n + reach - 1) // stride)
    if n < reach:
        spread = f" ({reach} with a dilation of {dilation})" if dilation > 1 else ""
        raise ShapeError(
            f"a window of {k}{spread} does not fit within {n} elements", hint="border_mode='same' pads what is too short"
        )
    return (n - reach) // stride + 1


def padding(n: int, k: int, stride: int, dilation: int, border: str) -> tuple[int, int]:
    """The zeros before and behind the n elements of an axis."""
    reach = span(k, dilation)
    if border == "valid":
        return 0, 0
    if border == "full":
        return reach - 1, reach - 1
    total = max((-(-n // stride) - 1) * stride + reach - n, 0)
    return total // 2, total - total // 2


def window_counts(
    sizes: Shape, taps: Sequence[int], strides: Sequence[int], dilation: Sequence[int], border: str
) -> tuple[Size, ...]:
    """`window_count` along each axis; None where the size is unknown."""
    return tuple(
        [
            None if n is None else window_count(n, k, s, d, border)
            for n, k, s, d in zip(sizes, taps, strides, dilation, strict=True)
        ]
    )


@functools.lru_cache(4096)
def taps_along(n: int, k: int, stride: int, dilation: int, border: str) -> tuple[Tap, ...]:
    """The taps along one axis that lie on an element in some window."""
    count = window_count(n, k, stride, dilation, border)
    before, _ = padding(n, k, stride, dilation, border)
    found = []
    for tap in range(k):
        at = tap * dilation - before  # what the tap of the first window reads
        first, last = max(0, -(at // stride)), min(count, (n - 1 - at) // stride + 1)
        if first < last:
            start = first * stride + at
            found.append((tap, slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)))
    return tuple(found)


def readings(
    sizes: Sequence[int], taps: Sequence[int], strides: Sequence[int], dilation: Sequence[int], border: str
) -> Iterator[Reading]:
    """The taps of the windows, in row-major order."""
    axes = [taps_along(n, k, s, d, border) for n, k, s, d in zip(sizes, taps, strides, dilation, strict=True)]
    every = slice(None)
    for row in itertools.product(*axes):
        yield tuple([t for t, _, _ in row]), (every, *[w for _, w, _ in row]), (every, *[e for _, _, e in row])


def real_elements(n: int, k: int, stride: int, border: str) -> list[int]:
    """How many of the taps of each window along one axis are no padding."""
    before, _ = padding(n, k, stride, 1, border)
    starts = [i * stride - before for i in range(window_count(n, k, stride, 1, border))]
    return [min(start + k, n) - max(start, 0) for start in starts]


# ---------------------------------------------------------------------------------------------------- what type rules share


def spatial(x: TensorType, name: str) -> Shape:
    """The spatial sizes of [batch, *spatial, channels]. Raises DTypeError, ShapeError."""
    if not x.is_float:
        raise DTypeError(f"{name} is {x.dtype}, not float", hint="cast it with K.cast")
    if not 3 <= x.ndim <= 5:
        raise ShapeError(f"{name} has {x.ndim} axes, not a batch, 1 to 3 of space, and channels")
    return x.shape[1:-1]


def check_moves(rank: int, border: str, **moves: Sequence[int]) -> None:
    """A border mode, and for each spatial axis a size, stride or dilation. Raises ArgumentError, ShapeError."""
    if border not in BORDERS:
        raise ArgumentError(f"the border mode is {border!r}; it is one of {', '.join(map(repr, BORDERS))}")
    for name, values in moves.items():
        if len(values) != rank or min(values) < 1:
            raise ShapeError(f"{name} is {tuple(values)}, not {rank} positive numbers, one for each spatial axis")


def check_windows(given: Shape, wanted: Shape, name: str) -> None:
    """The spatial sizes of a cotangent are the numbers of windows. Raises ShapeError."""
    if not all(map(same_size, given, wanted)):
        raise ShapeError(f"{name} is {show_shape(given)} in space, where there are {show_shape(wanted)} windows")


def in_float32(x: Any) -> Any:
    """float16 is computed in float32."""
    return x.astype("float32") if x.dtype.char == "e" else x


def chunks(batch: int, rows: int, row_bytes: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """A batch of so many rows cut into pieces of about budget bytes: whole samples, or else rows of one sample."""
    sample = rows * row_bytes
    if sample <= budget:
        step = budget // max(sample, 1)
        for start in range(0, batch, step):
            yield slice(start, min(start + step, batch)), slice(0, rows)
        return
    step = max(1, budget // row_bytes)
    for at in range(batch):
        for start in range(0, rows, step):
            yield slice(at, at + 1), slice(start, min(start + step, rows))

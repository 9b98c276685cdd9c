"""Convolution and pooling in plain loops over windows and taps: what the functions that do it otherwise are compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Ints = Sequence[int]


def windows(n: int, k: int, stride: int, dilation: int, border: str) -> list[list[int | None]]:
    """What each window along an axis of n elements reads, tap by tap; None is padding."""
    span = dilation * (k - 1) + 1
    if border == "valid":
        before, count = 0, math.ceil((n - span + 1) / stride)
    elif border == "full":
        before, count = span - 1, math.ceil((n + 2 * (span - 1) - span + 1) / stride)
    else:
        count = math.ceil(n / stride)
        before = max((count - 1) * stride + span - n, 0) // 2
    found: list[list[int | None]] = []
    for i in range(count):
        places = [i * stride + t * dilation - before for t in range(k)]
        found.append([at if 0 <= at < n else None for at in places])
    return found


def taps(
    sizes: Ints, window: Ints, strides: Ints, dilation: Ints, border: str
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Each (place of a window, number of a tap, element that it reads) that is no padding, in row-major order."""
    axes = [windows(*each, border) for each in zip(sizes, window, strides, dilation, strict=True)]
    for place in np.ndindex(*map(len, axes)):
        rows = [axis[i] for axis, i in zip(axes, place, strict=True)]
        for tap in itertools.product(*[range(len(row)) for row in rows]):
            element = [row[t] for row, t in zip(rows, tap, strict=True)]
            if None not in element:
                yield place, tap, tuple(element)  # type: ignore[arg-type]


def counts(sizes: Ints, window: Ints, strides: Ints, dilation: Ints, border: str) -> list[int]:
    return [len(windows(*each, border)) for each in zip(sizes, window, strides, dilation, strict=True)]


def spread(w: Array, groups: int) -> Array:
    """A kernel whose channels have filters of their own as one that has zeros for the others."""
    if groups == 1:
        return w
    each = w.shape[-1] // groups
    out = np.zeros((*w.shape[:-2], groups, w.shape[-1]))
    for f in range(w.shape[-1]):
        out[..., f // each, f] = w[..., 0, f]
    return out


def conv(x: Array, w: Array, strides: Ints, dilation: Ints, border: str, groups: int = 1) -> Array:
    w = spread(w, groups)
    how = x.shape[1:-1], w.shape[:-2], strides, dilation, border
    out = np.zeros((x.shape[0], *counts(*how), w.shape[-1]))
    for place, tap, element in taps(*how):
        for b in range(x.shape[0]):
            out[(b, *place)] += x[(b, *element)] @ w[tap]
    return out


def conv_input_grad(g: Array, w: Array, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int = 1) -> Array:
    w = spread(w, groups)
    out = np.zeros((g.shape[0], *shape, w.shape[-2]))
    for place, tap, element in taps(shape, w.shape[:-2], strides, dilation, border):
        for b in range(g.shape[0]):
            out[(b, *element)] += w[tap] @ g[(b, *place)]
    return out


def conv_kernel_grad(x: Array, g: Array, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int = 1) -> Array:
    out = np.zeros((*shape, x.shape[-1], g.shape[-1]))
    for place, tap, element in taps(x.shape[1:-1], shape, strides, dilation, border):
        for b in range(x.shape[0]):
            out[tap] += np.outer(x[(b, *element)], g[(b, *place)])
    if groups == 1:
        return out
    each = g.shape[-1] // groups
    return np.stack([out[..., f // each, f] for f in range(g.shape[-1])], -1)[..., None, :]


def covered(x: Array, size: Ints, strides: Ints, border: str) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Each (place in the pooled array, the elements under its window), with batch and channel."""
    under: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for place, _, element in taps(x.shape[1:-1], size, strides, [1] * len(size), border):
        under.setdefault(place, []).append(element)
    for place, elements in under.items():
        for b, c in np.ndindex(x.shape[0], x.shape[-1]):
            yield (b, *place, c), [(b, *element, c) for element in elements]


def pooled(x: Array, size: Ints, strides: Ints, border: str) -> Array:
    return np.zeros((x.shape[0], *counts(x.shape[1:-1], size, strides, [1] * len(size), border), x.shape[-1]))


def first_maximum(x: Array, elements: list[tuple[int, ...]]) -> tuple[int, ...]:
    return elements[int(np.argmax([x[at] for at in elements]))]


def max_pool(x: Array, size: Ints, strides: Ints, border: str) -> Array:
    return max_pool_pick(x, x, size, strides, border)


def max_pool_pick(h: Array, x: Array, size: Ints, strides: Ints, border: str) -> Array:
    out = pooled(x, size, strides, border)
    for place, elements in covered(x, size, strides, border):
        out[place] = h[first_maximum(x, elements)]
    return out


def max_pool_grad(g: Array, x: Array, size: Ints, strides: Ints, border: str) -> Array:
    out = np.zeros(x.shape)
    for place, elements in covered(x, size, strides, border):
        out[first_maximum(x, elements)] += g[place]
    return out


def avg_pool(x: Array, size: Ints, strides: Ints, border: str) -> Array:
    out = pooled(x, size, strides, border)
    for place, elements in covered(x, size, strides, border):
        out[place] = sum(x[at] for at in elements) / len(elements)
    return out


def avg_pool_grad(g: Array, shape: Ints, size: Ints, strides: Ints, border: str) -> Array:
    out = np.zeros((g.shape[0], *shape, g.shape[-1]))
    for place, elements in covered(out, size, strides, border):
        for at in elements:
            out[at] += g[place] / len(elements)
    return out

"""The sides of `benchmarks.layers` that are written by hand in NumPy: all patches laid out, and one product of matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Call = Callable[..., Sequence[Any]]


def _given(results: Sequence[np.ndarray], sums: bool) -> list[Any]:
    return [x.sum() for x in results] if sums else list(results)


def conv(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    how = layer.how
    taps, s, filters = how["kernel"], how["stride"], how["filters"]
    n = how["image"][1]
    pad = (taps - 1) // 2 if how["border"] == "same" else 0  # of stride 1, and odd kernels
    batch, channels = how["image"][0], how["image"][-1]

    def call(x: np.ndarray, w: np.ndarray) -> list[Any]:
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))) if pad else x
        matrix = w.reshape(-1, filters)
        windows = sliding_window_view(padded, (taps, taps), (1, 2))[:, ::s, ::s].transpose(0, 1, 2, 4, 5, 3)
        rows, columns = windows.shape[1:3]
        patches = windows.reshape(-1, taps * taps * channels)
        out = patches @ matrix
        if not layer.back:
            return _given([out.reshape(batch, rows, columns, filters)], sums)
        g = 2 * out
        gw = (patches.T @ g).reshape(w.shape)
        back = (g @ matrix.T).reshape(batch, rows, columns, taps, taps, channels)
        gx = np.zeros_like(padded)
        for i in range(taps):
            for j in range(taps):
                gx[:, i : i + rows * s : s, j : j + columns * s : s] += back[:, :, :, i, j]
        return _given([gx[:, pad : pad + n, pad : pad + n], gw], sums)

    return call


def pool(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    """Windows side by side, two by two."""
    is_max = layer.how["mode"] == "max"
    places = [(slice(None), slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)]

    def call(x: np.ndarray) -> list[Any]:
        a, b, c, d = (x[place] for place in places)
        out = np.maximum(np.maximum(a, b), np.maximum(c, d)) if is_max else (a + b + c + d) * np.float32(0.25)
        if not layer.back:
            return _given([out], sums)
        g = 2 * out
        gx = np.empty_like(x)
        if is_max:
            waiting = np.ones(out.shape, bool)
            for place in places:
                here = (x[place] == out) & waiting
                waiting ^= here
                gx[place] = g * here
        else:
            g *= np.float32(0.25)
            for place in places:
                gx[place] = g
        return _given([gx], sums)

    return call

"""The sides of `benchmarks.layers` that are written by hand in NumPy: all patches laid out, and one product of matrices;
an LSTM whose input is projected at once, whose gates are one product, and whose activations are kept for the way back.
"""

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


def lstm(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    how = layer.how
    n, steps, units = how["batch"], how["steps"], how["units"]
    third = 3 * units

    def call(x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray) -> list[Any]:
        rows = x.transpose(1, 0, 2).reshape(steps * n, -1)
        gates = (rows @ w + b).reshape(steps, n, 4 * units)
        hidden = np.zeros((steps + 1, n, units), x.dtype)  # as each step finds them
        cells = np.zeros((steps + 1, n, units), x.dtype)
        squashed = np.empty((steps, n, units), x.dtype)
        for t in range(steps):
            z = gates[t]
            z += hidden[t] @ u
            s, g = z[:, :third], z[:, third:]
            np.negative(s, s)
            np.exp(s, s)
            s += 1
            np.reciprocal(s, s)
            np.tanh(g, g)
            f, i, o = s[:, :units], s[:, units : 2 * units], s[:, 2 * units :]
            np.multiply(f, cells[t], cells[t + 1])
            cells[t + 1] += i * g
            np.tanh(cells[t + 1], squashed[t])
            np.multiply(o, squashed[t], hidden[t + 1])
        out = hidden[1:].transpose(1, 0, 2)
        if not layer.back:
            return _given([out], sums)
        dgates = np.empty_like(gates)
        dc = np.zeros((n, units), x.dtype)
        dh = np.zeros((n, units), x.dtype)
        for t in reversed(range(steps)):
            z, d, tanh_c = gates[t], dgates[t], squashed[t]
            f, i, o, g = (z[:, j * units : (j + 1) * units] for j in range(4))
            dh += 2 * hidden[t + 1]
            dc += dh * o * (1 - tanh_c * tanh_c)
            np.multiply(dc, cells[t], d[:, :units])
            np.multiply(dc, g, d[:, units : 2 * units])
            np.multiply(dh, tanh_c, d[:, 2 * units : third])
            np.multiply(dc, i, d[:, third:])
            s = z[:, :third]
            d[:, :third] *= s * (1 - s)
            d[:, third:] *= 1 - g * g
            dc *= f
            dh = d @ u.T
        flat = dgates.reshape(steps * n, -1)
        return _given([rows.T @ flat, hidden[:-1].reshape(steps * n, -1).T @ flat, flat.sum(0)], sums)

    return call

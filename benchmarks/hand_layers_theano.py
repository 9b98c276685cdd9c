"""The sides of `benchmarks.layers` that are written by hand in Theano, in its own layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.hand_theano import T, theano

Call = Callable[..., Sequence[Any]]


def _callable(operands: list[Any], out: Any, back: bool, sums: bool, wrt: list[Any] | None = None) -> Call:
    found = theano.grad(T.sqr(out).sum(), wrt or operands) if back else [out]
    function = theano.function(operands, [x.sum() for x in found] if sums else found)
    function.trust_input = True
    return function  # type: ignore[no-any-return]


def conv(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    x, w = T.ftensor4("x"), T.ftensor4("w")
    border = "half" if layer.how["border"] == "same" else "valid"  # of stride 1, and odd kernels
    shapes = values[0].shape, values[1].shape
    out = T.nnet.conv2d(x, w, *shapes, border, (layer.how["stride"],) * 2, filter_flip=False)
    return _callable([x, w], out, layer.back, sums)


def pool(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    from theano.tensor.signal.pool import pool_2d

    x = T.ftensor4("x")
    mode = "max" if layer.how["mode"] == "max" else "average_exc_pad"
    out = pool_2d(x, (layer.how["size"],) * 2, ignore_border=True, stride=(layer.how["stride"],) * 2, mode=mode)
    return _callable([x], out, layer.back, sums)


def lstm(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    how = layer.how
    n, steps, units = how["batch"], how["steps"], how["units"]
    x, w, u, b = T.ftensor3("x"), T.fmatrix("w"), T.fmatrix("u"), T.fvector("b")
    projected = T.dot(x.dimshuffle(1, 0, 2).reshape((steps * n, how["features"])), w) + b

    def step(given: Any, h: Any, c: Any, u: Any) -> list[Any]:
        gates = given + T.dot(h, u)
        s = T.nnet.sigmoid(gates[:, : 3 * units])
        c = s[:, :units] * c + s[:, units : 2 * units] * T.tanh(gates[:, 3 * units :])
        return [s[:, 2 * units :] * T.tanh(c), c]

    nothing = T.zeros((n, units), "float32")
    (out, _), _ = theano.scan(step, [projected.reshape((steps, n, 4 * units))], [nothing, nothing], [u], strict=True)
    return _callable([x, w, u, b], out.dimshuffle(1, 0, 2), layer.back, sums, [w, u, b])

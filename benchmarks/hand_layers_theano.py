"""The sides of `benchmarks.layers` that are written by hand in Theano, in its own layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.hand_theano import T, theano

Call = Callable[..., Sequence[Any]]


def _callable(operands: list[Any], out: Any, back: bool, sums: bool) -> Call:
    found = theano.grad(T.sqr(out).sum(), operands) if back else [out]
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

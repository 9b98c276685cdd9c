"""The sides of `benchmarks.layers` that are written by hand in TensorFlow as its version 1 was used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.hand_tensorflow import tf, v1

Call = Callable[..., Sequence[Any]]


def _callable(operands: list[Any], out: Any, back: bool, sums: bool) -> Call:
    found = tf.gradients(tf.reduce_sum(tf.square(out)), operands) if back else [out]
    session = v1.Session()
    return session.make_callable([tf.reduce_sum(x) for x in found] if sums else found, operands)  # type: ignore[no-any-return]


def conv(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    with tf.Graph().as_default():
        x, w = (v1.placeholder(tf.float32, value.shape) for value in values)
        out = tf.nn.conv2d(x, w, layer.how["stride"], layer.how["border"].upper())
        return _callable([x, w], out, layer.back, sums)


def pool(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, values[0].shape)
        function = tf.nn.max_pool2d if layer.how["mode"] == "max" else tf.nn.avg_pool2d
        out = function(x, layer.how["size"], layer.how["stride"], "VALID")
        return _callable([x], out, layer.back, sums)

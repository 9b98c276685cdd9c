"""The sides of `benchmarks.layers` that are written by hand in TensorFlow as its version 1 was used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.hand_tensorflow import IN_CALLER, config_pb2, tf, v1

Call = Callable[..., Sequence[Any]]


def _callable(operands: list[Any], out: Any, back: bool, sums: bool, wrt: list[Any] | None = None) -> Call:
    found = tf.gradients(tf.reduce_sum(tf.square(out)), wrt or operands) if back else [out]
    options = config_pb2.CallableOptions()  # as in `benchmarks.hand_tensorflow`
    options.feed.extend(x.name for x in operands)
    options.fetch.extend((tf.reduce_sum(x) if sums else x).name for x in found)
    options.run_options.inter_op_thread_pool = IN_CALLER
    return v1.Session()._make_callable_from_options(options)  # type: ignore[no-any-return]


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


def lstm(layer: Any, values: Sequence[np.ndarray], sums: bool) -> Call:
    how = layer.how
    n, steps, units = how["batch"], how["steps"], how["units"]
    with tf.Graph().as_default():
        x, w, u, b = operands = [v1.placeholder(tf.float32, value.shape) for value in values]
        projected = tf.reshape(tf.matmul(tf.reshape(tf.transpose(x, [1, 0, 2]), [steps * n, -1]), w) + b, [steps, n, 4 * units])
        given = tf.TensorArray(tf.float32, steps).unstack(projected)  # of a slice, the gradient would be zeros for all steps

        def step(t: Any, h: Any, c: Any, outs: Any) -> tuple[Any, ...]:
            gates = given.read(t) + tf.matmul(h, u)
            f, i, o = tf.split(tf.sigmoid(gates[:, : 3 * units]), 3, 1)
            c = f * c + i * tf.tanh(gates[:, 3 * units :])
            h = o * tf.tanh(c)
            return t + 1, h, c, outs.write(t, h)

        nothing = tf.zeros((n, units))
        outs = tf.TensorArray(tf.float32, steps, element_shape=(n, units))
        *_, outs = tf.while_loop(
            lambda t, *rest: t < steps, step, (tf.constant(0), nothing, nothing, outs), maximum_iterations=steps
        )
        return _callable(operands, tf.transpose(outs.stack(), [1, 0, 2]), layer.back, sums, operands[1:])

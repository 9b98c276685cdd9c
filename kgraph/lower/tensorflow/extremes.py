"""The larger and smaller of two, the largest and smallest of many, and where they are: NaN if there is one, also where
TensorFlow's kernels, or XLA on a CPU, pass over it (2.21)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kgraph.lower.tensorflow.checks import by_xla

Rule = Callable[..., Any]


def _of_two(rule: Rule) -> Rule:
    """XLA passes over NaN in the second."""

    def bound(x: Any, y: Any) -> Any:
        found = rule(x, y)
        return tf.where(tf.math.is_nan(y), y, found) if x.dtype.is_floating and by_xla() else found

    return bound


def _of_many(rule: Rule) -> Rule:
    """XLA passes over NaN."""

    def extreme(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        axes = np.array(axis, np.int32)  # without a dtype, no axes at all are a list of floats
        found = rule(x, axes, keepdims)
        if not x.dtype.is_floating or not by_xla():
            return found
        return tf.where(tf.reduce_any(tf.math.is_nan(x), axes, keepdims), tf.constant(np.nan, x.dtype), found)

    return extreme


def first(rule: Rule) -> Rule:
    """The first index of a tie, as TensorFlow's; that of the first NaN, which TensorFlow's kernel passes over."""

    def place(x: Any, *, axis: int) -> Any:
        found = rule(x, axis=axis, output_type=tf.int64)
        if not x.dtype.is_floating:
            return found
        missing = tf.math.is_nan(x)
        at = tf.argmax(tf.cast(missing, tf.int32), axis=axis, output_type=tf.int64)
        return tf.where(tf.reduce_any(missing, axis=axis), at, found)

    return place


larger, smaller = _of_two(tf.maximum), _of_two(tf.minimum)
largest, smallest = _of_many(tf.reduce_max), _of_many(tf.reduce_min)

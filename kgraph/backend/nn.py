"""K functions of neural networks: activations, losses, dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.backend.operands import axis_of, node_of, number_of, refuse
from kgraph.backend.random import entries_of_shape, key_of
from kgraph.config import settings
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import as_dtype, as_float, as_node, combine
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import product, same_size, show_shape

# ---------------------------------------------------------------------------------------------------- activations


def _is_number(value: Any, number: float) -> bool:
    """Whether value is the plain number, so that what it would do can be left out."""
    return not isinstance(value, Operators) and np.ndim(value) == 0 and bool(value == number)


def relu(x: Any, alpha: Any = 0.0, max_value: Any = None) -> Tensor:
    """Rectifier: the positive part, capped, less alpha times the negative part.

    min(max(x, 0), max_value) - alpha * max(-x, 0)

    Args:
      alpha: slope below 0, a number or a tensor.
      max_value: None is no cap; a number or a tensor.
    Returns: the dtype of x; the gradient at 0 is 0.

    >>> K.eval(K.relu(K.variable([-2., 3., 9.]), alpha=0.5, max_value=6.))
    array([-1.,  3.,  6.], dtype=float32)
    """
    node = node_of(x)
    leaks = not _is_number(alpha, 0)
    if leaks:
        node = as_float(node)  # an unsigned integer has no negative
    out = o.relu(node)
    if max_value is not None:
        out = combine(o.minimum, out, max_value)
    if leaks:
        out = out - o.relu(-node) * _like(alpha, node)
    return Tensor(out)


def _like(value: Any, x: Node) -> Node:
    return as_node(value, like=x.dtype)


def elu(x: Any, alpha: Any = 1.0) -> Tensor:
    """Exponential linear unit: x above 0, alpha * (exp(x) - 1) below.

    Args:
      alpha: the limit below is -alpha; a number or a tensor.
    Source: Clevert, Unterthiner and Hochreiter (2015), arXiv:1511.07289.

    >>> K.eval(K.elu(K.variable([-1000., 0., 2.])))
    array([-1.,  0.,  2.], dtype=float32)
    """
    node = as_float(node_of(x))
    # exp sees no positive x, so that the side that is not taken cannot overflow, nor its gradient.
    below = o.expm1(o.minimum(node, o.scalar(0.0, node.dtype)))
    if not _is_number(alpha, 1):
        below = below * _like(alpha, node)
    return Tensor(o.relu(node) + below)


def softmax(x: Any) -> Tensor:
    """Softmax over the last axis, of any rank: exp(x) / sum(exp(x)), finite for every finite x.

    Raises: AxisError for a scalar.

    >>> K.eval(K.softmax(K.variable([[1000., 1000.]])))
    array([[0.5, 0.5]], dtype=float32)
    """
    node = as_float(node_of(x))
    return Tensor(o.softmax(node, axis=axis_of(-1, node)))


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)), finite for every finite x.

    >>> K.eval(K.softplus(K.variable([0., 1000.])))
    array([6.931472e-01, 1.000000e+03], dtype=float32)
    """
    return Tensor(o.softplus(as_float(node_of(x))))


def softsign(x: Any) -> Tensor:
    """x / (1 + abs(x)), between -1 and 1.

    >>> K.eval(K.softsign(K.variable([-1., 3.])))
    array([-0.5 ,  0.75], dtype=float32)
    """
    node = as_float(node_of(x))
    return Tensor(node / (o.absolute(node) + 1.0))


def sigmoid(x: Any) -> Tensor:
    """Logistic function: 1 / (1 + exp(-x)), between 0 and 1.

    >>> K.eval(K.sigmoid(K.variable([-1000., 0.])))
    array([0. , 0.5], dtype=float32)
    """
    return Tensor(o.sigmoid(as_float(node_of(x))))


def hard_sigmoid(x: Any) -> Tensor:
    """Straight lines near the sigmoid: 0.2 * x + 0.5, held within [0, 1].

    Source: Keras 1.x, after Theano's.

    >>> K.eval(K.hard_sigmoid(K.variable([-3., 0., 1.])))
    array([0. , 0.5, 0.7], dtype=float32)
    """
    node = as_float(node_of(x))
    return Tensor(_held(0.2 * node + 0.5, 0.0, 1.0))


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent, between -1 and 1.

    >>> K.eval(K.tanh(K.variable([0., 1000.])))
    array([0., 1.], dtype=float32)
    """
    return Tensor(o.tanh(as_float(node_of(x))))


def clip(x: Any, min_value: Any, max_value: Any) -> Tensor:
    """x held within [min_value, max_value]; the gradient is 0 beyond.

    Args:
      min_value, max_value: numbers or tensors; None is no bound. A max_value below min_value counts as min_value.
    Returns: the dtype of x; floatx for integers with a float bound.

    >>> K.eval(K.clip(K.variable([-2., 1., 7.]), 0., 5.))
    array([0., 1., 5.], dtype=float32)
    """
    node = node_of(x)
    low, high = [None if bound is None else _like(bound, node) for bound in (min_value, max_value)]
    if low is not None:
        node = combine(o.maximum, node, low)
    if high is not None:
        if low is not None:
            high = _at_least(high, low)
        node = combine(o.minimum, node, high)
    return Tensor(node)


def _at_least(high: Node, low: Node) -> Node:
    if low.op is high.op is o.constant:
        wanted = bool(np.all(low.attr("value").array <= high.attr("value").array))
        return high if wanted else o.constant_of(np.maximum(low.attr("value").array, high.attr("value").array))
    return combine(o.maximum, high, low)


def _held(x: Node, low: float, high: float) -> Node:
    return o.minimum(o.maximum(x, o.scalar(low, x.dtype)), o.scalar(high, x.dtype))


# ---------------------------------------------------------------------------------------------------- losses


def _least_probability(dtype: str) -> float:
    """epsilon, or the least number that dtype holds with all its digits: its logarithm and its inverse are finite."""
    return max(settings.epsilon, float(np.finfo(dtype).tiny))


def _probability(x: Node) -> Node:
    """x held within [epsilon, 1 - epsilon], where 1 - epsilon is below 1 in the dtype of x too."""
    least = _least_probability(x.dtype)
    return _held(x, least, min(1 - least, 1 - float(np.finfo(x.dtype).epsneg)))


def _output_and_target(output: Any, target: Any) -> tuple[Node, Node]:
    """Both as nodes of the dtype of output. Raises DTypeError, ShapeError."""
    z, t = _floats_and_target(output, target)
    have, wanted = z.type.shape, t.type.shape
    if len(have) != len(wanted) or not all(map(same_size, have, wanted)):
        message = f"shapes differ: {show_shape(have)} (output) != {show_shape(wanted)} (target)"
        raise refuse(ShapeError, message, output=z, target=t)
    return z, as_dtype(t, z.dtype)


def _floats_and_target(output: Any, target: Any) -> tuple[Node, Node]:
    z, t = node_of(output), node_of(target)
    if not z.type.is_float:
        hint = "cast it: K.cast(output, K.floatx())"
        raise refuse(DTypeError, f"output is {z.dtype}, not a float", hint=hint, output=z, target=t)
    return z, t


def _logits(output: Node) -> Node | None:
    """What output is the softmax of, over its last axis; None if it is something else."""
    return output.inputs[0] if output.op is o.softmax and output.attr("axis") == output.ndim - 1 else None


def categorical_crossentropy(output: Any, target: Any, from_logits: bool = False) -> Tensor:
    """Cross-entropy between class distributions over the last axis, in nats.

    loss = -sum_c target_c * log(output_c)

    Args:
      output: float [..., classes]. Probabilities, rescaled to sum to 1 and clipped to [epsilon, 1 - epsilon]; with
        from_logits, unbounded scores.
      target: the shape of output. One-hot or soft labels, in any dtype.
      from_logits: use the log-sum-exp form, which has no clip, and is finite for every finite score.
    Returns: float [...], dtype of output. The gradient is 0 where the clip holds. An output that is a softmax is taken as its
      scores, with the same clip and fewer roundings.
    Raises: ShapeError if the shapes differ in a known size; DTypeError if output is not float.
    Source: Keras 1.2.2, TensorFlow form (its Theano form clips logits too, capping the loss near 16.1 nats); Bishop (2006),
      Pattern Recognition and Machine Learning, eq. 4.108. In float16, epsilon is 6.1e-5 at least: less has no finite inverse.

    >>> K.eval(K.categorical_crossentropy(K.variable([[.5, .5]]), K.variable([[0., 1.]])))
    array([0.6931472], dtype=float32)
    """
    z, t = _output_and_target(output, target)
    axis = axis_of(-1, z)
    logits = z if from_logits else _logits(z)
    if logits is not None:
        least = 0.0 if from_logits else _least_probability(z.dtype)
        return Tensor(o.softmax_crossentropy(logits, t, o.scalar(least, z.dtype)))
    p = _probability(z / o.sum(z, axis=(axis,), keepdims=True))
    return Tensor(-o.sum(t * o.log(p), axis=(axis,), keepdims=False))


def sparse_categorical_crossentropy(output: Any, target: Any, from_logits: bool = False) -> Tensor:
    """Cross-entropy of class numbers under a distribution over the last axis, in nats.

    loss = -log(output[target])

    Args:
      output: float [..., classes], as for `categorical_crossentropy`.
      target: the numbers of the classes, integers or whole floats, one for each row of output, in any shape.
      from_logits: use the log-sum-exp form, which has no clip.
    Returns: float [...], the shape of output without its last axis, dtype of output.
    Raises: ShapeError if the numbers of rows and classes are known to differ; DTypeError if output is not float; when the
      program runs, IndexError for a class that there is not.
    Source: Keras 1.2.2 (its TensorFlow form clips logits of probabilities instead).

    >>> K.eval(K.sparse_categorical_crossentropy(K.variable([[.5, .5]]), K.variable([1])))
    array([0.6931472], dtype=float32)
    """
    z, t = _floats_and_target(output, target)
    axis = axis_of(-1, z)
    if t.type.is_float or t.dtype == "bool":
        t = o.cast(t, dtype="int32")
    t = _class_per_row(z, t)
    logits = z if from_logits else _logits(z)
    if logits is not None:
        chosen = o.pick(o.log_softmax(logits, axis=axis), t)
        if not from_logits:
            least = _least_probability(z.dtype)
            chosen = _held(chosen, math.log(least), math.log1p(-least))
        return Tensor(-chosen)
    return Tensor(-o.log(_probability(o.pick(z, t) / o.sum(z, axis=(axis,), keepdims=False))))


def _class_per_row(output: Node, target: Node) -> Node:
    """target in the shape of output without its last axis."""
    rows, given = output.type.shape[:-1], target.type.shape
    if len(rows) == len(given) and all(map(same_size, rows, given)):
        return target
    have, want = product(given), product(rows)
    if not same_size(have, want):
        raise refuse(ShapeError, f"target has {have} class numbers, output {want} rows", output=output, target=target)
    return o.reshape_to(target, [o.size_of(output, axis) for axis in range(len(rows))])


def binary_crossentropy(output: Any, target: Any, from_logits: bool = False) -> Tensor:
    """Cross-entropy of single probabilities, element by element, in nats.

    loss = -target * log(output) - (1 - target) * log(1 - output)

    Args:
      output: float. Probabilities, clipped to [epsilon, 1 - epsilon]; with from_logits, unbounded scores z of p = sigmoid(z).
      target: the shape of output, from 0 to 1, in any dtype.
      from_logits: max(z, 0) - z * target + log(1 + exp(-abs(z))), which has no clip, and is finite for every finite score.
    Returns: the shape and dtype of output. The gradient is 0 where the clip holds. An output that is a sigmoid is taken as its
      scores, with the same clip and fewer roundings.
    Raises: ShapeError if the shapes differ in a known size; DTypeError if output is not float.
    Source: Keras 1.2.2; the form of TensorFlow's sigmoid_cross_entropy_with_logits. In float16, epsilon is 6.1e-5 at least.

    >>> K.eval(K.binary_crossentropy(K.variable([.5, 1.]), K.variable([1., 1.])))
    array([6.931472e-01, 1.192093e-07], dtype=float32)
    """
    z, t = _output_and_target(output, target)
    if from_logits:
        return Tensor(o.sigmoid_crossentropy(z, t))
    if z.op is o.sigmoid:
        least = _least_probability(z.dtype)
        bound = math.log1p(-least) - math.log(least)  # the score whose probability is 1 - epsilon
        return Tensor(o.sigmoid_crossentropy(_held(z.inputs[0], -bound, bound), t))
    p = _probability(z)
    return Tensor(-(t * o.log(p)) - (1.0 - t) * o.log1p(-p))


# ---------------------------------------------------------------------------------------------------- dropout


def dropout(x: Any, level: Any, noise_shape: Any = None, seed: int | None = None) -> Tensor:
    """x with elements set to 0 at random, the others scaled so that the mean stays.

    result = x * keep / (1 - level), keep = 1 with probability 1 - level, else 0, drawn anew at each call

    Args:
      level: probability of setting an element to 0: a number from 0 to below 1, or a scalar tensor. The number 0 draws nothing.
      noise_shape: shape of keep: ints mixed with symbolic sizes, or a symbolic shape. None, for all or for one size, is the
        size of x; 1 drops along the whole axis at once.
      seed: fixes the stream of draws; None takes a seed from np.random while the graph is built.
    Raises: ArgumentError for a number outside of [0, 1); ShapeError if noise_shape does not fit x.
    Source: Srivastava and others (2014), Dropout, JMLR 15, 1929-1958; scaled while training, as in Keras 1.2.2.

    >>> K.eval(K.dropout(K.variable([1., 2.]), 0.))
    array([1., 2.], dtype=float32)
    """
    node = as_float(node_of(x))
    if isinstance(level, Operators):
        # float16 has too few digits to compare with.
        share = as_dtype(level.node, "float32")
        scale: Node = as_dtype(1.0 / (1.0 - share), node.dtype)
    else:
        level = number_of(level, "level", "a probability from 0 to below 1", x=x)
        if level == 0:
            return Tensor(node)
        share, scale = o.scalar(level, "float32"), o.scalar(1 / (1 - level), node.dtype)
    entries, sizes = _noise_entries(node, noise_shape)
    drawn = o.random_uniform(key_of(seed), *sizes, shape=entries, dtype="float32")
    # One factor, which the gradient multiplies by again.
    keep = o.cast(o.greater_equal(drawn, share), dtype=node.dtype) * scale
    return Tensor(node * keep)


def _noise_entries(x: Node, noise_shape: Any) -> tuple[tuple[int | None, ...], tuple[Node, ...]]:
    own = [o.size_of(x, axis) for axis in range(x.ndim)]
    if noise_shape is None:
        return o.entries_of(own)
    if isinstance(noise_shape, (tuple, list)) and len(noise_shape) == x.ndim:
        noise_shape = [size if given is None else given for size, given in zip(own, noise_shape, strict=True)]
    entries, sizes = entries_of_shape(noise_shape, "noise_shape")
    if len(entries) != x.ndim or not all(e == 1 or same_size(e, s) for e, s in zip(entries, x.type.shape, strict=True)):
        raise refuse(
            ShapeError, f"noise_shape {show_shape(entries)} does not fit {show_shape(x.type.shape)}",
            hint="each size is that of x, or 1", x=x,
        )  # fmt: skip
    return entries, sizes

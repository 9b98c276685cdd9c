"""Ops of neural networks: softmax and cross-entropies, each with a form that neither overflows nor loses its digits."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.elementwise import binary, float_like, unbroadcast
from kgraph.ir.types import Shape, TensorType, merge_size, same_size, show_shape

# ---------------------------------------------------------------------------------------------------- type rules


def _along_type(x: TensorType, *, axis: int) -> TensorType:
    return float_like(x)


def _pair_type(x: TensorType, target: TensorType) -> TensorType:
    if x.dtype != target.dtype:
        raise DTypeError(f"dtypes differ: {x.dtype} != {target.dtype}", hint="cast one of them with K.cast")
    if x.ndim != target.ndim or not all(map(same_size, x.shape, target.shape)):
        raise ShapeError(f"shapes differ: {show_shape(x.shape)} != {show_shape(target.shape)}")
    shape: Shape = tuple(map(merge_size, x.shape, target.shape))
    return float_like(x).with_shape(shape)


def _classes_type(x: TensorType, target: TensorType, epsilon: TensorType) -> TensorType:
    both = _pair_type(x, target)
    if not both.shape:
        raise ShapeError("a scalar has no axis of classes")
    if epsilon is not TensorType(x.dtype, ()):
        raise DTypeError(f"epsilon is {epsilon}, not a scalar of {x.dtype}")
    return both.with_shape(both.shape[:-1])


def _classes_grad_type(g: TensorType, x: TensorType, target: TensorType, epsilon: TensorType) -> TensorType:
    _classes_type(x, target, epsilon)
    return x


# ---------------------------------------------------------------------------------------------------- softmax

_sums: Any = np.add.reduce
_top: Any = np.maximum.reduce

# NumPy takes 30 to 50 ns for each row of a reduction over a short last axis. Over the first axis of the transposed copy it
# takes about as long as one operation on the whole; up to this many elements in a row the copy pays.
_SHORT = 32


def _softmax(x: Any, *, axis: int) -> Any:
    if x.dtype.char == "e":  # the sum of more than 65504 ones is not finite in float16
        return _softmax(x.astype("float32"), axis=axis).astype("float16")
    if x.ndim == 2 and axis == 1 and x.shape[1] <= _SHORT:
        return _softmax(x.T.copy(), axis=0).T.copy()
    e = x - _top(x, axis, None, None, True, -np.inf)
    np.exp(e, e)
    e /= _sums(e, axis, None, None, True)
    return e


def _log_softmax(x: Any, *, axis: int) -> Any:
    if x.dtype.char == "e":
        return _log_softmax(x.astype("float32"), axis=axis).astype("float16")
    if x.ndim == 2 and axis == 1 and x.shape[1] <= _SHORT:
        return _log_softmax(x.T.copy(), axis=0).T.copy()
    s = x - _top(x, axis, None, None, True, -np.inf)
    total = _sums(np.exp(s), axis, None, None, True)
    s -= np.log(total, total)
    return s


def _softmax_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node, ...]:
    return (out * (g - o.sum(g * out, axis=(axis,), keepdims=True)),)


def _log_softmax_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node, ...]:
    return (g - o.exp(out) * o.sum(g, axis=(axis,), keepdims=True),)


def _expand_softmax(x: Node, *, axis: int) -> Node:
    if x.dtype == "float16":
        return o.cast(_expand_softmax(o.cast(x, dtype="float32"), axis=axis), dtype="float16")
    e = o.exp(x - o.largest(x, (axis,)))
    return e / o.sum(e, axis=(axis,), keepdims=True)


def _expand_log_softmax(x: Node, *, axis: int) -> Node:
    if x.dtype == "float16":
        return o.cast(_expand_log_softmax(o.cast(x, dtype="float32"), axis=axis), dtype="float16")
    s = x - o.largest(x, (axis,))
    return s - o.log(o.sum(o.exp(s), axis=(axis,), keepdims=True))


softmax: Op = Op(
    "softmax", _along_type, numpy=_softmax, vjp=_softmax_vjp, expand=_expand_softmax,
    doc="exp(x) / sum(exp(x)) along axis, finite for every finite x.",
)  # fmt: skip

log_softmax: Op = Op(
    "log_softmax", _along_type, numpy=_log_softmax, vjp=_log_softmax_vjp, expand=_expand_log_softmax,
    doc="log(softmax(x)) along axis, exact far below the maximum too.",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- cross-entropy of classes


@functools.lru_cache(1000)
def _bounds(epsilon: float, dtype: str) -> tuple[Any, ...]:
    """What probabilities and their logarithms are held within, as 0-d arrays: NumPy takes them faster than scalars."""
    lowest = float(np.finfo(dtype).min)
    low = max(math.log(epsilon), lowest) if epsilon > 0 else lowest
    return tuple([np.array(v, dtype) for v in (low, math.log1p(-epsilon), epsilon, 1 - epsilon)])


@functools.lru_cache(100)
def _ones(count: int, dtype: str) -> Any:
    return np.ones(count, dtype)


def _by_class(x: Any, target: Any) -> tuple[Any, Any, int]:
    """x (a copy) and target as matrices, and the axis of their classes: the first one where that is faster."""
    if x.ndim != 2:
        x, target = [a.reshape((math.prod(a.shape[:-1]), a.shape[-1])) for a in (x, target)]
    return (x.T.copy(), target.T, 0) if x.shape[1] <= _SHORT else (x.copy(), target, 1)


def _over_classes(x: Any, axis: int) -> Any:
    """Sums over the axis of the classes, in a shape that x broadcasts with."""
    # BLAS adds up a few rows in a third of the time.
    return _sums(x, 1, None, None, True) if axis else _ones(len(x), x.dtype.char).dot(x)


def _softmax_crossentropy(x: Any, target: Any, epsilon: Any) -> Any:
    if x.dtype.char == "e":
        wide = [np.asarray(a).astype("float32") for a in (x, target, epsilon)]
        return np.asarray(_softmax_crossentropy(*wide)).astype("float16")
    shape = x.shape[:-1]
    low, high, _, _ = _bounds(float(epsilon), x.dtype.char)
    s, target, axis = _by_class(x, target)
    s -= _top(s, axis, None, None, True, -np.inf)
    total = _over_classes(np.exp(s), axis)
    s -= np.log(total, total)
    np.maximum(s, low, out=s)  # the method clip is written in Python
    np.minimum(s, high, out=s)
    s *= target
    out = _over_classes(s, axis)
    return np.negative(out, out).reshape(shape)


def _softmax_crossentropy_grad(g: Any, x: Any, target: Any, epsilon: Any) -> Any:
    if x.dtype.char == "e":
        wide = [np.asarray(a).astype("float32") for a in (g, x, target, epsilon)]
        return _softmax_crossentropy_grad(*wide).astype("float16")
    p, target, axis = _by_class(x, target)
    p -= _top(p, axis, None, None, True, -np.inf)
    np.exp(p, p)
    p /= _over_classes(p, axis)
    epsilon = float(epsilon)
    if epsilon > 0:
        _, _, low, high = _bounds(epsilon, x.dtype.char)
        within = p >= low
        within &= p <= high
        target = target * within
    p *= _over_classes(target, axis)
    p -= target
    p *= g.reshape((-1, 1)) if axis else g.reshape(-1)
    return (p if axis else p.T).reshape(x.shape)


def _log_bounds(epsilon: Node) -> tuple[Node, Node]:
    lowest = o.scalar(float(np.finfo(epsilon.dtype).min), epsilon.dtype)
    return o.maximum(o.log(epsilon), lowest), o.log1p(-epsilon)


def _held_log_softmax(x: Node, epsilon: Node) -> Node:
    low, high = _log_bounds(epsilon)
    return o.minimum(o.maximum(o.log_softmax(x, axis=x.ndim - 1), low), high)


def _expand_softmax_crossentropy(x: Node, target: Node, epsilon: Node) -> Node:
    return -o.sum(target * _held_log_softmax(x, epsilon), axis=(x.ndim - 1,), keepdims=False)


def _softmax_crossentropy_vjp(g: Node, out: Node, x: Node, target: Node, epsilon: Node) -> tuple[Node | None, ...]:
    gx = o.softmax_crossentropy_grad(g, x, target, epsilon)
    return gx, -o.expand_dims(g, axis=x.ndim - 1) * _held_log_softmax(x, epsilon), None


def _within(p: Node, epsilon: Node) -> Node:
    """Where probabilities are within the bounds. With epsilon 0 that is everywhere, rounding or not."""
    low = o.logical_and(o.greater_equal(p, epsilon), o.less_equal(p, 1.0 - epsilon))
    return o.logical_or(low, o.equal(epsilon, o.scalar(0.0, p.dtype)))


def _expand_softmax_crossentropy_grad(g: Node, x: Node, target: Node, epsilon: Node) -> Node:
    axis = x.ndim - 1
    p = o.softmax(x, axis=axis)
    held = o.where(_within(p, epsilon), target, o.scalar(0.0, x.dtype))
    return o.expand_dims(g, axis=axis) * (p * o.sum(held, axis=(axis,), keepdims=True) - held)


def _softmax_crossentropy_grad_vjp(
    h: Node, out: Node, g: Node, x: Node, target: Node, epsilon: Node
) -> tuple[Node | None, ...]:
    # out = g (p S - t), with p = softmax(x), t the targets within the bounds, S their sum over the classes.
    axis = x.ndim - 1
    p = o.softmax(x, axis=axis)
    within, zero = _within(p, epsilon), o.scalar(0.0, x.dtype)
    held = o.where(within, target, zero)
    total = o.sum(held, axis=(axis,), keepdims=True)
    wide_g = o.expand_dims(g, axis=axis)
    mean_h = o.sum(h * p, axis=(axis,), keepdims=True)
    for_g = o.sum(h * (p * total - held), axis=(axis,), keepdims=False)
    for_x = wide_g * total * (p * (h - mean_h))
    for_target = o.where(within, wide_g * (mean_h - h), zero)
    return for_g, for_x, for_target, None


softmax_crossentropy: Op = Op(
    "softmax_crossentropy", _classes_type, numpy=_softmax_crossentropy, vjp=_softmax_crossentropy_vjp,
    expand=_expand_softmax_crossentropy,
    doc="-sum(target * log(p)) over the last axis, p = softmax(x) held within [epsilon, 1 - epsilon]; gradient zero beyond.",
)  # fmt: skip

softmax_crossentropy_grad: Op = Op(
    "softmax_crossentropy_grad", _classes_grad_type, numpy=_softmax_crossentropy_grad, vjp=_softmax_crossentropy_grad_vjp,
    expand=_expand_softmax_crossentropy_grad, doc="The cotangent of the x of softmax_crossentropy, from that of its result.",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- cross-entropy of one bit


def _sigmoid_crossentropy(x: Any, target: Any) -> Any:
    out = np.exp(-np.abs(x))
    return np.maximum(x, x.dtype.type(0)) - x * target + np.log1p(out)


def _sigmoid_crossentropy_vjp(g: Node, out: Node, x: Node, target: Node) -> tuple[Node, ...]:
    return unbroadcast(g * (o.sigmoid(x) - target), x), unbroadcast(-g * x, target)


def _expand_sigmoid_crossentropy(x: Node, target: Node) -> Node:
    return o.relu(x) - x * target + o.log1p(o.exp(-o.absolute(x)))


sigmoid_crossentropy: Op = Op(
    "sigmoid_crossentropy", lambda x, target: float_like(binary(x, target)), numpy=_sigmoid_crossentropy,
    vjp=_sigmoid_crossentropy_vjp, expand=_expand_sigmoid_crossentropy, broadcasts=True,
    doc="-target log(p) - (1 - target) log(1 - p) for p = sigmoid(x): max(x, 0) - x target + log(1 + exp(-|x|)).",
)  # fmt: skip

__all__ = [
    "log_softmax", "sigmoid_crossentropy", "softmax", "softmax_crossentropy", "softmax_crossentropy_grad",
]  # fmt: skip

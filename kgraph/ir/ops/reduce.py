"""Ops that take elements together along axes: reductions, and running sums and products."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.elementwise import binary, float_like
from kgraph.ir.types import TensorType, reduced_shape, same_size, show_shape

Axes = tuple[int, ...]

# ---------------------------------------------------------------------------------------------------- type rules


def _total_dtype(x: TensorType) -> str:
    return "int64" if x.dtype == "bool" else x.dtype


def _total_type(x: TensorType, *, axis: Axes, keepdims: bool) -> TensorType:
    return TensorType(_total_dtype(x), reduced_shape(x.shape, axis, keepdims))


def _extreme_type(x: TensorType, *, axis: Axes, keepdims: bool) -> TensorType:
    for a in axis:
        _check_nonempty(x, a)
    return TensorType(x.dtype, reduced_shape(x.shape, axis, keepdims))


def _check_nonempty(x: TensorType, axis: int) -> None:
    if x.shape[axis] == 0:
        raise ShapeError(f"axis {axis} of {show_shape(x.shape)} has size 0, and no elements have no largest or smallest one")


def _arg_type(x: TensorType, *, axis: int) -> TensorType:
    _check_nonempty(x, axis)
    return TensorType("int64", reduced_shape(x.shape, (axis,), False))


def _truth_type(x: TensorType, *, axis: Axes, keepdims: bool) -> TensorType:
    if x.dtype != "bool":
        raise DTypeError(f"{x.dtype} is no bool", hint="compare first: K.not_equal(x, 0)")
    return TensorType("bool", reduced_shape(x.shape, axis, keepdims))


def _float_type(x: TensorType, *, axis: Axes, keepdims: bool) -> TensorType:
    return float_like(x).with_shape(reduced_shape(x.shape, axis, keepdims))


def _running_type(x: TensorType, *, axis: int) -> TensorType:
    return x.with_dtype(_total_dtype(x))


def _recurrence_type(a: TensorType, b: TensorType, *, axis: int) -> TensorType:
    if a.ndim != b.ndim or False in map(same_size, a.shape, b.shape):
        raise ShapeError(f"shapes differ: {show_shape(a.shape)} != {show_shape(b.shape)}")
    return float_like(binary(a, b))


# ---------------------------------------------------------------------------------------------------- meanings

_INT64 = np.dtype("int64")
_add: Any = np.add.reduce
_multiply: Any = np.multiply.reduce


def _total(x: Any) -> np.dtype[Any]:
    # Without a dtype NumPy widens small integers.
    dtype: np.dtype[Any] = x.dtype
    return _INT64 if dtype.char == "?" else dtype


def _sum(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    return _add(x, axis=axis, dtype=_total(x), keepdims=keepdims)


def _prod(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    return _multiply(x, axis=axis, dtype=_total(x), keepdims=keepdims)


def _cumsum(x: Any, *, axis: int) -> Any:
    return np.add.accumulate(x, axis=axis, dtype=_total(x))


def _cumprod(x: Any, *, axis: int) -> Any:
    return np.multiply.accumulate(x, axis=axis, dtype=_total(x))


def _logsumexp(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    if x.dtype.char == "e":  # the sum of more than 65504 exponentials of 0 is not finite in float16
        return _logsumexp(x.astype("float32"), axis=axis, keepdims=keepdims).astype("float16")
    top = np.maximum.reduce(x, axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(top), top, x.dtype.type(0))  # inf - inf is no number
    out = np.log(np.add.reduce(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return out if keepdims else out.squeeze(axis)


def _linear_recurrence(a: Any, b: Any, *, axis: int) -> Any:
    out = b.copy()
    y, a = out.swapaxes(0, axis), a.swapaxes(0, axis)
    for i in range(1, len(y)):
        y[i] += a[i] * y[i - 1]
    return out


# ---------------------------------------------------------------------------------------------------- gradients


def _kept(x: Node, axis: Axes, keepdims: bool) -> Node:
    """The result of a reduction over axis, with the axes that it lost."""
    if not keepdims:
        for a in axis:
            x = o.expand_dims(x, axis=a)
    return x


def _sum_vjp(g: Node, out: Node, x: Node, *, axis: Axes, keepdims: bool) -> tuple[Node, ...]:
    return (o.broadcast_like(_kept(g, axis, keepdims), x),)


def _extreme_vjp(g: Node, out: Node, x: Node, *, axis: Axes, keepdims: bool) -> tuple[Node, ...]:
    # The first axes of size 1 stretch; over no axes at all the sizes agree.
    ties = o.cast(o.equal(x, _kept(out, axis, keepdims)), dtype=x.dtype)
    share = _kept(g, axis, keepdims) / o.sum(ties, axis=axis, keepdims=True)
    return (ties * share,)


def _logsumexp_vjp(g: Node, out: Node, x: Node, *, axis: Axes, keepdims: bool) -> tuple[Node, ...]:
    out = _kept(out, axis, keepdims)
    lowest = o.equal(out, o.broadcast_like(o.scalar(-np.inf, x.dtype), out))
    # A row of -inf: exp(-inf - 0) is 0, where exp(-inf - -inf) would be no number.
    out = o.where(lowest, o.scalar(0.0, x.dtype), out)
    return (_kept(g, axis, keepdims) * o.exp(x - out),)


def _prod_vjp(g: Node, out: Node, x: Node, *, axis: Axes, keepdims: bool) -> tuple[Node, ...]:
    # One axis after the other: the product of the others of its axis is what an element counts for.
    partial = [x]
    for a in axis[:-1]:
        partial.append(o.prod(partial[-1], axis=(a,), keepdims=True))
    g = _kept(g, axis, keepdims)
    for a, factors in zip(reversed(axis), reversed(partial), strict=False):
        g = g * _product_of_others(factors, a)
    return (g,)


def _product_of_others(x: Node, axis: int) -> Node:
    """For each element the product of the other ones along axis, without a division, so that zeros do no harm."""
    before = _shifted(o.cumprod(x, axis=axis), 1.0, axis)
    behind = o.flip(_shifted(o.cumprod(o.flip(x, axes=(axis,)), axis=axis), 1.0, axis), axes=(axis,))
    return before * behind


def _shifted(x: Node, first: float, axis: int) -> Node:
    """x moved one step up along axis; first comes in, the last element goes."""
    before = (slice(None),) * axis
    head = o.broadcast_like(o.scalar(first, x.dtype), x[(*before, slice(0, 1))])
    return o.concatenate(head, x[(*before, slice(0, -1))], axis=axis)


def _cumsum_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node, ...]:
    return (o.flip(o.cumsum(o.flip(g, axes=(axis,)), axis=axis), axes=(axis,)),)


def _cumprod_vjp(g: Node, out: Node, x: Node, *, axis: int) -> tuple[Node, ...]:
    # sum_{j>=i} g_j prod_{k<=j, k!=i} x_k is (x_0 ... x_{i-1}) s_i with s_i = g_i + x_{i+1} s_{i+1}: no division by x_i.
    return (_shifted(out, 1.0, axis) * _recurrence_back(x, g, axis),)


def _recurrence_vjp(g: Node, out: Node, a: Node, b: Node, *, axis: int) -> tuple[Node, ...]:
    back = _recurrence_back(a, g, axis)
    return back * _shifted(out, 0.0, axis), back


def _recurrence_back(a: Node, g: Node, axis: int) -> Node:
    """s_i = g_i + a_{i+1} s_{i+1}, from the end of axis to its start."""
    factors = _shifted(o.flip(a, axes=(axis,)), 0.0, axis)
    return o.flip(o.linear_recurrence(factors, o.flip(g, axes=(axis,)), axis=axis), axes=(axis,))


# ---------------------------------------------------------------------------------------------------- expansions


def largest(x: Node, axis: Axes) -> Node:
    """The largest of floats over axis, which stays with size 1; -inf of no elements."""
    if not {0, None} & {x.type.shape[a] for a in axis}:
        return o.max(x, axis=axis, keepdims=True)
    for a in axis:
        size = x.type.shape[a]
        if not size:  # 0, or unknown and perhaps 0
            entries, nodes = o.entries_of([1 if i == a else o.size_of(x, i) for i in range(x.ndim)])
            least = o.broadcast_to(o.scalar(-np.inf, x.dtype), *nodes, shape=entries)
            x = o.concatenate(x, least, axis=a)
        x = o.max(x, axis=(a,), keepdims=True)
    return x


def _expand_logsumexp(x: Node, *, axis: Axes, keepdims: bool) -> Node:
    if x.dtype == "float16":  # the sum of more than 65504 exponentials of 0 is not finite there
        return o.cast(_expand_logsumexp(o.cast(x, dtype="float32"), axis=axis, keepdims=keepdims), dtype="float16")
    top = largest(x, axis)
    infinite = o.equal(o.absolute(top), o.broadcast_like(o.scalar(np.inf, x.dtype), top))
    shift = o.where(infinite, o.scalar(0.0, x.dtype), top)
    out = o.log(o.sum(o.exp(x - shift), axis=axis, keepdims=True)) + shift
    if not keepdims:
        for a in reversed(axis):
            out = o.squeeze(out, axis=a)
    return out


def _expand_linear_recurrence(a: Node, b: Node, *, axis: int) -> Node:
    # y_i = sum_{j<=i} b_j a_{j+1} ... a_i: time and memory grow with the square of the size; an engine's own rule is linear.
    place = o.cumsum(o.cast(o.ones_like(b), dtype="int32"), axis=axis)
    i, j = o.expand_dims(place, axis=axis + 1), o.expand_dims(place, axis=axis)
    a, b = o.expand_dims(a, axis=axis + 1), o.expand_dims(b, axis=axis)
    factors = o.cumprod(o.where(o.greater(i, j), a, o.scalar(1.0, a.dtype)), axis=axis)
    terms = o.where(o.greater_equal(i, j), factors * b, o.scalar(0.0, a.dtype))
    return o.sum(terms, axis=(axis + 1,), keepdims=False)


# ---------------------------------------------------------------------------------------------------- ops

sum: Op = Op("sum", _total_type, numpy=_sum, vjp=_sum_vjp, doc="The sum over axis, in the dtype of x; of bools int64.")
prod: Op = Op("prod", _total_type, numpy=_prod, vjp=_prod_vjp, doc="The product over axis, in the dtype of x; of bools int64.")

max: Op = Op(
    "max", _extreme_type, vjp=_extreme_vjp, doc="The largest over axis; NaN if one is. Ties share the gradient equally.",
    numpy=lambda x, *, axis, keepdims: np.maximum.reduce(x, axis=axis, keepdims=keepdims),
)  # fmt: skip

min: Op = Op(
    "min", _extreme_type, vjp=_extreme_vjp, doc="The smallest over axis; NaN if one is. Ties share the gradient equally.",
    numpy=lambda x, *, axis, keepdims: np.minimum.reduce(x, axis=axis, keepdims=keepdims),
)  # fmt: skip

any: Op = Op(
    "any", _truth_type, doc="Whether one of the bools over axis holds.",
    numpy=lambda x, *, axis, keepdims: np.logical_or.reduce(x, axis=axis, keepdims=keepdims),
)  # fmt: skip

all: Op = Op(
    "all", _truth_type, doc="Whether each of the bools over axis holds.",
    numpy=lambda x, *, axis, keepdims: np.logical_and.reduce(x, axis=axis, keepdims=keepdims),
)  # fmt: skip

argmax: Op = Op(
    "argmax", _arg_type, numpy=lambda x, *, axis: x.argmax(axis),
    doc="The index of the first largest along axis; of NaN if there is one.",
)  # fmt: skip
argmin: Op = Op(
    "argmin", _arg_type, numpy=lambda x, *, axis: x.argmin(axis),
    doc="The index of the first smallest along axis; of NaN if there is one.",
)  # fmt: skip

logsumexp: Op = Op(
    "logsumexp", _float_type, numpy=_logsumexp, vjp=_logsumexp_vjp, expand=_expand_logsumexp,
    doc="log(sum(exp(x))) over axis, finite for every finite x.",
)  # fmt: skip

cumsum: Op = Op("cumsum", _running_type, numpy=_cumsum, vjp=_cumsum_vjp, doc="The sum up to each element along axis.")
cumprod: Op = Op("cumprod", _running_type, numpy=_cumprod, vjp=_cumprod_vjp, doc="The product up to each element along axis.")

linear_recurrence: Op = Op(
    "linear_recurrence", _recurrence_type, numpy=_linear_recurrence, vjp=_recurrence_vjp, expand=_expand_linear_recurrence,
    doc="y_0 = b_0, y_i = a_i y_{i-1} + b_i along axis: the gradient of cumprod, and its own.",
)  # fmt: skip

__all__ = [
    "all", "any", "argmax", "argmin", "cumprod", "cumsum", "largest", "linear_recurrence", "logsumexp", "max", "min", "prod",
    "sum",
]  # fmt: skip

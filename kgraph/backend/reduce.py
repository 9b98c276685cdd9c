"""K functions that take elements together along axes.

``axis`` is None for every axis, an int, or a tuple or list of ints, counted from the end where negative; ``[]`` reduces
nothing. With ``keepdims`` the axes stay, with size 1.
"""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import axes_of, axis_of, node_of
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.promote import as_dtype, as_float
from kgraph.ir.tensor import Tensor

# ---------------------------------------------------------------------------------------------------- totals


def _reduced(op: Op, x: Node, axis: Any, keepdims: Any) -> Tensor:
    return Tensor(op(x, axis=axes_of(axis, x), keepdims=bool(keepdims)))


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over axis, in the dtype of x (int64 for bools).

    >>> K.eval(K.sum(K.variable([[1., 2.], [3., 4.]]), axis=0))
    array([4., 6.], dtype=float32)
    """
    return _reduced(o.sum, node_of(x), axis, keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product over axis, in the dtype of x (int64 for bools).

    The gradient is exact where elements are 0 too, which dividing the product by them is not.

    >>> K.eval(K.prod(K.variable([[1., 2.], [3., 4.]]), axis=1))
    array([ 2., 12.], dtype=float32)
    """
    return _reduced(o.prod, node_of(x), axis, keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over axis: sum(x) / n.

    Args:
      x: any dtype; integers and bools count as floatx.
    Returns: a float, NaN over no elements. float16 is added up in float32.

    >>> K.eval(K.mean(K.variable([[1., 2.], [3., 4.]]), axis=-1))
    array([1.5, 3.5], dtype=float32)
    """
    node = as_float(node_of(x))
    wide = _widened(node)
    return Tensor(as_dtype(mean_of(wide, axes_of(axis, node), bool(keepdims)), node.dtype))


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Variance over axis, of the population: mean((x - mean(x)) ** 2), divided by n and not by n - 1.

    Args:
      x: any dtype; integers and bools count as floatx.
    Returns: a float.

    >>> K.eval(K.var(K.variable([[1., 3.], [2., 6.]]), axis=1))
    array([1., 4.], dtype=float32)
    """
    node = as_float(node_of(x))
    return Tensor(as_dtype(_var(_widened(node), axes_of(axis, node), bool(keepdims)), node.dtype))


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Standard deviation over axis, of the population: sqrt(mean((x - mean(x)) ** 2)).

    Args:
      x: any dtype; integers and bools count as floatx.
    Returns: a float. Where all elements are equal the gradient is NaN: the square root has none at 0.

    >>> K.eval(K.std(K.variable([[1., 3.], [2., 6.]]), axis=1))
    array([1., 2.], dtype=float32)
    """
    node = as_float(node_of(x))
    return Tensor(as_dtype(o.sqrt(_var(_widened(node), axes_of(axis, node), bool(keepdims))), node.dtype))


def _widened(x: Node) -> Node:
    """float16 as float32: sums and counts beyond 65504 are common, and not finite in float16."""
    return as_dtype(x, "float32") if x.dtype == "float16" else x


def mean_of(x: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    """The mean of floats over axes."""
    if not axes:
        return x
    count = o.size_of(x, *axes)
    divisor = o.scalar(float(count), x.dtype) if isinstance(count, int) else o.cast(count, dtype=x.dtype)
    return o.sum(x, axis=axes, keepdims=keepdims) / divisor


def _var(x: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    return mean_of(o.square(x - mean_of(x, axes, True)), axes, keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over axis, finite for every finite x; -inf over no elements.

    Args:
      x: any dtype; integers and bools count as floatx.
    Source: log(sum(exp(x - m))) + m with m = max(x). It is not in Keras 1.x.

    >>> K.eval(K.logsumexp(K.variable([[1000., 1000.]]), axis=1))
    array([1000.6932], dtype=float32)
    """
    return _reduced(o.logsumexp, as_float(node_of(x)), axis, keepdims)


# ---------------------------------------------------------------------------------------------------- extremes


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element over axis; NaN if one is NaN. Equal ones share the gradient equally.

    Raises: ShapeError if an axis to reduce is known to be empty.

    >>> K.eval(K.max(K.variable([[1., 2.], [4., 3.]]), axis=1))
    array([2., 4.], dtype=float32)
    """
    return _reduced(o.max, node_of(x), axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axis; NaN if one is NaN. Equal ones share the gradient equally.

    Raises: ShapeError if an axis to reduce is known to be empty.

    >>> K.eval(K.min(K.variable([[1., 2.], [4., 3.]]), axis=1))
    array([1., 3.], dtype=float32)
    """
    return _reduced(o.min, node_of(x), axis, keepdims)


def argmax(x: Any, axis: int = -1) -> Tensor:
    """Index of the largest element along one axis; of a tie, and of several NaN, the first.

    Returns: int64, without the axis. It ends the path of a gradient.
    Raises: ShapeError if the axis is known to be empty.

    >>> K.eval(K.argmax(K.variable([[1., 2.], [4., 3.]])))
    array([1, 0])
    """
    node = node_of(x)
    return Tensor(o.argmax(node, axis=axis_of(axis, node)))


def argmin(x: Any, axis: int = -1) -> Tensor:
    """Index of the smallest element along one axis; of a tie, and of several NaN, the first.

    Returns: int64, without the axis. It ends the path of a gradient.
    Raises: ShapeError if the axis is known to be empty.

    >>> K.eval(K.argmin(K.variable([[1., 2.], [4., 3.]])))
    array([0, 1])
    """
    node = node_of(x)
    return Tensor(o.argmin(node, axis=axis_of(axis, node)))


# ---------------------------------------------------------------------------------------------------- truth


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether some element over axis is not 0 (NaN is not 0): the logical or.

    Args:
      x: any dtype.
    Returns: uint8, 0 or 1, as the Keras 1.x page says (Keras 1.2.2 gives bool on Theano).

    >>> K.eval(K.any(K.variable([[0., 2.], [0., 0.]]), axis=1))
    array([1, 0], dtype=uint8)
    """
    return _truth(o.any, x, axis, keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether no element over axis is 0: the logical and.

    Args:
      x: any dtype.
    Returns: uint8, 0 or 1, as the Keras 1.x page says (Keras 1.2.2 gives bool on Theano).

    >>> K.eval(K.all(K.variable([[1., 2.], [0., 3.]]), axis=1))
    array([1, 0], dtype=uint8)
    """
    return _truth(o.all, x, axis, keepdims)


def _truth(op: Op, x: Any, axis: Any, keepdims: Any) -> Tensor:
    node = node_of(x)
    axes = axes_of(axis, node)
    if node.dtype != "bool":
        node = o.not_equal(node, o.scalar(0, node.dtype))
    return Tensor(o.cast(op(node, axis=axes, keepdims=bool(keepdims)), dtype="uint8"))


# ---------------------------------------------------------------------------------------------------- running totals


def cumsum(x: Any, axis: int = 0) -> Tensor:
    """Sum up to and with each element along one axis, in the dtype of x (int64 for bools). It is not in Keras 1.x.

    >>> K.eval(K.cumsum(K.variable([1., 2., 3.])))
    array([1., 3., 6.], dtype=float32)
    """
    node = node_of(x)
    return Tensor(o.cumsum(node, axis=axis_of(axis, node)))


def cumprod(x: Any, axis: int = 0) -> Tensor:
    """Product up to and with each element along one axis, in the dtype of x (int64 for bools). It is not in Keras 1.x.

    The gradient is exact where elements are 0 too.

    >>> K.eval(K.cumprod(K.variable([1., 2., 3.])))
    array([1., 2., 6.], dtype=float32)
    """
    node = node_of(x)
    return Tensor(o.cumprod(node, axis=axis_of(axis, node)))

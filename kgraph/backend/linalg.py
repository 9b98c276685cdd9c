"""K functions of linear algebra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.backend.operands import axes_of, node_of, refuse
from kgraph.errors import AxisError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import as_float, promoted
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import as_axis, same_size


def dot(x: Any, y: Any) -> Tensor:
    """Product of matrices, vectors, or stacks of them: a sum over the last axis of x and the second-to-last of y.

    result[i..., j..., n] = sum_k x[i..., k] * y[j..., k, n]

    Args:
      x: [..., k].
      y: [..., k, n], or [k].
    Returns: the axes of x without the last one, then those of y without the one summed over.
    Raises: ShapeError if the sizes of these axes differ, or for a scalar.
    Source: numpy.dot, as Keras 1.2.2 has it.

    >>> K.eval(K.dot(K.variable([[1., 2.]]), K.variable([[3.], [4.]])))
    array([[11.]], dtype=float32)
    """
    a, b = promoted(x, y)
    if a.ndim == b.ndim == 2 and same_size(a.type.shape[1], b.type.shape[0]):
        return Tensor(o.matmul(a, b))
    if not (a.ndim and b.ndim):
        raise refuse(ShapeError, "a scalar has no axis to sum over", hint="multiply with *", x=x, y=y)
    inner = max(b.ndim - 2, 0)
    _check_inner(a, a.ndim - 1, b, inner, x, y)
    rows, columns = range(a.ndim - 1), [axis for axis in range(b.ndim) if axis != inner]
    result = [o.size_of(a, axis) for axis in rows] + [o.size_of(b, axis) for axis in columns]
    left = _matrix(a, rows, (a.ndim - 1,))
    right = _matrix(b, (inner,), columns)
    product = o.matmul(left, right)
    return Tensor(product if len(rows) == len(columns) == 1 else o.reshape_to(product, result))


def _matrix(x: Node, rows: Sequence[int], columns: Sequence[int]) -> Node:
    """x with some of its axes merged to the first, and the others to the second of two."""
    turned = _transposed(x, (*rows, *columns))
    return turned if len(rows) == len(columns) == 1 else o.reshape_to(turned, [o.size_of(x, *rows), o.size_of(x, *columns)])


def _transposed(x: Node, perm: tuple[int, ...]) -> Node:
    return x if perm == tuple(range(x.ndim)) else o.transpose(x, perm=perm)


def _check_inner(a: Node, ax: int, b: Node, ay: int, x: Any, y: Any) -> None:
    """Raises ShapeError, in terms of the operands x and y that were given, unless the axes summed over agree in size."""
    size, other = a.type.shape[ax], b.type.shape[ay]
    if same_size(size, other):
        return
    places = _place(ax, a), _place(ay, b)
    x_name, y_name = [v.node.name if isinstance(v, Operators) else None for v in (x, y)]
    hint = None
    if y_name:
        hint = f"{y_name!r} expects inputs of size {other}; the {places[0]} of {x_name or 'x'!r} has size {size}."
    message = f"inner sizes differ: {size} ({places[0]} of x) != {other} ({places[1]} of y)"
    raise refuse(ShapeError, message, hint=hint, x=x, y=y)


def _place(axis: int, x: Node) -> str:
    return {1: "last axis", 2: "second-to-last axis"}.get(x.ndim - axis, f"axis {axis}")


def batch_dot(x: Any, y: Any, axes: Any = None) -> Tensor:
    """Product sample by sample: for each sample, a sum over one axis of x and one of y.

    result[b, i..., j...] = sum_k x[b, ..k..] * y[b, ..k..]

    Args:
      x: [batch, ...], of rank 2 at least.
      y: [batch, ...], of rank 2 at least.
      axes: the axis of x and that of y; an int names the same one in both; None is the last of x with the second-to-last of y.
    Returns: [batch, other axes of x..., other axes of y...]; of two matrices with axes 1, the row-wise sum of products,
      [batch, 1].
    Raises: ShapeError, AxisError.
    Source: Keras 1.2.2. Of two matrices, axes other than (1, 1) mean what they do there on TensorFlow: equal axes sum x * y
      over that axis, unequal ones sum transpose(x) * y over the second, and a last axis of size 1 is added. The page of Keras
      1.x gives the example below the shape (1, 2), which its code never did.

    >>> K.eval(K.batch_dot(K.variable([[1., 2.], [3., 4.]]), K.variable([[5., 6.], [7., 8.]]), axes=1))
    array([[17.],
           [53.]], dtype=float32)
    """
    a, b = promoted(x, y)
    if a.ndim < 2 or b.ndim < 2:
        hint = "the first axis is the batch"
        raise refuse(ShapeError, f"ranks {a.ndim} and {b.ndim}; both have to be 2 or more", hint=hint, x=x, y=y)
    try:
        ax, ay = _pair_of_axes(axes, a.ndim, b.ndim)
    except AxisError as error:
        raise refuse(AxisError, f"axes is {axes!r}: {error.message}", x=x, y=y) from None
    if a.ndim == b.ndim == 2:
        return Tensor(_rowwise(a, b, ax, ay, x, y))
    for axis, name in ((ax, "x"), (ay, "y")):
        if axis == 0:
            hint = "name other axes with axes=(i, j)"
            raise refuse(AxisError, f"axis 0 of {name} is the batch, which is not summed over", hint=hint, x=x, y=y)
    if not same_size(a.type.shape[0], b.type.shape[0]):
        raise refuse(ShapeError, f"batches differ: {a.type.shape[0]} (x) != {b.type.shape[0]} (y)", x=x, y=y)
    _check_inner(a, ax, b, ay, x, y)
    rows = [axis for axis in range(1, a.ndim) if axis != ax]
    columns = [axis for axis in range(1, b.ndim) if axis != ay]
    result = [o.size_of(a, 0), *[o.size_of(a, axis) for axis in rows], *[o.size_of(b, axis) for axis in columns]]
    product = o.matmul(_stack_of_matrices(a, rows, (ax,)), _stack_of_matrices(b, (ay,), columns))
    if len(rows) <= 1 and len(columns) <= 1:
        if not columns:
            product = o.squeeze(product, axis=2)
        return Tensor(product if rows else o.squeeze(product, axis=1))
    return Tensor(o.reshape_to(product, result))


def _pair_of_axes(axes: Any, x_rank: int, y_rank: int) -> tuple[int, int]:
    pair = (x_rank - 1, y_rank - 2) if axes is None else axes if isinstance(axes, (tuple, list)) else (axes, axes)
    if len(pair) != 2:
        raise AxisError("not an int or a pair of ints")
    return as_axis(pair[0], x_rank), as_axis(pair[1], y_rank)


def _rowwise(a: Node, b: Node, ax: int, ay: int, x: Any, y: Any) -> Node:
    """The rule for two matrices: a sum of element-wise products over one axis."""
    if ax != ay:
        a = o.transpose(a, perm=(1, 0))
    for axis in (0, 1):
        size, other = a.type.shape[axis], b.type.shape[axis]
        if not same_size(size, other):
            message = f"sizes differ: {size} (axis {axis if ax == ay else 1 - axis} of x) != {other} (axis {axis} of y)"
            raise refuse(ShapeError, message, hint=None if ax == ay == 1 else "axes=1 sums the products row by row", x=x, y=y)
        # A size of 1 would be stretched to an unknown one. Nothing is stretched here, so the unknown one is 1 too.
        a = _of_size_one(a, axis) if other == 1 else a
        b = _of_size_one(b, axis) if size == 1 else b
    return o.expand_dims(o.sum(o.multiply(a, b), axis=(ay,), keepdims=False), axis=1)


def _of_size_one(x: Node, axis: int) -> Node:
    return x if x.type.shape[axis] == 1 else o.expand_dims(o.squeeze(x, axis=axis), axis=axis)


def _stack_of_matrices(x: Node, rows: Sequence[int], columns: Sequence[int]) -> Node:
    """x as [batch, rows merged, columns merged]; a side without axes has size 1."""
    turned = _transposed(x, (0, *rows, *columns))
    if x.ndim == 2:
        return o.expand_dims(turned, axis=2 if rows else 1)
    if len(rows) == len(columns) == 1:
        return turned
    return o.reshape_to(turned, [o.size_of(x, 0), o.size_of(x, *rows), o.size_of(x, *columns)])


TINY = 1e-12  #: below this a sum of squares counts as it (Keras 1.2.2 on TensorFlow, tf.nn.l2_normalize)


def l2_normalize(x: Any, axis: Any) -> Tensor:
    """x scaled to Euclidean length 1 along axis; a zero vector stays zero, and its gradient is finite.

    result = x / sqrt(max(sum(x^2), 1e-12))

    Args:
      x: float, any shape; integers are taken to floatx.
      axis: an int, or several; None takes all of x as one vector.
    Returns: float, shape of x.
    Source: Keras 1.2.2 on TensorFlow; on Theano a zero vector gave NaN. In float16, which has no 1e-12, the least is its
      smallest normal number, 6.1e-5.

    >>> K.eval(K.l2_normalize(K.variable([[3., 4.], [0., 0.]]), axis=1))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    node = as_float(node_of(x))
    total = o.sum(o.square(node), axis=axes_of(axis, node), keepdims=True)
    least = o.scalar(max(TINY, float(np.finfo(node.dtype).tiny)), node.dtype)
    return Tensor(o.divide(node, o.sqrt(o.maximum(total, least))))

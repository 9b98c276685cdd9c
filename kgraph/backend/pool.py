"""K functions of pooling."""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import refuse, show
from kgraph.backend.spatial import Layout, border_of, float_of, named, numbers_of
from kgraph.errors import ArgumentError
from kgraph.ir.tensor import Tensor

MODES = {"max": o.max_pool, "avg": o.avg_pool}


def pool2d(
    x: Any,
    pool_size: Any,
    strides: Any = (1, 1),
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
    pool_mode: Any = "max",
) -> Tensor:
    """The largest element, or the mean, of each window over two axes.

    Args:
      x: [batch, channels, rows, columns] in the ordering 'th', [batch, rows, columns, channels] in 'tf'; integers go to floatx.
      pool_size: the rows and columns of a window; an int, or one for each axis.
      strides: from one window to the next; an int, or one for each axis.
      border_mode: 'valid', 'same' or 'full': how many windows there are, as in `conv2d`. Padding is never the largest, and
        does not count in a mean.
      dim_ordering: 'th', 'tf', or 'default' for `image_dim_ordering()`.
      pool_mode: 'max' or 'avg'. A window with a NaN has the maximum NaN. The gradient of a maximum goes to the first of equal
        ones, row by row.
    Returns: x's batch, channels and layout.
    Raises: ShapeError for another rank, or windows that do not fit; ArgumentError for anything else that does not exist.
    Source: Keras 1.2.2 on TensorFlow. On Theano a mean counted the padding, and 'same' had other sizes for even windows.

    >>> image = K.variable([[[[1., 2., 3.], [4., 5., 6.]]]])
    >>> K.eval(K.pool2d(image, (2, 2), (2, 2), 'same', 'th'))
    array([[[[5., 6.]]]], dtype=float32)
    >>> K.eval(K.pool2d(image, (2, 2), (2, 2), 'same', 'th', 'avg'))
    array([[[[3. , 4.5]]]], dtype=float32)
    """
    return _pooled(x, pool_size, strides, border_mode, Layout(2, dim_ordering), pool_mode)


def pool3d(
    x: Any,
    pool_size: Any,
    strides: Any = (1, 1, 1),
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
    pool_mode: Any = "max",
) -> Tensor:
    """The largest element, or the mean, of each window over three axes. As `pool2d`, with one axis more.

    Args:
      x: [batch, channels, depth, rows, columns] in the ordering 'th', [batch, depth, rows, columns, channels] in 'tf'.

    >>> K.eval(K.pool3d(K.variable([[[[[1.], [2.]]], [[[3.], [4.]]]]]), (2, 1, 2), pool_mode='avg', dim_ordering='tf'))
    array([[[[[2.5]]]]], dtype=float32)
    """
    return _pooled(x, pool_size, strides, border_mode, Layout(3, dim_ordering), pool_mode)


def _pooled(x: Any, size: Any, strides: Any, border_mode: Any, layout: Layout, mode: Any) -> Tensor:
    op = MODES.get(mode) if isinstance(mode, str) else None
    if op is None:
        raise refuse(ArgumentError, f"pool_mode is {show(mode)}; it is 'max' or 'avg'", x=x)
    node = float_of(x)
    layout.check_rank(node, "x", x=x)
    how = {
        "size": numbers_of(size, layout.rank, "pool_size", x=x),
        "strides": numbers_of(strides, layout.rank, "strides", x=x),
        "border": border_of(border_mode, x=x),
    }
    return Tensor(layout.back(named(op, layout.last(node), how=how, x=x)))

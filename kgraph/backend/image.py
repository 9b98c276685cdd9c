"""K functions that add biases to images and sequences, and resize and pad them.

``dim_ordering`` is 'th' (channels first: [batch, channels, rows, columns]), 'tf' (channels last: [batch, rows, columns,
channels]), or 'default', which means ``image_dim_ordering()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import count_of, node_of, of_size_one, refuse, show
from kgraph.backend.spatial import ordering_of
from kgraph.errors import ArgumentError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.promote import promoted
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import same_size

#: What the axes of an image or a volume are called.
_SPACE = {1: "steps", 2: "rows, columns", 3: "planes, rows, columns"}


def _of_rank(x: Any, space: int, channels_first: bool) -> Node:
    """x as a node with a batch axis, axes of space and one of channels. Raises ShapeError."""
    node = node_of(x)
    if node.ndim != space + 2:
        axes = f"channels, {_SPACE[space]}" if channels_first else f"{_SPACE[space]}, channels"
        raise refuse(ShapeError, f"x has rank {node.ndim}, not {space + 2}: [batch, {axes}]", x=x)
    return node


# ---------------------------------------------------------------------------------------------------- bias


def bias_add(x: Any, bias: Any, dim_ordering: str = "default") -> Tensor:
    """x with one number added to each channel.

    Args:
      x: [batch, channels], or of rank 3 to 5: [batch, channels, ...] with 'th', [batch, ..., channels] with 'tf'.
      bias: [channels].
      dim_ordering: 'th' (channels first), 'tf' (channels last), or 'default', which means `image_dim_ordering()`.
    Returns: the shape of x, in the dtype that holds both.
    Raises: ShapeError, ArgumentError.
    Source: Keras 2; it is not in Keras 1.x.

    >>> K.eval(K.bias_add(K.variable([[1., 2.]]), K.variable([10., 20.])))
    array([[11., 22.]], dtype=float32)
    """
    first = ordering_of(dim_ordering) == "th"
    a, b = promoted(node_of(x), node_of(bias))
    if not 2 <= a.ndim <= 5:
        raise refuse(ShapeError, f"x has rank {a.ndim}; the ranks from 2 to 5 have an axis of channels", x=x, bias=bias)
    axis = 1 if first else a.ndim - 1
    channels = a.type.shape[axis]
    if b.ndim != 1 or not same_size(channels, b.type.shape[0]):
        message = f"the bias has one number per channel, and axis {axis} of x has {channels} channels"
        if b.ndim != 1:
            message = f"the bias has rank {b.ndim}, not 1: [channels]"
        other = "tf" if first else "th"
        hint = f"dim_ordering={other!r} has the channels {'last' if first else 'first'}" if a.ndim > 2 and b.ndim == 1 else None
        raise refuse(ShapeError, message, hint=hint, x=x, bias=bias)
    if channels == 1 and b.type.shape[0] is None:
        b = of_size_one(b, 0)
    elif b.type.shape[0] == 1 and channels is None:
        a = of_size_one(a, axis)
    for _ in range(a.ndim - 1 - axis):
        b = o.expand_dims(b, axis=b.ndim)
    return Tensor(o.add(a, b))


# ---------------------------------------------------------------------------------------------------- resizing


def resize_images(X: Any, height_factor: int, width_factor: int, dim_ordering: str) -> Tensor:  # noqa: N803
    """Images made larger: each pixel repeated (the nearest one).

    Args:
      X: [batch, channels, rows, columns] with 'th', [batch, rows, columns, channels] with 'tf'; any dtype.
      height_factor, width_factor: ints of at least 1.
      dim_ordering: 'th' (channels first), 'tf' (channels last), or 'default', which means `image_dim_ordering()`.
    Returns: the dtype of X.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2.

    >>> K.eval(K.resize_images(K.variable([[[[1., 2.]]]]), 2, 2, 'th'))[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    """
    return _resized(X, {"height_factor": height_factor, "width_factor": width_factor}, dim_ordering)


def resize_volumes(X: Any, depth_factor: int, height_factor: int, width_factor: int, dim_ordering: str) -> Tensor:  # noqa: N803
    """Volumes made larger: each voxel repeated (the nearest one).

    Args:
      X: [batch, channels, planes, rows, columns] with 'th', [batch, planes, rows, columns, channels] with 'tf'; any dtype.
      depth_factor, height_factor, width_factor: ints of at least 1.
      dim_ordering: 'th' (channels first), 'tf' (channels last), or 'default', which means `image_dim_ordering()`.
    Returns: the dtype of X.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2.

    >>> K.int_shape(K.resize_volumes(K.zeros((1, 2, 3, 4, 5)), 1, 2, 3, 'th'))
    (1, 2, 3, 8, 15)
    """
    factors = {"depth_factor": depth_factor, "height_factor": height_factor, "width_factor": width_factor}
    return _resized(X, factors, dim_ordering)


def _resized(x: Any, factors: dict[str, Any], dim_ordering: Any) -> Tensor:
    first = ordering_of(dim_ordering) == "th"
    node = _of_rank(x, len(factors), first)
    counts = [count_of(factor, what, 1) for what, factor in factors.items()]
    # The last axis first: repeating along it is slow, and there is less of it then.
    for axis, count in reversed(list(enumerate(counts, 2 if first else 1))):
        if count != 1:
            node = o.repeat(node, axis=axis, repeats=(count,))
    return Tensor(node)


# ---------------------------------------------------------------------------------------------------- padding


def temporal_padding(x: Any, padding: Any = 1) -> Tensor:
    """Sequences with zeros before and behind.

    Args:
      x: [batch, steps, features]; any dtype.
      padding: how many steps on each side; or a pair, of those before and those behind.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2, which takes one int.

    >>> K.eval(K.temporal_padding(K.variable([[[1.], [2.]]]), (2, 1)))[0, :, 0]
    array([0., 0., 1., 2., 0.], dtype=float32)
    """
    pair = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    return _padded(x, [_pair(pair, "padding", "a pair of ints: those before and those behind")], first=False)


def asymmetric_temporal_padding(x: Any, left_pad: int = 1, right_pad: int = 1) -> Tensor:
    """Sequences with zeros before and behind.

    Args:
      x: [batch, steps, features]; any dtype.
      left_pad, right_pad: how many steps before and behind.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2.

    >>> K.eval(K.asymmetric_temporal_padding(K.variable([[[1.], [2.]]]), 0, 2))[0, :, 0]
    array([1., 2., 0., 0.], dtype=float32)
    """
    return _padded(x, [(count_of(left_pad, "left_pad"), count_of(right_pad, "right_pad"))], first=False)


def spatial_2d_padding(x: Any, padding: Any = (1, 1), dim_ordering: str = "default") -> Tensor:
    """Images with zeros around.

    Args:
      x: [batch, channels, rows, columns] with 'th', [batch, rows, columns, channels] with 'tf'; any dtype.
      padding: for rows and for columns, how many on each side; or a pair for one of them, of those before and those behind;
        one int is for both.
      dim_ordering: 'th' (channels first), 'tf' (channels last), or 'default', which means `image_dim_ordering()`.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2, which takes two ints.

    >>> K.eval(K.spatial_2d_padding(K.variable([[[[1.]]]]), (1, (0, 2)), 'th'))[0, 0]
    array([[0., 0., 0.],
           [1., 0., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    return _padded(x, _pairs(padding, 2), ordering_of(dim_ordering) == "th")


def asymmetric_spatial_2d_padding(
    x: Any, top_pad: int = 1, bottom_pad: int = 1, left_pad: int = 1, right_pad: int = 1, dim_ordering: str = "default"
) -> Tensor:
    """Images with zeros around.

    Args:
      x: [batch, channels, rows, columns] with 'th', [batch, rows, columns, channels] with 'tf'; any dtype.
      top_pad, bottom_pad: how many rows before and behind.
      left_pad, right_pad: how many columns before and behind.
      dim_ordering: 'th' (channels first), 'tf' (channels last), or 'default', which means `image_dim_ordering()`.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2.

    >>> K.eval(K.asymmetric_spatial_2d_padding(K.variable([[[[1.]]]]), 1, 0, 0, 2, 'th'))[0, 0]
    array([[0., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    rows = count_of(top_pad, "top_pad"), count_of(bottom_pad, "bottom_pad")
    columns = count_of(left_pad, "left_pad"), count_of(right_pad, "right_pad")
    return _padded(x, [rows, columns], ordering_of(dim_ordering) == "th")


def spatial_3d_padding(x: Any, padding: Any = (1, 1, 1), dim_ordering: str = "default") -> Tensor:
    """Volumes with zeros around.

    Args:
      x: [batch, channels, planes, rows, columns] with 'th', [batch, planes, rows, columns, channels] with 'tf'; any dtype.
      padding: for planes, rows and columns, how many on each side; or a pair for one of them, of those before and those
        behind; one int is for all.
      dim_ordering: 'th' (channels first), 'tf' (channels last), or 'default', which means `image_dim_ordering()`.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2, which takes three ints.

    >>> K.int_shape(K.spatial_3d_padding(K.zeros((1, 2, 3, 4, 5)), (1, (0, 1), 2), 'th'))
    (1, 2, 5, 5, 9)
    """
    return _padded(x, _pairs(padding, 3), ordering_of(dim_ordering) == "th")


def _padded(x: Any, pairs: Sequence[tuple[int, int]], first: bool) -> Tensor:
    node = _of_rank(x, len(pairs), first)
    if not any(map(any, pairs)):
        return Tensor(node)
    around = [(0, 0), (0, 0), *pairs] if first else [(0, 0), *pairs, (0, 0)]
    return Tensor(o.pad(node, padding=tuple(around)))


def _pairs(padding: Any, space: int) -> list[tuple[int, int]]:
    """An int, or for each axis an int or a pair, as pairs. Raises ArgumentError."""
    entries = padding if isinstance(padding, (tuple, list)) else (padding,) * space
    allowed = f"an int, or for each of {_SPACE[space]} an int or a pair of ints"
    if len(entries) != space:
        raise refuse(ArgumentError, f"padding is {show(padding)}, not {allowed}")
    return [_pair(e if isinstance(e, (tuple, list)) else (e, e), f"padding[{i}]", allowed) for i, e in enumerate(entries)]


def _pair(entry: Sequence[Any], what: str, allowed: str) -> tuple[int, int]:
    if len(entry) != 2:
        raise refuse(ArgumentError, f"{what} is {show(entry)}, not {allowed}")
    return count_of(entry[0], what), count_of(entry[1], what)

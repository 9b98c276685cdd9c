"""K functions of convolution."""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import refuse, show, sizes_of
from kgraph.backend.spatial import Layout, border_of, hinted, named, numbers_of, pair_of
from kgraph.errors import ShapeError
from kgraph.ir.node import Node
from kgraph.ir.ops.windows import window_counts
from kgraph.ir.promote import as_float, promoted
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import same_size, show_shape


def conv1d(
    x: Any, kernel: Any, stride: Any = 1, border_mode: Any = "valid", image_shape: Any = None, filter_shape: Any = None
) -> Tensor:
    """Correlation along one axis; the kernel is not flipped.

    result[b, i, f] = sum_{t, c} x[b, stride i + t - padding, c] kernel[t, c, f]

    Args:
      x: [batch, steps, channels].
      kernel: [taps, channels, filters]. Integers go to floatx, and unequal dtypes to the one that holds both.
      border_mode, image_shape, filter_shape: as in `conv2d`.
    Returns: [batch, new steps, filters].
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2 on TensorFlow; on Theano it was missing.

    >>> K.eval(K.conv1d(K.variable([[[1.], [2.], [4.]]]), K.variable([[[1.]], [[10.]]])))
    array([[[21.],
            [42.]]], dtype=float32)
    """
    return _convolved(x, kernel, Layout(1), stride, border_mode, image_shape, filter_shape, 1, "stride", "image_shape")


def conv2d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1),
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
    image_shape: Any = None,
    filter_shape: Any = None,
    filter_dilation: Any = (1, 1),
) -> Tensor:
    """Correlation over two axes; the kernel is not flipped.

    Args:
      x: [batch, channels, rows, columns] in the ordering 'th', [batch, rows, columns, channels] in 'tf'.
      kernel: [filters, channels, rows, columns] in 'th', [rows, columns, channels, filters] in 'tf'; its rows and columns are
        known while the graph is built, by filter_shape if need be. Integers go to floatx, and unequal dtypes to the one that
        holds both.
      strides: from one window to the next; an int, or one for each axis.
      border_mode: with n elements, a stride of s, and a kernel from whose first element to its last there are k:
        'valid', ceil((n - k + 1) / s) windows within x; 'same', ceil(n / s), padded with zeros, of which the odd one is at the
        end; 'full', k - 1 zeros at each side, ceil((n + k - 1) / s).
      dim_ordering: 'th', 'tf', or 'default' for `image_dim_ordering()`.
      image_shape, filter_shape: the shapes of x and kernel as far as they are known: a size or None for each axis.
      filter_dilation: the distance between neighbouring elements of the kernel; an int, or one for each axis.
    Returns: x's batch and layout, with the filters for channels.
    Raises: ShapeError for another rank, other channels, a kernel that does not fit, a hint that contradicts; ArgumentError
      for strides, dilations, border modes or orderings that do not exist.
    Source: Keras 1.2.2 on TensorFlow. On Theano it flipped the kernel; 'same' had other sizes and padding for even kernels and
      strides, and 'full' was known there alone.

    >>> image = K.variable([[[[1., 2., 3.], [4., 5., 6.]]]])
    >>> K.eval(K.conv2d(image, K.variable([[[[1., 10.]]]]), dim_ordering='th'))
    array([[[[21., 32.],
             [54., 65.]]]], dtype=float32)
    """
    layout = Layout(2, dim_ordering)
    return _convolved(x, kernel, layout, strides, border_mode, image_shape, filter_shape, filter_dilation)


def conv3d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1, 1),
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
    volume_shape: Any = None,
    filter_shape: Any = None,
    filter_dilation: Any = (1, 1, 1),
) -> Tensor:
    """Correlation over three axes; the kernel is not flipped. As `conv2d`, with one axis more.

    Args:
      x: [batch, channels, depth, rows, columns] in the ordering 'th', [batch, depth, rows, columns, channels] in 'tf'.
      kernel: [filters, channels, depth, rows, columns] in 'th', [depth, rows, columns, channels, filters] in 'tf'.

    >>> volume = K.variable([[[[[1.], [2.]]], [[[3.], [4.]]]]])
    >>> K.eval(K.conv3d(volume, K.ones((2, 1, 2, 1, 1)), dim_ordering='tf'))
    array([[[[[10.]]]]], dtype=float32)
    """
    layout = Layout(3, dim_ordering)
    return _convolved(
        x, kernel, layout, strides, border_mode, volume_shape, filter_shape, filter_dilation, shape_name="volume_shape"
    )


def atrous_conv2d(
    x: Any,
    kernel: Any,
    rate: Any = 1,
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
    image_shape: Any = None,
    filter_shape: Any = None,
) -> Tensor:
    """`conv2d` with the elements of the kernel ``rate`` apart, on both axes.

    >>> row = K.variable([[[[1., 2., 3., 4.]]]])
    >>> K.eval(K.atrous_conv2d(row, K.variable([[[[1., 10.]]]]), rate=2, dim_ordering='th'))
    array([[[[31., 42.]]]], dtype=float32)
    """
    layout = Layout(2, dim_ordering)
    return _convolved(x, kernel, layout, 1, border_mode, image_shape, filter_shape, rate, rate_name="rate")


def _convolved(
    x: Any,
    kernel: Any,
    layout: Layout,
    strides: Any,
    border_mode: Any,
    x_shape: Any,
    kernel_shape: Any,
    dilation: Any,
    strides_name: str = "strides",
    shape_name: str = "image_shape",
    rate_name: str = "filter_dilation",
) -> Tensor:
    given = {"x": x, "kernel": kernel}
    a, w = pair_of(x, kernel)
    layout.check_rank(a, "x", **given)
    layout.check_rank(w, "the kernel", **given)
    a, w = hinted(a, x_shape, shape_name, x=x), hinted(w, kernel_shape, "filter_shape", kernel=kernel)
    _check_channels(a, w, layout, **given)
    how = {
        "strides": numbers_of(strides, layout.rank, strides_name, **given),
        "dilation": numbers_of(dilation, layout.rank, rate_name, **given),
        "border": border_of(border_mode, **given),
        "groups": 1,
    }
    return Tensor(layout.back(named(o.conv, layout.last(a), layout.kernel(w), how=how, **given)))


def _check_channels(a: Node, w: Node, layout: Layout, **given: Any) -> None:
    """The channels of x are those that the kernel takes. Raises ShapeError."""
    axis = 1 if layout.first else w.ndim - 2
    channels, wanted = a.type.shape[layout.channel], w.type.shape[axis]
    if not same_size(channels, wanted):
        hint = None
        if wanted in a.type.shape[1:]:
            other = "tf" if layout.first else "th"
            hint = f"dim_ordering is {layout.name!r}; if the data are not, give dim_ordering={other!r}"
        message = f"x has {channels} channels (axis {layout.channel}), the kernel takes {wanted} (its axis {axis})"
        raise refuse(ShapeError, message, hint=hint, **given)


def deconv2d(
    x: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any = (1, 1),
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
    image_shape: Any = None,
    filter_shape: Any = None,
) -> Tensor:
    """The gradient of `conv2d` with respect to its input: from what it gives back to what it takes.

    Args:
      x: as in `conv2d`.
      kernel: as in `conv2d`: its channels are those of x, its filters those of the result.
      output_shape: the shape of the result: a size for each axis, an int or symbolic. None leaves the batch to x, and the
        channels to the kernel. `conv2d` takes rows and columns of these sizes to those of x.
      strides, border_mode, dim_ordering, image_shape, filter_shape: as in `conv2d`.
    Returns: x's batch and layout, in the sizes of output_shape.
    Raises: ShapeError, also for sizes that `conv2d` takes to others than those of x; ArgumentError.
    Source: Keras 1.2.2.

    >>> K.eval(K.deconv2d(K.ones((1, 2, 2, 1)), K.ones((1, 2, 1, 1)), (None, 2, 3, 1), dim_ordering='tf'))[0, :, :, 0]
    array([[1., 2., 1.],
           [1., 2., 1.]], dtype=float32)
    """
    given = {"x": x, "kernel": kernel}
    layout = Layout(2, dim_ordering)
    a, w = pair_of(x, kernel)
    layout.check_rank(a, "x", **given)
    layout.check_rank(w, "the kernel", **given)
    a, w = hinted(a, image_shape, "image_shape", x=x), hinted(w, filter_shape, "filter_shape", kernel=kernel)
    _check_channels(a, w, layout, **given)
    if not isinstance(output_shape, (tuple, list)) or len(output_shape) != 4:
        raise refuse(ShapeError, f"output_shape is {show(output_shape)}, not a size for each of the 4 axes", **given)
    space = layout.sizes(output_shape)
    if any(size is None for size in space):
        hint = "several sizes may be taken to those of x; only the batch and the channels may be None"
        raise refuse(ShapeError, f"output_shape is {show(output_shape)}, without a size in space", hint=hint, **given)
    entries, sizes = sizes_of(space, "output_shape", **given)
    filters = w.type.shape[0 if layout.first else w.ndim - 1]
    for axis, known, whose in ((0, a.type.shape[0], "x has a batch of"), (layout.channel, filters, "the kernel has filters")):
        if output_shape[axis] is not None:
            (wanted,), _ = sizes_of([output_shape[axis]], "output_shape", **given)
            if not same_size(wanted, known):
                message = f"output_shape has {wanted} on axis {axis}, {whose}: {known}"
                raise refuse(ShapeError, message, **given)
    how = {
        "strides": numbers_of(strides, 2, "strides", **given),
        "dilation": (1, 1),
        "border": border_of(border_mode, **given),
        "groups": 1,
    }
    w = layout.kernel(w)
    taps = w.type.shape[:2]
    if None not in taps and 0 not in taps:
        windows = named_counts(entries, taps, how, **given)
        here = layout.sizes(a.type.shape)
        if not all(map(same_size, windows, here)):
            message = f"conv2d takes {show_shape(entries)} in space to {show_shape(windows)}, and x is {show_shape(here)}"
            raise refuse(ShapeError, message, hint="output_shape is one that conv2d takes to the shape of x", **given)
    swapped = o.transpose(w, perm=(0, 1, 3, 2))
    how["shape"] = entries
    return Tensor(layout.back(named(o.conv_input_grad, layout.last(a), swapped, *sizes, how=how, **given)))


def named_counts(entries: Any, taps: Any, how: dict[str, Any], /, **given: Any) -> Any:
    """The numbers of windows over sizes. Raises ShapeError in terms of a K function."""
    try:
        return window_counts(entries, taps, how["strides"], how["dilation"], how["border"])
    except ShapeError as error:
        message = error.message
    raise refuse(ShapeError, f"output_shape: {message}", **given)


def separable_conv2d(
    x: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = (1, 1),
    border_mode: Any = "valid",
    dim_ordering: Any = "default",
) -> Tensor:
    """A convolution of each channel by itself, and one of 1 x 1 that mixes what comes out.

    Args:
      x: as in `conv2d`.
      depthwise_kernel: [each, channels, rows, columns] in the ordering 'th', [rows, columns, channels, each] in 'tf': so many
        filters of its own for each channel.
      pointwise_kernel: [filters, channels each, 1, 1] in 'th', [1, 1, channels each, filters] in 'tf', where what the filters
        of the first channel give comes first.
      strides, border_mode, dim_ordering: as in `conv2d`, of the first convolution.
    Returns: x's batch and layout, with the filters for channels.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2 on TensorFlow; on Theano it was missing. Strides may differ here, and 'full' is known.

    >>> image = K.variable([[[[1., 2.], [3., 4.]]]])
    >>> twice = K.eval(K.separable_conv2d(image, K.ones((1, 1, 2, 1)), K.ones((3, 1, 1, 1)), dim_ordering='th'))
    >>> twice[0, :, 0]
    array([[4., 6.],
           [4., 6.],
           [4., 6.]], dtype=float32)
    """
    given = {"x": x, "depthwise_kernel": depthwise_kernel, "pointwise_kernel": pointwise_kernel}
    layout = Layout(2, dim_ordering)
    a, depth = promoted(x, depthwise_kernel)
    a, point = promoted(Tensor(a), pointwise_kernel)
    a, depth = promoted(Tensor(a), Tensor(depth))
    a, depth, point = as_float(a), as_float(depth), as_float(point)
    layout.check_rank(a, "x", **given)
    layout.check_rank(depth, "the depthwise kernel", **given)
    layout.check_rank(point, "the pointwise kernel", **given)
    depth, point = layout.kernel(depth), layout.kernel(point)
    channels, each = depth.type.shape[2:]
    if channels is None or None in depth.type.shape[:2]:
        raise refuse(ShapeError, "the rows, columns and channels of the depthwise kernel have to be known", **given)
    if not same_size(a.type.shape[layout.channel], channels):
        message = f"x has {a.type.shape[layout.channel]} channels (axis {layout.channel}), the depthwise kernel {channels}"
        raise refuse(ShapeError, message, **given)
    made = None if each is None else channels * each
    if not all(map(same_size, point.type.shape[:2], (1, 1))):
        shown = show_shape(point.type.shape[:2])
        raise refuse(ShapeError, f"the pointwise kernel is {shown} in space, not [1, 1]", **given)
    if not same_size(point.type.shape[2], made):
        raise refuse(
            ShapeError, f"the pointwise kernel takes {point.type.shape[2]} channels, the depthwise one makes {made}", **given
        )
    how = {
        "strides": numbers_of(strides, 2, "strides", **given),
        "dilation": (1, 1),
        "border": border_of(border_mode, **given),
    }
    rows, columns = depth.type.shape[:2]
    assert rows is not None and columns is not None
    filters: Any = o.size_of(depth, 2, 3)
    depth = o.reshape_to(depth, [rows, columns, 1, filters])
    if point.type.shape[:2] != (1, 1):
        point = o.reshape_to(point, [1, 1, o.size_of(point, 2), o.size_of(point, 3)])
    between = named(o.conv, layout.last(a), depth, how={**how, "groups": channels}, **given)
    flat = {"strides": (1, 1), "dilation": (1, 1), "border": "same", "groups": 1}  # 'valid' refuses an image without elements
    return Tensor(layout.back(named(o.conv, between, point, how=flat, **given)))

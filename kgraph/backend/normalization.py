"""K functions that normalise over a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import axes_of, node_of, of_size_one, refuse, show
from kgraph.backend.reduce import mean_of
from kgraph.errors import ArgumentError, AxisError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import as_dtype, as_float, as_node
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import PROMOTION, same_size, show_shape


def normalize_batch_in_training(
    x: Any, gamma: Any, beta: Any, reduction_axes: Any, epsilon: float = 1e-3
) -> tuple[Tensor, Tensor, Tensor]:
    """x brought to mean beta and standard deviation gamma over some axes, with the mean and the variance that it had.

    normed = gamma * (x - mean) / sqrt(var + epsilon) + beta

    Args:
      x: float, any shape; integers are taken to floatx.
      gamma, beta: of the axes that stay ([features], mostly), or of the rank of x with size 1 where it is reduced; None is 1
        for gamma, 0 for beta.
      reduction_axes: an int or several, at least one.
      epsilon: a number of at least 0.
    Returns: normed, in the shape of x and the dtype that holds x, gamma and beta; mean and var over reduction_axes, without
      them, in the same dtype. var divides by n, and is taken of the differences to the mean, so that a large mean does it no
      harm. float16 is computed in float32.
    Raises: ShapeError, AxisError, ArgumentError.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 1; Keras 1.2.2.

    >>> x, gamma, beta = K.variable([[1.], [3.]]), K.ones((1,)), K.zeros((1,))
    >>> [K.eval(part).tolist() for part in K.normalize_batch_in_training(x, gamma, beta, [0], epsilon=0.)]
    [[[-1.0], [1.0]], [2.0], [1.0]]
    """
    _check_epsilon(epsilon)
    node = as_float(node_of(x))
    axes = axes_of(reduction_axes, node)
    if not axes:
        hint = "the axes of the batch and of the positions: [0, 1, 2] of [batch, rows, columns, channels]"
        raise refuse(AxisError, "reduction_axes is empty: there is nothing to take the mean of", hint=hint, x=x)
    dtype, (wide, *parts) = _widened(node, gamma, beta)
    fitted = []
    for part, name, given in zip(parts, ("gamma", "beta"), (gamma, beta), strict=True):
        if part is not None and part.ndim == node.ndim - len(axes):
            for axis in axes:
                part = o.expand_dims(part, axis=axis)
        wide, part = _fitting(wide, part, axes, "of the axes that stay", {"x": x, name: given})
        fitted.append(part)
    scale, offset = fitted
    mean = mean_of(wide, axes, keepdims=True)
    apart = wide - mean
    var = mean_of(o.square(apart), axes, keepdims=True)
    normed = _normed(apart, var, offset, scale, epsilon)
    mean, var = [as_dtype(_without(part, axes), dtype) for part in (mean, var)]
    return Tensor(as_dtype(normed, dtype)), Tensor(mean), Tensor(var)


def batch_normalization(x: Any, mean: Any, var: Any, beta: Any, gamma: Any, epsilon: float = 1e-3) -> Tensor:
    """x normalised by a mean and a variance that are given.

    gamma * (x - mean) / sqrt(var + epsilon) + beta

    Args:
      x: float, any shape; integers are taken to floatx.
      mean, var, beta, gamma: [size of the last axis of x], or of the rank of x with that size or 1 on each axis; beta None is
        0, gamma None is 1. (The order is that of Keras 1.x.)
      epsilon: a number of at least 0.
    Returns: the shape of x, in the dtype that holds all. float16 is computed in float32.
    Raises: ShapeError, ArgumentError.
    Source: Keras 1.2.2.

    >>> one = K.ones((2,))
    >>> K.eval(K.batch_normalization(K.variable([[3., 5.]]), one, one * 4, one, one * 2, epsilon=0.))
    array([[3., 5.]], dtype=float32)
    """
    _check_epsilon(epsilon)
    node = as_float(node_of(x))
    given = {"mean": mean, "var": var, "beta": beta, "gamma": gamma}
    for name in ("mean", "var"):
        if given[name] is None:
            raise refuse(ArgumentError, f"{name} is None", x=x)
    dtype, (wide, *parts) = _widened(node, *given.values())
    fitted = []
    for part, (name, value) in zip(parts, given.items(), strict=True):
        if part is not None and part.ndim == 1:
            for _ in range(node.ndim - 1):
                part = o.expand_dims(part, axis=0)
        ones = () if part is None else tuple([axis for axis, size in enumerate(part.type.shape) if size == 1])
        wide, part = _fitting(wide, part, ones, "of the last axis", {"x": x, name: value})
        fitted.append(part)
    center, spread, offset, scale = fitted
    return Tensor(as_dtype(_normed(wide - center, spread, offset, scale, epsilon), dtype))


def _normed(apart: Node, var: Node, beta: Node | None, gamma: Node | None, epsilon: float) -> Node:
    """What is apart from the mean, scaled and moved."""
    spread = o.sqrt(var + float(epsilon))
    out = apart / spread if gamma is None else apart * (gamma / spread)
    return out if beta is None else out + beta


def _check_epsilon(epsilon: Any) -> None:
    if isinstance(epsilon, Operators) or not isinstance(epsilon, (int, float)) or not 0 <= epsilon < math.inf:
        raise refuse(ArgumentError, f"epsilon is {show(epsilon)}, not a number of at least 0")


def _widened(x: Node, *others: Any) -> tuple[str, list[Any]]:
    """The dtype that holds all, and x and the others (nodes, None for None) in the one that is computed in."""
    nodes = [x, *[None if other is None else as_node(other, like=x.dtype) for other in others]]
    dtype = x.dtype
    for node in nodes:
        if node is not None:
            dtype = PROMOTION[dtype, node.dtype]
    wide = "float32" if dtype == "float16" else dtype
    return dtype, [None if node is None else as_dtype(node, wide) for node in nodes]


def _fitting(x: Node, part: Any, ones: Sequence[int], sizes: str, given: dict[str, Any]) -> tuple[Node, Any]:
    """x and a parameter, once it is known that the parameter has the sizes of x, and size 1 on some axes.

    Args:
      part: of the rank of x, or what is refused; None passes.
      ones: these axes.
      sizes, given: for messages.
    Raises: ShapeError.
    """
    if part is None:
        return x, None
    wanted = [1 if axis in ones else size for axis, size in enumerate(x.type.shape)]
    if part.ndim != x.ndim or not all(map(same_size, part.type.shape, wanted)):
        _, name = given
        shown = show_shape(node_of(given[name]).type.shape)
        hint = f"a vector has the size {sizes}; anything else has the rank of x, and size 1 where it is stretched"
        raise refuse(ShapeError, f"{name} is {shown}, which does not go with {show_shape(x.type.shape)}", hint=hint, **given)
    for axis, (size, other) in enumerate(zip(part.type.shape, wanted, strict=True)):
        if size is None and other == 1:
            part = of_size_one(part, axis)
        elif size == 1 and other is None:
            x = of_size_one(x, axis)
    return x, part


def _without(x: Node, axes: tuple[int, ...]) -> Node:
    for axis in reversed(axes):
        x = o.squeeze(x, axis=axis)
    return x

"""K functions that look at shapes and dtypes, rearrange, join, repeat and select elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.backend.operands import axes_of, axis_of, dtype_of, node_of, refuse, show, sizes_of
from kgraph.config import settings
from kgraph.errors import AxisError, DTypeError, ShapeError
from kgraph.ir.node import Identity, Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import as_dtype as cast_to
from kgraph.ir.promote import as_node
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import PROMOTION, as_axis, kind, same_size, show_shape

# ---------------------------------------------------------------------------------------------------- what a tensor is


def shape(x: Any) -> Tensor:
    """The sizes of x as a tensor, also those that are unknown while the graph is built.

    ``K.shape(x)[i]`` is a symbolic size: `reshape`, `tile`, `arange` and slices take it.

    Returns: int32 [rank of x].

    >>> K.eval(K.shape(K.variable([[1., 2., 3.]])))
    array([1, 3], dtype=int32)
    """
    return Tensor(o.shape(node_of(x)))


def int_shape(x: Any) -> tuple[int | None, ...]:
    """The sizes of x as a tuple, None where one is unknown while the graph is built.

    Returns: ``x._keras_shape`` where Keras has set it, else what the graph knows. Keras 1.2.2 on Theano knows the first only.

    >>> K.int_shape(K.placeholder((None, 3)))
    (None, 3)
    """
    given = getattr(x, "_keras_shape", None)
    return node_of(x).type.shape if given is None else tuple(given)


def ndim(x: Any) -> int:
    """The number of axes of x.

    >>> K.ndim(K.placeholder((None, 3)))
    2
    """
    return node_of(x).ndim


def dtype(x: Any) -> str:
    """The name of the dtype of x.

    >>> K.dtype(K.placeholder((None, 3)))
    'float32'
    """
    return node_of(x).dtype


def is_sparse(tensor: Any) -> bool:
    """Whether a tensor is marked as sparse: a placeholder or variable made so, or such ones joined; or a scipy matrix.

    The mark says what was given; the values of tensors are dense.

    >>> K.is_sparse(K.placeholder((None, 3), sparse=True)), K.is_sparse(K.placeholder((None, 3)))
    (True, False)
    """
    return bool(getattr(tensor, "_sparse", False)) or hasattr(tensor, "tocoo")


def to_dense(tensor: Any) -> Tensor:
    """The tensor without the mark of a sparse one: its value is dense already. Of a scipy matrix, a constant.

    >>> K.is_sparse(K.to_dense(K.placeholder((None, 3), sparse=True)))
    False
    """
    return Tensor(node_of(tensor))


# ---------------------------------------------------------------------------------------------------- layout


def reshape(x: Any, shape: Any) -> Tensor:
    """The elements of x, in row-major order, in another shape.

    Args:
      shape: ints, at most one of them -1 (worked out from the others), and symbolic sizes such as ``K.shape(x)[0]``.
    Returns: a tensor of that shape, dtype of x.
    Raises: ShapeError if x cannot have that many elements, or for more than one -1.

    >>> K.eval(K.reshape(K.variable([[1., 2., 3., 4.]]), (2, -1)))
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    given = _listed(shape)
    entries, nodes = sizes_of(given, lowest=-1, x=x)
    result = Tensor(o.reshape(node_of(x), *nodes, shape=entries))
    if not any(isinstance(size, Operators) for size in given):
        # Keras tests for the presence of these marks.
        result._keras_shape = result.shape  # type: ignore[attr-defined]
        result._uses_learning_phase = getattr(x, "_uses_learning_phase", False)  # type: ignore[attr-defined]
    return result


def _listed(sizes: Any) -> list[Any]:
    """One size, or several, or a symbolic vector of them, as a list."""
    if isinstance(sizes, Operators):
        return list(Tensor(sizes.node)) if sizes.node.ndim else [sizes]
    return list(sizes) if isinstance(sizes, (tuple, list)) or np.ndim(sizes) else [sizes]


def permute_dimensions(x: Any, pattern: Sequence[int]) -> Tensor:
    """The axes of x in another order: axis i of the result is axis ``pattern[i]`` of x.

    Raises: AxisError unless pattern names each axis once.

    >>> K.int_shape(K.permute_dimensions(K.zeros((2, 3, 4)), (2, 0, 1)))
    (4, 2, 3)
    """
    node = node_of(x)
    if not isinstance(pattern, (tuple, list)):
        raise refuse(AxisError, f"the pattern is {show(pattern)}, not a tuple or list of axes", x=x)
    return Tensor(o.transpose(node, perm=tuple([axis_of(axis, node) for axis in pattern])))


def transpose(x: Any) -> Tensor:
    """The axes of x in reverse order; of a matrix, its transpose.

    >>> K.int_shape(K.transpose(K.zeros((2, 3))))
    (3, 2)
    """
    node = node_of(x)
    return Tensor(o.transpose(node, perm=tuple(range(node.ndim - 1, -1, -1))))


def expand_dims(x: Any, dim: int = -1) -> Tensor:
    """x with a new axis of size 1.

    Args:
      dim: where the axis is in the result; -1 puts it last.
    Raises: AxisError.

    >>> K.int_shape(K.expand_dims(K.zeros((2, 3)), 1))
    (2, 1, 3)
    """
    node = node_of(x)
    try:
        axis = as_axis(dim, node.ndim + 1)
    except AxisError:
        allowed = f"an int from {-node.ndim - 1} to {node.ndim}"
        raise refuse(AxisError, f"dim is {dim!r}; the place of a new axis is {allowed}", x=node) from None
    return Tensor(o.expand_dims(node, axis=axis))


def squeeze(x: Any, axis: int) -> Tensor:
    """x without one axis, whose size is 1.

    Raises: ShapeError if the size is known and not 1; if it is unknown, the call of the function raises.

    >>> K.int_shape(K.squeeze(K.zeros((2, 1, 3)), 1))
    (2, 3)
    """
    node = node_of(x)
    return Tensor(o.squeeze(node, axis=axis_of(axis, node)))


def flatten(x: Any) -> Tensor:
    """The elements of x, in row-major order, along one axis.

    >>> K.eval(K.flatten(K.variable([[1., 2.], [3., 4.]])))
    array([1., 2., 3., 4.], dtype=float32)
    """
    return Tensor(o.reshape(node_of(x), shape=(-1,)))


def batch_flatten(x: Any) -> Tensor:
    """x as a matrix: the first axis stays, the others become one.

    Args:
      x: [batch, ...].
    Returns: [batch, elements of one sample].

    >>> K.int_shape(K.batch_flatten(K.placeholder((None, 3, 4))))
    (None, 12)
    """
    node = node_of(x)
    if not node.ndim:
        raise refuse(ShapeError, "a scalar has no batch axis", x=x)
    return Tensor(o.reshape_to(node, [o.size_of(node, 0), o.size_of(node, *range(1, node.ndim))]))


def pattern_broadcast(x: Any, broatcastable: Sequence[bool]) -> Tensor:
    """x with axes that are known to have size 1, so that they are stretched in element-wise operations.

    Args:
      broatcastable: a bool per axis (the name is that of Keras 1.x). True for a size that is unknown says that it is 1 in
        each call; False says nothing.
    Raises: ShapeError for a True on an axis of another size. Keras 1.2.2 has this function on Theano only, where a False
      also forbids the stretching.
    """
    node = node_of(x)
    if len(_listed(broatcastable)) != node.ndim:
        raise refuse(ShapeError, f"the pattern has {np.size(broatcastable)} entries, the rank of x is {node.ndim}", x=x)
    for axis, wanted in enumerate(broatcastable):
        if wanted and node.type.shape[axis] != 1:
            node = o.expand_dims(o.squeeze(node, axis=axis), axis=axis)
    return Tensor(node)


# ---------------------------------------------------------------------------------------------------- joining, repeating


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Tensor:
    """Tensors joined along one axis, in the dtype that holds all of theirs.

    Args:
      tensors: of one rank; their sizes agree but for this axis.
    Raises: ShapeError, AxisError.

    >>> K.eval(K.concatenate([K.variable([[1., 2.]]), K.variable([[3.]])]))
    array([[1., 2., 3.]], dtype=float32)
    """
    tensors = _several(tensors)
    nodes = _of_one_dtype(tensors)
    if not nodes:
        raise refuse(ShapeError, "there is nothing to concatenate")
    if not nodes[0].ndim:
        raise refuse(ShapeError, "a scalar has no axis to concatenate along", hint="K.stack joins scalars", x=nodes[0])
    joined: Any = Tensor(o.concatenate(*nodes, axis=axis_of(axis, nodes[0])))
    if all(map(is_sparse, tensors)):
        joined._sparse = True
    return joined


def stack(x: Sequence[Any]) -> Tensor:
    """Tensors of one shape joined along a new first axis, in the dtype that holds all of theirs.

    Ints and symbolic sizes stack to a vector that `reshape` takes.

    >>> K.eval(K.stack([K.variable(1.), K.variable(2.)]))
    array([1., 2.], dtype=float32)
    """
    nodes = _of_one_dtype(_several(x))
    if not nodes:
        raise refuse(ShapeError, "there is nothing to stack")
    for i, node in enumerate(nodes[1:], 2):
        if node.ndim != nodes[0].ndim or not all(map(same_size, node.type.shape, nodes[0].type.shape)):
            message = (
                f"shapes differ: {show_shape(nodes[0].type.shape)} (tensor 1) != {show_shape(node.type.shape)} (tensor {i})"
            )
            hint = "K.concatenate joins along an axis that is there"
            raise refuse(ShapeError, message, hint=hint, **{"tensor 1": nodes[0], f"tensor {i}": node})
    return Tensor(o.concatenate(*[o.expand_dims(node, axis=0) for node in nodes], axis=0))


def _several(values: Any) -> list[Any]:
    if not isinstance(values, Iterable):
        raise refuse(DTypeError, f"the tensors are {show(values)}, not a list of tensors")
    return list(values)


def _of_one_dtype(values: Sequence[Any]) -> list[Node]:
    """Tensors, arrays and numbers as nodes of one dtype; numbers and lists take that of the others."""
    strong = {i: node_of(v) for i, v in enumerate(values) if isinstance(v, Operators) or _has_dtype(v)}
    like = _common_dtype(list(strong.values()))
    nodes = [strong[i] if i in strong else as_node(value, like=like) for i, value in enumerate(values)]
    common = _common_dtype(nodes)
    return [node if common is None else cast_to(node, common) for node in nodes]


def _has_dtype(value: Any) -> bool:
    """Whether a value that is no tensor has a dtype of its own: an array or a scipy matrix, and not a number."""
    return (isinstance(value, np.ndarray) and value.ndim > 0) or hasattr(value, "tocoo")


def _common_dtype(nodes: Sequence[Node]) -> str | None:
    common: str | None = None
    for node in nodes:
        common = node.dtype if common is None else PROMOTION[common, node.dtype]
    return common


def repeat(x: Any, n: Any) -> Tensor:
    """Each sample n times, along a new second axis.

    Args:
      x: [batch, features].
      n: an int or a symbolic size.
    Returns: [batch, n, features].

    >>> K.eval(K.repeat(K.variable([[1., 2.]]), 2))
    array([[[1., 2.],
            [1., 2.]]], dtype=float32)
    """
    node = node_of(x)
    if node.ndim != 2:
        raise refuse(ShapeError, f"x has rank {node.ndim}, not 2", hint="K.repeat_elements and K.tile take any rank", x=x)
    repeats, sizes = sizes_of([n], "n", x=x)
    return Tensor(o.repeat(o.expand_dims(node, axis=1), *sizes, axis=1, repeats=repeats))


def repeat_elements(x: Any, rep: Any, axis: int) -> Tensor:
    """Each element rep times, one after the other, along an axis.

    Args:
      rep: an int or a symbolic size.

    >>> K.eval(K.repeat_elements(K.variable([1., 2.]), 2, 0))
    array([1., 1., 2., 2.], dtype=float32)
    """
    node = node_of(x)
    repeats, sizes = sizes_of([rep], "rep", x=x)
    return Tensor(o.repeat(node, *sizes, axis=axis_of(axis, node), repeats=repeats))


def tile(x: Any, n: Any) -> Tensor:
    """x, as a whole, so many times along each axis.

    Args:
      n: an int or symbolic size, or several, one per axis. Fewer than x has axes count from the last one; for more, x gets
        new first axes, as in NumPy.

    >>> K.eval(K.tile(K.variable([1., 2.]), 2))
    array([1., 2., 1., 2.], dtype=float32)
    """
    node = node_of(x)
    reps, sizes = sizes_of(_listed(n), "n", x=x)
    while node.ndim < len(reps):
        node = o.expand_dims(node, axis=0)
    return Tensor(o.tile(node, *sizes, reps=(1,) * (node.ndim - len(reps)) + reps))


def reverse(x: Any, axes: Any) -> Tensor:
    """The elements in reverse order along one axis (an int) or several (a tuple or list).

    >>> K.eval(K.reverse(K.variable([1., 2., 3.]), 0))
    array([3., 2., 1.], dtype=float32)
    """
    node = node_of(x)
    return Tensor(o.flip(node, axes=axes_of(axes, node)))


# ---------------------------------------------------------------------------------------------------- new values


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: str | None = "int32") -> Tensor:
    """The numbers from start up to stop (not included), step apart; with one argument, from 0 up to it.

    Args:
      start, stop, step: numbers, or integer scalars such as ``K.shape(x)[0]``. None of the numbers lie beyond a stop on the
        other side of start: the result is empty.
      dtype: of the result; None is int32.
    Raises: DTypeError if a number does not fit the dtype.

    >>> K.eval(K.arange(1, 7, 2))
    array([1, 3, 5], dtype=int32)
    """
    name = dtype_of(dtype, "int32")
    bounds = (0, start, step) if stop is None else (start, stop, step)
    if any(isinstance(bound, Operators) for bound in bounds):
        entries, sizes = sizes_of(bounds, "the bounds", lowest=-(2**63))
        if None in entries:
            return Tensor(o.arange(*sizes, bounds=entries, dtype=name))
        bounds = entries  # type: ignore[assignment]
    if not all(np.ndim(bound) == 0 and np.asarray(bound).dtype.kind in "biuf" for bound in bounds):
        raise refuse(DTypeError, f"the bounds are {', '.join(map(show, bounds))}, not numbers")
    if bounds[2] == 0:
        raise refuse(ShapeError, "the step is 0")
    values = np.arange(*bounds)
    if kind(name) == "int" and values.size and not (np.iinfo(name).min <= values.min() and values.max() <= np.iinfo(name).max):
        raise refuse(DTypeError, f"the numbers from {values[0]} to {values[-1]} do not fit {name}")
    return Tensor(o.constant_of(values.astype(name)))


def zeros_like(x: Any, dtype: str | None = None, name: str | None = None) -> Tensor:
    """Zeros in the shape of x, and in its dtype unless another one is given.

    >>> K.eval(K.zeros_like(K.variable([1., 2.])))
    array([0., 0.], dtype=float32)
    """
    return _filled_like(x, 0, dtype, name)


def ones_like(x: Any, dtype: str | None = None, name: str | None = None) -> Tensor:
    """Ones in the shape of x, and in its dtype unless another one is given.

    >>> K.eval(K.ones_like(K.variable([1., 2.])))
    array([1., 1.], dtype=float32)
    """
    return _filled_like(x, 1, dtype, name)


def _filled_like(x: Any, value: int, dtype: str | None, name: str | None) -> Tensor:
    node = node_of(x)
    filled = o.filled_like(node, value, dtype_of(dtype, node.dtype))
    return Tensor(filled if name is None else o.identity(filled, uid=Identity(name)))


def cast(x: Any, dtype: str) -> Tensor:
    """x in another dtype. Floats are cut to integers towards 0; what is not 0 is True; True is 1.

    The gradient comes back through a cast between floats and ends at any other.

    >>> K.eval(K.cast(K.variable([1.7, -1.7]), 'int32'))
    array([ 1, -1], dtype=int32)
    """
    node = node_of(x)
    return Tensor(cast_to(node, dtype_of(dtype, settings.floatx)))


def identity(x: Any, name: str | None = None) -> Tensor:
    """x, as a tensor of its own: a gradient with respect to it counts this occurrence alone."""
    return Tensor(o.identity(node_of(x), uid=Identity(name)))


def stop_gradient(variables: Any) -> Any:
    """The tensor, as a constant to the gradient; of a list of tensors, a list.

    >>> x = K.variable(3.)
    >>> K.eval(K.gradients(x * K.stop_gradient(x), [x])[0])
    array(3., dtype=float32)
    """
    if isinstance(variables, (list, tuple)):
        return [Tensor(o.stop_gradient(node_of(x))) for x in variables]
    return Tensor(o.stop_gradient(node_of(variables)))


def print_tensor(x: Any, message: str = "") -> Tensor:
    """x, printed after the message whenever a call computes the result; use the result in the place of x."""
    return Tensor(o.print_(node_of(x), uid=Identity(), message=str(message)))


# ---------------------------------------------------------------------------------------------------- selecting


def gather(reference: Any, indices: Any) -> Tensor:
    """Rows of a tensor, by their position along the first axis.

    Args:
      reference: [rows, ...].
      indices: integers of any rank; a negative one counts from the end.
    Returns: shape of indices + shape of one row. Its gradient adds up the rows that are taken more than once.
    Raises: DTypeError for other than integers; IndexOutOfRange, in the call, for an index out of range.

    >>> K.eval(K.gather(K.variable([[1., 2.], [3., 4.]]), [1, 1]))
    array([[3., 4.],
           [3., 4.]], dtype=float32)
    """
    return Tensor(o.gather(node_of(reference), node_of(indices)))


def one_hot(indices: Any, nb_classes: int) -> Tensor:
    """1 at the index along a new last axis, 0 elsewhere.

    Args:
      indices: integers of any rank; one out of range gives only zeros.
    Returns: floatx, shape of indices + (nb_classes,).

    >>> K.eval(K.one_hot([0, 2], 3))
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    (depth,), sizes = sizes_of([nb_classes], "nb_classes")
    if sizes:
        raise refuse(ShapeError, "the number of classes has to be known while the graph is built", nb_classes=nb_classes)
    return Tensor(o.one_hot(node_of(indices), depth=depth, dtype=settings.floatx))


def in_top_k(predictions: Any, targets: Any, k: int) -> Tensor:
    """Whether the prediction for the target is among the k largest; ties count in its favour.

    Args:
      predictions: float [batch, classes].
      targets: integers [batch].
    Returns: bool [batch]. False where the target is out of range, or the prediction for it is not finite.
    Source: TensorFlow, tf.math.in_top_k.

    >>> K.eval(K.in_top_k(K.variable([[.1, .7, .2]]), [2], 2))
    array([ True])
    """
    (count,), sizes = sizes_of([k], "k")
    if sizes:
        raise refuse(ShapeError, "k has to be known while the graph is built", k=k)
    return Tensor(o.in_top_k(node_of(predictions), node_of(targets), k=count))

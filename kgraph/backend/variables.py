"""Placeholders, variables, their values and updates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.backend.operands import dtype_of, node_of, refuse, show
from kgraph.backend.state import get_uid
from kgraph.config import settings
from kgraph.errors import ArgumentError, DTypeError, ShapeError, TensorUseError, UpdateError
from kgraph.function import Function
from kgraph.ir.node import Identity
from kgraph.ir.operators import Operators
from kgraph.ir.promote import combine
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import TensorType, numpy_dtype, show_shape
from kgraph.lower.variable import Variable, locks_of

Update = tuple[Tensor, Any]


def placeholder(
    shape: Sequence[int | None] | None = None,
    ndim: int | None = None,
    dtype: Any = None,
    sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """A value to be given at each call of a function.

    Args:
      shape: sizes, None for one that may differ from call to call; ``()`` is a scalar.
      ndim: the rank, instead of shape: every size is unknown.
      dtype: None is floatx.
      sparse: scipy matrices are going to be fed. They are taken everywhere; the mark is for `is_sparse`.
      name: for feeding by name, and for messages.
    Raises: ShapeError if neither shape nor ndim is given, or a size is no int; DTypeError.

    >>> K.placeholder((None, 3), name="x")
    <Tensor float32[?, 3]  placeholder 'x'>
    """
    if shape is None:
        if ndim is None:
            raise refuse(
                ShapeError, "neither shape nor ndim is given", hint="K.placeholder(shape=(None, 3)) or K.placeholder(ndim=2)"
            )
        shape = (None,) * _size(ndim, "ndim")
    allowed = "an int of at least 0, or None"
    sizes = tuple([None if s is None else _size(s, f"shape[{axis}]", allowed) for axis, s in enumerate(_listed(shape))])
    kind = TensorType(dtype_of(dtype, settings.floatx), sizes)
    tensor: Any = Tensor(o.placeholder(type=kind, uid=Identity(name or f"placeholder_{get_uid('placeholder')}")))
    tensor._keras_shape, tensor._uses_learning_phase = sizes, False
    if sparse:
        tensor._sparse = True
    return tensor


def variable(value: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """A value that is kept between calls, and changed by updates and `set_value`.

    Args:
      value: number, list, array, NumPy scalar or scipy sparse matrix; it is copied.
      dtype: None is floatx, whatever the dtype of value.
      name: a str; one is made up for None.
    Raises: DTypeError for a dtype or value that no tensor can have.

    >>> K.get_value(K.variable([[1, 2]]))
    array([[1., 2.]], dtype=float32)
    """
    wanted = dtype_of(dtype, settings.floatx)
    array = _as_array(value, wanted, None)
    kind = TensorType(wanted, array.shape)
    tensor: Any = Tensor(o.variable(type=kind, uid=Variable(name or f"variable_{get_uid('variable')}", kind, array)))
    tensor._keras_shape, tensor._uses_learning_phase = array.shape, False
    if hasattr(value, "tocoo"):
        tensor._sparse = True
    return tensor


def zeros(shape: Sequence[int], dtype: Any = None, name: str | None = None) -> Tensor:
    """A variable of zeros.

    >>> K.eval(K.zeros((2, 2)))
    array([[0., 0.],
           [0., 0.]], dtype=float32)
    """
    return variable(np.zeros(sizes_of_value(shape)), dtype, name)


def ones(shape: Sequence[int], dtype: Any = None, name: str | None = None) -> Tensor:
    """A variable of ones.

    >>> K.eval(K.ones((2,)))
    array([1., 1.], dtype=float32)
    """
    return variable(np.ones(sizes_of_value(shape)), dtype, name)


def eye(size: int, dtype: Any = None, name: str | None = None) -> Tensor:
    """A variable of the size x size identity matrix.

    >>> K.eval(K.eye(2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    return variable(np.eye(_size(size, "size")), dtype, name)


def count_params(x: Tensor) -> Any:
    """The number of elements of a tensor with known sizes, a NumPy integer.

    >>> int(K.count_params(K.zeros((2, 3))))
    6
    """
    sizes = node_of(x).type.shape
    if None in sizes:
        raise refuse(ShapeError, "a size is unknown while the graph is built", x=x)
    return np.prod(np.array(sizes, dtype="int64"))


def get_variable_shape(x: Tensor) -> tuple[int | None, ...]:
    """The sizes of a variable, ints."""
    return node_of(x).type.shape


# ---------------------------------------------------------------------------------------------------- values


def eval(x: Any) -> np.ndarray[Any, Any]:
    """The value of an expression without placeholders, in the phase that is set, or test.

    Raises: FeedError naming a placeholder that it needs.

    >>> K.eval(K.variable([1, 2]) * 3)
    array([3., 6.], dtype=float32)
    """
    if isinstance(x, Operators) and x.node.op is o.variable:
        return get_value(x)
    return Function([], [x])()[0]


def get_value(x: Any) -> np.ndarray[Any, Any]:
    """The value of a variable, a copy. Raises TensorUseError (a TypeError) for anything else.

    >>> K.get_value(K.variable(2))
    array(2., dtype=float32)
    """
    return _storage(x).get().copy()


def batch_get_value(xs: Iterable[Any]) -> list[np.ndarray[Any, Any]]:
    """The values of several variables, of one moment: no other thread's update falls between them.

    >>> K.batch_get_value([])
    []
    """
    from kgraph.call import holding

    storages = [_storage(x) for x in xs]
    values = holding(locks_of(storages), lambda: [storage.get() for storage in storages])
    return [value.copy() for value in values]


def set_value(x: Any, value: Any) -> None:
    """Give a variable a value, cast to its dtype.

    Args:
      value: number, list, array or anything that NumPy makes an array of (an h5py dataset, say), of the variable's shape.
    Raises: ShapeError, DTypeError; TensorUseError for anything but a variable.
    """
    storage = _storage(x)
    storage.set(_as_array(value, storage.type.dtype, x))


def batch_set_value(tuples: Iterable[tuple[Any, Any]]) -> None:
    """Give several variables values: pairs (variable, value). If one does not fit, none is set.

    No other thread's update falls between them.
    """
    from kgraph.call import holding

    arrays = []
    for position, pair in enumerate(tuples):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise refuse(ArgumentError, f"item {position} is {show(pair)}, not a pair (variable, value)")
        x, value = pair
        arrays.append((storage := _storage(x), _as_array(value, storage.type.dtype, x)))

    def write() -> None:
        for storage, array in arrays:
            storage.set(array)

    holding(locks_of(storage for storage, _ in arrays), write)


def _storage(x: Any) -> Variable:
    if not isinstance(x, Operators) or x.node.op is not o.variable:
        hint = "K.variable makes one; K.eval gives the value of any expression"
        raise refuse(TensorUseError, "this is no variable", hint=hint, x=x)
    return x.node.attr("uid")


def _as_array(value: Any, dtype: str, variable: Any) -> np.ndarray[Any, Any]:
    """A copy of value in a dtype; of the variable's shape, if there is one."""
    if isinstance(value, Operators):
        raise refuse(
            TensorUseError, "the value of a variable is an array, not a tensor", hint="K.eval gives the value", value=value
        )
    if hasattr(value, "tocoo"):  # a scipy sparse matrix
        value = value.toarray()
    try:
        given = np.asarray(value)
    except ValueError:
        given = np.empty(0, dtype=object)
    if given.dtype.kind not in "biuf":
        raise refuse(
            DTypeError, f"no tensor can be made of {show(value)}", hint="give a number, a list of numbers or an array of them"
        )
    array = np.array(given, dtype=numpy_dtype(dtype), order="C", copy=True)
    if variable is not None and array.shape != variable.node.type.shape:
        shapes = f"{show_shape(array.shape)} is not {show_shape(variable.node.type.shape)}"
        raise refuse(ShapeError, f"the value does not have the shape of its variable: {shapes}", x=variable)
    return array


def sizes_of_value(shape: Any) -> tuple[int, ...]:
    """The shape of a value: ints. Raises ShapeError."""
    return tuple([_size(size, f"shape[{axis}]") for axis, size in enumerate(_listed(shape))])


def _listed(shape: Any) -> Sequence[Any]:
    if not isinstance(shape, (tuple, list)):
        hint = f"the shape of a vector is ({shape},)" if isinstance(shape, int) else None
        raise refuse(ShapeError, f"a shape is a tuple or list of sizes, not {show(shape)}", hint=hint)
    return shape


def _size(size: Any, what: str, allowed: str = "an int of at least 0") -> int:
    if not hasattr(size, "__index__") or isinstance(size, Operators) or size.__index__() < 0:
        raise refuse(ShapeError, f"{what} is {show(size)}, not {allowed}")
    return int(size.__index__())


# ---------------------------------------------------------------------------------------------------- updates


def update(x: Tensor, new_x: Any) -> Update:
    """The update of a variable by a new value, for `function`. Raises UpdateError for anything but a variable."""
    _check_target(x)
    return x, new_x


def update_add(x: Tensor, increment: Any) -> Update:
    """The update of a variable by ``x + increment``."""
    _check_target(x)
    return x, combine(o.add, x, increment)


def update_sub(x: Tensor, decrement: Any) -> Update:
    """The update of a variable by ``x - decrement``."""
    _check_target(x)
    return x, combine(o.subtract, x, decrement)


def moving_average_update(variable: Tensor, value: Any, momentum: Any) -> Update:
    """The update of a variable by ``variable * momentum + value * (1 - momentum)``.

    Args:
      momentum: in [0, 1]: the share of the old value that stays.
    """
    _check_target(variable)
    return variable, variable * momentum + value * (1.0 - momentum)


def _check_target(x: Any) -> None:
    if not isinstance(x, Operators) or x.node.op is not o.variable:
        raise refuse(UpdateError, "the target of an update is no variable", hint="K.variable makes one", x=x)

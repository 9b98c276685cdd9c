"""K functions that draw random numbers.

Each call of a K function here makes one stream of its own. Every call of a compiled program, and every step of a loop, draws
anew from it; within one call a draw has one value, wherever it is read. ``seed`` fixes the stream, so that the same program
gives the same numbers in every process; ``seed=None`` takes one from ``np.random`` while the graph is built, so that
``np.random.seed``, or `set_seed`, makes a whole program repeatable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.backend.operands import dtype_of, refuse, sizes_of
from kgraph.backend.variables import sizes_of_value, variable
from kgraph.config import settings
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import as_dtype, as_node
from kgraph.ir.stream import Stream
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import FLOATS, kind

# ---------------------------------------------------------------------------------------------------- streams and shapes


def key_of(seed: Any) -> Node:
    """The key of a new stream, the first input of a draw. Raises DTypeError if seed is neither None nor an int."""
    if seed is None:
        seed = np.random.randint(2**31)  # noqa: NPY002  # the generator that np.random.seed sets
    try:
        index = seed.__index__()
    except (AttributeError, TypeError):
        raise refuse(DTypeError, f"the seed is {seed!r}, not an int or None") from None
    return o.stream(uid=Stream(index))


def entries_of_shape(shape: Any, what: str = "shape") -> tuple[tuple[int | None, ...], tuple[Node, ...]]:
    """A user's shape, in one piece (an integer vector such as K.shape(x)) or in entries, as an op takes it.

    Raises: ShapeError for a vector of unknown length, or anything else that is no shape.
    """
    if isinstance(shape, Operators):
        node = shape.node
        if node.ndim != 1 or node.type.shape[0] is None or kind(node.dtype) != "int":
            message = f"a symbolic {what} is a vector of integers whose length is known"
            raise refuse(ShapeError, message, hint="K.shape(x) is one", shape=node)
        return sizes_of([node[i] for i in range(node.type.shape[0])], what)
    if not isinstance(shape, (Sequence, np.ndarray)) or isinstance(shape, str):
        raise refuse(ShapeError, f"the {what} is {shape!r}, not a tuple or list", hint="the shape of a vector is (n,)")
    return sizes_of(list(shape), what)


def _float_dtype(dtype: Any) -> str:
    name = dtype_of(dtype, settings.floatx)
    if name not in FLOATS:
        raise refuse(DTypeError, f"{name} is no float dtype", hint="draw floats, then K.cast")
    return name


def _operand(value: Any, dtype: str) -> Node:
    return as_dtype(as_node(value, like=dtype), dtype)


def set_seed(seed: int) -> None:
    """Make what is built from now on repeatable: the seeds of random functions without one of their own follow from seed.

    The same as ``np.random.seed(seed)``. It is not in Keras 1.x.
    """
    np.random.seed(seed)  # noqa: NPY002  # what Keras programs seed


# ---------------------------------------------------------------------------------------------------- draws


def random_normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = None, seed: int | None = None) -> Tensor:
    """Draws from the normal distribution: mean + std * n, n of mean 0 and variance 1.

    Args:
      shape: ints, mixed with symbolic integer scalars, or a symbolic shape: ``K.shape(x)``.
      mean, std: numbers or tensors that broadcast to shape.
      dtype: a float dtype; None is floatx.
      seed: an int fixes the numbers, the same in every process; None takes one from `np.random` while the graph is built.
    Raises: DTypeError, ShapeError.

    >>> K.eval(K.random_normal((2, 3), seed=1)).shape
    (2, 3)
    """
    name = _float_dtype(dtype)
    entries, sizes = entries_of_shape(shape)
    out = o.random_normal(key_of(seed), *sizes, shape=entries, dtype=name)
    return Tensor(_spread(out, mean, std))


def random_uniform(shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = None, seed: int | None = None) -> Tensor:
    """Draws from the uniform distribution on [low, high): low + (high - low) * u.

    Args:
      shape: ints, mixed with symbolic integer scalars, or a symbolic shape: ``K.shape(x)``.
      low, high: numbers or tensors that broadcast to shape. Rounding can give high itself, unless they are 0 and 1.
      dtype: a float dtype; None is floatx.
      seed: an int fixes the numbers, the same in every process; None takes one from `np.random` while the graph is built.
    Raises: DTypeError, ShapeError.

    >>> K.eval(K.random_uniform((2, 3), low=5., high=6., seed=1)).shape
    (2, 3)
    """
    name = _float_dtype(dtype)
    entries, sizes = entries_of_shape(shape)
    out = o.random_uniform(key_of(seed), *sizes, shape=entries, dtype=name)
    first, last = _operand(low, name), _operand(high, name)
    symbolic = isinstance(low, Operators) or isinstance(high, Operators)
    return Tensor(_spread(out, low, last - first if symbolic else np.subtract(high, low)))


def _spread(draw: Node, start: Any, scale: Any) -> Node:
    """start + scale * draw, without what a plain 0 and 1 leave as it is."""
    if isinstance(scale, Operators) or np.ndim(scale) or scale != 1:
        draw = draw * _operand(scale, draw.dtype)
    if isinstance(start, Operators) or np.ndim(start) or start != 0:
        draw = draw + _operand(start, draw.dtype)
    return draw


def random_binomial(shape: Any, p: Any = 0.0, dtype: Any = None, seed: int | None = None) -> Tensor:
    """Draws of 1 with probability p, else 0 (one trial each: the Bernoulli distribution).

    Args:
      shape: ints, mixed with symbolic integer scalars, or a symbolic shape: ``K.shape(x)``.
      p: a number or a tensor that broadcasts to shape.
      dtype: any; None is floatx.
      seed: an int fixes the numbers, the same in every process; None takes one from `np.random` while the graph is built.
    Raises: DTypeError, ShapeError.

    >>> K.eval(K.random_binomial((3,), p=1.0))
    array([1., 1., 1.], dtype=float32)
    """
    name = dtype_of(dtype, settings.floatx)
    drawn = "float64" if name == "float64" else "float32"  # float16 has too few digits for a p near 0
    entries, sizes = entries_of_shape(shape)
    out = o.random_uniform(key_of(seed), *sizes, shape=entries, dtype=drawn)
    return Tensor(as_dtype(o.less(out, _operand(p, drawn)), name))


# ---------------------------------------------------------------------------------------------------- variables


def random_normal_variable(
    shape: Sequence[int], mean: float, scale: float, dtype: Any = None, name: str | None = None, seed: int | None = None
) -> Any:
    """A variable whose first value is drawn, now, from the normal distribution.

    Args:
      shape: ints.
      mean, scale: mean and standard deviation.
      dtype: None is floatx.
      seed: of this draw; None takes one from np.random.

    >>> K.int_shape(K.random_normal_variable((2, 3), mean=0., scale=1.))
    (2, 3)
    """
    return variable(_generator(seed).normal(mean, scale, size=sizes_of_value(shape)), dtype=dtype, name=name)


def random_uniform_variable(
    shape: Sequence[int], low: float, high: float, dtype: Any = None, name: str | None = None, seed: int | None = None
) -> Any:
    """A variable whose first value is drawn, now, from the uniform distribution on [low, high).

    Args:
      shape: ints.
      low, high: the bounds.
      dtype: None is floatx.
      seed: of this draw; None takes one from np.random.

    >>> K.int_shape(K.random_uniform_variable((2, 3), low=0., high=1.))
    (2, 3)
    """
    return variable(_generator(seed).uniform(low, high, size=sizes_of_value(shape)), dtype=dtype, name=name)


def _generator(seed: int | None) -> np.random.RandomState:
    if seed is None:
        seed = np.random.randint(10_000_000)  # noqa: NPY002  # as Keras 1.2.2 does
    return np.random.RandomState(seed)

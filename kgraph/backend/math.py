"""Element-wise functions of one or two operands."""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import node_of
from kgraph.ir.op import Op
from kgraph.ir.promote import apply, as_float, combine
from kgraph.ir.tensor import Tensor


def _unary(op: Op, x: Any) -> Tensor:
    return Tensor(apply(op, node_of(x)))


def _binary(op: Op, x: Any, y: Any) -> Tensor:
    made = combine(op, node_of(x) if not hasattr(x, "node") and not hasattr(y, "node") else x, y)
    return made if isinstance(made, Tensor) else Tensor(made)


def abs(x: Any) -> Tensor:
    """|x|. Gradient 0 at 0.

    >>> K.eval(K.abs(K.variable([-1.5, 2.])))
    array([1.5, 2. ], dtype=float32)
    """
    return _unary(o.absolute, x)


def square(x: Any) -> Tensor:
    """x * x."""
    return _unary(o.square, x)


def sqrt(x: Any) -> Tensor:
    """Square root of x, clipped at 0 from below first: the root of a negative number is 0.

    Integers go to floatx. The gradient is infinite at 0, and 0 below.
    Source: Keras 1.2.2, which clips to [0, inf).

    >>> K.eval(K.sqrt(K.variable([4., -1.])))
    array([2., 0.], dtype=float32)
    """
    node = as_float(node_of(x))
    return Tensor(o.sqrt(o.maximum(node, o.scalar(0.0, node.dtype))))


def exp(x: Any) -> Tensor:
    """e ** x. Integers go to floatx."""
    return _unary(o.exp, x)


def log(x: Any) -> Tensor:
    """Natural logarithm; -inf at 0, NaN below. Integers go to floatx."""
    return _unary(o.log, x)


def sin(x: Any) -> Tensor:
    """Sine of x in radians. Integers go to floatx."""
    return _unary(o.sin, x)


def cos(x: Any) -> Tensor:
    """Cosine of x in radians. Integers go to floatx."""
    return _unary(o.cos, x)


def round(x: Any) -> Tensor:
    """The nearest integer, halves to even, in the dtype of x. Gradient zero.

    Keras 1.x: on Theano, up to 1.2.0, halves went away from zero.

    >>> K.eval(K.round(K.variable([0.5, 1.5, -0.7])))
    array([ 0.,  2., -1.], dtype=float32)
    """
    node = node_of(x)
    return Tensor(o.round(node)) if node.type.is_float else Tensor(node)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1; ``sign(0)`` is 0. Gradient zero."""
    return _unary(o.sign, x)


def pow(x: Any, a: Any) -> Tensor:
    """x ** a, element by element; either may be a number. NaN for a negative x with a fractional a.

    >>> K.eval(K.pow(K.variable([1., 2., 3.]), 2))
    array([1., 4., 9.], dtype=float32)
    """
    return _binary(o.power, x, a)


def maximum(x: Any, y: Any) -> Tensor:
    """The larger, element by element; NaN if either is. At a tie the gradient goes to x."""
    return _binary(o.maximum, x, y)


def minimum(x: Any, y: Any) -> Tensor:
    """The smaller, element by element; NaN if either is. At a tie the gradient goes to x."""
    return _binary(o.minimum, x, y)


def equal(x: Any, y: Any) -> Tensor:
    """x == y, element by element: bool. (Python's ``==`` compares tensors by identity.)

    >>> K.eval(K.equal(K.variable([1., 2.]), 1))
    array([ True, False])
    """
    return _binary(o.equal, x, y)


def not_equal(x: Any, y: Any) -> Tensor:
    """x != y, element by element: bool."""
    return _binary(o.not_equal, x, y)


def greater(x: Any, y: Any) -> Tensor:
    """x > y, element by element: bool."""
    return _binary(o.greater, x, y)


def greater_equal(x: Any, y: Any) -> Tensor:
    """x >= y, element by element: bool."""
    return _binary(o.greater_equal, x, y)


def lesser(x: Any, y: Any) -> Tensor:
    """x < y, element by element: bool."""
    return _binary(o.less, x, y)


def lesser_equal(x: Any, y: Any) -> Tensor:
    """x <= y, element by element: bool."""
    return _binary(o.less_equal, x, y)

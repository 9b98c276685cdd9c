"""Ops that work element by element, with axes of size 1 stretched. Operands have one dtype: `promote` sees to it."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.types import TensorType, broadcast_shapes, numpy_dtype

# ---------------------------------------------------------------------------------------------------- type rules


def same_type(x: TensorType) -> TensorType:
    """The result looks like the operand."""
    return x


def number_like(x: TensorType) -> TensorType:
    """Integers and floats."""
    if x.dtype == "bool":
        raise DTypeError("a bool has no arithmetic", hint="cast it first: K.cast(x, 'float32')")
    return x


def float_like(x: TensorType) -> TensorType:
    """Floats only; K functions and operators take integers to floatx before."""
    if not x.is_float:
        raise DTypeError(f"{x.dtype} is no float dtype", hint="cast it first: K.cast(x, K.floatx())")
    return x


def _one_dtype(x: TensorType, y: TensorType) -> str:
    if x.dtype != y.dtype:
        raise DTypeError(f"dtypes differ: {x.dtype} != {y.dtype}", hint="cast one of them with K.cast")
    return x.dtype


def binary(x: TensorType, y: TensorType) -> TensorType:
    """Both operands of one dtype, which the result has; shapes broadcast."""
    return TensorType(_one_dtype(x, y), broadcast_shapes((x.shape, y.shape)))


def _binary_number(x: TensorType, y: TensorType) -> TensorType:
    if x.dtype == "bool":
        number_like(x)
    return binary(x, y)


def _binary_float(x: TensorType, y: TensorType) -> TensorType:
    return float_like(binary(x, y))


def _compare(x: TensorType, y: TensorType) -> TensorType:
    return binary(x, y).with_dtype("bool")


def _logical(x: TensorType, y: TensorType) -> TensorType:
    if binary(x, y).dtype != "bool":
        raise DTypeError(f"{x.dtype} is no bool", hint="compare first: K.not_equal(x, 0)")
    return binary(x, y)


# ---------------------------------------------------------------------------------------------------- gradients


def zero_vjp(g: Node, out: Node, *inputs: Node, **attrs: Any) -> tuple[Node, ...]:
    """Constant between jumps: the gradient is zero, not missing."""
    return tuple([o.zeros_like(x) for x in inputs])


def unbroadcast(g: Node, x: Node) -> Node:
    """The cotangent of x from the cotangent of what x was stretched to: sums over the axes that were."""
    shape = x.type.shape
    if g.type.shape == shape:
        return g
    extra = len(g.type.shape) - len(shape)
    axes = tuple(range(extra)) + tuple([i + extra for i, s in enumerate(shape) if s == 1 and g.type.shape[i + extra] != 1])
    if axes:
        g = o.sum(g, axis=axes, keepdims=False)
    kept = tuple([i - extra for i in axes if i >= extra])
    for axis in kept:
        g = o.expand_dims(g, axis=axis)
    return g


def _add_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    return unbroadcast(g, x), unbroadcast(g, y)


def _subtract_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    return unbroadcast(g, x), unbroadcast(-g, y)


def _multiply_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    return unbroadcast(g * y, x), unbroadcast(g * x, y)


def _divide_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    gx = g / y
    return unbroadcast(gx, x), unbroadcast(-gx * out, y)


def _power(x: Any, y: Any) -> Any:
    # Of two numbers, Python's operator takes a twentieth of the time of NumPy's function, which rounds otherwise.
    return np.power(x, y) if np.ndim(x) or np.ndim(y) else x[()] ** y[()]


def _power_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    zero, one = o.scalar(0.0, x.dtype), o.scalar(1.0, x.dtype)
    # 0 ** (y - 1) and log(0) are not finite where the gradient is: at y == 0, and at x == 0 in a positive power.
    if y.op is o.constant and not y.ndim:  # the common case, of which engines are given no more than a user would write
        exponent = float(y.attr("value").array)
        below = x if exponent == 2 else o.power(x, o.scalar(exponent - 1, x.dtype))
        gx = g * y * below if exponent else o.broadcast_like(zero, g)
    else:
        flat = o.equal(y, o.broadcast_like(zero, y))
        gx = o.where(flat, zero, g * y * o.power(x, o.where(flat, one, y - 1.0)))
    at_zero = o.equal(x, o.broadcast_like(zero, x))
    gy = g * out * o.log(o.where(at_zero, one, x))
    return unbroadcast(gx, x), unbroadcast(o.where(at_zero, zero, gy), y)


def _remainder_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    return unbroadcast(g, x), unbroadcast(-g * o.floor(x / y), y)


def _maximum_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    return _choice_vjp(g, x, y, o.greater_equal(x, y))


def _minimum_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    return _choice_vjp(g, x, y, o.less_equal(x, y))


def _choice_vjp(g: Node, x: Node, y: Node, takes_x: Node) -> tuple[Node, ...]:
    zero = o.scalar(0.0, g.dtype)
    return unbroadcast(o.where(takes_x, g, zero), x), unbroadcast(o.where(takes_x, zero, g), y)


def _where_vjp(g: Node, out: Node, condition: Node, x: Node, y: Node) -> tuple[Node | None, ...]:
    return None, *_choice_vjp(g, x, y, condition)


# ---------------------------------------------------------------------------------------------------- arithmetic

add: Op = Op("add", _binary_number, numpy=np.add, vjp=_add_vjp, broadcasts=True, doc="x + y")
subtract: Op = Op("subtract", _binary_number, numpy=np.subtract, vjp=_subtract_vjp, broadcasts=True, doc="x - y")
multiply: Op = Op("multiply", _binary_number, numpy=np.multiply, vjp=_multiply_vjp, broadcasts=True, doc="x * y")
divide: Op = Op("divide", _binary_float, numpy=np.true_divide, vjp=_divide_vjp, broadcasts=True, doc="x / y, of floats")
floor_divide: Op = Op(
    "floor_divide", _binary_number, numpy=np.floor_divide, vjp=zero_vjp, broadcasts=True, doc="x // y, rounded down"
)
remainder: Op = Op(
    "remainder", _binary_number, numpy=np.remainder, vjp=_remainder_vjp, broadcasts=True, doc="x % y, with the sign of y"
)
power: Op = Op("power", _binary_number, numpy=_power, vjp=_power_vjp, broadcasts=True, doc="x ** y")
maximum: Op = Op("maximum", binary, numpy=np.maximum, vjp=_maximum_vjp, broadcasts=True, doc="The larger; NaN if either is.")
minimum: Op = Op("minimum", binary, numpy=np.minimum, vjp=_minimum_vjp, broadcasts=True, doc="The smaller; NaN if either is.")

negative: Op = Op("negative", number_like, numpy=np.negative, vjp=lambda g, out, x: (-g,), doc="-x")
absolute: Op = Op("absolute", number_like, numpy=np.absolute, vjp=lambda g, out, x: (g * o.sign(x),), doc="|x|")
sign: Op = Op("sign", number_like, numpy=np.sign, vjp=zero_vjp, doc="-1, 0 or 1")
square: Op = Op("square", number_like, numpy=np.square, vjp=lambda g, out, x: (g * (2.0 * x),), doc="x * x")
round: Op = Op("round", float_like, numpy=np.rint, vjp=zero_vjp, doc="The nearest integer, halves to even.")
floor: Op = Op("floor", float_like, numpy=np.floor, vjp=zero_vjp, doc="The integer at or below.")

# ---------------------------------------------------------------------------------------------------- functions

exp: Op = Op("exp", float_like, numpy=np.exp, vjp=lambda g, out, x: (g * out,), doc="e ** x")
expm1: Op = Op("expm1", float_like, numpy=np.expm1, vjp=lambda g, out, x: (g * (out + 1.0),), doc="exp(x) - 1, exact near 0.")
log: Op = Op("log", float_like, numpy=np.log, vjp=lambda g, out, x: (g / x,), doc="Natural logarithm.")
log1p: Op = Op("log1p", float_like, numpy=np.log1p, vjp=lambda g, out, x: (g / (x + 1.0),), doc="log(1 + x), exact near 0.")
sqrt: Op = Op("sqrt", float_like, numpy=np.sqrt, vjp=lambda g, out, x: (g * 0.5 / out,), doc="Square root; NaN below 0.")
sin: Op = Op("sin", float_like, numpy=np.sin, vjp=lambda g, out, x: (g * o.cos(x),), doc="Sine of radians.")
cos: Op = Op("cos", float_like, numpy=np.cos, vjp=lambda g, out, x: (-g * o.sin(x),), doc="Cosine of radians.")
tanh: Op = Op("tanh", float_like, numpy=np.tanh, vjp=lambda g, out, x: (g * (1.0 - out * out),), doc="Hyperbolic tangent.")


_ONE = {np.dtype(name): np.ones((), name) for name in ("float32", "float64")}


def _sigmoid(x: Any) -> Any:
    one = _ONE.get(x.dtype)
    if one is None:  # float16, whose exp(-x) overflows where the result is still a number
        return _sigmoid(x.astype(np.float32)).astype(x.dtype)
    # Where exp(-x) overflows, the result would be less than the smallest normal number: engines give 0 there, and so does this.
    if not x.ndim:
        return one / (one + np.exp(-x))
    out = np.negative(x)
    np.exp(out, out)
    np.add(out, one, out)
    return np.divide(one, out, out)


def _expand_sigmoid(x: Node) -> Node:
    small = o.exp(-o.absolute(x))
    return o.where(o.greater_equal(x, o.scalar(0.0, x.dtype)), o.scalar(1.0, x.dtype), small) / (small + 1.0)


sigmoid: Op = Op(
    "sigmoid", float_like, numpy=_sigmoid, vjp=lambda g, out, x: (g * (out * (1.0 - out)),), doc="1 / (1 + exp(-x))",
    expand=_expand_sigmoid,
)  # fmt: skip

softplus: Op = Op(
    "softplus", float_like, numpy=lambda x: np.logaddexp(x, x.dtype.type(0)), vjp=lambda g, out, x: (g * o.sigmoid(x),),
    doc="log(1 + exp(x))",
    expand=lambda x: o.maximum(x, o.scalar(0.0, x.dtype)) + o.log1p(o.exp(-o.absolute(x))),
)  # fmt: skip


def _relu(x: Any) -> Any:
    # NumPy vectorises the maximum of two arrays, and not that of an array and a scalar, which takes three times as long.
    out = np.zeros(x.shape, x.dtype)
    return np.maximum(x, out, out=out)


relu: Op = Op(
    "relu", number_like, numpy=_relu,
    # Of out, so that x need not be kept.
    vjp=lambda g, out, x: (o.where(o.greater(out, o.scalar(0.0, x.dtype)), g, o.scalar(0.0, x.dtype)),),
    doc="max(x, 0); gradient 0 at 0.",
    expand=lambda x: o.maximum(x, o.scalar(0, x.dtype)),
)  # fmt: skip

# ---------------------------------------------------------------------------------------------------- comparisons

equal: Op = Op("equal", _compare, numpy=np.equal, broadcasts=True, doc="x == y")
not_equal: Op = Op("not_equal", _compare, numpy=np.not_equal, broadcasts=True, doc="x != y")
less: Op = Op("less", _compare, numpy=np.less, broadcasts=True, doc="x < y")
less_equal: Op = Op("less_equal", _compare, numpy=np.less_equal, broadcasts=True, doc="x <= y")
greater: Op = Op("greater", _compare, numpy=np.greater, broadcasts=True, doc="x > y")
greater_equal: Op = Op("greater_equal", _compare, numpy=np.greater_equal, broadcasts=True, doc="x >= y")
logical_and: Op = Op("logical_and", _logical, numpy=np.logical_and, broadcasts=True, doc="x and y, of bools")
logical_or: Op = Op("logical_or", _logical, numpy=np.logical_or, broadcasts=True, doc="x or y, of bools")


def _logical_not_type(x: TensorType) -> TensorType:
    return _logical(x, x)


logical_not: Op = Op("logical_not", _logical_not_type, numpy=np.logical_not, doc="not x, of bools")


def _where_type(condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    if condition.dtype != "bool":
        raise DTypeError(f"the condition is {condition.dtype}, not bool", hint="compare first: K.not_equal(condition, 0)")
    return TensorType(_one_dtype(x, y), broadcast_shapes((condition.shape, x.shape, y.shape)))


where: Op = Op(
    "where",
    _where_type,
    numpy=np.where,
    vjp=_where_vjp,
    broadcasts=True,
    doc="x where condition holds, else y; both are computed.",
)

# ---------------------------------------------------------------------------------------------------- dtype, identity


def _cast_type(x: TensorType, *, dtype: str) -> TensorType:
    numpy_dtype(dtype)
    return x.with_dtype(dtype)


def _cast_vjp(g: Node, out: Node, x: Node, *, dtype: str) -> tuple[Node | None, ...]:
    return (o.cast(g, dtype=x.dtype) if x.type.is_float else None,)


cast: Op = Op(
    "cast", _cast_type, numpy=lambda x, *, dtype: np.asarray(x).astype(dtype), vjp=_cast_vjp, doc="x in another dtype."
)

identity: Op = Op(
    "identity",
    lambda x, *, uid: x,
    numpy=lambda x, *, uid: x,
    vjp=lambda g, out, x, *, uid: (g,),
    doc="x, as a node of its own.",
)

stop_gradient: Op = Op("stop_gradient", same_type, numpy=lambda x: x, vjp=zero_vjp, doc="x, constant to the gradient.")

__all__ = [
    "absolute", "add", "binary", "cast", "cos", "divide", "equal", "exp", "expm1", "float_like", "floor", "floor_divide",
    "greater", "greater_equal", "identity", "less", "less_equal", "log", "log1p", "logical_and", "logical_not", "logical_or",
    "maximum", "minimum", "multiply", "negative", "not_equal", "number_like", "power", "relu", "remainder", "round",
    "same_type", "sigmoid", "sign", "sin", "softplus", "sqrt", "square", "stop_gradient", "subtract", "tanh", "unbroadcast",
    "where", "zero_vjp",
]  # fmt: skip

"""From what users write to nodes of one dtype: numbers and arrays become constants, dtypes are promoted.

Python numbers, lists of them, NumPy scalars and 0-d arrays are weak: they take the dtype of the tensor that they meet, and a
float that meets an integer tensor gives floatx. Other arrays keep their dtype; `PROMOTION` decides between two tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import kgraph.ir.operators as operators
import kgraph.ir.ops as o
from kgraph.config import settings
from kgraph.errors import DTypeError, TensorUseError
from kgraph.ir.origin import here
from kgraph.ir.types import DTYPES, PROMOTION, kind

if TYPE_CHECKING:
    from kgraph.ir.node import Node
    from kgraph.ir.op import Op


def combine(op: Op, x: Any, y: Any) -> Any:
    """op over two operands of any kind, promoted to one dtype; a handle if one of them is a handle."""
    symbol = x if isinstance(x, operators.Operators) else y
    a, b = promoted(x, y)
    if op is o.divide and not a.type.is_float:
        a, b = o.cast(a, dtype=settings.floatx), o.cast(b, dtype=settings.floatx)
    return symbol.wrap(op(a, b))


def apply(op: Op, x: Any) -> Any:
    """op over one symbolic operand; an op of floats takes integers and bools to floatx first."""
    return x.wrap(op(as_float(x.node) if op.type_rule is o.float_like else x.node))


def promoted(x: Any, y: Any) -> tuple[Node, Node]:
    """Two operands as nodes of one dtype. Raises DTypeError for what no constant can be made of."""
    try:
        if isinstance(x, operators.Operators):
            a = x.node
            b = y.node if isinstance(y, operators.Operators) else as_node(y, like=a.type.dtype)
        else:
            b = y.node if isinstance(y, operators.Operators) else as_node(y)
            a = as_node(x, like=b.type.dtype)
    except DTypeError as error:
        from kgraph.ir.node import describe

        named = [f"{n}: {describe(v.node)}" for n, v in (("x", x), ("y", y)) if isinstance(v, operators.Operators)]
        raise error.at(operands=named) from None
    if a.type.dtype != b.type.dtype:
        dtype = PROMOTION[a.type.dtype, b.type.dtype]
        a, b = as_dtype(a, dtype), as_dtype(b, dtype)
    return a, b


def as_dtype(x: Node, dtype: str) -> Node:
    """x cast to dtype; x itself where it has it."""
    return x if x.type.dtype == dtype else o.cast(x, dtype=dtype)


def as_float(x: Node) -> Node:
    """x, or x cast to floatx where it holds integers or bools."""
    return x if x.type.is_float else o.cast(x, dtype=settings.floatx)


def as_node(value: Any, like: str | None = None) -> Node:
    """A tensor, number, list, array or scipy sparse matrix as a node.

    Args:
      like: the dtype of the tensor that the value meets, which weak values take. None: floats are floatx, integers int32
        where they fit (int64 where not), arrays as they are.
    Raises: DTypeError.
    """
    if isinstance(value, operators.Operators):
        return value.node
    if type(value) in (float, int, bool):
        return o.scalar(value, _weak_dtype(type(value).__name__, like, value))
    if hasattr(value, "tocoo"):  # a scipy sparse matrix
        value = value.toarray()
    array = _as_array(value)
    weak = array.ndim == 0 or not isinstance(value, np.ndarray)
    if weak:
        dtype = _weak_dtype(_kind_of(array), like, value)
        _check_fits(array, dtype)
        array = array.astype(dtype)
    return o.constant_of(array)


def _kind_of(array: np.ndarray[Any, Any]) -> str:
    return {"b": "bool", "i": "int", "u": "int", "f": "float"}[array.dtype.kind]


def _weak_dtype(found: str, like: str | None, value: Any) -> str:
    if like is None:
        small = found != "int" or np.all(np.abs(np.asarray(value, dtype="float64")) < 2**31)
        return {"bool": "bool", "float": settings.floatx, "int": "int32" if small else "int64"}[found]
    if found == "float" and kind(like) != "float":
        return settings.floatx
    if found == "int" and like == "bool":
        return "int64"
    return like


def _check_fits(array: np.ndarray[Any, Any], dtype: str) -> None:
    if kind(dtype) == "int" and array.dtype.kind in "iu" and array.size:
        bounds = np.iinfo(dtype)
        if not (bounds.min <= array.min() and array.max() <= bounds.max):
            raise DTypeError(
                f"{array.tolist()!r} does not fit {dtype}, which holds {bounds.min} to {bounds.max}",
                hint="cast the tensor first, with K.cast",
            ).at(here(3).function, (), str(here(3)))


def _as_array(value: Any) -> np.ndarray[Any, Any]:
    """value as an array of one of our dtypes (wider floats and unsigned integers become the nearest of them)."""
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (TensorUseError, ValueError, TypeError):
        array = np.empty(0, dtype=object)
    if array.dtype.name in DTYPES:
        return array
    nearest = {"u": "int64", "f": "float64"}.get(array.dtype.kind)
    if nearest is None or (array.dtype == np.uint64 and array.size and array.max() >= 2**63):
        origin = here(3)
        text = repr(value) if len(repr(value)) < 60 else repr(value)[:57] + "..."
        raise DTypeError(
            f"no tensor can be made of {text} ({type(value).__name__})",
            hint="give a number, a list of numbers, an array of a bool, integer or float dtype, or a tensor",
        ).at(origin.function, (), str(origin))
    return array.astype(nearest)


def from_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What NumPy calls for one of its functions over a symbolic operand: the node of the op of the same meaning."""
    op = o.OPS.get(_NAMED_OTHERWISE.get(ufunc.__name__, ufunc.__name__))
    if op is None or method != "__call__" or kwargs:
        how = f".{method}" if method != "__call__" else f" with {', '.join(kwargs)}=" if kwargs else ""
        from kgraph.ir.node import describe

        origin = here(2)
        raise TensorUseError(
            f"NumPy's {ufunc.__name__}{how} does not take a symbolic tensor", hint="use the K function of the same meaning"
        ).at(
            f"np.{ufunc.__name__}",
            [f"x: {describe(i.node)}" for i in inputs if isinstance(i, operators.Operators)],
            str(origin),
        )
    if op is o.identity:  # np.positive: a handle of its own on the same node, as +x
        return inputs[0].wrap(inputs[0].node)
    try:
        return apply(op, inputs[0]) if len(inputs) == 1 else combine(op, *inputs)
    except DTypeError as error:
        raise error.at(f"np.{ufunc.__name__}") from None


_NAMED_OTHERWISE = {
    "true_divide": "divide",
    "rint": "round",
    "abs": "absolute",
    "pow": "power",
    "mod": "remainder",
    "positive": "identity",
}

"""Python's operators over symbolic values, for nodes and for the handles of users alike.

Each names its op; `combine` promotes the operands and applies it. Equality and hash stay Python's: by identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import kgraph.ir.ops as o
import kgraph.ir.promote as promote

if TYPE_CHECKING:
    from kgraph.ir.node import Node


class Operators:
    """The arithmetic and ordering operators, indexing, and NumPy's functions, in terms of the ops."""

    __slots__ = ()

    # What the operators build from, and what they return: a node for a node, a handle for a handle.
    node: Node
    wrap: Callable[[Node], Any]

    # NumPy leaves an operator with an array on its left to us, and a call of one of its functions becomes a node.
    __array_priority__ = 1000

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return promote.from_ufunc(ufunc, method, inputs, kwargs)

    def __add__(self, other: Any) -> Any:
        return promote.combine(o.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return promote.combine(o.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return promote.combine(o.subtract, self, other)

    def __rsub__(self, other: Any) -> Any:
        return promote.combine(o.subtract, other, self)

    def __mul__(self, other: Any) -> Any:
        return promote.combine(o.multiply, self, other)

    def __rmul__(self, other: Any) -> Any:
        return promote.combine(o.multiply, other, self)

    def __truediv__(self, other: Any) -> Any:
        return promote.combine(o.divide, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return promote.combine(o.divide, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return promote.combine(o.floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return promote.combine(o.floor_divide, other, self)

    def __mod__(self, other: Any) -> Any:
        return promote.combine(o.remainder, self, other)

    def __rmod__(self, other: Any) -> Any:
        return promote.combine(o.remainder, other, self)

    def __pow__(self, other: Any) -> Any:
        return promote.combine(o.power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return promote.combine(o.power, other, self)

    def __matmul__(self, other: Any) -> Any:
        return promote.combine(o.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return promote.combine(o.matmul, other, self)

    def __neg__(self) -> Any:
        return promote.apply(o.negative, self)

    def __pos__(self) -> Any:
        return self.wrap(self.node)

    def __abs__(self) -> Any:
        return promote.apply(o.absolute, self)

    def __lt__(self, other: Any) -> Any:
        return promote.combine(o.less, self, other)

    def __le__(self, other: Any) -> Any:
        return promote.combine(o.less_equal, self, other)

    def __gt__(self, other: Any) -> Any:
        return promote.combine(o.greater, self, other)

    def __ge__(self, other: Any) -> Any:
        return promote.combine(o.greater_equal, self, other)

    def __getitem__(self, spec: Any) -> Any:
        return o.basic_index(self, spec)

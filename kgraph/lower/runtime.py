"""What programs over NumPy call besides NumPy and the meanings of ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kgraph.ir.node import Attrs
from kgraph.ir.sizes import unequal
from kgraph.ir.types import TensorType

_BITS = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


def kept(condition: Any, x: Any) -> Any:
    """The elements of x where the condition holds, else 0. They have equal shapes."""
    # NumPy vectorises this, and not np.where, which takes twice as long.
    mask = condition.astype(_BITS[x.itemsize])
    np.negative(mask, mask)
    np.bitwise_and(x.view(mask.dtype), mask, mask)
    return mask.view(x.dtype)


def same_sizes(built: Sequence[tuple[int | None, ...]], *values: Any) -> None:
    """Raises ShapeError if sizes that meet differ. What was built as 1 is stretched."""
    rank = max(map(len, built))
    for axis in range(-rank, 0):
        sizes = {np.shape(v)[axis] for shape, v in zip(built, values, strict=True) if -axis <= len(shape) and shape[axis] != 1}
        if len(sizes) > 1:
            raise unequal(axis, *sorted(sizes))


def fitting(rule: tuple[Callable[..., Any], Attrs], *values: Any) -> None:
    """Raises ShapeError if the type rule of an op refuses the sizes of values, which NumPy might stretch."""
    type_rule, attrs = rule
    type_rule(*[TensorType(v.dtype.name, v.shape) for v in values], **dict(attrs))

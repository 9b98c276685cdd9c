"""Ops of linear algebra."""

from __future__ import annotations

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.elementwise import number_like
from kgraph.ir.types import Size, TensorType, merge_size, same_size


def _matmul_type(x: TensorType, y: TensorType) -> TensorType:
    number_like(x)
    if x.dtype != y.dtype:
        raise DTypeError(f"dtypes differ: {x.dtype} != {y.dtype}", hint="cast one of them with K.cast")
    if x.ndim != y.ndim or x.ndim < 2:
        raise ShapeError(f"ranks {x.ndim} and {y.ndim}; both have to be 2, or equal and higher", hint="K.dot takes any ranks")
    for axis, (a, b) in enumerate(zip(x.shape[:-2], y.shape[:-2], strict=True)):
        if not same_size(a, b):
            raise ShapeError(f"sizes differ on axis {axis}: {a} != {b}", hint="the axes before the last two are not stretched")
    if not same_size(x.shape[-1], y.shape[-2]):
        raise ShapeError(f"inner sizes differ: {x.shape[-1]} (last axis of x) != {y.shape[-2]} (second-to-last axis of y)")
    lead: tuple[Size, ...] = tuple(map(merge_size, x.shape[:-2], y.shape[:-2]))
    return TensorType(x.dtype, (*lead, x.shape[-2], y.shape[-1]))


def _matmul_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
    swapped = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    return o.matmul(g, o.transpose(y, perm=swapped)), o.matmul(o.transpose(x, perm=swapped), g)


matmul: Op = Op(
    "matmul", _matmul_type, numpy=np.matmul, vjp=_matmul_vjp,
    doc="Matrix product over the last two axes; the axes before them agree in size.",
)  # fmt: skip

__all__ = ["matmul"]

"""What is never below zero, whatever it is fed."""

from __future__ import annotations

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node

#: Nodes looked at; what asks for more counts as unknown.
MOST = 16

#: Never below 0, nor -0.0, of any float. (relu of -0.0 may be either.)
_POSITIVE = frozenset((o.square, o.absolute, o.exp, o.sigmoid, o.softmax))
#: So if all of their operands are.
_KEPT = frozenset((
    o.add, o.multiply, o.divide, o.sqrt, o.sum, o.max, o.min, o.maximum, o.minimum, o.reshape, o.transpose, o.expand_dims,
    o.squeeze, o.concatenate, o.flip, o.round, o.floor, o.cumsum, o.repeat, o.tile, o.log1p, o.prod,
))  # fmt: skip
#: So if the first of their operands is: the others tell sizes and places.
_FIRST = frozenset((o.broadcast_to, o.broadcast_like, o.index, o.pad))


def never_negative(x: Node) -> bool:
    """Whether no element of a float is below 0 or -0.0; it may be NaN."""
    if x.type.dtype not in ("float16", "float32", "float64"):
        return False
    waiting, seen = [x], {x}
    while waiting:
        if len(seen) > MOST:
            return False
        node = waiting.pop()
        op = node.op
        if op in _POSITIVE:
            continue
        if op in _KEPT and not (op is o.reshape and len(node.inputs) > 1):
            inputs = node.inputs
        elif op in _FIRST or op is o.reshape:
            inputs = node.inputs[:1]
        elif op is o.constant:
            value = node.attrs[0][1].array
            if value.size > 4096 or np.signbit(value).any() or np.isnan(value).any():
                return False
            continue
        elif op is o.cast and _is_count(node.inputs[0]):
            continue
        elif op is o.cast and node.inputs[0].type.is_float:
            inputs = node.inputs
        else:
            return False
        for i in inputs:
            if i not in seen:
                seen.add(i)
                waiting.append(i)
    return True


def _is_count(x: Node) -> bool:
    return x.type.dtype in ("bool", "uint8") or x.op is o.size


__all__ = ["never_negative"]

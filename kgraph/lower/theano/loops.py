"""A scan as one operation of Theano's: the body is a program of its own, which a loop in Python calls step after step.

Not `theano.scan`: in theano-pymc 1.1.2 its loop in C does not compile on Python 3.11, so that it would be a loop in Python too.
This one hands an error on with the operation of the body in which it arose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply
from theano.graph.op import Op as TheanoOp

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.types import TensorType
from kgraph.lower.theano.host import pattern


class LoopOp(TheanoOp):  # type: ignore[misc]
    """A scan. Two of them are never one: which is found before.

    Args:
      call: the program of the body: arrays -> arrays that are the caller's own.
    """

    def __init__(self, node: Node, call: Callable[..., Sequence[Any]]):
        body: Graph = node.attr("body")
        self._types: Sequence[TensorType] = node.type.items  # type: ignore[attr-defined]
        self._numbers = {name: node.attr(name) for name in ("sequences", "states", "reverse")}
        # A part of a vector is a number of NumPy's, which C code does not take.
        scalars = [i for i, p in enumerate(body.inputs[: 1 + node.attr("sequences")]) if not p.ndim]

        def step(*values: Any) -> Sequence[Any]:
            given = list(values)
            for i in scalars:
                given[i] = np.asarray(given[i])
            return call(*given)

        step.types = [root.type for root in body.outputs]  # type: ignore[attr-defined]
        self._step = step

    def make_node(self, *inputs: Any) -> Any:
        return Apply(self, inputs, [T.TensorType(type.dtype, pattern(type))() for type in self._types])

    def perform(self, node: Any, inputs: Sequence[Any], outputs: Any, params: Any = None) -> None:
        assert o.scan.numpy is not None
        for cell, result in zip(outputs, o.scan.numpy(*inputs, body=self._step, **self._numbers), strict=True):
            cell[0] = result

    def __str__(self) -> str:
        return "Loop"

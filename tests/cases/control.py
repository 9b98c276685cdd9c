"""Rows of branches, of results of ops that have several, and of printing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Identity, Node
from tests.cases.base import Array, Case, bools, floats, ints

YES, NO = np.array(True), np.array(False)

Body = Callable[..., Sequence[Node]]


def branch(then: Body, orelse: Body, index: int = 0) -> Callable[..., Node]:
    """What builds a result of a cond over a condition and captured values."""

    def body(build: Body, captures: Sequence[Node]) -> Graph:
        given = [o.param(index=i, type=x.type) for i, x in enumerate(captures)]
        return Graph(given, build(*given))

    def build(condition: Node, *captures: Node) -> Node:
        return o.item(o.cond(condition, *captures, then=body(then, captures), orelse=body(orelse, captures)), index=index)

    return build


def _cond(
    condition: Array, inputs: Sequence[Array], then: Body, orelse: Body, oracle: Callable[..., Any], **keywords: Any
) -> list[Case]:
    index = keywords.pop("index", 0)
    dtype = keywords.pop("dtype", "float32")
    note = f"{'then' if condition else 'orelse'} {keywords.pop('note', '')} {index}"
    return [
        Case(op, [condition, *inputs], {}, oracle, dtype=dtype, build=branch(then, orelse, index), note=note, **keywords)
        for op in (o.cond, o.item)
    ]


def _two(x: Node, y: Node) -> Sequence[Node]:
    return x * y, o.tanh(x)


def _other(x: Node, y: Node) -> Sequence[Node]:
    return x + y, y


def _nested(x: Node, y: Node) -> Sequence[Node]:
    return [branch(_two, _other)(o.greater(o.sum(x, axis=(0,), keepdims=False), o.scalar(0.0, x.dtype)), x, y)]


ROWS = [
    *[
        Case(o.switch, [condition, x, y], {}, lambda c, x, y: x if c else y, dtype=x.dtype.name, note=str(condition))
        for condition in (YES, NO)
        for x, y in [(floats(2, 3), floats(2, 3, seed=1)), (floats(), floats(seed=1)), (ints(3), ints(3, seed=1)), (bools(2), ~bools(2)),
                     (floats(0, 2, dtype="float64"), floats(0, 2, dtype="float64"))]
    ],
    *[
        row
        for condition in (YES, NO)
        for index in (0, 1)
        for row in _cond(
            condition, [floats(3), floats(3, seed=1)], _two, _other,
            lambda c, x, y, index=index: ((x * y, np.tanh(x)) if c else (x + y, y))[index], index=index,
        )
    ],
    *[
        row
        for condition in (YES, NO)
        for x in (floats(3, low=0.1), floats(3, high=-0.1))
        for row in _cond(condition, [x, floats(3, seed=1)], _nested, lambda x, y: [y], lambda c, x, y: (x * y if x.sum() > 0 else x + y) if c else y,
                         note="nested")
    ],
    *_cond(YES, [], lambda: [o.constant_of(np.float32(2))], lambda: [o.constant_of(np.float32(3))], lambda c: 2.0, note="of constants"),
    *_cond(NO, [], lambda: [o.constant_of(np.float32(2))], lambda: [o.constant_of(np.float32(3))], lambda c: 3.0, note="of constants"),
    *_cond(YES, [floats(2)], lambda x: [x], lambda x: [o.absent(type=x.type)], lambda c, x: x, note="the other side is absent"),
    *_cond(NO, [ints(), ints(seed=1)], lambda x, y: [x], lambda x, y: [y], lambda c, x, y: y, dtype="int32", note="of integers"),
    *[
        Case(o.print_, [x], {"uid": Identity(), "message": "a row:"}, lambda x: x)
        for x in (floats(2, 3), floats(), floats(0, 2), ints(3, dtype="uint8"), bools(2))
    ],
]  # fmt: skip

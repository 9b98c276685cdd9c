"""Rows of loops: against loops in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.types import TensorType
from tests.cases.base import Array, Case, bools, floats, ints, size

Step = Callable[..., Sequence[Any]]


def loop(
    step: Step, sequences: int, states: int, index: int, reverse: bool = False, counted: bool = False, bare: bool = False
) -> Callable[..., Node]:
    """What builds a result of a scan over sequences, initial states and captures.

    Args:
      step: ``(step, slices ..., states ..., captures ...) -> (new states ..., outputs ...)``.
      counted: the first operand is the number of steps; else it is the size of the first sequence.
      bare: without what the gradient needs as further results, so that it has to compute that again.
    """

    def build(*nodes: Node) -> Node:
        operands = nodes[counted:]
        known = None if counted else operands[0].type.shape[0]
        length = nodes[0] if counted else o.size(operands[0], axes=(0,)) if known is None else o.scalar(known, "int32")
        slices = [x.type.with_shape(x.type.shape[1:]) for x in operands[:sequences]]
        types = [TensorType("int32", ()), *slices, *[x.type for x in operands[sequences:]]]
        given = [o.param(index=i, type=type) for i, type in enumerate(types)]
        body = Graph(given, step(*given))
        split = sequences + states
        if bare:
            made = o.scan(length, *operands, body=body, sequences=sequences, states=states, reverse=reverse)
        else:
            made = o.looped(length, operands[:sequences], operands[sequences:split], operands[split:], body, reverse)
        return o.item(made, index=index)

    return build


def told(step: Step, sequences: int, states: int, index: int, reverse: bool = False, counted: bool = False) -> Callable[..., Any]:
    """The same in Python."""

    def oracle(*values: Any) -> Any:
        operands = values[counted:]
        count = int(values[0]) if counted else len(operands[0])
        held, captures = list(operands[sequences : sequences + states]), operands[sequences + states :]
        found: dict[int, Any] = {}
        for i in reversed(range(count)) if reverse else range(count):
            results = step(i, *[x[i] for x in operands[:sequences]], *held, *captures)
            held = list(results[:states])
            found[i] = results[states:]
        return held[index] if index < states else np.array([found[i][index - states] for i in range(count)])

    return oracle


def both(
    name: str, inputs: Sequence[Array], step: Step, plain: Step | None, sequences: int, states: int, indices: Sequence[int],
    **keywords: Any,
) -> list[Case]:  # fmt: skip
    """A row for some results, forwards and backwards.

    Args:
      plain: the step over arrays, where it is not the same text.
    """
    counted, bare = keywords.pop("counted", False), keywords.pop("bare", False)
    return [
        Case(
            o.scan,
            inputs,
            {},
            told(plain or step, sequences, states, index, reverse, counted),
            build=loop(step, sequences, states, index, reverse, counted, bare),
            note=f"{name}, result {index}{', reverse' if reverse else ''}",
            **keywords,
        )
        for index in indices
        for reverse in (False, True)
    ]


def number(step: Any, like: Any) -> Any:
    """The number of the step in the dtype of a value."""
    return o.cast(step, dtype=like.dtype) if isinstance(step, Node) else step


def _sum(i: Any, x: Any, h: Any) -> Sequence[Any]:
    new = h * 0.5 + x
    return new, new * x


def _of_number(i: Any, x: Any, h: Any) -> Sequence[Any]:
    new = h * x + number(i, x)
    return new, x * number(i, x)


def _cell(i: Any, x: Any, h: Any, w: Any) -> Sequence[Any]:
    new = o.tanh(o.matmul(h, w) + x)
    return new, new * new


def _plain_cell(i: int, x: Any, h: Any, w: Any) -> Sequence[Any]:
    new = np.tanh(h @ w + x)
    return new, new * new


def _two(i: Any, x: Any, y: Any, a: Any, b: Any, c: Any) -> Sequence[Any]:
    return b * c, a + x * y, a * b, x


def _power(i: Any, h: Any, w: Any) -> Sequence[Any]:
    return h * w, h


def _nested(i: Any, x: Any, h: Any) -> Sequence[Any]:
    """The inner loop goes along the part of the sequence."""
    inner = loop(lambda j, a, s, b: (o.tanh(a * s + b) + number(j, a),), 1, 1, 0, reverse=True)(x, h, h)
    return inner, inner * x


def _plain_nested(i: int, x: Any, h: Any) -> Sequence[Any]:
    s = h
    for j in reversed(range(len(x))):
        s = np.tanh(x[j] * s + h) + j
    return s, s * x


def _branch(i: Any, x: Any, h: Any) -> Sequence[Any]:
    positive = o.greater(o.sum(x, axis=(0,), keepdims=False), o.scalar(0.0, x.dtype))
    new = o.switch(positive, o.tanh(h + x), h * x * 0.5)
    return new, new + x


def _plain_branch(i: int, x: Any, h: Any) -> Sequence[Any]:
    new = np.tanh(h + x) if x.sum() > 0 else h * x * 0.5
    return new, new + x


def _handed(i: Any, x: Any, h: Any, k: Any, c: Any) -> Sequence[Any]:
    """Nothing is computed: each result is what something else is."""
    return x, h, h, c, k


def _few(name: str, inputs: Sequence[Array], step: Step, sequences: int, states: int, **keywords: Any) -> list[Case]:
    return both(name, inputs, step, None, sequences, states, range(1), **keywords)


ROWS = [
    *[row for shape in ((), (2,), (2, 3), (0,)) for row in both("sum", [floats(4, *shape), floats(*shape)], _sum, None, 1, 1, (0, 1))],
    *both("of the number", [floats(3, 2), floats(2)], _of_number, None, 1, 1, (0, 1)),
    *both("of the number", [ints(4, dtype="int64"), ints(dtype="int64")], _of_number, None, 1, 1, (0, 1), dtype="int64"),
    *both("cell", [floats(3, 2, 4), floats(2, 4), floats(4, 4)], _cell, _plain_cell, 1, 1, (0, 1), rtol=4e-6),
    *both("bare cell", [floats(3, 2, 4), floats(2, 4), floats(4, 4)], _cell, _plain_cell, 1, 1, (0, 1), rtol=4e-6, bare=True),
    *both("one step", [floats(1, 2, 4), floats(2, 4), floats(4, 4)], _cell, _plain_cell, 1, 1, (0, 1), rtol=4e-6),
    *both("no steps", [floats(0, 2), floats(2)], _sum, None, 1, 1, (0,)),
    *both("no steps", [floats(0), floats()], _sum, None, 1, 1, (0, 1)),
    *both("two", [floats(3, 2), floats(3, 2, seed=1), floats(2), floats(2, seed=1), floats(2, seed=2)], _two, None, 2, 2, (0, 1, 2, 3), rtol=2e-6),
    *both("no sequence", [size(4), floats(2), floats(2, seed=1)], _power, None, 0, 1, (0,), dtype="float32", counted=True),
    *both("no sequence", [size(3, "uint8"), floats(2), floats(2, seed=1)], _power, None, 0, 1, (1,), dtype="float32", counted=True, known=(None, 2)),
    *both("no sequence, no steps", [size(0), floats(2), floats(2, seed=1)], _power, None, 0, 1, (0,), dtype="float32", counted=True),
    *both("no state", [floats(3, 2), floats(2)], lambda i, x, c: (x * c, c), None, 1, 0, (0, 1)),
    *both("nested", [floats(3, 4), floats()], _nested, _plain_nested, 1, 1, (0, 1), rtol=4e-6),
    *both("branch", [floats(5, 2), floats(2)], _branch, _plain_branch, 1, 1, (0, 1), rtol=2e-6),
    *both("handed on", [floats(3, 2), floats(2), floats(2, seed=1), floats(2, seed=2)], _handed, None, 1, 2, (0, 1, 2, 3, 4)),
    *[
        row
        for x, h in [
            (ints(4, 2), ints(2)), (ints(4, 2, low=0, dtype="uint8"), ints(2, low=0, dtype="uint8")),
            (floats(4, 2, dtype="float16"), floats(2, dtype="float16")), (floats(4, 2, dtype="float64"), floats(2, dtype="float64")),
        ]
        for row in _few("product", [x, h], lambda i, x, h: (x + h,), 1, 1, dtype=x.dtype.name, rtol=4e-3 if x.dtype == "float16" else None)
    ],
    *_few("parity", [bools(5, 2), bools(2)], lambda i, x, h: (o.not_equal(x, h) if isinstance(x, Node) else x != h,), 1, 1, dtype="bool"),
    *_few("mixed", [bools(5), floats(3)], lambda i, x, h: (o.switch(x, h * 2.0, h - 1.0) if isinstance(x, Node) else h * 2 if x else h - 1,), 1, 1,
          dtype="float32"),
]  # fmt: skip

"""Branches, results of ops with several of them, and printing. The bodies of branches are closed graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.op import Op
from kgraph.ir.types import TensorType, TupleType, same_size


def _check_condition(condition: TensorType) -> None:
    if condition.shape != ():
        raise ShapeError(
            f"the condition has rank {condition.ndim}, not 0", hint="K.switch takes a tensor condition element by element"
        )


def one_type(x: TensorType, y: TensorType) -> TensorType:
    """The type of a value that is one of two."""
    if x.dtype != y.dtype:
        raise DTypeError(f"the sides of a branch differ in dtype: {x.dtype} != {y.dtype}", hint="cast one of them with K.cast")
    if x.ndim != y.ndim or not all(map(same_size, x.shape, y.shape)):
        raise ShapeError(f"the sides of a branch differ in shape: {x} != {y}")
    # Of a size that only one side knows, the result knows nothing: the other side may be taken.
    return x.with_shape(tuple([None if a is None or b is None else a for a, b in zip(x.shape, y.shape, strict=True)]))


def _switch_type(condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    _check_condition(condition)
    return one_type(x, y)


def _switch_vjp(g: Node, out: Node, condition: Node, x: Node, y: Node) -> tuple[Node | None, ...]:
    # What `gradients` does with it keeps the rest of the way back inside of the side too.
    return None, switch(condition, g, o.zeros_like(g)), switch(condition, o.zeros_like(g), g)


switch: Op = Op(
    "switch", _switch_type, numpy=lambda condition, x, y: x if condition else y, vjp=_switch_vjp,
    doc="One of two values by a scalar condition. Compiling sinks what only one of them needs into a cond.",
)  # fmt: skip


def _cond_type(condition: TensorType, *captures: TensorType, then: Graph, orelse: Graph) -> TupleType:
    _check_condition(condition)
    for body in (then, orelse):
        if tuple(p.type for p in body.inputs) != captures:
            raise ShapeError("the parameters of a branch body do not fit the values that it is given")
    sides = zip(then.outputs, orelse.outputs, strict=True)
    return TupleType(
        tuple([y.type if x.op is o.absent else x.type if y.op is o.absent else one_type(x.type, y.type) for x, y in sides])
    )


def _expand_cond(condition: Node, *captures: Node, then: Graph, orelse: Graph) -> tuple[Node, ...]:
    from kgraph.ir.traverse import substitute

    sides = [substitute(body.outputs, dict(zip(body.inputs, captures, strict=True))) for body in (then, orelse)]
    return tuple(
        [y if x.op is o.absent else x if y.op is o.absent else switch(condition, x, y) for x, y in zip(*sides, strict=True)]
    )


def _cond_vjp(
    gs: tuple[Node | None, ...], out: Node, condition: Node, *captures: Node, then: Graph, orelse: Graph
) -> tuple[Node | None, ...]:
    from kgraph.ir.grad import cotangents

    results = _expand_cond(condition, *captures, then=then, orelse=orelse)
    return None, *cotangents(results, gs, captures)


cond: Op = Op(
    "cond", _cond_type, numpy=lambda condition, *captures, then, orelse: (then if condition else orelse)(*captures),
    vjp=_cond_vjp, expand=_expand_cond, bodies=("then", "orelse"),
    doc="The results of one of two bodies, by a scalar condition; the other does not run.",
)  # fmt: skip


def _item_type(x: TupleType, *, index: int) -> TensorType:
    return x.items[index]


def _item_vjp(g: Node, out: Node, x: Node, *, index: int) -> tuple[Any, ...]:
    return (tuple([g if i == index else None for i in range(len(x.type.items))]),)  # type: ignore[attr-defined]


item: Op = Op(
    "item", _item_type, numpy=lambda x, *, index: x[index], vjp=_item_vjp, doc="One of the results of an op that has several."
)


def _print(x: Any, *, uid: Identity, message: str) -> Any:
    text = np.array2string(np.asarray(x), separator=", ")
    print(f"{message} {text}" if message else text, flush=True)
    return x


print_: Op = Op(
    "print", lambda x, *, uid, message: x, numpy=_print, vjp=lambda g, out, x, *, uid, message: (g,), effect=True,
    doc="x, printed each time that it is computed.",
)  # fmt: skip

__all__ = ["switch", "cond", "item", "print_", "one_type"]

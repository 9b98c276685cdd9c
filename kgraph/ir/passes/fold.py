"""Computing what is known: constant sub-graphs, the arithmetic of known sizes, and branches whose condition is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.listing import is_large
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.passes.loops import part_of
from kgraph.ir.pattern import whole
from kgraph.ir.rewrite import Rules
from kgraph.ir.traverse import substitute
from kgraph.ir.types import TensorType
from kgraph.quiet import quietly

#: Elements; a constant that would be larger, and larger than what it is made of, is computed when the program runs.
LARGEST = 4096


fold = Rules("fold")


@fold.rule(whole(o.switch))
def branch(out: Node) -> Node | str:
    """switch(c, x, x) -> x; switch(True, x, y) -> x; switch(False, x, y) -> y"""
    condition, x, y = out.inputs
    if x is y:
        return x
    if condition.op is not o.constant:
        return "the condition is not known"
    return x if _value(condition) else y


@fold.rule(whole(o.shape), whole(o.size), whole(o.index))
def size(out: Node) -> Node | str:
    """size(x) -> a number, where it is known"""
    if out.op is o.shape:
        x = out.inputs[0].type
        return o.constant_of(np.array(x.shape, "int32")) if x.is_static else "a size is not known"
    known = o.static_int(out)
    return "the size is not known" if known is None else o.scalar(known, out.dtype)


@fold.rule(*[whole(op) for op in o.OPS.values() if op.sized])
def dynamic_size(out: Node) -> Node | str:
    """reshape(x, n) -> reshape(x, shape=(3,)), where n is known to be 3: the type gets more precise"""
    assert out.op.sized is not None
    attrs = dict(out.attrs)
    entries = list(attrs[out.op.sized])
    holes = [i for i, entry in enumerate(entries) if entry is None]
    split = len(out.inputs) - len(holes)
    kept = []
    for hole, n in zip(holes, out.inputs[split:], strict=True):
        known = o.static_int(n)
        if known is None:
            kept.append(n)
        else:
            entries[hole] = known
    if len(kept) == len(holes):
        return "no more sizes are known"
    attrs[out.op.sized] = tuple(entries)
    return out.op(*out.inputs[:split], *kept, **attrs)


@fold.rule(whole(over=o.constant))
def constant(out: Node) -> Node | str:
    """f(constants) -> a constant"""
    meaning = out.op.numpy
    if meaning is None or out.op.effect or out.op in _NOT_COMPUTED or out.type.__class__ is not TensorType:
        return "it is computed by programs alone"
    size = out.type.size
    if size is None or size > max(LARGEST, *(i.type.size or 0 for i in out.inputs)):
        return f"it has more than {LARGEST} elements, and more than what it is made of"
    try:
        return o.constant_of(_computed(out, meaning))
    except (ValueError, IndexError, ZeroDivisionError) as error:
        # The program raises it, in the call, where it can be told from an error of kgraph's own.
        return f"computing it raises {error}"


@fold.rule(whole(o.scan))
def capture(out: Node) -> Node | str:
    """scan over a constant capture -> scan with the constant inside

    The learning phase of a program, say, decides branches in the body.
    """
    body: Graph = out.attr("body")
    first = 1 + out.attr("sequences") + out.attr("states")
    captured = zip(body.inputs[first:], out.inputs[first:], strict=True)
    fixed = {p: i for p, i in captured if i.op is o.constant and not is_large(i.attrs[0][1])}
    if not fixed:
        return "no capture is a small constant"
    left = [(p, i) for p, i in zip(body.inputs, out.inputs, strict=True) if p not in fixed]
    parameters = [o.param(index=n, type=p.type) for n, (p, _) in enumerate(left)]
    places = {p: parameter for (p, _), parameter in zip(left, parameters, strict=True)}
    numbers = [n for n, p in enumerate(body.inputs) if p not in fixed]
    inside = Graph(parameters, substitute(body.outputs, {**places, **fixed}), built_as=part_of(body, numbers))
    return o.scan(
        *[i for _, i in left], body=inside,
        sequences=out.attr("sequences"), states=out.attr("states"), reverse=out.attr("reverse"),
    )  # fmt: skip


@quietly
def _computed(node: Node, meaning: Callable[..., Any]) -> np.ndarray[Any, Any]:
    return np.asarray(meaning(*map(_value, node.inputs), **dict(node.attrs)))


def _value(node: Node) -> Any:
    return node.attrs[0][1].array


# An identity is asked for as a node of its own; a branch is folded by its condition alone.
_NOT_COMPUTED: tuple[Op, ...] = (o.identity, o.switch, o.cond, o.item)

"""Axes in another order: they change places late, where they meet what changes them back.

A program with channels first has its axes changed before and after each convolution and pooling, which know one order alone.
What lies between two of them is done in that order too.
"""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.passes.simplify.broadcasts import STRETCHING
from kgraph.ir.passes.simplify.layout import FULL
from kgraph.ir.pattern import Pattern, attr, p, var, whole
from kgraph.ir.rewrite import Rules

Perm = tuple[int, ...]

X, PERM = var("x"), attr("perm")
TRANSPOSE = whole(o.transpose)

orders = Rules("simplify")
rule = orders.rule

#: Of one operand, element by element. A negative goes the other way: it meets sums (`moved_negative`).
_OF_ONE = (
    o.absolute, o.sign, o.square, o.round, o.floor, o.exp, o.expm1, o.log, o.log1p, o.sqrt, o.sin, o.cos, o.tanh, o.sigmoid,
    o.softplus, o.relu, o.logical_not, o.cast,
)  # fmt: skip


def _with_transpose(op: Op) -> list[Pattern]:
    count = len(op.input_names)
    return [getattr(p, op.name)(*[TRANSPOSE if i == n else whole() for i in range(count)]) for n in range(count)]


@rule(*[pattern for op in (*_OF_ONE, *STRETCHING) for pattern in _with_transpose(op)])
def transposed_later(out: Node) -> Node | str:
    """transpose(x) + transpose(y) -> transpose(x + y); so every op that works element by element

    So also where an operand is stretched, as a bias is: it changes in the place of what is larger.
    """
    perm: Perm = next((i.attr("perm") for i in out.inputs if i.op is o.transpose and i.ndim == out.ndim), ())
    inputs = [_before(i, perm, out) for i in out.inputs] if perm else [None]
    if any(i is None for i in inputs):
        return "an operand has its axes in another order"
    return o.transpose(out.op.apply(tuple(inputs), out.attrs), perm=perm)  # type: ignore[arg-type]


def _before(x: Node, perm: Perm, out: Node) -> Node | None:
    """x before its axes change places as perm says; None for what is as large as the result, and would have to change them."""
    if x.op is o.transpose and x.attr("perm") == perm:
        return x.inputs[0]
    shape = (*[1] * (len(perm) - x.ndim), *x.type.shape)
    long = [axis for axis, size in enumerate(shape) if size != 1]
    if not long:
        return x
    if all(size != 1 or whole_size == 1 for size, whole_size in zip(shape, out.type.shape, strict=True)):
        return None
    size = shape[long[0]]
    if len(long) > 1 or size is None:
        for _ in range(len(perm) - x.ndim):
            x = o.expand_dims(x, axis=0)
        return o.transpose(x, perm=tuple([perm.index(a) for a in range(len(perm))]))
    wanted = (size, *[1] * (len(perm) - 1 - perm[long[0]]))
    return x if x.type.shape == wanted else o.reshape(x, shape=wanted)


_EXACT = (p.max, p.min, p.any, p.all)


def _reductions(*ops: object, of: str | None = None) -> list[Pattern]:
    return [op(p.transpose(var("x", of), perm=PERM), axis=attr("axis"), keepdims=attr("keepdims")) for op in ops]  # type: ignore[operator]


@rule(*_reductions(*_EXACT), *_reductions(p.sum, p.prod, of="int"))
def reduced_before(x: Node, perm: Perm, axis: Perm, keepdims: bool, out: Node) -> Node:
    """max(transpose(x)) -> max(x), over the axes that these are in x; so min, any, all, and sums and products of integers"""
    return _reduced_before(x, perm, axis, keepdims, out)


@rule(*_reductions(p.sum, p.prod, p.logsumexp, of="float"), claim="rounding")
def sum_before(x: Node, perm: Perm, axis: Perm, keepdims: bool, out: Node) -> Node:
    """sum(transpose(x)) -> sum(x), over the axes that these are in x; so prod and logsumexp"""
    return _reduced_before(x, perm, axis, keepdims, out)


def _reduced_before(x: Node, perm: Perm, axis: Perm, keepdims: bool, out: Node) -> Node:
    """What is left of the axes has to be put in order after it."""
    made = out.op(x, axis=tuple(sorted([perm[a] for a in axis])), keepdims=keepdims)
    left = perm if keepdims else tuple([perm[a] for a in range(len(perm)) if a not in axis])
    ranks = tuple([sorted(left).index(a) for a in left])
    return made if ranks == tuple(range(len(ranks))) else o.transpose(made, perm=ranks)


@rule(whole(o.concatenate))
def joined_before(out: Node) -> Node | str:
    """concatenate(transpose(x), transpose(y)) -> transpose(concatenate(x, y)), along the axis that it is in x"""
    perm: Perm = out.inputs[0].attr("perm") if out.inputs[0].op is o.transpose else ()
    if not perm or any(i.op is not o.transpose or i.attr("perm") != perm for i in out.inputs):
        return "the parts do not have their axes in one other order"
    return o.transpose(o.concatenate(*[i.inputs[0] for i in out.inputs], axis=perm[out.attr("axis")]), perm=perm)


@rule(p.pad(p.transpose(X, perm=PERM), padding=attr("padding")))
def padded_before(x: Node, perm: Perm, padding: tuple[tuple[int, int], ...]) -> Node:
    """pad(transpose(x)) -> transpose(pad(x))"""
    return o.transpose(o.pad(x, padding=tuple([padding[perm.index(a)] for a in range(len(perm))])), perm=perm)


@rule(p.size(p.transpose(X, perm=PERM), axes=attr("axes")))
def size_before(x: Node, perm: Perm, axes: Perm) -> Node:
    """size(transpose(x)) -> size(x), of the axes that these are in x"""
    return o.size(x, axes=tuple(sorted([perm[a] for a in axes])))


@rule(p.index(p.transpose(X, perm=PERM), form=attr("form"), numbers=attr("numbers")))
def taken_before(x: Node, perm: Perm, form: str, numbers: tuple[int, ...]) -> Node | str:
    """transpose(x)[a] -> transpose(x[b]), where all entries are slices"""
    if form.strip("s"):
        return "an axis comes or goes"
    return o.transpose(o.index(x, **_slices_before(perm, form, numbers)), perm=perm)


@rule(
    p.scatter_index(p.transpose(X, perm=PERM), p.transpose(var("like"), perm=PERM), form=attr("form"), numbers=attr("numbers"))
)
def put_before(x: Node, like: Node, perm: Perm, form: str, numbers: tuple[int, ...]) -> Node | str:
    """scatter_index(transpose(x), transpose(y)) -> transpose(scatter_index(x, y)), where all entries are slices"""
    if form.strip("s"):
        return "an axis comes or goes"
    return o.transpose(o.scatter_index(x, like, **_slices_before(perm, form, numbers)), perm=perm)


def _slices_before(perm: Perm, form: str, numbers: tuple[int, ...]) -> dict[str, Any]:
    """The attrs of an index by slices, of the axes before they change places."""
    numbers = numbers[: 3 * len(form)] + FULL * (len(perm) - len(form))
    at = [3 * perm.index(a) for a in range(len(perm))]
    return {"form": "s" * len(perm), "numbers": tuple([n for i in at for n in numbers[i : i + 3]])}


__all__ = ["orders"]

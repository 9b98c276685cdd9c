"""What is stretched is stretched late, or not at all."""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.passes.fitting import LONGEST, fills, source, surely_alike
from kgraph.ir.pattern import const, p, var, whole
from kgraph.ir.rewrite import Rules, refines
from kgraph.ir.types import broadcast_shapes

X = var("x")
STRETCHES = (o.broadcast_to, o.broadcast_like)

broadcasts = Rules("simplify")
rule = broadcasts.rule

_INNER = (*STRETCHES, o.expand_dims, o.reshape)

#: Ops of several operands that stretch them on their own.
STRETCHING = [op for op in o.OPS.values() if op.broadcasts and op not in STRETCHES]


@rule(whole(o.broadcast_to), whole(o.broadcast_like))
def to_itself(out: Node) -> Node | str:
    """broadcast_to(x), broadcast_like(x, y) -> x, where x has that shape"""
    x = out.inputs[0]
    if x.type is not out.type:
        return "x is stretched, or its shape gets known"
    return x if surely_alike(x, out) else "of the unknown sizes it is not known that they are those of x"


@rule(whole(o.broadcast_like))
def like_known(out: Node) -> Node | str:
    """broadcast_like(x, y) -> broadcast_to(x), where the shape is known: y need not be kept for it"""
    shape = out.type.shape
    return "a size is not known" if None in shape else o.broadcast_to(out.inputs[0], shape=shape)


@rule(whole(o.broadcast_like))
def like_source(out: Node) -> Node | str:
    """broadcast_like(x, f(y)) -> broadcast_like(x, y), where y has the shape of f(y): f(y) need not be computed for it"""
    x, like = out.inputs
    found = shape_source(like)
    return "its shape comes from nowhere else" if found is like else o.broadcast_like(x, found)


def shape_source(x: Node) -> Node:
    """The first node, on the way back through operands, that has the shape of x for sure."""
    for _ in range(LONGEST):
        shape = x.type.shape
        if x.op is o.broadcast_like and x.inputs[1].type.shape == shape:
            x = x.inputs[1]
        elif x.op in _ELEMENT_WISE and x.op.broadcasts:
            before = next((i for i in x.inputs if i.type.shape == shape and surely_alike(i, x)), None)
            if before is None:
                return x
            x = before
        elif x.op in _ELEMENT_WISE:
            x = x.inputs[0]
        else:
            return x
    return x


_ELEMENT_WISE: frozenset[Op] = frozenset((
    *STRETCHING, o.negative, o.absolute, o.sign, o.square, o.round, o.floor, o.exp, o.expm1, o.log, o.log1p, o.sqrt, o.sin,
    o.cos, o.tanh, o.sigmoid, o.softplus, o.relu, o.logical_not, o.cast, o.softmax, o.log_softmax, o.flip, o.cumsum, o.cumprod,
))  # fmt: skip


@rule(*[p.broadcast_to(whole(inner)) for inner in _INNER],
      *[p.broadcast_like(whole(inner), var("y")) for inner in _INNER])  # fmt: skip
def stretched_twice(out: Node) -> Node | str:
    """broadcast(broadcast(x)) -> broadcast(x); so of first axes of size 1"""
    inner, *rest = out.inputs
    if inner.op not in STRETCHES and not _is_first(inner):
        return "the axis is not the first one"
    if None in inner.type.shape and not refines(inner.type, inner.inputs[0].type) and None in out.type.shape:
        return "sizes have to agree when the program runs"
    made = out.op.apply((inner.inputs[0], *rest), out.attrs)
    return made if refines(made.type, out.type) else f"it would be {made.type}"


@rule(*[p_ for op in STRETCHING for p_ in [
    getattr(p, op.name)(*[whole(inner) if i == n else whole() for i in range(len(op.input_names))])
    for n in range(len(op.input_names)) for inner in _INNER]])  # fmt: skip
def stretched_operand(out: Node) -> Node | str:
    """x + broadcast(y) -> x + y, where x has the shape of both; so every op that works element by element

    So also first axes of size 1, that y has been given.
    """
    inputs = list(out.inputs)
    for n, i in enumerate(inputs):
        if (i.op in STRETCHES or _is_first(i)) and fills([*inputs[:n], i.inputs[0], *inputs[n + 1 :]], out):
            inputs[n] = i.inputs[0]
            made = out.op.apply(tuple(inputs), out.attrs)
            if refines(made.type, out.type):
                return made
    return "no other operand has the shape for sure"


@rule(*[p_ for op in STRETCHING for p_ in [
    getattr(p, op.name)(*[const("c") if i == n else whole() for i in range(len(op.input_names))])
    for n in range(len(op.input_names))]])  # fmt: skip
def uniform_operand(c: Node, out: Node) -> Node | str:
    """x + [c, c, ...] -> x + c, where x has the shape of both; so every op that works element by element"""
    value = c.attrs[0][1]
    if not value.array.ndim or value.uniform is None:
        return "it is a number, or its elements differ"
    # By its bits: of NaN, and of what Python has no number for.
    number = o.constant_of(value.array.reshape(-1)[0])
    if not fills([number if i is c else i for i in out.inputs], out):
        return "no other operand has the shape for sure"
    return out.op.apply(tuple([number if i is c else i for i in out.inputs]), out.attrs)


def _is_first(x: Node) -> bool:
    """Whether x is its operand with another number of first axes of size 1, which broadcasts as it does."""
    if x.op is o.expand_dims:
        return x.attrs[0][1] == 0 or _is_one(x)
    if x.op is not o.reshape or len(x.inputs) > 1 or x.ndim <= x.inputs[0].ndim:
        return False
    shape, before = x.type.shape, x.inputs[0].type.shape
    lead = len(shape) - len(before)
    return None not in shape and shape == (1,) * lead + before


_EXACT = (o.negative, o.absolute, o.sign, o.square, o.round, o.floor, o.sqrt, o.relu, o.logical_not, o.cast)
_ROUNDED = (o.exp, o.expm1, o.log, o.log1p, o.sin, o.cos, o.tanh, o.sigmoid, o.softplus)


@rule(*[getattr(p, op.name)(whole(inner)) for op in _EXACT for inner in STRETCHES])
def stretched_later(out: Node) -> Node:
    """-broadcast(x) -> broadcast(-x); so what else has one right result for each number"""
    return _later(out)


@rule(*[getattr(p, op.name)(whole(inner)) for op in _ROUNDED for inner in STRETCHES], claim="rounding")
def function_stretched_later(out: Node) -> Node:
    """exp(broadcast(x)) -> broadcast(exp(x)); so other functions"""
    return _later(out)


def _later(out: Node) -> Node:
    (inner,) = out.inputs
    return inner.op.apply((out.op.apply((inner.inputs[0],), out.attrs), *inner.inputs[1:]), inner.attrs)


#: Of powers of scalars Python's own have other roundings.
_OF_TWO = [op for op in STRETCHING if len(op.input_names) == 2 and op is not o.power and op is not o.sigmoid_crossentropy]


@rule(*[getattr(p, op.name)(*pair) for op in _OF_TWO for inner in STRETCHES
        for pair in ((whole(inner), whole()), (whole(), whole(inner)))])  # fmt: skip
def both_stretched_later(out: Node) -> Node | str:
    """broadcast(x) + y -> broadcast(x + y), where y is a number, or stretched in the same way"""
    x, y = out.inputs
    a = x.inputs[0] if x.op in STRETCHES and x.type.shape == out.type.shape else x
    b = y.inputs[0] if y.op in STRETCHES and y.type.shape == out.type.shape else y
    wide = x if a is not x else y
    if (a is not x and b is not y) and (x.op is not y.op or x.inputs[1:] != y.inputs[1:] or x.attrs != y.attrs):
        return "they are stretched to shapes that may differ"
    if (a is x and not _is_one(x)) or (b is y and not _is_one(y)):
        return "the other operand is not stretched"
    small = broadcast_shapes((a.type.shape, b.type.shape))
    if len(small) > out.ndim or small == out.type.shape:
        return "nothing would be stretched"
    return wide.op.apply((out.op(a, b), *wide.inputs[1:]), wide.attrs)


def _is_one(x: Node) -> bool:
    return all(size == 1 for size in x.type.shape)


__all__ = ["broadcasts", "shape_source", "source"]

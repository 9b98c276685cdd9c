"""The set that the rules of this folder belong to, and what they share."""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.pattern import number_of
from kgraph.ir.rewrite import Rules, refines

stabilise = Rules("stabilise")


def fitted(made: Node, out: Node) -> Node | str:
    """What a rule made, if its type says what that of the node says which it replaces."""
    return made if refines(made.type, out.type) else f"it would be {made.type} in the place of {out.type}"


def negated(x: Node) -> Node:
    """-x; of -x that is x."""
    return x.inputs[0] if x.op is o.negative else o.negative(x)


def are_opposite(x: Node, y: Node) -> bool:
    """Whether one node is the negative of the other."""
    return (x.op is o.negative and x.inputs[0] is y) or (y.op is o.negative and y.inputs[0] is x)


def seen(x: Node) -> Node:
    """x, without marks that are for gradients alone."""
    while x.op is o.stop_gradient:
        x = x.inputs[0]
    return x


def is_shifted(x: Node) -> bool:
    """Whether x has the form x - max(x): its exponential does not overflow."""
    if x.op is not o.subtract:
        return False
    top = seen(x.inputs[1])
    while top.op in (o.expand_dims, o.broadcast_like, o.broadcast_to, o.stop_gradient):
        top = top.inputs[0]
    return top.op is o.max


def unshifted(x: Node, axes: tuple[int, ...]) -> Node:
    """y of y - max(y) over axes; else x."""
    if not is_shifted(x):
        return x
    y, top = x.inputs
    return y if is_top(top, y, axes) else x


def is_top(top: Node, x: Node, axes: tuple[int, ...]) -> bool:
    """Whether a node is max(x) over axes, which it has with size 1."""
    top, added = seen(top), []
    while top.op is o.expand_dims:
        added.append(top.attr("axis"))
        top = seen(top.inputs[0])
    if top.op is not o.max or seen(top.inputs[0]) is not seen(x) or top.attr("axis") != axes:
        return False
    return not added if top.attr("keepdims") else tuple(sorted(added)) == axes


def is_complement(node: Node) -> bool:
    """Whether a node is 1 - sigmoid(x)."""
    return (
        node.op is o.subtract
        and node.inputs[1].op is o.sigmoid
        and number_of(node.inputs[0]) == 1
        and node.type is node.inputs[1].type
    )


def is_nothing(node: Node) -> bool:
    """Whether a node is 0 times what is between 0 and 1: NaN where that is, else 0."""
    return node.op is o.multiply and number_of(node.inputs[0]) == 0 and is_bounded(node.inputs[1])


def is_bounded(node: Node) -> bool:
    """Whether a node is between 0 and 1, and above 0 but for rounding."""
    return node.op is o.softmax or node.op is o.sigmoid or is_complement(node)


def product(factors: list[Node], op: Op = o.multiply) -> Node:
    """The product of nodes, or what another op makes of them, from left to right."""
    made = factors[0]
    for factor in factors[1:]:
        made = op(made, factor)
    return made

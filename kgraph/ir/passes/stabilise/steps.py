"""Loops of cotangents that divide by what the loop of values has kept, where nothing shows how a parameter was made.

It is computed again from what it was made of, so that the other rules find the exponential that the quotient goes with.
"""

from __future__ import annotations

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.passes.stabilise.rules import stabilise
from kgraph.ir.pattern import whole
from kgraph.ir.traverse import substitute, toposort

_POSITIVE = (o.exp, o.softmax, o.sigmoid)
_BETWEEN = frozenset((
    o.sum, o.add, o.subtract, o.expand_dims, o.squeeze, o.broadcast_to, o.broadcast_like, o.multiply, o.negative, o.divide,
))  # fmt: skip

#: Nodes that may be computed again for one that was kept.
MOST = 16


@stabilise.rule(whole(o.scan), claim="rounding")
def kept(out: Node) -> Node | str:
    """scan that divides by a stack of softmax(x) -> scan over a stack of x, with softmax(x) computed again in each step

    So for exp(x) and sigmoid(x). What then cancels is finite, where the quotient is not.
    """
    body: Graph = out.attr("body")
    candidates = {}
    for parameter, stack in zip(body.inputs[1 : 1 + out.attr("sequences")], out.inputs[1:], strict=False):
        if stack.op is o.item and stack.inputs[0].op is o.scan and stack.inputs[0].inputs[0] is out.inputs[0]:
            loop, number = stack.inputs[0], stack.attr("index")
            if number >= loop.attr("states") and loop.attr("body").outputs[number].op in _POSITIVE:
                candidates[parameter] = loop, loop.attr("body").outputs[number]
    if not candidates:
        return "no sequence is what another loop has made, and positive"
    if len(set(out.inputs)) < len(out.inputs):
        return "two operands are the same"
    below = _divisors(body)
    wider = _Wider(out)
    for parameter, (loop, made) in candidates.items():
        if parameter in below:
            wider.compute(parameter, loop, made)
    return wider.scan() if wider.places else "it does not divide by what is positive"


def _divisors(body: Graph) -> set[Node]:
    """What is divided by, and what that is the sum of."""
    order = toposort(body.outputs)
    found = {node.inputs[1] for node in order if node.op is o.divide}
    for node in reversed(order):
        if node in found and node.op in _BETWEEN:
            found.update(node.inputs)
    return found


class _Wider:
    """A scan with further sequences and captures, and without the sequences in whose places something is computed.

    Attributes:
      places: parameter -> what stands in its place.
    """

    def __init__(self, node: Node):
        self.node, self.body = node, node.attr("body")
        self.places: dict[Node, Node] = {}
        first = 1 + node.attr("sequences")
        last = first + node.attr("states")
        self.sequences = dict(zip(node.inputs[1:first], self.body.inputs[1:first], strict=True))
        self.captures = dict(zip(node.inputs[last:], self.body.inputs[last:], strict=True))
        self._count = len(self.body.inputs)

    def compute(self, parameter: Node, loop: Node, made: Node) -> None:
        """Note that a parameter is to be computed as another loop has made it, if that takes little."""
        kept = {x: n for n, x in enumerate(loop.attr("body").outputs) if n >= loop.attr("states") and x is not made}
        inputs = loop.attr("body").inputs
        first = 1 + loop.attr("sequences")
        last = first + loop.attr("states")
        order = toposort([made], stop=[*kept, *inputs])
        needed = [node for node in order if node in kept or node in inputs]
        if len(order) - len(needed) > MOST or any(x in inputs[first:last] and x not in kept for x in needed):
            return
        if any(node.op.bodies or node.op.effect for node in order if node not in needed):
            return
        known: dict[Node, Node] = {}
        for x in needed:
            if x is inputs[0]:
                known[x] = self.body.inputs[0]
            elif x in kept:
                known[x] = self._parameter(self.sequences, o.item(loop, index=kept[x]), x)
            elif x in inputs[1:first]:
                known[x] = self._parameter(self.sequences, loop.inputs[inputs.index(x)], x)
            else:
                known[x] = self._parameter(self.captures, loop.inputs[inputs.index(x)], x)
        self.places[parameter] = substitute([made], known)[0]

    def _parameter(self, group: dict[Node, Node], given: Node, like: Node) -> Node:
        if given not in group:
            group[given] = o.param(index=self._count, type=like.type)
            self._count += 1
        return group[given]

    def scan(self) -> Node:
        node, first = self.node, 1 + self.node.attr("sequences")
        states = node.attr("states")
        sequences = {x: p for x, p in self.sequences.items() if p not in self.places}
        old = [self.body.inputs[0], *sequences.values(), *self.body.inputs[first : first + states], *self.captures.values()]
        new = [o.param(index=n, type=p.type) for n, p in enumerate(old)]
        outputs = substitute(substitute(self.body.outputs, self.places), dict(zip(old, new, strict=True)))
        return o.scan(
            node.inputs[0], *sequences, *node.inputs[first : first + states], *self.captures, body=Graph(new, outputs),
            sequences=len(sequences), states=states, reverse=node.attr("reverse"),
        )  # fmt: skip

"""Taking away from loops what nothing reads: stacks, and states, sequences and captures that only served those.

A loop is built with all that its gradient could ask for; most of it nobody does.
"""

from __future__ import annotations

from collections.abc import Sequence

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import building
from kgraph.ir.record import Record
from kgraph.ir.traverse import rebuilt, substitute, toposort


def loops(graph: Graph, record: Record) -> Graph:
    """The graph with its loops without what nothing reads, within bodies too."""
    order = toposort(graph.roots)
    if not any(node.op.bodies for node in order):
        return graph
    alive, trimmed = _trimmed(order, graph.roots, record)

    def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node not in alive:
            return node
        if node.op is o.item and node.inputs[0] in trimmed:
            before, building.origin = building.origin, node.origins[0]
            try:
                return o.item(inputs[0], index=trimmed[node.inputs[0]].results[node.attr("index")])
            finally:
                building.origin = before
        if node not in trimmed:
            if inputs == node.inputs and not node.op.bodies:
                return node
            return rebuilt(node, inputs, lambda body: loops(body, record))
        loop = trimmed[node]
        before, building.origin = building.origin, node.origins[0]
        try:
            made = o.scan(*[inputs[i] for i in loop.operands], body=loop.body, sequences=loop.sequences, states=loop.states,
                          reverse=node.attr("reverse"))  # fmt: skip
        finally:
            building.origin = before
        if made is not node:
            record.note("loops", "unread", node, made)
        return made

    return graph.with_roots(substitute(graph.roots, {}, rebuild, every=True, steps=record.steps))


class _Loop:
    """What is left of a scan.

    Attributes:
      body: of what is left.
      results: number of each that is left -> its number now.
      operands: the numbers of those that are left; the first operand is the number of steps.
      sequences, states: how many of these are left.
    """

    def __init__(self, node: Node, read: set[int], record: Record):
        states, split = node.attr("states"), 1 + node.attr("sequences")
        body: Graph = node.attr("body")
        while True:
            kept = _needed(body, split, states, read)
            inside = loops(Graph(body.inputs, [body.outputs[i] for i in kept], built_as=body.built_as), record)
            used = set(toposort(inside.outputs))
            # What the loops within do not need any more may have been all that read a state.
            again = _needed(Graph(body.inputs, _in_places(inside.outputs, kept, body.outputs)), split, states, read)
            if again == kept:
                break
            body = Graph(body.inputs, _in_places(inside.outputs, kept, body.outputs), built_as=body.built_as)
        self.results = {number: place for place, number in enumerate(kept)}
        gone = {split + j for j in range(states) if j not in self.results}
        sequences = body.inputs[1:split]
        if kept[-1] >= states and used.isdisjoint(sequences):
            # The types of stacks have the number of steps from the sequences.
            used.update([p for p, x in zip(sequences, node.inputs[1:], strict=False) if x.type.shape[0] is not None][:1])
        self.operands = [0]
        for i, parameter in enumerate(body.inputs[1:], 1):
            is_state = split <= i < split + states
            if i not in gone and (is_state or parameter in used):
                self.operands.append(i)
        self.sequences = sum(i < split for i in self.operands) - 1
        self.states = states - len(gone)
        parameters = [o.param(index=n, type=body.inputs[i].type) for n, i in enumerate(self.operands)]
        places = {body.inputs[i]: parameters[n] for n, i in enumerate(self.operands)}
        self.body = Graph(parameters, substitute(inside.outputs, places), built_as=part_of(body, self.operands))


def part_of(body: Graph, inputs: Sequence[int]) -> list[Node]:
    """``built_as`` of a body with some of its inputs."""
    built = body.built_as
    return [*[built[i] for i in inputs], *built[len(body.inputs) :]] if built else []


def _in_places(outputs: Sequence[Node], kept: Sequence[int], all_outputs: Sequence[Node]) -> list[Node]:
    found = list(all_outputs)
    for number, node in zip(kept, outputs, strict=True):
        found[number] = node
    return found


def _needed(body: Graph, split: int, states: int, read: set[int]) -> list[int]:
    """The results of a body that are needed: those read, and the states that they are made of, which depend on others."""
    needed: set[int] = set()
    waiting = sorted(read)
    while waiting:
        needed.update(waiting)
        order = set(toposort([body.outputs[i] for i in sorted(needed)]))
        waiting = [j for j in range(states) if j not in needed and body.inputs[split + j] in order]
    return sorted(needed)


def _trimmed(order: Sequence[Node], roots: Sequence[Node], record: Record) -> tuple[set[Node], dict[Node, _Loop]]:
    """The nodes that are needed, and what is left of the scans among them."""
    alive = set(roots)
    read: dict[Node, set[int]] = {}
    found: dict[Node, _Loop] = {}
    for node in reversed(order):  # users first: a loop may be all that reads a result of another
        if node not in alive:
            continue
        if node.op is o.item and node.inputs[0].op is o.scan:
            read.setdefault(node.inputs[0], set()).add(node.attr("index"))
        if node.op is o.scan:
            loop = found[node] = _Loop(node, read[node], record)
            alive.update(node.inputs[i] for i in loop.operands)
        else:
            alive.update(node.inputs)
    return alive, found

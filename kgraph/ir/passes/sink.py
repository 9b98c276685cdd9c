"""Filling branches: what only one side of a ``switch`` needs moves into the body of a ``cond``, and runs only when it is taken.

Switches of one condition that do not wait for one another share a cond. One that waits for the result of another (a gradient
for its forward value, say) gets a later cond; what both need of one side is computed in the first and handed on as an extra
result, which the other side leaves absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import kgraph.ir.ops as o
from kgraph.ir.body import close
from kgraph.ir.guards import Guard, guards, taken
from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import building
from kgraph.ir.record import Record
from kgraph.ir.traverse import rebuilt, substitute, toposort


def sink(graph: Graph, record: Record) -> Graph:
    """The graph with its branches filled, within bodies too."""
    order = toposort(graph.roots)
    sides = guards(order, graph.roots)
    known = {node: side for node, guard in sides.items() if (side := taken(node, guard)) is not None}
    if known:
        return sink(_without(graph, known, record), record)
    if not sides:
        if not any(node.op.bodies for node in order):
            return graph
        inside = substitute(
            graph.roots, {}, lambda n, inputs: rebuilt(n, inputs, lambda body: sink(body, record)), True, record.steps
        )
        return graph.with_roots(inside)
    return _Sinking(order, sides, record).run(graph)


def _without(graph: Graph, known: Mapping[Node, Node], record: Record) -> Graph:
    """The graph with the known side in the place of each switch."""

    def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
        side = known.get(node)
        if side is None:
            return node if inputs == node.inputs else rebuilt(node, inputs)
        made = inputs[node.inputs.index(side)]
        record.note("sink", "known", node, made)
        return made

    return graph.with_roots(substitute(graph.roots, {}, rebuild, every=True, steps=record.steps))


class _Sinking:
    """One level of branches: the bodies that it makes are sunk in their turn."""

    def __init__(self, order: Sequence[Node], sides: dict[Node, Guard | None], record: Record):
        self.order, self.record, self.sides = order, record, sides
        # The outermost branch that each node belongs to; branches within that are the business of its body.
        # Sources belong to no side: a body is given them (a constant it has itself).
        self.within: dict[Node, Guard] = {node: guard.first for node, guard in sides.items() if guard and not node.op.source}
        self.made: dict[Node, Node] = {}

    def run(self, graph: Graph) -> Graph:
        stages, groups = self._schedule()
        for stage in range(max(stages, default=0) + 1):
            for node in stages.get(stage, ()):
                if node not in self.made:
                    inputs = tuple([self.made[i] for i in node.inputs])
                    self.made[node] = rebuilt(node, inputs, lambda body: sink(body, self.record))
            for members, wanted in groups.get(stage, {}).values():
                self._build_cond(members, wanted)
        if self.record.steps is not None:
            for node, made in self.made.items():
                if made is not node:
                    self.record.steps.setdefault(node, made)
        return graph.with_roots([self.made[root] for root in graph.roots])

    def _schedule(self) -> tuple[dict[int, list[Node]], dict[int, dict[Node, tuple[list[Node], list[Node]]]]]:
        """What is computed when. Stage n holds the plain nodes that wait for n conds in a row, then the conds over these.

        Returns: stage -> plain nodes; stage -> condition -> (nodes inside, results wanted: switches, and nodes inside that
        later stages use).
        """
        stage: dict[Node, int] = {}
        plain: dict[int, list[Node]] = {}
        groups: dict[int, dict[Node, tuple[list[Node], list[Node]]]] = {}
        handed_on: set[Node] = set()

        def hand_on(node: Node) -> None:
            if node not in handed_on:
                handed_on.add(node)
                groups[stage[node]][self.within[node].condition][1].append(node)
                for step in self._inner_steps(node):  # what it is wrapped in
                    if step.condition in self.within and stage[step.condition] < stage[node]:
                        hand_on(step.condition)

        for node in self.order:
            own = self.within.get(node)
            inner = self._inner_steps(node) if own else []
            # The result of a cond: everything that it is made of is there a stage before.
            ends_side = own is None and node.op is o.switch and any(i in self.within for i in node.inputs[1:])
            level = 0
            for i in (*node.inputs, *([own.condition] if own else []), *[step.condition for step in inner]):
                elsewhere = own is not None and i in self.within and self.within[i].condition is not own.condition
                level = max(level, stage[i] + (ends_side or elsewhere))
            stage[node] = level
            if own is not None:
                condition = own.condition
                groups.setdefault(level, {}).setdefault(condition, ([], []))[0].append(node)
                for i in node.inputs:
                    if i in self.within and stage[i] < level:
                        hand_on(i)
                continue
            plain.setdefault(level, []).append(node)
            if ends_side:
                condition = node.inputs[0]
                groups.setdefault(level - 1, {}).setdefault(condition, ([], []))[1].append(node)
                for i in node.inputs[1:]:
                    # A side that was ready earlier is handed on to the cond that this switch belongs to.
                    if i in self.within and stage[i] < level - 1:
                        hand_on(i)
        return plain, groups

    def _inner_steps(self, node: Node) -> list[Guard]:
        """The branches within the outermost one that a node belongs to, innermost first."""
        found = []
        step = self.sides[node]
        while step is not None and step.outer is not None:
            found.append(step)
            step = step.outer
        return found

    def _build_cond(self, members: Sequence[Node], wanted: Sequence[Node]) -> None:
        """One cond: its bodies of the members of each side, its results the switches and what is handed on."""
        first = wanted[0]
        condition = self.within[first].condition if first in self.within else first.inputs[0]
        inner: dict[bool, list[Node]] = {side: [n for n in members if self.within[n].side is side] for side in (True, False)}
        results: dict[bool, list[Node]] = {True: [], False: []}
        for node in wanted:
            own = self.within.get(node)
            if own is None:
                results[True].append(node.inputs[1])
                results[False].append(node.inputs[2])
                continue
            nothing, value = o.absent(type=node.type), node
            for step in self._inner_steps(node):  # handed on only where it is needed
                value = o.switch(step.condition, *((value, nothing) if step.side else (nothing, value)))
                inner[own.side].append(value)
            results[own.side].append(value)
            results[not own.side].append(nothing)
        inside = {*inner[True], *inner[False]}
        used = [i for node in (*inner[True], *inner[False]) for i in node.inputs] + results[True] + results[False]
        captures = list(dict.fromkeys(i for i in used if i not in inside and i.op is not o.constant and i.op is not o.absent))
        before, building.origin = building.origin, first.origins[0]
        try:
            bodies = []
            for side in (True, False):
                body, _ = close(results[side], inner[side], captures)
                bodies.append(sink(body, self.record))
            made = o.cond(self.made[condition], *[self.made[i] for i in captures], then=bodies[0], orelse=bodies[1])
            for position, node in enumerate(wanted):
                self.made[node] = o.item(made, index=position)
                if node not in self.within:
                    self.record.note("sink", "switch", node, self.made[node])
        finally:
            building.origin = before

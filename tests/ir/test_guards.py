"""Lazy branches: which nodes belong to a side, and that sinking moves them there, all of them and nothing else.

What ran is seen by prints, which a pass may move and never copy: each has an identity of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.ir.grad import gradients
from kgraph.ir.guards import DEEPEST, Guard, enter, guards, meet, taken
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.passes import Record, fold, sink
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from kgraph.ir.verify import verify
from tests.ir.steps import looped
from tests.ir.strategies import Sample, graphs, quick

FLAG = TensorType("bool", ())
SCALAR = TensorType("float64", ())


def flag(name: str) -> Node:
    return o.placeholder(type=FLAG, uid=Identity(name))


def probe(x: Node, name: str = "") -> Node:
    """x, and a print that shows whether it is computed."""
    return o.print_(x, uid=Identity(name), message="")


# ---------------------------------------------------------------------------------------------------- what a graph runs


class Lazy:
    """A graph computed by demand, which is what branches mean. There are no bodies in it.

    Attributes:
      made: node -> value, of what was needed.
    """

    def __init__(self, sample: Sample, roots: Sequence[Node]):
        self.made: dict[Node, Any] = {node: value for node, value in sample.feeds.items()}
        self.roots = roots
        for root in roots:
            self._force(root)

    def _force(self, root: Node) -> None:
        waiting = [root]
        while waiting:
            node = waiting[-1]
            needed = [i for i in self._needed(node) if i not in self.made]
            if node in self.made or not needed:
                if node not in self.made:
                    self.made[node] = self._value(node)
                waiting.pop()
            waiting += [i for i in needed if node not in self.made][:1]

    def _needed(self, node: Node) -> Sequence[Node]:
        if node.op is o.switch and node.inputs[0] in self.made:
            return [node.inputs[1 if self.made[node.inputs[0]] else 2]]
        return node.inputs[:1] if node.op is o.switch else node.inputs

    def _value(self, node: Node) -> Any:
        if node.op is o.constant:
            return node.attr("value").array
        if node.op is o.switch or node.op is o.print_:
            return self.made[self._needed(node)[0]]
        with np.errstate(all="ignore"):
            return np.asarray(node.op.numpy(*[self.made[i] for i in node.inputs], **dict(node.attrs)))

    def never(self) -> set[Node]:
        """The prints that are needed only where some condition takes the side that it did not take."""
        nodes = toposort(self.roots)
        prints = {node for node in nodes if node.op is o.print_}
        asked = {node.inputs[0] for node in nodes if node.op is o.switch and node.inputs[0] in self.made}
        return {p for condition in asked for p in prints - self._reached(condition)}

    def _reached(self, condition: Node) -> set[Node]:
        """What the roots need, knowing of one condition which side it takes."""
        found: set[Node] = set()
        stack = list(self.roots)
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                known = node.op is o.switch and node.inputs[0] is condition
                stack += [condition, node.inputs[1 if self.made[condition] else 2]] if known else node.inputs
        return found


def run(graph: Graph, given: Mapping[Node, Any], log: list[Any]) -> list[Any]:
    """The values of a graph whose branches are filled, as a program computes them; log takes what ran."""
    found = dict(given)
    with np.errstate(all="ignore"):
        for node in toposort(graph.roots, stop=given):
            if node in found:
                continue
            values = [found[i] for i in node.inputs]
            if node.op is o.constant:
                found[node] = node.attr("value").array
            elif node.op is o.absent:
                found[node] = None
            elif node.op is o.cond:
                body = node.attr("then" if values[0] else "orelse")
                found[node] = run(body, dict(zip(body.inputs, values[1:], strict=True)), log)
            elif node.op is o.scan:
                found[node] = looped(node, values)
            elif node.op is o.print_:
                log.append(node.attr("uid"))
                found[node] = values[0]
            else:
                log.append(node.op)
                found[node] = node.op.numpy(*values, **dict(node.attrs))
                if node.op is not o.item:
                    found[node] = np.asarray(found[node])
    return [found[root] for root in graph.roots]


def assert_runs(sample: Sample, graph: Graph, forward: Sequence[Node]) -> None:
    """Asserts what sinking promises, of a graph over the sources of a sample.

    Args:
      forward: the roots without gradients: what they never need, these never need either.
    """
    lazy = Lazy(sample, graph.roots)
    log: list[Any] = []
    found = sink(graph, Record())
    verify(found)
    for value, root in zip(run(found, sample.feeds, log), graph.roots, strict=True):
        np.testing.assert_array_equal(value, lazy.made[root])
    ran = Counter(log)
    prints = [node for node in toposort(graph.roots) if node.op is o.print_]
    never = lazy.never() | Lazy(sample, forward).never()
    for node in prints:
        times = ran.pop(node.attr("uid"), 0)
        assert times <= 1
        assert times or node not in lazy.made
        assert not times or node not in never
    # Nothing is computed twice, neither in this run nor in one that takes other sides.
    assert static(found) <= static(graph)


def static(graph: Graph) -> Counter[Any]:
    """How many nodes of each op there are, bodies included; what branches are made of aside."""
    nodes = toposort(graph.roots)
    count = Counter(node.op for node in nodes if node.op not in (o.switch, o.cond, o.item, o.absent, o.param, o.constant))
    for node in nodes:
        for name in node.op.bodies:
            count += static(node.attr(name))
    return count


def branchy(seed: int, steps: int = 40) -> Sample:
    """A graph of scalars that is mostly branches, of few conditions: in one another, behind one another, for one another."""
    random = Random(seed)
    conditions = [flag(f"c{i}") for i in range(3)]
    values = [o.placeholder(type=SCALAR, uid=Identity(f"x{i}")) for i in range(2)]
    feeds = {node: np.array(random.random() < 0.5) for node in conditions}
    feeds |= {node: np.array(random.uniform(-2, 2)) for node in values}
    inputs = list(feeds)
    for _ in range(random.randint(5, steps)):
        x, y, c = random.choice(values[-8:]), random.choice(values[-8:]), random.choice(conditions[-4:])
        kind = random.random()
        if kind < 0.45:
            values.append(o.switch(c, x, y))
        elif kind < 0.7:
            values.append(probe(x))
        elif kind < 0.85:
            values.append(random.choice([o.add, o.multiply])(x, y))
        elif kind < 0.95:
            values.append(random.choice([o.tanh, o.sin])(x))
        else:
            least = o.greater(x, o.scalar(0.1, "float64"))
            other = o.switch(c, least, random.choice(conditions))
            conditions.append(random.choice([least, probe(least), other, o.logical_not(c)]))
    return Sample(Graph(inputs, [values[-1], *[random.choice(values) for _ in range(random.randint(0, 2))]]), feeds)


SEEDS = st.integers(0, 2**32 - 1)


@settings(quick, max_examples=300)
@given(seed=SEEDS)
def test_a_side_that_is_not_taken_does_not_run_and_all_else_runs_once(seed: int) -> None:
    sample = branchy(seed)
    assert_runs(sample, sample.graph, sample.graph.roots)


@settings(quick, max_examples=200)
@given(seed=SEEDS, order=st.sampled_from([1, 1, 2]))
def test_nor_does_it_in_a_gradient_or_in_the_gradient_of_that(seed: int, order: int) -> None:
    sample = branchy(seed, steps=25)
    wrt = [node for node in sample.feeds if node.dtype == "float64"]
    made = [sample.graph.outputs]
    for _ in range(order):
        made.append([g for x in made[-1] for g in gradients(x, wrt, "none") if g is not None])
    roots = dict.fromkeys(node for nodes in made for node in nodes)
    assert_runs(sample, Graph(sample.graph.inputs, roots), sample.graph.roots)


@settings(quick, max_examples=150)
@given(sample=graphs(steps=30))
def test_sinking_copies_no_draw_and_no_other_node_of_any_graph(sample: Sample) -> None:
    found = sink(sample.graph, Record())
    assert static(found) <= static(sample.graph)
    log: list[Any] = []
    for value, wanted in zip(run(found, sample.feeds, log), sample.expected(), strict=True):
        np.testing.assert_array_equal(value, wanted)
    whole: list[Any] = []
    run(sample.graph, sample.feeds, whole)
    moved = Counter(log) - Counter(whole)
    assert not any(op is not o.item for op in moved)


@settings(quick, max_examples=100)
@given(seed=SEEDS)
def test_what_is_always_needed_stays_outside_of_all_branches(seed: int) -> None:
    graph = branchy(seed).graph
    sides = guards(toposort(graph.roots), graph.roots)
    always = [node for node in toposort(graph.roots) if sides.get(node) is None and (not sides or node in sides)]
    found = {node.attr("uid") for node in toposort(sink(graph, Record()).roots) if node.op is o.print_}
    assert {node.attr("uid") for node in always if node.op is o.print_} <= found


@settings(quick, max_examples=100)
@given(seed=SEEDS)
def test_a_guard_holds_wherever_its_node_is_needed(seed: int) -> None:
    sample = branchy(seed)
    order = toposort(sample.graph.roots)
    sides = guards(order, sample.graph.roots)
    made = Lazy(sample, sample.graph.roots).made
    for node in order:
        if node in made and sides and not node.op.source:
            assert node in sides
            for condition, side in path(sides[node]):
                assert bool(made[condition]) is side


# ---------------------------------------------------------------------------------------------------- guards


def path(guard: Guard | None) -> list[tuple[Node, bool]]:
    """The steps of a guard, from the outermost on."""
    steps = []
    while guard is not None:
        steps.append((guard.condition, guard.side))
        guard = guard.outer
    return steps[::-1]


CONDITIONS = [flag(f"condition {i}") for i in range(5)]
STEPS = st.lists(st.tuples(st.sampled_from(CONDITIONS), st.booleans()), max_size=7)


def along(steps: Sequence[tuple[Node, bool]]) -> Guard | None:
    guard = None
    for condition, side in steps:
        guard = enter(guard, condition, side)
    return guard


@settings(quick, max_examples=200)
@given(steps=STEPS)
def test_a_path_keeps_the_first_word_about_each_condition(steps: list[tuple[Node, bool]]) -> None:
    guard = along(steps)
    first: dict[Node, bool] = {}
    for condition, side in steps:
        first.setdefault(condition, side)
    assert path(guard) == list(first.items())
    assert along(steps) is guard
    if guard is not None:
        assert (guard.depth, guard.first.condition, guard.first.outer) == (len(first), steps[0][0], None)
        assert [guard.holds(condition) for condition in CONDITIONS] == [first.get(condition) for condition in CONDITIONS]


@settings(quick, max_examples=200)
@given(one=STEPS, other=STEPS)
def test_two_paths_meet_in_the_steps_that_both_have(one: Any, other: Any) -> None:
    x, y = along(one), along(other)
    assert path(meet(x, y)) == [step for step in path(x) if step in path(y)]
    assert set(path(meet(y, x))) == set(path(meet(x, y)))
    assert meet(x, x) is x and meet(x, None) is None and meet(None, x) is None
    assert meet(x, meet(x, y)) is meet(x, y)


def test_a_path_is_no_deeper_than_the_deepest() -> None:
    conditions = [flag(f"{i}") for i in range(DEEPEST + 3)]
    guard = along([(c, True) for c in conditions])
    assert path(guard) == [(c, True) for c in conditions[:DEEPEST]]


def test_a_switch_within_a_side_of_its_own_condition_takes_that_side() -> None:
    c, x, y = flag("c"), o.placeholder(type=SCALAR, uid=Identity("x")), o.placeholder(type=SCALAR, uid=Identity("y"))
    inner = o.switch(c, x, y)
    for side in (True, False):
        assert taken(inner, along([(c, side)])) is (x if side else y)
    assert taken(inner, None) is None
    assert taken(inner, along([(flag("d"), True)])) is None
    assert taken(x, along([(c, True)])) is None
    outer = o.switch(c, o.sin(inner), o.cos(inner))
    record = Record()
    found = sink(Graph([c, x, y], [outer]), record)
    assert [r.rule for r in record].count("known") == 0  # both sides need the inner one, which is then always needed
    alone = sink(Graph([c, x, y], [o.switch(c, o.sin(inner), y)]), record)
    assert [r.rule for r in record].count("known") == 1
    assert static(found)[o.sin] == static(alone)[o.sin] == 1


def test_each_node_has_the_sides_that_all_of_its_users_share() -> None:
    a, b, c = flag("a"), flag("b"), flag("c")
    x = o.placeholder(type=SCALAR, uid=Identity("x"))
    once, twice, apart, both = probe(x), probe(x), probe(x), probe(x)
    first = o.switch(a, o.switch(c, o.sin(once) + twice + apart, both), both)
    second = o.switch(b, o.switch(c, o.cos(twice), apart), x)
    sides = guards(toposort([first, second]), [first, second])
    assert path(sides[once]) == [(a, True), (c, True)]
    assert path(sides[twice]) == [(c, True)]  # on the way of either switch
    assert sides[apart] is None  # for one c holds, for the other it does not
    assert path(sides[both]) == []
    assert path(sides[first.inputs[1]]) == [(a, True)]
    assert [sides[node] for node in (first, second, a, b, c, x)] == [None] * 6
    assert guards(toposort([once]), [once]) == {}


@pytest.mark.parametrize("values", [(i, j, k) for i in (True, False) for j in (True, False) for k in (True, False)])
def test_what_two_branches_need_in_a_side_of_one_condition_runs_where_that_side_is_taken(values: Any) -> None:
    a, b, c = conditions = [flag("a"), flag("b"), flag("c")]
    x = o.placeholder(type=SCALAR, uid=Identity("x"))
    shared = probe(o.exp(x))
    y = o.switch(a, o.switch(c, o.sin(shared), x), x) + o.switch(b, o.switch(c, o.cos(shared), x), x)
    feeds = {**{node: np.array(v) for node, v in zip(conditions, values, strict=True)}, x: np.array(0.5)}
    sample = Sample(Graph(list(feeds), [y, *[g for g in gradients(y, [x]) if g is not None]]), feeds)
    assert_runs(sample, sample.graph, [y])


def test_conditions_are_computed_before_what_waits_for_them_and_once() -> None:
    c, x = flag("c"), o.placeholder(type=SCALAR, uid=Identity("x"))
    asked = probe(o.greater(x, o.scalar(0.0, "float64")))
    inner = o.switch(asked, o.sin(x), o.cos(x))
    roots = [o.switch(c, inner, x), o.switch(asked, o.tanh(x), x)]
    for taken_ in (True, False):
        log: list[Any] = []
        feeds = {c: np.array(taken_), x: np.array(-1.0)}
        found = run(sink(Graph([c, x], roots), Record()), feeds, log)
        assert found == [np.cos(-1.0) if taken_ else -1.0, -1.0]
        assert Counter(log)[asked.attr("uid")] == 1
        assert Counter(log)[o.cos] == taken_


def test_a_branch_whose_sides_are_given_has_bodies_with_nothing_in_them() -> None:
    c, x, y = flag("c"), o.placeholder(type=SCALAR, uid=Identity("x")), o.placeholder(type=SCALAR, uid=Identity("y"))
    graph = Graph([c, x, y], [o.switch(c, x, y), o.switch(c, y, o.scalar(1.0, "float64"))])
    found = sink(graph, Record())
    verify(found)
    assert sum(static(found).values()) == sum(static(graph).values()) == 3
    assert run(found, {c: np.array(False), x: np.array(2.0), y: np.array(3.0)}, []) == [3.0, 1.0]
    assert run(found, {c: np.array(True), x: np.array(2.0), y: np.array(3.0)}, []) == [2.0, 3.0]


def test_a_known_condition_leaves_nothing_of_the_other_side() -> None:
    x = o.placeholder(type=SCALAR, uid=Identity("x"))
    graph = Graph([x], [o.switch(o.scalar(False, "bool"), probe(x), o.cos(x))])
    assert sink(fold(graph, Record()), Record()).outputs == (o.cos(x),)


def test_a_long_row_and_a_deep_nest_are_sunk_in_linear_size() -> None:
    def size(kind: str, count: int) -> int:
        x = o.placeholder(type=SCALAR, uid=Identity("x"))
        y = x
        for i in range(count):
            c = flag(f"c{i}")
            y = o.switch(c, o.sin(y), y) if kind == "row" else o.switch(c, o.sin(y), o.cos(x))
        found = sink(Graph([], [y]), Record())
        return sum(static(found).values())

    for kind in ("row", "nest"):
        small, large = size(kind, 20), size(kind, 40)
        assert large <= 2.1 * small

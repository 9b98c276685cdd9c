"""Differences of graphs: what went, came and stayed, by structure."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from hypothesis import given

import kgraph
from kgraph import backend as K
from kgraph.diff import Diff
from kgraph.ir.node import Graph
from kgraph.ir.text import numbered
from tests.ir.strategies import Sample, graphs, quick, twins


def check(before: Graph, after: Graph) -> Diff:
    """The difference, looked at: every node is in one part, pairs do the same, unchanged pairs are made of pairs."""
    diff = Diff(before, after)
    assert sorted(map(id, [*diff.went, *[x for x, _ in diff.stayed]])) == sorted(map(id, numbered(before)[0]))
    assert sorted(map(id, [*diff.came, *[y for _, y in diff.stayed]])) == sorted(map(id, numbered(after)[0]))
    partner = dict(diff.stayed)
    changed = {x for x, _ in diff.changed}
    for x, y in diff.stayed:
        assert x.op is y.op
        if x not in changed:
            assert x.type is y.type
            if x not in before.inputs and y not in after.inputs:
                assert [partner.get(i, i) for i in x.inputs] == list(y.inputs)
    assert sum(each.mark == "+" and each.row.node is not None and each.row.depth == 0 for each in diff.rows()) == len(diff.came)
    assert sum(each.mark == "-" and each.row.node is not None and each.row.depth == 0 for each in diff.rows()) == len(diff.went)
    return diff


@quick
@given(graphs())
def test_a_graph_is_as_it_is(sample: Sample) -> None:
    diff = check(sample.graph, sample.graph)
    assert not diff
    assert (diff.went, diff.came, diff.changed) == ([], [], [])
    assert {each.mark for each in diff.rows()} == {" "}


@quick
@given(graphs())
def test_before_and_after_the_passes(sample: Sample) -> None:
    check(sample.graph, kgraph.optimize(sample.graph, training=False))


@quick
@given(twins())
def test_two_of_one_structure_differ_in_nothing(pair: tuple[Sample, Sample]) -> None:
    diff = check(pair[0].graph, pair[1].graph)
    assert (diff.went, diff.came) == ([], [])


def program(scale: float = 2.0, more: bool = False) -> Any:
    x, w = K.placeholder((None, 4), name="x"), K.variable(np.ones((4, 3)), name="w")
    h = K.exp(K.dot(x, w) * scale)
    return K.sum(K.tanh(h) if more else h)


def test_one_op_that_came_changes_its_user_and_nothing_else() -> None:
    diff = check(*[K.function([], []).graph.__class__([], [y.node]) for y in (program(), program(more=True))])
    assert [node.op.name for node in diff.came] == ["tanh"]
    assert diff.went == []
    assert [(x.op.name, y.op.name) for x, y in diff.changed] == [("sum", "sum")]


def test_what_comes_from_the_same_line_belongs_together() -> None:
    x, y = K.placeholder((2, 4), name="x"), K.placeholder((2, 4), name="y")
    noisy = K.in_train_phase(x * y, x)
    doubled = noisy * 2.0
    after = kgraph.optimize(doubled, ["fold"], training=False)
    diff = check(Graph([x.node, y.node], [doubled.node]), after)
    assert diff.changed == [(doubled.node, after.outputs[0])]


def test_another_constant_is_a_change_of_what_reads_it() -> None:
    diff = check(Graph([], [program().node]), Graph([], [program(3.0).node]))
    assert (diff.went, diff.came) == ([], [])
    assert [y.op.name for _, y in diff.changed] == ["multiply"]
    (row,) = [each for each in diff.rows() if each.mark == "~"]
    assert row.was.startswith("multiply(") and row.was.endswith("2.)")


def test_the_text_of_what_a_pass_did() -> None:
    x = K.placeholder((2, 4), name="x")
    y = K.exp(K.in_train_phase(K.square(x), x) + 1.0)
    text = kgraph.to_text(y, ["fold"], training=False, diff=True)
    lines = [" ".join(re.sub(r"  \S+\.py:\d+.*", "", line).split()) for line in text.splitlines()]
    assert lines == [
        "4 went, 0 came, 3 stayed (1 with other operands, type or bodies)",
        "%0 float32[2, 4] placeholder 'x'",
        "- %1' uint8[] learning_phase()",
        "- %2' bool[] not_equal(%1', 0)",
        "- %3' float32[2, 4] square(%0)",
        "- %4' float32[2, 4] switch(%2', %3', %0)",
        "~ %1 float32[2, 4] add(%0, 1.) was add(%4', 1.)",
        "%2 float32[2, 4] exp(%1)",
        "return %2",
    ]
    assert kgraph.to_text(y, diff=y).splitlines()[0] == "0 went, 0 came, 7 stayed"


def test_within_bodies() -> None:
    x = K.placeholder((5, 3), name="x")
    one, other = [K.foldl(lambda total, row, f=f: total + f(row), x) for f in (K.exp, K.tanh)]
    diff = check(Graph([x.node], [one.node]), Graph([x.node], [other.node]))
    assert (diff.went, diff.came) == ([], [])
    assert "scan" in [y.op.name for _, y in diff.changed]
    inside = [(each.mark, each.row.node.op.name) for each in diff.rows() if each.row.depth and each.row.node is not None]
    assert ("-", "exp") in inside and ("+", "tanh") in inside and ("~", "add") in inside


def test_updates() -> None:
    w, v = K.variable(1.0, name="w"), K.variable(2.0, name="v")
    f, g = [K.function([], [], updates) for updates in ([(w, w * 2)], [(w, w * 2), (v, v * 2)])]
    diff = check(f.graph, g.graph)
    assert diff
    marks = [(each.mark, each.row.label) for each in diff.rows() if each.row.label == "update"]
    assert marks == [(" ", "update"), ("+", "update")]
    assert set(diff.as_data()) == {"stayed", "went", "came", "changed"}
    assert [row["call"] for row in diff.as_data()["came"]] == ["variable 'v'", "multiply(%2, 2.)"]


def test_a_hundred_thousand_nodes() -> None:
    x = y = K.placeholder((4,), name="x")
    for _ in range(100_000):
        y = K.tanh(y)
    z = K.tanh(K.exp(x))
    for _ in range(99_999):
        z = K.tanh(z)
    diff = Diff(Graph([x.node], [y.node]), Graph([x.node], [z.node]))
    assert [node.op.name for node in diff.came] == ["exp"]
    assert (len(diff.went), len(diff.stayed)) == (0, 100_001)

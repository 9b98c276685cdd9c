"""Runs of equal structure: each run that is found is one, and those that a user would see are found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from kgraph import backend as K
from kgraph.arguments import as_graph
from kgraph.ir.node import Graph, Node
from kgraph.ir.repeats import Run, folded
from kgraph.ir.text import is_inline, numbered
from tests.ir.strategies import Sample, graphs, quick


def check(graph: Graph) -> list[Node | Run]:
    """The parts of a graph, each run looked at: every stretch does the same, its operands equal steps apart."""
    nodes, _ = numbered(graph)
    number = {node: i for i, node in enumerate(nodes)}
    given_ = set(graph.inputs)
    parts = folded(nodes, given_)

    def walk(some: list[Node | Run], at: int) -> int:
        for part in some:
            if not isinstance(part, Run):
                assert part is nodes[at]
                at += 1
                continue
            assert part.first == at
            assert part.count >= 2
            assert walk(part.parts, at) == at + part.size
            for place in range(at, at + part.size):
                stretches = [nodes[place + i * part.size] for i in range(part.count)]
                first, second = stretches[:2]
                for i, node in enumerate(stretches):
                    assert (node.op, node.type, len(node.inputs)) == (first.op, first.type, len(first.inputs))
                    for a, b, x in zip(first.inputs, second.inputs, node.inputs, strict=True):
                        if first in given_:
                            continue
                        assert is_inline(a) == is_inline(x)
                        if is_inline(a):
                            va, vb, vx = (c.attr("value").array for c in (a, b, x))
                            assert np.array_equal(vx, va + i * (vb - va) if va.size == 1 and va.dtype.kind in "iu" else va, equal_nan=va.dtype.kind == "f")
                        else:
                            assert number[x] == number[a] + i * (number[b] - number[a])
            at += part.size * part.count
        return at

    assert walk(parts, 0) == len(nodes)
    return parts


def runs(parts: list[Node | Run]) -> Iterator[tuple[int, int]]:
    """Of each run, and of those in it: how many stretches, of how many nodes."""
    for part in parts:
        if isinstance(part, Run):
            yield part.count, part.size
            yield from runs(part.parts)


@quick
@given(graphs())
def test_what_is_a_run_is_equal_structure(sample: Sample) -> None:
    check(sample.graph)


def test_an_unrolled_loop_with_the_steps_that_it_reads() -> None:
    x, u = K.placeholder((None, 20, 4)), K.variable(np.eye(4))
    state = K.zeros((4,))
    for step in range(20):
        state = K.tanh(K.dot(state + x[:, step], u))
    found = list(runs(check(as_graph(state))))
    assert (sum(count * size for count, size in found), found[-1]) >= (4 * 18, (18, 4))


def layers(count: int) -> tuple[Any, list[Any], Any]:
    x = K.placeholder((None, 8))
    weights = [K.variable(np.eye(8)) for _ in range(count)]
    h = x
    for w in weights:
        h = K.relu(K.dot(h, w) + K.variable(np.zeros(8))) + h
    return x, weights, h


def test_layers_with_weights_of_their_own_begin_where_the_fewest_values_go_on() -> None:
    _, _, h = layers(12)
    parts = check(as_graph(h))
    assert list(runs(parts)) == [(12, 6)]
    (run,) = [part for part in parts if isinstance(part, Run)]
    assert [node.op.name for node in run.parts if isinstance(node, Node)] == ["variable", "matmul", "variable", "add", "relu", "add"]


def test_the_way_back_through_layers_repeats_too() -> None:
    x, weights, h = layers(12)
    graph = as_graph(K.gradients(K.sum(h), [x, *weights]))
    covered = sum(count * size for count, size in runs(check(graph)))
    assert covered > 0.8 * len(graph)


def test_runs_within_runs() -> None:
    x = K.placeholder((4,))
    for _ in range(9):
        for _ in range(8):
            x = K.tanh(x)
        x = K.exp(x) * 2 + x
    found = list(runs(check(as_graph(x))))
    assert (8, 1) in found
    assert max(count for count, _ in found) in (8, 9)
    assert sum(isinstance(part, Run) for part in check(as_graph(x))) <= 2


def test_one_that_is_different_is_seen() -> None:
    x = K.placeholder((4,))
    for step in range(40):
        x = K.sin(x) if step == 17 else K.tanh(x)
    parts = check(as_graph(x))
    assert [(p.count, p.size) if isinstance(p, Run) else p.op.name for p in parts] == ["placeholder", (17, 1), "sin", (22, 1)]


def test_other_constants_types_and_attrs_are_no_repeats() -> None:
    x = K.placeholder((4,))
    y = x
    for step in range(20):
        y = y * (1.0 + step**2)
    assert list(runs(check(as_graph(y)))) == []


@pytest.mark.parametrize("count", [100_000])
def test_a_hundred_thousand_steps(count: int) -> None:
    x = K.placeholder((4,))
    for _ in range(count):
        x = K.tanh(x)
    parts = folded(numbered(as_graph(x))[0])
    assert [(p.count, p.size) for p in parts if isinstance(p, Run)] == [(count, 1)]

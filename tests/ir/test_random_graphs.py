"""The random graphs of the other tests: what they are made of, and that a graph means the same whichever way it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import IndexOutOfRange
from kgraph.function import Function
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import OPS
from kgraph.ir.passes import every_rule
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES
from tests.ir.steps import STEPS
from tests.ir.strategies import Sample, built, graphs, quick


def nodes_of(graph: Graph) -> Iterator[Node]:
    """Every node, those in bodies included."""
    for node in toposort(graph.roots):
        yield node
        for _, value in node.attrs:
            if isinstance(value, Graph):
                yield from nodes_of(value)


def test_every_op_is_in_some_graph() -> None:
    random = Random(0)
    samples = [built([random.getrandbits(32) for _ in range(20)], tuple(STEPS)) for _ in range(400)]
    nodes = {node for sample in samples for node in nodes_of(sample.graph)}
    assert {op.name for op in OPS.values()} - {node.op.name for node in nodes} == {"absent"}  # passes make these
    assert any(None in node.type.shape for node in nodes if node.op is o.matmul)
    assert any(len(sample.graph.updates) == 2 for sample in samples)
    assert any(node.op.sized and None in node.attr(node.op.sized) for node in nodes)  # a size that is computed


@settings(quick, max_examples=200)
@given(graphs(special=True))
def test_types_say_what_the_values_are(sample: Sample) -> None:
    nodes = [node for node in toposort(sample.graph.roots) if node.op not in (o.cond, o.scan)]
    for node, value in zip(nodes, sample.compute(Graph((), nodes)), strict=True):
        assert value.dtype.name == node.dtype
        assert len(value.shape) == node.ndim
        assert all(size in (None, real) for size, real in zip(node.type.shape, value.shape, strict=True))


@settings(quick, max_examples=200)
@given(graphs(special=True))
def test_the_evaluator_and_functions_give_what_the_graph_means(sample: Sample) -> None:
    expected = sample.expected()
    with np.errstate(all="ignore"):
        for found, wanted in zip(evaluator(sample.closed, RULES)(*sample.values), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    rounding = [rule.name for rule in every_rule() if rule.claim == "rounding"]
    for optimize in (False, True):
        found = call(Function(sample.graph.inputs, sample.graph.roots, (), "numpy", optimize, exclude=rounding), sample)
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, wanted)
            assert value.dtype == wanted.dtype
    call(Function(sample.graph.inputs, [], sample.graph.updates, "numpy"), sample)
    for (variable, _), wanted in zip(sample.graph.updates, expected[len(sample.graph.outputs) :], strict=True):
        np.testing.assert_array_equal(variable.attr("uid").get(), wanted)


def call(f: Function, sample: Sample) -> list[Any]:
    for node in sample.feeds:
        if node.op is o.stream:
            node.attr("uid").count = 0
    return f([sample.feeds[node] for node in sample.graph.inputs], training=sample.phase)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------------- what they have shown


def test_sizes_go_through_any_op_that_computes_them(engine: str) -> None:
    x, y = K.placeholder((None, 2)), K.placeholder((3,))
    n, three = K.shape(x)[0], Tensor(o.size(y.node, axes=(0,)))  # the second is known, and an op all the same
    sizes = K.tile(K.reshape(n, (1,)) * K.reshape(three, (1,)), 3)
    f = K.function([x, y], [sizes, K.reshape(K.tile(x, (3, 3)), (sizes[1], -1))])
    for rows in (1, 3):
        value = np.arange(2.0 * rows).reshape(rows, 2)
        found = f([value, np.ones(3)])
        np.testing.assert_array_equal(found[0], [3 * rows] * 3)
        np.testing.assert_array_equal(found[1], np.tile(value, (3, 3)))


def test_sizes_that_are_printed_are_printed_by_the_program_alone(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    x = K.placeholder((None, 2))
    places = K.print_tensor(K.arange(K.shape(x)[0]), "places")
    f = K.function([x], [places, K.reshape(x, (places[-1] + 1, 2))])
    np.testing.assert_array_equal(f([np.ones((3, 2))])[0], [0, 1, 2])
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count("places") == 1


def test_an_index_into_sizes_that_is_out_of_range_is_an_error_only_where_it_is_needed(engine: str) -> None:
    x = K.placeholder((None, 2), name="x")
    places = K.arange(K.shape(x)[0])
    f = K.function([x], [K.switch(K.sum(x) > 100, lambda: K.gather(places, [7]), lambda: places[:1])])
    np.testing.assert_array_equal(f([np.ones((3, 2))])[0], [0])
    np.testing.assert_array_equal(f([np.full((9, 2), 10.0)])[0], [7])
    with pytest.raises(IndexOutOfRange, match=r"^gather: .*\n  x: "):
        f([np.full((4, 2), 50.0)])

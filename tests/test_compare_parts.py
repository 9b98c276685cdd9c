"""What `kgraph.compare` is made of: units in the last place, graphs without state, graphs as programs."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.bounds import units
from kgraph.ir.listing import Listing
from kgraph.ir.node import Graph
from kgraph.ir.passes.specialise import specialise
from kgraph.ir.promote import as_node
from kgraph.ir.record import Record
from kgraph.ir.traverse import toposort
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES
from kgraph.program_text import ProgramText
from kgraph.quiet import quietly
from kgraph.sealed import sealed
from tests.ir.strategies import Sample, built, graphs, quick


def test_units() -> None:
    one = np.float32(1)
    x = np.array([1, 0, 0, np.nan, np.inf, np.inf, 1, -1], "float32")
    y = np.array([np.nextafter(one, np.float32(2)), -0.0, 1e-45, np.nan, np.inf, 1, np.nan, 1], "float32")
    assert units(x, y).tolist() == [1, 0, 1, 0, 0, math.inf, math.inf, 2 * 0x3F800000]
    ends = np.array([np.finfo("float64").max, np.nextafter(0.5, 0)])
    assert units(ends, np.array([-ends[0], 0.5])).tolist() == [2.0 * 0x7FEFFFFFFFFFFFFF, 1]
    half = np.array([1, -2], "float16")
    assert units(half, np.array([1 + 2**-9, -2 - 2**-9 * 3], "float16")).tolist() == [2, 3]


def test_numpy_is_no_witness_against_itself() -> None:
    x = K.placeholder((2,), name="x")
    text = ProgramText(Graph((), [K.sin(x).node])).text({x.node: np.float32([0, 1])}, "numpy", optimize=False)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(text, {})
    reference, found = out.getvalue().splitlines()
    assert "RULES)(*values)" in text
    assert reference.removeprefix("reference ") == found.removeprefix("numpy ")


@quick
@given(graphs())
def test_a_sealed_graph_computes_the_same_of_placeholders_alone(sample: Sample) -> None:
    fed = {node: value for node, value in sample.feeds.items() if node.op is o.placeholder}
    graph = specialise(sample.graph, Record(), sample.phase)
    closed, values = sealed(graph, fed)
    assert {node.op for node in toposort(closed.roots)}.isdisjoint({o.variable, o.stream, o.random_uniform, o.print_})
    found = quietly(evaluator(Graph(values, closed.roots), RULES))(*values.values())
    for value, wanted in zip(found, sample.expected(), strict=True):
        np.testing.assert_array_equal(value, wanted)


@quick
@given(graphs(updates=False))
def test_the_text_of_a_program_builds_the_graph(sample: Sample) -> None:
    graph, _ = sealed(specialise(sample.graph, Record(), sample.phase), {n: v for n, v in sample.feeds.items() if not n.inputs})
    text = ProgramText(Graph((), graph.roots))
    space: dict[str, Any] = {}
    exec("\n".join([*sorted(text.imports), *text.lines, f"made = [{', '.join(text.outputs)}]"]), space)
    made = [as_node(value) for value in space["made"]]
    assert Listing.of(made).digest() == Listing.of(graph.roots).digest()


@pytest.mark.usefixtures("uncompiled")
def test_random_graphs_agree(engine: str) -> None:
    draw = np.random.default_rng(1)
    for number in range(15):
        seeds = draw.integers(0, 2**32, 20).tolist()
        sample = built(seeds, updates=False, dtypes=("float32", "int32", "bool"), special=number % 3 == 2)
        fed = {node: value for node, value in sample.feeds.items() if node.op is o.placeholder}
        found = kgraph.compare(Graph(fed, sample.graph.outputs), list(fed.values()), [engine], training=bool(sample.phase))
        assert found.agree, str(found)

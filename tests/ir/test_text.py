"""The text of a graph: every node on a line of its own, all that matters in it, and the same text each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.origin import Origin, building
from kgraph.ir.text import LONGEST, listing
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from tests.ir.steps import STEPS
from tests.ir.strategies import Sample, graphs, quick, twins
from tests.process import run_python


@pytest.fixture(autouse=True)
def one_place() -> Iterator[None]:
    """Everything is built at one line."""
    building.origin = Origin("model.py", "layer", "", line=3)
    yield
    building.origin = None


def source(name: str | None = None, shape: tuple[int | None, ...] = (3,), op: Any = o.placeholder, dtype: str = "float32") -> Node:
    return op(type=TensorType(dtype, shape), uid=Identity(name))


def test_the_text_of_a_small_graph() -> None:
    x, v = source("images", (None, 3)), source("w", op=o.variable)
    total = o.sum(x * v, axis=(1,), keepdims=True) + o.constant_of(np.float32([0.5, -0.0]))
    graph = Graph([x], [total, x], [(v, o.negative(v) * 2.0)])
    assert str(graph) == listing(graph) == (
        "%0      float32[?, 3]  placeholder 'images'               model.py:3\n"
        "%1      float32[3]     variable 'w'                       model.py:3\n"
        "%2      float32[?, 3]  multiply(%0, %1)                   model.py:3\n"
        "%3      float32[?, 1]  sum(%2, axis=(1,), keepdims=True)  model.py:3\n"
        "%4      float32[?, 2]  add(%3, [ 0.5, -0. ])              model.py:3\n"
        "%5      float32[3]     negative(%1)                       model.py:3\n"
        "%6      float32[3]     multiply(%5, 2.)                   model.py:3\n"
        "return                 %4, %0\n"
        "update                 %1 <- %6"
    )


def test_the_text_of_a_branch_has_its_bodies_indented() -> None:
    x, c = source("x"), source("c", (), dtype="bool")
    # Other tests may have left parameters alive, with lines of their own: none has these.
    p, q = o.param(index=70, type=x.type), o.param(index=71, type=c.type)
    inner = o.cond(q, p, then=Graph([p], [o.exp(p)]), orelse=Graph([p], [p]))
    made = o.cond(c, x, c, then=Graph([p, q], [o.item(inner, index=0)]), orelse=Graph([p, q], [p + 1.0]))
    assert str(Graph([x, c], [o.item(made, index=0)])) == (
        "%0              float32[3]    placeholder 'x'    model.py:3\n"
        "%1              bool[]        placeholder 'c'    model.py:3\n"
        "%2              (float32[3])  cond(%1, %0, %1)   model.py:3\n"
        "  orelse:\n"
        "    %0          float32[3]    param(index=70)    model.py:3\n"
        "    %1          bool[]        param(index=71)    model.py:3\n"
        "    %2          float32[3]    add(%0, 1.)        model.py:3\n"
        "    return                    %2\n"
        "  then:\n"
        "    %0          float32[3]    param(index=70)    model.py:3\n"
        "    %1          bool[]        param(index=71)    model.py:3\n"
        "    %2          (float32[3])  cond(%1, %0)       model.py:3\n"
        "      orelse:\n"
        "        %0      float32[3]    param(index=70)    model.py:3\n"
        "        return                %0\n"
        "      then:\n"
        "        %0      float32[3]    param(index=70)    model.py:3\n"
        "        %1      float32[3]    exp(%0)            model.py:3\n"
        "        return                %1\n"
        "    %3          float32[3]    item(%2, index=0)  model.py:3\n"
        "    return                    %3\n"
        "%3              float32[3]    item(%2, index=0)  model.py:3\n"
        "return                        %3"
    )


def test_an_empty_graph_and_one_of_constants() -> None:
    assert str(Graph([], [])) == "return"
    small, large = o.constant_of(np.arange(4)), o.constant_of(np.arange(5))
    assert str(Graph([], [small, large])).splitlines() == [
        "%0      int64[5]  constant(value=[0, 1, 2, 3, 4])  model.py:3", "return            [0, 1, 2, 3], %0",
    ]  # fmt: skip
    huge = str(Graph([], [o.constant_of(np.zeros((100, 100)))]))
    assert huge.splitlines()[0] == "%0      float64[100, 100]  constant(value=<80000 bytes>)  model.py:3"


def test_a_variable_that_is_only_written_has_a_line_of_its_own() -> None:
    x = source("x")
    named, unnamed = source("w", op=o.variable), source(op=o.variable)
    lines = str(Graph([x], [], [(named, x), (unnamed, -x)])).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["%2", "float32[3]", "variable", "'w'", "model.py:3"],
        ["%3", "float32[3]", f"variable(uid=#{unnamed.attr('uid').number})", "model.py:3"],
        ["return"], ["update", "%2", "<-", "%0"], ["update", "%3", "<-", "%1"],
    ]  # fmt: skip


def test_unused_inputs_come_first_and_are_listed() -> None:
    x, y = source("x"), source("y")
    assert [line.split()[2:4] for line in str(Graph([y, x], [x + x])).splitlines()[:3]] == [
        ["placeholder", "'y'"], ["placeholder", "'x'"], ["add(%1,", "%1)"],
    ]  # fmt: skip


def test_what_an_input_was_made_of_is_not_shown() -> None:
    x = source("x")
    y = o.sin(x)
    lines = str(Graph([y], [o.cos(y)])).splitlines()
    assert [line.split()[:3] for line in lines] == [["%0", "float32[3]", "sin(...)"], ["%1", "float32[3]", "cos(%0)"], ["return", "%1"]]


@pytest.mark.parametrize("lines", [1, 2, 3, 10, 49, 50, 51, LONGEST])
def test_a_long_text_is_cut_in_the_middle_to_the_lines_asked_for(lines: int) -> None:
    x = source("x")
    y = x
    for _ in range(48):
        y = o.sin(y)
    graph = Graph([x], [y])
    full = listing(graph, 50)
    assert len(full.splitlines()) == 50  # 49 nodes and the return
    found = listing(graph, lines).splitlines()
    if lines >= 50:
        assert "\n".join(found) == full
        return
    at = lines // 2
    assert len(found) == lines + 1
    assert found[at].strip() == f"... {50 - lines} more ..."
    kept = [line.split() for line in found[:at] + found[at + 1 :]]
    whole = [line.split() for line in full.splitlines()]
    assert kept == whole[:at] + whole[len(whole) - (lines - at) :]


# ---------------------------------------------------------------------------------------------------- random graphs


def read(lines: Iterator[str], graph: Graph, indent: str = "") -> None:
    """Asserts that the next lines are those of a graph: each node's type, op, operands and attrs, its bodies behind it."""
    names: dict[Node, str] = {}
    targets = [variable for variable, _ in graph.updates]
    for node in toposort([*graph.inputs, *graph.roots, *targets], stop=graph.inputs):
        if node.op is o.constant and node.type.size in range(5):
            names[node] = repr(node.attr("value"))
            continue
        line = next(lines)
        assert line.startswith(f"{indent}%") and line.endswith(f"  {node.origin}")
        number, type, call = re.split("  +", line[len(indent) :].removesuffix(str(node.origin)).rstrip(), maxsplit=2)
        names[node] = number
        assert number == f"%{len([name for name in names.values() if name.startswith('%')]) - 1}"
        assert type == repr(node.type)
        if node.name:
            assert call == f"{node.op.name} {node.name!r}"
        else:
            assert call.startswith(f"{node.op.name}({', '.join(names[i] for i in node.inputs)}") and call.endswith(")")
            shown = {name: value for name, value in node.attrs if not isinstance(value, Graph) and name != "type"}
            assert all(f"{name}=" in call for name in shown)
            assert all(f"{name}={value}" in call for name, value in shown.items() if not isinstance(value, (Identity, Constant)))
        for name, value in node.attrs:
            if isinstance(value, Graph):
                assert next(lines) == f"{indent}  {name}:"
                read(lines, value, indent + "    ")
    assert next(lines).split(None, 1) == ["return", *filter(None, [", ".join(names[node] for node in graph.outputs)])]
    for variable, value in graph.updates:
        assert next(lines).split(None, 1) == ["update", f"{names[variable]} <- {names[value]}"]


@settings(quick, max_examples=100)
@given(graphs(tuple(STEPS)))
def test_every_node_is_listed_with_its_operands_and_attrs(sample: Sample) -> None:
    for graph in (sample.graph, sample.closed):
        lines = iter(listing(graph, 10**6).splitlines())
        read(lines, graph)
        assert list(lines) == []


@settings(quick, max_examples=100)
@given(twins(tuple(STEPS)))
def test_graphs_of_one_structure_look_alike_but_for_names(pair: tuple[Sample, Sample]) -> None:
    one, other = [words(listing(sample.graph, 10**6)) for sample in pair]
    assert one == other


def words(text: str) -> list[str]:
    """A text without the names of its inputs, and with what has a number instead of a name numbered from 0."""
    numbers: dict[str, str] = {}
    text = re.sub(r"#\d+", lambda found: numbers.setdefault(found[0], f"#{len(numbers)}"), text)
    return text.replace("'other ", "'").split()


def test_a_text_is_the_same_in_every_process() -> None:
    program = """
import random
from tests.ir.steps import STEPS
from tests.ir.strategies import built
for seed in range(20):
    print(built([random.Random(seed + i).getrandbits(32) for i in range(15)], tuple(STEPS)).graph)
"""
    first, second = (run_python(program, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second
    assert first.count("return") >= 20


def test_a_graph_shows_its_own_lines_and_counts_in_repr() -> None:
    building.origin = None
    x = K.placeholder((2,), name="x")
    y = K.exp(x)
    f = K.function([x], [y, x])
    assert repr(f.graph) == "<Graph: 1 inputs, 2 outputs, 0 updates, 2 nodes>"
    assert str(f.graph).splitlines()[1].split() == ["%1", "float32[2]", "exp(%0)", str(y.node.origin)]

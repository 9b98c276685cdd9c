"""Closed bodies: what is traced or cut out of a graph means what it meant there, and takes all that it uses as inputs."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.errors import BodyError, ShapeError
from kgraph.ir.body import Parameter, check_no_strays, close, trace
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.traverse import reachable, substitute, toposort
from kgraph.ir.types import TensorType, is_tuple
from kgraph.ir.verify import verify
from tests.ir.steps import STEPS, compute
from tests.ir.strategies import ALL, DRAWS, Sample, graphs, quick

VECTOR = TensorType("float32", (3,))


def source(name: str | None = None, type: TensorType = VECTOR) -> Node:
    return o.placeholder(type=type, uid=Identity(name))


def verify_body(body: Graph) -> None:
    """A body is well formed as one, which it is within a node that holds it."""
    flag = source(type=TensorType("bool", ()))
    given_nodes = [source(type=p.type) for p in body.inputs]
    verify(Graph([], [o.item(o.cond(flag, *given_nodes, then=body, orelse=body), index=i) for i in range(len(body.outputs))]))


def assert_values(found: list[Any], wanted: list[Any]) -> None:
    for value, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(value, other)


# ---------------------------------------------------------------------------------------------------- close


@settings(quick, max_examples=150)
@given(sample=graphs(tuple(STEPS)), seed=st.integers(0, 2**32 - 1))
def test_what_is_cut_out_of_a_graph_means_the_same_over_its_captures(sample: Sample, seed: int) -> None:
    random = Random(seed)
    order = toposort(sample.graph.roots)
    plain = [node for node in order if not is_tuple(node.type) and node.inputs and node.op is not o.item]
    inside = [node for node in plain if random.random() < 0.6]
    outputs = random.sample(order, random.randint(1, min(3, len(order))))
    outputs = [node for node in outputs if not is_tuple(node.type)] or [order[0]]
    first = random.sample([node for node in order if node.op.source], min(2, sum(node.op.source for node in order)))

    body, captures = close(outputs, inside, first)
    verify_body(body)
    assert [p.attr("index") for p in body.inputs] == list(range(len(body.inputs)))
    assert [p.type for p in body.inputs] == [node.type for node in (*first, *captures)]
    assert len(set(captures)) == len(captures) and not set(captures) & {*first, *inside}
    assert not any(node.op in (o.constant, o.absent) for node in captures)

    needed = {i for node in inside for i in node.inputs} | set(outputs)
    assert set(captures) == {node for node in needed if node not in {*inside, *first} and node.op is not o.constant}
    values = dict(zip(order, compute(order, sample.feeds), strict=True))
    bound = {p: values[node] for p, node in zip(body.inputs, (*first, *captures), strict=True)}
    assert_values(compute(body.outputs, bound), [values[node] for node in outputs])
    assert close(outputs, inside, first) == (body, captures)  # equal bodies are equal


def test_captures_are_in_the_order_of_their_first_use() -> None:
    a, b, c, d = (source(name) for name in "abcd")
    low, high = o.subtract(b, a), o.maximum(c, b)
    top = low * high
    body, captures = close([top, d, a], [low, high, top], [c])
    assert captures == (b, a, d)
    c_, b_, a_, d_ = body.inputs
    assert body.outputs == (o.subtract(b_, a_) * o.maximum(c_, b_), d_, a_)


def test_what_is_given_and_not_used_is_a_parameter_all_the_same() -> None:
    a, b = source("a"), source("b")
    body, captures = close([o.sin(a)], [o.sin(a)], [b, a])
    assert captures == ()
    assert len(body.inputs) == 2
    assert body.outputs == (o.sin(body.inputs[1]),)
    assert close([], [], [])[0] == Graph([], [])


def test_bodies_that_are_equal_but_for_what_they_capture_are_equal() -> None:
    bodies = []
    for _ in range(2):
        x, y = source(), source()
        z = o.sin(x * y) + 1.0
        bodies.append(close([z], [x * y, o.sin(x * y), z])[0])
    assert bodies[0] == bodies[1]
    assert hash(bodies[0]) == hash(bodies[1])
    assert bodies[0].outputs[0] is bodies[1].outputs[0]
    x = source()
    other = close([o.sin(x * x) + 1.0], [x * x, o.sin(x * x), o.sin(x * x) + 1.0])[0]
    assert other != bodies[0]


def test_constants_and_absent_values_are_in_a_body_as_they_are() -> None:
    x, constant = source(), o.constant_of(np.arange(3, dtype="float32"))
    total = x + constant
    body, captures = close([total, constant, o.absent(type=VECTOR)], [total])
    assert captures == (x,)
    assert body.outputs[1:] == (constant, o.absent(type=VECTOR))
    assert body.outputs[0] is o.add(body.inputs[0], constant)


def test_a_body_in_what_is_closed_stays_a_body() -> None:
    flag, x, y = source("flag", TensorType("bool", ())), source("x"), source("y")
    p = o.param(index=0, type=VECTOR)
    branch = o.cond(flag, x, then=Graph([p], [o.sin(p)]), orelse=Graph([p], [p]))
    result = o.item(branch, index=0) * y
    body, captures = close([result], [branch, o.item(branch, index=0), result])
    assert captures == (flag, x, y)
    verify_body(body)
    (inner,) = [node for node in toposort(body.outputs) if node.op is o.cond]
    assert inner.attr("then") == branch.attr("then")


# ---------------------------------------------------------------------------------------------------- trace


@settings(quick, max_examples=100)
@given(sample=graphs(tuple(name for name in ALL if name not in DRAWS), updates=False), seed=st.integers(0, 2**32 - 1))
def test_a_traced_body_means_what_its_function_means(sample: Sample, seed: int) -> None:
    random = Random(seed)
    inputs, outputs = sample.graph.inputs, sample.graph.outputs
    chosen = random.sample(inputs, random.randint(0, len(inputs)))

    def build(*parameters: Node) -> list[Node]:
        return substitute(outputs, dict(zip(chosen, parameters, strict=True)))

    body, captures = trace(build, [node.type for node in chosen], "rnn")
    verify_body(body)
    order = toposort(outputs)
    values = dict(zip(order, compute(order, sample.feeds), strict=True))
    given_values = [*[sample.feeds[node] for node in chosen], *[values[node] for node in captures]]
    assert_values(compute(body.outputs, dict(zip(body.inputs, given_values, strict=True))), sample.expected())

    # What does not depend on the parameters is computed outside, once.
    above = reachable(order, chosen)
    assert not any(node in above for node in captures)
    depends = {node for node in toposort(body.outputs) if node.inputs and node.op is not o.cond}
    assert depends <= reachable(toposort(body.outputs), body.inputs[: len(chosen)])
    assert trace(build, [node.type for node in chosen], "map_fn") == (body, captures)


def test_parameters_are_named_while_they_are_traced_and_positional_after() -> None:
    seen: list[Node] = []

    def step(x: Node, state: Node) -> list[Node]:
        seen.extend([x, state])
        return [x + state]

    body, captures = trace(step, [VECTOR, VECTOR], "rnn", ["x", "state"])
    assert [node.name for node in seen] == ["x", "state"]
    assert all(isinstance(node.attr("index"), Parameter) and node.attr("index").of == "rnn" for node in seen)
    assert body.inputs == (o.param(index=0, type=VECTOR), o.param(index=1, type=VECTOR))
    assert captures == ()
    trace(step, [VECTOR, VECTOR], "map_fn")
    assert [node.name for node in seen[2:]] == ["map_fn[0]", "map_fn[1]"]


def test_no_two_traces_share_a_parameter() -> None:
    seen: list[Node] = []
    for _ in range(2):
        trace(lambda x: seen.append(x) or [x], [VECTOR], "rnn", ["x"])  # type: ignore[func-returns-value]
    assert seen[0] is not seen[1]


def test_results_may_be_parameters_outer_values_constants_or_one_value_twice() -> None:
    outer, constant = source("outer"), o.constant_of(np.zeros(2))
    body, captures = trace(lambda x: [x, outer, constant, x, outer], [VECTOR], "rnn")
    assert captures == (outer,)
    x, held = body.inputs
    assert body.outputs == (x, held, constant, x, held)
    assert trace(lambda: [outer], [], "rnn") == (Graph([o.param(index=0, type=VECTOR)], [o.param(index=0, type=VECTOR)]), (outer,))


def test_draws_and_prints_that_are_built_inside_belong_to_the_body_and_those_from_before_do_not() -> None:
    before = o.random_uniform(o.stream(uid=Identity()), shape=(3,), dtype="float32")
    printed = o.print_(source(), uid=Identity(), message="before")

    def step(x: Node) -> list[Node]:
        inside = o.random_uniform(o.stream(uid=Identity("inside")), shape=(3,), dtype="float32")
        note = o.print_(o.constant_of(np.float32(1)), uid=Identity(), message="inside")
        return [x + before, inside * note, printed]

    body, captures = trace(step, [VECTOR], "rnn")
    key = next(node for node in captures if node.op is o.stream)
    assert set(captures) == {before, printed, key}
    assert key.name == "inside"
    ops = [node.op for node in toposort(body.outputs)]
    assert ops.count(o.random_uniform) == 1 and ops.count(o.print_) == 1
    verify_body(body)


def test_a_body_within_a_body_captures_the_parameters_of_the_outer_one() -> None:
    outer = source("outer")

    def step(x: Node) -> list[Node]:
        inner, captured = trace(lambda y: [y * x + outer], [VECTOR], "map_fn")
        assert captured == (x, outer)
        flag = o.greater(o.sum(x, axis=(0,), keepdims=False), o.scalar(0.0, "float32"))
        return [o.item(o.cond(flag, o.sin(x), *captured, then=inner, orelse=inner), index=0)]

    body, captures = trace(step, [VECTOR], "rnn")
    assert captures == (outer,)
    verify_body(body)
    x, y = np.array([1, 2, 3], "float32"), np.array([10, 20, 30], "float32")
    assert_values(compute(body.outputs, dict(zip(body.inputs, (x, y), strict=True))), [np.sin(x) * x + y])


def test_an_error_in_a_step_function_leaves_nothing_behind() -> None:
    outer = source(type=TensorType("float32", (4,)))
    with pytest.raises(ShapeError, match="sizes differ on axis -1: 3 != 4") as caught:
        trace(lambda x: [x + outer], [VECTOR], "rnn", ["x"])
    assert "param 'x'" in str(caught.value)
    body, _ = trace(lambda x: [o.sin(x)], [VECTOR], "rnn", ["x"])
    verify_body(body)


# ---------------------------------------------------------------------------------------------------- strays


def test_a_stray_names_its_body_and_a_closed_body_has_none() -> None:
    kept: list[Node] = []
    body, _ = trace(lambda x: kept.append(o.sin(x)) or [o.cos(x)], [VECTOR], "rnn", ["x"])  # type: ignore[func-returns-value]
    check_no_strays(toposort(body.outputs))
    check_no_strays(toposort([source() + 1.0]))
    with pytest.raises(BodyError, match="a value of the body of rnn is used outside of it") as caught:
        check_no_strays(toposort([source(), kept[0] + source()]))
    assert "param 'x'" in str(caught.value) and "test_body.py" in str(caught.value)

"""`kgraph.gradient_ends`: which variables a gradient gets to, and which node ends it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import GradientError, GraphError
from kgraph.flow import Flow
from kgraph.ir.grad import cotangents
from kgraph.ir.node import Graph
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import is_tuple
from tests.ir.strategies import Sample, graphs, quick


def line() -> int:
    """The caller's line."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def one(loss: Any, variable: Any) -> Flow:
    (found,) = kgraph.gradient_ends(loss, [variable]).flows
    return found


@pytest.mark.parametrize(
    ("cut", "op", "why"),
    [
        (K.stop_gradient, "stop_gradient", "holds gradients back"),
        (lambda x: K.cast(K.argmax(x), "float32"), "argmax", "gives int64, and only floats have gradients"),
        (lambda x: K.cast(x, "int32") * 2.0, "cast", "gives int32, and only floats have gradients"),
        (lambda x: K.cast(x > 0, "float32"), "greater", "gives bool, and only floats have gradients"),
        (K.sign, "sign", "has a gradient of zero everywhere"),
        (lambda x: K.switch(K.sum(x) > 0, K.ones((2, 3)), K.zeros((2, 3))), "greater", "gives bool, and only floats have gradients"),
    ],
)  # fmt: skip
def test_what_ends_a_gradient_and_where(cut: Any, op: str, why: str) -> None:
    w = K.variable(np.ones((2, 3)), name="w")
    ended, at = cut(w * 2.0), line()
    found = one(K.sum(ended) * 3.0, w)
    assert not found.reached
    (end,) = found.ends
    assert end.node.op.name == op
    assert end.node.origin.line == (cut.__code__.co_firstlineno if cut.__name__ == "<lambda>" else at)
    assert end.why == why
    assert one(K.sum(ended) + K.sum(w), w) == Flow(w.node, True, ())


def test_of_sizes_alone() -> None:
    x = K.placeholder((None, 3))
    (end,) = one(K.sum(K.zeros_like(x)), x).ends
    assert end.why == "reads the shape alone"


def test_the_text_and_the_data() -> None:
    a, b, c = (K.variable(np.ones(3), name=name) for name in "abc")
    counter = K.variable(0, dtype="int32", name="counter")
    loss, at = K.sum(K.stop_gradient(a * b) + b), line()
    found = kgraph.gradient_ends(loss, [a, b, c, counter])
    assert not found.reached
    rows = str(found).splitlines()
    assert [row.split("  ")[0].strip() for row in rows] == ["a", "b", "c", "counter"]
    assert rows[0].endswith(f"test_flow.py:{at}")
    assert "gets none        it ends at stop_gradient(multiply), which holds gradients back" in rows[0]
    assert rows[1].split(maxsplit=1)[1] == "gets a gradient"
    assert rows[2].endswith("the loss does not depend on it")
    assert rows[3].endswith("it is int32, and only floats have gradients")
    data = found.as_data()
    assert [row["gradient"] for row in data] == [False, True, False, False]
    assert data[0]["ends"][0]["call"] == "stop_gradient(multiply)"
    assert str(kgraph.gradient_ends(K.sum(b))) == "b  gets a gradient"
    assert str(kgraph.gradient_ends(K.sum(K.placeholder((2,))))) == "there are no variables"


def test_several_ends_are_told_those_next_to_the_loss_first() -> None:
    w = K.variable(np.ones(3), name="w")
    loss = K.sum(K.stop_gradient(w) + K.sign(w) * K.round(w))
    assert {end.node.op.name for end in one(loss, w).ends} == {"stop_gradient", "sign", "round"}
    twice = K.sum(K.stop_gradient(K.sign(w) * 2.0))
    assert [end.node.op.name for end in one(twice, w).ends] == ["stop_gradient"]


def test_functions_and_what_they_update() -> None:
    x, w = K.placeholder((2,), name="x"), K.variable(np.ones(2), name="w")
    count = K.variable(0.0, name="count")
    loss = K.sum(w * x)
    f = K.function([x], [loss, K.argmax(x)], [(w, w - K.gradients(loss, [w])[0]), (count, count + 1)])
    assert [(flow.variable.name, flow.reached) for flow in kgraph.gradient_ends(f).flows] == [("w", True)]
    assert not one(f, count).reached
    assert [flow.reached for flow in kgraph.gradient_ends([loss], [x]).flows] == [True]


def looped(body: Any) -> tuple[Any, Any, Any]:
    x, w, h = K.placeholder((1, 4, 2), name="x"), K.variable(np.ones(2), name="w"), K.variable(np.zeros((1, 2)), name="h")

    def step(part: Any, states: list[Any]) -> Any:
        return body(part, states[0], w)

    _, outputs, _ = K.rnn(step, x, [h])
    return outputs, w, h


def test_into_loops_from_step_to_step() -> None:
    # What a step gives is the state that it is given, so that w comes out in the next one.
    outputs, w, h = looped(lambda part, state, w: (state, [state + part * w]))
    assert one(K.sum(outputs), w).reached
    assert one(K.sum(outputs), h).reached
    outputs, w, h = looped(lambda part, state, w: (state * 2.0, [K.stop_gradient(part * w)]))
    at = line() - 1
    found = one(K.sum(outputs), w)
    assert [(end.node.op.name, end.node.origin.line) for end in found.ends] == [("stop_gradient", at)]
    assert one(K.sum(outputs), h).reached  # in the first step


def test_two_loops_of_one_body_have_lines_of_their_own() -> None:
    def step(part: Any, states: list[Any]) -> Any:
        return part * K.stop_gradient(states[0]), [part]

    ends = []
    for _ in range(2):
        h = K.variable(np.zeros((1, 2)), name="h")
        x = K.placeholder((1, 4, 2))
        ends += [one(K.sum(K.rnn(step, x, [h])[1]), h).ends[0].node]
    assert ends[0] is not ends[1]
    assert ends[0].origin.line == ends[1].origin.line == step.__code__.co_firstlineno + 1


def test_what_is_no_loss() -> None:
    w = K.variable(np.ones(2), name="w")
    with pytest.raises(GradientError, match="the loss is int64"):
        kgraph.gradient_ends(K.argmax(w))
    with pytest.raises(GradientError, match="3 is no tensor"):
        kgraph.gradient_ends(K.sum(w), [3])
    with pytest.raises(GraphError):
        kgraph.gradient_ends(3)


def test_a_deep_chain_with_an_end_for_many(uncompiled: None) -> None:
    variables = [K.variable(1.0, name=f"w{i}") for i in range(300)]
    x: Any = K.variable(1.0)
    for number in range(20_000):
        x = K.sin(x) + variables[number % 300] if number % 50 == 0 else K.sin(x)
    found = kgraph.gradient_ends(K.stop_gradient(x), variables)
    assert {flow.ends[0].node.op.name for flow in found.flows if flow.ends} == {"stop_gradient"}
    assert sum(bool(flow.ends) for flow in found.flows) == len({number % 300 for number in range(0, 20_000, 50)})


@quick
@given(graphs(updates=False))
def test_a_gradient_gets_where_the_passes_of_gradients_get(sample: Sample) -> None:
    floats = [node for node in sample.graph.outputs if not is_tuple(node.type) and node.type.is_float]
    wrt = [node for node in sample.feeds if node.type.is_float]
    if not floats:
        return
    graph = Graph(sample.graph.inputs, floats)
    found = kgraph.gradient_ends(graph, [Tensor(node) for node in wrt])
    taken = cotangents(floats, [o.ones_like(node) for node in floats], wrt)
    for flow, g in zip(found.flows, taken, strict=True):
        assert flow.reached or g is None or _is_zero(sample, g)
        if g is None:
            assert not flow.reached


def _is_zero(sample: Sample, g: Any) -> bool:
    (value,) = sample.compute(Graph(sample.graph.inputs, [g]))
    return not np.any(value)

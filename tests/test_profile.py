"""`fn.profile`: what nodes, lines and ops take, measured on each engine, through rewrites, loops, branches and gradients."""

from __future__ import annotations

import inspect
import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import ArgumentError, EngineError, FeedError, IndexOutOfRange
from kgraph.ir.node import Graph
from kgraph.ir.places import places
from kgraph.ir.traverse import toposort
from kgraph.lower import measured
from kgraph.lower.clock import Clock
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.engine import Engine
from kgraph.lower.numpy import RULES
from kgraph.profile import REST, NodeTime, Profile, rows_of
from kgraph.watch import watched
from tests.ir.strategies import Sample, graphs, quick


def line() -> int:
    """The caller's line."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def only(profile: Profile, op: str, role: str = "forward") -> NodeTime:
    (found,) = [row for row in profile.nodes() if (row.op, row.role) == (op, role)]
    return found


# ---------------------------------------------------------------------------------------------------- on each engine


def test_which_line_costs_most_time(engine: str) -> None:
    """A product of large matrices beside sums of few numbers."""
    x, w = K.placeholder((None, 600), name="x"), K.variable(np.full((600, 600), 0.01), name="w")
    few = K.exp(K.placeholder((4,), name="few"))
    with K.name_scope("hidden"):
        product, at = K.dot(x, w), line()
    f = K.function([x, few], [K.sum(product) + K.sum(few), few * 2])
    profile = f.profile([np.ones((600, 600)), np.ones(4)], runs=4)
    dearest = profile.dearest()
    assert (dearest.op, dearest.function, dearest.scope, dearest.calls) == ("matmul", "dot", "hidden", 1)
    assert dearest.line.endswith(f"test_profile.py:{at}")
    assert dearest.bytes == 3 * 600 * 600 * 4
    assert profile.by_line()[0].name == dearest.line
    assert profile.by_op()[0][0] == "matmul"
    assert profile.by_scope()[0][0] == "hidden"
    assert profile.share(dearest.seconds) > 0.5
    # The rows are the total; what belongs to no node is one of them, and no large one.
    rows = profile.nodes()
    assert sum(row.seconds for row in rows) == pytest.approx(profile.seconds)
    for parts in (profile.by_line(), profile.by_op(), profile.by_scope()):
        assert sum(part.seconds for part in parts) == pytest.approx(profile.seconds)
    (rest,) = [row for row in rows if row.op == REST]
    assert profile.share(rest.seconds) < 0.3
    assert 0.1 < profile.seconds / profile.call_seconds < 10  # another clock, over a program that is not measured
    text = str(profile).splitlines()
    assert text[0].startswith(f"4 runs on {engine}: ")
    assert text[2].split()[:2] == ["line", "share"]
    assert f"test_profile.py:{at} " in text[3]
    assert any(row.startswith("matmul ") and row.endswith("hidden") for row in text)


def test_loops_branches_and_gradients(engine: str) -> None:
    """A node of a loop ran in each step, one of a branch where it was taken; a gradient's time is that of its forward line."""
    x = K.placeholder((2, 5, 3), name="x")
    w = K.variable(np.eye(3), name="w")

    def step(part: Any, states: list[Any]) -> Any:
        h = K.dot(states[0], w) + part
        h = K.switch(K.sum(part) > 0, lambda: K.sin(h), lambda: K.relu(h))
        return h, [h]

    last, _, _ = K.rnn(step, x, [K.zeros((2, 3))])
    at = inspect.getsourcelines(step)[1] + 1
    f = K.function([x], [last, *K.gradients(K.sum(last), [w])])
    values = np.ones((2, 5, 3))
    values[:, 2:4] = -1
    profile, asked = f.profile(values, runs=2), line()
    assert not [row for row in profile.nodes() if row.line.endswith(f"test_profile.py:{asked}")]  # what the passes made has lines
    assert only(profile, "sin").calls == 3
    assert only(profile, "cos", "gradient").calls == 3
    matmul = [row for row in profile.nodes() if row.op == "matmul"]
    assert sorted((row.role, row.calls) for row in matmul) == [("forward", 5), ("gradient", 1), ("gradient", 5)]
    assert {row.line.rpartition(":")[2] for row in matmul if row.calls == 5} == {str(at)}
    assert [row.calls for row in profile.nodes() if row.op == "scan"] == [1, 1]
    assert [row.calls for row in profile.nodes() if row.op == "cond"] == [5, 5]
    (part,) = [part for part in profile.by_line() if part.name.endswith(f":{at}")]
    backward = sum(row.seconds for row in profile.nodes() if row.role == "gradient" and row.line == part.name)
    assert 0 < part.gradient == pytest.approx(backward)
    assert part.gradient < part.seconds
    assert "dot" in part.functions
    forward = 5 * 4 * (2 * 3 + 3 * 3 + 2 * 3)
    assert next(row.bytes for row in matmul if row.role == "forward") == forward


def test_nothing_is_written_and_no_stream_moves(engine: str) -> None:
    x, w = K.placeholder((3,), name="x"), K.variable([1.0, 2.0, 3.0], name="w")
    noise = K.random_uniform((3,), seed=5)
    f = K.function([x], [K.sum(w * x), noise], [(w, w * x + 1)])
    (stream,) = [node.attr("uid") for node in toposort(f.graph.roots) if node.op is o.stream]
    variable = w.node.attr("uid")
    before = (np.array(stream.key), variable.version)
    profile = f.profile([np.full(3, 2.0)], runs=3)
    assert only(profile, "random_uniform").calls == 1
    np.testing.assert_array_equal(stream.key, before[0])
    assert variable.version == before[1]
    np.testing.assert_array_equal(K.get_value(w), [1, 2, 3])
    total, _ = f([np.full(3, 2.0)])
    assert total == 12
    np.testing.assert_array_equal(K.get_value(w), [3, 5, 7])
    data = json.loads(json.dumps(profile.as_data()))
    assert (data["engine"], data["runs"]) == (engine, 3)
    assert [row["op"] for row in data["nodes"]] == [row.op for row in profile.nodes()]
    assert sum(row["share"] for row in data["nodes"]) == pytest.approx(1)
    assert {row["op"] for row in data["nodes"]} >= {"multiply", "sum", "random_uniform", REST}
    assert data["lines"][0]["name"] == profile.by_line()[0].name


def test_wrong_inputs_are_refused_as_by_a_call(engine: str) -> None:
    table, rows = K.variable(np.ones((4, 2)), name="table"), K.placeholder((None,), dtype="int32", name="rows")
    f = K.function([rows], [K.gather(table, rows)])
    for kind, values in ((FeedError, [[[1]]]), (FeedError, []), (IndexOutOfRange, [[1, 4]])):
        texts = []
        for run in (f, f.profile):
            with pytest.raises(kind) as caught:
                run(values)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]
    for runs in (0, 2.0, True):
        with pytest.raises(ArgumentError, match="runs is"):
            f.profile([[1]], runs=runs)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- in itself


def test_the_phase_is_that_of_a_call() -> None:
    x = K.placeholder((3,), name="x")
    y = K.in_train_phase(K.exp(x), K.sin(x))
    f = K.function([x], y)
    assert {row.op for row in f.profile([np.ones(3)], runs=1).nodes()} == {"sin", REST}
    assert {row.op for row in f.profile([np.ones(3)], runs=1, training=True).nodes()} == {"exp", REST}
    g = K.function([x, K.learning_phase()], y)
    assert {row.op for row in g.profile([np.ones(3), 1], runs=1).nodes()} == {"exp", REST}
    assert only(f.profile(x=np.ones(3), runs=1), "sin").calls == 1


def test_a_function_of_nothing() -> None:
    profile = K.function([], []).profile([], runs=1)
    assert [row.op for row in profile.nodes()] == [REST]
    with pytest.raises(ArgumentError, match="computes nothing"):
        profile.dearest()


def test_each_node_of_a_long_program() -> None:
    """The program is several functions."""
    x = K.placeholder((2,), name="x")
    y = x
    for i in range(1200):
        y = K.sin(y) * (i + 1.5)
    profile = K.function([x], y).profile([np.ones(2)], runs=1)
    calls = [row.calls for row in profile.nodes() if row.node is not None]
    assert calls == [1] * 2400
    assert profile.by_op()[0].calls in (1200, 0)
    assert "2,389 more nodes" in str(profile)


def test_bytes_are_those_of_what_ops_do() -> None:
    x = K.placeholder((None, 10), name="x")
    turned = K.transpose(x)
    f = K.function([x], [K.gather(x, K.variable([0, 2], dtype="int32")), K.exp(turned), K.sum(x * x, axis=0)])
    profile = f.profile([np.ones((50, 10))], runs=1)
    assert only(profile, "transpose").bytes == 0
    assert only(profile, "exp").bytes == 2 * 50 * 10 * 4
    assert only(profile, "gather").bytes == 2 * 2 * 10 * 4
    assert only(profile, "sum").bytes == (50 * 10 + 10) * 4


def test_what_is_fused_is_divided_by_operations() -> None:
    """An engine that made one thing of three nodes, and of a fourth one two."""
    x = K.placeholder((5,), name="x")
    y = K.exp(x) + 1.0
    graph = Graph([x.node], [K.sum(y).node])
    order = {node.op.name: (("", number),) for number, node in enumerate(toposort(graph.roots))}
    fused = measured.Sample((order["exp"], order["add"]), 1, 11.0)
    sums = [measured.Sample((order["sum"],), 1, 3.0), measured.Sample((order["sum"],), 2, 1.0)]
    runs = [measured.Measured([fused, *sums], 0.5)] * 2
    rows, rest = rows_of(graph, {x.node: (5,)}, runs)
    found = {row.op: (row.seconds, row.calls, row.bytes) for row in rows}
    # Of the model: 10 operations for an exp, 1 for an addition.
    assert found == {"exp": (10.0, 1, 40), "add": (1.0, 1, 44), "sum": (4.0, 2, 48)}
    assert rest == 0.5


def test_an_engine_that_does_not_measure() -> None:
    x = K.placeholder((2,), name="x")
    f = K.function([x], x + 1.0, engine=Engine("mute", RULES))
    with pytest.raises(EngineError, match="the engine mute does not measure its programs") as caught:
        f.profile([[1, 2]])
    assert "engine='numpy'" in str(caught.value)


@given(graphs())
@quick
def test_the_twin_with_a_clock_computes_the_same(sample: Sample) -> None:
    clock, ran = Clock(), Counter[str]()
    plain, timed = NumpyProgram(sample.closed), NumpyProgram(sample.closed, watch=clock)
    clock.clear()
    for result, expected in zip(timed(*sample.values), plain(*sample.values), strict=True):
        np.testing.assert_array_equal(result, expected, strict=True)
    watched(sample.closed, dict(zip(sample.closed.inputs, sample.values, strict=True)), lambda node, *_: ran.update([node.op.name]))
    counted = Counter[str]()
    found = places(sample.closed)
    for each in clock.samples():
        (path,) = each.paths
        counted[found[path].node.op.name] += each.calls
        assert each.seconds >= 0
    assert counted <= ran  # what nobody reads, or is only a name for another node, has no statement
    assert not Counter({op: ran[op] for op in ("scan", "cond")}) - counted


def test_the_time_of_a_loop_is_without_that_of_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("kgraph.lower.clock.perf_counter", lambda: float(next(ticks)))
    clock, x = Clock(), o.scalar(1.0, "float32")
    outer, inner = clock.key((("", 0),), x), clock.key((("", 0), ("body", 1)), x)
    clock.clear()
    clock.before(outer)  # looks at 0, begins at 1
    for _ in range(2):
        clock.before(inner)  # 2, 3
        clock.after(inner, None)  # ends at 4, goes at 5
    clock.after(outer, None)  # 10, 11
    assert [(sample.calls, sample.seconds) for sample in clock.samples()] == [(1, 10.0 - 1 - 2 * 3), (2, 2.0)]
    assert clock.others == 11


def test_loops_of_one_structure_have_lines_of_their_own() -> None:
    """Their bodies are one and the same."""

    def looped(step: Any) -> Any:
        x = K.placeholder((2, 4, 3), name="x")
        return K.function([x], K.rnn(step, x, [K.zeros((2, 3))])[0])

    def one(part: Any, states: list[Any]) -> Any:
        h = K.cos(states[0]) + part
        return h, [h]

    def other(part: Any, states: list[Any]) -> Any:
        h = K.cos(states[0]) + part
        return h, [h]

    functions = {step: looped(step) for step in (one, other)}
    for step, f in functions.items():
        at = inspect.getsourcelines(step)[1] + 1
        found = only(f.profile(np.ones((2, 4, 3)), runs=1), "cos")
        assert (found.calls, found.line.rpartition(":")[2]) == (4, str(at))

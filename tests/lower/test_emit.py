"""The programs that the NumPy engine writes: values written over, views handed on, functions of a few statements, errors located."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.ir import grad
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.types import TensorType
from kgraph.lower import emit
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES

Array = np.ndarray[Any, Any]
N = 4  # every value is a matrix of N x N, a vector of N, or a scalar; so that what is written fits often


def _as_matrix(x: Node) -> Node:
    """A matrix made of a value of any rank."""
    return x if x.ndim == 2 else o.broadcast_to(x, shape=(N, N))


#: Ways to make a value of two others: element by element, by views, by copies, by reductions.
STEPS: list[Any] = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - y,
    lambda x, y: o.maximum(x, y),
    lambda x, y: o.where(o.greater(x, y), x, y),
    lambda x, y: -x,
    lambda x, y: o.relu(x),
    lambda x, y: o.absolute(x) + 1.0,
    lambda x, y: o.exp(-o.absolute(x)),
    lambda x, y: o.transpose(x, perm=tuple(range(x.ndim))[::-1]),
    lambda x, y: o.reshape(_as_matrix(x), shape=(2, 2 * N)),
    lambda x, y: o.reshape(_as_matrix(x), shape=(N, N)),
    lambda x, y: _as_matrix(x)[1:, ::-1],
    lambda x, y: _as_matrix(x)[0],
    lambda x, y: o.flip(_as_matrix(x), axes=(1,)),
    lambda x, y: o.broadcast_like(x if x.ndim < 2 else x[0], _as_matrix(y)),
    lambda x, y: o.sum(x, axis=tuple(range(x.ndim)), keepdims=False),
    lambda x, y: o.sum(_as_matrix(x), axis=(0,), keepdims=False),
    lambda x, y: o.max(_as_matrix(x), axis=(1,), keepdims=False),
    lambda x, y: o.matmul(_as_matrix(x), _as_matrix(y)) * 0.1,
    lambda x, y: o.concatenate(_as_matrix(x)[:2], _as_matrix(y)[2:], axis=0),
    lambda x, y: o.stop_gradient(x),
    lambda x, y: o.identity(x, uid=Identity()),
    lambda x, y: o.squeeze(o.expand_dims(x, axis=0), axis=0),
    lambda x, y: o.softmax(_as_matrix(x), axis=1),
    lambda x, y: o.cast(o.cast(x, dtype="float64"), dtype="float32"),
    lambda x, y: o.switch(o.greater(o.sum(y, axis=tuple(range(y.ndim)), keepdims=False), o.scalar(0.0, "float32")), x, -x),
]


def _usable(x: Node) -> bool:
    return x.type.shape in ((), (N,), (N, N))


def build(program: Sequence[tuple[int, int, int]], unknown: bool) -> tuple[list[Node], list[Node]]:
    """The inputs, and every value that the steps make."""
    shape = (None, None) if unknown else (N, N)
    given_nodes = [o.placeholder(type=TensorType("float32", s), uid=Identity()) for s in (shape, (N, N), (N,), ())]
    values = [o.reshape(given_nodes[0], shape=(N, N)), *given_nodes[1:]]
    made: list[Node] = []
    for step, a, b in program:
        x, y = values[a % len(values)], values[b % len(values)]
        result = STEPS[step % len(STEPS)](x, y)
        made.append(result)
        values.append(result if _usable(result) else o.reshape(result, shape=(-1,))[:N])
    return given_nodes, made


programs = st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=25)
fast = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


def operands() -> list[Array]:
    draw = np.random.default_rng(0)
    return [np.asarray(draw.uniform(-1, 1, s), "float32") for s in ((N, N), (N, N), (N,), ())]


def assert_computes(graph: Graph, values: Sequence[Array]) -> None:
    """Asserts that the program gives what the plain evaluator does, bit for bit, and writes over nothing of anyone else's."""
    kept = [x.copy() for x in values]
    program = NumpyProgram(graph)
    for _ in range(2):
        found = program(*values)
        with np.errstate(all="ignore"):
            wanted = evaluator(graph, RULES)(*values)
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_array_equal(a, b)
            assert not any(np.shares_memory(a, other) for other in (*values, *found[:i]))
        for x, before in zip(values, kept, strict=True):
            np.testing.assert_array_equal(x, before)
        for result in found:  # what is the user's may be written to
            if isinstance(result, np.ndarray) and result.flags.writeable:
                result[...] = 7


@fast
@given(program=programs, outputs=st.lists(st.integers(0, 40), min_size=1, max_size=4), unknown=st.booleans())
def test_random_programs(program: Any, outputs: list[int], unknown: bool) -> None:
    inputs, made = build(program, unknown)
    assert_computes(Graph(inputs, [made[i % len(made)] for i in outputs]), operands())


@fast
@given(program=programs, output=st.integers(0, 40))
def test_random_programs_with_their_gradients(program: Any, output: int) -> None:
    inputs, made = build(program, unknown=False)
    loss = made[output % len(made)]
    slopes = grad.gradients(loss, inputs, "zeros")
    assert_computes(Graph(inputs, [loss, *(g for g in slopes if g is not None)]), operands())


@fast
@given(program=programs, outputs=st.lists(st.integers(0, 40), min_size=1, max_size=4), chunk=st.integers(1, 7))
def test_random_programs_in_functions_of_a_few_statements(
    program: Any, outputs: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, made = build(program, unknown=False)
    with monkeypatch.context() as patch:
        patch.setattr(emit, "CHUNK", chunk)
        assert_computes(Graph(inputs, [made[i % len(made)] for i in outputs]), operands())


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500])
def test_a_chain_across_functions(count: int) -> None:
    x = o.placeholder(type=TensorType("float32", (3,)), uid=Identity())
    out, early = x, None
    for i in range(count):
        out = out * o.scalar(1.0 + i / count, "float32") if i % 2 else o.maximum(out, -out)
        early = early or out
    assert early is not None
    assert_computes(Graph([x], [out, early, out + early]), [np.array([0.1, -0.2, 0.3], "float32")])


def test_results_that_are_inputs_constants_or_views_are_copies() -> None:
    x = o.placeholder(type=TensorType("float32", (N, N)), uid=Identity())
    c = o.constant_of(np.ones((2, 2), "float32"))
    y = x * 2.0
    whole = [
        x,
        x,
        c,
        c,
        o.transpose(x, perm=(1, 0)),
        o.reshape(x, shape=(16,)),
        x[1:],
        y,
        o.transpose(y, perm=(1, 0)),
        y[0],
        o.expand_dims(y, axis=0),
    ]
    assert_computes(Graph([x], whole), [np.arange(16, dtype="float32").reshape(4, 4)])


@pytest.mark.parametrize("bound", [0.0, -0.0, 1.5, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("op", [o.maximum, o.minimum], ids=lambda op: op.name)
def test_scalars_held_at_a_bound(op: Any, bound: float) -> None:
    x = o.placeholder(type=TensorType("float32", ()), uid=Identity("x"))
    limit = o.scalar(bound, "float32")
    program = NumpyProgram(Graph([x], [op(x, limit), op(limit, x), op(x * x, limit)]))
    for number in (np.nan, np.inf, -np.inf, 0.0, 2.0, -2.0):
        given = np.array(number, "float32")
        wanted = [op.numpy(given, np.float32(bound))] * 2 + [op.numpy(given * given, np.float32(bound))]
        for value, right in zip(program(given), wanted, strict=True):
            np.testing.assert_array_equal(value, right, strict=True)


def test_a_value_that_dies_is_written_over() -> None:
    x = o.placeholder(type=TensorType("float32", (3,)), uid=Identity())
    source = NumpyProgram(Graph([x], [o.exp(o.negative(o.exp(x)))])).source
    assert source.count("exp(") == 2
    assert "negative(v0, v0)" in source
    assert "exp(v0, v0)" in source
    assert "exp(a0, a0)" not in source


def test_a_view_of_a_value_that_dies_is_written_over_and_a_view_of_an_input_is_not() -> None:
    x = o.placeholder(type=TensorType("float32", (2, 6)), uid=Identity())
    wide = o.exp(x)
    views = [o.transpose(o.reshape(y, shape=(3, 4)), perm=(1, 0)) + 1.0 for y in (wide, x)]
    graph = Graph([x], [o.negative(view) for view in views])
    assert_computes(graph, [np.arange(12, dtype="float32").reshape(2, 6)])
    assert NumpyProgram(Graph([x], graph.outputs[:1])).source.count("add(") == 1
    assert NumpyProgram(Graph([x], graph.outputs[1:])).source.count("add(") == 0
    stretched = o.reshape(o.broadcast_to(wide[0], shape=(2, 6)), shape=(2, 6)) * o.reshape(x, shape=(2, 6))
    assert_computes(Graph([x], [stretched]), [np.arange(12, dtype="float32").reshape(2, 6)])


def test_what_is_asked_for_its_shape_alone_is_not_computed() -> None:
    x = o.placeholder(type=TensorType("float32", (None, 3)), uid=Identity())
    y = o.exp(x)
    loss = o.sum(o.square(y), axis=(0, 1), keepdims=False)
    (slope,) = grad.gradients(loss, [x])
    assert slope is not None
    program = NumpyProgram(Graph([x], [slope]))
    assert "square" not in program.source
    values = np.array([[0, 1, 2]], "float32")
    np.testing.assert_allclose(program(values)[0], 2 * np.exp(2 * values), rtol=1e-6)


LAST = 2**63 - 1
KEYS: list[Any] = [
    (slice(None), slice(1, 3)), slice(2, None), slice(None, -1), slice(None, None, 2), slice(None, None, -1), slice(3, None, -2),
    slice(1, LAST), slice(3, LAST, -1), slice(LAST, 1, -1), slice(-LAST, 2), slice(2, 2), (0, -1), (None, slice(None), None, 1),
    (slice(None), slice(None), None), (), 3, -4, (slice(1, 4, 2), slice(4, 1, -2)),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_slices_as_they_are_spelled(key: Any) -> None:
    x = o.placeholder(type=TensorType("float32", (4, 5)), uid=Identity())
    value = np.arange(20, dtype="float32").reshape(4, 5)
    program = NumpyProgram(Graph([x], [x[key] + 1.0]))
    assert "index(" not in program.source
    np.testing.assert_array_equal(program(value)[0], value[key] + np.float32(1), strict=True)

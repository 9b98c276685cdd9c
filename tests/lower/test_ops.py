"""Every op, by the table of tests/cases: values, types, gradients, expansions, pickles and the programs that engines write."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph.function import Function
from kgraph.ir import grad
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.op import OPS
from kgraph.ir.stream import Stream
from kgraph.ir.types import TensorType, same_size
from kgraph.ir.verify import verify
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES
from kgraph.lower.variable import Variable
from tests.cases import CASES, KNOWN_GAPS, SOURCES
from tests.cases.base import Array, Case, widest
from tests.cases.random import is_plausible
from tests.engines import engines_tested
from tests.lower.batches import BATCHED, Part, run
from tests.numeric import assert_gradient, central_difference, weights

RANDOM = (o.random_uniform, o.random_normal, o.fold_in)


def _gap(case: Case, engine: str) -> list[Any]:
    reason = KNOWN_GAPS.get((engine, str(case)))
    return [] if reason is None else [pytest.mark.xfail(reason=reason)]


def _rows(cases: Sequence[Case]) -> list[Any]:
    """Rows for each engine; what an engine is known not to do is expected to fail."""
    return [
        pytest.param(case, engine, id=f"{case}-{engine}", marks=_gap(case, engine))
        for case in cases
        for engine in engines_tested()
    ]


def placeholder(dtype: str, shape: Sequence[int | None]) -> Node:
    return o.placeholder(type=TensorType(dtype, tuple(shape)), uid=Identity())


def placeholders(case: Case, known: bool, inputs: Sequence[Array] | None = None) -> list[Node]:
    """A placeholder per operand; scalars of sizes are known to be scalars."""
    return [placeholder(x.dtype.name, shape) for x, shape in zip(inputs or case.inputs, case.shapes(known), strict=True)]


def assert_value(case: Case, found: Any) -> None:
    if case.op in RANDOM:
        is_plausible(case, found)
    else:
        case.close(np.asarray(found))


def assert_type(case: Case, node: Node, known: bool) -> None:
    """The static type is the real one, as far as it is known."""
    wanted = case.expected()
    assert node.dtype == wanted.dtype.name
    if known:
        assert node.type.shape == (wanted.shape if case.known is None else case.known)
    assert len(node.type.shape) == wanted.ndim
    assert all(size in (None, real) for size, real in zip(node.type.shape, wanted.shape, strict=True))


# ---------------------------------------------------------------------------------------------------- values and types


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("case", "engine"), _rows(CASES))
def test_value(case: Case, engine: str, known: bool) -> None:
    def part(case: Case) -> Part:
        given = placeholders(case, known)
        return given, [case.node(*given)], list(case.inputs)

    assert_type(case, part(case)[1][0], known)
    # Compiled for sizes that are not known, which any sizes go through; gradients are for those that are.
    (found,) = run(engine, ("value", known), case, CASES, part, compiled=not known)
    assert type(found) is np.ndarray
    assert_value(case, found)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_of_the_plain_evaluator(case: Case) -> None:
    for known in (True, False):
        given = placeholders(case, known)
        graph = Graph(given, [case.node(*given)])
        verify(graph)
        with np.errstate(all="ignore"):
            (found,) = evaluator(graph, RULES)(*case.inputs)
        assert_value(case, found)


@pytest.mark.parametrize(("case", "engine"), _rows(CASES))
def test_constant_operands(case: Case, engine: str) -> None:
    def part(case: Case) -> Part:
        return [], [case.node(*[o.constant_of(x) for x in case.inputs])], []

    for optimize in (True, False):
        (found,) = run(engine, ("constants", optimize), case, CASES, part, optimize, compiled=False)
        assert_value(case, found)


# ---------------------------------------------------------------------------------------------------- gradients


def in_float64(case: Case) -> tuple[list[Array], dict[str, Any]]:
    """The operands and attrs of a row with every float a float64."""
    attrs = dict(case.attrs)
    if "dtype" in attrs and case.op is not o.cast:
        attrs["dtype"] = "float64"
    return [widest(x) for x in case.inputs], attrs


class Slopes:
    """The gradient graph of a row: of the weighted sum of its result, with respect to each float operand."""

    def __init__(self, case: Case, known: bool, build: Callable[..., Node] | None = None):
        self.case = case
        self.inputs, attrs = in_float64(case)
        self.given = placeholders(case, known, self.inputs)
        self.out = build(*self.given) if build else case.build(*self.given) if case.build else case.op(*self.given, **attrs)
        self.weights = weights(case.expected().shape)
        ws = self.weights.shape if known else [1 if size == 1 else None for size in self.out.type.shape]
        self.w = placeholder("float64", ws)
        loss = o.sum(o.cast(self.out, dtype="float64") * self.w, axis=tuple(range(self.out.ndim)), keepdims=False)
        self.wrt = [x for x in self.given if x.type.is_float]
        self.gradients = grad.gradients(loss, self.wrt, "none")
        self.positions = [i for i, x in enumerate(self.given) if x.type.is_float]

    def part(self) -> Part:
        """The gradients that there are."""
        return [*self.given, self.w], [g for g in self.gradients if g is not None], [*self.inputs, self.weights]

    def oracle(self, *inputs: Array) -> float:
        with np.errstate(all="ignore"):
            return float(np.sum(np.asarray(self.case.oracle(*inputs)) * self.weights))

    def expected(self) -> list[Any]:
        if callable(self.case.grad):
            with np.errstate(all="ignore"):
                found = list(self.case.grad(self.weights, *self.inputs))
            return [found[i] for i in self.positions] if len(found) == len(self.inputs) else found
        return [central_difference(self.oracle, self.inputs, i) for i in self.positions]


_SLOPED = [case for case in CASES if case.differentiable]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("case", "engine"), _rows(_SLOPED))
def test_gradient(case: Case, engine: str, known: bool) -> None:
    slopes = Slopes(case, known)
    for x, g in zip(slopes.wrt, slopes.gradients, strict=True):
        if g is not None:
            assert g.dtype == x.dtype
            assert g.type.shape == x.type.shape if known else all(map(same_size, g.type.shape, x.type.shape))
    found = iter(run(engine, ("gradient", known), case, _SLOPED, lambda case: Slopes(case, known).part(), compiled=known))
    for g, wanted in zip(slopes.gradients, slopes.expected(), strict=True):
        if wanted is None:
            assert g is None
        else:
            assert_gradient(None if g is None else next(found), np.asarray(wanted))


class Curves:
    """The second gradients of a row: of a weighted sum of the first ones, with respect to the operands and the cotangent."""

    def __init__(self, case: Case):
        slopes = Slopes(case, known=True)
        self.inputs, first, self.values = slopes.part()
        assert first
        terms = [
            o.sum(g * o.constant_of(weights(g.type.shape, seed=i)), axis=tuple(range(g.ndim)), keepdims=False)
            for i, g in enumerate(first)
        ]
        self.total = sum(terms[1:], terms[0])
        self.second = grad.gradients(self.total, [*slopes.wrt, slopes.w], "none")
        self.positions = [*slopes.positions, len(self.values) - 1]

    def part(self) -> Part:
        return self.inputs, [g for g in self.second if g is not None], self.values


_CURVED = [case for case in CASES if case.curved]


@pytest.mark.parametrize(("case", "engine"), _rows(_CURVED))
def test_second_gradient(case: Case, engine: str) -> None:
    """The gradient of a weighted sum of the first gradients, with respect to the operands and the cotangent, against differences."""
    curves = Curves(case)
    # Where engines compile for long, the first gradient, which has a test of its own, is that of NumPy.
    slope = Function(curves.inputs, curves.total, engine="numpy" if engine in BATCHED else engine)
    found = iter(run(engine, "second gradient", case, _CURVED, lambda case: Curves(case).part(), compiled=False))
    for position, g in zip(curves.positions, curves.second, strict=True):
        wanted = central_difference(lambda *xs: float(slope(list(xs))), curves.values, position)
        assert_gradient(None if g is None else next(found), wanted)


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.vjp is None and not op.source and op not in RANDOM], ids=lambda op: op.name
)
def test_an_op_without_a_gradient_ends_the_path(op: Any) -> None:
    case = next(case for case in CASES if case.op is op)
    given = placeholders(case, known=True)
    loss = o.cast(case.node(*given), dtype="float32")
    assert grad.gradients(loss, given, "none") == [None] * len(given)


# ---------------------------------------------------------------------------------------------------- expansions


def expansion(case: Case) -> Callable[..., Node]:
    def build(*nodes: Node) -> Node:
        made = case.node(*nodes)
        if made.op is o.item:
            inner = made.inputs[0]
            assert inner.op.expand is not None
            return inner.op.expand(*inner.inputs, **dict(inner.attrs))[made.attr("index")]  # type: ignore[no-any-return]
        assert made.op.expand is not None
        return made.op.expand(*made.inputs, **dict(made.attrs))  # type: ignore[no-any-return]

    return build


_EXPANDED = [case for case in CASES if case.op.expand is not None]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("case", "engine"), _rows(_EXPANDED))
def test_expansion_has_the_value_of_the_op(case: Case, engine: str, known: bool) -> None:
    def part(case: Case) -> Part:
        given = placeholders(case, known)
        return given, [expansion(case)(*given)], list(case.inputs)

    given, (out,), _ = part(case)
    assert case.op not in (node.op for node in (out, *out.inputs))
    assert out.dtype == case.node(*given).dtype
    case.close(run(engine, ("expansion", known), case, _EXPANDED, part, compiled=False)[0])


_SLOPED_EXPANDED = [case for case in _EXPANDED if case.differentiable and case.grad is True]


@pytest.mark.parametrize(("case", "engine"), _rows(_SLOPED_EXPANDED))
def test_expansion_has_the_gradient_of_the_op(case: Case, engine: str) -> None:
    slopes = Slopes(case, known=True, build=expansion(case))
    found = iter(
        run(
            engine,
            "gradient of expansion",
            case,
            _SLOPED_EXPANDED,
            lambda case: Slopes(case, known=True, build=expansion(case)).part(),
            compiled=False,
        )
    )
    for position, x, g in zip(slopes.positions, slopes.wrt, slopes.gradients, strict=True):
        assert g is None or g.dtype == x.dtype
        assert_gradient(None if g is None else next(found), central_difference(slopes.oracle, slopes.inputs, position))


# ---------------------------------------------------------------------------------------------------- forms of one graph


def forward_and_back(case: Case, known: bool) -> tuple[Graph, list[Array]]:
    """A row with its gradients, which a program computes in one go, over and over the same memory."""
    if not case.differentiable:
        given = placeholders(case, known)
        return Graph(given, [case.node(*given)]), list(case.inputs)
    slopes = Slopes(case, known)
    return Graph([*slopes.given, slopes.w], [slopes.out, *(g for g in slopes.gradients if g is not None)]), [
        *slopes.inputs,
        slopes.weights,
    ]


def assert_same_bits(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    for a, b in zip(found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_written_program_computes_what_the_plain_evaluator_does(case: Case, known: bool) -> None:
    graph, values = forward_and_back(case, known)
    kept = [x.copy() for x in values]
    found = NumpyProgram(graph)(*values)
    with np.errstate(all="ignore"):
        assert_same_bits(found, evaluator(graph, RULES)(*values))
    assert_same_bits(values, kept)  # nothing was written over an operand
    for i, result in enumerate(found):
        assert not any(np.shares_memory(result, other) for other in (*values, *found[:i]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_pickle_gives_equal_values(case: Case) -> None:
    graph, values = forward_and_back(case, known=True)
    loaded = pickle.loads(pickle.dumps(graph))
    verify(loaded)
    assert [node.type for node in loaded.roots] == [node.type for node in graph.roots]
    with np.errstate(all="ignore"):
        assert_same_bits(evaluator(loaded, RULES)(*values), evaluator(graph, RULES)(*values))


# ---------------------------------------------------------------------------------------------------- the table


def test_every_op_has_a_case() -> None:
    assert {case.op.name for case in CASES} | set(SOURCES) == set(OPS)
    assert {op.name for op in OPS.values() if op.source} == set(SOURCES)
    assert set(SOURCES.values()) <= set(globals())


def test_every_known_gap_is_a_row() -> None:
    assert {row for _, row in KNOWN_GAPS} <= {str(case) for case in CASES}


def test_every_differentiable_op_has_a_row_with_a_gradient() -> None:
    with_gradient = {op.name for op in OPS.values() if op.vjp is not None}
    assert {case.op.name for case in CASES if case.differentiable} == with_gradient


# ---------------------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize(
    "value", [np.float32(2.5), np.arange(6, dtype="int8").reshape(2, 3), np.zeros((0, 2))], ids=["0d", "2d", "empty"]
)
def test_a_variable_has_the_value_set_last(value: Any, engine: str) -> None:
    value = np.asarray(value)
    kind = TensorType(value.dtype.name, value.shape)
    storage = Variable("v", kind, value)
    run = Function([], [o.variable(type=kind, uid=storage)])
    assert_same_bits(run(), [value])
    storage.set(value + value.dtype.type(1))
    assert_same_bits(run(), [value + value.dtype.type(1)])


def test_a_stream_gives_its_seed_and_counts_the_calls(engine: str) -> None:
    run = Function([], [o.stream(uid=Stream(42)), o.stream(uid=Stream(-1))])
    assert [[key.tolist() for key in run()] for _ in range(3)] == [[[42, n], [-1, n]] for n in range(3)]


def test_the_learning_phase_is_0_in_test_and_1_in_train_programs(engine: str) -> None:
    run = Function([], o.learning_phase())
    assert (run(), run(training=True), run(training=False)) == (0, 1, 0)
    assert run().dtype == "uint8"

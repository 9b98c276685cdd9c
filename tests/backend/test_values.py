"""Every K function, by the table of tests/kcases: values, types, shapes, gradients, and what may be given for a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.ir.tensor import Tensor
from tests.cases.base import Array, widest
from tests.engines import engines_installed
from tests.kcases import KCASES, KNOWN_GAPS
from tests.kcases.base import KCase
from tests.numeric import assert_gradient, central_difference, weights

ENGINES = engines_installed()


def _rows(cases: Sequence[KCase]) -> list[Any]:
    """Rows for each engine; what an engine is known not to do is expected to fail."""
    return [
        pytest.param(
            case,
            engine,
            id=f"{case}-{engine}",
            marks=[pytest.mark.xfail(reason=KNOWN_GAPS[engine, str(case)])] if (engine, str(case)) in KNOWN_GAPS else [],
        )
        for case in cases
        for engine in ENGINES
    ]


def placeholders(inputs: Sequence[Array], shapes: Sequence[Any]) -> list[Any]:
    return [K.placeholder(shape, dtype=x.dtype.name) for x, shape in zip(inputs, shapes, strict=True)]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("case", "engine"), _rows(KCASES))
def test_value_dtype_and_shape(case: KCase, engine: str, known: bool) -> None:
    given = placeholders(case.inputs, case.shapes(known))
    out = case.tensor(*given)
    wanted = case.expected()
    assert type(out) is Tensor
    assert all(out is not x for x in given)
    assert K.dtype(out) == wanted.dtype.name
    assert K.ndim(out) == wanted.ndim
    assert all(size in (None, real) for size, real in zip(K.int_shape(out), wanted.shape, strict=True))
    if known:
        assert K.int_shape(out) == (wanted.shape if case.known is None else case.known)
    (found,) = K.function(given, [out], engine=engine)(list(case.inputs))
    assert type(found) is np.ndarray
    case.close(found)


@pytest.mark.parametrize(("case", "engine"), _rows([case for case in KCASES if case.inputs]))
def test_variables_and_arrays_in_the_place_of_tensors(case: KCase, engine: str) -> None:
    variables = [K.variable(x, dtype=x.dtype.name) for x in case.inputs]
    case.close(K.function([], case.tensor(*variables), engine=engine)())
    if case.arrays and all(x.ndim for x in case.inputs):
        case.close(K.function([], case.tensor(*case.inputs), engine=engine)())


class Slopes:
    """The gradients of the weighted sum of a row's result, with respect to its float operands, in float64."""

    def __init__(self, case: KCase, known: bool):
        self.case = case
        self.inputs = [widest(x) for x in case.inputs]
        self.given = placeholders(self.inputs, case.shapes(known))
        self.positions = [i for i, x in enumerate(self.inputs) if x.dtype.kind == "f"]
        self.wrt = [self.given[i] for i in self.positions]
        out = case.tensor(*self.given)
        self.weights = weights(case.expected().shape)
        self.gradients = K.gradients(K.sum(K.cast(out, "float64") * self.weights), self.wrt, disconnected="none")

    def expected(self) -> list[Any]:
        if callable(self.case.grad):
            with np.errstate(all="ignore"):
                found = list(self.case.grad(self.weights, *self.inputs))
            return [found[i] for i in self.positions]
        return [central_difference(self.oracle, self.inputs, i) for i in self.positions]

    def oracle(self, *inputs: Array) -> float:
        with np.errstate(all="ignore"):
            return float(np.sum(np.asarray(self.case.oracle(*inputs)) * self.weights))


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("case", "engine"), _rows([case for case in KCASES if case.differentiable]))
def test_gradient(case: KCase, engine: str, known: bool) -> None:
    slopes = Slopes(case, known)
    for x, g in zip(slopes.wrt, slopes.gradients, strict=True):
        assert g is None or (K.dtype(g) == K.dtype(x) and K.ndim(g) == K.ndim(x))
        assert g is None or not known or K.int_shape(g) == K.int_shape(x)
    found = iter(K.function(slopes.given, [g for g in slopes.gradients if g is not None], engine=engine)(slopes.inputs))
    for g, wanted in zip(slopes.gradients, slopes.expected(), strict=True):
        if wanted is None:
            assert g is None
        else:
            assert_gradient(None if g is None else next(found), np.asarray(wanted))


@pytest.mark.parametrize(("case", "engine"), _rows([case for case in KCASES if case.curved]))
def test_second_gradient(case: KCase, engine: str) -> None:
    slopes = Slopes(case, known=True)
    first = [g for g in slopes.gradients if g is not None]
    assert first
    total = sum(K.sum(g * weights(K.int_shape(g), seed=i)) for i, g in enumerate(first))
    second = K.gradients(total, slopes.wrt, disconnected="none")
    slope = K.function(slopes.given, total, engine=engine)
    found = iter(K.function(slopes.given, [g for g in second if g is not None], engine=engine)(slopes.inputs))
    for position, g in zip(slopes.positions, second, strict=True):
        wanted = central_difference(lambda *xs: float(slope(list(xs))), slopes.inputs, position)
        assert_gradient(None if g is None else next(found), wanted)


def test_every_known_gap_is_a_row() -> None:
    assert {row for _, row in KNOWN_GAPS} <= {str(case) for case in KCASES}

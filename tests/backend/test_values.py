"""Every K function, by the table of tests/kcases: values, types, shapes, gradients, and what may be given for a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.ir.tensor import Tensor
from tests.cases.base import Array, widest
from tests.engines import engines_tested
from tests.kcases import KCASES, KNOWN_GAPS
from tests.kcases.base import KCase
from tests.lower.batches import BATCHED, Part, run
from tests.numeric import assert_gradient, central_difference, weights

ENGINES = engines_tested()


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
    def part(case: KCase) -> Part:
        given = placeholders(case.inputs, case.shapes(known))
        return given, [case.tensor(*given)], list(case.inputs)

    given, (out,), _ = part(case)
    wanted = case.expected()
    assert type(out) is Tensor
    assert all(out is not x for x in given)
    assert K.dtype(out) == wanted.dtype.name
    assert K.ndim(out) == wanted.ndim
    assert all(size in (None, real) for size, real in zip(K.int_shape(out), wanted.shape, strict=True))
    if known:
        assert K.int_shape(out) == (wanted.shape if case.known is None else case.known)
    (found,) = run(engine, ("K", known), case, KCASES, part, compiled=False)  # what ops compile to is tested for each op
    assert type(found) is np.ndarray
    case.close(found)


_WITH_TENSORS = [case for case in KCASES if case.inputs]


@pytest.mark.parametrize(("case", "engine"), _rows(_WITH_TENSORS))
def test_variables_and_arrays_in_the_place_of_tensors(case: KCase, engine: str) -> None:
    def part(case: KCase) -> Part:
        made = [case.tensor(*[K.variable(x, dtype=x.dtype.name) for x in case.inputs])]
        if case.arrays and all(x.ndim for x in case.inputs):
            made.append(case.tensor(*case.inputs))
        return [], made, []

    for found in run(engine, "K of variables", case, _WITH_TENSORS, part, compiled=False):
        case.close(found)


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

    def part(self) -> Part:
        """The gradients that there are."""
        return self.given, [g for g in self.gradients if g is not None], self.inputs

    def expected(self) -> list[Any]:
        if callable(self.case.grad):
            with np.errstate(all="ignore"):
                found = list(self.case.grad(self.weights, *self.inputs))
            return [found[i] for i in self.positions]
        return [central_difference(self.oracle, self.inputs, i) for i in self.positions]

    def oracle(self, *inputs: Array) -> float:
        with np.errstate(all="ignore"):
            return float(np.sum(np.asarray(self.case.oracle(*inputs)) * self.weights))


_SLOPED = [case for case in KCASES if case.differentiable]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(("case", "engine"), _rows(_SLOPED))
def test_gradient(case: KCase, engine: str, known: bool) -> None:
    slopes = Slopes(case, known)
    for x, g in zip(slopes.wrt, slopes.gradients, strict=True):
        assert g is None or (K.dtype(g) == K.dtype(x) and K.ndim(g) == K.ndim(x))
        assert g is None or not known or K.int_shape(g) == K.int_shape(x)
    found = iter(
        run(engine, ("K gradient", known), case, _SLOPED, lambda case: Slopes(case, known).part(), compiled=False)
    )
    for g, wanted in zip(slopes.gradients, slopes.expected(), strict=True):
        if wanted is None:
            assert g is None
        else:
            assert_gradient(None if g is None else next(found), np.asarray(wanted))


class Curves:
    """The second gradients of a row: of a weighted sum of the first ones, with respect to its float operands."""

    def __init__(self, case: KCase):
        self.slopes = Slopes(case, known=True)
        _, first, _ = self.slopes.part()
        assert first
        self.total = sum(K.sum(g * weights(K.int_shape(g), seed=i)) for i, g in enumerate(first))
        self.second = K.gradients(self.total, self.slopes.wrt, disconnected="none")

    def part(self) -> Part:
        return self.slopes.given, [g for g in self.second if g is not None], self.slopes.inputs


_CURVED = [case for case in KCASES if case.curved]


@pytest.mark.parametrize(("case", "engine"), _rows(_CURVED))
def test_second_gradient(case: KCase, engine: str) -> None:
    curves = Curves(case)
    slopes = curves.slopes
    # Where engines compile for long, the first gradient, which has a test of its own, is that of NumPy.
    slope = K.function(slopes.given, curves.total, engine="numpy" if engine in BATCHED else engine)
    found = iter(run(engine, "K second gradient", case, _CURVED, lambda case: Curves(case).part(), compiled=False))
    for position, g in zip(slopes.positions, curves.second, strict=True):
        wanted = central_difference(lambda *xs: float(slope(list(xs))), slopes.inputs, position)
        assert_gradient(None if g is None else next(found), wanted)


def test_every_known_gap_is_a_row() -> None:
    assert {row for _, row in KNOWN_GAPS} <= {str(case) for case in KCASES}

"""The meaning of sigmoid over all that its dtype holds: the plain formula overflows for large negative numbers."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from kgraph.ir import ops as o

EDGES = {"float16": (-17.5, 9), "float32": (-104.5, 18), "float64": (-746, 40)}


def exact(x: float) -> float:
    with localcontext() as context:
        context.prec = 60
        return float(1 / (1 + (-Decimal(x)).exp()))


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("dtype", EDGES)
def test_every_result_is_within_three_units_in_the_last_place(dtype: str, alone: bool) -> None:
    x = np.linspace(*EDGES[dtype], 400, dtype=dtype)
    with np.errstate(over="ignore", under="ignore"):  # as programs do
        found = np.array([o.sigmoid.numpy(part) for part in x]) if alone else o.sigmoid.numpy(x)  # type: ignore[misc]
    wanted = np.array([exact(float(number)) for number in x])
    unit = np.spacing(np.maximum(wanted, np.finfo(dtype).smallest_subnormal).astype(dtype)).astype("float64")
    assert found.dtype == dtype
    close = np.abs(found.astype("float64") - wanted) <= 3 * unit
    # Engines differ in whether they have numbers that small at all; those of float16 are large enough to matter.
    assert np.all(close | ((found == 0) & (wanted < np.finfo(dtype).smallest_normal) & (dtype != "float16")))


def test_a_number_has_the_same_sigmoid_in_any_company() -> None:
    x = np.linspace(-80, 80, 101, dtype="float32")
    with np.errstate(over="ignore"):
        together = o.sigmoid.numpy(np.append(x, np.float32(-1000)))[:-1]  # type: ignore[misc]
    np.testing.assert_array_equal(o.sigmoid.numpy(x), together)  # type: ignore[misc]

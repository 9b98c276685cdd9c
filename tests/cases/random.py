"""Rows of random draws. What they give is up to the engine; what holds for it is asserted instead of a value."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import Array, Case, array, size

KEY = array([42, 7], "int64")


def _draws() -> list[Case]:
    rows = []
    for op in (o.random_uniform, o.random_normal):
        for dtype in ("float16", "float32", "float64"):
            for shape in ((3, 4), (), (0, 2), (1,)):
                rows.append(
                    Case(op, [KEY], {"shape": shape, "dtype": dtype}, lambda key, s=shape: np.zeros(s), dtype=dtype, fixed=True)
                )
        sizes = [size(3), size(2, "int64")]
        rows.append(
            Case(
                op,
                [KEY, *sizes],
                {"shape": (None, 4, None), "dtype": "float32"},
                lambda *_: np.zeros((3, 4, 2)),
                dtype="float32",
                known=(None, 4, None),
                fixed=True,
            )
        )
    for step in (size(0), size(5, "int64"), size(3, "uint8"), size(-1)):
        rows.append(Case(o.fold_in, [KEY, step], {}, lambda key, step: np.zeros(2), dtype="int64", fixed=True))
    return rows


def is_plausible(case: Case, found: Any) -> None:
    """Asserts what holds for every draw of so few numbers, in the place of a value."""
    wanted: Array = case.expected()
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    if case.op is o.random_uniform:
        assert ((found >= 0) & (found < 1)).all()
    if case.op is o.random_normal:
        assert (np.abs(found) < 6).all()
    if case.op is o.fold_in:
        assert not np.array_equal(found, case.inputs[0])


ROWS = _draws()

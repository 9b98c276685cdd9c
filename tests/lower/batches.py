"""Programs of many rows of the table at once, for engines that take seconds to compile one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pytest

from kgraph.function import Function
from kgraph.ir.node import Node
from tests.cases.base import Array, Case

#: Engines whose rows are run by one program for each op.
BATCHED = ("theano",)

#: The graph of one row: placeholders, what is computed of them, the values fed.
Part = tuple[list[Node], list[Node], list[Array]]

_results: dict[Hashable, dict[Case, list[Array]] | None] = {}


def marks_for(case: Case, engine: str) -> list[Any]:
    """Rows that share programs go to one worker of pytest-xdist."""
    return [pytest.mark.xdist_group(f"{engine}-{case.op.name}")] if engine in BATCHED else []


def run(
    engine: str, kind: Hashable, case: Case, cases: Sequence[Case], part_of: Callable[[Case], Part], optimize: bool = True
) -> list[Array]:
    """What the graph of a row gives: by a program of its own, or from the program of all rows of its op.

    Args:
      kind: what is asked of the rows: equal kinds have equal cases and parts.
    """
    if engine not in BATCHED:
        given, outputs, values = part_of(case)
        return Function(given, outputs, engine=engine, optimize=optimize)(values)  # type: ignore[no-any-return]
    key = (engine, kind, case.op)
    if key not in _results:
        _results[key] = _run_all(engine, [c for c in cases if c.op is case.op], part_of, optimize)
    batch = _results[key]
    if batch is None:
        return _run_all(engine, [case], part_of, optimize, alone=True)[case]  # type: ignore[index]
    return batch[case]


def _run_all(
    engine: str, cases: Sequence[Case], part_of: Callable[[Case], Part], optimize: bool, alone: bool = False
) -> dict[Case, list[Array]] | None:
    """The results of many rows; None if one of them fails, so that each is then run alone."""
    try:
        parts = {case: part_of(case) for case in cases}
        given = [node for part in parts.values() for node in part[0]]
        outputs = [node for part in parts.values() for node in part[1]]
        values = [value for part in parts.values() for value in part[2]]
        found = iter(Function(given, outputs, engine=engine, optimize=optimize)(values))
    except Exception:
        if alone:
            raise
        return None
    return {case: [next(found) for _ in part[1]] for case, part in parts.items()}

"""Programs of many rows of a table at once, for engines that take seconds to compile one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from kgraph.function import Function
from tests.cases.base import Array, Row

#: Engines whose rows are run by one program for each op or K function, and what they are told where rows need not be compiled.
BATCHED: dict[str, dict[str, Any]] = {"theano": {"c_code": False}}

#: The graph of one row: placeholders, what is computed of them, the values fed.
Part = tuple[Sequence[Any], Sequence[Any], Sequence[Array]]

R = TypeVar("R", bound=Row)

_results: dict[Hashable, dict[Any, list[Array]] | None] = {}


def run(
    engine: str,
    kind: Hashable,
    case: R,
    cases: Sequence[R],
    part_of: Callable[[R], Part],
    optimize: bool = True,
    compiled: bool = True,
) -> list[Array]:
    """What the graph of a row gives: by a program of its own, or from the program of all rows of its op or function.

    Args:
      kind: what is asked of the rows: equal kinds have equal cases and parts.
      compiled: whether an engine that takes long to compile a program is to compile this one, or to run it as it can without.
    """
    options = {} if compiled else BATCHED.get(engine, {})
    if engine not in BATCHED:
        return _run_all(engine, [case], part_of, optimize, options)[case]
    key = (engine, kind, case.of)
    if key not in _results:
        try:
            _results[key] = _run_all(engine, [c for c in cases if c.of is case.of], part_of, optimize, options)
        except Exception:
            _results[key] = None  # one of them fails: each is run alone
    batch = _results[key]
    return _run_all(engine, [case], part_of, optimize, options)[case] if batch is None else batch[case]


def _run_all(
    engine: str, cases: Sequence[R], part_of: Callable[[R], Part], optimize: bool, options: dict[str, Any]
) -> dict[R, list[Array]]:
    """The results of rows by one program."""
    parts = {case: part_of(case) for case in cases}
    given = [x for part in parts.values() for x in part[0]]
    outputs = [x for part in parts.values() for x in part[1]]
    values = [value for part in parts.values() for value in part[2]]
    found = iter(Function(given, outputs, engine=engine, optimize=optimize, options=options)(values))
    return {case: [next(found) for _ in part[1]] for case, part in parts.items()}

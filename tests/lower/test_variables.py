"""A variable has one value on every engine: it stays where it was written last, and moves only when another engine reads it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgraph import backend as K
from kgraph.lower.engine import Engine
from kgraph.lower.numpy import RULES
from tests.lower.toy_cells import CellEngine
from tests.lower.toy_far import far_engine

ENGINES = ("numpy", "far", "cells")
#: How a value gets to an engine's storage from the host, and back.
THERE, BACK = {"far": "sent", "cells": "put"}, {"far": "fetched", "cells": "taken"}


class Model:
    """Where the value of one variable is, and the moves that are needed. NumPy works on the host."""

    def __init__(self) -> None:
        self.at = {"numpy"}

    def needed_at(self, engine: str) -> list[str]:
        moves: list[str] = []
        if engine not in self.at:
            if "numpy" not in self.at:
                moves.append(BACK[next(iter(self.at))])
            if engine != "numpy":
                moves.append(THERE[engine])
            self.at |= {"numpy", engine}
        return moves


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "overwrite", "read", "set", "get"]), st.sampled_from(ENGINES)), max_size=15))
def test_a_value_moves_only_when_it_is_read_where_it_is_not(program: list[tuple[str, str]]) -> None:
    moves: list[str] = []
    engines: dict[str, Any] = {"numpy": "numpy", "far": far_engine(moves), "cells": CellEngine(moves)}
    v, x = K.variable([1.0, 2.0], dtype="float64"), K.placeholder((2,), dtype="float64")
    functions = {}
    for name, engine in engines.items():
        functions["add", name] = K.function([x], [], [(v, v + x)], engine=engine)
        functions["overwrite", name] = K.function([x], [], [(v, x * 2)], engine=engine)
        functions["read", name] = K.function([x], v * x, engine=engine)
    assert moves == []

    model, value = Model(), np.array([1.0, 2.0])
    for number, (what, engine) in enumerate(program):
        fed = np.array([0.5, float(number)])
        wanted: list[str] = []
        if what == "set":
            K.set_value(v, fed)
            value, model.at = fed, {"numpy"}
        elif what == "get":
            wanted = model.needed_at("numpy")
            np.testing.assert_array_equal(K.get_value(v), value)
        elif what == "read":
            wanted = model.needed_at(engine) + [BACK["far"]] * (engine == "far")  # the result comes back too
            np.testing.assert_array_equal(functions[what, engine]([fed]), value * fed)
        else:
            # What cells hold has to be the value also if the call fails: before it is written over it is put there.
            wanted = model.needed_at(engine) if what == "add" or engine == "cells" else []
            assert functions[what, engine]([fed]) == []
            value, model.at = value + fed if what == "add" else fed * 2, {engine}
        assert moves == wanted, (number, what, engine)
        moves.clear()
    np.testing.assert_array_equal(K.get_value(v), value)


def test_a_function_that_does_not_read_a_variable_does_not_move_it() -> None:
    moves: list[str] = []
    v, w = K.variable([1.0]), K.variable([2.0])
    K.function([], [], [(v, v + 1)], engine=far_engine(moves))()
    moves.clear()
    cells = CellEngine(moves)
    read = K.function([], w * 2, engine=cells)
    assert [read(), read()] == [4, 4]
    assert moves == ["put"]
    K.function([], [K.shape(v)[0], K.zeros_like(v)], engine=cells)()  # its size is known without its value
    assert moves == ["put"]
    assert K.get_value(v) == [2]
    assert moves == ["put", "fetched"]


@pytest.mark.parametrize("make", [far_engine, CellEngine])
def test_a_call_that_fails_moves_no_value_away_from_where_it_is(make: Any) -> None:
    moves: list[str] = []
    engine = make(moves)
    v, x = K.variable([1.0, 2.0]), K.placeholder((None,))
    add = K.function([x], [], [(v, v + 1)], engine=engine)
    wrong = K.function([x], [], [(v, x * 1)], engine=engine)
    add([[0]])
    moves.clear()
    for _ in range(2):
        with pytest.raises(ValueError, match="shape"):
            wrong([[1, 2, 3]])
    add([[0]])
    assert moves == []
    assert K.get_value(v).tolist() == [3, 4]


def test_engines_of_one_name_have_storages_of_their_own() -> None:
    first: list[str] = []
    second: list[str] = []
    v, x = K.variable([1.0]), K.placeholder((1,))
    for moves in (first, second):  # an engine that is being written, say
        K.function([x], [], [(v, v + x)], engine=far_engine(moves))([[2]])
    assert (first, second) == (["sent", "fetched"], ["sent"])
    assert K.get_value(v) == [5]


def test_an_engine_without_ways_of_its_own_keeps_arrays() -> None:
    v, x = K.variable([1.0, 2.0]), K.placeholder((2,))
    plain = K.function([x], v, [(v, v + x)], engine=Engine("plain", RULES))
    numpy = K.function([x], v, [(v, v * x)], engine="numpy")
    assert plain([[1, 1]]).tolist() == [1, 2]
    assert numpy([[10, 10]]).tolist() == [2, 3]
    assert plain([[1, 1]]).tolist() == [20, 30]
    assert K.get_value(v).tolist() == [21, 31]


def test_engines_that_update_one_variable_by_turns_see_one_value(engine: str) -> None:
    v, x = K.variable([1, 2], dtype="int64"), K.placeholder((2,), dtype="int64")
    others: list[Any] = ["numpy", far_engine([]), CellEngine([]), engine]
    steps = [K.function([x], v + x, [(v, v * 2 + x)], engine=other) for other in others]
    value = np.array([1, 2])
    for number in range(12):
        fed = [number, 1]
        np.testing.assert_array_equal(steps[number * 7 % 4]([fed]), value + fed)
        value = value * 2 + fed
        if number % 5 == 4:
            np.testing.assert_array_equal(K.get_value(v), value)
            value = np.array([number, -number])
            K.set_value(v, value)
    np.testing.assert_array_equal(K.get_value(v), value)


def test_threads_that_update_one_variable_on_several_engines_lose_nothing() -> None:
    v, n, x = K.variable(0, dtype="int64"), K.variable(0, dtype="int64"), K.placeholder((), dtype="int64")
    engines: list[Any] = ["numpy", far_engine([]), CellEngine([])]
    steps = [K.function([x], [v, n], [(v, v + x), (n, n + 1)], engine=engine) for engine in engines]

    def work(number: int) -> bool:
        pairs = [steps[number]([10 ** (3 * number)]) for _ in range(300)]
        return all(sum(divmod(int(total) // 1000**i, 1000)[1] for i in range(3)) == count for total, count in pairs)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [True] * 3  # every call has seen both of one moment
    assert (K.get_value(v), K.get_value(n)) == (300300300, 900)

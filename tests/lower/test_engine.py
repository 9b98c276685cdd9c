"""The contract of an engine: toy ones run real programs; tables, options and rules that fail; engines made known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph import cache
from kgraph.errors import EngineError, MissingRule, UpdateError
from kgraph.ir.op import OPS
from kgraph.lower.engine import Engine, engine_names, engines_loaded, get_engine, register, unregister
from kgraph.lower.numpy import RULES
from tests.lower.toy_cells import CellEngine
from tests.lower.toy_far import far_engine
from tests.process import run_python

TOYS: dict[str, Callable[[], Engine]] = {"far": lambda: far_engine([]), "cells": lambda: CellEngine([])}
#: What an engine leaves out -> one that does.
WITHOUT: dict[str, Callable[[], Engine]] = {
    "all but rules": lambda: Engine("plain", RULES),
    "a rule for branches": lambda: CellEngine([], without=("cond",)),
    "what has a simpler form": lambda: CellEngine([], without=tuple(name for name, op in OPS.items() if op.expand)),
}
LAZY = [*TOYS, "all but rules"]


def made(name: str) -> Engine:
    return {**TOYS, **WITHOUT}[name]()


@pytest.fixture(params=[*TOYS, *WITHOUT])
def toy(request: pytest.FixtureRequest) -> Engine:
    """Each toy engine in turn, and engines that leave out what they may."""
    return made(request.param)


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_engine_takes_fewer_than_sixty_lines(name: str) -> None:
    assert len(Path(__file__).with_name(f"toy_{name}.py").read_text(encoding="utf-8").splitlines()) < 60


# ---------------------------------------------------------------------------------------------------- real programs

CLASSES, FEATURES, RATE, DECAY = 3, 4, 0.5, 0.1


class Classifier:
    """Softmax regression by gradient descent: a step on the crossentropy, or one that only makes the weights smaller."""

    def __init__(self, engine: Engine, optimize: bool = True):
        draw = np.random.default_rng(1)
        self.start = [draw.normal(size=(FEATURES, CLASSES)), draw.normal(size=CLASSES)]
        self.weights = [K.variable(value, dtype="float64") for value in self.start]
        w, b = self.weights
        x, t = K.placeholder((None, FEATURES), dtype="float64"), K.placeholder((None, CLASSES), dtype="float64")
        learns = K.placeholder((), dtype="bool")
        p = K.softmax(K.dot(x, w) + b)
        loss = K.switch(
            learns,
            lambda: K.mean(K.categorical_crossentropy(p, t)),
            lambda: 0.5 * DECAY * (K.sum(K.square(w)) + K.sum(K.square(b))),
        )
        updates = [(v, v - RATE * g) for v, g in zip(self.weights, K.gradients(loss, self.weights), strict=True)]
        self.step = K.function([x, t, learns], [loss, p], updates, engine=engine, optimize=optimize)


def step_by_hand(values: list[Any], x: Any, t: Any, learns: bool) -> tuple[float, Any, list[Any]]:
    """The loss, the probabilities, and the weights after the step."""
    w, b = values
    e = np.exp(x @ w + b)
    p = e / e.sum(1, keepdims=True)
    slope = (p - t) / len(x)
    loss = -np.mean(np.sum(t * np.log(p), 1)) if learns else 0.5 * DECAY * (np.sum(w**2) + np.sum(b**2))
    gw, gb = (x.T @ slope, slope.sum(0)) if learns else (DECAY * w, DECAY * b)
    return loss, p, [w - RATE * gw, b - RATE * gb]


@pytest.mark.parametrize("optimize", [True, False])
def test_training_steps_are_those_by_hand(toy: Engine, optimize: bool) -> None:
    model, draw = Classifier(toy, optimize), np.random.default_rng(2)
    values = model.start
    for number, rows in enumerate([5, 5, 1, 8, 5, 3]):
        x, t = draw.normal(size=(rows, FEATURES)), np.eye(CLASSES)[draw.integers(0, CLASSES, rows)]
        loss, p = model.step([x, t, number % 3 != 1])
        wanted, wanted_p, values = step_by_hand(values, x, t, number % 3 != 1)
        np.testing.assert_allclose(loss, wanted, rtol=1e-12)
        np.testing.assert_allclose(p, wanted_p, rtol=1e-12)
    for variable, value in zip(model.weights, values, strict=True):
        np.testing.assert_allclose(K.get_value(variable), value, rtol=1e-12)


def logged(engine: Engine, name: str, log: list[str]) -> Engine:
    """The engine with a rule that notes each of its calls."""
    rule = engine.rules[OPS[name]]

    def noted(*values: Any, **attrs: Any) -> Any:
        log.append(name)
        return rule(*values, **attrs)

    engine.rules = {**engine.rules, OPS[name]: noted}
    return engine


@pytest.mark.parametrize("name", LAZY)
def test_only_the_side_that_is_taken_runs(name: str) -> None:
    log: list[str] = []
    engine = logged(logged(made(name), "exp", log), "log", log)
    c, x = K.placeholder(()), K.placeholder((2,), dtype="float64")
    y = K.switch(c, lambda: K.exp(x), lambda: K.log(x))
    f = K.function([c, x], [y, *K.gradients(y, [x])], engine=engine)
    value, slope = f([1, [-1.0, 2.0]])
    np.testing.assert_allclose([value, slope], np.exp([[-1.0, 2.0]] * 2))
    assert set(log) == {"exp"}
    log.clear()
    value, slope = f([0, [1.0, 2.0]])
    np.testing.assert_allclose([value, slope], [np.log([1.0, 2.0]), [1.0, 0.5]])
    assert log == ["log"]


@pytest.mark.parametrize("name", [n for n in WITHOUT if n not in LAZY])
def test_without_a_rule_for_branches_both_sides_run_and_one_counts(name: str) -> None:
    log: list[str] = []
    engine = logged(logged(made(name), "exp", log), "log", log)
    c, x = K.placeholder(()), K.placeholder((2,), dtype="float64")
    y = K.switch(c, lambda: K.exp(x), lambda: K.log(x))
    f = K.function([c, x], [y, *K.gradients(y, [x])], engine=engine)
    with np.errstate(all="ignore"):  # the logarithm of the side that does not count
        value, slope = f([1, [-1.0, 0.0]])
    np.testing.assert_allclose([value, slope], np.exp([[-1.0, 0.0]] * 2))
    assert {"exp", "log"} == set(log)


def test_draws_differ_from_call_to_call_and_have_one_value_within_one(toy: Engine) -> None:
    x = K.placeholder((2, 3), dtype="float64")
    first, second = [K.random_uniform((2, 3), dtype="float64", seed=seed) for seed in (5, 6)]
    y = x * first + second
    f, again = [K.function([x], [first, second, y, *K.gradients(y, [x])], engine=toy) for _ in range(2)]
    seen = []
    for _ in range(3):
        a, b, value, slope = f([np.full((2, 3), 10.0)])
        np.testing.assert_array_equal(value, 10 * a + b)
        np.testing.assert_array_equal(slope, a)
        seen += [a, b]
    numbers = np.ravel(seen)
    assert len(set(numbers)) == numbers.size
    assert 0 <= numbers.min() < 0.3 and 0.7 < numbers.max() < 1
    # A stream goes on from function to function, whatever the engine has shared between the two.
    assert not np.isin(again([np.zeros((2, 3))])[0], numbers).any()


def test_a_seed_makes_the_draws_of_a_program_repeatable(toy: Engine) -> None:
    def run(seed: int) -> Any:
        K.set_seed(seed)
        f = K.function([], [K.random_uniform((4,)), K.random_uniform((K.shape(K.variable(np.ones(3)))[0],))], engine=toy)
        return np.concatenate([part for _ in range(2) for part in f()])

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.isin(run(1), run(2)).any()


def test_dropout_is_a_matter_of_the_train_phase(toy: Engine) -> None:
    x = K.placeholder((None,), dtype="float64")
    y = K.in_train_phase(K.dropout(x, 0.5), x)
    f = K.function([x], [y, *K.gradients(K.sum(y * y), [x])], engine=toy)
    ones = np.ones(100)
    value, slope = f([ones])
    np.testing.assert_array_equal([value, slope], [ones, 2 * ones])
    value, slope = f([ones], training=True)
    assert set(value) == {0.0, 2.0}
    np.testing.assert_array_equal(slope, 2 * value * value)


def test_swapping_updates_read_before_they_write(toy: Engine) -> None:
    a, b = K.variable([1.0, 2.0]), K.variable([3.0, 4.0])
    swap = K.function([], [a, b], [(a, b), (b, a)], engine=toy)
    for _ in range(2):
        swap()
    assert [v.tolist() for v in swap()] == [[1, 2], [3, 4]]
    assert [v.tolist() for v in K.batch_get_value([a, b])] == [[3, 4], [1, 2]]


def test_results_and_values_belong_to_who_asked(toy: Engine) -> None:
    v, x = K.variable([1.0, 2.0]), K.placeholder((2,))
    fed = np.zeros(2, "float32")
    f = K.function([x], [v, v, x, v * 1.0], [(v, x + 5.0)], engine=toy)
    K.get_value(v)[...] = 99
    for held in ([1, 2], [5, 5], [5, 5]):
        results = f([fed])
        for i, (result, wanted) in enumerate(zip(results, [held, held, [0, 0], held], strict=True)):
            assert result.tolist() == wanted
            assert not any(np.shares_memory(result, other) for other in [fed, *results[:i]])
        for result in results:
            result[...] = 77
        K.get_value(v)[...] = 99
    assert K.get_value(v).tolist() == [5, 5]
    assert fed.tolist() == [0, 0]


def test_a_new_value_of_another_size_is_refused_and_nothing_written(toy: Engine) -> None:
    v, n, x = K.variable([1.0, 2.0]), K.variable(0.0), K.placeholder((None,))
    f = K.function([x], [], [(n, n + 1), (v, x * 2)], engine=toy)
    f([[3, 4]])
    with pytest.raises(UpdateError, match=r"shape \[3\], not \[2\]"):
        f([[1, 2, 3]])
    assert [K.get_value(n), *K.get_value(v)] == [1, 6, 8]


# ---------------------------------------------------------------------------------------------- what an engine may leave out


def test_an_engine_of_rules_alone_has_no_session_no_source_and_binds_nothing() -> None:
    engine = Engine("plain", RULES)
    with pytest.raises(EngineError, match="the engine is plain, which has no session"):
        engine.session()
    with pytest.raises(EngineError, match="which has no session"):
        engine.set_session(None)
    with pytest.raises(NotImplementedError, match="plain is not stateful"):
        engine.bind(K.function([], [K.variable(1.0)]).graph, {}, {})
    engine.clear()
    assert K.function([], K.variable(1.0) * 2, engine=engine).source == ""
    assert repr(engine) == "<engine plain>"


def test_a_function_binds_anew_when_a_generation_begins() -> None:
    moves: list[str] = []
    engine = CellEngine(moves)
    v, x = K.variable(1.0), K.placeholder(())
    f = K.function([x], v, [(v, v + x)], engine=engine)
    storage: Any = v.node.attr("uid")
    for number in range(3):
        assert [float(f([1.0])) for _ in range(3)] == [1 + 3 * number, 2 + 3 * number, 3 + 3 * number]
        assert moves == ["put"]
        before = storage.copy_in(engine).storage
        storage.move(storage.copy_in(engine))  # out of the cell, which goes
        engine.generation += 1
        assert moves == ["put", "taken"]
        moves.clear()
        before[0] = np.float32(1000)  # nobody looks there any more
    assert K.get_value(v) == 10
    assert moves == []


# ---------------------------------------------------------------------------------------------- rules that are missing or throw


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("where", ["outside", "in a branch", "in a gradient"])
def test_a_rule_that_is_missing_is_found_before_anything_runs(where: str, optimize: bool) -> None:
    moves: list[str] = []
    engine = CellEngine(moves, without=("tanh" if where == "in a gradient" else "sin",))
    x, v = K.placeholder(()), K.variable(1.0)
    y = {
        "outside": lambda: K.sin(x),
        "in a branch": lambda: K.switch(x > 0, lambda: K.sin(x), lambda: x),
        # The gradient of its own reads tanh, which the function asks for nowhere else.
        "in a gradient": lambda: K.gradients(K.tanh(x), [x])[0],
    }[where]()
    f = K.function([x], [y], [(v, v + 1)], engine=engine, optimize=optimize)
    kept = len(cache.as_built), len(cache.as_optimised)
    for _ in range(2):
        with pytest.raises(MissingRule, match="the engine cells has no rule for the op") as caught:
            f([-1.0])
        assert caught.value.call == ("tanh" if where == "in a gradient" else "sin")
        assert f"{__file__.rpartition('/')[2]}:" in str(caught.value)
        assert "numpy" in (caught.value.hint or "")
    assert (len(cache.as_built), len(cache.as_optimised)) == kept
    assert moves == []
    assert K.get_value(v) == 1
    slope = {"outside": np.sin(-1), "in a branch": -1, "in a gradient": 1 - np.tanh(-1) ** 2}[where]
    np.testing.assert_allclose(K.function([x], y, [(v, v + 1)], engine="numpy")([-1.0]), slope, rtol=1e-6)


class Broken(Exception):
    """What a rule of an engine's own may raise."""


@pytest.mark.parametrize("name", LAZY)
def test_a_rule_that_throws_changes_nothing_and_the_next_call_works(name: str) -> None:
    engine = made(name)
    tanh, fails = engine.rules[o.tanh], [True]

    def failing(x: Any) -> Any:
        if fails[0]:
            raise Broken("the device is on fire")
        return tanh(x)

    engine.rules = {**engine.rules, o.tanh: failing}
    v, n, c, x = K.variable([0.5]), K.variable(0.0), K.placeholder(()), K.placeholder((1,))
    updates = [(n, n + 1), (v, K.switch(c, lambda: v * K.tanh(x), v))]
    f = K.function([c, x], K.switch(c, lambda: K.tanh(x), lambda: x), updates, engine=engine)
    for _ in range(2):
        with pytest.raises(Broken, match="the device is on fire"):
            f([1, [2.0]])
    assert [K.get_value(n), *K.get_value(v)] == [0, 0.5]
    assert f([0, [2.0]]) == [2]  # the side without it
    fails[0] = False
    np.testing.assert_allclose(f([1, [2.0]]), np.tanh([2.0]), rtol=1e-6)
    np.testing.assert_allclose([K.get_value(n), *K.get_value(v)], [2, 0.5 * np.tanh(2.0)], rtol=1e-6)


@pytest.mark.parametrize("fails", ["lower", "bind"])
def test_an_engine_that_fails_to_compile_is_asked_again_at_the_next_call(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made("far" if fails == "lower" else "cells")
    v, x = K.variable(1.0), K.placeholder(())
    f = K.function([x], v * x, [(v, v + x)], engine=engine)
    with monkeypatch.context() as patch:
        patch.setattr(engine, fails, lambda *args: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                f([3.0])
    assert [f([3.0]), f([3.0])] == [3, 12]
    assert K.get_value(v) == 7


# ---------------------------------------------------------------------------------------------------- options


def test_an_option_that_an_engine_does_not_have_is_named_in_one_warning() -> None:
    f = K.function([], K.variable(1.0) * 2, engine=CellEngine([]), options={"turbo": 1, "fast": True})
    with pytest.warns(UserWarning, match=r"^K.function: the engine cells ignores the options turbo; it has loud, fast$"):
        assert f() == 2
    assert f() == 2
    for engine, name in ((Engine("rather plain", RULES), "rather plain"), ("numpy", "numpy")):
        g = K.function([], K.variable(1.0) * 3, engine=engine, options={"b": 1, "a": 2})
        with pytest.warns(UserWarning, match=f"^K.function: the engine {name} ignores the options a, b; it has none$"):
            assert g() == 3
        assert K.function([], K.variable(1.0) * 3, engine=engine, options={"b": 1, "a": 2})() == 3  # said once


@pytest.mark.parametrize("method", ["lower", "bind"])
def test_an_engine_gets_the_options_and_programs_of_other_options_are_others(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = made("far" if method == "lower" else "cells")
    inner, got = getattr(engine, method), []
    monkeypatch.setattr(engine, "options", ("fast",))
    monkeypatch.setattr(engine, method, lambda *args: (got.append(dict(args[-1])), inner(*args))[1])
    x = K.placeholder(())
    for options in ({"fast": True}, {"fast": False}, None):
        assert K.function([x], x * 3, engine=engine, options=options)([2.0]) == 6
    assert got == [{"fast": True}, {"fast": False}, {}]


# ---------------------------------------------------------------------------------------------------- engines made known


@pytest.fixture
def known() -> Iterator[Engine]:
    engine = register(Engine("toy of this test", RULES))
    yield engine
    if engine.name in engine_names():
        unregister(engine.name)


def test_a_registered_engine_is_known_by_its_name_until_it_is_forgotten(known: Engine) -> None:
    assert get_engine(known.name) is known
    assert get_engine(known) is known
    assert known.name in engine_names() and known in engines_loaded()
    f = K.function([], K.variable(2.0) * 3, engine=known.name)
    assert f.engine is known and f() == 6
    K.set_backend(known.name)
    assert (K.backend(), K.eval(K.variable(2.0) * 3)) == (known.name, 6)
    K.clear_session()
    unregister(known.name)
    with pytest.raises(EngineError, match=f"there is no engine {known.name!r}"):
        K.function([], K.variable(2.0), engine=known.name)
    assert f() == 6


@pytest.mark.parametrize("name", ["toy of this test", "numpy", "tensorflow"])
def test_a_name_is_registered_once(known: Engine, name: str) -> None:
    with pytest.raises(EngineError, match=f"there is an engine {name!r} already"):
        register(Engine(name, RULES))
    assert get_engine(known.name) is known
    assert get_engine("numpy").name == "numpy" and type(get_engine("numpy")) is not Engine


def test_the_error_of_an_unknown_engine_lists_what_is_registered_too(known: Engine) -> None:
    with pytest.raises(EngineError) as caught:
        get_engine("toy of that test")
    assert caught.value.hint == f"the engines are {', '.join(engine_names())}"
    assert known.name in caught.value.hint


IMPORTED = """
import sys, numpy, numpy.random
before = set(sys.modules)
import kgraph
from kgraph import backend as K
x, w = K.placeholder((None, 3)), K.variable([[1.0], [2.0], [3.0]])
y = K.in_train_phase(K.dropout(K.dot(x, w), 0.5), lambda: K.tanh(K.dot(x, w)))
step = K.function([x], [y], [(w, w - K.gradients(K.sum(y), [w])[0])])
if sys.argv[1:]:
    step([[[1.0, 0.0, 2.0]]])
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(tops - set(sys.stdlib_module_names)))
"""


def test_importing_and_building_loads_nothing_but_numpy_and_the_standard_library() -> None:
    assert run_python(IMPORTED, KGRAPH_BACKEND="tensorflow") == "['kgraph']\n"


def test_training_on_numpy_loads_nothing_but_numpy_and_the_standard_library() -> None:
    assert run_python(IMPORTED, "call") == "['kgraph']\n"

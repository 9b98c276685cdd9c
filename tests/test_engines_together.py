"""Several real engines in one process: they compute from one graph, and a variable has one value on all of them.

Collected where two engines at least are installed, see conftest.py. `tests/lower/test_variables.py` has the same of toy engines.
"""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from examples import training as example
from kgraph import backend as K
from kgraph.errors import IndexOutOfRange, ShapeError, UpdateError
from kgraph.lower.engine import get_engine
from tests.engines import engines_installed

ENGINES = engines_installed()
PAIRS = list(itertools.permutations(ENGINES, 2))
HOST = "numpy"  # its values are those that `K.get_value` gives: they need no move


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The values of variables that go to an engine's storage, and that come back, as they do."""
    K.clear_session()  # so that no engine begins anew meanwhile, and moves all
    found: list[str] = []
    for name in ENGINES:
        engine = get_engine(name)
        there, back = engine.from_host, engine.to_host
        monkeypatch.setattr(engine, "from_host", lambda *given, n=name, f=there: found.append(f"to {n}") or f(*given))
        monkeypatch.setattr(engine, "to_host", lambda *given, n=name, f=back: found.append(f"from {n}") or f(*given))
    yield found


# ---------------------------------------------------------------------------------------------------- where a value is


class Places:
    """Where the value of a variable is, and the moves that it takes to have it elsewhere."""

    def __init__(self) -> None:
        self.at = {HOST}

    def reach(self, engine: str) -> list[str]:
        if engine in self.at:
            return []
        moves = [] if HOST in self.at else [f"from {next(iter(self.at))}"]
        moves += [f"to {engine}"] if engine != HOST else []
        self.at |= {HOST, engine}
        return moves


def test_a_value_moves_only_to_an_engine_that_reads_it_and_does_not_have_it(moves: list[str]) -> None:
    v, x = K.variable([1.0, 2.0], dtype="float64", name="v"), K.placeholder((2,), dtype="float64", name="x")
    add = {name: K.function([x], [], [(v, v + x)], engine=name) for name in ENGINES}
    read = {name: K.function([x], v * x, engine=name) for name in ENGINES}
    assert moves == []

    choose, places, value = random.Random(1), Places(), np.array([1.0, 2.0])
    for step in range(200):
        what, engine = choose.choice(["add", "read", "read", "set", "get"]), choose.choice(ENGINES)
        fed, wanted = np.array([0.5, step]), []
        if what == "add":
            wanted = places.reach(engine)
            assert add[engine]([fed]) == []
            value, places.at = value + fed, {engine}
        elif what == "read":
            wanted = places.reach(engine)
            np.testing.assert_array_equal(read[engine]([fed]), value * fed)
        elif what == "set":
            K.set_value(v, fed)
            value, places.at = fed, {HOST}
        else:
            wanted = places.reach(HOST)
            np.testing.assert_array_equal(K.get_value(v), value)
        assert moves == wanted, (step, what, engine)
        moves.clear()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_variable_that_a_function_does_not_use_stays_where_it_is(first: str, second: str, moves: list[str]) -> None:
    v, w = K.variable([1.0]), K.variable([2.0])
    K.function([], [], [(v, v + 1)], engine=first)()
    moves.clear()
    assert K.function([], w * 2, engine=second)() == [4]
    assert moves == ([] if second == HOST else [f"to {second}"])
    assert K.get_value(v) == [2]


# ---------------------------------------------------------------------------------------------------- one value


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8", "bool"])
def test_engines_that_write_by_turns_see_each_others_values(dtype: str) -> None:
    v, x = K.variable(np.ones((2, 3)), dtype=dtype), K.placeholder((2, 3), dtype=dtype)
    new = K.equal(v, x) if dtype == "bool" else x - v
    steps = [K.function([x], [v, K.sum(v, axis=0)], [(v, new)], engine=name) for name in ENGINES]
    value, rng = np.ones((2, 3), dtype), np.random.default_rng(0)
    for turn in range(4 * len(steps)):
        fed = rng.integers(0, 2, (2, 3)).astype(dtype)
        old, total = steps[turn * 2 % len(steps) if turn % 3 else turn % len(steps)]([fed])
        np.testing.assert_array_equal(old, value, strict=True)
        np.testing.assert_array_equal(total, value.sum(0))
        value = value == fed if dtype == "bool" else fed - value
        if turn % 4 == 3:
            np.testing.assert_array_equal(K.get_value(v), value, strict=True)
        if turn % 5 == 4:
            value = rng.integers(0, 2, (2, 3)).astype(dtype)
            K.batch_set_value([(v, value)])
            value = value.copy()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_variables_that_swap_on_one_engine_are_swapped_on_the_other(first: str, second: str) -> None:
    v, w = K.variable([1.0, 2.0]), K.variable([3.0, 4.0])
    swaps = [K.function([], [v - w], [(v, w), (w, v)], engine=name) for name in (first, second)]
    for turn in range(5):
        sign = 1 if turn % 2 else -1
        np.testing.assert_array_equal(swaps[turn * turn % 2]()[0], [sign * 2, sign * 2])
    assert [value.tolist() for value in K.batch_get_value([v, w])] == [[3, 4], [1, 2]]


def test_what_is_handed_out_is_nobody_elses() -> None:
    v = K.variable(np.zeros(3))
    steps = [K.function([], v, [(v, v + 1)], engine=name) for name in ENGINES]
    for turn in range(3 * len(steps)):
        old, now = steps[turn % len(steps)](), K.get_value(v)
        assert (old.tolist(), now.tolist()) == ([turn] * 3, [turn + 1] * 3)
        old[:], now[:] = -7, -8
    given = np.zeros(3)
    K.set_value(v, given)
    given[:] = -9
    assert [step().tolist() for step in steps] == [[turn] * 3 for turn in range(len(steps))]


# ---------------------------------------------------------------------------------------------------- failed calls


@pytest.mark.parametrize(("failing", "other"), PAIRS)
def test_a_call_that_fails_on_one_engine_changes_nothing_on_the_other(failing: str, other: str) -> None:
    v, w, x = K.variable([1.0, 2.0], name="v"), K.variable([5.0, 6.0], name="w"), K.placeholder((None,), dtype="int32", name="x")
    step = K.function([], [v, w], [(v, v * 2), (w, w + v)], engine=other)
    wrong = {
        IndexOutOfRange: K.function([x], [], [(v, v + 100), (w, K.gather(v, x))], engine=failing),
        UpdateError: K.function([x], [v], [(v, w), (w, K.cast(x, "float32"))], engine=failing),
        ShapeError: K.function([x], [], [(w, v), (v, v + K.cast(x + x[x[0] :], "float32"))], engine=failing),
    }
    first, second = np.array([1.0, 2.0]), np.array([5.0, 6.0])
    for error, fed in itertools.chain.from_iterable(zip(wrong, ([0, 2], [0, 1, 0], [1, 0]), strict=True) for _ in range(2)):
        with pytest.raises(error):
            wrong[error]([fed])
        np.testing.assert_array_equal(step(), [first, second])
        first, second = first * 2, second + first
        with pytest.raises(error):
            wrong[error]([fed])
        np.testing.assert_array_equal(K.batch_get_value([v, w]), [first, second])


# ---------------------------------------------------------------------------------------------------- threads


def test_threads_on_several_engines_leave_what_a_serial_order_leaves() -> None:
    v, count = K.variable(1, dtype="int64"), K.variable(0, dtype="int64")
    steps = [K.function([], [v, count], [(v, (v * 3 + k) % 1009), (count, count + 1)], engine=name) for k, name in enumerate(ENGINES)]
    for step in steps:
        step()
    K.batch_set_value([(v, 1), (count, 0)])
    start = Barrier(2 * len(steps))

    def work(which: int) -> list[tuple[int, int, int]]:
        start.wait()
        return [(*map(int, reversed(steps[which]())), which) for _ in range(150)]

    with ThreadPoolExecutor(2 * len(steps)) as pool:
        calls = sorted(itertools.chain.from_iterable(pool.map(work, [*range(len(steps))] * 2)))
    # Each call has read what the one before it in the order of the counts has written, whichever engine that was on.
    value = 1
    for number, (seen, old, which) in enumerate(calls):
        assert (seen, old) == (number, value)
        value = (value * 3 + which) % 1009
    assert K.batch_get_value([v, count]) == [value, len(calls)] == [value, 300 * len(steps)]


def test_readers_on_other_engines_see_variables_of_one_moment() -> None:
    v, w = K.variable(np.zeros(50), dtype="float64"), K.variable(np.zeros(50), dtype="float64")
    write = [K.function([], [], [(v, v + 1), (w, w - 1)], engine=name) for name in ENGINES]
    read = [K.function([], [v, w], engine=name) for name in ENGINES]
    for function in (*write, *read):
        function()
    start = Barrier(2 * len(ENGINES))

    def work(function: Any) -> bool:
        start.wait()
        found = [function() for _ in range(200)]
        return all(np.ptp(v) == 0 and not np.any(v + w) for v, w in filter(None, found))

    with ThreadPoolExecutor(2 * len(ENGINES)) as pool:
        assert all(pool.map(work, [*write, *read]))
    for value, sign in zip(K.batch_get_value([v, w]), (1, -1), strict=True):
        np.testing.assert_array_equal(value, np.full(50, sign * 201.0 * len(ENGINES)))


# ---------------------------------------------------------------------------------------------------- one graph


def test_functions_of_one_graph_agree() -> None:
    x, v = K.placeholder((None, 4), name="x"), K.variable(np.linspace(-1, 1, 12).reshape(4, 3), name="v")
    h = K.tanh(K.dot(x, v))
    loss = K.mean(K.logsumexp(h, axis=1)) + K.switch(K.sum(h) > 0, lambda: K.sum(K.square(v)), lambda: K.sum(K.abs(v)))
    outputs = [h, loss, *K.gradients(loss, [x, v]), K.argmax(h), K.in_train_phase(h * 2, h)]
    functions = {name: K.function([x], outputs, engine=name) for name in ENGINES}
    rng = np.random.default_rng(0)
    for rows, training in ((5, False), (1, True), (7, True)):
        fed = rng.normal(size=(rows, 4))
        results = {name: f([fed], training=training) for name, f in functions.items()}
        for name in ENGINES:
            for expected, found in zip(results[HOST], results[name], strict=True):
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_default_engine_may_change_at_any_time() -> None:
    v = K.variable([1.0, 2.0])
    doubled = v * 2
    for turn, name in enumerate([*ENGINES, *ENGINES], 1):
        K.set_backend(name)
        late = K.function([], doubled, [(v, v + 1)])
        np.testing.assert_array_equal(K.eval(doubled), [2 * turn, 2 * turn + 2])
        np.testing.assert_array_equal(late(), [2 * turn, 2 * turn + 2])
        assert late.engine.name == name == K.backend()


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pickle_has_the_value_that_an_engine_wrote_last(first: str, second: str) -> None:
    v, x = K.variable([1.0, 2.0], name="v"), K.placeholder((2,), name="x")
    f, g = [K.function([x], v, [(v, v * x)], engine=name) for name in (first, second)]
    f([[2, 3]])
    twin_v, twin_f, twin_g = pickle.loads(pickle.dumps((v, f, g)))
    g([[10, 10]])
    assert K.get_value(twin_v).tolist() == [2, 6]
    for name, twin in ((second, twin_g), (first, twin_f)):
        assert twin.engine.name == name
        value = K.get_value(v)
        twin([[5, 7]])
        np.testing.assert_array_equal(K.get_value(v), value)
    assert K.get_value(v).tolist() == [20, 60]


# ---------------------------------------------------------------------------------------------------- training

STEPS, BATCH = 20, 64


def losses_on(engines: list[str]) -> list[float]:
    """The losses while a network of two layers learns real digits, one step on each engine in turn."""
    K.set_seed(0)  # the same first weights each time
    images, labels = K.placeholder((None, 64)), K.placeholder((None, example.CLASSES))
    weights: list[Any] = []
    features = K.relu(example.dense(images, 32, "hidden", weights))
    predicted = K.softmax(example.dense(features, example.CLASSES, "output", weights))
    loss = K.mean(K.categorical_crossentropy(predicted, labels))
    updates = example.adam(loss, weights, rate=0.01)
    steps = [K.function([images, labels], loss, updates, engine=engine) for engine in engines]
    x, y = example.load_digits()
    batches = [slice(start, start + BATCH) for start in range(0, STEPS * BATCH, BATCH)]
    return [float(steps[number % len(steps)]([x[rows], y[rows]])) for number, rows in enumerate(batches)]


@pytest.mark.parametrize("engines", [*([name] for name in ENGINES if name != HOST), ENGINES], ids=", ".join)
def test_losses_fall_alike_on_every_engine_and_by_turns(engines: list[str]) -> None:
    expected = losses_on([HOST])
    assert expected[-1] < expected[0] / 2
    np.testing.assert_allclose(losses_on(engines), expected, rtol=0, atol=1e-4)

"""Programs are shared by structure, values are not; and what is dropped is gone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import kgraph.function
from kgraph import backend as K
from kgraph import cache
from kgraph.ir import guards
from kgraph.ir.listing import LARGE_CONSTANT
from kgraph.ir.node import NODES
from kgraph.lower.engine import Engine
from kgraph.lower.numpy import ENGINE, RULES


class Work:
    """How often the passes ran and the NumPy engine lowered since it was last asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.passes = self.lowered = 0
        run, lower = kgraph.function.run_pipeline, ENGINE.lower

        def counted_run(*args: Any) -> Any:
            self.passes += 1
            return run(*args)

        def counted_lower(*args: Any) -> Any:
            self.lowered += 1
            return lower(*args)

        monkeypatch.setattr(kgraph.function, "run_pipeline", counted_run)
        monkeypatch.setattr(ENGINE, "lower", counted_lower)

    def __call__(self) -> tuple[int, int]:
        found = self.passes, self.lowered
        self.passes = self.lowered = 0
        return found


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    cache.clear()
    yield Work(monkeypatch)
    cache.clear()


class Line:
    """A model: y = w x + b, trained by gradient descent."""

    def __init__(self, w: float, b: float, name: str = "", rate: float = 0.5):
        x, target = K.placeholder((None,), name=f"{name}x"), K.placeholder((None,), name=f"{name}t")
        self.w, self.b = K.variable(w, name=f"{name}w"), K.variable(b, name=f"{name}b")
        loss = K.mean(K.square(self.w * x + self.b - target))
        steps = zip((self.w, self.b), K.gradients(loss, [self.w, self.b]), strict=True)
        self.train = K.function([x, target], [loss], [(v, v - rate * g) for v, g in steps])
        self.predict = K.function([x], K.in_train_phase(self.w * x, self.w * x + self.b))


def test_a_model_built_again_runs_no_pass_and_lowers_nothing(work: Work) -> None:
    xs, ts = np.array([0.0, 1.0], "float32"), np.array([1.0, 3.0], "float32")
    first = Line(1.0, 0.0, "first_")
    first.train([xs, ts])
    first.predict([xs])
    assert work() == (2, 2)
    first.train([xs, ts])
    first.predict([xs[:1]])
    assert work() == (0, 0)

    second = Line(5.0, 7.0, "second_")
    before = K.batch_get_value([first.w, first.b])
    (loss,) = second.train([xs, ts])
    np.testing.assert_allclose(second.predict([xs]), K.get_value(second.w) * xs + K.get_value(second.b))
    assert work() == (0, 0)
    assert loss == np.mean(np.square(5 * xs + 7 - ts))
    residual = 5 * xs + 7 - ts
    np.testing.assert_allclose(K.batch_get_value([second.w, second.b]), [5 - np.mean(residual * xs), 7 - np.mean(residual)])
    assert K.batch_get_value([first.w, first.b]) == before

    second.predict([xs], training=True)
    assert work() == (1, 1)
    first.predict([xs], training=True)
    assert work() == (0, 0)


def test_another_structure_is_another_program(work: Work) -> None:
    def run(build: Callable[[Any, Any], Any], shape: Any = (None,), dtype: str = "float32", **kwargs: Any) -> Any:
        x, v = K.placeholder(shape, dtype=dtype), K.variable([1.0, 2.0], dtype=dtype)
        return K.function([x], [build(x, v)], **kwargs)([[3, 4]])[0].tolist()

    assert run(lambda x, v: x * v) == [3, 8]
    assert work() == (1, 1)
    assert run(lambda x, v: x * v) == [3, 8]
    assert work() == (0, 0)
    assert run(lambda x, v: v * x) == [3, 8]  # the operands are read in another order
    assert run(lambda x, v: x * x) == [9, 16]
    assert run(lambda x, v: x * v, shape=(2,)) == [3, 8]
    assert run(lambda x, v: x * v, dtype="float64") == [3, 8]
    assert run(lambda x, v: x * v + 1) == [4, 9]
    assert run(lambda x, v: x * v + 2) == [5, 10]
    assert run(lambda x, v: K.maximum(x * v, 1)) == [3, 8]
    assert work() == (7, 7)


def test_sharing_within_a_graph_is_part_of_its_structure(work: Work) -> None:
    v, w = K.variable(2.0), K.variable(5.0)
    assert K.function([], [v * v])() == [4]
    assert K.function([], [v * w])() == [10]
    assert K.function([], [w * w])() == [25]
    assert work() == (2, 2)


def test_what_an_update_writes_is_part_of_the_structure(work: Work) -> None:
    for index in (0, 1):
        pair = [K.variable(1.0), K.variable(10.0)]
        K.function([], [pair[0] + pair[1]], [(pair[index], pair[0] * 2)])()
        assert K.batch_get_value(pair) == [[2, 10], [1, 2]][index]
    assert K.function([], [], [(pair[0], pair[1]), (pair[1], pair[0])])() == []
    assert K.function([], [], [(pair[1], pair[0]), (pair[0], pair[1])])() == []
    assert K.batch_get_value(pair) == [1, 2]


def test_graphs_that_the_passes_make_equal_share_a_program(work: Work) -> None:
    x = K.placeholder((3,))
    assert K.function([x], K.reshape(x, (1, 3)))([[1, 2, 3]]).tolist() == [[1, 2, 3]]
    assert work() == (1, 1)
    n = K.shape(x)[0]
    assert K.function([x], K.reshape(x, (n - 2, n)))([[1, 2, 3]]).tolist() == [[1, 2, 3]]
    passes, lowered = work()
    assert lowered == 0
    assert passes <= 1


def test_draws_of_one_structure_keep_their_seeds(engine: str) -> None:
    x = K.placeholder((None,))
    one, same, other = [K.function([x], x + K.random_uniform((30,), seed=seed)) for seed in (1, 1, 2)]
    zeros = np.zeros(30)
    first = one([zeros])
    np.testing.assert_array_equal(same([zeros]), first)
    assert not np.any(other([zeros]) == first)
    np.testing.assert_array_equal(one([zeros]), same([zeros]))
    assert not np.any(one([zeros]) == first)


def test_functions_live_on_after_the_cache_is_cleared(work: Work) -> None:
    model = Line(1.0, 2.0)
    assert model.predict([[3]]).tolist() == [5]
    K.clear_session()
    assert model.predict([[3]]).tolist() == [5]
    assert work() == (1, 1)
    assert Line(2.0, 2.0).predict([[3]]).tolist() == [8]
    assert work() == (1, 1)


def test_engines_of_one_name_do_not_share_programs() -> None:
    x = K.placeholder(())
    y = K.sin(x) * 2
    for factor in (1.0, 10.0):  # an engine that is being written, say: its table changes
        rules = {op: rule for op, rule in RULES.items() if op.name != "sin"}
        sine = next(op for op in RULES if op.name == "sin")
        engine = Engine("being written", {**rules, sine: lambda x, factor=factor: np.asarray(factor * np.sin(x))})
        np.testing.assert_allclose(K.function([x], y, engine=engine)([1.0]), 2 * factor * np.sin(1.0), rtol=1e-6)


def test_the_cache_keeps_what_was_asked_for_last() -> None:
    kept = cache.LRU(most=3, heaviest=100)
    for name in "abc":
        kept.put(name.encode(), name, 10)
    assert kept.get(b"a") == "a"
    kept.put(b"d", "d", 10)
    assert [kept.get(name.encode()) for name in "abcd"] == ["a", None, "c", "d"]
    kept.put(b"e", "e", 85)  # d, c and a are too heavy beside it: the oldest go first
    assert [kept.get(name.encode()) for name in "acde"] == [None, None, "d", "e"]
    kept.put(b"f", "f", 1000)  # the only one may be heavier
    assert [kept.get(name.encode()) for name in "def"] == [None, None, "f"]
    kept.put(b"f", "g", 1)
    assert kept.get(b"f") == "g"
    assert len(kept) == 1
    kept.clear()
    assert len(kept) == 0
    assert kept.get(b"f") is None


# ---------------------------------------------------------------------------------------------------- large constants


def test_functions_that_differ_in_a_large_constant_share_a_program(work: Work) -> None:
    x, v = K.placeholder((400,)), K.variable(np.zeros(400))
    rows = [np.arange(400, dtype="float32"), 3 * np.arange(400, dtype="float32"), -np.arange(400, dtype="float32")]
    functions = [
        K.function([x], [x * row + v, K.constant(row) if hasattr(K, "constant") else x * 0 + row], [(v, v + row)])
        for row in rows
    ]
    total = np.zeros(400)
    for _ in range(2):
        for f, row in zip(functions, rows, strict=True):
            for result, expected in zip(f([np.full(400, 2)]), (2 * row + total, row), strict=True):
                np.testing.assert_array_equal(result, expected)
            total += row
    assert work()[1] == 1
    np.testing.assert_array_equal(K.get_value(v), total)


@pytest.mark.parametrize("size", [LARGE_CONSTANT // 8 - 1, LARGE_CONSTANT // 8, LARGE_CONSTANT // 8 + 1, 1000])
@pytest.mark.parametrize("optimize", [True, False])
def test_constants_of_any_size_keep_their_values(size: int, optimize: bool, engine: str) -> None:
    x = K.placeholder((size,), dtype="float64")
    for value in (2.0, 3.0):
        row = np.full(size, value)
        f = K.function([x], [x + row, x + K.square(row), K.sum(K.square(row)), K.gather(x, row.astype(int))], optimize=optimize)
        added, squared, total, picked = f([np.arange(size)])
        np.testing.assert_array_equal(added, np.arange(size) + value)
        np.testing.assert_array_equal(squared, np.arange(size) + value**2)
        assert total == size * value**2
        np.testing.assert_array_equal(picked, row)


def test_a_large_constant_in_a_branch(engine: str) -> None:
    c = K.placeholder(())
    for value in (2.0, 3.0):
        row = np.full(400, value)
        f = K.function([c], K.switch(c, lambda row=row: K.sum(K.sin(row)), lambda row=row: K.sum(K.cos(row))))
        np.testing.assert_allclose(f([1]), 400 * np.sin(value), rtol=1e-6)
        np.testing.assert_allclose(f([0]), 400 * np.cos(value), rtol=1e-6)


def test_one_large_constant_that_is_built_twice_is_one_node() -> None:
    row = np.arange(1000.0)
    x = K.placeholder((1000,), dtype="float64")
    assert (x + row).node is (x + row.copy()).node
    assert (x + row).node is not (x + row[::-1]).node


# ---------------------------------------------------------------------------------------------------- what is dropped is gone


def everything() -> list[Any]:
    """Functions with all that a node can hold on to, called in both phases."""
    x, c = K.placeholder((None, 4), name="x"), K.placeholder((), name="c")
    w, counter = K.random_normal_variable((4, 4), 0, 1), K.variable(0.0)
    h = K.in_train_phase(K.dropout(K.dot(x, w), 0.5), lambda: K.dot(x, w))
    y = (
        K.switch(c, lambda: K.switch(K.sum(h) > 0, lambda: K.exp(h), lambda: h), lambda: h * np.ones((1, 4), "float32"))
        + np.zeros((300, 4))[0]
    )
    loss = K.mean(K.logsumexp(y, axis=-1)) + K.sum(K.gather(w, [0, 1]))
    (g,) = K.gradients(loss, [w])
    (gg,) = K.gradients(K.sum(g * g), [w])
    f = K.function(
        [x, c, K.learning_phase()],
        [loss, gg, h * np.arange(1200.0).reshape(300, 4)[:1]],
        [(w, w - g), K.update_add(counter, 1)],
    )
    cut = K.function([h, c], [y])
    for phase in (0, 1):
        f([np.ones((1, 4)), 1, phase])
        cut([np.ones((2, 4)), phase])
    return [x, c, w, h, y, loss, g, gg, f, cut, weakref.ref(w.node.attr("uid")), weakref.ref(w.node)]


def test_what_is_dropped_leaves_nothing_in_the_tables(engine: str) -> None:
    cache.clear()
    gc.collect()
    before = len(NODES), len(guards._GUARDS)
    for _ in range(2):  # the second time from the cache
        held = everything()
        assert len(NODES) > before[0] + 50
        refs = held[-2:]
        del held
        gc.collect()
        assert (len(NODES), len(guards._GUARDS)) == before
        assert [ref() for ref in refs] == [None, None]


def test_a_program_in_the_cache_holds_no_variable_of_the_function_that_it_was_made_for() -> None:
    gc.collect()
    before = len(NODES)
    x, v = K.placeholder(()), K.variable(np.ones(10))
    storage = weakref.ref(v.node.attr("uid"))
    f = K.function([x], [K.switch(x > 0, lambda: v * x, lambda: v)], [(v, v + x)], engine=Engine("plain table", RULES))
    f([1.0])
    del f, x, v
    gc.collect()
    assert storage() is None
    assert len(NODES) == before


def test_a_function_that_failed_holds_on_to_nothing() -> None:
    gc.collect()
    before = len(NODES)
    i = K.placeholder((), dtype="int32")
    f = K.function([i], [K.gather(K.variable([1.0]), i)])
    with pytest.raises(IndexError):
        f([3])
    del f, i
    gc.collect()
    assert len(NODES) == before

"""Ctrl-C at any moment of building, differentiating, compiling and calling leaves everything as usable as it was before.

Python takes a signal when a function begins and when one of C returns. `sys.setprofile` tells of both, so a KeyboardInterrupt
is raised there, at the first, second, third ... of these places, for as many of them as there is time for.
"""

from __future__ import annotations

import gc
import inspect
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph import cache
from kgraph.call import Caller
from kgraph.function import Function
from kgraph.ir import guards, origin
from kgraph.ir.listing import Listing
from kgraph.ir.node import NODES
from kgraph.ir.origin import building
from kgraph.ir.passes import legalise, sink, specialise
from kgraph.ir.rewrite import rewrite
from kgraph.ir.weak import WeakTable
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.engine import Engine
from kgraph.lower.numpy import RULES
from tests.engines import engines_tested
from tests.lower.toy_far import far_engine
from tests.process import run_python


class Interruption:
    """A run of an operation that is interrupted at one place.

    Args:
      at: the number of the place, from 1; after the last one nothing happens.
      within: only what this function does, and what it calls, counts.

    Attributes:
      place: where it was interrupted: event and function. None if it was not.
      count: of the places met.
    """

    def __init__(self, operation: Callable[[], Any], at: int, within: CodeType | None = None):
        self.count = 0
        self.place: tuple[str, str] | None = None
        self._at, self._within, self._depth = at, within, 0
        try:
            sys.setprofile(self._hook)
            operation()
        except KeyboardInterrupt:
            sys.setprofile(None)
            # The traceback lives: nothing is restored only because some object is gone.
            assert building.origin is None, self.place
        finally:
            sys.setprofile(None)

    def _hook(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if code is self._within and event in ("call", "return"):
            self._depth += 1 if event == "call" else -1
        if event not in ("call", "c_return") or (self._within is not None and not self._depth) or _is_deaf(frame, event, arg):
            return
        self.count += 1
        if self.count == self._at:
            self.place = (event, code.co_qualname)
            raise KeyboardInterrupt


def _is_deaf(frame: FrameType, event: str, arg: Any) -> bool:
    """Whether Python takes no signal there, or swallows what is raised, or it is NumPy's own line to mend."""
    code = frame.f_code
    return (
        (event == "call" and bool(code.co_flags & inspect.CO_GENERATOR))  # perhaps it is only closed
        or code is _DROP  # a callback of weakref's
        or code is Interruption.__init__.__code__
        or getattr(arg, "__qualname__", "") == "ContextVar.set"  # in errstate, one step before its try
    )


_DROP = WeakTable()._drop.__code__


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No garbage collection, whose callbacks would be interrupted too; and NumPy's warnings as they were."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    np.seterr(**WARNINGS)


@pytest.fixture(scope="module")
def other_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


LOCKS = [NODES._lock, origin._ORIGINS._lock, guards._GUARDS._lock, cache.as_built._lock, cache.as_optimised._lock]
WARNINGS = np.geterr()


def assert_as_before(pool: ThreadPoolExecutor, interruption: Interruption, *functions: Function) -> None:
    """Asserts that nothing is held, half made, or still in force."""
    place = interruption.place
    assert (building.origin, building.scope) == (None, ""), place
    assert np.geterr() == WARNINGS, place
    locks = [*LOCKS, *[f._lock for f in functions]]
    locks += [node.attr("uid").lock for f in functions for node, _ in f.graph.updates]
    assert all(pool.submit(lambda: [take(lock) for lock in locks]).result()), place
    for table in (NODES, origin._ORIGINS, guards._GUARDS):
        assert None not in [entry() for entry in list(table.entries.values())], place
    for lru in (cache.as_built, cache.as_optimised):
        assert lru._weight == sum(weight for _, weight in lru._kept.values()), place


def take(lock: Any) -> bool:
    """Whether this thread gets a lock at once; it gives it back."""
    if not lock.acquire(blocking=False):
        return False
    lock.release()
    return True


def spread(total: int, most: int) -> range:
    """At most about so many numbers from 1 to total."""
    return range(1, total + 1, max(1, total // most))


# ---------------------------------------------------------------------------------------------------- a model

ROWS = np.array([[1.0, -2.0, 0.5], [0.25, 0.0, 3.0]])


class Model:
    """A step of gradient descent over a branch, with a dropout that the train phase alone has."""

    def __init__(self, engine: Any = "numpy"):
        self.loss()
        updates = [(v, v - 0.1 * g) for v, g in zip(self.weights, self.gradients(), strict=True)]
        self.step = K.function([self.x, self.c], [self.y, self.h], updates, engine=engine)

    def loss(self) -> None:
        self.x, self.c = K.placeholder((None, 3), dtype="float64"), K.placeholder((), dtype="bool")
        w, b = self.weights = [K.variable(np.eye(3), dtype="float64"), K.variable(np.ones(3), dtype="float64")]
        with K.name_scope("model"):
            self.h = K.in_train_phase(lambda: K.dropout(self.x, 0.5), self.x)
            with K.name_scope("branch"):
                self.y = K.switch(
                    self.c,
                    lambda: K.sum(K.tanh(K.dot(self.h, w) + b)),
                    lambda: K.sum(K.relu(b)) * K.cast(K.shape(self.x)[0], "float64") + K.sum(w * np.arange(9.0).reshape(3, 3)),
                )

    def gradients(self) -> list[Any]:
        return K.gradients(self.y, self.weights)


def by_hand(values: list[Any], c: bool) -> tuple[float, list[Any]]:
    """The loss of ROWS, and the weights after a step."""
    w, b = values
    if c:
        t = np.tanh(ROWS @ w + b)
        return t.sum(), [w - 0.1 * ROWS.T @ (1 - t * t), b - 0.1 * (1 - t * t).sum(0)]
    loss = np.maximum(b, 0).sum() * 2 + (w * np.arange(9.0).reshape(3, 3)).sum()
    return loss, [w - 0.1 * np.arange(9.0).reshape(3, 3), b - 0.1 * 2 * (b > 0)]


def assert_trains(model: Model) -> None:
    """Asserts that two steps, one on each side of the branch, are those by hand, from where the model is."""
    for c in (True, False):
        loss, wanted = by_hand(K.batch_get_value(model.weights), c)
        found, h = model.step([ROWS, c])
        np.testing.assert_allclose(found, loss, rtol=1e-12)
        np.testing.assert_array_equal(h, ROWS)
        for value, new in zip(K.batch_get_value(model.weights), wanted, strict=True):
            np.testing.assert_allclose(value, new, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- building


def test_while_a_model_is_built(other_thread: ThreadPoolExecutor) -> None:
    assert_trains(Model())
    total = Interruption(Model, 0).count
    assert total > 1000
    for at in spread(total - 20, 100):
        interruption = Interruption(Model, at)
        assert interruption.place is not None
        assert_as_before(other_thread, interruption)
        assert_trains(Model())


def test_while_gradients_are_taken(other_thread: ThreadPoolExecutor) -> None:
    model = Model()
    total = Interruption(model.gradients, 0).count
    for at in spread(total, 60):
        fresh = Model.__new__(Model)
        fresh.loss()
        interruption = Interruption(fresh.gradients, at)
        assert_as_before(other_thread, interruption)
        wrt = K.function([fresh.x, fresh.c], fresh.gradients(), engine="numpy")
        for c in (True, False):
            wanted = by_hand([np.eye(3), np.ones(3)], c)[1]
            for slope, value, new in zip(wrt([ROWS, c]), (np.eye(3), np.ones(3)), wanted, strict=True):
                np.testing.assert_allclose(value - 0.1 * slope, new, rtol=1e-12)


def test_while_a_function_is_loaded(other_thread: ThreadPoolExecutor) -> None:
    data = pickle.dumps(Model().step)
    total = Interruption(lambda: pickle.loads(data), 0).count
    for at in spread(total, 60):
        interruption = Interruption(lambda: pickle.loads(data), at)
        assert_as_before(other_thread, interruption)
        again = pickle.loads(data)
        np.testing.assert_allclose(again([ROWS, True])[0], by_hand([np.eye(3), np.ones(3)], True)[0], rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- compiling

STAGES: dict[str, Any] = {
    "the passes": Function.optimized,
    "specialise": specialise,
    "the rules": rewrite,
    "sink": sink,
    "legalise": legalise,
    "the listing": Listing.of,
    "the key": Listing.digest,
    "the cache": cache.LRU.put,
    "lowering": NumpyProgram.__init__,
    "the caller": Caller.make,
    "all of it": Function._compile,
}


@pytest.mark.parametrize("stage", STAGES)
def test_while_a_function_is_compiled(stage: str, other_thread: ThreadPoolExecutor) -> None:
    # Without rules for what has a simpler form, so that legalise has work to do.
    engine = Engine("plain", {op: rule for op, rule in RULES.items() if op.expand is None}) if stage == "legalise" else "numpy"
    model = Model(engine)
    within = STAGES[stage].__code__

    def compile() -> Any:
        cache.clear()
        model.step._calls.clear()
        model.step._compile(0)

    compile()
    total = Interruption(compile, 0, within).count
    assert total > 0
    interrupted = 0
    for at in spread(total, 25):
        interruption = Interruption(compile, at, within)
        interrupted += interruption.place is not None
        assert_as_before(other_thread, interruption, model.step)
        assert model.step._calls == {} or interruption.place is None or stage == "all of it"
        assert_trains(model)
        assert_trains(Model(engine))  # from the cache, or not
    assert interrupted > 0.9 * min(total, 25)


@pytest.mark.parametrize("engine", engines_tested())
def test_while_an_engine_compiles(engine: str, other_thread: ThreadPoolExecutor) -> None:
    assert_trains(Model(engine))
    limit = sys.getrecursionlimit()

    def first_call(model: Model) -> Any:
        cache.clear()
        return model.step([ROWS, True])

    model = Model(engine)
    total = Interruption(lambda: first_call(model), 0).count  # others meet a few less: of what is known by then
    places: list[tuple[int, Any]] = [(at, None) for at in spread(total * 9 // 10, 40 if engine == "numpy" else 8)]
    if engine == "tensorflow":  # its lock of a graph is a lock and a count, in Python
        from tensorflow.python.util.lock_util import GroupLock

        places += [(at, method.__code__) for at in (1, 4, 50) for method in (GroupLock.acquire, GroupLock.release)]
    for at, within in places:
        model = Model(engine)
        interruption = Interruption(lambda: first_call(model), at, within)  # noqa: B023
        assert interruption.place is not None
        assert_as_before(other_thread, interruption, model.step)
        assert sys.getrecursionlimit() == limit
        assert_trains(model)
        assert_trains(Model(engine))


@pytest.mark.parametrize("what", ["put what is new", "put what is known", "get", "clear"])
def test_while_the_cache_changes(what: str) -> None:
    def filled() -> cache.LRU:
        lru = cache.LRU(most=3, heaviest=100)
        for name in (b"a", b"b", b"c"):
            lru.put(name, name, 30)
        return lru

    change = {
        "put what is new": lambda lru: lru.put(b"d", b"new", 90), "put what is known": lambda lru: lru.put(b"b", b"new", 90),
        "get": lambda lru: lru.get(b"a"), "clear": cache.LRU.clear,
    }[what]  # fmt: skip
    at, interruption = 0, None
    while interruption is None or interruption.place is not None:
        at += 1
        lru = filled()
        interruption = Interruption(lambda: change(lru), at)  # noqa: B023
        assert lru._weight == sum(weight for _, weight in lru._kept.values()), interruption.place
        lru.put(b"e", b"e", 5)
        assert lru.get(b"e") == b"e"
        assert len(lru) <= 3 and lru._weight <= 100
    assert at > 3


# ---------------------------------------------------------------------------------------------------- calling


@pytest.mark.parametrize("c", [True, False])
@pytest.mark.parametrize("engine", [*engines_tested(), "far"])
def test_while_a_training_step_runs(engine: str, c: bool, other_thread: ThreadPoolExecutor) -> None:
    model = Model(far_engine([]) if engine == "far" else engine)
    assert_trains(model)
    stored: list[bool] = []
    at, interruption = 0, None
    while interruption is None or interruption.place is not None:
        at += 1
        K.batch_set_value([(model.weights[0], np.eye(3)), (model.weights[1], np.ones(3))])
        before = K.batch_get_value(model.weights)
        interruption = Interruption(lambda: model.step([ROWS, c]), at)
        assert_as_before(other_thread, interruption, model.step)
        after = K.batch_get_value(model.weights)
        changed = {not np.array_equal(x, y) for x, y in zip(before, after, strict=True)}
        assert len(changed) == 1, interruption.place
        if changed == {True}:
            for value, wanted in zip(after, by_hand(before, c)[1], strict=True):
                np.testing.assert_allclose(value, wanted, rtol=1e-12)
        stored.append(changed == {True})
        assert_trains(model)
    assert at > 20
    # Nothing is stored before everything is computed, and everything once the first thing is.
    assert stored == sorted(stored) and set(stored) == {False, True}


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40, 300])
@pytest.mark.parametrize("writes", [True, False])
def test_while_a_function_of_many_variables_runs(count: int, writes: bool, other_thread: ThreadPoolExecutor) -> None:
    variables, x = [K.variable(float(i), dtype="float64") for i in range(count)], K.placeholder((), dtype="float64")
    updates = [(v, v + x) for v in variables] if writes else []
    f = K.function([x], [variables[0] + variables[-1] * 1.0], updates, engine="numpy")
    f([0.0])
    total, start = Interruption(lambda: f([0.0]), 0).count, 0.0
    for at in spread(total, 60):
        interruption = Interruption(lambda: f([1.0]), at)
        values = np.array(K.batch_get_value(variables)) - np.arange(count)
        assert len(set(values)) == 1 and values[0] - start in ((0, 1) if writes else (0,)), interruption.place
        start = values[0]
        free = other_thread.submit(lambda: [take(v.node.attr("uid").lock) for v in variables]).result()
        assert all(free), interruption.place
        assert_as_before(other_thread, interruption, f)
        assert other_thread.submit(f, [0.0]).result() == [2 * start + count - 1]


def test_while_values_are_read_and_set(other_thread: ThreadPoolExecutor) -> None:
    variables = [K.variable(float(i)) for i in range(40)]
    f = K.function([], variables, engine="numpy")

    def use() -> None:
        K.batch_get_value(variables)
        K.set_value(variables[0], 0.0)
        K.batch_set_value([(variables[1], 1.0)])

    for at in spread(Interruption(use, 0).count, 150):
        interruption = Interruption(use, at)
        assert_as_before(other_thread, interruption)
        free = other_thread.submit(lambda: [take(v.node.attr("uid").lock) for v in variables]).result()
        assert all(free), interruption.place
        assert other_thread.submit(f).result() == list(range(40))


def test_while_a_value_moves_to_an_engine_and_back(other_thread: ThreadPoolExecutor) -> None:
    v, x = K.variable([1.0, 2.0], dtype="float64"), K.placeholder((), dtype="float64")
    far = K.function([x], v * 1.0, [(v, v + x)], engine=far_engine([]))
    near = K.function([x], v * 1.0, [(v, v * x)], engine="numpy")
    value = np.array([1.0, 2.0])

    def turn() -> None:
        near([2.0])
        far([1.0])

    turn()
    value = value * 2 + 1
    at = 0
    while True:
        at += 1
        interruption = Interruption(turn, at)
        after = K.get_value(v)
        wanted = [value, value * 2, value * 2 + 1]
        assert any(np.array_equal(after, one) for one in wanted), interruption.place
        assert_as_before(other_thread, interruption, far, near)
        np.testing.assert_array_equal(near([1.0]), after)
        np.testing.assert_array_equal(far([0.0]), after)
        K.set_value(v, value)
        if interruption.place is None:
            break
    assert at > 40


# ---------------------------------------------------------------------------------------------------- what Python swallows


def test_in_the_middle_of_forgetting_a_node_leaves_an_entry_that_the_next_one_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: swallowed.append(about.exc_type))
    x = K.placeholder((2,))
    gc.collect()
    before = len(NODES)
    y = K.sin(x * 3)

    def interrupt(frame: FrameType, event: str, arg: Any) -> None:
        if frame.f_code is _DROP and not swallowed:
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        del y
    finally:
        sys.setprofile(None)
    assert swallowed == [KeyboardInterrupt]
    assert len(NODES) > before  # the entry of a node that is gone
    np.testing.assert_allclose(K.function([x], K.sin(x * 3))([[1, 2]]), np.sin([3.0, 6.0]), rtol=1e-6)
    gc.collect()
    assert len(NODES) == before


# ---------------------------------------------------------------------------------------------------- the signal itself

SIGNALLED = """
import signal, sys
import numpy as np
from kgraph import backend as K

class Out:
    def write(self, text):
        if "now" in text:
            signal.raise_signal(signal.SIGINT)
    def flush(self):
        pass

v, n, c, x = K.variable([1.0, 2.0]), K.variable(0, dtype="int32"), K.placeholder(()), K.placeholder((None, 2))
with K.name_scope("step"):
    y = K.switch(c, lambda: K.sum(K.print_tensor(K.exp(x), "now")), lambda: K.sum(x))
step = K.function([c, x], [y], [(v, v + 1.0), (n, n + 1)] + [(K.variable(0.0), y) for _ in range(20)])
printed, sys.stdout = sys.stdout, Out()
for _ in range(3):
    try:
        step([1, [[0.0, 0.0]]])
    except KeyboardInterrupt:
        print("interrupted", file=printed)
    print(step([0, [[1.0, 2.0]]])[0], K.get_value(v), K.get_value(n), np.geterr()["divide"], file=printed)
printed.flush()
if sys.argv[1:]:
    step([1, [[0.0, 0.0]]])
"""


def test_a_signal_in_a_branch_of_a_program_is_a_keyboard_interrupt_and_nothing_else() -> None:
    lines = [f"interrupted\n3.0 [{i + 2}. {i + 3}.] {i + 1} warn\n" for i in range(3)]
    assert run_python(SIGNALLED) == "".join(lines)


def test_a_signal_that_nobody_catches_ends_the_process_as_python_does() -> None:
    with pytest.raises(AssertionError, match=f"exit status {-signal.SIGINT}") as caught:
        run_python(SIGNALLED, "again")
    assert "KeyboardInterrupt" in str(caught.value)
    assert "During handling of" not in str(caught.value)

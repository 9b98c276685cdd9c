"""The TensorFlow engine's own machinery: sessions and graphs, generations, programs that use TensorFlow beside kgraph.
Collected where TensorFlow is installed, see conftest.py.

What holds on every engine is in the tests that take the fixture `engine`; whose memory results are in, XLA, and what needs a process
of its own, in files beside this one.
"""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import tensorflow as tf  # conftest.py has loaded it, quietly

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import EngineError, IndexOutOfRange, ShapeError
from kgraph.lower.tensorflow import ENGINE
from kgraph.lower.tensorflow import session as sessions
from kgraph.lower.tensorflow.rules import RULES
from tests.lower.counter import Counter

v1 = tf.compat.v1

pytestmark = pytest.mark.usefixtures("on_tensorflow")


def op_types(graph: Any) -> set[str]:
    return {op.type for op in graph.get_operations()}


# ---------------------------------------------------------------------------------------------------- sessions


def test_functions_run_in_the_session_that_get_session_gives_and_in_no_graph_of_the_user() -> None:
    with tf.Graph().as_default() as around:
        counter = Counter()
        counter.check()
    session = K.get_session()
    assert isinstance(session, v1.Session)
    assert K.get_session() is session
    assert around.get_operations() == []
    assert session.graph is not v1.get_default_graph()
    (handle,) = [op for op in session.graph.get_operations() if op.type == "VarHandleOp"]
    assert handle.name == "kgraph/total/handle"
    (read,) = [op.outputs[0] for op in session.graph.get_operations() if op.name == "kgraph/total/get"]
    np.testing.assert_array_equal(session.run(read), [1, 10])


def test_building_makes_no_session_and_no_op() -> None:
    before = K.get_session().graph.version
    x = K.placeholder((3,))
    K.gradients(K.sum(K.exp(x)), [x])
    K.function([x], [K.exp(x)])
    assert K.get_session().graph.version == before


def test_functions_move_into_a_session_of_the_user_and_out_of_it_with_their_values() -> None:
    counter, fixed = Counter(), K.variable(7.0)
    read = K.function([], fixed)
    counter.check()
    assert read() == 7
    with tf.Graph().as_default() as graph:
        mine = v1.get_variable("mine", initializer=[1.0, 2.0])
        session = v1.Session()
    session.run(mine.initializer)
    for _ in range(2):  # there and back, twice
        K.set_session(session)
        assert K.get_session() is session
        for _ in range(2):
            counter.check()
            assert read() == 7
        counter.check_value()
        K.clear_session()
        assert K.get_session() is not session
        counter.check()
        counter.check_value()
    assert {"mine", "kgraph/total/handle"} <= {op.name for op in graph.get_operations()}
    with graph.as_default():
        np.testing.assert_array_equal(session.run(mine * 2.0), [2, 4])  # it is the user's still, and open


def test_a_session_that_is_set_again_changes_nothing() -> None:
    session = v1.Session(graph=tf.Graph())
    K.set_session(session)
    counter = Counter()
    counter.check()
    before = session.graph.version
    K.set_session(session)
    counter.check()
    assert session.graph.version == before


def test_ops_and_variables_that_the_user_makes_in_the_session_of_kgraph_work_there() -> None:
    counter = Counter()
    counter.check()
    session = K.get_session()
    with session.graph.as_default():
        mine = v1.get_variable("mine", initializer=[1.0, 2.0])
        session.run(v1.global_variables_initializer())  # leaves those of kgraph alone
        np.testing.assert_array_equal(session.run(mine + 1.0), [2, 3])
    for number in range(15):
        make_and_drop(number)
    counter.check()
    counter.check_value()
    assert K.get_session() is session
    np.testing.assert_array_equal(session.run(mine), [1, 2])


def test_what_the_user_holds_of_an_old_session_stays_whole() -> None:
    counter = Counter()
    counter.check()
    session, graph = K.get_session(), K.get_session().graph
    with graph.as_default():
        mine = tf.constant([1.0, 2.0]) * 2.0
    K.clear_session()
    counter.check()
    gc.collect()
    np.testing.assert_array_equal(session.run(mine), [2, 4])
    del session
    gc.collect()
    assert mine.op in graph.get_operations()
    with v1.Session(graph=graph) as session:
        np.testing.assert_array_equal(session.run(mine), [2, 4])


def test_an_interactive_session_can_be_set() -> None:
    session = v1.InteractiveSession(graph=tf.Graph())
    try:
        K.set_session(session)
        counter = Counter()
        counter.check()
        counter.check_value()
    finally:
        K.clear_session()
        session.close()


def test_what_is_no_session_or_takes_no_ops_is_refused() -> None:
    done = v1.Session(graph=tf.Graph())
    done.close()
    sealed = v1.Session(graph=tf.Graph())
    sealed.graph.finalize()
    current = K.get_session()
    for wrong, message in (
        (None, r"None is no session of TensorFlow\n(.*\n)*  hint: tf.compat.v1.Session\(\) is one"),
        (tf.Graph(), "<tensorflow.*Graph object at .* is no session of TensorFlow"),
        (v1.Session, "<class .* is no session of TensorFlow"),
        (done, "the session is closed, and functions have to be built into its graph"),
        (sealed, "the graph of the session is finalized, and functions have to be built into its graph"),
    ):
        with pytest.raises(EngineError, match=f"^set_session: {message}"):
            K.set_session(wrong)
    assert K.get_session() is current


def test_after_a_session_is_closed_only_the_values_that_were_nowhere_else_are_lost() -> None:
    counter, known, unread = Counter(), Counter(), K.variable([3.0, 4.0])
    double = K.function([], unread * 2)
    session = v1.Session(graph=tf.Graph())
    K.set_session(session)
    counter.check()
    known.check()
    known.check_value()  # which brings it to the host
    double()
    session.close()

    for call in (counter.check, double):
        with pytest.raises(EngineError, match=r"^function call: the TensorFlow session is closed\n  at .*\n  hint: K.set_session"):
            call()
    K.clear_session()
    known.check()
    np.testing.assert_array_equal(double(), [6, 8])
    for call in (counter.check, lambda: K.get_value(counter.total)):
        with pytest.raises(EngineError, match="the value of a variable is lost with the TensorFlow session that was closed"):
            call()
    K.set_value(counter.total, [5, 5])
    counter.wanted = np.array([5.0, 5.0])
    counter.check()
    counter.check_value()


def test_a_value_can_be_set_while_its_session_is_closed() -> None:
    counter = Counter()
    session = v1.Session(graph=tf.Graph())
    K.set_session(session)
    counter.check()
    session.close()
    K.set_value(counter.total, [2, 2])
    counter.wanted = np.array([2.0, 2.0])
    counter.check_value()
    K.clear_session()
    counter.check()


@pytest.mark.parametrize("value", [True, False])
def test_variables_have_their_values_whoever_wants_to_initialise_them(value: bool) -> None:
    K.manual_variable_initialization(value)
    try:
        counter = Counter()
        counter.check()
        counter.check_value()
    finally:
        K.manual_variable_initialization(False)


def test_a_loaded_function_has_variables_of_its_own() -> None:
    counter = Counter()
    counter.check()  # the value is in the session alone
    twin = pickle.loads(pickle.dumps(counter))
    twin.check()
    twin.check_value()
    assert twin.add.engine is ENGINE
    np.testing.assert_array_equal(K.get_value(counter.total), [1, 10])
    K.clear_session()
    counter.check()
    twin.check()


# ---------------------------------------------------------------------------------------------------- generations


def make_and_drop(number: int, nodes: int = 20) -> None:
    x, w = K.placeholder((3,)), K.variable([1.0, 2.0, 3.0])
    y = x * w
    for i in range(nodes):
        y = K.sin(y) + float(number * nodes + i)
    K.function([x], y, [K.update_add(w, x)])([[1, 2, 3]])


def test_dead_ops_are_given_back_and_what_lives_goes_on() -> None:
    counter, idle = Counter(), K.function([x := K.placeholder((3,))], K.exp(x) * 2.0)
    idle([[0, 0, 0]])
    most, graphs = 0, weakref.WeakSet[Any]()
    for number in range(60):
        make_and_drop(number)
        if number % 7 == 0:
            counter.check()
        most = max(most, K.get_session().graph.version)
        graphs.add(K.get_session().graph)
    assert most < 4 * sessions.FEW_OPS
    gc.collect()
    assert len(graphs) == 1  # a function that is not called keeps no old graph
    np.testing.assert_array_equal(idle([[0, 0, 0]]), [2, 2, 2])
    counter.check_value()


def test_functions_with_branches_count_with_the_ops_of_their_bodies() -> None:
    before = ENGINE.generation
    for number in range(12):
        x = K.placeholder((3,))

        def body(x: Any = x, number: int = number) -> Any:
            for i in range(60):
                x = K.sin(x) + float(60 * number + i)
            return x

        K.function([x], K.switch(K.sum(x) > 0, body, x))([[1, 2, 3]])
    assert ENGINE.generation > before


def test_in_a_session_of_the_user_no_generation_ends() -> None:
    session = v1.Session(graph=tf.Graph())
    K.set_session(session)
    for number in range(15):
        make_and_drop(number)
    assert K.get_session() is session


def test_random_functions_go_on_from_one_generation_to_the_next() -> None:
    def make() -> Any:
        return K.function([], K.random_uniform((4,), seed=3))

    f, g = make(), make()
    drawn = [f() for _ in range(3)]
    for number, wanted in enumerate(drawn):
        np.testing.assert_array_equal(g(), wanted)
        K.clear_session() if number == 1 else None
    assert len({values.tobytes() for values in drawn}) == 3


def test_draws_are_made_by_stateless_ops_alone() -> None:
    x = K.placeholder((None, 3))
    y = K.dropout(x, 0.5) + K.random_normal((3,)) + K.random_uniform((3,)) + K.random_binomial((3,), 0.5)
    K.function([x], y)([np.ones((2, 3))])
    drawing = {kind for kind in op_types(K.get_session().graph) if "Random" in kind}
    assert drawing
    assert all(kind.startswith("StatelessRandom") for kind in drawing)


def test_threads_build_and_call_while_generations_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "FEW_OPS", 10)
    total, x = K.variable(0.0), K.placeholder(())
    add = K.function([x], [], [K.update_add(total, x)])
    start, before = Barrier(4), ENGINE.generation

    def work(seed: int) -> None:
        start.wait()
        for i in range(12):
            w = K.variable(float(seed))
            y = K.placeholder((2,))
            f = K.function([y], K.sin(y * w) + float(100 * seed + i), [K.update_add(w, 1.0)])
            for call in range(2):
                wanted = np.sin(np.array([1.0, 2.0]) * (seed + call)) + 100 * seed + i
                np.testing.assert_allclose(f([[1, 2]]), wanted, rtol=1e-6)
            add([1])
            assert K.get_value(w) == seed + 2

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert K.get_value(total) == 48
    assert ENGINE.generation > before + 3


def test_variables_stay_where_a_later_generation_of_another_thread_has_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    total, x, save = K.variable(0.0), K.placeholder(()), ENGINE._save
    add = K.function([x], [], [K.update_add(total, x)])
    add([1])

    def save_while_another_begins(found: Any) -> None:
        save(found)
        monkeypatch.undo()
        K.clear_session()
        add([1])

    monkeypatch.setattr(ENGINE, "_save", save_while_another_begins)
    K.clear_session()
    for _ in range(2):
        add([1])
    assert K.get_value(total) == 4


def test_no_step_is_lost_while_sessions_change_under_threads_that_train() -> None:
    a, b, x = K.variable(0.0), K.variable(0.0), K.placeholder(())
    add = K.function([x], [a, b], [K.update_add(a, x), K.update_sub(b, x)])
    start = Barrier(4)

    def train(step: float) -> None:
        start.wait()
        for _ in range(100):
            there, back = add([step])
            assert there == -back

    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(train, step) for step in (1.0, 2.0, 3.0)]
        start.wait()
        changes = 0
        while changes < 10 or not all(job.done() for job in jobs):
            K.set_session(v1.Session(graph=tf.Graph())) if changes % 2 else K.clear_session()
            changes += 1
        for job in jobs:
            job.result()
    assert K.get_value(a) == 600 == -K.get_value(b)


# ---------------------------------------------------------------------------------------------------- what fails


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes a function with an op for which TensorFlow has no kernel."""
    monkeypatch.setitem(RULES, o.tanh, lambda x: tf.cast(tf.raw_ops.Erfinv(x=tf.cast(x, tf.half)), x.dtype))
    monkeypatch.setattr(ENGINE, "_known", set())
    x = K.placeholder((2,))
    return lambda: K.function([x], K.tanh(x))


@pytest.mark.parametrize("mine", [True, False])
def test_an_op_that_a_session_refuses_costs_no_value(mine: bool, refused: Callable[[], Any]) -> None:
    counter = Counter()
    for _ in range(2):
        if mine:
            K.set_session(v1.Session(graph=tf.Graph()))
        counter.check()
        with pytest.raises(EngineError, match="^function call: the TensorFlow session refuses a program: No OpKernel") as caught:
            refused()([[0.1, 0.2]])
        if mine:
            assert "K.clear_session gives another" in str(caught.value)
            counter.check_value()
            with pytest.raises(EngineError, match="the TensorFlow session refuses a program"):
                counter.check()
            K.clear_session()
        counter.check()
        counter.check_value()


@pytest.mark.parametrize("mine", [True, False])
def test_a_failed_call_changes_no_variable_whichever_check_fails(mine: bool) -> None:
    if mine:  # TensorFlow rewrites more there
        K.set_session(v1.Session(graph=tf.Graph()))
    a, b = K.variable([1.0, 2.0, 3.0]), K.variable(0.0)
    i, x = K.placeholder((), dtype="int32"), K.placeholder((None,))
    step = [K.update(a, a * 2), K.update_add(b, 1)]
    index = K.function([i], [K.gather(a, i)], step)
    sizes = K.function([x, i], [K.zeros((2,)) + K.repeat_elements(x, 2, 0)[: i], a], step)
    fit = K.function([x], [a], [K.update_add(b, 1), (a, x * 2)])
    for call, error in (
        (lambda: index([3]), IndexOutOfRange),
        (lambda: index([-4]), IndexOutOfRange),
        (lambda: sizes([[1, 2, 3], 5]), ShapeError),
        (lambda: fit([[1, 2]]), ValueError),
    ):
        with pytest.raises(error):
            call()
        np.testing.assert_array_equal(K.get_value(a), [1, 2, 3])
        assert K.get_value(b) == 0
    assert index([-1]) == [3]
    sizes([[1, 2, 3], 2])
    fit([[5, 5, 5]])
    np.testing.assert_array_equal(K.get_value(a), [10, 10, 10])
    assert K.get_value(b) == 3


# ---------------------------------------------------------------------------------------------------- beside TensorFlow


AROUND: dict[str, Callable[[ExitStack], Any]] = {
    "a graph": lambda stack: stack.enter_context(tf.Graph().as_default()),
    "a graph and its session": lambda stack: (
        stack.enter_context(tf.Graph().as_default()), stack.enter_context(v1.Session())
    ),
    "a device": lambda stack: stack.enter_context(tf.device("/CPU:0")),
    "a name scope": lambda stack: (stack.enter_context(tf.Graph().as_default()), stack.enter_context(tf.name_scope("mine"))),
    "a variable scope": lambda stack: (
        stack.enter_context(tf.Graph().as_default()), stack.enter_context(v1.variable_scope("mine"))
    ),
    "a gradient tape": lambda stack: stack.enter_context(tf.GradientTape()),
}  # fmt: skip


@pytest.mark.parametrize("around", AROUND)
def test_what_is_entered_around_a_call_of_kgraph_does_not_matter(around: str) -> None:
    outside = Counter()
    outside.check()
    with ExitStack() as stack:
        AROUND[around](stack)
        inside = Counter()
        for counter in (inside, outside):
            counter.check()
            counter.check_value()
        v = K.variable(2.0)
        assert K.eval(K.switch(v > 1, lambda: K.exp(v - 2), lambda: v)) == 1
        assert not any(op.name.startswith("kgraph") for op in v1.get_default_graph().get_operations())
    inside.check()
    outside.check()


def test_conditions_of_the_user_on_the_graph_of_their_session_are_no_conditions_of_kgraph() -> None:
    session = v1.Session(graph=tf.Graph())
    K.set_session(session)
    counter = Counter()
    with session.graph.as_default():
        never = v1.placeholder(tf.float32, name="never")
        with tf.control_dependencies([tf.debugging.Assert(never > 0, [never])]), tf.name_scope("mine"):
            counter.check()
    counter.check()
    assert not [op.name for op in session.graph.get_operations() if op.name.startswith("mine/kgraph")]


def test_a_call_while_tensorflow_traces_a_function_is_a_call() -> None:
    counter, seen = Counter(), []

    @tf.function(autograph=False)
    def traced(x: Any) -> Any:
        counter.check()
        seen.append(tf.executing_eagerly())
        return x + 1

    assert traced(tf.constant(1.0)).numpy() == 2
    assert seen == [False]
    counter.check()
    counter.check_value()


def test_eager_programs_feed_their_tensors_and_use_the_results() -> None:
    assert tf.executing_eagerly()
    x, w = K.placeholder((None, 2)), K.variable(tf.constant([[1.0], [2.0]]))
    f = K.function([x], K.dot(x, w))
    made = tf.Variable([[1.0, 1.0], [0.0, 3.0]])
    np.testing.assert_array_equal(f([made]), [[3], [6]])
    np.testing.assert_array_equal(f([made * 2]), [[6], [12]])
    np.testing.assert_array_equal(tf.reduce_sum(f([made])).numpy(), 9)
    K.set_value(w, tf.constant([[0.0], [1.0]]))
    np.testing.assert_array_equal(f([tf.eye(2)]), [[0], [1]])
    assert tf.executing_eagerly()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(made**2)
        f([made])
    np.testing.assert_array_equal(tape.gradient(loss, made).numpy(), 2 * made.numpy())


def test_tensors_of_a_graph_of_the_user_are_no_values() -> None:
    x = K.placeholder((2,), name="x")
    f = K.function([x], x * 2)
    with tf.Graph().as_default():
        symbolic = v1.placeholder(tf.float32, (2,))
        with pytest.raises((ValueError, TypeError, NotImplementedError)):
            f([symbolic])
    np.testing.assert_array_equal(f([[1, 2]]), [2, 4])

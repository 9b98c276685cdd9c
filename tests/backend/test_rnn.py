"""Loops: what tables of single functions cannot say. Gradients in all directions, nesting, branches, draws, length, errors."""

from __future__ import annotations

import gc
import pickle
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import IndexOutOfRange, ShapeError
from kgraph.ir.node import Graph, Node
from kgraph.ir.passes import Record, loops
from kgraph.ir.traverse import toposort
from kgraph.ir.verify import verify
from tests.cases.base import Array, floats
from tests.kcases.rnn import LSTM, PLAIN_LSTM, recur
from tests.numeric import assert_gradient, central_difference


def wide(*shape: int, seed: int = 0) -> Array:
    return floats(*shape, seed=seed, low=-1, high=1, dtype="float64")


def feeds(*shapes: Sequence[int | None]) -> list[Any]:
    return [K.placeholder(shape, dtype="float64") for shape in shapes]


def both(value: Any) -> tuple[Any, list[Any]]:
    """What a step returns whose output is its one state."""
    return value, [value]


def scans(graph: Graph) -> list[Node]:
    """The loops of a graph, and of their bodies, outermost first."""
    found: list[Node] = []
    waiting = [graph]
    for each in waiting:
        for node in toposort(each.roots):
            found += [node] if node.op is o.scan else []
            waiting += [node.attr(name) for name in node.op.bodies]
    return found


def assert_slopes(inputs: list[Any], loss: Any, values: list[Array], oracle: Callable[..., Any], engine: str, second: bool = True) -> None:
    """The loss is what the oracle says, its gradients and those of their squares are what differences say."""
    gradients = K.gradients(loss, inputs)
    total = K.sum(K.stack([K.sum(K.square(g)) for g in gradients]))
    curves = K.gradients(total, inputs) if second else []
    run = K.function(inputs, [loss, *gradients, *curves], engine=engine)
    verify(run.optimized())
    found = run(values)
    np.testing.assert_allclose(found[0], oracle(*values), rtol=1e-12, atol=1e-12)
    for i, g in enumerate(found[1 : 1 + len(inputs)]):
        assert_gradient(g, central_difference(lambda *v: float(oracle(*v)), values, i))
    slope = K.function(inputs, total, engine="numpy")
    for i, g in enumerate(found[1 + len(inputs) :]):
        np.testing.assert_allclose(g, central_difference(lambda *v: float(slope(list(v))), values, i), rtol=2e-6, atol=2e-6)


# ---------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_an_lstm_of_unknown_sizes_first_and_second(masked: bool, back: bool, engine: str) -> None:
    x, h, c, w, u = feeds((None, None, 2), (None, 2), (None, 2), (2, 8), (2, 8))
    mask = np.array([[1, 0, 1], [0, 0, 1]]) if masked else None
    last, outputs, states = K.rnn(
        lambda x, states: LSTM(x, states, w, u), x, [h, c], mask=None if mask is None else K.variable(mask), go_backwards=back
    )
    loss = K.sum(last * last) + K.sum(outputs * [0.3, -1.0]) + K.sum(states[1])

    def oracle(x: Array, h: Array, c: Array, w: Array, u: Array) -> Any:
        last, outputs, states = recur(lambda x, states: PLAIN_LSTM(x, states, w, u), x, [h, c], mask, back)
        return (last * last).sum() + (outputs * [0.3, -1.0]).sum() + states[1].sum()

    values = [wide(2, 3, 2), wide(2, 2), wide(2, 2, seed=1), wide(2, 8), wide(2, 8, seed=1)]
    assert_slopes([x, h, c, w, u], loss, values, oracle, engine)


def test_a_loop_in_a_loop(engine: str) -> None:
    x, h = feeds((None, None, 3), (None, 1))

    def outer(part: Any, states: list[Any]) -> Any:
        inner = lambda y, s: (K.tanh(y * s[0] + K.sum(part, axis=-1, keepdims=True)), [K.tanh(y + s[0] * 0.5)])  # noqa: E731
        last, outputs, news = K.rnn(inner, K.expand_dims(part), [states[0]])
        return last + K.sum(outputs, axis=1), news

    last, outputs, states = K.rnn(outer, x, [h])

    def plain_outer(part: Array, states: Any) -> Any:
        inner = lambda y, s: (np.tanh(y * s[0] + part.sum(-1, keepdims=True)), [np.tanh(y + s[0] * 0.5)])  # noqa: E731
        last, outputs, news = recur(inner, part[..., None], states, units=(1,))
        return last + outputs.sum(1), news

    def oracle(x: Array, h: Array) -> Any:
        last, outputs, states = recur(plain_outer, x, [h], units=(1,))
        return (last * 2).sum() + (outputs**2).sum() + states[0].sum()

    loss = K.sum(last * 2) + K.sum(K.square(outputs)) + K.sum(states[0])
    assert_slopes([x, h], loss, [wide(2, 3, 3), wide(2, 1)], oracle, engine)


def test_a_branch_in_a_loop_runs_one_side_and_has_its_gradient(engine: str, capfd: Any) -> None:
    x, h, w = feeds((2, 4, 2), (2, 2), (2, 2))

    def step(part: Any, states: list[Any]) -> Any:
        taken = lambda: K.print_tensor(K.dot(K.tanh(states[0] + part), w), "taken")  # noqa: E731
        new = K.switch(K.sum(part) > 0, taken, states[0] * part)
        return new * 2, [new]

    def plain(part: Array, states: Any, w: Array) -> Any:
        new = np.tanh(states[0] + part) @ w if part.sum() > 0 else states[0] * part
        return new * 2, [new]

    def oracle(x: Array, h: Array, w: Array) -> Any:
        last, outputs, _ = recur(lambda x, s: plain(x, s, w), x, [h])
        return (outputs**2).sum() + last.sum()

    last, outputs, _ = K.rnn(step, x, [h])
    values = [wide(2, 4, 2), wide(2, 2), wide(2, 2, seed=1)]
    positive = int((values[0].sum((0, 2)) > 0).sum())
    assert 0 < positive < 4
    K.function([x, h, w], [last], engine=engine)(values)
    assert capfd.readouterr().out.count("taken") == positive
    loss = K.sum(K.square(outputs)) + K.sum(last)
    K.function([x, h, w], [loss, *K.gradients(loss, [x, h, w])], engine=engine)(values)
    assert capfd.readouterr().out.count("taken") == positive  # once a step, forward, and not on the way back
    assert_slopes([x, h, w], loss, values, oracle, engine)


@pytest.mark.parametrize("chosen", [1.0, -1.0])
def test_a_loop_in_a_branch_runs_only_when_that_is_taken(chosen: float, engine: str, capfd: Any) -> None:
    x, h, c = feeds((2, 3, 2), (2, 2), ())
    step = lambda part, states: (K.print_tensor(K.tanh(part + states[0]), "step"), [K.tanh(part + states[0])])  # noqa: E731

    def looped() -> Any:
        last, outputs, states = K.rnn(step, x, [h])
        return K.sum(K.square(outputs)) + K.sum(last) * K.sum(states[0])

    loss = K.switch(c > 0, looped, lambda: K.sum(x) * K.sum(h) + c * 0)

    def oracle(x: Array, h: Array, c: Array) -> Any:
        last, outputs, states = recur(lambda x, s: (np.tanh(x + s[0]), [np.tanh(x + s[0])]), x, [h])
        return (outputs**2).sum() + last.sum() * states[0].sum() if c > 0 else x.sum() * h.sum()

    values = [wide(2, 3, 2), wide(2, 2), np.array(chosen)]
    run = K.function([x, h, c], [loss, *K.gradients(loss, [x, h])], engine=engine)
    capfd.readouterr()
    found = run(values)
    assert capfd.readouterr().out.count("step") == (3 if chosen > 0 else 0)
    np.testing.assert_allclose(found[0], oracle(*values), rtol=1e-12)
    assert_slopes([x, h], K.switch(K.variable(chosen) > 0, looped, lambda: K.sum(x) * K.sum(h)), values[:2],
                  lambda x, h: oracle(x, h, chosen), engine, second=chosen > 0)  # fmt: skip


def test_gradients_reach_what_the_step_closes_over_and_constants(engine: str) -> None:
    x, w, b = feeds((2, 3, 2), (2, 2), (2,))

    def step(part: Any, given: list[Any]) -> Any:
        h, factor, (first, second) = given
        new = K.tanh(K.dot(part, w) * first + h * factor + second)
        return new, [new]

    h0 = K.variable(np.zeros((2, 2)), dtype="float64")
    last, _, _ = K.rnn(step, x, [h0], constants=[b, [np.float64(0.5), K.sum(w)]])

    def oracle(x: Array, w: Array, b: Array) -> Any:
        return recur(lambda part, s: both(np.tanh(part @ w * 0.5 + s[0] * b + w.sum())), x, [np.zeros((2, 2))])[0].sum()

    assert_slopes([x, w, b], K.sum(last), [wide(2, 3, 2), wide(2, 2), wide(2)], oracle, engine)


# ---------------------------------------------------------------------------------------------------- unrolled, draws, phase


@pytest.mark.parametrize("back", [False, True])
def test_unrolled_and_looped_give_the_same_numbers_draws_too(back: bool, engine: str) -> None:
    x, h = feeds((3, 4, 2), (3, 2))
    results = []
    for unroll in (False, True):
        K.set_seed(5)

        def step(part: Any, states: list[Any]) -> Any:
            new = K.in_train_phase(lambda: K.dropout(part, 0.5), lambda: part * 0.25) + states[0] * 0.5
            return K.tanh(new), [new]

        last, outputs, states = K.rnn(step, x, [h], unroll=unroll, go_backwards=back)
        run = K.function([x, h], [last, outputs, *states, *K.gradients(K.sum(outputs * outputs), [x, h])], engine=engine)
        assert len(scans(run.optimized(True))) == (0 if unroll else 2)
        results.append([run([wide(3, 4, 2), wide(3, 2)], training=t) for t in (1, 0)])
    for one, other in zip(*results, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


def test_each_step_and_each_call_draws_anew_and_the_way_back_has_the_same_draws(engine: str) -> None:
    (x,) = feeds((4, 6, 50))
    _, outputs, _ = K.rnn(lambda part, states: (K.dropout(part, 0.5), []), x, [])
    run = K.function([x], [outputs, K.gradients(K.sum(outputs), [x])[0]], engine=engine)
    first, slopes = run([np.ones((4, 6, 50))])
    again, _ = run([np.ones((4, 6, 50))])
    np.testing.assert_array_equal(first, slopes)
    masks = [tuple(draw[:, t].ravel()) for draw in (first, again) for t in range(6)]
    assert len(set(masks)) == 12
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 0.4 < (first > 0).mean() < 0.6


def test_draws_in_loops_within_loops_all_differ(engine: str) -> None:
    (x,) = feeds((3, 4))
    run = K.function([x], K.map_fn(lambda row: K.map_fn(lambda y: y + K.random_uniform(()), row), x), engine=engine)
    drawn = np.concatenate([run([np.zeros((3, 4))]).ravel() for _ in range(2)])
    assert len(set(drawn)) == 24


def test_a_draw_from_outside_is_the_same_in_every_step(engine: str) -> None:
    noise = K.random_normal((3,), seed=4)
    out = K.map_fn(lambda row: row + noise, K.variable(np.zeros((5, 3))))
    (found,) = K.function([], [out], engine=engine)([])
    assert (found == found[0]).all()
    assert len(set(found[0])) == 3


# ---------------------------------------------------------------------------------------------------- what a program holds


def test_a_program_holds_nothing_for_gradients_that_nobody_asked_for() -> None:
    x, h, w = feeds((2, 3, 2), (2, 2), (2, 2))
    last, _, _ = K.rnn(lambda part, states: both(K.tanh(K.dot(states[0], w) + part)), x, [h])
    for optimize in (True, False):
        (loop,) = scans(K.function([x, h, w], last, optimize=optimize).optimized())
        assert [str(type) for type in loop.type.items] == ["float64[2, 2]"]  # type: ignore[attr-defined]
    back = scans(K.function([x, h, w], K.gradients(K.sum(last), [h])).optimized())
    assert len(back) == 2
    assert [str(type) for type in back[1].type.items] == ["float64[2, 2]"]  # type: ignore[attr-defined]  # no sum for w, no stack for x
    assert len(back[0].type.items) == 2  # type: ignore[attr-defined]  # the final state, and one residual


def test_states_that_nothing_needs_go_with_what_only_they_needed() -> None:
    x, a, b = feeds((2, 3, 2), (2, 2), (2, 2))
    _, _, (first, second) = K.rnn(lambda part, s: (part, [s[0] * 2, s[1] + part * s[0]]), x, [a, b])
    (loop,) = scans(K.function([x, a, b], first).optimized())
    assert (loop.attr("states"), loop.attr("sequences")) == (1, 0)
    (loop,) = scans(K.function([x, a, b], second).optimized())
    assert (loop.attr("states"), loop.attr("sequences")) == (2, 1)


def test_the_pass_over_what_is_trimmed_already_changes_nothing() -> None:
    x, h = feeds((2, 3, 2), (2, 2))
    nested = lambda part, s: (K.foldl(lambda acc, y: acc * y, part, s[0][0]) + part, [s[0] * 2])  # noqa: E731
    last, outputs, _ = K.rnn(nested, x, [h])
    loss = K.sum(last) + K.sum(outputs)
    graph = K.function([x, h], [loss, *K.gradients(loss, [x, h])]).optimized()
    verify(graph)
    record = Record()
    assert loops(graph, record).roots == graph.roots
    assert not record


def test_the_phase_is_decided_before_the_loop_runs() -> None:
    x, h = feeds((2, 3, 2), (2, 2))
    last, _, _ = K.rnn(lambda part, s: (K.dropout(K.in_train_phase(lambda: part * 2, part), 0.5), [s[0]]), x, [h])
    run = K.function([x, h], last)
    for training in (False, True):
        (loop,) = scans(run.optimized(training))
        assert not any(node.op in (o.cond, o.switch) for node in toposort(loop.attr("body").outputs))


def test_functions_of_one_structure_share_a_program_and_a_pickle_gives_the_same(engine: str) -> None:
    def made(seed: int) -> Any:
        x, w = K.placeholder((2, 3, 2)), K.variable(floats(2, 2, seed=seed))
        last, _, _ = K.rnn(lambda part, s: both(K.tanh(K.dot(part, w) + s[0])), x, [K.zeros((2, 2))])
        return K.function([x], [last, *K.gradients(K.sum(last), [w])], engine=engine)

    one, other = made(0), made(1)
    value = floats(2, 3, 2)
    a, b = one([value]), other([value])
    assert not np.array_equal(a[0], b[0])
    if engine == "numpy":
        assert one._programs[0] is other._programs[0]
    loaded = pickle.loads(pickle.dumps(one))
    for found, wanted in zip(loaded([value]), a, strict=True):
        np.testing.assert_array_equal(found, wanted)


# ---------------------------------------------------------------------------------------------------- length and depth


def _long(steps: int, engine: str) -> tuple[Any, list[Array]]:
    x, h = K.placeholder((4, None, 3)), K.variable(floats(4, 8))
    w, u = K.variable(floats(3, 8) * 0.1), K.variable(floats(8, 8) * 0.1)
    last, _, _ = K.rnn(lambda part, s: both(K.tanh(K.dot(part, w) + K.dot(s[0], u))), x, [h])
    return K.function([x], [last, *K.gradients(K.sum(last), [w, u, h])], engine=engine), [floats(4, steps, 3)]


def test_ten_thousand_steps_forward_and_back(engine: str) -> None:
    run, values = _long(10_000, engine)
    found = run(values)
    assert all(np.isfinite(value).all() for value in found)
    short = run([values[0][:, -200:]])  # what was long ago is forgotten
    np.testing.assert_allclose(found[0], short[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], short[1], rtol=1e-3, atol=1e-5)


def test_memory_and_time_are_linear_in_the_steps() -> None:
    run, values = _long(10_000, "numpy")
    run([values[0][:, :10]])
    peaks, seconds = [], []
    for steps in (1000, 10_000):
        part = np.ascontiguousarray(values[0][:, :steps])
        run([part])
        gc.collect()
        tracemalloc.start()
        run([part])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        began = time.perf_counter()
        run([part])
        seconds.append(time.perf_counter() - began)
    assert peaks[1] < 11 * peaks[0]
    assert peaks[1] < 10_000 * 4 * 8 * 4 * 8  # eight states' worth for each step at most
    assert seconds[1] < 25 * seconds[0]


def test_building_and_running_is_linear_in_nesting() -> None:
    def nested(depth: int, x: Any) -> Any:
        return K.tanh(x) if not depth else K.foldl(lambda acc, y: K.tanh(acc * nested(depth - 1, y)), x, 1.0)

    sizes = []
    for depth in (2, 4, 6):
        x = K.placeholder((1,) * depth)
        run = K.function([x], K.gradients(nested(depth, x), [x]))
        sizes.append(sum(len(loop.attr("body")) for loop in scans(run.optimized())))
        assert np.isfinite(run([np.ones((1,) * depth)])[0]).all()
    # Each loop is there forwards, backwards, and forwards again in the way back of each loop around it.
    assert sizes[2] - sizes[1] < 2 * (sizes[1] - sizes[0])


# ---------------------------------------------------------------------------------------------------- errors


def test_an_error_in_a_step_names_the_line_in_the_step_and_its_operands(engine: str) -> None:
    x, i = K.placeholder((2, 3, 2), name="x"), K.placeholder((None,), dtype="int32", name="i")
    table = K.variable(np.ones((3, 2)), name="table")
    pick = lambda part, states: (part + K.sum(K.gather(table, i)), [])  # noqa: E731
    last, _, _ = K.rnn(pick, x, [])
    run = K.function([x, i], [last], engine=engine)
    run([np.ones((2, 3, 2)), [0, 2]])
    with pytest.raises(IndexOutOfRange) as caught:
        run([np.ones((2, 3, 2)), [0, 3]])
    assert caught.value.call == "gather"
    assert caught.value.message == "index 3 is out of bounds for axis 0 with size 3"
    assert list(caught.value.operands) == ["x:       float32[3, 2]  variable 'table'", "indices: int32[?]  placeholder 'i'"]
    assert str(caught.value.place).endswith(f"test_rnn.py:{pick.__code__.co_firstlineno}")


def test_an_index_that_a_step_computes_is_checked_in_the_step(engine: str) -> None:
    indices, table = K.placeholder((None,), dtype="int32", name="indices"), K.variable(np.arange(6.0).reshape(3, 2), name="table")
    pick = lambda index: K.sum(K.gather(table, index * 2))  # noqa: E731
    run = K.function([indices], K.map_fn(pick, indices), engine=engine)
    np.testing.assert_array_equal(run([[0, 1, 0]]), [1, 9, 1])
    with pytest.raises(IndexOutOfRange, match="index 4 is out of bounds for axis 0 with size 3") as caught:
        run([[0, 1, 2]])
    assert str(caught.value.place).endswith(f"test_rnn.py:{pick.__code__.co_firstlineno}")
    np.testing.assert_array_equal(run([[1]]), [9])


BODIES = {
    "a step": "K.rnn(lambda x, s: (K.gather(t, s[0]) + x[:, :1], [s[0] + 1]), K.zeros((1, 2, 2)), [i])[1]",
    "a map": "K.map_fn(lambda j: K.gather(t, j), i)",
    "a branch in a loop": "K.map_fn(lambda j: K.switch(j > 0, lambda: K.sum(K.gather(t, j * 2)), 0.0), i)",
    "with the phase": "K.foldl(lambda a, j: a + K.sum(K.gather(K.in_train_phase(K.sin(t), t), j)), i, 0.0)",
    "the gradient": "K.gradients(K.map_fn(lambda j: K.exp(K.gather(t, j)), i), [t])[0]",
    "a loop in a branch": "K.switch(K.sum(i) > 0, lambda: K.sum(K.map_fn(lambda j: K.gather(t, j), i)), 0.0)",
}


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_functions_that_share_a_body_name_each_their_own_line(name: str, optimize: bool, engine: str) -> None:
    functions = []
    for line in range(1, 5):
        build = eval(compile("\n" * (line - 1) + "lambda t, i: " + BODIES[name], "body.py", "eval"), {"K": K})
        t, i = K.variable([[1.0, 2.0], [3.0, 4.0]], name=f"f{line}_t"), K.placeholder((1,), dtype="int32", name=f"f{line}_i")
        functions.append(K.function([i], [build(t, i)], engine=engine, optimize=optimize))
    for line, run in reversed(list(enumerate(functions, 1))):
        with pytest.raises(IndexOutOfRange) as caught:
            run([[7]])
        assert caught.value.place == f"body.py:{line}"
        assert caught.value.operands[0] == f"x:       float32[2, 2]  variable 'f{line}_t'" or name == "with the phase"


@pytest.mark.parametrize("optimize", [True, False])
def test_sizes_that_do_not_go_together_are_refused_before_a_step_runs(optimize: bool, engine: str, capfd: Any) -> None:
    x, h = K.placeholder((None, None, 2), name="x"), K.placeholder((None, 2), name="h")
    step = lambda part, states: (K.print_tensor(part + states[0], "step"), [states[0]])  # noqa: E731
    run = K.function([x, h], [K.rnn(step, x, [h])[1]], engine=engine, optimize=optimize)
    with pytest.raises(ShapeError, match="sizes differ at run time on axis -2: 1 != 2") as caught:
        run([np.ones((1, 3, 2)), np.ones((2, 2))])
    assert "placeholder 'h'" in str(caught.value)
    assert str(caught.value.place).endswith(f"test_rnn.py:{step.__code__.co_firstlineno}")
    assert "step" not in capfd.readouterr().out


def test_a_mask_of_another_length_is_refused(engine: str) -> None:
    x, mask = K.placeholder((None, None, 2)), K.placeholder((None, None))
    run = K.function([x, mask], [K.rnn(lambda part, s: (part, []), x, [], mask=mask)[0]], engine=engine)
    np.testing.assert_array_equal(run([np.ones((1, 3, 2)), np.ones((1, 3))])[0], np.ones((1, 2)))
    with pytest.raises(ShapeError, match="a sequence has . elements|sequences differ"):
        run([np.ones((1, 3, 2)), np.ones((1, 2))])


def test_a_state_whose_size_changes_when_the_program_runs_is_refused(engine: str) -> None:
    x, h, n = K.placeholder((1, None, 1)), K.placeholder((None,)), K.placeholder((), dtype="int32")
    grown = lambda part, s: (part, [K.ones_like(K.arange(n), dtype="float32") * K.sum(part)])  # noqa: E731
    run = K.function([x, h, n], K.rnn(grown, x, [h])[2], engine=engine)
    np.testing.assert_array_equal(run([np.ones((1, 2, 1)), np.zeros(3), 3])[0], [1, 1, 1])
    with pytest.raises(ShapeError, match="changes the shape of state 0"):
        run([np.ones((1, 2, 1)), np.zeros(3), 4])


@pytest.mark.parametrize("size", [1, 4])
def test_sizes_computed_from_values_are_checked_in_the_step(size: int, engine: str) -> None:
    x, h, n = K.placeholder((1, None, 1)), K.placeholder((None,)), K.placeholder((), dtype="int32")
    ones = K.ones_like(K.arange(n), dtype="float32")
    run = K.function([x, h, n], K.rnn(lambda part, s: (part, [s[0] + ones]), x, [h])[2], engine=engine)
    np.testing.assert_array_equal(run([np.ones((1, 2, 1)), np.zeros(3), 3])[0], [2, 2, 2])
    with pytest.raises(ShapeError, match="sizes differ at run time on axis -1"):
        run([np.ones((1, 2, 1)), np.zeros(3), size])

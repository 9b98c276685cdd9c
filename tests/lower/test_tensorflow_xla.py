"""TensorFlow programs that XLA compiles: ``options={'xla': True}``.

Collected where TensorFlow is installed, see conftest.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.errors import IndexOutOfRange
from tests.lower.counter import Counter

pytestmark = pytest.mark.usefixtures("on_tensorflow")


def test_xla_compiles_a_function_that_asks_for_it_and_no_other() -> None:
    counter, plain = Counter(options={"xla": True}), Counter()
    for _ in range(3):
        plain.check()
    graph = K.get_session().graph
    calls = [op for op in graph.get_operations() if op.type in ("PartitionedCall", "StatefulPartitionedCall")]
    assert calls == []
    for _ in range(3):
        counter.check()
    (call,) = [op for op in graph.get_operations() if op.type in ("PartitionedCall", "StatefulPartitionedCall")]
    assert call.get_attr("_XlaMustCompile")
    counter.check_value()


def test_xla_draws_anew_at_each_call_and_the_same_for_the_same_seed() -> None:
    def make() -> Any:
        return K.function([], [K.random_uniform((50, 4), seed=3), K.random_normal((4,), seed=3)], options={"xla": True})

    f, g = make(), make()
    draws = [f() for _ in range(3)]
    for uniform, normal in draws:
        again = g()
        np.testing.assert_array_equal(uniform, again[0])
        np.testing.assert_array_equal(normal, again[1])
        assert 0 <= uniform.min() < 0.1 < 0.9 < uniform.max() < 1
    assert len({values.tobytes() for pair in draws for values in pair}) == 6


def test_xla_computes_the_same_for_each_set_of_sizes_with_updates_and_branches() -> None:
    def make(options: dict[str, Any]) -> Any:
        x, w = K.placeholder((None, 3)), K.variable(np.eye(3))
        h = K.softmax(K.dot(x, w))
        y = K.switch(K.sum(x) > 0, K.logsumexp(h, axis=1), K.sum(h, axis=1))
        loss = K.mean(y)
        return K.function([x], [y, loss], [(w, w - 0.1 * K.gradients(loss, [w])[0])], options=options), w

    (compiled, w), (plain, same) = make({"xla": True}), make({})
    rng = np.random.default_rng(0)
    for rows in (2, 5, 2, 1):
        for sign in (1, -1):
            fed = sign * np.abs(rng.normal(size=(rows, 3)))
            for ours, theirs in zip(compiled([fed]), plain([fed]), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(K.get_value(w), K.get_value(same), rtol=1e-5, atol=1e-6)


def test_xla_finds_an_index_out_of_range_and_writes_nothing() -> None:
    v, i = K.variable([1.0, 2.0], name="v"), K.placeholder((None,), dtype="int32", name="i")
    f = K.function([i], K.gather(v, i), [K.update_add(v, 1)], options={"xla": True})
    with pytest.raises(IndexOutOfRange, match=r"^gather: index 2 is out of bounds for axis 0 with size 2\n(.*\n)*.*'i'"):
        f([[0, 2]])
    np.testing.assert_array_equal(K.get_value(v), [1, 2])
    np.testing.assert_array_equal(f([[-1, 0]]), [2, 1])


def test_xla_cannot_print_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    f = K.function([x := K.placeholder(())], K.print_tensor(x, "seen") * 2, options={"xla": True})
    with pytest.warns(UserWarning, match="K.function: XLA cannot print, so that this function is run without it"):
        assert f([3]) == 6
    assert "seen" in "".join(capfd.readouterr())


def test_xla_hands_on_what_is_not_a_number() -> None:
    x, y = K.placeholder((4,)), K.placeholder((4,))
    square = K.reshape(x, (2, 2))
    outputs = [K.maximum(x, y), K.minimum(x, y), K.max(x), K.min(x), K.max(square, axis=1), K.min(square, axis=0, keepdims=True)]
    run, plain = K.function([x, y], outputs, options={"xla": True}), K.function([x, y], outputs, engine="numpy")
    nan = np.nan
    for values in ([[nan, 1, nan, -3], [1, nan, nan, 2]], [[1, 2, 3, nan], [4, 3, 2, 1]], [[1, 2, 3, 4], [4, 3, 2, 1]]):
        for found, wanted in zip(run(values), plain(values), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_xla_sums_over_alignments_and_cannot_search_them() -> None:
    y, n = K.placeholder((None, None, 3), name="y"), K.placeholder((None, 1), dtype="int32", name="n")
    labels = np.array([[0, 1], [1, 1]])
    loss = K.ctc_batch_cost(labels, y, n, np.array([[2], [2]]))
    outputs = [loss, *K.gradients(K.sum(loss), [y])]
    compiled, plain = [K.function([y, n], outputs, options=options) for options in ({"xla": True}, {})]
    rng = np.random.default_rng(0)
    for steps in (4, 5):
        fed = [rng.dirichlet(np.ones(3), (2, steps)), [[steps], [steps - 1]]]
        for ours, theirs in zip(compiled(fed), plain(fed), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    search = K.function([y, n], K.ctc_decode(y, n, greedy=False, beam_width=5)[0], options={"xla": True})
    with pytest.warns(UserWarning, match="K.function: XLA cannot search, so that this function is run without it"):
        np.testing.assert_array_equal(search([[[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]], [[2]]])[0], [[0]])


def test_xla_compiles_loops_their_gradients_and_their_checks() -> None:
    x, i, h = K.placeholder((2, None, 3)), K.placeholder((None,), dtype="int32"), K.variable(np.full((2, 3), 0.5))
    table = K.variable(np.arange(6.0).reshape(2, 3) / 6)

    def step(part: Any, states: list[Any]) -> Any:
        new = K.tanh(part * states[0] + K.sum(K.gather(table, i), axis=0))
        return new, [new]

    last, outputs, _ = K.rnn(step, x, [h], mask=np.array([[1, 0, 1], [0, 1, 1]]), input_length=3)
    results = [last, outputs, *K.gradients(K.sum(last * last) + K.sum(outputs), [x, h, table])]
    run, plain = K.function([x, i], results, options={"xla": True}), K.function([x, i], results, engine="numpy")
    values = [np.linspace(-1, 1, 18).reshape(2, 3, 3), [0, 1, 1]]
    for found, wanted in zip(run(values), plain(values), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(IndexOutOfRange, match="index 2 is out of bounds for axis 0 with size 2"):
        run([values[0], [0, 2]])


def test_xla_goes_round_a_loop_as_often_as_there_are_steps_also_never() -> None:
    x, h = K.placeholder((2, None, 3)), K.variable(np.full((2, 3), 0.5))
    last, outputs, states = K.rnn(lambda part, states: (part, [states[0] + part]), x, [h])
    run = K.function([x], [last, outputs, *states, *K.gradients(K.sum(states[0]), [x, h])], options={"xla": True})
    for steps in (2, 0, 5):
        value = np.arange(6.0 * steps).reshape(2, steps, 3)
        found = run([value])
        np.testing.assert_array_equal(found[0], value[:, -1] if steps else np.zeros((2, 3)))
        for one, wanted in zip(found[1:], [value, 0.5 + value.sum(1), np.ones((2, steps, 3)), np.ones((2, 3))], strict=True):
            np.testing.assert_array_equal(one, wanted)

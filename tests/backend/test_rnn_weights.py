"""The way back of a loop: the gradients of its weights are summed after it, what was dear to compute is kept, and building it is linear
in everything that a step has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.ir.node import Node
from kgraph.ir.traverse import toposort
from kgraph.ir.verify import verify
from tests.backend.test_rnn import both, feeds, scans, wide
from tests.numeric import assert_gradient, central_difference

Step = Callable[[Any, list[Any]], Any]

#: Name -> (x, h, w) -> the new state; whether the loop on the way back still adds up something for w.
STEPS: dict[str, tuple[Callable[[Any, Any, Any], Any], bool]] = {
    "of the state": (lambda x, h, w: K.tanh(K.dot(h, w) + x), False),
    "of the input": (lambda x, h, w: K.tanh(K.dot(x, w) + h), False),
    "of both": (lambda x, h, w: K.tanh(K.dot(x, w) * K.dot(h, w)), False),
    "of what is computed": (lambda x, h, w: K.tanh(K.dot(K.sin(x) * h, w)), False),
    "from the left": (lambda x, h, w: K.tanh(K.transpose(K.dot(w, K.transpose(h))) + x), False),
    "and element by element": (lambda x, h, w: K.tanh(K.dot(h, w) + K.sum(w * K.sum(x), axis=0)), True),
    "alone": (lambda x, h, w: K.tanh(h * K.sum(w * K.sum(x))), True),
    "with itself": (lambda x, h, w: K.tanh(K.dot(h, K.dot(w, w)) + x), False),
    "on one side of a branch": (lambda x, h, w: K.switch(K.greater(K.sum(h), 0.0), K.tanh(K.dot(h, w) + x), h * 0.5 - x), True),
    "of rank 3": (lambda x, h, w: K.tanh(K.batch_dot(K.expand_dims(h, 1), K.expand_dims(x, 2))[:, :, 0] + K.dot(h, w)), False),
    "in a loop within": (lambda x, h, w: K.tanh(K.foldl(lambda a, part: K.dot(a, w) + part, K.stack([x, h]), h) * 0.3), False),
}


def built(name: str, steps: int | None, unroll: bool = False) -> tuple[list[Any], Any]:
    """The operands, and the loss."""
    x, h, w = feeds((None, steps, 3), (None, 3), (3, 3))
    _, outputs, (last,) = K.rnn(lambda part, states: both(STEPS[name][0](part, states[0], w)), x, [h], unroll=unroll)
    return [x, h, w], K.sum(K.square(outputs)) + K.sum(last)


@pytest.mark.parametrize("name", STEPS)
def test_gradients_of_a_weight_first_and_second(name: str, engine: str) -> None:
    inputs, loss = built(name, None)
    same, flat = built(name, 3, unroll=True)
    values = [wide(2, 3, 3), wide(2, 3, seed=1), wide(3, 3, seed=2)]

    def slopes(inputs: list[Any], loss: Any) -> list[Any]:
        first = K.gradients(loss, inputs)
        return [*first, *K.gradients(K.sum(K.stack([K.sum(K.square(g)) for g in first])), inputs)]

    run = K.function(inputs, slopes(inputs, loss), engine=engine)
    verify(run.optimized())
    found = run(values)
    for g, wanted in zip(found, K.function(same, slopes(same, flat), engine="numpy")(values), strict=True):
        np.testing.assert_allclose(g, wanted, rtol=1e-9, atol=1e-11)
    value = K.function(same, flat, engine="numpy")
    for position, g in enumerate(found[:3]):
        assert_gradient(g, central_difference(lambda *v: float(value(list(v))), values, position))


@pytest.mark.parametrize("name", STEPS)
def test_without_steps_a_weight_has_no_slope(name: str, engine: str) -> None:
    (x, h, w), loss = built(name, None)
    found = K.function([x, h, w], K.gradients(loss, [w]), engine=engine)([wide(2, 0, 3), wide(2, 3), wide(3, 3)])
    np.testing.assert_array_equal(found[0], np.zeros((3, 3)))


@pytest.mark.parametrize("name", STEPS)
def test_products_of_matrices_are_summed_after_the_loop(name: str) -> None:
    inputs, loss = built(name, 5)
    loops = [node for node in toposort(K.function(inputs, K.gradients(loss, inputs)).optimized().roots) if node.op is o.scan]
    back = next(node for node in loops if node.attr("reverse"))
    first = 1 + back.attr("sequences")
    added_up = [node for node in back.inputs[first : first + back.attr("states")] if node.type.shape == (3, 3)]
    assert len(added_up) == STEPS[name][1]


def test_a_sum_doubled_again_and_again() -> None:
    """Its terms are as many as 2 ** 60."""
    x, h, w = feeds((2, 3, 2), (2, 2), (2, 2))

    def step(part: Any, states: list[Any]) -> Any:
        more = w
        for _ in range(60):
            more = (more + more) * 0.5
        return both(K.tanh(K.dot(states[0], more) + part))

    last, _, _ = K.rnn(step, x, [h])
    (plain, _, _) = K.rnn(lambda part, states: both(K.tanh(K.dot(states[0], w) + part)), x, [h])
    values = [wide(2, 3, 2), wide(2, 2, seed=1), wide(2, 2, seed=2)]
    found, wanted = (K.function([x, h, w], K.gradients(K.sum(loss), [w]))(values)[0] for loss in (last, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_the_way_back_of_an_lstm_computes_no_gate_again() -> None:
    x, w = feeds((2, 5, 8), (2, 8))

    def step(part: Any, states: list[Any]) -> Any:
        h, c = states
        gates = part + K.dot(h, w)
        keep, write, read = (K.sigmoid(gates[:, 2 * i : 2 * i + 2]) for i in range(3))
        c = keep * c + write * K.tanh(gates[:, 6:])
        h = read * K.tanh(c)
        return h, [h, c]

    last, _, _ = K.rnn(step, x, [K.zeros((2, 2), "float64")] * 2)
    ahead, back = scans(K.function([x, w], K.gradients(K.sum(last), [w])).optimized())
    inside = toposort(back.attr("body").outputs)
    assert not {node.op for node in inside} & {o.tanh, o.sigmoid, o.exp, o.scatter_index}
    assert sum(node.op is o.matmul for node in inside) == 1
    # Not both what was computed and what it was computed from: four gates, the tanh of a state, and the states before.
    assert len(ahead.attr("body").outputs) - ahead.attr("states") == 7


# ---------------------------------------------------------------------------------------------------- work


@pytest.mark.parametrize("of", ["captures", "states"])
def test_building_and_compiling_compares_no_node_with_all_others(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches through all captures or states of a loop took time quadratic in their number. Each compares nodes."""
    compared = 0

    def equal(a: Node, b: object) -> Any:
        nonlocal compared
        compared += 1
        return True if a is b else NotImplemented

    def build(count: int) -> None:
        x = K.placeholder((2, 3, 4))
        weights = [K.placeholder((4,)) for _ in range(count if of == "captures" else 1)]

        def step(part: Any, states: list[Any]) -> Any:
            h = part
            if of == "states":
                return h, [K.tanh(s * float(i)) + part for i, s in enumerate(states)]
            for i in range(count):
                h = h * weights[i]
            return h, [h]

        last, _, states = K.rnn(step, x, [K.zeros((2, 4))] * (count if of == "states" else 1))
        loss = K.sum(K.concatenate([last, *states]))
        K.function([x, *weights], K.gradients(loss, weights if of == "captures" else [x])).optimized()

    monkeypatch.setattr(Node, "__eq__", equal)
    monkeypatch.setattr(Node, "__hash__", object.__hash__)
    found = []
    for count in (50, 200):
        compared = 0
        build(count)
        found.append(compared)
    assert found[1] <= 6 * found[0] + 1000

"""`fn.trace_nan`: the node that makes the first number that is not finite, in branches, loops and gradients, and its line."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import FeedError


def line() -> int:
    """The caller's line."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_the_first_node_and_its_line(engine: str) -> None:
    x = K.placeholder((2, 3), name="x")
    shifted = x - 1.0
    y, at = K.log(shifted), line()
    f = K.function([x], K.sum(K.exp(y) * 2), engine=engine)
    assert f.trace_nan([np.full((2, 3), 2.0)]) is None
    values = np.full((2, 3), 2.0)
    values[1, 2] = 0.5
    values[0, 1] = 1.0
    found = f.trace_nan([values])
    assert found is not None
    assert found.node is y.node
    assert found.kind == "NaN"
    assert found.index == (1, 2)
    assert found.node.origin.line == at
    np.testing.assert_array_equal(found.operands[0], values - 1)
    text = str(found).splitlines()
    assert text[0] == "log gives nan at [1, 2], one of 2 of 6 elements"
    assert text[1].endswith(f"test_nan.py:{at}")
    assert text[2].endswith("from -0.5 to 1.0, -0.5 there")
    infinite = f.trace_nan(x=np.ones((2, 3)))
    assert infinite is not None
    assert (infinite.kind, infinite.index, infinite.node) == ("infinity", (0, 0), y.node)


def test_what_is_fed_or_held_is_named_itself() -> None:
    x, w = K.placeholder((2,), name="x"), K.variable([1.0, np.nan], name="w")
    f = K.function([x], x * w)
    found = f.trace_nan([[np.inf, 1]])
    assert found is not None
    assert found.node is x.node
    assert str(found).startswith("placeholder holds inf at [0]\n  float32[2]  placeholder 'x'")
    held = f.trace_nan([[1, 1]])
    assert held is not None
    assert held.node is w.node
    with pytest.raises(FeedError):
        f.trace_nan([[1, 1, 1]])


def test_infinities_that_are_written_are_no_surprise() -> None:
    x = K.placeholder((3,))
    masked = K.maximum(x, -np.inf)
    f = K.function([x], masked - masked)
    assert f.trace_nan([[1, 2, 3]]) is None
    low = K.placeholder((3,))
    g = K.function([low], (low * 0.0 - np.inf) + np.inf)
    found = g.trace_nan([[1, 2, 3]])
    assert found is not None
    assert found.kind == "NaN"
    assert found.node.op is o.add


def test_only_sides_that_are_taken(engine: str) -> None:
    x = K.placeholder((2,))
    y = K.switch(K.sum(x) > 0, lambda: K.log(x), lambda: x * 2)
    f = K.function([x], y, engine=engine)
    assert f.trace_nan([[-1, -2]]) is None
    found = f.trace_nan([[-1, 2]])
    assert found is not None
    assert found.node.op is o.log
    assert len(found.places) == 1
    assert "in a side of switch at" in str(found)
    trained = K.function([x], K.in_train_phase(K.log(x), x), engine=engine)
    assert trained.trace_nan([[-1, 1]]) is None
    assert trained.trace_nan([[-1, 1]], training=True) is not None


def looped(of: Any) -> tuple[Any, Any]:
    """A sequence of four numbers, and what a loop makes of them."""
    x = K.placeholder((1, 4, 1), name="x")

    def step(part: Any, states: list[Any]) -> Any:
        h = states[0] + of(1.0 - part)
        return h, [h]

    last, _, _ = K.rnn(step, x, [K.zeros((1, 1))])
    return x, last


def test_the_step_of_a_loop(engine: str) -> None:
    x, last = looped(K.log)
    f = K.function([x], last, engine=engine)
    assert f.trace_nan([np.zeros((1, 4, 1))]) is None
    found = f.trace_nan([np.reshape([0.0, 0.0, 2.0, 3.0], (1, 4, 1))])
    assert found is not None
    assert found.node.op is o.log
    assert [place.step for place in found.places] == [2]
    assert "in step 2 of rnn at" in str(found)


def test_gradients_of_loops() -> None:
    x, last = looped(K.sqrt)  # at 0 it is finite, and its slope is not
    f = K.function([x], [last, *K.gradients(K.sum(last), [x])])
    found = f.trace_nan([np.reshape([0.0, 0.0, 1.0, 0.0], (1, 4, 1))])
    assert found is not None
    assert found.node.op is o.divide
    assert found.node.origin.role == "gradient"
    assert found.kind == "infinity"
    assert found.places[0].step == 2


def test_the_sum_of_a_mask_and_a_draw_that_does_not_move() -> None:
    x = K.placeholder((50,))
    drawn = K.random_uniform((50,), seed=3)
    f = K.function([x], [K.log(x * K.cast(drawn > 0.5, "float32")), drawn])
    first = f.trace_nan([np.ones(50)])
    again = f.trace_nan([np.ones(50)])
    assert first is not None
    assert again is not None
    assert first.index == again.index
    _, values = f([np.ones(50)])
    assert first.index == (int(np.argmax(values <= 0.5)),)

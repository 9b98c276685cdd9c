"""The learning phase: fed, fixed, given by name, or left out; a program for each."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import kgraph.function
from kgraph import backend as K
from kgraph import phase
from kgraph.errors import FeedError, GraphError

#: The phase that is set, fed, and given by name; but not two of them for one call.
PHASES = [
    phases for phases in itertools.product([None, 0, 1], [None, 0, 1], [None, False, True])
    if None in phases[1:] or phases[1] == phases[2]
]  # fmt: skip


@pytest.mark.parametrize(("fixed", "fed", "training"), PHASES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_phase_fed_wins_then_the_one_that_is_set_and_unfed_means_test(
    fixed: int | None, fed: int | None, training: bool | None, place: int, engine: str
) -> None:
    x, y = K.placeholder((), name="x"), K.placeholder((), name="y")
    inputs, values = [x, y], [5.0, 3.0]
    if fed is not None or fixed is None:
        inputs.insert(place, K.learning_phase())
    if fed is not None:
        values.insert(place, fed)
    f = K.function(inputs, K.in_train_phase(x - y, y - x))
    if fixed is not None:
        K.set_learning_phase(fixed)
    expected = 2 if next((p for p in (fed, training, fixed) if p is not None), 0) else -2
    assert f(values, training=training) == expected
    assert f(*values, training=training) == expected
    if fed is None:
        assert f(y=3, x=5, training=training) == expected
        assert f(5, y=3, training=training) == expected


def test_a_phase_that_is_set_after_building_is_read_at_each_call(engine: str) -> None:
    x = K.placeholder(())
    f = K.function([x], [K.in_train_phase(x, -x), K.in_test_phase(x, -x), K.cast(K.learning_phase(), "int32")])
    for value, sign in ((1, 1), (0, -1), (1, 1)):
        K.set_learning_phase(value)
        assert f([3]) == [3 * sign, -3 * sign, value]
    K.clear_session()
    assert f([3]) == [-3, 3, 0]
    assert f([3], training=True) == [3, -3, 1]


@pytest.mark.parametrize("value", [0, 1])
def test_a_phase_that_is_set_before_building_picks_the_side_at_once(value: int, engine: str) -> None:
    K.set_learning_phase(value)
    assert K.learning_phase() == value
    assert isinstance(K.learning_phase(), int)
    x = K.placeholder(())
    f = K.function([x], K.in_train_phase(x, lambda: -x))
    assert f([3]) == (3 if value else -3)
    K.clear_session()  # the side is chosen for good
    assert f([3], training=not value) == (3 if value else -3)


def test_clear_session_unsets_the_phase_and_functions_go_on_working(engine: str) -> None:
    before = K.learning_phase()
    x, v = K.placeholder(()), K.variable(1.0)
    f = K.function([x], [K.in_train_phase(x, -x)], [K.update_add(v, x)])
    K.set_learning_phase(1)
    assert f([3]) == [3]
    K.clear_session()
    assert K.learning_phase() is before
    assert f([3]) == [-3]
    assert K.get_value(v) == 7


def test_one_value_too_many_at_the_end_is_ignored_while_the_phase_is_set(engine: str) -> None:
    x, y = K.placeholder(()), K.placeholder(())
    f = K.function([x, y], K.in_train_phase(x - y, y - x))
    with pytest.raises(FeedError, match="3 values were fed, 2 expected"):
        f([5, 3, 1])
    K.set_learning_phase(0)
    assert f([5, 3, 1.0]) == -2
    assert f((5, 3, 1)) == -2
    assert f(5, 3, 1) == -2
    with pytest.raises(FeedError, match="4 values were fed, 2 expected"):
        f([5, 3, 1, 1])
    K.clear_session()
    with pytest.raises(FeedError, match="3 values were fed, 2 expected"):
        f([5, 3, 1])


@pytest.mark.parametrize("value", [1, 1.0, True, np.float32(1), np.array(1), np.array([1.0])], ids=repr)
def test_the_phase_is_taken_from_any_number_that_is_0_or_1(value: Any, engine: str) -> None:
    x = K.placeholder(())
    assert K.function([x, K.learning_phase()], K.in_train_phase(x, -x))([3, value]) == 3
    assert K.function([x], K.in_train_phase(x, -x))([3], training=value) == 3


@pytest.mark.parametrize("value", [2, -1, 0.5, "train", [0, 1], np.nan], ids=repr)
def test_any_other_phase_is_refused(value: Any) -> None:
    x = K.placeholder(())
    f = K.function([x, K.learning_phase()], K.in_train_phase(x, -x))
    with pytest.raises(FeedError, match=r"^function call: the learning phase is .*, not 0 \(test\) or 1 \(train\)"):
        f([3, value])
    with pytest.raises(FeedError, match="the learning phase is"):
        f([3], training=value)
    with pytest.raises(ValueError, match=r"is 0 \(test\) or 1 \(train\)"):
        K.set_learning_phase(value)
    assert phase.fixed is None


def test_the_phase_named_twice_among_the_inputs_is_an_error() -> None:
    with pytest.raises(GraphError, match="an input is named twice"):
        K.function([K.learning_phase(), K.learning_phase()], [])


def test_a_set_phase_as_an_input_is_an_error_with_a_hint() -> None:
    K.set_learning_phase(1)
    with pytest.raises(
        GraphError, match=r"input 1 is 1, not a tensor\n.*\n  hint: K.learning_phase\(\) is an int while the phase is set"
    ):
        K.function([K.placeholder(()), K.learning_phase()], [])


def test_each_phase_is_compiled_on_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    phases = []
    run = kgraph.function.run_pipeline
    monkeypatch.setattr(
        kgraph.function, "run_pipeline", lambda graph, now, *args: [phases.append(now), run(graph, now, *args)][1]
    )
    K.clear_session()
    x = K.placeholder((3, 1, 4))
    f = K.function([x], K.in_train_phase(x, -x))
    assert phases == []
    f([np.zeros((3, 1, 4))])
    f([np.zeros((3, 1, 4))])
    assert phases == [0]
    f([np.zeros((3, 1, 4))], training=True)
    assert phases == [0, 1]

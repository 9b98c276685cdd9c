"""Functions: forms of a call, inputs, outputs, updates, other arguments, random draws."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kgraph.function
from kgraph import backend as K
from kgraph.errors import FeedError, GraphError, IndexOutOfRange, KGraphError, ShapeError, UpdateError
from kgraph.ir.passes import PIPELINE
from tests.engines import engines_tested
from tests.numeric import arange
from tests.process import run_python

# ---------------------------------------------------------------------------------------------------- forms of a call

A, B = arange(3), np.float32(10)
FORMS = {
    "one list": lambda f: f([A, B]),
    "one tuple": lambda f: f((A, B)),
    "values": lambda f: f(A, B),
    "names": lambda f: f(x=A, y=B),
    "names in another order": lambda f: f(y=B, x=A),
    "values, then names": lambda f: f(A, y=B),
    "a list, then names": lambda f: f([A], y=B),
    "a tuple, then names": lambda f: f((A,), y=B),
    "an empty list and names": lambda f: f([], x=A, y=B),
    "a list and the phase": lambda f: f([A, B], training=True),
    "values and the phase": lambda f: f(A, B, training=False),
    "names and the phase": lambda f: f(y=B, training=1, x=A),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_call_gives_the_same(form: str, engine: str) -> None:
    x, y = K.placeholder((None,), name="x"), K.placeholder((), name="y")
    f = K.function([x, y], [x - y, y])
    for _ in range(2):  # the second call takes the short way
        difference, same = FORMS[form](f)
        np.testing.assert_array_equal(difference, A - B)
        np.testing.assert_array_equal(same, B)


def test_exactly_one_list_or_tuple_is_the_list_of_inputs(engine: str) -> None:
    x = K.placeholder((3,), name="x")
    f = K.function([x], [2 * x])
    for fed in ([A], (A,), [A.tolist()], ([1, 2, 3],)):
        np.testing.assert_array_equal(f(fed)[0], 2 * A)
    np.testing.assert_array_equal(f(A)[0], 2 * A)
    for fed in (A.tolist(), tuple(A.tolist())):  # not the value of x: three inputs
        with pytest.raises(FeedError, match=r"^function call: 3 values were fed, 1 expected\n"):
            f(fed)


def test_two_lists_are_two_values(engine: str) -> None:
    x, y = K.placeholder((3,)), K.placeholder((3,))
    np.testing.assert_array_equal(K.function([x, y], x - y)([1, 2, 3], (1, 1, 1)), [0, 1, 2])


@pytest.mark.parametrize("args", [(), ([],), ((),)])
def test_a_function_without_inputs_is_called_with_nothing(args: Any, engine: str) -> None:
    assert K.function([], [K.variable(3.0)])(*args) == [3.0]


def test_outputs_come_in_their_order(engine: str) -> None:
    x = K.placeholder(())
    outputs = [x * i for i in (3, 1, 2)]
    assert K.function([x], outputs)([1]) == [3, 1, 2]
    assert K.function([x], tuple(outputs))([1]) == [3, 1, 2]


def test_a_single_tensor_as_outputs_gives_one_array(engine: str) -> None:
    x = K.placeholder((None,))
    result = K.function([x], 2 * x)([A])
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, 2 * A)


def test_results_are_lists_of_arrays_of_the_static_dtype_also_for_scalars(engine: str) -> None:
    x = K.placeholder((None, 2), dtype="float64")
    outputs = [
        K.sum(x),
        K.mean(x, axis=0),
        K.argmax(x),
        K.shape(x),
        K.cast(x, "float16"),
        K.greater(K.sum(x), 0),
        K.any(x),
        x[0, 0],
    ]
    results = K.function([x], outputs)([arange(3, 2)])
    assert type(results) is list
    for result, output in zip(results, outputs, strict=True):
        assert type(result) is np.ndarray
        assert result.dtype.name == output.dtype
        assert result.ndim == output.ndim


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f([A]), r"1 value was fed, 2 expected; 'y' is not fed"),
        (lambda f: f(), r"0 values were fed, 2 expected; 'x' is not fed"),
        (lambda f: f(A, B, B), r"3 values were fed, 2 expected"),
        (lambda f: f([A, B, B]), r"3 values were fed, 2 expected"),
        (lambda f: f(x=A), r"not every input is fed\n  input 1: float32\[\]  placeholder 'y'"),
        (lambda f: f(A, x=A), r"'x' is fed twice"),
        (lambda f: f(A, z=B), r"no inputs have the name 'z'\n(.*\n)*  hint: the inputs are 'x', 'y'"),
        (lambda f: f(A, B, B, y=B), r"'y' is fed twice"),
        (lambda f: f(A, B, B, training=True), r"3 values were fed, 2 expected"),
    ],
)  # fmt: skip
def test_a_call_with_the_wrong_inputs_says_which(call: Any, message: str) -> None:
    x, y = K.placeholder((None,), name="x"), K.placeholder((), name="y")
    with pytest.raises(FeedError, match=f"^function call: {message}"):
        call(K.function([x, y], [x * y]))


def test_a_name_that_two_inputs_have_cannot_be_fed_by_name(engine: str) -> None:
    f = K.function([x := K.placeholder((), name="x"), y := K.placeholder((), name="x")], x - y)
    assert f(5, 3) == 2
    with pytest.raises(FeedError, match="2 inputs have the name 'x'"):
        f(5, x=3)


# ---------------------------------------------------------------------------------------------------- inputs


def test_a_fed_variable_has_the_fed_value_during_that_call_only(engine: str) -> None:
    v, x = K.variable([1.0, 2.0], name="v"), K.placeholder((2,))
    fed, unfed = K.function([v, x], [v * x]), K.function([x], [v * x])
    for _ in range(2):
        np.testing.assert_array_equal(fed([[5, 6], [1, 10]])[0], [5, 60])
        np.testing.assert_array_equal(unfed([[1, 10]])[0], [1, 20])
        np.testing.assert_array_equal(K.get_value(v), [1, 2])
    np.testing.assert_array_equal(fed([[5, 6]], **{x.name: [1, 10]})[0], [5, 60])
    np.testing.assert_array_equal(fed(v=[5, 6], **{x.name: [1, 10]})[0], [5, 60])


def test_a_fed_variable_cannot_be_a_target_but_others_can(engine: str) -> None:
    v, w = K.variable(1.0, name="v"), K.variable(1.0, name="w")
    with pytest.raises(
        UpdateError,
        match=r"^function: a variable that is fed cannot be updated in the same call\n  variable: float32\[\]  variable 'v'",
    ):
        K.function([v], [], [K.update_add(v, 1)])
    f = K.function([v], [], [K.update_add(w, v)])
    f([41])
    assert K.get_value(w) == 42
    assert K.get_value(v) == 1


def test_the_graph_is_cut_at_an_intermediate_tensor(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    x, rows = K.placeholder((2,), name="x"), K.placeholder((2,), dtype="int32")
    hidden = K.gather(K.print_tensor(K.variable([1.0, 2.0]), "computed"), rows) * x
    out = K.sum(K.square(hidden)) + K.sum(x)
    f = K.function([hidden, x], [out, hidden])  # needs neither rows nor what prints
    np.testing.assert_array_equal(f([[3, 4], [1, 1]])[0], 27)
    np.testing.assert_array_equal(f([[3, 4], [1, 1]])[1], [3, 4])
    assert "computed" not in "".join(capfd.readouterr())
    np.testing.assert_array_equal(K.function([rows, x], out)([[0, -1], [1, 1]]), 1 + 4 + 2)
    assert "computed" in "".join(capfd.readouterr())


def test_a_cut_tensor_stays_cut_in_gradients_and_updates(engine: str) -> None:
    v = K.variable(3.0)
    hidden = v * v
    loss = hidden * v
    (gradient,) = K.gradients(loss, [v])  # d(v^3) = 2 v^2 + v^2
    f = K.function([hidden], [loss, gradient], [K.update(v, hidden)])
    assert K.function([], gradient)() == 27
    assert f([10]) == [30, 2 * 9 + 10]
    assert K.get_value(v) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: K.arange(3, dtype="float32"),
        lambda: K.square(K.variable([1.0, 2.0, 3.0])),
        lambda: K.zeros_like(K.variable([1.0] * 3)),
    ],
)
def test_any_tensor_can_be_an_input(make: Any, engine: str) -> None:
    t = make()
    np.testing.assert_array_equal(K.function([t], [t + 1])([[7, 8, 9]])[0], [8, 9, 10])


def test_an_input_below_a_cut_and_the_cut_go_together(engine: str) -> None:
    x = K.placeholder((), name="x")
    y = x * 2
    f = K.function([x, y], [x, y, x + y, y * 2])
    assert f([1, 10]) == [1, 10, 11, 20]


def test_an_input_that_the_outputs_do_not_need_is_accepted_and_checked(engine: str) -> None:
    x, unneeded = K.placeholder((2,)), K.placeholder((None, 3), name="unneeded")
    f = K.function([unneeded, x], [x])
    np.testing.assert_array_equal(f([np.zeros((4, 3)), [1, 2]])[0], [1, 2])
    with pytest.raises(FeedError, match="unneeded"):
        f([np.zeros((4, 4)), [1, 2]])


def test_what_is_no_tensor_cannot_be_an_input() -> None:
    for wrong in (3, "x", np.zeros(3), None):
        with pytest.raises(GraphError, match="^function: input 0 is .*, not a tensor\n"):
            K.function([wrong], [])
    with pytest.raises(GraphError, match=r"^function: inputs is a Tensor, not a list of tensors\n"):
        K.function(K.placeholder(()), [])
    x = K.placeholder((), name="x")
    with pytest.raises(GraphError, match=r"^function: an input is named twice\n  input 1: float32\[\]  placeholder 'x'"):
        K.function([x, x], [])


def test_a_placeholder_that_is_no_input_is_found_when_the_function_is_made() -> None:
    x = K.placeholder((None,), name="x")
    for outputs, updates in (([x * 2], []), ([], [(K.variable(0.0), K.sum(x))])):
        with pytest.raises(
            FeedError,
            match=r"^function: the outputs need 'x', which is not among the inputs\n  placeholder: float32\[\?\]  placeholder 'x'",
        ):
            K.function([], outputs, updates)


# ---------------------------------------------------------------------------------------------------- outputs


def test_outputs_may_be_inputs_variables_constants_numbers_and_repeated(engine: str) -> None:
    x, v = K.placeholder((2,)), K.variable([3.0, 4.0])
    y = x + v
    f = K.function([x], [x, v, K.arange(2), 7, np.array([8.0, 9.0]), y, y, x, v])
    expected = [[1, 2], [3, 4], [0, 1], 7, [8, 9], [4, 6], [4, 6], [1, 2], [3, 4]]
    for result, wanted in zip(f([[1, 2]]), expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_no_outputs_only_updates_is_fine(engine: str) -> None:
    v = K.variable(1.0)
    assert K.function([], [], [K.update_add(v, 1)])() == []
    assert K.get_value(v) == 2
    assert K.function([], [])([]) == []


def test_what_is_no_tensor_cannot_be_an_output() -> None:
    for wrong in (None, "x", object()):
        with pytest.raises(GraphError, match="^function: output 1: no tensor can be made of"):
            K.function([], [1, wrong])
    with pytest.raises(GraphError, match="^function: outputs is a NoneType, not a list of tensors"):
        K.function([], None)


# ---------------------------------------------------------------------------------------------------- updates


def test_updates_read_before_they_write(engine: str) -> None:
    a, b, c = K.variable([1.0, 1.5]), K.variable([2.0, 2.5]), K.variable([3.0, 3.5])
    swap = K.function([], [a, b, a - b], [(a, b), (b, a)])
    old = swap()
    np.testing.assert_array_equal(old, [[1, 1.5], [2, 2.5], [-1, -1]])
    np.testing.assert_array_equal(K.batch_get_value([a, b]), [[2, 2.5], [1, 1.5]])
    turn = K.function([], [], [(a, b), (b, c), (c, a)])
    turn()
    np.testing.assert_array_equal(K.batch_get_value([a, b, c]), [[1, 1.5], [3, 3.5], [2, 2.5]])
    turn()
    np.testing.assert_array_equal(K.batch_get_value([a, b, c]), [[3, 3.5], [2, 2.5], [1, 1.5]])


def test_outputs_are_computed_from_the_old_values(engine: str) -> None:
    v = K.variable(1.0)
    f = K.function([], [v, v * 10], [K.update(v, v * 2)])
    assert [f() for _ in range(4)] == [[1, 10], [2, 20], [4, 40], [8, 80]]


@pytest.mark.parametrize("dtype", ["int32", "float16", "uint8", "bool", "float64"])
def test_a_new_value_is_cast_to_the_dtype_of_its_variable(dtype: str, engine: str) -> None:
    v, x = K.variable([0, 0, 0], dtype=dtype), K.placeholder((3,), dtype="float64")
    K.function([x], [], [(v, x)])([[2.9, 0, 1.3333333]])
    value = K.get_value(v)
    assert value.dtype.name == dtype
    np.testing.assert_array_equal(value, np.array([2.9, 0, 1.3333333]).astype(dtype))


@pytest.mark.parametrize(
    "updates",
    [
        lambda v: [(v, 7)],
        lambda v: [[v, 7.0]],
        lambda v: ((v, np.float64(7)),),
        lambda v: {v: 7},
        lambda v: (pair for pair in [(v, v + 4)]),
        lambda v: [K.update(v, 7)],
        lambda v: [K.update_add(v, 4)],
        lambda v: [K.update_sub(v, K.variable(-4, dtype="int32"))],
        lambda v: [K.moving_average_update(v, 11.0, 0.5)],
        lambda v: [(v, v + 4), K.update_add(v, 4)],  # the same expression
        lambda v: [(v, 7), (v, 7.0)],
    ],
)  # fmt: skip
def test_updates_come_in_many_forms(updates: Any, engine: str) -> None:
    v = K.variable(3.0)
    f = K.function([], v, updates(v))
    assert f() == 3
    assert K.get_value(v) == 7


def test_an_update_of_what_nothing_reads(engine: str) -> None:
    x, v, w = K.placeholder((2,)), K.variable([0.0, 0.0]), K.variable([0.0, 0.0])
    K.function([x], [], [(v, x), (w, x)])([[1, 2]])
    np.testing.assert_array_equal(K.batch_get_value([v, w]), [[1, 2], [1, 2]])


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_any_number_of_variables_is_updated_together(count: int, engine: str) -> None:
    variables = [K.variable([float(i)]) for i in range(count)]
    f = K.function([], [], [(v, w) for v, w in itertools.pairwise([*variables, variables[0]])])  # each takes its neighbour's
    f()
    np.testing.assert_array_equal(np.ravel(K.batch_get_value(variables)), np.roll(np.arange(count), -1))
    f()
    np.testing.assert_array_equal(np.ravel(K.batch_get_value(variables)), np.roll(np.arange(count), -2))


def test_updates_that_cannot_be_are_refused() -> None:
    v, x = K.variable([1.0, 2.0, 3.0], name="v"), K.placeholder((None,), name="x")
    with pytest.raises(
        UpdateError,
        match=r"^function: a variable is updated twice, by different values\n  variable: float32\[3\]  variable 'v'",
    ):
        K.function([], [], [(v, v + 1), (v, v + 2)])
    for wrong in (x, v * 2, 3, "v"):
        with pytest.raises(
            UpdateError,
            match=r"^function: the target of an update is no variable\n  target: .*\n(.*\n)*  hint: K.variable makes one",
        ):
            K.function([x], [], [(wrong, 1.0)])
    for wrong in (3, v, (v,), (v, 1, 2), "ab"):
        with pytest.raises(UpdateError):
            K.function([], [], [wrong])
    for value in (1.0, [1.0, 2.0], np.zeros((1, 3)), K.zeros((3, 1)), K.zeros((4,))):
        with pytest.raises(
            UpdateError,
            match=r"^function: the new value does not fit the shape of its variable\n  variable:  float32\[3\]  variable 'v'\n  new value: float",
        ):
            K.function([], [], [(v, value)])


def test_a_new_value_of_unknown_size_is_checked_in_the_call(engine: str) -> None:
    v, w, x = K.variable([1.0, 2.0], name="v"), K.variable(0.0), K.placeholder((None,))
    f = K.function([x], [], [K.update_add(w, 1), (v, x * 2)])
    f([[5, 6]])
    np.testing.assert_array_equal(K.get_value(v), [10, 12])
    with pytest.raises(UpdateError, match=r"^function call: the new value of 'v' has shape \[3\], not \[2\]\n  new value: "):
        f([[5, 6, 7]])
    np.testing.assert_array_equal(K.get_value(v), [10, 12])
    assert K.get_value(w) == 1


LATE = {
    "an index out of range": (lambda x, i: K.gather(x, i), IndexOutOfRange),
    "sizes that differ": (lambda x, i: x[: i[0]] + x[i[0] :], ShapeError),
    "a reshape that does not go": (lambda x, i: K.reshape(x, (i[0], 2)), ShapeError),
    "a squeeze that does not go": (lambda x, i: K.squeeze(x[i[0] :], 0), ShapeError),
}


@pytest.mark.parametrize("failure", LATE)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_call_that_fails_late_changes_no_variable(failure: str, count: int, engine: str) -> None:
    build, error = LATE[failure]
    x, i = K.placeholder((None,), name="x"), K.placeholder((None,), dtype="int32", name="i")
    variables = [K.variable(np.full(3, float(n))) for n in range(count)]
    steps = [(v, v * 2 + K.sum(x)) for v in variables]
    gauge = K.sum(K.tanh(build(x * 2, i)))
    counter = K.variable(0.0)
    f = K.function([x, i], [gauge], [*steps, K.update_add(counter, 1 + 0 * gauge)])
    for _ in range(2):
        with pytest.raises(error):
            f([[1, 2, 3, 4, 5, 6], [99]])
        for n, v in enumerate(variables):
            np.testing.assert_array_equal(K.get_value(v), n)
        assert K.get_value(counter) == 0
    if failure in ("an index out of range", "sizes that differ"):  # and it goes on working
        f([[1, 2, 3, 4, 5, 6], [3]])
        for n, v in enumerate(variables):
            np.testing.assert_array_equal(K.get_value(v), 2 * n + 21)
        assert K.get_value(counter) == 1


# ---------------------------------------------------------------------------------------------------- other arguments


def test_arguments_of_theano_and_tensorflow_are_ignored_with_one_warning_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kgraph.function, "_warned", set())
    x = K.placeholder(())
    for name in ("mode", "givens", "name", "allow_input_downcast", "on_unused_input", "profile", "run_metadata"):
        with pytest.warns(UserWarning, match=f"^K.function: '{name}' means nothing here and is ignored$") as caught:
            f = K.function([x], [x + 1], **{name: None})
        assert [Path(w.filename).name for w in caught] == ["test_function.py"]
        assert f([1]) == [2]
        assert K.function([x], [x + 1], **{name: 1})([1]) == [2]  # a second warning would be an error
    with pytest.warns(UserWarning, match="^K.function: 'options' means nothing"):
        K.function([x], [x], options=object())


@pytest.mark.parametrize("name", ["output", "update", "modes", "learning_phase"])
def test_any_other_argument_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"K.function has no argument '{name}'"):
        K.function([], [], **{name: 1})


@pytest.mark.parametrize("engine", engines_tested())
@pytest.mark.parametrize("optimize", [True, False, ["fold"], ("sink",), ["sink", "fold"], [], {"fold"}], ids=str)
def test_optimize_changes_no_value(optimize: Any, engine: str) -> None:
    x, v = K.placeholder((None, 3)), K.variable([1.0, 2.0, 3.0])
    n = K.shape(x)[1] * 2 - 4  # known when it is folded: 2
    y = K.reshape(K.tile(K.switch(K.sum(x) > 0, lambda: x * v, lambda: x), (n, 1)), (n, -1, 3)) + K.square(
        np.ones(3, "float32")
    )
    value = arange(2, 3)
    f = K.function([x], [y], optimize=optimize, engine=engine)
    np.testing.assert_array_equal(f([value])[0], np.stack([value * [1, 2, 3] + 1] * 2))
    np.testing.assert_array_equal(f([-value])[0], np.stack([1 - value] * 2))


@pytest.mark.parametrize("wrong", [["fast"], "fold", ["fold", "legalize"]])
def test_an_unknown_pass_is_refused(wrong: Any) -> None:
    with pytest.raises(GraphError) as caught:
        K.function([], [], optimize=wrong)
    assert str(caught.value).startswith("function: ")
    assert "hint: " in str(caught.value)
    assert ", ".join(PIPELINE) in str(caught.value)


def test_the_engine_is_the_one_named_or_the_one_set_when_it_is_first_needed(engine: str) -> None:
    f, g = K.function([], [K.variable(1.0)], engine=engine), K.function([], [K.variable(1.0)])
    assert f.engine.name == g.engine.name == engine
    with pytest.raises(KGraphError, match="there is no engine 'abacus'"):
        K.function([], [], engine="abacus")


# ---------------------------------------------------------------------------------------------------- random draws


def test_every_call_draws_anew_and_within_a_call_a_draw_has_one_value(engine: str) -> None:
    v = K.variable(np.ones(50))
    noise = K.random_normal((50,))
    loss = K.sum(v * noise * noise)
    f = K.function([], [noise, K.gradients(loss, [v])[0], noise * 2])
    first, second = f(), f()
    for drawn, gradient, doubled in (first, second):
        np.testing.assert_array_equal(gradient, drawn * drawn)
        np.testing.assert_array_equal(doubled, drawn * 2)
    assert not np.any(first[0] == second[0])


def test_two_draws_alike_are_two_draws(engine: str) -> None:
    a, b = K.function([], [K.random_uniform((50,)), K.random_uniform((50,))])()
    assert not np.any(a == b)


def test_a_seed_fixes_the_stream(engine: str) -> None:
    def program(seed: int) -> list[Any]:
        f = K.function([], [K.random_normal((4,), seed=seed), K.random_uniform((2, 3), seed=seed + 1)])
        return [f(), f()]

    one, same, other = program(3), program(3), program(4)
    for a, b in zip(one, same, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.any(one[0][0] == other[0][0])
    assert not np.any(one[0][0] == one[1][0])


@pytest.mark.parametrize("seed_all", [np.random.seed, K.set_seed])  # what programs call
def test_a_seeded_build_is_a_repeatable_program(seed_all: Any, engine: str) -> None:
    def program() -> list[Any]:
        x = K.placeholder((20, 20))
        y = K.dropout(x, 0.5) + K.random_normal(K.shape(x)) + K.random_binomial((20, 20), 0.5)
        f = K.function([x], [y])
        return [f([np.ones((20, 20))])[0] for _ in range(2)]

    seed_all(11)
    one = program()
    other = program()
    seed_all(11)
    same = program()
    np.testing.assert_array_equal(one, same)
    assert not np.any(one[0] == other[0])


def test_both_phases_draw_from_one_stream(engine: str) -> None:
    draw = K.random_uniform((30,), seed=1)
    f = K.function([], [K.in_train_phase(draw, draw + 0.0)])
    alone = K.function([], [K.random_uniform((30,), seed=1)])
    drawn = [f(training=bool(i % 2))[0] for i in range(4)]
    np.testing.assert_array_equal(drawn, [alone()[0] for _ in range(4)])


def test_draws_are_the_same_in_every_process() -> None:
    program = (
        "from kgraph import backend as K\nK.set_seed(5)\n"
        "f = K.function([], [K.random_normal((3,)), K.random_uniform((2,), seed=9)])\nf()\nprint([r.tobytes().hex() for r in f()])"
    )
    texts = {run_python(program, PYTHONHASHSEED=seed) for seed in ("0", "1234")}
    assert len(texts) == 1
    assert len(texts.pop()) > 30


def test_a_failed_call_leaves_the_function_usable(engine: str) -> None:
    x = K.placeholder((None,), dtype="int32")
    f = K.function([x], [K.gather(K.variable([1.0, 2.0]), x)])
    for _ in range(3):
        with pytest.raises(IndexOutOfRange):
            f([[2]])
        np.testing.assert_array_equal(f([[1, -2]])[0], [2, 1])

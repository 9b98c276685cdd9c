"""`K.gradients`, `K.stop_gradient`, `K.identity` and `K.print_tensor`: with respect to what, where paths end, what is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.errors import GradientError


def value(tensor: Any, engine: str) -> Any:
    return K.function([], tensor, engine=engine)().tolist()


def test_a_list_in_gives_a_list_out(engine: str) -> None:
    x, y = K.variable([1.0, 2.0]), K.variable([3.0, 4.0])
    assert K.gradients(K.sum(x * y), []) == []
    found = K.gradients(K.sum(x * y), [x, y, x])
    assert [value(g, engine) for g in found] == [[3, 4], [1, 2], [3, 4]]
    assert [K.int_shape(g) for g in K.gradients(K.sum(x * y), (y,))] == [(2,)]


def test_of_a_loss_that_is_no_scalar_the_gradient_of_its_sum_is_taken(engine: str) -> None:
    x = K.variable([1.0, 2.0, 3.0])
    assert value(K.gradients(x * x, [x])[0], engine) == [2, 4, 6]


def test_with_respect_to_an_intermediate_tensor(engine: str) -> None:
    x = K.variable([1.0, 2.0])
    h = x * 3
    assert value(K.gradients(K.sum(h * h), [h])[0], engine) == [6, 12]
    assert value(K.gradients(h, [h])[0], engine) == [1, 1]


def test_every_occurrence_of_an_equal_expression_counts(engine: str) -> None:
    x = K.variable([1.0, 2.0])
    h, again = K.exp(x), K.exp(x)
    np.testing.assert_allclose(value(K.gradients(h * again, [h])[0], engine), 2 * np.exp([1, 2]), rtol=1e-6)


def test_identity_makes_a_distinct_occurrence(engine: str) -> None:
    x = K.variable([1.0, 2.0])
    h, own = K.exp(x), K.identity(K.exp(x))
    np.testing.assert_allclose(value(K.gradients(h * own, [own])[0], engine), np.exp([1, 2]), rtol=1e-6)
    np.testing.assert_allclose(value(K.gradients(h * own, [x])[0], engine), 2 * np.exp([2, 4]), rtol=1e-6)


def test_with_respect_to_placeholders_and_constants(engine: str) -> None:
    x, c = K.placeholder((None,)), K.ones_like(K.variable([1.0, 1.0])) * 3
    gx, gc = K.gradients(K.sum(x * c), [x, c])
    found = K.function([x], [gx, gc], engine=engine)([[5, 6]])
    assert [g.tolist() for g in found] == [[3, 3], [5, 6]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_gradient_has_the_dtype_and_shape_of_its_variable(dtype: str, engine: str) -> None:
    x = K.variable(np.ones((2, 3)), dtype=dtype)
    loss = K.sum(K.cast(x, "float64") * 2.0) + K.cast(K.sum(x * 3), "float64")
    (g,) = K.gradients(loss, [x])
    assert (K.dtype(g), K.int_shape(g)) == (dtype, (2, 3))
    assert value(g, engine) == [[5] * 3] * 2


def test_the_third_derivative(engine: str) -> None:
    x = K.variable(2.0, dtype="float64")
    y: Any = x**4
    for wanted in (4 * 8, 12 * 4, 24 * 2, 24):
        (y,) = K.gradients(y, [x])
        assert value(y, engine) == wanted
    # The slope of a constant: d/dx 24 is zero, or there is no path any more.
    (y,) = K.gradients(y, [x], disconnected="zeros")
    assert value(y, engine) == 0


def test_gradients_of_a_hessian_product(engine: str) -> None:
    """H v for f = sum(exp(x) * x), whose Hessian is diagonal."""
    x, v = K.variable([0.5, -1.0], dtype="float64"), np.array([2.0, 3.0])
    (g,) = K.gradients(K.sum(K.exp(x) * x), [x])
    (hv,) = K.gradients(K.sum(g * v), [x])
    at = np.array([0.5, -1.0])
    np.testing.assert_allclose(value(hv, engine), np.exp(at) * (at + 2) * v, rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- where paths end

ENDS: dict[str, Callable[[Any], Any]] = {
    "comparison": lambda x: K.cast(x > 1, "float32"),
    "equal": lambda x: K.cast(K.equal(x, 1), "float32"),
    "argmax": lambda x: K.cast(K.argmax(x), "float32"),
    "argmin": lambda x: K.cast(K.argmin(x), "float32"),
    "cast to integers": lambda x: K.cast(K.cast(x, "int32"), "float32"),
    "cast to bool": lambda x: K.cast(K.cast(x, "bool"), "float32"),
    "any": lambda x: K.cast(K.any(x), "float32"),
    "shape": lambda x: K.cast(K.shape(x), "float32"),
    "nothing": lambda x: K.variable([1.0, 2.0]),
}


@pytest.mark.parametrize("end", list(ENDS.values()), ids=list(ENDS))
def test_a_disconnected_variable_is_an_error_zeros_or_none(end: Callable[[Any], Any], engine: str) -> None:
    x = K.variable([1.0, 2.0], name="x")
    loss = K.sum(end(x))
    with pytest.raises(GradientError, match="'x'"):
        K.gradients(loss, [x])
    assert K.gradients(loss, [x], disconnected="none") == [None]
    assert value(K.gradients(loss, [x], disconnected="zeros")[0], engine) == [0, 0]


@pytest.mark.parametrize(
    "flat",
    [K.round, K.sign, np.floor, K.stop_gradient, lambda x: x // 0.3],
    ids=["round", "sign", "floor", "stop_gradient", "//"],
)
def test_what_is_constant_between_jumps_has_a_gradient_of_zero(flat: Callable[[Any], Any], engine: str) -> None:
    x = K.variable([1.25, 2.25])
    assert value(K.gradients(K.sum(flat(x)), [x])[0], engine) == [0, 0]
    assert value(K.gradients(K.sum(flat(x) + 2 * x), [x])[0], engine) == [2, 2]


def test_stop_gradient_ends_one_path_only(engine: str) -> None:
    x = K.variable([2.0, 3.0])
    assert value(K.gradients(x * K.stop_gradient(x), [x])[0], engine) == [2, 3]
    stopped = K.stop_gradient([x, x * 2])
    assert [value(t, engine) for t in stopped] == [[2, 3], [4, 6]]


def test_the_loss_is_a_float_tensor() -> None:
    x = K.variable([1, 2], dtype="int32")
    for loss, variables in ((K.sum(x), [x]), (1.0, [x]), (K.sum(K.variable([1.0])), ["x"])):
        with pytest.raises(GradientError):
            K.gradients(loss, variables)
    with pytest.raises(GradientError):
        K.gradients(K.sum(K.variable([1.0])), [x], disconnected="ignore")


def test_an_integer_variable_has_no_gradient() -> None:
    x, n = K.variable([1.0, 2.0]), K.variable([1, 2], dtype="int32")
    assert K.gradients(K.sum(x * n), [n], disconnected="none") == [None]
    with pytest.raises(GradientError):
        K.gradients(K.sum(x * n), [n])


# ---------------------------------------------------------------------------------------------------- rows added up, branches


def test_the_gradient_of_gather_adds_repeated_rows(engine: str) -> None:
    x = K.variable(np.arange(6.0).reshape(3, 2))
    g = K.gradients(K.sum(K.gather(x, [2, 0, 2, -1]) * np.array([[1.0], [2], [4], [8]], "float32")), [x])[0]
    assert value(g, engine) == [[2, 2], [0, 0], [13, 13]]


def test_a_sum_over_the_copies_of_what_was_stretched(engine: str) -> None:
    x, y = K.variable([[1.0], [2.0]]), K.placeholder((None, 2, 3))
    g = K.gradients(K.sum(x * y), [x])[0]
    assert K.function([y], g, engine=engine)([np.ones((4, 2, 3))]).tolist() == [[12], [12]]


# ---------------------------------------------------------------------------------------------------- printing


def test_print_tensor_prints_once_per_evaluation_that_needs_it(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    x = K.placeholder((2,))
    shown = K.print_tensor(x * 2, "here:")
    unused = K.print_tensor(x, "unused:")
    run = K.function([x], [shown + 1, shown * 3, K.gradients(K.sum(shown * shown), [x])[0]], engine=engine)
    other = K.function([x], x + 1, engine=engine)
    del unused
    for times in (1, 2):
        found = run([[1, 2]])
        other([[1, 2]])
        out = "".join(capfd.readouterr())
        assert (times, out.count("here:"), out.count("unused:")) == (times, 1, 0)
        assert [f.tolist() for f in found] == [[3, 5], [6, 12], [8, 16]]


def test_two_prints_alike_are_two_prints(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    x = K.variable([1.0])
    K.function([], [K.print_tensor(x, "twice:") + K.print_tensor(x, "twice:")], engine=engine)()
    assert "".join(capfd.readouterr()).count("twice:") == 2


def test_a_print_of_a_constant_is_not_folded_away(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = K.function([], K.print_tensor(K.ones_like(K.variable([1.0])), "constant:") * 2, engine=engine)
    for _ in range(2):
        assert run().tolist() == [2]
        assert "".join(capfd.readouterr()).count("constant:") == 1

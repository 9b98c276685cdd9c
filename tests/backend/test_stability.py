"""Formulas that users write without a thought of overflow, and their gradients: finite and right, on every engine.

Each is compared with a closed form that NumPy computes in float64, and that has no exponential of a large number in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from kgraph import backend as K

Array = Any

# ---------------------------------------------------------------------------------------------------- closed forms


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def log_softmax(x: Array) -> Array:
    s = x - x.max(-1, keepdims=True)
    return s - np.log(np.exp(s).sum(-1, keepdims=True))


def softmax(x: Array) -> Array:
    return np.exp(log_softmax(x))


def logsumexp(x: Array) -> Array:
    top = x.max(-1, keepdims=True)
    return (np.log(np.exp(x - top).sum(-1, keepdims=True)) + top)[..., 0]


def size(x: Array) -> Array:
    return np.sqrt((x**2).sum(-1, keepdims=True))  # float64 holds the squares of what float32 holds


def log_softmax_back(x: Array, g: Array) -> Array:
    return g - softmax(x) * g.sum(-1, keepdims=True)


def softmax_back(x: Array, g: Array) -> Array:
    p = softmax(x)
    return p * (g - (g * p).sum(-1, keepdims=True))


# ---------------------------------------------------------------------------------------------------- as users write them


def share(x: Any) -> Any:
    return K.exp(x) / K.sum(K.exp(x), axis=-1, keepdims=True)


def shifted_share(x: Any) -> Any:
    e = K.exp(x - K.max(x, axis=-1, keepdims=True))
    return e / K.sum(e, axis=-1, keepdims=True)


TARGET = np.array([[0.0, 1.0, 0.0], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
BIT = np.array([[0.0, 1.0, 0.5], [0.25, 0.75, 0.5], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def target_of(x: Any, values: Array = TARGET) -> Any:
    return K.constant(values, dtype=K.dtype(x)) if hasattr(K, "constant") else K.variable(values, dtype=K.dtype(x))


LARGE = np.array([[1000.0, 0.0, -1000.0], [1000.0, 1000.0, 999.0], [-1000.0, -1001.0, 50.0], [0.5, -0.25, 0.0]])
TINY = np.array([[1e-20, -1e-20, 0.0], [1e-10, 0.5, -0.25], [3.0, 1e-5, -1e-5], [1e-30, 2.0, 1e-3]])
HUGE = np.array([[1e30, -1e30, 3.0], [1e-30, -1e-30, -2.0], [1e25, 1.0, -1.0], [0.5, -0.25, 7.0]])


class Form(NamedTuple):
    """A formula as K functions write it.

    Attributes:
      value, back: its closed form, and the cotangent of x given that of the result.
      at: where x is.
    """

    build: Callable[[Any], Any]
    value: Callable[[Array], Array]
    back: Callable[[Array, Array], Array]
    at: Array = LARGE


FORMS: dict[str, Form] = {
    "log(softmax)": Form(lambda x: K.log(K.softmax(x)), log_softmax, log_softmax_back),
    "log(exp / sum(exp))": Form(lambda x: K.log(share(x)), log_softmax, log_softmax_back),
    "log(shifted softmax)": Form(lambda x: K.log(shifted_share(x)), log_softmax, log_softmax_back),
    "exp / sum(exp)": Form(share, softmax, softmax_back),
    "shifted softmax": Form(shifted_share, softmax, softmax_back),
    "x - log(sum(exp))": Form(
        lambda x: x - K.log(K.sum(K.exp(x), axis=-1, keepdims=True)), log_softmax, log_softmax_back
    ),
    "log(sum(exp))": Form(
        lambda x: K.log(K.sum(K.exp(x), axis=-1)), logsumexp, lambda x, g: g[..., None] * softmax(x)
    ),
    "log(mean(exp))": Form(
        lambda x: K.log(K.mean(K.exp(x), axis=-1)), lambda x: logsumexp(x) - np.log(3.0), lambda x, g: g[..., None] * softmax(x)
    ),
    "log(sum(exp)) of all": Form(
        lambda x: K.log(K.sum(K.exp(x))), lambda x: logsumexp(x.reshape(-1)), lambda x, g: g * softmax(x.reshape(-1)).reshape(x.shape)
    ),
    "log(exp + exp)": Form(
        lambda x: K.log(K.exp(x) + K.exp(0.5 * x + 3.0)),
        lambda x: np.logaddexp(x, 0.5 * x + 3.0),
        lambda x, g: g * (sigmoid(0.5 * x - 3.0) + 0.5 * sigmoid(3.0 - 0.5 * x)),
    ),
    "log(1 + exp)": Form(lambda x: K.log(1.0 + K.exp(x)), softplus, lambda x, g: g * sigmoid(x)),
    "log(1 + exp(-x))": Form(lambda x: K.log(1.0 + K.exp(-x)), lambda x: softplus(-x), lambda x, g: -g * sigmoid(-x)),
    "1 / (1 + exp(-x))": Form(lambda x: 1.0 / (1.0 + K.exp(-x)), sigmoid, lambda x, g: g * sigmoid(x) * sigmoid(-x)),
    "exp / (1 + exp)": Form(lambda x: K.exp(x) / (1.0 + K.exp(x)), sigmoid, lambda x, g: g * sigmoid(x) * sigmoid(-x)),
    "log(sigmoid)": Form(lambda x: K.log(K.sigmoid(x)), lambda x: -softplus(-x), lambda x, g: g * sigmoid(-x)),
    "log(1 - sigmoid)": Form(lambda x: K.log(1.0 - K.sigmoid(x)), lambda x: -softplus(x), lambda x, g: -g * sigmoid(x)),
    "log(1 / (1 + exp(-x)))": Form(
        lambda x: K.log(1.0 / (1.0 + K.exp(-x))), lambda x: -softplus(-x), lambda x, g: g * sigmoid(-x)
    ),
    "log(exp / (1 + exp))": Form(
        lambda x: K.log(K.exp(x) / (1.0 + K.exp(x))), lambda x: -softplus(-x), lambda x, g: g * sigmoid(-x)
    ),
    "log(1 - 1 / (1 + exp(-x)))": Form(
        lambda x: K.log(1.0 - 1.0 / (1.0 + K.exp(-x))), lambda x: -softplus(x), lambda x, g: -g * sigmoid(x)
    ),
    "log(1 + x)": Form(lambda x: K.log(1.0 + x), np.log1p, lambda x, g: g / (1.0 + x), TINY),
    "log(1 - x)": Form(lambda x: K.log(1.0 - x), lambda x: np.log1p(-x), lambda x, g: -g / (1.0 - x), np.minimum(TINY, 0.5)),
    "sqrt(x * x)": Form(lambda x: K.sqrt(x * x), np.abs, lambda x, g: g * np.sign(x), HUGE),
    "sqrt(square(x))": Form(lambda x: K.sqrt(K.square(x)), np.abs, lambda x, g: g * np.sign(x), HUGE),
    "sqrt(sum(square(x)))": Form(
        lambda x: K.sqrt(K.sum(K.square(x), axis=-1)), lambda x: size(x)[..., 0], lambda x, g: g[..., None] * x / size(x), HUGE
    ),
    "x / sqrt(sum(square(x)))": Form(
        lambda x: x / K.sqrt(K.sum(K.square(x), axis=-1, keepdims=True)), lambda x: x / size(x),
        lambda x, g: (g - x / size(x) * (g * x / size(x)).sum(-1, keepdims=True)) / size(x), HUGE,
    ),
    "-sum(t * log(softmax))": Form(
        lambda x: -K.sum(target_of(x) * K.log(K.softmax(x)), axis=-1),
        lambda x: -(TARGET * log_softmax(x)).sum(-1),
        lambda x, g: g[:, None] * (softmax(x) - TARGET),
    ),
    "-sum(t * log(exp / sum(exp)))": Form(
        lambda x: -K.sum(target_of(x) * K.log(share(x)), axis=-1),
        lambda x: -(TARGET * log_softmax(x)).sum(-1),
        lambda x, g: g[:, None] * (softmax(x) - TARGET),
    ),
    "binary cross-entropy of sigmoid": Form(
        lambda x: -(target_of(x, BIT) * K.log(K.sigmoid(x)) + (1.0 - target_of(x, BIT)) * K.log(1.0 - K.sigmoid(x))),
        lambda x: softplus(x) - BIT * x,
        lambda x, g: g * (sigmoid(x) - BIT),
    ),
    "log(expand_dims(softmax))": Form(
        lambda x: K.log(K.expand_dims(K.softmax(x), 1)),
        lambda x: log_softmax(x)[:, None],
        lambda x, g: log_softmax_back(x, g[:, 0]),
    ),
    "log(transposed softmax)": Form(
        lambda x: K.log(K.transpose(K.softmax(x))), lambda x: log_softmax(x).T, lambda x, g: log_softmax_back(x, g.T)
    ),
    "x * log(stopped softmax)": Form(
        lambda x: x * K.log(K.stop_gradient(K.softmax(x))), lambda x: x * log_softmax(x), lambda x, g: g * log_softmax(x)
    ),
    "softmax * log(softmax)": Form(
        lambda x: K.softmax(x) * K.log(K.softmax(x)),
        lambda x: softmax(x) * log_softmax(x),
        lambda x, g: softmax_back(x, g * log_softmax(x)) + log_softmax_back(x, g * softmax(x)),
    ),
}  # fmt: skip

each_form = pytest.mark.parametrize("name", FORMS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def assert_right(found: Array, wanted: Array, dtype: str) -> None:
    assert found.dtype == dtype
    assert np.isfinite(found).all(), found
    rtol, atol = (2e-5, 1e-30) if dtype == "float32" else (1e-11, 1e-200)
    # Where terms cancel, as g - p * sum(g), what is left has the rounding of the terms.
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol + rtol * 0.05 * min(np.abs(wanted).max(initial=0), 10.0))


def weights(shape: tuple[int, ...]) -> Array:
    """A cotangent whose elements differ."""
    return np.linspace(0.5, 1.5, int(np.prod(shape)) if shape else 1).reshape(shape)


def value_and_gradient(form: Form, x: Any) -> list[Any]:
    y = form.build(x)
    g = K.variable(weights(form.value(form.at).shape), dtype=K.dtype(x))
    return [y, *K.gradients(K.sum(y * g), [x])]


@pytest.mark.usefixtures("engine")
@each_dtype
@each_form
@pytest.mark.parametrize("shape", [(4, 3), (None, 3)], ids=str)
def test_value_and_gradient(name: str, dtype: str, shape: tuple[int | None, ...]) -> None:
    form = FORMS[name]
    x = K.placeholder(shape, dtype=dtype)
    at = form.at.astype(dtype)
    value, gradient = K.function([x], value_and_gradient(form, x))([at])
    exact = at.astype("float64")
    wanted = form.value(exact)
    assert_right(value, wanted, dtype)
    assert_right(gradient, form.back(exact, weights(wanted.shape)), dtype)


@pytest.mark.usefixtures("engine")
@each_dtype
def test_cross_entropies_of_what_is_built_of_exponentials(dtype: str) -> None:
    """The K functions clip: far off, the loss is -log(epsilon), and its gradient 0."""
    x = K.placeholder((None, 3), dtype=dtype)
    t = K.variable(TARGET, dtype=dtype)
    at = LARGE.astype(dtype)
    exact = np.clip(log_softmax(at.astype("float64")), np.log(1e-7), np.log1p(-1e-7))
    for probabilities in (share, shifted_share, K.softmax):
        losses = [
            K.categorical_crossentropy(probabilities(x), t),
            K.sparse_categorical_crossentropy(probabilities(x), K.variable(np.array([1, 2, 0, 2]), dtype="int32")),
        ]
        wanted = [-(TARGET * exact).sum(-1), -exact[range(4), [1, 2, 0, 2]]]
        for loss, right in zip(losses, wanted, strict=True):
            (value,) = K.function([x], [loss])([at])
            np.testing.assert_allclose(value, right, rtol=1e-5, atol=2e-7)
            again, gradient = K.function([x], [loss, *K.gradients(K.sum(loss), [x])])([at])
            np.testing.assert_allclose(again, right, rtol=1e-5, atol=2e-7)
            assert np.isfinite(gradient).all()
            assert not gradient[0].any()  # beyond the clip
    b = K.variable(BIT, dtype=dtype)
    loss = K.binary_crossentropy(1.0 / (1.0 + K.exp(-x)), b)
    z = np.clip(at.astype("float64"), -16.118, 16.118)
    for outputs in ([loss], [loss, *K.gradients(K.sum(loss), [x])]):
        value, *rest = K.function([x], outputs)([at])
        np.testing.assert_allclose(value, softplus(z) - BIT * z, rtol=2e-2, atol=2e-7)  # near 1 float32 has few numbers
        assert all(np.isfinite(g).all() for g in rest)


@pytest.mark.usefixtures("engine")
def test_in_the_phase_that_asks_for_it() -> None:
    x = K.placeholder((None, 3))
    forms = {1: FORMS["log(softmax)"], 0: FORMS["log(1 - sigmoid)"]}
    y = K.in_train_phase(lambda: forms[1].build(x), lambda: forms[0].build(x))
    f = K.function([x, K.learning_phase()], [y, *K.gradients(K.sum(y), [x])])
    for phase, form in forms.items():
        value, gradient = f([LARGE, phase])
        assert_right(value, form.value(LARGE), "float32")
        assert_right(gradient, form.back(LARGE, np.ones((4, 3))), "float32")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", ["log(softmax)", "log(exp / sum(exp))", "log(1 - sigmoid)", "log(1 + exp)", "log(sigmoid)"])
def test_in_the_steps_of_a_loop(name: str, unroll: bool) -> None:
    form = FORMS[name]
    x = K.placeholder((None, 2, 3))

    def step(part: Any, states: Any) -> Any:
        out = form.build(part + 0.5 * states[0])
        return out, [out]

    last, outputs, _ = K.rnn(step, x, [K.zeros_like(x[:, 0])], unroll=unroll)
    at = np.stack([LARGE, 0.25 * LARGE[::-1]], 1).astype("float32")
    value, gradient = K.function([x], [outputs, *K.gradients(K.sum(last), [x])])([at])
    first = at[:, 0].astype("float64")
    one = form.value(first)
    second = at[:, 1] + 0.5 * one
    back = form.back(second, np.ones((4, 3)))
    assert_right(value, np.stack([one, form.value(second)], 1), "float32")
    assert_right(gradient, np.stack([form.back(first, 0.5 * back), back], 1), "float32")


#: The gradient of half the sum of the squares of the gradient of sum(w * f(x)).
SECOND: dict[str, Callable[[Array, Array], Array]] = {
    "log(softmax)": lambda x, w: -w.sum(-1, keepdims=True) * softmax_back(x, log_softmax_back(x, w)),
    "log(sigmoid)": lambda x, w: -(w**2) * sigmoid(-x) ** 2 * sigmoid(x),
    "log(1 - sigmoid)": lambda x, w: w**2 * sigmoid(x) ** 2 * sigmoid(-x),
    "log(1 + exp)": lambda x, w: w**2 * sigmoid(x) ** 2 * sigmoid(-x),
}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", SECOND)
def test_second_gradients(name: str) -> None:
    x = K.placeholder((None, 3))
    w = K.variable(weights((4, 3)))
    (first,) = K.gradients(K.sum(FORMS[name].build(x) * w), [x])
    (second,) = K.gradients(K.sum(first * first) * 0.5, [x])
    (found,) = K.function([x], [second])([LARGE])
    wanted = SECOND[name](LARGE, weights((4, 3)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)

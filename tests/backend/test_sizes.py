"""Sizes that are known only when a function is called: what meets has to be equal, and what is empty may have no result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.errors import IndexOutOfRange, ShapeError

Build = Callable[[Any, Any], Any]

#: Two matrices whose sizes have to agree, in every axis.
MEETING: dict[str, Build] = {
    "+": lambda x, y: x + y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "**": lambda x, y: x**y,
    "<": lambda x, y: x < y,
    "maximum": K.maximum,
    "minimum": K.minimum,
    "equal": K.equal,
    "pow": K.pow,
    "clip": lambda x, y: K.clip(x, y, 9.0),
    "relu": lambda x, y: K.relu(x, alpha=y),
    "elu": lambda x, y: K.elu(x, y),
    "tensor switch": lambda x, y: K.switch(x > 0, x, y),
    "scalar switch": lambda x, y: K.switch(K.sum(x) > -9e9, x, y),
    "sparse_categorical_crossentropy": lambda x, y: K.sparse_categorical_crossentropy(x, K.argmax(y)),
    "sparse_categorical_crossentropy of logits": lambda x, y: K.sparse_categorical_crossentropy(
        x, K.argmax(y), from_logits=True
    ),
    "in_top_k": lambda x, y: K.in_top_k(x, K.argmax(y), 1),
    "batch_dot of rank 3": lambda x, y: K.batch_dot(K.expand_dims(x), K.expand_dims(y, 1)),
    "stack": lambda x, y: K.stack([x, y]),
    "categorical_crossentropy": K.categorical_crossentropy,
    "categorical_crossentropy of a softmax": lambda x, y: K.categorical_crossentropy(K.softmax(x), y),
    "categorical_crossentropy of logits": lambda x, y: K.categorical_crossentropy(x, y, from_logits=True),
    "binary_crossentropy": K.binary_crossentropy,
    "binary_crossentropy of logits": lambda x, y: K.binary_crossentropy(x, y, from_logits=True),
    "batch_dot": lambda x, y: K.batch_dot(x, y, 1),
    "batch_dot 0": lambda x, y: K.batch_dot(x, y, 0),
}
#: And of which only one axis has to.
ONE_AXIS: dict[str, tuple[Build, tuple[int, ...], tuple[int, ...], int]] = {
    # function, sizes that go together, which axis of y is changed
    "dot": (K.dot, (2, 3), (3, 4), 0),
    "dot of rank 3": (K.dot, (2, 3), (5, 3, 4), 1),
    "dot of vectors": (K.dot, (3,), (3,), 0),
    "batch_dot, batch": (lambda x, y: K.batch_dot(x, y), (2, 3, 4), (2, 4, 5), 0),
    "batch_dot, inner": (lambda x, y: K.batch_dot(x, y), (2, 3, 4), (2, 4, 5), 1),
    "batch_dot of rank 2": (lambda x, y: K.batch_dot(x, y, (1, 1)), (2, 4), (2, 4, 5), 0),
    "concatenate": (lambda x, y: K.concatenate([x, y], axis=1), (2, 3), (2, 4), 0),
    "batch_dot transposed": (lambda x, y: K.batch_dot(x, y, (0, 1)), (3, 2), (2, 3), 1),
}


def refused(run: Any, x: Any, y: Any) -> str:
    with pytest.raises(ShapeError) as raised:
        run([x, y])
    return str(raised.value)


@pytest.mark.parametrize("of_values", [False, True], ids=["fed", "computed"])
@pytest.mark.parametrize("name", MEETING)
def test_unknown_sizes_that_meet_are_equal_or_an_error(name: str, of_values: bool, engine: str) -> None:
    """Also a size of 1 that is unknown while the graph is built: nothing is stretched. And sizes that come from values."""
    if of_values and name == "scalar switch":
        return  # of a side that is not taken nothing is computed, its size neither
    x, y, n = K.placeholder((None, None)), K.placeholder((None, None)), K.placeholder((), dtype="int32")
    a, b = (x[:n], y) if of_values else (x, y)
    run = K.function([x, y, n] if of_values else [x, y], MEETING[name](a, b), engine=engine)
    extra = [2] if of_values else []
    ones = np.full((2, 3), 0.5)
    for sizes in ((2, 3), (1, 1)):
        same = np.full(sizes, 0.5)
        run([same, same, *([sizes[0]] if of_values else [])])
    rows_only = name.startswith(("sparse", "in_top_k", "batch_dot of rank 3"))
    for other in ((1, 3), (4, 3)) if of_values or rows_only else ((1, 3), (2, 1), (2, 4), (1, 1), (0, 3)):
        with pytest.raises(ShapeError):
            run([ones, np.full(other, 0.5), *extra])
        if not of_values:
            with pytest.raises(ShapeError):
                run([np.full(other, 0.5), ones])
    run([ones, ones, *extra])


@pytest.mark.parametrize("name", ONE_AXIS)
def test_unknown_sizes_that_are_summed_over_or_joined_are_equal_or_an_error(name: str, engine: str) -> None:
    build, of_x, of_y, axis = ONE_AXIS[name]
    x, y = K.placeholder((None,) * len(of_x)), K.placeholder((None,) * len(of_y))
    run = K.function([x, y], build(x, y), engine=engine)
    run([np.ones(of_x), np.ones(of_y)])
    for size in (1, of_y[axis] + 1, 0):
        other = tuple(size if i == axis else n for i, n in enumerate(of_y))
        with pytest.raises(ShapeError):
            run([np.ones(of_x), np.ones(other)])


def test_the_error_names_both_operands_and_the_line(engine: str) -> None:
    x, y = K.placeholder((None,), name="left"), K.placeholder((None,), name="right")
    text = refused(K.function([x, y], x + y, engine=engine), np.ones(3), np.ones(1))
    assert all(part in text for part in ("'left'", "'right'", "3", "1", "test_sizes.py"))


def test_a_size_that_is_known_to_be_one_is_stretched_to_an_unknown_one(engine: str) -> None:
    x, y = K.placeholder((None, 1)), K.placeholder((None, None))
    run = K.function([x, y], [x * y, K.maximum(x, y), K.switch(y > 0, x, y), *K.gradients(x * y, [x, y])], engine=engine)
    a, b = np.arange(1.0, 3).reshape(2, 1), np.arange(1.0, 7).reshape(2, 3)
    found = run([a, b])
    for value, wanted in zip(found, [a * b, np.maximum(a, b), a + 0 * b, b.sum(1, keepdims=True), a + 0 * b], strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_known_sizes_that_differ_are_an_error_of_the_line_that_builds() -> None:
    x, y = K.placeholder((2, 3)), K.placeholder((2, 4))
    for name, build in MEETING.items():
        other = K.placeholder((4, 3)) if name.startswith(("sparse", "in_top_k", "batch_dot of rank 3")) else y
        with pytest.raises(ShapeError):
            build(x, other)


# ---------------------------------------------------------------------------------------------------- no elements


@pytest.mark.parametrize("f", [K.max, K.min, K.argmax, K.argmin], ids=lambda f: f.__name__)
def test_no_elements_have_no_extreme(f: Any, engine: str) -> None:
    with pytest.raises(ShapeError):
        f(K.zeros((2, 0)), axis=1)
    x = K.placeholder((None, None))
    run = K.function([x], f(x, axis=1), engine=engine)
    with pytest.raises(ShapeError):
        run([np.ones((2, 0))])
    assert run([np.ones((0, 2))]).shape == (0,)
    assert run([np.ones((2, 2))]).shape == (2,)


def test_no_elements_have_the_identity_of_the_reduction(engine: str) -> None:
    x = K.placeholder((None, None))
    made = [K.sum(x, 1), K.prod(x, 1), K.any(x, 1), K.all(x, 1), K.logsumexp(x, 1), K.cumsum(x, 1), K.softmax(x)]
    found = K.function([x], made, engine=engine)([np.ones((2, 0))])
    assert [value.tolist() for value in found] == [[0, 0], [1, 1], [0, 0], [1, 1], [-np.inf] * 2, [[], []], [[], []]]


# ---------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize("index", [3, -4, 2**31 - 1, -(2**31)])
def test_an_index_out_of_range_is_an_error_of_the_call(index: int, engine: str) -> None:
    x, i = K.variable(np.arange(6.0).reshape(3, 2)), K.placeholder((None,), dtype="int32")
    for made in (K.gather(x, i), K.gradients(K.gather(x * 2, i), [x])[0]):
        run = K.function([i], made, engine=engine)
        run([[0, 2, -3]])
        with pytest.raises(IndexOutOfRange):
            run([[0, index]])
    with pytest.raises(IndexOutOfRange):
        K.eval(K.gather(x, [index]))
    with pytest.raises(IndexOutOfRange):
        K.eval(K.gather(x, index))


@pytest.mark.parametrize("target", [3, -4])
def test_a_class_that_there_is_not_is_an_error_of_the_call(target: int, engine: str) -> None:
    p, t = K.placeholder((None, 3)), K.placeholder((None,), dtype="int32")
    for logits in (False, True):
        run = K.function([p, t], K.sparse_categorical_crossentropy(p, t, from_logits=logits), engine=engine)
        with pytest.raises(IndexError):
            run([np.ones((2, 3)), [0, target]])


# ---------------------------------------------------------------------------------------------------- the ends of a dtype


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "f",
    [K.elu, K.softplus, K.softsign, K.sigmoid, K.tanh, K.hard_sigmoid, K.relu, K.softmax, K.logsumexp],
    ids=lambda f: f.__name__,
)
def test_activations_and_their_gradients_are_finite_for_every_finite_number(f: Any, dtype: str, engine: str) -> None:
    most = float(np.finfo(dtype).max) / (2 if f is K.softmax else 1)  # a difference of two such is no number of the dtype
    least = float(np.finfo(dtype).tiny)
    x = K.variable([most, -most, most / 3, -most / 3, 0, -0.0, least, -least, 1, -1], dtype=dtype)
    out = f(x)
    value, slope = K.function([], [out, K.gradients(out, [x])[0]], engine=engine)()
    assert value.dtype == slope.dtype == dtype
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_crossentropies_and_their_gradients_are_finite_for_every_probability(dtype: str, engine: str) -> None:
    p = K.variable([[0, 1, 0], [1, 0, 0], [0.5, 0.5, 0], [1e-4, 0.3, 0.7]], dtype=dtype)
    t = K.variable([[1, 0, 0], [1, 0, 0], [0, 0, 1], [0.2, 0.3, 0.5]], dtype=dtype)
    for loss in (
        K.categorical_crossentropy(p, t),
        K.binary_crossentropy(p, t),
        K.sparse_categorical_crossentropy(p, K.argmax(t)),
    ):
        value, slope = K.function([], [loss, K.gradients(loss, [p])[0]], engine=engine)()
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()

"""Basic indexing, against NumPy's: every combination of a small grid, with known, unknown and symbolic sizes, and the gradient."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.errors import DTypeError, IndexOutOfRange, ShapeError
from kgraph.ir.tensor import Tensor

Array = np.ndarray[Any, Any]


def numbered(*shape: int) -> Array:
    return np.arange(np.prod(shape, dtype=int), dtype="float32").reshape(shape)


def check(x: Array, keys: Sequence[Any], engine: str, known: bool) -> None:
    """x[key] for each key: type, static shape, value, and the gradient with respect to x, in one program."""
    t = K.placeholder(x.shape if known else (None,) * x.ndim)
    taken = [t[key] for key in keys]
    wanted = [x[key] for key in keys]
    for key, tensor, value in zip(keys, taken, wanted, strict=True):
        assert (key, type(tensor), tensor.dtype) == (key, Tensor, "float32")
        assert tensor is not t
        sizes = (
            value.shape
            if known
            else tuple(real if static is not None else None for static, real in zip(tensor.shape, value.shape, strict=True))
        )
        assert (key, tensor.shape) == (key, sizes)
    weights = [np.asarray(np.arange(1, value.size + 1, dtype="float32").reshape(value.shape)) for value in wanted]
    slopes = [K.gradients(K.sum(tensor * w), [t])[0] for tensor, w in zip(taken, weights, strict=True)]
    found = K.function([t], taken + slopes, engine=engine)([x])
    for key, value, expected in zip(keys, found, wanted, strict=False):
        np.testing.assert_array_equal(value, expected, err_msg=repr(key))
    for key, slope, w in zip(keys, found[len(keys) :], weights, strict=True):
        expected = np.zeros_like(x)
        expected[key] = w
        np.testing.assert_array_equal(slope, expected, err_msg=f"gradient of {key!r}")


KNOWN = pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
BOUNDS = [None, -5, -4, -3, -1, 0, 1, 3, 4, 5]


@KNOWN
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("step", [None, 1, 2, 3, 5, -1, -2, -4])
@pytest.mark.parametrize("size", [0, 1, 4])
def test_every_slice_of_a_vector(size: int, step: int | None, known: bool, engine: str) -> None:
    check(numbered(size), [slice(start, stop, step) for start, stop in itertools.product(BOUNDS, BOUNDS)], engine, known)


ENTRIES: list[Any] = [
    0,
    2,
    -1,
    -3,
    slice(None),
    slice(1, None),
    slice(None, -1),
    slice(None, None, -1),
    slice(0, 0),
    slice(-2, 9, 2),
]


def with_new_axes(keys: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Each key, with a new axis at each place, with the ellipsis at each, and with both."""
    found: list[Any] = []
    for key in keys:
        found.append(key)
        for i in range(len(key) + 1):
            found += [(*key[:i], None, *key[i:]), (*key[:i], ..., *key[i:]), (None, *key[:i], ..., *key[i:], None)]
    return found


@KNOWN
@pytest.mark.usefixtures("uncompiled")
def test_every_combination_of_entries_of_a_matrix(known: bool, engine: str) -> None:
    keys = [(a,) for a in ENTRIES] + list(itertools.product(ENTRIES, ENTRIES))
    check(numbered(3, 4), with_new_axes(keys), engine, known)


@KNOWN
@pytest.mark.usefixtures("uncompiled")
def test_every_combination_of_entries_of_rank_three(known: bool, engine: str) -> None:
    entries = [1, -2, slice(None), slice(None, None, -2), slice(1, None)]
    keys = [key for rank in (1, 2, 3) for key in itertools.product(entries, repeat=rank)]
    check(numbered(2, 3, 2), [*keys, *with_new_axes([(..., -1), (0, slice(1, None)), (1, 2, 1)][1:])], engine, known)


@KNOWN
def test_one_entry_without_a_tuple(known: bool, engine: str) -> None:
    check(
        numbered(3, 4),
        [1, -1, slice(1, 2), ..., None, (), np.int64(2), np.int8(-3), slice(np.int64(1), np.uint8(3))],
        engine,
        known,
    )


def test_a_scalar_takes_new_axes_and_the_ellipsis(engine: str) -> None:
    check(numbered(), [..., None, (), (None, ...), (..., None, None)], engine, True)


@KNOWN
def test_an_axis_without_elements(known: bool, engine: str) -> None:
    check(
        numbered(0, 3),
        [slice(None), slice(1, 5), (slice(None), 1), (..., -1), (slice(None, None, -1), slice(0, 2)), None],
        engine,
        known,
    )
    check(numbered(2, 0), [0, -1, (slice(None), slice(2, None)), (1, ..., None)], engine, known)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float64"])
def test_every_dtype_stays(dtype: str, engine: str) -> None:
    x = (numbered(3, 4) % 5).astype(dtype)
    found = K.function([], [K.variable(x, dtype=dtype)[1:, ::-1], K.variable(x, dtype=dtype)[2, 3]], engine=engine)()
    assert [value.dtype.name for value in found] == [dtype, dtype]
    np.testing.assert_array_equal(found[0], x[1:, ::-1])
    np.testing.assert_array_equal(found[1], x[2, 3])


# ---------------------------------------------------------------------------------------------------- symbolic entries


@KNOWN
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_symbolic_ints_in_every_place(dtype: str, known: bool, engine: str) -> None:
    x = numbered(4, 5)
    t = K.placeholder(x.shape if known else (None, None))
    i, j = K.placeholder((), dtype=dtype), K.placeholder((), dtype=dtype)
    spelled = [
        lambda t, i, j: t[i], lambda t, i, j: t[i, j], lambda t, i, j: t[:, j], lambda t, i, j: t[i:j], lambda t, i, j: t[i:], lambda t, i, j: t[:j],
        lambda t, i, j: t[:, i:j], lambda t, i, j: t[i, j:], lambda t, i, j: t[j:i:-1], lambda t, i, j: t[i:j:2, None], lambda t, i, j: t[..., i],
        lambda t, i, j: t[None, i, ..., 1:j], lambda t, i, j: t[i, 2],
    ]  # fmt: skip
    taken = [f(t, i, j) for f in spelled]
    slopes = [K.gradients(K.sum(K.square(tensor)), [t])[0] for tensor in taken]
    run = K.function([t, i, j], taken + slopes, engine=engine)
    values = [(1, 3), (0, 2), (3, 3), (2, 0)] + ([] if dtype == "uint8" else [(-1, -2), (-4, 3), (2, -1)])
    for a, b in values:
        found = run([x, a, b])
        for f, tensor, value, slope in zip(spelled, taken, found, found[len(taken) :], strict=False):
            expected = f(x, a, b)
            assert all(size in (None, real) for size, real in zip(tensor.shape, expected.shape, strict=True))
            np.testing.assert_array_equal(value, expected, err_msg=f"{a} {b}")
            marked = np.zeros_like(x)
            place = np.arange(x.size).reshape(x.shape)
            chosen = np.asarray(f(place, a, b)).ravel()
            marked.ravel()[chosen] = 2 * x.ravel()[chosen]
            np.testing.assert_array_equal(slope, marked, err_msg=f"gradient, {a} {b}")


def test_symbolic_sizes_as_entries(engine: str) -> None:
    x, t = numbered(5, 3), K.placeholder((None, None))
    rows, columns = K.shape(t)[0], K.shape(t)[1]
    made = [t[rows - 1], t[rows // 2 :], t[: rows - 2, columns - 1], t[-rows], t[K.shape(t)[-2] - 1 :: -2]]
    wanted = [x[4], x[2:], x[:3, 2], x[-5], x[4::-2]]
    for value, expected in zip(K.function([t], made, engine=engine)([x]), wanted, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_symbolic_sizes_that_are_known_count_as_ints() -> None:
    t = K.placeholder((5, 3))
    rows = K.shape(t)[0]
    assert t[rows - 2 :].shape == (2, 3)
    assert t[: rows // 2, 0].shape == (2,)
    with pytest.raises(IndexOutOfRange):
        t[rows]


def test_argmax_as_an_index(engine: str) -> None:
    x = np.array([[1, 5, 2], [7, 0, 3]], "float32")
    t = K.placeholder((None, None))
    assert K.function([t], t[K.argmax(K.max(t, axis=1)), 0], engine=engine)([x]) == 7


# ---------------------------------------------------------------------------------------------------- sizes and iteration


def test_len_and_iteration_go_along_a_known_axis(engine: str) -> None:
    t = K.variable(numbered(3, 2))
    assert len(t) == 3
    a, b, c = t
    assert [K.eval(row).tolist() for row in (a, b, c)] == [[0, 1], [2, 3], [4, 5]]
    rows, columns = K.shape(t)
    assert K.eval(rows * columns) == 6


# ---------------------------------------------------------------------------------------------------- refusals


@KNOWN
@pytest.mark.parametrize("key", [3, -4, (0, 4), (slice(None), -5), (..., 4), 2**70])
def test_an_index_out_of_range_is_an_error(key: Any, known: bool, engine: str) -> None:
    t = K.placeholder((3, 4) if known else (None, None))
    with pytest.raises(IndexOutOfRange):
        K.function([t], t[key], engine=engine)([numbered(3, 4)])


@pytest.mark.parametrize("number", [3, -4])
def test_a_symbolic_index_out_of_range_is_an_error_of_the_call(number: int, engine: str) -> None:
    i = K.placeholder((), dtype="int32")
    run = K.function([i], K.variable(numbered(3, 4))[i], engine=engine)
    np.testing.assert_array_equal(run([2]), numbered(3, 4)[2])
    with pytest.raises(IndexOutOfRange):
        run([number])


@pytest.mark.parametrize("key", [(0, 0, 0), (None, 1, 2, 3), (..., 0, 0, 0), (..., 0, ...)])
def test_too_many_entries_are_an_error(key: Any) -> None:
    with pytest.raises(IndexOutOfRange):
        K.placeholder((None, None))[key]


@pytest.mark.parametrize(
    "key",
    [
        True,
        1.0,
        [0, 1],
        np.array([0, 1]),
        "a",
        slice(None, None, 1.0),
        slice("a"),
        (0, [1]),
        np.array(True),
        np.array([True, False]),
    ],
    ids=repr,
)
def test_what_is_no_basic_index_is_refused(key: Any) -> None:
    with pytest.raises(DTypeError):
        K.placeholder((3, 4))[key]


def test_a_mask_a_vector_and_a_float_tensor_are_refused() -> None:
    t = K.placeholder((3, 4))
    for key in (
        t > 0,
        K.placeholder((2,), dtype="int32"),
        K.placeholder(()),
        slice(K.placeholder(())),
        K.placeholder((), dtype="bool"),
    ):
        with pytest.raises(DTypeError):
            t[key]


def test_the_step_of_a_slice_is_a_static_int_and_not_zero() -> None:
    t = K.placeholder((3,))
    with pytest.raises(ShapeError):
        t[::0]
    with pytest.raises(DTypeError):
        t[:: K.placeholder((), dtype="int32")]


def test_nothing_is_assigned_to_a_tensor() -> None:
    t: Any = K.placeholder((3,))
    with pytest.raises(TypeError):
        t[0] = 1


def test_parts_of_axes_of_size_one_of_what_a_function_gives(engine: str) -> None:
    x, rows = K.placeholder((1, 3)), K.placeholder((None, 3))
    f = K.function([x, rows], [K.exp(x)[:0], K.exp(x)[0:1], K.squeeze(K.exp(rows), 0)], engine=engine)
    value = np.array([[0.0, 1.0, 2.0]])
    nothing, one, row = f([value, value])
    assert nothing.shape == (0, 3)
    np.testing.assert_allclose(one, np.exp(value), rtol=1e-6)
    np.testing.assert_allclose(row, np.exp(value[0]), rtol=1e-6)

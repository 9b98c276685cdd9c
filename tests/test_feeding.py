"""What functions take as values and refuse, and whose memory what they give is in."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.errors import FeedError, ShapeError
from tests.numeric import arange

# ---------------------------------------------------------------------------------------------------- feeding

GIVEN = {
    "bool": True, "int": 3, "float": 2.75, "negative": -2, "nested list": [[1, 2], [3, 4]], "tuple": (1, 2.5), "bools": [True, False],
    "mixed list": [1, 2.5, True], "list of arrays": [np.float32(1), np.array(2)], "NumPy scalar": np.float16(1.5), "0-d": np.array(7),
    "empty": [], "empty array": np.zeros((0, 3)), "uint64": np.array([2**40 + 1, 3], "uint64"), "longdouble": np.array([1.25], "longdouble"),
    "big-endian": np.array([1, 2], ">i4"), "big-endian float": np.array([1.5, 2], ">f4"), "reversed": np.arange(4.0)[::-1],
    "strided": np.arange(12.0).reshape(3, 4)[:, ::2], "transposed": arange(2, 3).T, "read-only": np.broadcast_to(np.float64(2), (2, 2)),
    "range": range(3), "masked": np.ma.masked_array([1.0, 2.0], [False, True]),
}  # fmt: skip


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_a_fed_value_is_cast_to_the_dtype_of_its_placeholder(given: str, dtype: str, engine: str) -> None:
    value = GIVEN[given]
    with np.errstate(over="ignore"):
        expected = np.array(value, subok=False).astype(dtype)
    x = K.placeholder(ndim=expected.ndim, dtype=dtype)
    f = K.function([x], [x, K.cast(K.not_equal(x, x), "int32")])
    for _ in range(2):
        result = f([value])[0]
        assert type(result) is np.ndarray
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


def test_a_matrix_or_masked_array_is_fed_as_a_plain_array(engine: str) -> None:
    x = K.placeholder((2, 2))
    square = K.function([x], [x * x])
    value = np.array([[1, 2], [3, 4]], "float32")
    np.testing.assert_array_equal(square([value.view(np.matrix)])[0], value * value)  # np.matrix would multiply matrices
    np.testing.assert_array_equal(square([np.ma.masked_array(value, value > 2)])[0], value * value)


def test_a_sparse_matrix_is_fed_as_the_dense_one(engine: str) -> None:
    class Sparse:  # what scipy's look like from outside
        shape = (2, 2)

        def tocoo(self) -> Sparse:
            return self

        def toarray(self) -> np.ndarray[Any, Any]:
            return np.eye(2)

    x = K.placeholder((None, 2), sparse=True)
    np.testing.assert_array_equal(K.function([x], [2 * x])([Sparse()])[0], 2 * np.eye(2))


def test_what_a_cast_cannot_hold_is_no_warning(engine: str) -> None:
    x, y = K.placeholder((1,), dtype="float32"), K.placeholder((1,), dtype="int32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = K.function([x, y], [x, y])([[1e300], [np.nan]])
    assert np.isposinf(results[0])


REFUSED = {
    "a string": "abc", "bytes": b"abc", "a list of strings": ["1.0", "2.0"], "None": None, "a list with None": [1.0, None], "an object": object(),
    "objects": np.array([1, 2], dtype=object), "a complex number": 1j, "complex numbers": np.array([1j, 2]), "a ragged list": [[1, 2], [3]],
    "a date": np.array("2020-01-01", "datetime64[D]"), "a dict": {"x": 1}, "a huge int": 2**70, "a set": {1.0}, "a class": float,
    "records": np.zeros(2, "f4,i4"),
}  # fmt: skip


@pytest.mark.parametrize("given", [*REFUSED, "a tensor", "a variable"])
def test_what_is_no_number_is_refused_by_the_name_of_its_placeholder(given: str) -> None:
    value = REFUSED[given] if given in REFUSED else K.arange(2) if given == "a tensor" else K.variable([1.0, 2.0])
    x, y = K.placeholder((), name="x"), K.placeholder((None,), name="y")
    f = K.function([x, y], [x + y])
    with pytest.raises(FeedError) as caught:
        f([1, value])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("function call: ")
    assert lines[0].endswith("cannot be fed")
    assert lines[1] == "  input 1: float32[?]  placeholder 'y'"
    assert (
        f"test_feeding.py:{test_what_is_no_number_is_refused_by_the_name_of_its_placeholder.__code__.co_firstlineno + 4}"
        in lines[2]
    )
    assert lines[-1].startswith("  hint: ")
    assert isinstance(caught.value, (ValueError, TypeError))
    np.testing.assert_array_equal(f([1, [2]])[0], [3])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, r"rank 0 was fed, rank 2 is expected: \[\]"),
        ([1.0, 2.0], r"rank 1 was fed, rank 2 is expected: \[2\]"),
        (np.zeros((2, 3, 1)), r"rank 3 was fed, rank 2 is expected: \[2, 3, 1\]"),
        (np.zeros((2, 4)), r"shape \[2, 4\] was fed, \[\?, 3\] is expected"),
        (np.zeros((2, 1)), r"shape \[2, 1\] was fed, \[\?, 3\] is expected"),
    ],
)
def test_a_wrong_rank_or_size_is_refused_by_the_name_of_its_placeholder(value: Any, message: str) -> None:
    x = K.placeholder((None, 3), name="x")
    f = K.function([x], [x])
    for _ in range(2):
        f([np.zeros((2, 3))])
        with pytest.raises(FeedError, match=rf"^function call: {message}\n  input 0: float32\[\?, 3\]  placeholder 'x'"):
            f([value])


def test_sizes_that_are_unknown_while_building_may_differ_from_call_to_call(engine: str) -> None:
    x, y = K.placeholder((None, None)), K.placeholder((None,))
    f = K.function([x, y], [K.dot(x, K.expand_dims(y)), x + K.reverse(x, 0)])
    for rows, columns in ((1, 1), (3, 2), (0, 2), (1, 5), (3, 2), (4, 0)):
        a, b = arange(rows, columns), arange(columns)
        product, total = f([a, b])
        np.testing.assert_allclose(product, a @ b[:, None])
        np.testing.assert_array_equal(total, a + a[::-1])


def test_unknown_sizes_that_meet_are_compared_in_every_signature(engine: str) -> None:
    a = arange(3)
    x, y = K.placeholder((None,), name="x"), K.placeholder((None,), name="y")
    f = K.function([x, y], [x * y])
    for _ in range(2):
        np.testing.assert_array_equal(f([a, a])[0], a * a)
        for other in (1, 2):  # a size that is not known to be 1 is never stretched
            with pytest.raises(
                ShapeError,
                match=rf"^multiply: sizes differ .*: \d != \d\n  x: .*'x'  \(here \[3\]\)\n  y: .*'y'  \(here \[{other}\]\)",
            ):
                f([a, arange(other)])


# ---------------------------------------------------------------------------------------------------- memory

SHARING = {
    "the input": lambda x, v: x,
    "a reshape of the input": lambda x, v: K.reshape(x, (-1,)),
    "a transpose of the input": lambda x, v: K.transpose(x),
    "a slice of the input": lambda x, v: x[1:],
    "a row of the input": lambda x, v: x[0],
    "an element of the input": lambda x, v: x[0, 0],
    "the input with a new axis": lambda x, v: K.expand_dims(x),
    "the reversed input": lambda x, v: K.reverse(x, 0),
    "identity": lambda x, v: K.identity(x),
    "stop_gradient": lambda x, v: K.stop_gradient(x),
    "print": lambda x, v: K.print_tensor(x[:1]),
    "a cast that changes nothing": lambda x, v: K.cast(x, "float32"),
    "a side of a branch": lambda x, v: K.switch(K.sum(x) > -1e9, x, lambda: v),
    "a view in a branch": lambda x, v: K.switch(K.sum(x) > -1e9, lambda: K.transpose(x), lambda: K.transpose(v) + 1),
    "the variable in a branch": lambda x, v: K.switch(K.sum(x) > -1e9, lambda: v, lambda: x),
    "the variable": lambda x, v: v,
    "a transpose of the variable": lambda x, v: K.transpose(v),
    "a slice of the variable": lambda x, v: v[:, 1:],
    "the squeezed variable": lambda x, v: K.squeeze(K.expand_dims(v, 0), 0),
    "a constant": lambda x, v: K.arange(4),
    "a large constant": lambda x, v: K.arange(1000),
    "a slice of a large constant": lambda x, v: K.reverse(K.arange(1000), 0)[:900],
    "a stretched number": lambda x, v: K.zeros_like(x),
    "a stretched row": lambda x, v: K.switch(K.sum(x) > -1e9, v[:1], x * 2),
    "a computed value": lambda x, v: x * v,
    "a view of a computed value": lambda x, v: K.transpose(x * v),
    "the new value of the variable": lambda x, v: v + 1,
    "a view of the new value": lambda x, v: K.reshape(v + 1, (-1,)),
    "sum over no axis": lambda x, v: K.sum(x, axis=[]),
    "a repetition by one": lambda x, v: K.tile(x, 1),
    "clip without bounds": lambda x, v: K.clip(x, None, None),
    "concatenation of one": lambda x, v: K.concatenate([x]),
}


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("name", SHARING)
def test_a_result_shares_memory_with_nothing(name: str, optimize: bool, engine: str) -> None:
    x, v = K.placeholder((None, 4), name="x"), K.variable(arange(2, 4))
    output = SHARING[name](x, v)
    fed = 10 * arange(2, 4)
    f = K.function([x], [output, output, K.identity(output)], [(v, v + 1)], optimize=optimize)
    g = K.function([x], [output], optimize=optimize)
    expected = [r.copy() for r in g([fed])]
    results = [f([fed]), g([fed]), g([fed])]
    K.set_value(v, arange(2, 4))
    flat = [array for result in results for array in result]
    for one, other in itertools.combinations([fed, K.get_value(v), *flat], 2):
        assert not np.shares_memory(one, other)
    for array in flat:
        assert array.flags.writeable
        array[...] = -99
    np.testing.assert_array_equal(fed, 10 * arange(2, 4))
    np.testing.assert_array_equal(K.get_value(v), arange(2, 4))
    np.testing.assert_array_equal(g([fed])[0], expected[0])
    np.testing.assert_array_equal(f([fed])[1], expected[0])
    np.testing.assert_array_equal(K.get_value(v), arange(2, 4) + 1)


def test_values_that_are_fed_or_set_are_copied(engine: str) -> None:
    start, other, fed = np.ones(3, "float32"), np.full(3, 2, "float32"), np.full(3, 3, "float32")
    v, w = K.variable(start), K.variable(start)
    x = K.placeholder((3,))
    K.set_value(v, other)
    K.function([x], [], [(w, x)])([fed])
    for array in (start, other, fed):
        array[...] = -1
    K.get_value(v)[...] = -1
    for value in K.batch_get_value([v, w]):
        value[...] = -1
    K.eval(v)[...] = -1
    np.testing.assert_array_equal(K.batch_get_value([v, w]), [[2, 2, 2], [3, 3, 3]])


def test_a_constant_is_copied_when_it_is_built(engine: str) -> None:
    small, large = np.ones(3, "float32"), np.ones(1000, "float32")
    x = K.placeholder(())
    f = K.function([x], [x * small, x * large])
    small[...] = large[...] = -1
    for result in f([2]):
        np.testing.assert_array_equal(result, 2)


def test_in_place_steps_touch_no_fed_array(engine: str) -> None:
    x, y = K.placeholder((None,)), K.placeholder((None,))
    z = x
    for _ in range(5):
        z = K.tanh(z * y + x) - z
    a, b = np.linspace(-1, 1, 7, dtype="float32"), np.linspace(0, 1, 7, dtype="float32")
    kept = a.copy(), b.copy()
    a.flags.writeable = b.flags.writeable = False
    K.function([x, y], [z])([a, b])
    np.testing.assert_array_equal([a, b], kept)

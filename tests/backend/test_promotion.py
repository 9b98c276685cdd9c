"""The dtype of what operators give: of two tensors, of a tensor with a number, a list or an array, by NumPy's functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.config import changed
from kgraph.errors import DTypeError, TensorUseError
from kgraph.ir.tensor import Tensor

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
FLOATS = DTYPES[6:]
INTEGERS = DTYPES[1:6]

# Equal kinds take the wider (int16 is the first that holds uint8 and int8), integer with float the float, bool with x takes x.
_TABLE = """
bool     uint8    int8     int16    int32    int64    float16  float32  float64
uint8    uint8    int16    int16    int32    int64    float16  float32  float64
int8     int16    int8     int16    int32    int64    float16  float32  float64
int16    int16    int16    int16    int32    int64    float16  float32  float64
int32    int32    int32    int32    int32    int64    float16  float32  float64
int64    int64    int64    int64    int64    int64    float16  float32  float64
float16  float16  float16  float16  float16  float16  float16  float32  float64
float32  float32  float32  float32  float32  float32  float32  float32  float64
float64  float64  float64  float64  float64  float64  float64  float64  float64
"""
TABLE = {
    (x, y): found
    for x, row in zip(DTYPES, _TABLE.split("\n")[1:], strict=False)
    for y, found in zip(DTYPES, row.split(), strict=True)
}

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod, "**": operator.pow,
}  # fmt: skip
ORDER: dict[str, Callable[[Any, Any], Any]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
NAMED: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "equal": (K.equal, operator.eq), "not_equal": (K.not_equal, operator.ne), "greater": (K.greater, operator.gt), "lesser": (K.lesser, operator.lt),
    "greater_equal": (K.greater_equal, operator.ge), "lesser_equal": (K.lesser_equal, operator.le),
}  # fmt: skip

X, Y = [1, 1, 0, 1], [1, 1, 1, 1]  # held by every dtype; no power of a negative, no division by 0


def values(dtype: str, of: list[int]) -> Any:
    wide = of if dtype == "bool" else [v * n for v, n in zip(of, (3, 7, 1, 2), strict=True)]
    return np.array(wide).astype(dtype)


PAIRS = [(x, y) for x in DTYPES for y in DTYPES]


def outcome(f: Callable[[Any, Any], Any], engine: str, pairs: list[tuple[str, str]]) -> list[tuple[str, str, Any, Any]]:
    """f over tensors of each pair of dtypes, in one program: dtypes, the tensor, its value."""
    given = {d: (K.variable(values(d, X), dtype=d), K.variable(values(d, Y), dtype=d)) for d in DTYPES}
    tensors = [f(given[x][0], given[y][1]) for x, y in pairs]
    found = K.function([], tensors, engine=engine)()
    return [(x, y, tensor, value) for (x, y), tensor, value in zip(pairs, tensors, found, strict=True)]


@pytest.mark.parametrize("symbol", ARITHMETIC)
@pytest.mark.usefixtures("uncompiled")
def test_arithmetic_of_two_tensors_is_done_in_the_dtype_of_the_table(symbol: str, engine: str) -> None:
    f = ARITHMETIC[symbol]
    for x, y, tensor, value in outcome(f, engine, [pair for pair in PAIRS if pair != ("bool", "bool")]):
        wanted = TABLE[x, y]
        assert (x, y, tensor.dtype, value.dtype.name) == (x, y, wanted, wanted)
        with np.errstate(over="ignore"):
            expected = f(values(x, X).astype(wanted), values(y, Y).astype(wanted))
        np.testing.assert_allclose(value, expected, rtol=1e-3 if wanted == "float16" else 1e-6)


@pytest.mark.parametrize("floatx", FLOATS)
@pytest.mark.usefixtures("uncompiled")
def test_true_division_of_integers_gives_floatx(engine: str, floatx: str) -> None:
    with changed(floatx=floatx):
        for x, y, tensor, value in outcome(operator.truediv, engine, [pair for pair in PAIRS if pair != ("bool", "bool")]):
            wanted = TABLE[x, y] if TABLE[x, y] in FLOATS else floatx
            assert (x, y, tensor.dtype, value.dtype.name) == (x, y, wanted, wanted)
            quotient = values(x, X).astype("float64") / values(y, Y).astype("float64")
            np.testing.assert_allclose(value, quotient, rtol=1e-3 if wanted == "float16" else 1e-6)


@pytest.mark.parametrize("symbol", [*ARITHMETIC, "negative", "abs"])
def test_a_bool_has_no_arithmetic_with_bools(symbol: str) -> None:
    x = K.variable([True], dtype="bool")
    build: Any = {"negative": lambda x, y: -x, "abs": lambda x, y: abs(x), **ARITHMETIC}[symbol]
    with pytest.raises(DTypeError, match="bool has no arithmetic"):
        build(x, x)


@pytest.mark.parametrize("symbol", [*ORDER, *NAMED])
@pytest.mark.usefixtures("uncompiled")
def test_comparisons_give_bool(symbol: str, engine: str) -> None:
    f, meaning = NAMED[symbol] if symbol in NAMED else (ORDER[symbol], ORDER[symbol])
    for x, y, tensor, value in outcome(f, engine, PAIRS):
        assert (x, y, tensor.dtype, value.dtype.name) == (x, y, "bool", "bool")
        np.testing.assert_array_equal(
            value, meaning(values(x, X).astype(TABLE[x, y]), values(y, Y).astype(TABLE[x, y])), err_msg=f"{x} {y}"
        )


# ---------------------------------------------------------------------------------------------------- weak operands

INTS: dict[str, Any] = {
    "int": 2,
    "np.int64": np.int64(2),
    "np.uint8": np.uint8(2),
    "0-d array": np.array(2),
    "list": [2, 3],
    "tuple": (2, 3),
}
FLOATING: dict[str, Any] = {
    "float": 1.5, "np.float64": np.float64(1.5), "np.float16": np.float16(1.5), "0-d array": np.array(1.5), "list": [1.5, 2.0],
}  # fmt: skip
BOOLS: dict[str, Any] = {"bool": True, "np.bool_": np.True_, "0-d array": np.array(True)}


def weak(dtype: str, kind: str) -> str:
    """The dtype of a tensor with a number: its own, but for a float that meets no float, and an int that meets a bool."""
    if kind == "float" and dtype not in FLOATS:
        return "float32"
    return "int64" if kind == "int" and dtype == "bool" else dtype


WEAK = [
    (kind, name, value)
    for kind, group in (("int", INTS), ("float", FLOATING), ("bool", BOOLS))
    for name, value in group.items()
]


@pytest.mark.parametrize(("kind", "name", "number"), WEAK, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.usefixtures("uncompiled")
def test_a_number_takes_the_dtype_of_the_tensor(kind: str, name: str, number: Any, engine: str) -> None:
    tensors, wanted = [], []
    for dtype in DTYPES:
        if kind == "bool" and dtype == "bool":
            continue
        t, x = K.variable(np.array([1, 1]).astype(dtype), dtype=dtype), np.array([1, 1])
        result = weak(dtype, kind)
        for f in ARITHMETIC.values():
            tensors += [f(t, number), f(number, t)]
            other = np.asarray(number).astype("float64" if kind == "float" else "int64")
            wanted += [(result, f(x, other)), (result, f(other, x))]
        tensors += [t / number, number / t]
        quotient = result if result in FLOATS else "float32"
        wanted += [(quotient, x / np.asarray(number)), (quotient, np.asarray(number) / x)]
    for tensor, value, (dtype, expected) in zip(tensors, K.function([], tensors, engine=engine)(), wanted, strict=True):
        assert (type(tensor), tensor.dtype, value.dtype.name) == (Tensor, dtype, dtype)
        np.testing.assert_allclose(value, np.asarray(expected).astype(dtype), rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("floatx", FLOATS)
def test_a_float_with_an_integer_tensor_gives_floatx(floatx: str) -> None:
    with changed(floatx=floatx):
        for dtype in (*INTEGERS, "bool"):
            t = K.placeholder((2,), dtype=dtype)
            for made in (t + 1.5, 1.5 * t, t - np.float64(1), t > 0.5, K.maximum(t, 0.5), t**0.5):
                assert made.dtype in (floatx, "bool")
            assert (t + 1.5).dtype == floatx


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("int8", 128), ("int8", -129), ("uint8", -1), ("uint8", 256), ("int16", 2**15), ("int32", 2**31), ("int64", 2**63)],
)
def test_an_int_that_the_dtype_cannot_hold_is_an_error(dtype: str, number: int) -> None:
    t = K.placeholder((2,), dtype=dtype)
    for build in (
        lambda: t + number,
        lambda: number - t,
        lambda: t > number,
        lambda: K.equal(t, [number]),
        lambda: t * np.array(number),
    ):
        with pytest.raises(DTypeError, match="does not fit|no tensor can be made"):
            build()


def test_the_ints_at_the_ends_of_a_dtype_are_held(engine: str) -> None:
    for dtype in INTEGERS:
        ends = np.iinfo(dtype)
        t = K.variable([0], dtype=dtype)
        found = K.function([], [t + ends.min, t + ends.max], engine=engine)()
        assert [value.tolist() for value in found] == [[ends.min], [ends.max]]


@pytest.mark.parametrize("symbol", ["+", "*"])
def test_an_array_keeps_its_dtype_on_either_side(symbol: str, engine: str) -> None:
    f = ARITHMETIC[symbol]
    tensors, wanted = [], []
    for x, y in PAIRS:
        if (x, y) != ("bool", "bool"):
            t, a = K.variable(values(x, X), dtype=x), values(y, Y)
            tensors += [f(t, a), f(a, t)]
            wanted += [f(values(x, X).astype(TABLE[x, y]), a.astype(TABLE[x, y]))] * 2
    for tensor, value, expected in zip(tensors, K.function([], tensors, engine=engine)(), wanted, strict=True):
        assert (type(tensor), tensor.dtype, value.dtype) == (Tensor, expected.dtype.name, expected.dtype)
        np.testing.assert_allclose(value, expected, rtol=1e-3 if expected.dtype == "float16" else 1e-6)


def test_arrays_stretch_like_tensors(engine: str) -> None:
    x, a = np.arange(3, dtype="float32").reshape(3, 1), np.arange(4, dtype="float32")
    t = K.placeholder((None, 1))
    made = [t + a, a - t, a / (t + 1), a**t, a < t]
    wanted = [x + a, a - x, a / (x + 1), a**x, a < x]
    for value, expected in zip(K.function([t], made, engine=engine)([x]), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- operators


def test_floor_division_and_remainder_follow_the_sign_rule_of_python(engine: str) -> None:
    xs, ys = [7, -7, 7, -7, 6, -6, 0], [2, 2, -2, -2, -3, 3, -5]
    for dtype in ("int8", "int32", "int64", "float32", "float64"):
        x, y = K.variable(xs, dtype=dtype), K.variable(ys, dtype=dtype)
        quotient, remainder = K.function([], [x // y, x % y], engine=engine)()
        assert quotient.tolist() == [a // b for a, b in zip(xs, ys, strict=True)]
        assert remainder.tolist() == [a % b for a, b in zip(xs, ys, strict=True)]


def test_unary_operators(engine: str) -> None:
    t = K.variable([-2.0, 3.0])
    found = K.function([], [-t, +t, abs(t)], engine=engine)()
    assert [value.tolist() for value in found] == [[2, -3], [-2, 3], [2, 3]]
    assert +t is not t
    assert K.eval(K.gradients(+t, [t])[0]).tolist() == [1, 1]


def test_sum_of_a_list_begins_with_zero(engine: str) -> None:
    t = K.variable([1.0, 2.0])
    assert K.eval(sum([t, t, t])).tolist() == [3, 6]
    assert K.eval(0 + t).tolist() == [1, 2]


def test_augmented_assignment_rebinds_and_changes_nothing(engine: str) -> None:
    t = K.variable([1.0, 2.0])
    u = t
    u += 1
    u *= 2
    u -= 1
    u /= 2
    u **= 2
    assert u is not t
    assert K.eval(t).tolist() == [1, 2]
    assert K.eval(u).tolist() == [1.5**2, 2.5**2]


def test_matmul_operator(engine: str) -> None:
    x, y = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    t = K.variable(x, dtype="float64")
    np.testing.assert_array_equal(K.eval(t @ y), x @ y)
    np.testing.assert_array_equal(K.eval(x.T @ t), x.T @ x)


def test_comparison_operators_are_symbolic_and_equality_is_identity(engine: str) -> None:
    t, u = K.variable([1.0, 2.0]), K.variable([1.0, 2.0])
    assert [K.eval(c).tolist() for c in (t > 1, t >= 1, t < 2, t <= np.array(2.0), t > 1, t > u)] == [
        [False, True], [True, True], [True, False], [True, True], [False, True], [False, False],
    ]  # fmt: skip
    assert t == t
    assert (t == u) is False
    assert (t != u) is True
    assert len({t, u, t}) == 2
    assert u in [t, u]
    assert [t, u].index(u) == 1


def test_an_integer_divided_by_zero_is_zero_as_in_numpy(engine: str) -> None:
    t = K.variable([5, -5, 0], dtype="int32")
    quotient, remainder = K.function([], [t // K.zeros((3,), dtype="int32"), t % K.zeros((3,), dtype="int32")], engine=engine)()
    assert (quotient.tolist(), remainder.tolist()) == ([0, 0, 0], [0, 0, 0])


# ---------------------------------------------------------------------------------------------------- NumPy's functions

UNARY = [
    np.negative, np.positive, np.absolute, np.fabs, np.sign, np.square, np.rint, np.floor, np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.sin, np.cos, np.tanh,
]  # fmt: skip
BINARY = [
    np.add, np.subtract, np.multiply, np.divide, np.true_divide, np.floor_divide, np.remainder, np.mod, np.power, np.maximum, np.minimum, np.equal, np.not_equal,
    np.less, np.less_equal, np.greater, np.greater_equal,
]  # fmt: skip


@pytest.mark.parametrize("ufunc", [f for f in UNARY if f is not np.fabs], ids=lambda f: f.__name__)
def test_a_function_of_numpy_over_a_tensor_is_a_node(ufunc: Any, engine: str) -> None:
    x = np.array([0.5, 1.25, 2.5], "float32")
    made = ufunc(K.variable(x))
    assert type(made) is Tensor
    found = K.eval(made)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, ufunc(x), rtol=1e-6)


@pytest.mark.parametrize(
    "ufunc", [np.exp, np.log, np.sqrt, np.sin, np.cos, np.tanh, np.expm1, np.log1p], ids=lambda f: f.__name__
)
def test_a_function_of_numpy_over_integers_gives_floatx(ufunc: Any, engine: str) -> None:
    found = K.eval(ufunc(K.variable([1, 2], dtype="int64")))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, ufunc([1.0, 2.0]), rtol=1e-6)


@pytest.mark.parametrize("ufunc", BINARY, ids=lambda f: f.__name__)
@pytest.mark.usefixtures("uncompiled")
def test_a_function_of_numpy_takes_tensors_arrays_and_numbers_on_either_side(ufunc: Any, engine: str) -> None:
    x, a = np.array([0.5, 1.25, 2.5], "float32"), np.array([1.5, 1.25, 0.5], "float32")
    t = K.variable(x)
    made = [ufunc(t, a), ufunc(a, t), ufunc(t, 2), ufunc(2.0, t), ufunc(t, t)]
    assert all(type(tensor) is Tensor for tensor in made)
    wanted = [ufunc(x, a), ufunc(a, x), ufunc(x, np.float32(2)), ufunc(np.float32(2), x), ufunc(x, x)]
    for value, expected in zip(K.function([], made, engine=engine)(), wanted, strict=True):
        assert value.dtype == expected.dtype
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_logical_functions_of_numpy_over_bools(engine: str) -> None:
    x, y = np.array([True, True, False, False]), np.array([True, False, True, False])
    t, u = K.variable(x, dtype="bool"), K.variable(y, dtype="bool")
    for ufunc in (np.logical_and, np.logical_or):
        np.testing.assert_array_equal(K.eval(ufunc(t, u)), ufunc(x, y))
        np.testing.assert_array_equal(K.eval(ufunc(x, u)), ufunc(x, y))
    np.testing.assert_array_equal(K.eval(np.logical_not(t)), ~x)


@pytest.mark.parametrize("size", [(), (1,), (3,), (2, 3)], ids=str)
def test_an_array_with_a_tensor_is_never_an_object_array(size: tuple[int, ...]) -> None:
    t, a = K.placeholder((None,)), np.ones(size, "float32")
    for made in (a + t, a - t, a * t, a / t, a**t, a // t, a % t, np.float64(2) * t, np.float32(2) + t, a > t):
        assert type(made) is Tensor


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.arctan(t), lambda t: np.fabs(t), lambda t: np.add.reduce(t), lambda t: np.add(t, 1, dtype="float64"), lambda t: np.multiply.outer(t, t),
        lambda t: np.add(np.ones(2), t, out=np.ones(2)), lambda t: np.frexp(t), lambda t: np.add(t, 1, where=[True, False]),
    ],
    ids=["arctan", "fabs", "reduce", "dtype", "outer", "out", "frexp", "where"],
)  # fmt: skip
def test_what_is_no_op_is_an_error_that_names_the_function(call: Callable[[Any], Any]) -> None:
    with pytest.raises(TensorUseError, match=r"np\.(\w+): NumPy's \1.* does not take a symbolic tensor"):
        call(K.placeholder((2,)))

"""Placeholders, variables and their values, updates, names and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.config import changed
from kgraph.errors import DTypeError, EngineError, FeedError, ShapeError, TensorUseError, UpdateError
from kgraph.ir.tensor import Tensor

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
FLOATS = DTYPES[6:]


class Sparse:
    """What scipy's sparse matrices have, as far as it matters."""

    def __init__(self, dense: Any):
        self.dense = np.asarray(dense)
        self.shape, self.dtype = self.dense.shape, self.dense.dtype

    def tocoo(self) -> Sparse:
        return self

    def toarray(self) -> Any:
        return self.dense.copy()


# ---------------------------------------------------------------------------------------------------- placeholders


@pytest.mark.parametrize("shape", [(), (None,), (None, 3), [2, None], (0, 3), (np.int64(2),)], ids=str)
def test_a_placeholder_has_its_shape_and_the_marks_of_keras(shape: Any) -> None:
    x: Any = K.placeholder(shape)
    wanted = tuple(None if n is None else int(n) for n in shape)
    assert (K.int_shape(x), x.shape, x._keras_shape, K.ndim(x), x._uses_learning_phase) == (
        wanted,
        wanted,
        wanted,
        len(wanted),
        False,
    )
    assert K.is_keras_tensor(x)
    assert type(x.name) is str


def test_a_placeholder_of_a_rank() -> None:
    x: Any = K.placeholder(ndim=3, dtype="int32", name="tokens")
    assert (K.int_shape(x), x._keras_shape, K.dtype(x), x.name) == ((None, None, None), (None, None, None), "int32", "tokens")
    assert K.int_shape(K.placeholder(ndim=0)) == ()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_of_a_placeholder_or_variable_is_a_plain_str(dtype: str) -> None:
    for name in (dtype, np.dtype(dtype), np.dtype(dtype).type):
        for x in (K.placeholder((2,), dtype=name), K.variable([1, 0], dtype=name)):
            assert type(K.dtype(x)) is str
            assert K.dtype(x) == x.dtype == dtype
            assert K.placeholder((2,), dtype=x.dtype).dtype == dtype


@pytest.mark.parametrize("floatx", FLOATS)
def test_floatx_is_the_dtype_of_what_names_none(floatx: str) -> None:
    with changed(floatx=floatx):
        made = [
            K.placeholder((2,)),
            K.variable([1, 2]),
            K.variable(np.zeros(2, "int64")),
            K.zeros((2,)),
            K.ones((2,)),
            K.eye(2),
        ]
        made.append(K.one_hot([1], 2))
        assert {K.dtype(x) for x in made} == {floatx}
        assert K.floatx() == K._FLOATX == floatx


def test_a_placeholder_needs_a_shape_or_a_rank() -> None:
    for arguments in ({}, {"shape": (1.5,)}, {"shape": (-1,)}, {"shape": 3}, {"shape": ("a",)}):
        with pytest.raises(ShapeError):
            K.placeholder(**arguments)
    for dtype in ("complex64", "str", "uint64", object):
        with pytest.raises(DTypeError):
            K.placeholder((2,), dtype=dtype)


def test_each_call_makes_another_placeholder_variable_and_handle() -> None:
    assert K.placeholder((2,)).node is not K.placeholder((2,)).node
    assert K.variable(1.0).node is not K.variable(1.0).node
    x = K.placeholder((2,))
    a, b = K.exp(x), K.exp(x)
    assert a is not b
    assert a.node is b.node
    assert not hasattr(a, "_keras_shape")
    a._keras_history = "mine"
    assert not hasattr(b, "_keras_history")


def test_int_shape_is_what_keras_has_set(engine: str) -> None:
    x: Any = K.placeholder((None, 3))
    y: Any = K.exp(x)
    assert K.int_shape(y) == (None, 3)
    y._keras_shape = (7, 3)
    assert K.int_shape(y) == (7, 3)
    assert K.int_shape(np.zeros((2, 5))) == (2, 5)


def test_a_reshape_to_ints_bears_the_marks_of_keras_and_no_other_result_does() -> None:
    x: Any = K.placeholder((None, 6))
    r: Any = K.reshape(x, (-1, 2, 3))
    assert (r._keras_shape, r._uses_learning_phase) == ((None, 2, 3), False)
    assert not K.is_keras_tensor(K.reshape(x, (K.shape(x)[0], 2, 3)))
    for made in (
        x * 2,
        K.exp(x),
        K.sum(x),
        K.concatenate([x, x]),
        K.dot(x, K.zeros((6, 2))),
        K.permute_dimensions(x, (1, 0)),
        K.flatten(x),
    ):
        assert not K.is_keras_tensor(made)


# ---------------------------------------------------------------------------------------------------- variables


@pytest.mark.parametrize(
    "given",
    [
        1,
        2.5,
        True,
        [1, 2],
        [[1.0], [2.0]],
        (1, 2),
        np.float64(3),
        np.arange(6).reshape(2, 3),
        np.zeros((0, 2)),
        Sparse([[0, 1], [2, 0]]),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("dtype", [None, "float64", "int32"])
def test_a_variable_takes_numbers_lists_and_arrays(given: Any, dtype: str | None) -> None:
    v: Any = K.variable(given, dtype=dtype, name="w")
    wanted = np.asarray(given.toarray() if isinstance(given, Sparse) else given).astype(dtype or "float32")
    found = K.get_value(v)
    assert (type(v), type(found), found.dtype, found.shape) == (Tensor, np.ndarray, wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(found, wanted)
    assert (K.int_shape(v), v._keras_shape, v._uses_learning_phase, v.name, K.get_variable_shape(v)) == (
        *[wanted.shape] * 2,
        False,
        "w",
        wanted.shape,
    )


@pytest.mark.parametrize(
    "given", ["a", None, object(), [1, [2]], np.array([1j]), ["1"]], ids=lambda value: type(value).__name__
)
def test_what_is_no_number_makes_no_variable(given: Any) -> None:
    with pytest.raises(DTypeError):
        K.variable(given)


def test_a_variable_has_a_name_and_a_copy_of_its_value() -> None:
    array = np.ones(2, "float32")
    v = K.variable(array)
    array[0] = 7
    assert K.get_value(v).tolist() == [1, 1]
    found = K.get_value(v)
    found[0] = 7
    assert K.get_value(v).tolist() == [1, 1]
    assert type(v.name) is str
    assert v.name


@pytest.mark.parametrize("dtype", [None, *DTYPES])
def test_zeros_ones_and_eye_are_variables(dtype: str | None) -> None:
    for made, wanted in [
        (K.zeros((2, 3), dtype, "z"), np.zeros((2, 3))), (K.ones([2, np.int64(3)], dtype, "z"), np.ones((2, 3))), (K.eye(3, dtype, "z"), np.eye(3)),
        (K.zeros((), dtype, "z"), np.zeros(())), (K.ones((0, 2), dtype, "z"), np.ones((0, 2))),
    ]:  # fmt: skip
        found = K.get_value(made)
        assert (found.dtype.name, made.name) == (dtype or "float32", "z")
        np.testing.assert_array_equal(found, wanted)


def test_count_params_is_a_numpy_integer() -> None:
    for shape, count in (((2, 3), 6), ((), 1), ((0, 5), 0)):
        found = K.count_params(K.zeros(shape))
        assert isinstance(found, np.integer)
        assert found == count
    with pytest.raises(ShapeError):
        K.count_params(K.placeholder((None, 2)))


def test_a_variable_is_true_and_a_computed_tensor_is_neither() -> None:
    assert bool(K.variable(0.0)) is True
    for use in (bool, float, int, complex, np.asarray, lambda t: list(t), lambda t: range(3)[t], len):
        with pytest.raises(TensorUseError):
            use(K.variable(1.0) > 0)


# ---------------------------------------------------------------------------------------------------- values


def test_values_are_set_and_got(engine: str) -> None:
    v, w = K.variable([1.0, 2.0]), K.variable(3, dtype="int32")
    K.set_value(v, np.array([5, 6], "int64"))
    K.set_value(w, 7.9)
    assert [value.tolist() for value in K.batch_get_value([v, w, v])] == [[5, 6], 7, [5, 6]]
    assert K.get_value(w).dtype == "int32"
    K.batch_set_value([(v, [0, 1]), (w, np.array(4))])
    assert (K.get_value(v).tolist(), K.get_value(w).tolist(), K.eval(v * w).tolist()) == ([0, 1], 4, [0, 4])
    K.batch_set_value([])
    assert K.batch_get_value([]) == []
    K.set_value(v, Sparse([1, 0]))
    assert K.get_value(v).tolist() == [1, 0]


def test_a_value_of_the_wrong_shape_or_kind_sets_nothing() -> None:
    v, w = K.variable([1.0, 2.0], name="v"), K.variable(3.0, name="w")
    for wrong in ([1], [[1, 2]], 1.0, np.zeros((0,))):
        with pytest.raises(ShapeError, match="'v'"):
            K.set_value(v, wrong)
    for wrong in ("a", None, [None, 1]):
        with pytest.raises(DTypeError):
            K.set_value(v, wrong)
    with pytest.raises(ShapeError):
        K.batch_set_value([(w, 9.0), (v, [1])])
    assert [value.tolist() for value in K.batch_get_value([v, w])] == [[1, 2], 3]


@pytest.mark.parametrize(
    "call", [K.get_value, lambda x: K.set_value(x, 1), lambda x: K.batch_get_value([x]), lambda x: K.batch_set_value([(x, 1)])]
)
def test_only_variables_have_values(call: Any) -> None:
    for wrong in (K.placeholder(()), K.variable(1.0) * 2, 3.0, np.zeros(2)):
        with pytest.raises(TypeError):
            call(wrong)


def test_eval_takes_any_expression_without_placeholders(engine: str) -> None:
    v = K.variable([[1.0, 2.0, 3.0]])
    rows, columns = K.eval(K.shape(v * 2))
    assert (rows, columns) == (1, 3)
    assert K.eval(v).tolist() == [[1, 2, 3]]
    assert K.eval(K.zeros_like(v)).tolist() == [[0, 0, 0]]
    assert type(K.eval(K.sum(v))) is np.ndarray
    assert K.eval(K.variable(Sparse([[0, 1]]))).tolist() == [[0, 1]]
    with pytest.raises(FeedError, match="'x'"):
        K.eval(K.placeholder((), name="x") + 1)


def test_eval_gives_a_copy() -> None:
    v = K.variable([1.0])
    K.eval(v)[0] = 9
    assert K.get_value(v).tolist() == [1]


# ---------------------------------------------------------------------------------------------------- updates


def test_updates_of_each_sort(engine: str) -> None:
    a, b, c, d, e = [K.variable([10.0, 20.0]) for _ in range(5)]
    x = K.placeholder((2,))
    updates = [K.update(a, x), K.update_add(b, 1), K.update_sub(c, x), K.moving_average_update(d, x, 0.75), (e, e * 2)]
    K.function([x], [], updates, engine=engine)([[1, 2]])
    assert [v.tolist() for v in K.batch_get_value([a, b, c, d, e])] == [[1, 2], [11, 21], [9, 18], [7.75, 15.5], [20, 40]]


def test_an_integer_variable_is_counted_up(engine: str) -> None:
    n = K.variable(0, dtype="int64")
    run = K.function([], [n], [K.update_add(n, 1)], engine=engine)
    assert [run()[0].tolist() for _ in range(3)] == [0, 1, 2]
    assert K.get_value(n).dtype == "int64"


@pytest.mark.parametrize(
    "make",
    [
        lambda x: K.update(x, 1),
        lambda x: K.update_add(x, 1),
        lambda x: K.update_sub(x, 1),
        lambda x: K.moving_average_update(x, 1.0, 0.5),
    ],
    ids=["update", "update_add", "update_sub", "moving_average_update"],
)
def test_only_a_variable_is_updated(make: Any) -> None:
    for wrong in (K.placeholder(()), K.variable(1.0) + 1, 2.0):
        with pytest.raises(UpdateError):
            make(wrong)


# ---------------------------------------------------------------------------------------------------- sparse


def test_sparse_is_a_mark_of_placeholders_variables_and_what_joins_them(engine: str) -> None:
    x, v = K.placeholder((None, 2), sparse=True), K.variable(Sparse([[0, 1], [2, 0]]))
    dense = K.placeholder((None, 2))
    assert [K.is_sparse(t) for t in (x, v, K.concatenate([x, v], axis=0))] == [True] * 3
    assert [
        K.is_sparse(t) for t in (dense, K.variable([1.0]), K.concatenate([x, dense], axis=0), K.to_dense(x), x * 2, K.dot(x, v))
    ] == [False] * 6
    run = K.function([x], [K.dot(x, v), K.to_dense(x)], engine=engine)
    product, same = run([Sparse([[1, 0], [0, 3]])])
    assert (product.tolist(), same.tolist()) == ([[0, 1], [6, 0]], [[1, 0], [0, 3]])


def test_sparse_matrices_are_constants_variables_and_fed_values(engine: str) -> None:
    left, right = np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[3.0, 0.0], [0.0, 4.0]])
    x, matrix = K.placeholder((None, 2), sparse=True, name="x"), Sparse(right)
    assert K.is_sparse(matrix)
    assert not K.is_sparse(right)
    joined = K.concatenate([x, matrix, K.variable(matrix, dtype="float64")], axis=0)
    assert K.is_sparse(joined)
    assert K.dtype(joined) == "float64"  # that of the matrix, as of an array
    assert not K.is_sparse(K.to_dense(joined))
    run = K.function([x], [K.dot(x, matrix), K.dot(matrix, K.to_dense(x)), x * matrix, joined, K.to_dense(matrix)], engine=engine)
    for fed in (Sparse(left), left):
        wanted = [left @ right, right @ left, left * right, np.concatenate([left, right, right]), right]
        assert [found.tolist() for found in run([fed])] == [value.tolist() for value in wanted]
    assert K.function([x], [K.sum(x)], engine=engine)([Sparse(left)]) == [3]


def test_the_value_of_what_is_sparse_is_dense(engine: str) -> None:
    v = K.variable(Sparse([[0, 1], [2, 0]]), name="v")
    for tensor in (v, K.concatenate([v]), K.to_dense(v)):
        found = K.eval(tensor)
        assert type(found) is np.ndarray
        assert (found.dtype.name, found.tolist()) == ("float32", [[0, 1], [2, 0]])
    K.set_value(v, Sparse([[5, 0], [0, 6]]))
    assert K.get_value(v).tolist() == [[5, 0], [0, 6]]
    gradient = K.function([], K.gradients(K.sum(K.square(K.dot(v, np.eye(2, dtype="float32")))), [v]), engine=engine)()[0]
    assert gradient.tolist() == [[10, 0], [0, 12]]


# ---------------------------------------------------------------------------------------------------- settings


def test_the_defaults() -> None:
    assert (K.floatx(), K.epsilon(), K.image_dim_ordering(), K.backend()) == ("float32", 10e-8, "th", "numpy")
    assert (K._FLOATX, K._EPSILON, K._BACKEND) == ("float32", 10e-8, "numpy")


def test_settings_hold_at_once() -> None:
    K.set_floatx("float64")
    K.set_epsilon(1e-3)
    K.set_image_dim_ordering("tf")
    assert (K.floatx(), K.epsilon(), K.image_dim_ordering()) == ("float64", 1e-3, "tf")
    assert K.dtype(K.variable(1)) == "float64"
    loss = K.categorical_crossentropy(K.variable([[1.0, 0.0]]), K.variable([[0.0, 1.0]]))
    np.testing.assert_allclose(K.eval(loss), [-np.log(1e-3)], rtol=1e-12)


@pytest.mark.parametrize("wrong", ["float8", "int32", "FLOAT32", None, 32, ""])
def test_a_wrong_floatx_changes_nothing(wrong: Any) -> None:
    with pytest.raises(ValueError, match="floatx"):
        K.set_floatx(wrong)
    assert K.floatx() == "float32"


@pytest.mark.parametrize("wrong", ["channels_last", None, "TF", 0])
def test_a_wrong_dim_ordering_changes_nothing(wrong: Any) -> None:
    with pytest.raises(ValueError, match="dim_ordering"):
        K.set_image_dim_ordering(wrong)
    assert K.image_dim_ordering() == "th"


@pytest.mark.parametrize("floatx", FLOATS)
def test_cast_to_floatx_gives_an_array(floatx: str) -> None:
    with changed(floatx=floatx):
        for given in (1, 2.5, [1, 2], np.arange(3), np.float64(2)):
            found = K.cast_to_floatx(given)
            assert (type(found), found.dtype, found.shape) == (np.ndarray, floatx, np.shape(given))
            np.testing.assert_array_equal(found, given)


def test_uids_count_from_one_for_each_prefix() -> None:
    K.clear_session()
    assert [K.get_uid("a"), K.get_uid("a"), K.get_uid("b"), K.get_uid(), K.get_uid("a"), K.get_uid()] == [1, 2, 1, 1, 3, 2]
    K.clear_session()
    assert K.get_uid("a") == 1


def test_names_that_keras_sets_and_asks_for() -> None:
    assert K.legacy_weight_ordering() is False
    K.set_legacy_weight_ordering(True)
    assert K.legacy_weight_ordering() is True
    K.set_legacy_weight_ordering(False)
    for wrong in (None, "yes", 2):
        with pytest.raises(ValueError, match="legacy_weight_ordering"):
            K.set_legacy_weight_ordering(wrong)
    K.manual_variable_initialization(True)
    assert K.get_value(K.variable(1.0)) == 1
    K.manual_variable_initialization(False)
    assert K.categorical_crossentropy.__name__ == "categorical_crossentropy"


def test_an_engine_without_sessions_says_so() -> None:
    with pytest.raises(EngineError):
        K.get_session()
    with pytest.raises(EngineError):
        K.set_session(object())


def test_a_scope_is_of_what_is_built_inside() -> None:
    with K.name_scope("encoder"):
        with K.name_scope("dense"):
            inner = K.exp(K.variable(1.0))
        outer = K.exp(K.variable(1.0))
    outside = K.exp(K.variable(1.0))
    assert [t.node.origin.scope for t in (inner, outer, outside)] == ["encoder/dense", "encoder", ""]


def test_the_learning_phase_is_one_tensor_until_it_is_set() -> None:
    symbolic = K.learning_phase()
    assert K.learning_phase() is symbolic
    assert not isinstance(symbolic, int)
    assert (K.dtype(symbolic), K.ndim(symbolic)) == ("uint8", 0)
    for phase in (0, 1, True):
        K.set_learning_phase(phase)
        assert K.learning_phase() == phase
        assert isinstance(K.learning_phase(), int)
    for wrong in (2, -1, "train", None, 0.5):
        with pytest.raises(ValueError, match="learning phase"):
            K.set_learning_phase(wrong)
    assert K.learning_phase() == 1
    K.clear_session()
    assert K.learning_phase() is symbolic


def test_marks_of_a_branch_by_phase() -> None:
    x: Any = K.placeholder((2,))
    made: Any = K.in_train_phase(x * 2, x)
    assert made._uses_learning_phase is True
    other: Any = K.in_test_phase(lambda: x * 2, lambda: x)
    assert other._uses_learning_phase is True
    K.set_learning_phase(1)
    assert not hasattr(K.in_train_phase(x * 2, x), "_uses_learning_phase")


@pytest.mark.parametrize("choose", [K.in_train_phase, K.in_test_phase])
def test_which_side_of_a_phase(choose: Any, engine: str) -> None:
    x = K.variable([1.0, 2.0])
    run = K.function([K.learning_phase()], choose(x * 10, lambda: x), engine=engine)
    ten, one = [10, 20], [1, 2]
    wanted = {1: ten, 0: one} if choose is K.in_train_phase else {1: one, 0: ten}
    assert {phase: run([phase]).tolist() for phase in (0, 1)} == wanted

"""Types: interned, the algebra of promotion, and shapes with unknown sizes against every shape that they may stand for."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgraph.errors import AxisError, DTypeError, ShapeError
from kgraph.ir import types
from kgraph.ir.types import (
    DTYPES,
    FLOATS,
    INTEGERS,
    PROMOTION,
    Shape,
    Size,
    TensorType,
    TupleType,
    as_axes,
    as_axis,
    as_dtype,
    broadcast_shapes,
    is_tuple,
    kind,
    merge_size,
    numpy_dtype,
    product,
    reduced_shape,
    same_size,
    show_shape,
)
from tests.ir.strategies import quick

SIZES: tuple[Size, ...] = (None, 0, 1, 2, 3)
REAL = (0, 1, 2, 3, 5)  # what an unknown size may be

sizes = st.sampled_from(SIZES)
shapes = st.lists(sizes, max_size=3).map(tuple)


def realised(shape: Iterable[Size]) -> list[tuple[int, ...]]:
    """Every shape that one with unknown sizes may stand for."""
    return list(itertools.product(*[REAL if size is None else (size,) for size in shape]))


# ---------------------------------------------------------------------------------------------------- identity


@quick
@given(dtype=st.sampled_from(DTYPES), shape=shapes)
def test_equal_types_are_one_object(dtype: str, shape: Shape) -> None:
    x = TensorType(dtype, shape)
    assert TensorType(str(dtype), tuple(shape)) is x
    assert (x.dtype, x.shape, x.ndim) == (dtype, shape, len(shape))
    assert x.is_static == (None not in shape)
    assert x.is_float == np.issubdtype(np.dtype(dtype), np.floating)
    assert x.with_dtype("int8") is TensorType("int8", shape)
    assert x.with_shape((7,)) is TensorType(dtype, (7,))
    assert x.with_dtype(dtype).with_shape(shape) is x
    for again in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert again is x
    pair = TupleType((x, TensorType("bool", ())))
    assert TupleType((x, TensorType("bool", ()))) is pair
    assert TupleType((TensorType("bool", ()), x)) is not pair or x is TensorType("bool", ())
    assert pickle.loads(pickle.dumps(pair)) is pair
    assert is_tuple(pair) and not is_tuple(x)


def test_types_that_differ_in_anything_are_not_equal() -> None:
    made: list[Any] = [TensorType(d, s) for d in DTYPES for s in [(), (0,), (1,), (None,), (1, None), (None, 1), (None, None), (2, 3), (3, 2)]]
    made += [TupleType(()), TupleType((made[0],)), TupleType((made[0], made[0])), TupleType((made[0], made[1]))]
    assert len(set(made)) == len(made)
    assert not any(x == y for x, y in itertools.combinations(made, 2))


def test_a_type_that_nothing_uses_is_forgotten() -> None:
    gc.disable()  # by reference counts alone
    try:
        before = len(types._TYPES)
        held: list[Any] = [TensorType("int8", (i, 977)) for i in range(100)]
        held += [TupleType((x, x)) for x in held]
        assert len(types._TYPES) == before + 200
        del held
        assert len(types._TYPES) == before
    finally:
        gc.enable()


def test_repr_shows_dtype_and_sizes() -> None:
    assert repr(TensorType("float32", (None, 3))) == "float32[?, 3]"
    assert repr(TensorType("bool", ())) == "bool[]"
    assert repr(TupleType((TensorType("int64", (2,)), TensorType("uint8", (None,))))) == "(int64[2], uint8[?])"
    assert show_shape([None, None, 0]) == "[?, ?, 0]"


# ---------------------------------------------------------------------------------------------------- dtypes


def test_every_dtype_is_the_one_of_numpy_of_that_name() -> None:
    assert set(DTYPES) == {"bool", *INTEGERS, *FLOATS}
    for name in DTYPES:
        assert numpy_dtype(name).name == name
        assert kind(name) == {"b": "bool", "i": "int", "u": "int", "f": "float"}[numpy_dtype(name).kind]


def test_a_dtype_is_given_by_name_dtype_or_scalar_type() -> None:
    for name in DTYPES:
        for way in (name, np.dtype(name), np.dtype(name).type, np.dtype(name).newbyteorder()):
            assert as_dtype(way) == name
    assert [as_dtype(way) for way in (bool, int, float)] == ["bool", np.dtype(int).name, "float64"]


@pytest.mark.parametrize("wrong", ["float", "int", "Float32", "complex64", "uint16", "", np.complex128, "object", object(), np.dtype("M8[s]"), 3.5])
def test_another_dtype_is_refused_with_a_list_of_those_there_are(wrong: Any) -> None:
    with pytest.raises(DTypeError, match=r"there is no dtype .*\n  hint: kgraph has bool, uint8, .*, float64"):
        as_dtype(wrong)


def test_promotion_is_the_least_dtype_above_both() -> None:
    assert set(PROMOTION) == set(itertools.product(DTYPES, DTYPES))
    above = {x: {y for y in DTYPES if PROMOTION[x, y] == y} for x in DTYPES}
    for x, y in PROMOTION:
        found = PROMOTION[x, y]
        assert found == PROMOTION[y, x]  # commutative
        assert PROMOTION[x, x] == x  # idempotent
        assert PROMOTION["bool", x] == x  # bool with x takes x
        assert found in above[x] & above[y]
        assert all(found in above or upper in above[found] for upper in above[x] & above[y])
        for z in DTYPES:  # so that the dtype of a sum does not depend on the order of its terms
            assert PROMOTION[found, z] == PROMOTION[x, PROMOTION[y, z]]


def test_promotion_agrees_with_numpy_within_a_kind_and_takes_the_float_across_kinds() -> None:
    for (x, y), found in PROMOTION.items():
        if kind(x) == kind(y):
            assert found == np.promote_types(x, y).name
        elif "float" in (kind(x), kind(y)):
            assert found == (x if kind(x) == "float" else y)


# ---------------------------------------------------------------------------------------------------- sizes


def test_sizes_may_be_the_same_if_one_real_size_is_both() -> None:
    for x, y in itertools.product(SIZES, SIZES):
        both = {s for (s,) in realised((x,))} & {s for (s,) in realised((y,))}
        assert same_size(x, y) == same_size(y, x) == bool(both)
        if both:
            merged = merge_size(x, y)
            assert merged == merge_size(y, x)
            assert {s for (s,) in realised((merged,))} == both
        assert merge_size(x, x) == x
        assert merge_size(x, None) == merge_size(None, x) == x


@quick
@given(shape=shapes, others=shapes)
def test_a_product_is_known_if_it_is_the_same_for_every_real_shape(shape: Shape, others: Shape) -> None:
    found = {int(np.prod(real, dtype=int)) for real in realised(shape)}
    assert product(shape) == (found.pop() if len(found) == 1 else None)
    assert TensorType("int8", shape).size == product(shape)
    assert product([product(shape), product(others)]) == product(shape + others)


def stretched(given: Sequence[Shape], real: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of real operands together: only an axis that is known to be 1 is stretched, as NumPy does it."""
    try:
        result = np.broadcast_shapes(*real)
    except ValueError:
        return None
    for shape, sizes in zip(given, real, strict=True):
        for static, size, wanted in zip(shape[::-1], sizes[::-1], result[::-1], strict=False):
            if static != 1 and size != wanted:
                return None
    return result


def broadcast(given: Sequence[Shape]) -> Shape | None:
    """The oracle: what all real operands that go together have in common; None if none do."""
    results = {found for real in itertools.product(*map(realised, given)) if (found := stretched(given, real)) is not None}
    if not results:
        return None
    return tuple([axis[0] if len(set(axis)) == 1 else None for axis in zip(*results, strict=True)])


@quick
@given(given=st.lists(st.lists(sizes, max_size=2).map(tuple), min_size=1, max_size=3))
def test_a_broadcast_shape_is_what_all_real_operands_give(given: list[Shape]) -> None:
    wanted = broadcast(given)
    for order in itertools.permutations(given):
        if wanted is None:
            with pytest.raises(ShapeError, match=r"^sizes differ on axis -[12]: \d != \d\n  hint: only an axis of size 1 is stretched"):
                broadcast_shapes(order)
        else:
            assert broadcast_shapes(order) == wanted
            assert broadcast_shapes([wanted, *order]) == wanted  # nothing more comes of it
            assert broadcast_shapes([broadcast_shapes(order[:2]), *order[2:]]) == wanted


def test_an_unknown_size_is_never_stretched() -> None:
    assert broadcast_shapes([(None,), (1,)]) == (None,)
    assert broadcast_shapes([(None,), (3,)]) == (3,)  # it has to be 3
    assert broadcast_shapes([(None, 2), (3, 1, 1)]) == (3, None, 2)
    assert broadcast_shapes([(0,), (1,)]) == (0,)
    with pytest.raises(ShapeError):
        broadcast_shapes([(0,), (2,)])


# ---------------------------------------------------------------------------------------------------- axes


@quick
@given(real=st.lists(st.integers(0, 3), max_size=3).map(tuple), data=st.data())
def test_axes_and_reduced_shapes_are_those_of_numpy(real: tuple[int, ...], data: st.DataObject) -> None:
    rank = len(real)
    chosen = data.draw(st.lists(st.integers(-rank, rank - 1), max_size=3) if rank else st.just([]))
    axis = data.draw(st.sampled_from([None, chosen, tuple(chosen), tuple(map(np.int64, chosen)), *chosen]))
    if isinstance(axis, (list, tuple)) and len({a % rank for a in axis}) < len(axis):
        with pytest.raises(AxisError, match="names an axis twice"):
            as_axes(axis, rank)
        return
    found = as_axes(axis, rank)
    assert list(found) == sorted(set(found))
    assert all(type(a) is int for a in found)
    as_numpy = tuple(axis) if isinstance(axis, list) else axis
    for keepdims in (True, False):
        wanted = np.add.reduce(np.empty(real), axis=as_numpy, keepdims=keepdims).shape
        assert reduced_shape(real, found, keepdims) == wanted
        unknown = reduced_shape((None,) * rank, found, keepdims)
        assert unknown == tuple(1 if keepdims and i in found else None for i in range(len(wanted)))


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_an_axis_outside_is_refused_and_one_inside_counts_from_0(rank: int) -> None:
    for axis in range(-rank, rank):
        assert as_axis(axis, rank) == as_axis(np.int8(axis), rank) == list(range(rank))[axis]
    for axis in (-rank - 1, rank, 99):
        allowed = f"its axes are from {-rank} to {rank - 1}" if rank else "its axes are none: it is a scalar"
        with pytest.raises(AxisError, match=f"^axis {axis} is outside of the tensor; {allowed}$"):
            as_axis(axis, rank)
        with pytest.raises((ValueError, IndexError)):  # as in NumPy
            as_axes((axis,), rank)
    for wrong in (1.0, "0", None, [0]):
        with pytest.raises(AxisError, match="^an axis is an int, not "):
            as_axis(wrong, rank)

"""Rows for the rules of simplify that rearrange, stretch and reduce; see `simplify_rows`."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from tests.ir.simplify_rows import Leaves, Row, row, unary

FULL = (0, 2**63 - 1, 1)


def total(x: Node, *axis: int, op: Any = o.sum, keepdims: bool = False) -> Node:
    return op(x, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]


def to(x: Node, *shape: int) -> Node:
    return o.broadcast_to(x, shape=shape)


def each(rule: str, before: Any, after: Any, *shapes: tuple[int | None, ...], kinds: str = "f", sums: bool = False) -> Row:
    """Of operands of these shapes."""

    def made(leaf: Leaves) -> Any:
        given = [leaf(*shape) if shape else leaf.scalar() for shape in shapes]
        return before(*given), after if isinstance(after, str) else after(*given)

    row(rule, kinds, sums)(made)
    return Row(rule, made, kinds)


# ---------------------------------------------------------------------------------------------------- broadcasts

A, B = (4, 5), (5,)
each("to_itself", lambda x: to(x, 4, 5), lambda x: x, A, kinds="fib")
each("to_itself", lambda x: o.broadcast_like(x, o.exp(x)), lambda x: x, (None, 5))
each("to_itself", o.broadcast_like, "it is not known that they are those of x", (None, 5), (None, 5))
each("like_known", o.broadcast_like, lambda x, y: to(x, 4, 5), B, A, kinds="fib")
each("like_known", o.broadcast_like, "a size is not known", B, (None, 5))
each("like_source", lambda x, y: o.broadcast_like(x, o.exp(y) * y), lambda x, y: o.broadcast_like(x, y), B, (None, 5))
each("like_source", o.broadcast_like, "its shape comes from nowhere else", B, (None, 5))
each("stretched_twice", lambda x: to(to(x, 4, 5), 3, 4, 5), lambda x: to(x, 3, 4, 5), B, kinds="fib")
each("stretched_twice", lambda x: to(o.expand_dims(x, axis=0), 4, 5), lambda x: to(x, 4, 5), B, kinds="fib")
each("stretched_twice", lambda x: to(o.expand_dims(x, axis=1), 5, 4), "the axis is not the first one", B)
each(
    "stretched_twice", lambda x, y: o.broadcast_like(to(x, 1, 5), y), lambda x, y: o.broadcast_like(x, y), B, (None, 5), kinds="fib",
)  # fmt: skip
each(
    "stretched_twice", lambda x, y, z: o.broadcast_like(o.broadcast_like(x, y), z), "sizes have to agree when the program runs",
    (1, 5), (None, 5), (None, 5),
)  # fmt: skip
each("stretched_operand", lambda x, y: to(x, 4, 5) + y, lambda x, y: x + y, B, A, kinds="fi")
each("stretched_operand", lambda x, y: y / to(x, 4, 5), lambda x, y: y / x, (), A)
each("stretched_operand", lambda x, y: o.expand_dims(x, axis=0) * y, lambda x, y: x * y, B, A, kinds="fi")
each("stretched_operand", lambda x, y: o.reshape(x, shape=(1, 5)) * y, lambda x, y: x * y, B, A, kinds="fi")
each("stretched_operand", lambda x, y: o.expand_dims(x, axis=1) * y, "no other operand has the shape for sure", (4,), A)
each("stretched_operand", lambda x, y: o.broadcast_like(x, y) - o.exp(y), lambda x, y: x - o.exp(y), B, (None, 5))
each("stretched_operand", lambda x, y, z: o.broadcast_like(x, y) - z, "no other operand has the shape for sure", B, (None, 5), (None, 5))
each("stretched_operand", lambda x, y: o.where(o.less(y, y), to(x, 4, 5), y), lambda x, y: o.where(o.less(y, y), x, y), B, A)
unary("uniform_operand", lambda x, c: x * c(np.full((9, 9), 3)), lambda x, c: x * c(3), "fi")
unary("uniform_operand", lambda x, c: o.less(c(np.full(9, 3)), x), lambda x, c: o.less(c(3), x), "fi")
unary("uniform_operand", lambda x, c: x * c(np.arange(9)), "it is a number, or its elements differ", "fi")
unary("uniform_operand", lambda x, c: x * c(np.full((2, 9, 9), 3)), "no other operand has the shape for sure", "fi")
for op in (o.negative, o.absolute, o.sign, o.square, o.relu):
    each("stretched_later", lambda x, op=op: op(to(x, 4, 5)), lambda x, op=op: to(op(x), 4, 5), B, kinds="fi")
for op in (o.round, o.floor, o.sqrt):
    each("stretched_later", lambda x, op=op: op(to(x, 4, 5)), lambda x, op=op: to(op(x), 4, 5), B)
each("stretched_later", lambda x: o.logical_not(to(x, 4, 5)), lambda x: to(o.logical_not(x), 4, 5), B, kinds="b")
each("stretched_later", lambda x, y: o.cast(o.broadcast_like(x, y), dtype="float64"), lambda x, y: o.broadcast_like(o.cast(x, dtype="float64"), y), B, (None, 5))
for op in (o.exp, o.expm1, o.log, o.log1p, o.sin, o.cos, o.tanh, o.sigmoid, o.softplus):
    each("function_stretched_later", lambda x, op=op: op(to(x, 4, 5)), lambda x, op=op: to(op(x), 4, 5), B)
for op in (o.add, o.subtract, o.multiply, o.divide, o.maximum, o.minimum, o.less, o.equal):
    each("both_stretched_later", lambda x, y, op=op: op(to(x, 4, 5), to(y, 4, 5)), lambda x, y, op=op: to(op(x, y), 4, 5), B, (1, 5))
    each("both_stretched_later", lambda x, y, op=op: op(y, to(x, 4, 5)), lambda x, y, op=op: to(op(y, x), 4, 5), B, ())
each("both_stretched_later", lambda x, y: to(x, 4, 5) + to(y, 4, 5), "nothing would be stretched", B, (4, 1))
each("both_stretched_later", lambda x, y: to(x, 4, 5) + y, "the other operand is not stretched", B, A)

# ---------------------------------------------------------------------------------------------------- casts

for kinds, first, then in (("f", "float64", "float16"), ("b", "uint8", "float32"), ("u", "int16", "int8"), ("fi", "float64", "bool")):
    unary("casts", lambda x, c, first=first, then=then: o.cast(o.cast(x, dtype=first), dtype=then), lambda x, c, then=then: o.cast(x, dtype=then), kinds)
unary("casts", lambda x, c: o.cast(o.cast(x, dtype="float32"), dtype="int64"), lambda x, c: o.cast(x, dtype="int64"), "u")
unary("casts", lambda x, c: o.cast(o.cast(x, dtype="bool"), dtype="float32"), "bool does not hold every", "fi")
unary("casts", lambda x, c: o.cast(o.cast(x, dtype="float64"), dtype="int32"), "what int32 does not hold becomes another number", "f")
unary("cast_to_itself", lambda x, c: o.cast(x, dtype=x.dtype), lambda x, c: x, "fib")
unary("cast_to_itself", lambda x, c: o.cast(x, dtype="bool"), "it is another dtype", "fi")

# ---------------------------------------------------------------------------------------------------- layout

T = (2, 3, 4)
each(
    "transposes", lambda x: o.transpose(o.transpose(x, perm=(1, 2, 0)), perm=(0, 2, 1)), lambda x: o.transpose(x, perm=(1, 0, 2)), T,
    kinds="fib",
)  # fmt: skip
each("transpose_to_itself", lambda x: o.transpose(x, perm=(0, 1, 2)), lambda x: x, T)
each("transpose_to_itself", lambda x: o.transpose(x, perm=(0, 2, 1)), "axes move", T)
each("flips", lambda x: o.flip(o.flip(x, axes=(0, 1)), axes=(1, 2)), lambda x: o.flip(x, axes=(0, 2)), T)
each("flip_of_ones", lambda x: o.flip(x, axes=(0, 1)), lambda x: o.flip(x, axes=(1,)), (1, 3))
each("flip_of_ones", lambda x: o.flip(x, axes=(0,)), lambda x: x, (1, 3))
each("flip_of_ones", lambda x: o.flip(x, axes=(1,)), "along each axis there are elements to exchange", (1, None))
each("reshape_to_itself", lambda x: o.reshape(x, shape=(4, 5)), lambda x: x, A)
each("reshape_to_itself", lambda x: o.reshape(x, shape=(-1, 5)), lambda x: x, (None, 5))
each("reshape_to_itself", lambda x: o.reshape(x, shape=(5, 4)), "it is another shape", A)
each("reshapes", lambda x: o.reshape(o.reshape(x, shape=(20,)), shape=(2, 10)), lambda x: o.reshape(x, shape=(2, 10)), A)
each("reshapes", lambda x: o.reshape(o.expand_dims(x, axis=1), shape=(20,)), lambda x: o.reshape(x, shape=(20,)), A)
each("reshapes", lambda x: o.reshape(o.squeeze(x, axis=1), shape=(20,)), lambda x: o.reshape(x, shape=(20,)), (20, 1))
each("reshapes", lambda x: o.reshape(o.squeeze(x, axis=1), shape=(20,)), "whether the axis has size 1 is seen", (20, None))
each("reshapes", lambda x: o.reshape(o.reshape(x, shape=(-1, 5)), shape=(-1, 1)), lambda x: o.reshape(x, shape=(-1, 1)), (None, 10))
each("reshapes", lambda x: o.reshape(o.reshape(x, shape=(20, -1)), shape=(-1, 10)), lambda x: o.reshape(x, shape=(-1, 10)), (None, 10))
each("expanded_reshape", lambda x: o.expand_dims(o.reshape(x, shape=(20,)), axis=0), lambda x: o.reshape(x, shape=(1, 20)), A)
each("squeezed_reshape", lambda x: o.squeeze(o.reshape(x, shape=(1, 20)), axis=0), lambda x: o.reshape(x, shape=(20,)), A)
each("squeezed_reshape", lambda x: o.squeeze(o.reshape(x, shape=(-1, 20)), axis=0), "whether the axis has size 1 is seen", (None, 5))
each("reshaped_once", lambda x: o.expand_dims(o.expand_dims(x, axis=0), axis=2), lambda x: o.reshape(x, shape=(1, 5, 1)), B)
each("reshaped_once", lambda x: o.squeeze(o.expand_dims(x, axis=0), axis=1), lambda x: o.reshape(x, shape=(1, 5)), (1, 5))
each("reshaped_once", lambda x: o.expand_dims(o.expand_dims(x, axis=0), axis=2), "a size is not known", (None,))
each("squeezed_expansion", lambda x: o.squeeze(o.expand_dims(x, axis=1), axis=1), lambda x: x, (None, 5))
each("expanded_squeeze", lambda x: o.expand_dims(o.squeeze(x, axis=0), axis=0), lambda x: x, (1, 5))
each("expanded_squeeze", lambda x: o.expand_dims(o.squeeze(x, axis=0), axis=0), "whether the axis has size 1 is seen", (None, 5))
each("concatenations", lambda x: o.concatenate(x, axis=0), lambda x: x, A)
each(
    "concatenations", lambda x, y: o.concatenate(o.concatenate(x, y, axis=0), x, axis=0), lambda x, y: o.concatenate(x, y, x, axis=0),
    A, (2, 5),
)  # fmt: skip
each("concatenations", lambda x, y: o.concatenate(x, y, axis=0), lambda x, y: x, A, (0, 5))
each("concatenations", lambda x, y: o.concatenate(x, y, axis=0), "there is nothing to join", A, (None, 5))
each("repeated_once", lambda x: o.repeat(x, axis=0, repeats=(1,)), lambda x: x, A)
each("tiled_once", lambda x: o.tile(x, reps=(1, 1)), lambda x: x, A)
each("tiled_once", lambda x: o.tile(x, reps=(1, 2)), "there are more of it", A)
each("padded_by_nothing", lambda x: o.pad(x, padding=((0, 0), (0, 0))), lambda x: x, A)
each("padded_by_nothing", lambda x: o.pad(x, padding=((0, 0), (0, 1))), "there are zeros around it", A)
each(
    "pads", lambda x: o.pad(o.pad(x, padding=((1, 2), (0, 0))), padding=((3, 0), (0, 1))),
    lambda x: o.pad(x, padding=((4, 2), (0, 1))), A,
)  # fmt: skip
each("index_of_all", lambda x: o.index(x, form="ss", numbers=(0, 4, 1, *FULL)), lambda x: x, A)
each("index_of_all", lambda x: o.index(x, form="s", numbers=(0, 3, 1)), "not every element is taken", A)
each("index_of_all", lambda x: o.index(x, form="s", numbers=(0, 3, 1)), "not every element is taken", (None, 5))
each("index_of_all", lambda x: o.index(x, form="i", numbers=(0,)), "an axis comes, or goes", A)


each("indices", lambda x: x[2:8:2][1], lambda x: o.index(x, form="i", numbers=(4,)), (9, 3))
each("indices", lambda x: x[2:8:2][::-1], lambda x: o.index(x, form="s", numbers=(6, 1, -2)), (9, 3))
each("indices", lambda x: x[:3][::-1], lambda x: o.index(x, form="s", numbers=(2, -(2**63), -1)), (9, 3))
each("indices", lambda x: x[1][2], lambda x: o.index(x, form="ii", numbers=(1, 2)), (9, 3))
each("indices", lambda x: x[:, 1][3:5], lambda x: o.index(x, form="si", numbers=(3, 5, 1, 1)), (9, 3))
each("indices", lambda x: x[1][:, 2:], lambda x: o.index(x, form="iss", numbers=(1, *FULL, 2, 2**63 - 1, 1)), (9, None, 7))
each("indices", lambda x: x[2:8][1], "a size is not known", (None, 3))
each("indices", lambda x: x[None][0], "there are new axes", (9, 3))
joined = lambda x, y: o.concatenate(x, y, axis=0)  # noqa: E731
each("index_of_part", lambda x, y: joined(x, y)[1], lambda x, y: x[1], A, (3, 5))
each("index_of_part", lambda x, y: joined(x, y)[4:6], lambda x, y: o.index(y, form="s", numbers=(0, 2, 1)), A, (3, 5))
each("index_of_part", lambda x, y: joined(x, y)[4:], lambda x, y: o.index(y, form="s", numbers=(0, 3, 1)), A, (3, 5))
each("index_of_part", lambda x, y: joined(x, y)[3:5], "it is in several parts", A, (3, 5))
each("index_of_part", lambda x, y: joined(x, y)[5], "the size of a part is not known", (None, 5), (None, 5))


@row("size_of_source", "f")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 5)
    return o.size(o.matmul(o.exp(x), leaf(5, 7)), axes=(0,)), o.size(x, axes=(0,))


@row("size_of_source", "f")
def _(leaf: Leaves) -> Any:
    x = leaf(None, 5)
    return o.size(o.exp(x) * x, axes=(0, 1)), o.size(x, axes=(0, 1))


each("size_of_source", lambda x: o.size(x, axes=(0,)), "the sizes come from nowhere else", (None, 5))

# ---------------------------------------------------------------------------------------------------- reductions

EXTREMES = (o.max, o.min)
for op in (*EXTREMES, o.prod):
    each("over_one", lambda x, op=op: total(x, 1, op=op), lambda x: o.squeeze(x, axis=1), (4, 1), kinds="fi")
    each("over_one", lambda x, op=op: total(x, op=op), lambda x: x, (None, 5), kinds="fi")
    each("over_one", lambda x, op=op: total(x, 0, op=op), "an axis has more than one element", (None, 5), kinds="fi")
for op in (o.any, o.all):
    each("over_one", lambda x, op=op: total(x, 1, op=op, keepdims=True), lambda x: x, (4, 1), kinds="b")
    each("twice", lambda x, op=op: total(total(x, 1, op=op), 0, op=op), lambda x, op=op: total(x, 0, 1, op=op), T, kinds="b")
    each("extreme_of_stretched", lambda x, op=op: total(to(x, 4, 5), 0, 1, op=op), lambda x, op=op: total(x, 0, op=op), B, kinds="b")
    each("all_rearranged", lambda x, op=op: total(o.flip(x, axes=(0,)), 0, 1, op=op), lambda x, op=op: total(x, 0, 1, op=op), A, kinds="b")
each("over_one", lambda x: total(x, 1), lambda x: o.squeeze(x, axis=1), (4, 1), kinds="i")
each("over_one", lambda x: total(x, op=o.prod), "it is of another dtype", A, kinds="b")
each("sum_over_one", lambda x: total(x, 0, op=o.logsumexp), lambda x: o.squeeze(x, axis=0), (1, 5))
each("sum_over_one", lambda x: total(x, 0, 2), lambda x: o.squeeze(o.squeeze(x, axis=2), axis=0), (1, 5, 1))
for op in EXTREMES:
    each("twice", lambda x, op=op: total(total(x, 1, op=op), 1, op=op), lambda x, op=op: total(x, 1, 2, op=op), T, kinds="fi")
    each(
        "twice", lambda x, op=op: total(total(x, 1, op=op, keepdims=True), 0, op=op, keepdims=True),
        lambda x, op=op: total(x, 0, 1, op=op, keepdims=True), T, kinds="fi",
    )  # fmt: skip
    each("extreme_of_stretched", lambda x, op=op: total(to(x, 4, 5), 0, op=op), lambda x: x, B, kinds="fi")
    each("all_rearranged", lambda x, op=op: total(o.reshape(x, shape=(20,)), 0, op=op), lambda x, op=op: total(x, 0, 1, op=op), A, kinds="fi")
for op in (o.sum, o.prod):
    each("twice", lambda x, op=op: total(total(x, 1, op=op), 0, 1, op=op), lambda x, op=op: total(x, 0, 1, 2, op=op), T, kinds="i")
    each("all_rearranged", lambda x, op=op: total(o.transpose(x, perm=(1, 0)), 0, 1, op=op), lambda x, op=op: total(x, 0, 1, op=op), A, kinds="i")
each("twice", lambda x: total(total(x, 1, op=o.max, keepdims=True), 0, op=o.max), "axes of size 1 would have to be added", T)
each("twice", lambda x: total(total(x, 1, op=o.max, keepdims=True), 1, op=o.max), lambda x: total(x, 1, op=o.max), T)
each("sum_of_sum", lambda x: total(total(x, 1), 0), lambda x: total(x, 0, 1), T, sums=True)
each("sum_rearranged", lambda x: total(o.reshape(x, shape=(-1,)), 0), lambda x: total(x, 0, 1), (None, 5), sums=True)
each("sum_rearranged", lambda x: total(o.expand_dims(x, axis=0), 0, 1, 2), lambda x: total(x, 0, 1), (None, 5), sums=True)
each("sum_rearranged", lambda x: total(o.reshape(x, shape=(5, 4)), 0), "it is not over all axes", A)
each("all_rearranged", lambda x: total(o.squeeze(x, axis=0), 0, op=o.max), "whether the axis has size 1 is seen", (None, 5))
each("extreme_of_stretched", lambda x, y: total(o.broadcast_like(x, y), 0, op=o.max), "it may have no elements", B, (None, 5))
each("sum_of_stretched", lambda x: total(to(x, 4, 5), 0), lambda x: x_times(x, 4), B)
each("sum_of_stretched", lambda x: total(to(x, 4, 5), 0, 1), lambda x: x_times(total(x, 0), 4), B, sums=True)
each("sum_of_stretched", lambda x: total(to(x, 4, 5), 1, keepdims=True), lambda x: x_times(total(x, 1, keepdims=True), 5), (4, 1))
each("sum_of_stretched", lambda x, y: total(o.broadcast_like(x, y), 0), "no axis that is stretched is reduced, or it may have no", B, (None, 5))
each("sum_of_stretched_integers", lambda x: total(to(x, 4, 5), 0, 1), lambda x: x_times(total(x, 0), 4), B, kinds="i")
each("sum_of_negative", lambda x: total(-x, 0), lambda x: -total(x, 0), A, sums=True)
each("sum_of_negative_integers", lambda x: total(-x, 0), lambda x: -total(x, 0), A, kinds="i")
each("sum_of_multiple", lambda x: total(x_times(x, 3), 0), lambda x: x_times(total(x, 0), 3), A, sums=True)
each("sum_of_multiple", lambda x: total(x / o.scalar(0.75, x.dtype), 0), lambda x: total(x, 0) / o.scalar(0.75, x.dtype), A, sums=True)
each("sum_of_multiple", lambda x: total(x / o.scalar(3, x.dtype), 0), "in float16 the sum of what is not scaled down soon", A, kinds="h")
each("sum_of_multiple", lambda x: total(x_times(x, 0), 0), "it is no finite number but 0", A)
each("sum_of_multiple_of_integers", lambda x: total(x_times(x, 3), 0), lambda x: x_times(total(x, 0), 3), A, kinds="i")


def x_times(x: Node, n: float) -> Node:
    return o.multiply(x, o.scalar(n, x.dtype))

# ---------------------------------------------------------------------------------------------------- axes in another order

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels go there
IMAGES, OTHERS = (2, 4, 5, 3), (None, 4, 5, 3)


def turned(x: Node, *perm: int) -> Node:
    return o.transpose(x, perm=perm or FIRST)


each("transposed_later", lambda x: o.relu(turned(x)), lambda x: turned(o.relu(x)), OTHERS)
each("transposed_later", lambda x: o.cast(turned(x), dtype="bool"), lambda x: turned(o.cast(x, dtype="bool")), IMAGES, kinds="fib")
each("transposed_later", lambda x, y: turned(x) + turned(y), lambda x, y: turned(x + y), IMAGES, IMAGES, kinds="fi")
each("transposed_later", lambda x, y: turned(x) - turned(y), lambda x, y: turned(x - y), OTHERS, OTHERS)
each("transposed_later", lambda x, y: turned(x) * y, lambda x, y: turned(x * o.reshape(y, shape=(3,))), OTHERS, (3, 1, 1), kinds="fi")
each("transposed_later", lambda x, y: y / turned(x), lambda x, y: turned(o.reshape(y, shape=(3,)) / x), IMAGES, (1, 3, 1, 1))
each("transposed_later", lambda x, y: turned(x) - y, lambda x, y: turned(x - o.reshape(y, shape=(4, 1, 1))), IMAGES, (4, 1))
each("transposed_later", lambda x, y: turned(x) - y, lambda x, y: turned(x - o.reshape(y, shape=(5, 1))), IMAGES, (5,))
each("transposed_later", lambda x, y: turned(x) - y, lambda x, y: turned(x - y), IMAGES, (2, 1, 1, 1))
each("transposed_later", lambda x, y: o.greater(turned(x), y), lambda x, y: turned(o.greater(x, y)), IMAGES, (1, 1), kinds="fi")
each(
    "transposed_later", lambda x, y: o.where(o.greater(turned(x), y), turned(x), y),
    lambda x, y: turned(o.where(o.greater(x, y), x, y)), IMAGES, (),
)  # fmt: skip
each("transposed_later", lambda x, y: turned(x) + turned(y, *LAST), "in another order", (2, 3, 3, 3), (2, 3, 3, 3))
each("transposed_later", lambda x, y: turned(x) + y, "in another order", IMAGES, (2, 3, 4, 5))
each("transposed_later", lambda x, y: turned(x) + y, lambda x, y: turned(x + turned(y, *LAST)), OTHERS, (None, 1, 1, 1))
each(
    "transposed_later", lambda x, y: turned(x) + y, lambda x, y: turned(x + turned(o.expand_dims(y, axis=0), *LAST)), OTHERS, (3, 4, 1),
)  # fmt: skip
each("transposed_later", lambda x, y: turned(x, 1, 0) + y, "in another order", (4, 5), (2, 5, 4))
each("reduced_before", lambda x: total(turned(x), 1, op=o.max), lambda x: total(x, 3, op=o.max), IMAGES)
each("reduced_before", lambda x: total(turned(x), 0, 2, op=o.min), lambda x: turned(total(x, 0, 1, op=o.min), 1, 0), OTHERS)
each("reduced_before", lambda x: total(turned(x), 2, op=o.any, keepdims=True), lambda x: turned(total(x, 1, op=o.any, keepdims=True)), IMAGES, kinds="b")
each("reduced_before", lambda x: total(turned(x), 0, 2, 3), lambda x: total(x, 0, 1, 2), IMAGES, kinds="i")
each("sum_before", lambda x: total(turned(x), 0, 2, 3), lambda x: total(x, 0, 1, 2), OTHERS, sums=True)
each("sum_before", lambda x: total(turned(x), 2, 3), lambda x: total(x, 1, 2), IMAGES, sums=True)
each("sum_before", lambda x: total(turned(x), 1, keepdims=True), lambda x: turned(total(x, 3, keepdims=True)), IMAGES, sums=True)
each(
    "joined_before", lambda x, y: o.concatenate(turned(x), turned(y), axis=1),
    lambda x, y: turned(o.concatenate(x, y, axis=3)), IMAGES, (2, 4, 5, 2), kinds="fib",
)  # fmt: skip
each("joined_before", lambda x, y: o.concatenate(turned(x), y, axis=1), "in one other order", IMAGES, (2, 3, 4, 5))
PADDING = ((0, 0), (1, 2), (0, 3), (4, 0))
each("padded_before", lambda x: o.pad(turned(x), padding=PADDING), lambda x: turned(o.pad(x, padding=((0, 0), (0, 3), (4, 0), (1, 2)))), IMAGES, kinds="fi")
each(
    "taken_before", lambda x: o.index(turned(x), form="ssss", numbers=(*FULL, 1, 3, 1, 0, 4, 2, -1, -9, -2)),
    lambda x: turned(o.index(x, form="ssss", numbers=(*FULL, 0, 4, 2, -1, -9, -2, 1, 3, 1))), OTHERS, kinds="fib",
)  # fmt: skip
each(
    "taken_before", lambda x: o.index(turned(x), form="ss", numbers=(*FULL, 1, 3, 1)),
    lambda x: turned(o.index(x, form="ssss", numbers=(*FULL * 3, 1, 3, 1))), IMAGES,
)  # fmt: skip
each("taken_before", lambda x: o.index(turned(x), form="i", numbers=(1,)), "an axis comes or goes", IMAGES)
each(
    "put_before", lambda x, y: o.scatter_index(turned(x), turned(y), form="ss", numbers=(*FULL, 1, 3, 1)),
    lambda x, y: turned(o.scatter_index(x, y, form="ssss", numbers=(*FULL * 3, 1, 3, 1))), (2, 4, 5, 2), IMAGES, kinds="fi",
)  # fmt: skip
each(
    "put_before", lambda x, y: o.scatter_index(turned(x), turned(y), form="in", numbers=(1,)), "an axis comes or goes",
    (1, 4, 5, 3), IMAGES,
)  # fmt: skip
each("size_before", lambda x: o.size(turned(x), axes=(0, 2)), lambda x: o.size(x, axes=(0, 1)), (None, None, 5, 3), kinds="fib")

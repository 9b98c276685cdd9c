"""The rules of the Theano engine: op -> function of Theano variables. Every result has the dtype and the pattern of its node.

A variable's ``tag.shape`` is the static shape of its node, which Theano does not keep. ``by_numpy`` marks the ops that a
`NumpyOp` computes, because Theano has none, or one that is wrong or slower.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import theano.tensor as T
from theano.compile.ops import Shape_i
from theano.scalar import basic as scalar
from theano.tensor.elemwise import CAReduce
from theano.tensor.opt import MakeVector

import kgraph.ir.ops as o
from kgraph.ir.ops.index import HIGHEST, LOWEST
from kgraph.ir.types import Shape
from kgraph.lower.theano import blas, host, windows

Rule = Callable[..., Any]

blas.allow_empty()

# ---------------------------------------------------------------------------------------------------- shapes


def shape_of(x: Any) -> Shape:
    """The static shape of a value."""
    return x.tag.shape


def sizes_of(x: Any) -> list[Any]:
    """Each size: an int where it is known, else an integer scalar."""
    return [Shape_i(axis)(x) if size is None else size for axis, size in enumerate(shape_of(x))]


def filled(entries: Sequence[int | None], sizes: Sequence[Any]) -> list[Any]:
    """A ``sized`` attr with its None entries filled, as int64."""
    rest = iter(sizes)
    return [T.cast(next(rest), "int64") if entry is None else entry for entry in entries]


def as_scalar(size: Any, dtype: str) -> Any:
    """A size as a Theano variable. Theano's own way with an int tries int8 first, and NumPy warns of that."""
    return T.constant(np.array(size, dtype)) if isinstance(size, int) else T.cast(size, dtype)


def as_vector(sizes: Sequence[Any], dtype: str = "int64") -> Any:
    if all(isinstance(size, int) for size in sizes):
        return T.constant(np.array(sizes, dtype))
    return MakeVector(dtype)(*[as_scalar(size, dtype) for size in sizes])


def constant(array: Any) -> Any:
    """A constant whose axes of size 1 broadcast."""
    array = np.asarray(array)
    return T.TensorConstant(T.TensorType(array.dtype.name, [size == 1 for size in array.shape]), array)


def _keep(x: Any, axes: Sequence[int]) -> Any:
    """x with axes of size 1 put in."""
    order: list[Any] = []
    rest = iter(range(x.ndim))
    for axis in range(x.ndim + len(axes)):
        order.append("x" if axis in axes else next(rest))
    return x.dimshuffle(*order)


def _squeeze(x: Any, *, axis: int) -> Any:
    x = host.of_size_one(x, axis)
    return x.dimshuffle(*[a for a in range(x.ndim) if a != axis])


def _reshape(x: Any, *sizes: Any, shape: Any) -> Any:
    return T.reshape(x, as_vector(filled(shape, sizes)), ndim=len(shape))


def _stretch(x: Any, sizes: Sequence[Any]) -> Any:
    if not sizes:
        return x
    return T.alloc(x, *[as_scalar(size, "int64") for size in sizes])


# ---------------------------------------------------------------------------------------------------- element by element


def elementwise(op: Any) -> Rule:
    """The rule of an op that stretches its operands itself: what was only stretched for it is taken as it was before."""

    def rule(*values: Any) -> Any:
        rank = builtins.max(v.ndim for v in values)
        return op(*[_unstretched(v, values, rank) for v in values])

    return rule


def _unstretched(x: Any, values: Sequence[Any], rank: int) -> Any:
    """An operand without a copy in the size of the result, where another operand has that size."""
    if getattr(x.tag, "stretches", None) is not None and builtins.any(_is_full(v, values, rank) for v in values if v is not x):
        x = x.tag.stretches
    if isinstance(x, T.TensorConstant) and x.ndim < rank:
        # A constant of the full rank can become a part of the C code; one behind a DimShuffle cannot.
        return constant(x.data.reshape((1,) * (rank - x.ndim) + x.data.shape))
    return x


def _is_full(x: Any, values: Sequence[Any], rank: int) -> bool:
    """Whether x is of the result's shape, and no stretched value itself."""
    if x.ndim < rank or getattr(x.tag, "stretches", None) is not None:
        return False
    return not builtins.any(
        own and not other for v in values for own, other in zip(x.broadcastable[rank - v.ndim :], v.broadcastable, strict=True)
    )


def _stretched(x: Any, sizes: Sequence[Any]) -> Any:
    made = _stretch(x, sizes)
    if made is not x:
        made.tag.stretches = x
    return made


def _broadcast_to(x: Any, *sizes: Any, shape: Any) -> Any:
    # Theano would take a negative size for a large one, and fail for want of memory.
    return _stretched(x, [size if isinstance(size, int) else host.counted(size) for size in filled(shape, sizes)])


def _choose(of_numbers: Any, of_bools: Any) -> Rule:
    return elementwise(lambda x, y: of_bools(x, y) if x.dtype == "bool" else of_numbers(x, y))


def _relu(x: Any) -> Any:
    return T.maximum(x, constant(np.zeros((1,) * x.ndim, x.dtype)))


# ---------------------------------------------------------------------------------------------------- reductions


def _sum(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    if not axis:
        return T.cast(x, "int64") if x.dtype == "bool" else x
    return T.sum(x, axis=list(axis), dtype="int64" if x.dtype == "bool" else x.dtype, keepdims=keepdims)


def _prod(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    if not axis:
        return T.cast(x, "int64") if x.dtype == "bool" else x
    return T.prod(x, axis=list(axis), dtype="int64" if x.dtype == "bool" else x.dtype, keepdims=keepdims)


def _reduction(op: Any, of_bools: Any) -> Rule:
    def rule(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        if not axis:
            return x
        out = CAReduce(of_bools if x.dtype == "bool" else op, list(axis))(x)
        return _keep(out, axis) if keepdims else out

    return rule


# ---------------------------------------------------------------------------------------------------- indexing


def _key(form: str, numbers: Sequence[Any]) -> tuple[Any, ...]:
    """The entries for the axes that x has; new axes are put in afterwards."""
    rest = iter(numbers)
    key: list[Any] = []
    for letter in form:
        if letter == "i":
            key.append(next(rest))
        elif letter == "s":
            start, stop, step = next(rest), next(rest), next(rest)
            absent = (0, HIGHEST) if step > 0 else (HIGHEST, LOWEST)
            start, stop = [None if isinstance(b, int) and b == a else b for b, a in zip((start, stop), absent, strict=True)]
            key.append(slice(start, stop, step))
    return tuple(key)


def _new_axes(form: str) -> list[int]:
    """Where the result has new axes."""
    return [axis for axis, letter in enumerate(form.replace("i", "")) if letter == "n"]


def _region(x: Any, key: tuple[Any, ...]) -> Any:
    """x[key], or x. Theano 1.1.2 takes a part of an axis of size 1 for one of size 1, which may be empty."""
    cut = [axis for axis, entry in enumerate(key) if x.broadcastable[axis] and entry not in (slice(None), slice(None, None, 1))]
    cut = [axis for axis in cut if isinstance(key[axis], slice)]
    if cut:
        x = host.broadcasting(x, [own and axis not in cut for axis, own in enumerate(x.broadcastable)])
    return x[key] if key else x


def _index(x: Any, *sizes: Any, form: str, numbers: Any) -> Any:
    out = _region(x, _key(form, filled(numbers, sizes)))
    new = _new_axes(form)
    return _keep(out, new) if new else out


def _scatter_index(g: Any, like: Any, *sizes: Any, form: str, numbers: Any) -> Any:
    new = _new_axes(form)
    if new:
        g = host.of_size_one(g, *new)
        g = g.dimshuffle(*[axis for axis in range(g.ndim) if axis not in new])
    key = _key(form, filled(numbers, sizes))
    if not key:
        return g
    region = _region(_zeros_like(like, g.dtype), key)
    return T.set_subtensor(region, host.broadcasting(g, region.broadcastable))


def _pad(x: Any, *, padding: Any) -> Any:
    sizes = [n + before + behind for n, (before, behind) in zip(sizes_of(x), padding, strict=True)]
    key = tuple([slice(before, -behind or None) for before, behind in padding])
    region = _region(_stretch(constant(np.zeros((), x.dtype)), sizes), key)
    return T.set_subtensor(region, host.broadcasting(x, region.broadcastable)) if key else x


def _zeros_like(like: Any, dtype: str) -> Any:
    return _stretch(constant(np.zeros((), dtype)), sizes_of(like))


def _gather(x: Any, indices: Any) -> Any:
    rows = T.advanced_subtensor1(x, indices if indices.ndim == 1 else indices.flatten())
    if indices.ndim == 1:
        return rows
    return T.reshape(rows, as_vector([*sizes_of(indices), *sizes_of(x)[1:]]), ndim=indices.ndim + x.ndim - 1)


def _scatter_add(g: Any, indices: Any, like: Any) -> Any:
    if indices.ndim != 1:
        indices = indices.flatten()
        g = T.reshape(g, as_vector([indices.shape[0], *sizes_of(like)[1:]]), ndim=like.ndim)  # -1 is no size where others are 0
    return T.inc_subtensor(T.advanced_subtensor1(_zeros_like(like, g.dtype), indices), g)


def _softmax(op: Any, plain: Callable[[Any, int], Any]) -> Rule:
    def rule(x: Any, *, axis: int) -> Any:
        return op(x) if x.ndim == 2 and axis == 1 and not builtins.any(x.broadcastable) else plain(x, axis)

    return rule


def _below_top(x: Any, axis: int) -> Any:
    return x - _keep(CAReduce(host.top, [axis])(x), [axis])


def _plain_softmax(x: Any, axis: int) -> Any:
    e = T.exp(_below_top(x, axis))
    return e / T.sum(e, axis=axis, keepdims=True, dtype=x.dtype)


def _plain_log_softmax(x: Any, axis: int) -> Any:
    s = _below_top(x, axis)
    return s - T.log(T.sum(T.exp(s), axis=axis, keepdims=True, dtype=x.dtype))


def _size(x: Any, *, axes: tuple[int, ...]) -> Any:
    sizes = [sizes_of(x)[axis] for axis in axes]
    known = int(np.prod([size for size in sizes if isinstance(size, int)], dtype=np.int64))
    out = constant(np.array(known, "int64"))
    for size in sizes:
        if not isinstance(size, int):
            out = size if out.owner is None and known == 1 else out * size
    return T.cast(out, "int32")


def by_numpy(*values: Any, **attrs: Any) -> Any:
    """The rule of an op that NumPy computes: `NumpyOp` needs the node, so the builder makes it."""
    raise NotImplementedError


RULES: dict[Any, Rule] = {
    # Element by element. Theano's floor division and remainder raise for an integer 0; its round is not vectorised.
    o.add: elementwise(T.add),
    o.subtract: elementwise(T.sub),
    o.multiply: elementwise(T.mul),
    o.divide: elementwise(T.true_div),
    o.floor_divide: elementwise(host.floor_divide),
    o.remainder: elementwise(host.remainder),
    o.power: elementwise(T.pow),
    o.maximum: _choose(T.maximum, T.or_),
    o.minimum: _choose(T.minimum, T.and_),
    o.negative: T.neg,
    o.absolute: lambda x: x if x.dtype.startswith("u") else T.abs_(x),
    o.sign: T.sgn,
    o.square: T.sqr,
    o.round: host.rint,
    o.floor: T.floor,
    o.exp: T.exp,
    o.expm1: T.expm1,
    o.log: T.log,
    o.log1p: T.log1p,
    o.sqrt: T.sqrt,
    o.sin: T.sin,
    o.cos: T.cos,
    o.tanh: T.tanh,
    o.sigmoid: T.nnet.sigmoid,
    o.softplus: T.nnet.softplus,
    o.relu: _relu,
    o.equal: elementwise(T.eq),
    o.not_equal: elementwise(T.neq),
    o.less: elementwise(T.lt),
    o.less_equal: elementwise(T.le),
    o.greater: elementwise(T.gt),
    o.greater_equal: elementwise(T.ge),
    o.logical_and: elementwise(T.and_),
    o.logical_or: elementwise(T.or_),
    o.logical_not: T.invert,
    o.where: elementwise(T.switch),
    o.cast: lambda x, *, dtype: T.cast(x, dtype),
    o.identity: lambda x, *, uid: x,
    o.stop_gradient: lambda x: x,
    # Reductions.
    o.sum: _sum,
    o.prod: _prod,
    o.max: _reduction(scalar.scalar_maximum, scalar.or_),
    o.min: _reduction(scalar.scalar_minimum, host.every),
    o.any: _reduction(scalar.or_, scalar.or_),
    o.all: _reduction(host.every, host.every),
    o.argmax: lambda x, *, axis: T.basic.Argmax((axis,))(x),
    o.argmin: by_numpy,  # Theano takes argmax(-x), which wraps around for integers
    o.cumsum: by_numpy,  # and by Theano too, in int64 if that is the wider dtype, and with warnings
    o.cumprod: by_numpy,
    o.linear_recurrence: by_numpy,
    # Layout.
    o.reshape: _reshape,
    o.transpose: lambda x, *, perm: x.dimshuffle(*perm),
    o.expand_dims: lambda x, *, axis: _keep(x, [axis]),
    o.squeeze: _squeeze,
    o.flip: lambda x, *, axes: x[tuple([slice(None, None, -1) if axis in axes else slice(None) for axis in range(x.ndim)])],
    o.broadcast_to: _broadcast_to,
    o.broadcast_like: lambda x, like: _stretched(x, sizes_of(like)),
    o.concatenate: lambda *xs, axis: T.join(axis, *xs),
    o.pad: _pad,
    o.shape: lambda x: as_vector(sizes_of(x), "int32"),
    o.size: _size,
    o.arange: by_numpy,  # and by Theano too
    # Indexing.
    o.index: _index,
    o.scatter_index: _scatter_index,
    o.gather: _gather,
    o.scatter_add: _scatter_add,
    o.pick: by_numpy,
    o.unpick: by_numpy,
    o.in_top_k: by_numpy,
    # Linear algebra, neural networks. The cross-entropies are expanded: what they are made of is fused.
    o.matmul: by_numpy,  # of matrices a Dot, see `build`
    o.softmax: _softmax(host.softmax, _plain_softmax),
    o.log_softmax: _softmax(host.log_softmax, _plain_log_softmax),
    # Convolution; pooling as it is meant, with NaN and the first of equal maxima, is not Theano's.
    o.conv: windows.conv,
    o.conv_input_grad: windows.conv_input_grad,
    o.conv_kernel_grad: windows.conv_kernel_grad,
    o.max_pool: by_numpy,
    o.max_pool_grad: by_numpy,
    o.max_pool_pick: by_numpy,
    o.avg_pool: by_numpy,
    o.avg_pool_grad: by_numpy,
    o.ctc_loss: by_numpy,
    o.ctc_posterior: by_numpy,
    o.ctc_tangent: by_numpy,
    o.ctc_beam_search: by_numpy,
    # Random draws, effects; branches are built by `build`.
    o.random_uniform: by_numpy,
    o.random_normal: by_numpy,
    o.fold_in: by_numpy,
    o.print_: by_numpy,
    o.constant: lambda *, value: constant(value.array),
    o.absent: lambda *, type: constant(np.zeros([size or 0 for size in type.shape], type.dtype)),
    o.switch: by_numpy,
    o.cond: by_numpy,
    o.scan: by_numpy,
    o.item: by_numpy,
}

"""The rules of TensorFlow: op -> function of symbolic tensors.

Where TensorFlow has no kernel for a dtype, or its kernel means something else than the op, the rule says so. What is said
holds of TensorFlow 2.21 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import kgraph.ir.ops as o
from kgraph.ir.op import Op
from kgraph.ir.ops.index import HIGHEST, LOWEST
from kgraph.lower.tensorflow import conv, ctc, extremes, pool
from kgraph.lower.tensorflow.checks import require

Entries = tuple[int | None, ...]
Rule = Callable[..., Any]

raw = tf.raw_ops

# ---------------------------------------------------------------------------------------------------- dtypes


def _through(rule: Rule, **wider: str) -> Rule:
    """A rule for dtypes that TensorFlow has no kernel for: computed in a wider one. Integers that overflow wrap as NumPy's."""

    def computed(x: Any, *others: Any, **attrs: Any) -> Any:
        dtype = x.dtype
        wide = wider.get(dtype.name)
        if wide is None:
            return rule(x, *others, **attrs)
        widened = [tf.cast(y, wide) if y.dtype is dtype else y for y in (x, *others)]
        found = rule(*widened, **attrs)
        return tf.cast(found, dtype) if found.dtype.name == wide else found

    return computed


_SMALL = {"uint8": "int32", "int8": "int32", "int16": "int32"}
_HALF = {"float16": "float32"}
_BOOL = {"bool": "uint8"}


def _power(x: Any, y: Any) -> Any:
    """TensorFlow's kernel takes fifty times as long for a square; the rewrites of it that know so are off (`session.py`)."""
    return tf.square(x) if y.shape.rank == 0 and tf.get_static_value(y) == 2 else tf.pow(x, y)


def _total(rule: Rule) -> Rule:
    """Sums and products of bools are int64."""
    return lambda x, **attrs: rule(tf.cast(x, tf.int64) if x.dtype == tf.bool else x, **attrs)


# ---------------------------------------------------------------------------------------------------- arithmetic


def _floor_divide(x: Any, y: Any) -> Any:
    if x.dtype.is_integer:
        # TensorFlow raises for a 0 anywhere in y; NumPy gives 0 there.
        zero = tf.equal(y, tf.zeros((), y.dtype))
        return tf.where(zero, tf.zeros((), x.dtype), raw.FloorDiv(x=x, y=tf.where(zero, tf.ones((), y.dtype), y)))
    # TensorFlow rounds x / y down, so that 1.0 // 0.1 is 10; it is 9, as 0.1 is a little more than a tenth. NumPy's way:
    rest = raw.TruncateMod(x=x, y=y)
    ratio = x / y
    whole = (x - rest) / y
    apart = tf.logical_and(tf.not_equal(rest, 0), tf.not_equal(rest < 0, y < 0))
    whole = tf.where(apart, whole - 1, whole)
    near = tf.floor(whole)
    near = tf.where(whole - near > 0.5, near + 1, near)
    return tf.where(tf.equal(y, 0), ratio, tf.where(tf.equal(whole, 0), ratio * 0, near))


def _remainder(x: Any, y: Any) -> Any:
    if x.dtype.is_integer:
        zero = tf.equal(y, tf.zeros((), y.dtype))
        return tf.where(zero, tf.zeros((), x.dtype), raw.FloorMod(x=x, y=tf.where(zero, tf.ones((), y.dtype), y)))
    rest = raw.FloorMod(x=x, y=y)
    return tf.where(tf.equal(rest, 0), tf.sign(y) * 0, rest)  # a zero too has the sign of y


def _absolute(x: Any) -> Any:
    return tf.identity(x) if x.dtype.is_unsigned else tf.abs(x)  # there is no kernel for what is its own absolute value


def _sign(x: Any) -> Any:
    if x.dtype.is_unsigned:
        return tf.minimum(x, tf.ones((), x.dtype))
    # The sign of NaN is NaN; TensorFlow's kernel gives 0.
    return tf.where(tf.math.is_nan(x), x, tf.sign(x)) if x.dtype.is_floating else tf.sign(x)


def _cast(x: Any, *, dtype: str) -> Any:
    return tf.cast(x, dtype)


# ---------------------------------------------------------------------------------------------------- sizes


def _filled(entries: Entries, sizes: Sequence[Any], dtype: Any = tf.int32) -> Any:
    """A ``sized`` attr as a vector: constant where every entry is known."""
    if not sizes:
        wide = tf.int64 if any(abs(entry or 0) >= 2**31 for entry in entries) else dtype
        return tf.constant(list(entries), wide, [len(entries)])
    rest = iter(sizes)
    return tf.stack([tf.cast(next(rest), tf.int64) if entry is None else tf.constant(entry, tf.int64) for entry in entries])


def _size(x: Any, *, axes: tuple[int, ...]) -> Any:
    known = [x.shape[axis] for axis in axes]
    if None not in known:
        return tf.constant(np.prod(known, dtype="int64"), tf.int32)
    sizes = tf.shape(x)
    return tf.reduce_prod(tf.gather(sizes, list(axes))) if len(axes) > 1 else sizes[axes[0]]


def _arange(*sizes: Any, bounds: Entries, dtype: str) -> Any:
    if not sizes:
        known = range(*bounds)  # type: ignore[arg-type]
        return tf.cast(tf.range(known.start, known.start + len(known) * known.step, known.step, tf.int64), dtype)
    start, stop, step = tf.unstack(_filled(bounds, sizes), num=3)
    stop = tf.where(step > 0, tf.maximum(start, stop), tf.minimum(start, stop))  # the wrong way there is an error
    return tf.cast(tf.range(start, stop, step), dtype)


def _tile(x: Any, *sizes: Any, reps: Entries) -> Any:
    return tf.tile(x, _filled(reps, sizes))


def _flip(x: Any, *, axes: tuple[int, ...]) -> Any:
    return tf.reverse(x, list(axes))


# ---------------------------------------------------------------------------------------------------- reductions


def _over(rule: Rule) -> Rule:
    """A reduction. Without a dtype, no axes at all are a list of floats."""
    return lambda x, *, axis, keepdims: rule(x, np.array(axis, np.int32), keepdims)


def _running(rule: Rule) -> Rule:
    return lambda x, *, axis: rule(x, axis=axis)


def _linear_recurrence(a: Any, b: Any, *, axis: int) -> Any:
    """Row after row: products of several a, which a parallel form takes first, may overflow where no y does."""
    perm = [axis, *[i for i in range(len(a.shape)) if i != axis]]
    back = [perm.index(i) for i in range(len(perm))]
    a, b = tf.transpose(a, perm), tf.transpose(b, perm)
    zero = tf.zeros_like(tf.reduce_sum(b[:1], 0, keepdims=True))  # a first row: scan takes no arrays without rows
    rows = tf.concat([zero, tf.zeros_like(a[:1]), a[1:]], 0), tf.concat([zero, b], 0)
    return tf.transpose(tf.scan(lambda y, row: row[0] * y + row[1], rows, zero[0])[1:], back)


# ---------------------------------------------------------------------------------------------------- positions


def _strides(form: str, numbers: Entries, sizes: Sequence[Any]) -> dict[str, Any]:
    """An index as the arguments of TensorFlow's strided slice."""
    rest, given = iter(numbers), iter(sizes)
    begin: list[Any] = []
    end: list[Any] = []
    steps: list[Any] = []
    masks = {"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 0}

    def number() -> Any:
        entry = next(rest)
        return tf.cast(next(given), tf.int64) if entry is None else entry

    for place, letter in enumerate(form):
        bit = 1 << place
        if letter == "n":
            masks["new_axis_mask"] |= bit
            row: tuple[Any, Any, Any] = (0, 1, 1)
        elif letter == "i":
            masks["shrink_axis_mask"] |= bit
            at = number()
            row = (at, at + 1, 1)
        else:
            start, stop, step = number(), number(), number()
            # An absent bound is the largest int64, which a sum within the kernel would carry over.
            if isinstance(start, int) and start in (LOWEST, HIGHEST) and (start == HIGHEST) == (step < 0):
                masks["begin_mask"] |= bit
                start = 0
            if isinstance(stop, int) and stop in (LOWEST, HIGHEST) and (stop == HIGHEST) == (step > 0):
                masks["end_mask"] |= bit
                stop = 0
            row = (start, stop, max(-(2**62), min(step, 2**62)))
        for column, value in zip((begin, end, steps), row, strict=True):
            column.append(value)
    packed = [
        tf.stack([tf.cast(v, tf.int64) for v in column])
        if any(tf.is_tensor(v) for v in column)
        else tf.constant(column, tf.int64)
        for column in (begin, end, steps)
    ]
    return {"begin": packed[0], "end": packed[1], "strides": packed[2], **masks}


def _in_range(x: Any, numbers: Entries, sizes: Sequence[Any], form: str) -> Any:
    """x, once its single indices are known to be in range."""
    rest, given = iter(numbers), iter(sizes)
    axis = 0
    whole = x
    for letter in form:
        if letter == "n":
            continue
        entries = [next(rest) for _ in range(1 if letter == "i" else 3)]
        values = [next(given) if entry is None else entry for entry in entries]
        if letter == "i" and (entries[0] is None or whole.shape[axis] is None):
            at, count = values[0], _length(whole, axis)
            if not isinstance(at, int):
                x = _checked(x, tf.cast(at, tf.int64), count, axis)
            else:
                x = require(x, count > at if at >= 0 else count >= -at, "index", axis, at, at, count)
        axis += 1
    return x


def _checked(x: Any, positions: Any, count: Any, axis: int) -> Any:
    """x, once positions (int64) are known to be within -count and count - 1."""
    lowest = highest = positions
    if positions.shape.rank:
        lowest, highest = tf.reduce_min(positions), tf.reduce_max(positions)
    return require(x, tf.logical_and(lowest >= -count, highest < count), "index", axis, lowest, highest, count)


def _index(x: Any, *sizes: Any, form: str, numbers: Entries) -> Any:
    return raw.StridedSlice(input=_in_range(x, numbers, sizes, form), **_strides(form, numbers, sizes))


def _scatter_index(g: Any, like: Any, *sizes: Any, form: str, numbers: Entries) -> Any:
    shape = tf.shape(_in_range(like, numbers, sizes, form), out_type=tf.int64)
    return raw.StridedSliceGrad(shape=shape, dy=g, **_strides(form, numbers, sizes))


def _positions(indices: Any, count: Any, axis: int) -> Any:
    """Indices as int64 from 0; a kernel may pass over one that is out of range (on a GPU, within XLA), so they are checked."""
    wide = tf.cast(indices, tf.int64)
    wide = _checked(wide, wide, count, axis)
    return wide if indices.dtype.is_unsigned else tf.where(wide < 0, wide + count, wide)


def _length(x: Any, axis: int) -> Any:
    known = x.shape[axis]
    return tf.constant(known, tf.int64) if known is not None else tf.unstack(tf.shape(x, tf.int64), len(x.shape))[axis]


def _gather(x: Any, indices: Any) -> Any:
    return tf.gather(x, _positions(indices, _length(x, 0), 0))


def _scatter_add(g: Any, indices: Any, like: Any) -> Any:
    count = _length(like, 0)
    places = _positions(indices, count, 0)
    if not places.shape.rank:
        places, g = tf.expand_dims(places, 0), tf.expand_dims(g, 0)
    # scatter_nd refuses rows of no elements.
    return tf.math.unsorted_segment_sum(g, places, count)


def _flat(indices: Any, like: Any) -> tuple[Any, Any]:
    """Indices along the last axis of like, as places (a vector) among all of its elements, and how many those are."""
    width = _length(like, -1)
    places = tf.reshape(_positions(indices, width, len(like.shape) - 1), [-1])
    count = tf.size(places, out_type=tf.int64)
    return tf.range(count) * width + places, count * width


def _pick(x: Any, indices: Any) -> Any:
    places, count = _flat(indices, x)
    return tf.reshape(tf.gather(tf.reshape(x, tf.expand_dims(count, 0)), places), tf.shape(indices))


def _unpick(g: Any, indices: Any, like: Any) -> Any:
    places, count = _flat(indices, like)
    return tf.reshape(tf.math.unsorted_segment_sum(tf.reshape(g, [-1]), places, count), tf.shape(like))


def _one_hot(indices: Any, *, depth: int, dtype: str) -> Any:
    wide = tf.cast(indices, tf.int64)
    if dtype == "bool":
        return tf.one_hot(wide, depth, True, False, dtype=tf.bool)
    return tf.one_hot(wide, depth, dtype=dtype)


# ---------------------------------------------------------------------------------------------------- linear algebra, neural


def _matmul(x: Any, y: Any) -> Any:
    x, x_turned = _turned(x)
    y, y_turned = _turned(y)
    # Of integers there is no kernel for matrices, only the one for stacks of them.
    if x.dtype.is_integer or len(x.shape) > 2:
        return raw.BatchMatMulV2(x=x, y=y, adj_x=x_turned, adj_y=y_turned)
    return raw.MatMul(a=x, b=y, transpose_a=x_turned, transpose_b=y_turned)


def _turned(x: Any) -> tuple[Any, bool]:
    """What x is the transpose of, which products take without a copy, and whether x is one."""
    if x.op.type == "Transpose":
        perm = tf.get_static_value(x.op.inputs[1])
        last = len(x.shape) - 1
        if perm is not None and perm.tolist() == [*range(last - 1), last, last - 1]:
            return x.op.inputs[0], True
    return x, False


def _softmax(x: Any, *, axis: int) -> Any:
    found = tf.nn.softmax(x, axis)
    if x.dtype == tf.float64:
        return found
    # In a row with a NaN or an infinity the kernel of oneDNN, which TensorFlow takes for float32, gives 0 beside NaN.
    total = tf.reduce_sum(found, axis, keepdims=True)
    return tf.where(tf.math.is_nan(total), total, found)


def _softmax_crossentropy(x: Any, target: Any, epsilon: Any) -> Any:
    s = _held(x, epsilon)
    return -tf.reduce_sum(target * s, axis=-1)


def _held(x: Any, epsilon: Any) -> Any:
    """The logarithm of softmax, within [log epsilon, log(1 - epsilon)]."""
    low = tf.maximum(tf.math.log(epsilon), x.dtype.min)
    return tf.clip_by_value(tf.nn.log_softmax(x), low, tf.math.log1p(-epsilon))


def _softmax_crossentropy_grad(g: Any, x: Any, target: Any, epsilon: Any) -> Any:
    p = _softmax(x, axis=-1)
    within = tf.logical_or(tf.logical_and(p >= epsilon, p <= 1 - epsilon), tf.equal(epsilon, 0))
    held = target * tf.cast(within, x.dtype)  # NaN stays NaN
    return tf.expand_dims(g, -1) * (p * tf.reduce_sum(held, axis=-1, keepdims=True) - held)


# ---------------------------------------------------------------------------------------------------- random


def _random_uniform(key: Any, *sizes: Any, shape: Entries, dtype: str) -> Any:
    if dtype == "float16":
        # Of the 2048 multiples of 2 ** -11 that it holds below 1, TensorFlow draws every second one.
        drawn = _random_uniform(key, *sizes, shape=shape, dtype="float32")
        return tf.cast(tf.floor(drawn * 2048) / 2048, dtype)
    return _drawn(raw.StatelessRandomUniformV2, key, _filled(shape, sizes), dtype)


def _random_normal(key: Any, *sizes: Any, shape: Entries, dtype: str) -> Any:
    return _drawn(raw.StatelessRandomNormalV2, key, _filled(shape, sizes), dtype)


def _drawn(op: Rule, key: Any, sizes: Any, dtype: str) -> Any:
    # By its number, for Philox: else the device chooses the generator, and with it the numbers. And by the op itself:
    # tf.random.stateless_uniform makes thirty more, which take longer than it.
    start, counter = raw.StatelessRandomGetKeyCounter(seed=key)
    return op(shape=sizes, key=start, counter=counter, alg=1, dtype=dtype)


def _mixed(x: Any) -> Any:
    x = (x ^ tf.bitwise.right_shift(x, _word(30))) * _word(0xBF58476D1CE4E5B9)
    x = (x ^ tf.bitwise.right_shift(x, _word(27))) * _word(0x94D049BB133111EB)
    return x ^ tf.bitwise.right_shift(x, _word(31))


def _word(value: int) -> Any:
    return tf.constant(value, tf.uint64)


def _words(x: Any, y: Any) -> tuple[Any, Any]:
    x = x ^ _mixed(y + _word(0x9E3779B97F4A7C15))
    y = y ^ _mixed(x + _word(0x3C6EF372FE94F82A))
    x = x ^ _mixed(y + _word(0xDAA66D2C7DDF743F))
    return x, y


def _fold_in(key: Any, step: Any) -> Any:
    """The key that the reference gives, bit for bit."""
    x, y = _words(*tf.unstack(tf.bitcast(key, tf.uint64), num=2))
    x, y = _words(x ^ _mixed(tf.bitcast(tf.cast(step, tf.int64), tf.uint64)), y)
    return tf.bitcast(tf.stack([x, y]), tf.int64)


# ---------------------------------------------------------------------------------------------------- control


def _switch(condition: Any, x: Any, y: Any) -> Any:
    if x.shape.is_fully_defined() and x.shape == y.shape:
        return tf.where(condition, x, y)
    return tf.cond(condition, lambda: tf.identity(x), lambda: tf.identity(y))


def _print(x: Any, *, uid: Any, message: str) -> Any:
    # NumPy's own text, from the op's own meaning.
    shown = tf.numpy_function(lambda value: o.print_.numpy(value, uid=None, message=message) is None, [x], tf.bool)  # type: ignore[misc]
    with tf.control_dependencies([shown]):
        return tf.identity(x)


def _scan(*values: Any, **attrs: Any) -> Any:
    raise NotImplementedError("a loop needs its node: see `loops`")


RULES: dict[Op, Rule] = {
    **conv.RULES,
    **pool.RULES,
    o.add: tf.add,
    o.subtract: tf.subtract,
    o.multiply: tf.multiply,
    o.divide: tf.divide,
    o.floor_divide: _through(_floor_divide, **_HALF),
    o.remainder: _remainder,
    o.power: _through(_power, uint8="int32"),
    o.maximum: _through(extremes.larger, **_BOOL),
    o.minimum: _through(extremes.smaller, **_BOOL),
    o.negative: _through(tf.negative, uint8="int32"),
    o.absolute: _absolute,
    o.sign: _sign,
    o.square: tf.square,
    o.round: tf.round,
    o.floor: tf.floor,
    o.exp: tf.exp,
    o.expm1: tf.math.expm1,
    o.log: tf.math.log,
    o.log1p: tf.math.log1p,
    o.sqrt: tf.sqrt,
    o.sin: tf.sin,
    o.cos: tf.cos,
    o.tanh: tf.tanh,
    o.sigmoid: tf.sigmoid,
    o.softplus: tf.math.softplus,
    o.relu: tf.nn.relu,
    o.equal: tf.equal,
    o.not_equal: tf.not_equal,
    o.less: _through(tf.less, **_BOOL),
    o.less_equal: _through(tf.less_equal, **_BOOL),
    o.greater: _through(tf.greater, **_BOOL),
    o.greater_equal: _through(tf.greater_equal, **_BOOL),
    o.logical_and: tf.logical_and,
    o.logical_or: tf.logical_or,
    o.logical_not: tf.logical_not,
    o.where: tf.where,
    o.cast: _cast,
    o.identity: lambda x, *, uid: tf.identity(x),
    o.stop_gradient: tf.identity,
    o.reshape: lambda x, *sizes, shape: tf.reshape(x, _filled(shape, sizes)),
    o.transpose: lambda x, *, perm: tf.transpose(x, list(perm)),
    o.expand_dims: lambda x, *, axis: tf.expand_dims(x, axis),
    o.squeeze: lambda x, *, axis: tf.squeeze(x, [axis]),
    o.flip: _flip,
    o.broadcast_to: lambda x, *sizes, shape: tf.broadcast_to(x, _filled(shape, sizes)),
    o.broadcast_like: lambda x, like: tf.broadcast_to(x, tf.shape(like)),
    o.concatenate: lambda *xs, axis: tf.concat(xs, axis) if len(xs) > 1 else tf.identity(xs[0]),
    o.tile: _tile,
    o.pad: lambda x, *, padding: tf.pad(x, np.array(padding, np.int32).reshape(-1, 2)),
    o.shape: tf.shape,
    o.size: _size,
    o.arange: _arange,
    o.sum: _total(_over(tf.reduce_sum)),
    o.prod: _total(_over(tf.reduce_prod)),
    o.max: _through(extremes.largest, **_BOOL),
    o.min: _through(extremes.smallest, **_BOOL),
    o.any: _over(tf.reduce_any),
    o.all: _over(tf.reduce_all),
    o.argmax: extremes.first(tf.argmax),
    o.argmin: extremes.first(tf.argmin),
    o.logsumexp: _through(_over(tf.reduce_logsumexp), **_HALF),
    o.cumsum: _total(_running(tf.cumsum)),
    o.cumprod: _through(_total(_running(tf.math.cumprod)), **_SMALL),
    o.linear_recurrence: _linear_recurrence,
    o.index: _index,
    o.scatter_index: _scatter_index,
    o.gather: _gather,
    o.scatter_add: _through(_scatter_add, bool="int32"),
    o.pick: _pick,
    o.unpick: _through(_unpick, bool="int32"),
    o.one_hot: _one_hot,
    o.matmul: _through(_matmul, **_SMALL),
    o.softmax: _through(_softmax, **_HALF),
    o.log_softmax: _through(lambda x, *, axis: tf.nn.log_softmax(x, axis), **_HALF),
    o.softmax_crossentropy: _through(_softmax_crossentropy, **_HALF),
    o.softmax_crossentropy_grad: _through(_softmax_crossentropy_grad, **_HALF),
    o.ctc_loss: _through(ctc.loss, **_HALF),
    o.ctc_posterior: _through(ctc.posterior, **_HALF),
    o.ctc_tangent: _through(ctc.tangent, **_HALF),
    o.ctc_beam_search: ctc.beam_search,
    o.random_uniform: _random_uniform,
    o.random_normal: _random_normal,
    o.fold_in: _fold_in,
    o.switch: _switch,
    o.cond: lambda condition, *captures, then, orelse: tf.cond(condition, lambda: then(*captures), lambda: orelse(*captures)),
    o.scan: _scan,
    o.item: lambda x, *, index: x[index],
    o.print_: _print,
    o.constant: lambda *, value: tf.constant(value.array),
    o.absent: lambda *, type: tf.zeros([size or 0 for size in type.shape], type.dtype),
}

"""The rules of connectionist temporal classification for TensorFlow.

They are put together of other ops: TensorFlow's own kernel computes float64 with the digits of float32, and refuses samples
without labels and batches without samples or steps (version 2.21).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

import kgraph.ir.ops as o
from kgraph.ir.ops.ctc import INPUT_LENGTH, LABEL, LABEL_LENGTH
from kgraph.lower.tensorflow.checks import require
from kgraph.quiet import quietly


def _size(x: Any, axis: int) -> Any:
    known = x.shape[axis]
    return tf.constant(known, tf.int64) if known is not None else tf.shape(x, tf.int64)[axis]


def _within(x: Any, what: int, lowest: Any, highest: Any, most: Any) -> Any:
    """x, once values from lowest to highest are known to be from 0 to most."""
    return require(x, tf.logical_and(lowest >= 0, highest <= most), "ctc", what, lowest, highest, most)


def _shifted(x: Any, count: int, value: Any) -> Any:
    """x [batch, states], with each state so many places on; a value comes in."""
    return tf.pad(x, [[0, 0], [count, 0]], constant_values=value)[:, : tf.shape(x)[1]]


class _Lattice:
    """What the operands say, once their values are known to be in range. See the class of this name in the op's own file."""

    def __init__(self, x: Any, labels: Any, input_length: Any, label_length: Any) -> None:
        labels, steps, counts = [tf.cast(v, tf.int64) for v in (labels, input_length, label_length)]
        for what, lengths, most in ((INPUT_LENGTH, steps, _size(x, 1)), (LABEL_LENGTH, counts, _size(labels, 1))):
            x = _within(x, what, tf.reduce_min(lengths), tf.reduce_max(lengths), most)
        inside = tf.range(_size(labels, 1)) < counts[:, None]
        blank = _size(x, 2) - 1
        lowest = tf.reduce_min(tf.where(inside, labels, tf.zeros((), tf.int64)))
        x = _within(x, LABEL, lowest, tf.reduce_max(tf.where(inside, labels, -1)), blank - 1)
        self.never = tf.constant(float("-inf"), x.dtype)
        self.zero = tf.zeros((), x.dtype)
        self.width = _size(x, 2)
        pairs = tf.stack([tf.fill(tf.shape(labels), blank), tf.where(inside, labels, blank)], 2)
        self.classes = tf.pad(tf.reshape(pairs, [tf.shape(labels)[0], 2 * tf.shape(labels)[1]]), [[0, 0], [0, 1]])
        self.states = tf.range(_size(self.classes, 1))
        self.classes = tf.where(tf.equal(self.states, self.states[-1]), blank, self.classes)
        exists = self.states <= 2 * counts[:, None]
        self.alive = tf.range(_size(x, 1))[:, None] < steps
        there = tf.logical_and(self.alive[:, :, None], exists)
        self.scores = tf.where(there, self.of_states(x), self.never)
        other = tf.not_equal(self.classes[:, 2:], self.classes[:, :-2])
        self.jumps = tf.pad(other, [[0, 0], [2, 0]])[:, : tf.shape(self.classes)[1]]
        self.first = tf.where(tf.logical_and(exists, self.states < 2), self.zero, self.never)
        self.last = tf.where(tf.logical_and(exists, self.states >= 2 * counts[:, None] - 1), self.zero, self.never)
        self.steps, self.counts = steps, counts

    def of_states(self, x: Any) -> Any:
        return tf.transpose(tf.gather(x, self.classes, axis=2, batch_dims=1), [1, 0, 2])

    def of_classes(self, values: Any) -> Any:
        members = tf.one_hot(self.classes, tf.cast(self.width, tf.int32), dtype=values.dtype)
        return tf.matmul(tf.transpose(values, [1, 0, 2]), members)

    def back(self) -> Any:
        """Sums over the ends of alignments."""
        return tf.reverse(self._sums(*self._turned())[0], [0, 2])

    def both(self, along: Any = None) -> Any:
        """Sums over the beginnings and over the ends of alignments, from one loop; and their derivatives along a change of the
        scores."""
        ahead, back = (self.scores, self.jumps, self.first, tf.zeros_like(self.steps)), self._turned()
        joined = [tf.concat(pair, axis) for pair, axis in zip(zip(ahead, back, strict=True), (1, 0, 0, 0), strict=True)]
        moved = None if along is None else tf.concat([along, tf.reverse(along, [0, 2])], 1)
        pairs = [tf.split(found, 2, axis=1) for found in self._sums(*joined, along=moved) if found is not None]
        return [(one, tf.reverse(other, [0, 2])) for one, other in pairs]

    def _turned(self) -> list[Any]:
        """What the sums over ends are made of, as sums over beginnings of what is turned round."""
        jumps = tf.pad(tf.reverse(self.jumps, [1]), [[0, 0], [2, 0]])[:, : tf.shape(self.jumps)[1]]
        begin = tf.shape(self.scores, tf.int64)[0] - self.steps
        return [tf.reverse(self.scores, [0, 2]), jumps, tf.reverse(self.last, [1]), begin]

    def _sums(self, scores: Any, jumps: Any, first: Any, begin: Any, *, along: Any = None) -> tuple[Any, Any]:
        """Sums over paths from the states where first is 0, in the step begin of each sample."""
        never, barred = self.never, tf.where(jumps, self.zero, self.never)

        def step(state: Any, row: Any) -> Any:
            found, change = state if along is not None else (state, None)
            before = [found, _shifted(found, 1, never), _shifted(found, 2, never) + barred]
            top = tf.maximum(tf.maximum(before[0], before[1]), before[2])
            base = tf.where(tf.equal(top, never), self.zero, top)
            shares = [tf.exp(value - base) for value in before]
            total = tf.add_n(shares)
            new = tf.where(row[1][:, None], first, base + tf.math.log(total)) + row[0]
            if along is None:
                return new
            changes = [change, _shifted(change, 1, self.zero), _shifted(change, 2, self.zero)]
            moved = tf.add_n([share * each for share, each in zip(shares, changes, strict=True)])
            return new, row[2] + tf.where(tf.equal(total, 0), self.zero, moved / total)

        rows = [scores, tf.equal(tf.range(tf.shape(scores, tf.int64)[0])[:, None], begin)]
        start: Any = tf.fill(tf.shape(first), never)
        if along is not None:
            rows, start = [*rows, along], (start, tf.zeros_like(first))
        # A first row: scan takes no arrays without rows.
        rows = [tf.pad(row, [[1, 0], *[[0, 0]] * (row.shape.rank - 1)]) for row in rows]
        found = tf.scan(step, tuple(rows), start)
        return (found[0][1:], found[1][1:]) if along is not None else (found[1:], None)

    def total(self, back: Any) -> Any:
        none = tf.where(tf.equal(self.counts, 0), self.zero, self.never)
        return tf.where(tf.equal(self.steps, 0), none, tf.reduce_logsumexp(back[:1, :, :2], [0, 2]))

    def shares(self, ahead: Any, back: Any, total: Any) -> Any:
        passed = tf.logical_not(tf.logical_or(tf.equal(ahead, self.never), tf.equal(back, self.never)))
        return tf.exp(tf.where(passed, ahead + back - self.scores - total[:, None], self.never))


def loss(x: Any, labels: Any, input_length: Any, label_length: Any) -> Any:
    lattice = _Lattice(x, labels, input_length, label_length)
    return lattice.zero - lattice.total(lattice.back())


def posterior(x: Any, labels: Any, input_length: Any, label_length: Any) -> Any:
    lattice = _Lattice(x, labels, input_length, label_length)
    ((ahead, back),) = lattice.both()
    return lattice.of_classes(lattice.shares(ahead, back, lattice.total(back)))


def tangent(h: Any, x: Any, labels: Any, input_length: Any, label_length: Any) -> Any:
    lattice = _Lattice(x, labels, input_length, label_length)
    along = tf.where(tf.equal(lattice.scores, lattice.never), lattice.zero, lattice.of_states(h))
    (ahead, back), changes = lattice.both(along)
    shares = lattice.shares(ahead, back, lattice.total(back))
    change = changes[0] + changes[1] - along
    return lattice.of_classes(shares * (change - tf.reduce_sum(shares * change, 2, keepdims=True)))


def beam_search(x: Any, input_length: Any, *, beam_width: int, top_paths: int) -> Any:
    # TensorFlow's own is an error where there are fewer paths than asked for.
    steps = None if x.shape[1] is None else x.shape[1] + 1

    @quietly
    def search(x: Any, input_length: Any) -> Any:
        return o.ctc_beam_search.numpy(x, input_length, beam_width=beam_width, top_paths=top_paths)  # type: ignore[misc]

    found = tf.numpy_function(search, [x, input_length], tf.float64, stateful=False)
    found.set_shape([x.shape[0], top_paths, steps])
    return found

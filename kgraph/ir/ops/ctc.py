"""Ops of connectionist temporal classification: the sum over all alignments of labels with steps, and a search for labels.

A step has a score for each class, the last of which is the blank. An alignment gives each step a class; without repetitions,
and then without blanks, it spells the labels. The score of an alignment is the sum of those of its steps.

Source: Graves, Fernandez, Gomez and Schmidhuber (2006), Connectionist temporal classification, ICML; the search: Graves and
Jaitly (2014), ICML, algorithm 1, without a language model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, IndexOutOfRange, KGraphError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.op import Op
from kgraph.ir.ops.elementwise import float_like
from kgraph.ir.types import INTEGERS, TensorType, merge_size, same_size, show_shape

# ---------------------------------------------------------------------------------------------------- type rules


def _check_scores(x: TensorType) -> None:
    if float_like(x).ndim != 3:
        raise ShapeError(f"x has rank {x.ndim}, not 3: [batch, steps, classes]")
    if x.shape[2] == 0:
        raise ShapeError("there are 0 classes; the last one is the blank, so there is 1 at least")


def _check_lengths(lengths: TensorType, name: str, x: TensorType) -> None:
    if lengths.dtype not in INTEGERS:
        raise DTypeError(f"{name} is {lengths.dtype}, not integers", hint="cast it: K.cast(n, 'int32')")
    if lengths.ndim != 1 or not same_size(lengths.shape[0], x.shape[0]):
        raise ShapeError(f"{name} is {show_shape(lengths.shape)}, not [batch] with the batch of {show_shape(x.shape)}")


def _loss_type(x: TensorType, labels: TensorType, input_length: TensorType, label_length: TensorType) -> TensorType:
    _check_scores(x)
    if labels.dtype not in INTEGERS:
        raise DTypeError(f"the labels are {labels.dtype}, not integers", hint="cast them: K.cast(labels, 'int32')")
    if labels.ndim != 2 or not same_size(labels.shape[0], x.shape[0]):
        shown = show_shape(labels.shape)
        raise ShapeError(f"the labels are {shown}, not [batch, labels] with the batch of {show_shape(x.shape)}")
    _check_lengths(input_length, "input_length", x)
    _check_lengths(label_length, "label_length", x)
    batch = x.shape[0]
    for other in (labels, input_length, label_length):
        batch = merge_size(batch, other.shape[0])
    return TensorType(x.dtype, (batch,))


def _posterior_type(x: TensorType, labels: TensorType, input_length: TensorType, label_length: TensorType) -> TensorType:
    (batch,) = _loss_type(x, labels, input_length, label_length).shape
    return x.with_shape((batch, *x.shape[1:]))


def _tangent_type(
    h: TensorType, x: TensorType, labels: TensorType, input_length: TensorType, label_length: TensorType
) -> TensorType:
    if h.dtype != x.dtype or h.ndim != x.ndim or not all(map(same_size, h.shape, x.shape)):
        raise ShapeError(f"h is {h}, not {x}")
    return _posterior_type(x, labels, input_length, label_length)


def _search_type(x: TensorType, input_length: TensorType, *, beam_width: int, top_paths: int) -> TensorType:
    _check_scores(x)
    _check_lengths(input_length, "input_length", x)
    if not 1 <= top_paths <= beam_width:
        raise ShapeError(f"{top_paths} paths of a beam of {beam_width}")
    steps = None if x.shape[1] is None else x.shape[1] + 1
    return TensorType("float64", (merge_size(x.shape[0], input_length.shape[0]), top_paths, steps))


# ---------------------------------------------------------------------------------------------------- values out of range

#: What may be out of range.
LABEL, INPUT_LENGTH, LABEL_LENGTH = range(3)


def out_of_range(what: int, lowest: int, highest: int, most: int) -> KGraphError:
    """The error for values that go from lowest to highest, where they may go from 0 to most."""
    value = lowest if lowest < 0 else highest
    if what == LABEL:
        rest = f"the largest label is {most}" if most >= 0 else "there are no labels"
        return IndexOutOfRange(f"label {value} is out of range: the last of {most + 2} classes is the blank, so {rest}")
    name, axis = ("an input length", "steps of x") if what == INPUT_LENGTH else ("a label length", "size of labels")
    return ShapeError(f"{name} is {value}, which is not from 0 to the {axis}, {most}")


def _check(what: int, values: Any, most: int) -> None:
    if values.size:
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest > most:
            raise out_of_range(what, lowest, highest, most)


# ---------------------------------------------------------------------------------------------------- meanings

_NEVER = -np.inf


class _Lattice:
    """Blanks and labels in turn, beginning and ending with a blank: the states, of which an alignment has one in each step.

    Attributes, with B samples, T steps and S = 2 * labels + 1 states:
      classes: [B, S], the class of each state.
      scores: [T, B, S] in float64; -inf for steps and states that a sample does not have.
      jumps: [B, S], 0 where the blank before a state may be left out, else -inf.
      last: [B, S], 0 for states that an alignment may end in, else -inf.
    """

    def __init__(self, x: Any, labels: Any, input_length: Any, label_length: Any):
        batch, steps, classes = x.shape
        most = labels.shape[1]
        _check(INPUT_LENGTH, input_length, steps)
        _check(LABEL_LENGTH, label_length, most)
        inside = np.arange(most) < label_length[:, None]
        _check(LABEL, labels[inside], classes - 2)
        self.x_shape = x.shape
        self.input_length, self.label_length = input_length.astype(np.int64), label_length.astype(np.int64)
        self.classes = np.full((batch, 2 * most + 1), classes - 1)
        self.classes[:, 1::2] = np.where(inside, labels, classes - 1)
        states = np.arange(2 * most + 1)
        self.exists = states <= 2 * self.label_length[:, None]
        self.scores = self.of_states(x)
        self.scores[np.arange(steps)[:, None] >= self.input_length] = _NEVER
        self.scores[:, ~self.exists] = _NEVER
        self.jumps = np.full(self.classes.shape, _NEVER)
        self.jumps[:, 3::2][self.classes[:, 3::2] != self.classes[:, 1:-2:2]] = 0
        self.last = np.where(self.exists & (states >= 2 * self.label_length[:, None] - 1), 0, _NEVER)

    def of_states(self, x: Any) -> Any:
        """What each state has of a value per class: [B, T, classes] as [T, B, S]."""
        picked = np.take_along_axis(x, self.classes[:, None, :], axis=2)
        return np.array(picked.transpose(1, 0, 2), np.float64, order="C")

    def of_classes(self, values: Any) -> Any:
        """What the states of each class have together: [T, B, S] as [B, T, classes]."""
        members = self.classes[:, :, None] == np.arange(self.x_shape[2])
        return np.matmul(values.transpose(1, 0, 2), members.astype(np.float64))

    def back(self) -> Any:
        """Per step and state the logarithm of the sum over the ends of alignments, from it on."""
        return _sums(*self._turned())[0][::-1, :, ::-1]

    def both(self, along: Any = None) -> Any:
        """The same over the beginnings of alignments, up to each step and state, and over the ends; and the derivatives of the
        two along a change of the scores."""
        first = np.where(self.exists & (np.arange(self.classes.shape[1]) < 2), 0, _NEVER)
        ahead, back = (self.scores, self.jumps, first, np.zeros(len(first), np.int64)), self._turned()
        joined = [np.concatenate(pair, axis) for pair, axis in zip(zip(ahead, back, strict=True), (1, 0, 0, 0), strict=True)]
        moved = None if along is None else np.concatenate([along, along[::-1, :, ::-1]], 1)
        halves = [np.split(found, 2, axis=1) for found in _sums(*joined, along=moved) if found is not None]
        return [(one, other[::-1, :, ::-1]) for one, other in halves]

    def _turned(self) -> list[Any]:
        """What the sums over ends are made of, as sums over beginnings of what is turned round."""
        jumps = np.full(self.jumps.shape, _NEVER)
        jumps[:, 2:] = self.jumps[:, :1:-1]
        return [self.scores[::-1, :, ::-1], jumps, self.last[:, ::-1], self.x_shape[1] - self.input_length]

    def total(self, back: Any) -> Any:
        """The logarithm of the sum over all alignments: [B]."""
        none = np.where(self.label_length == 0, 0.0, _NEVER)
        if not self.x_shape[1]:
            return none
        firsts = np.logaddexp.reduce(back[0, :, :2], axis=1)
        return np.where(self.input_length == 0, none, firsts)

    def shares(self, ahead: Any, back: Any, total: Any) -> Any:
        """Per step and state the share in the sum of the alignments that go through it."""
        passed = (ahead != _NEVER) & (back != _NEVER)  # NaN passes
        return np.exp(ahead + back - self.scores - total[:, None], where=passed, out=np.zeros(ahead.shape))


def _sums(scores: Any, jumps: Any, first: Any, begin: Any, *, along: Any = None) -> tuple[Any, Any]:
    """Sums over paths from the states where first is 0, in the step begin of each sample."""
    steps, batch, states = scores.shape
    # Two states more come first, which no path is in.
    found = np.full((steps + 1, batch, states + 2), _NEVER)
    change = None if along is None else np.zeros(found.shape)
    for step in range(steps):
        before = [found[step, :, 2:], found[step, :, 1:-1], found[step, :, :-2] + jumps]
        top = np.maximum(np.maximum(before[0], before[1]), before[2])
        top[top == _NEVER] = 0
        shares = [np.exp(value - top) for value in before]
        total = shares[0] + shares[1] + shares[2]
        if change is not None:
            moved = shares[0] * change[step, :, 2:] + shares[1] * change[step, :, 1:-1] + shares[2] * change[step, :, :-2]
            change[step + 1, :, 2:] = along[step] + np.divide(moved, total, where=total != 0, out=np.zeros(total.shape))
        np.log(total, total)
        total += top
        starts = begin == step
        if starts.any():
            total[starts] = first[starts]
        np.add(total, scores[step], found[step + 1, :, 2:])
    return found[1:, :, 2:], None if change is None else change[1:, :, 2:]


def _loss(x: Any, labels: Any, input_length: Any, label_length: Any) -> Any:
    lattice = _Lattice(x, labels, input_length, label_length)
    return (0.0 - lattice.total(lattice.back())).astype(x.dtype)


def _posterior(x: Any, labels: Any, input_length: Any, label_length: Any) -> Any:
    lattice = _Lattice(x, labels, input_length, label_length)
    ((ahead, back),) = lattice.both()
    return lattice.of_classes(lattice.shares(ahead, back, lattice.total(back))).astype(x.dtype)


def _tangent(h: Any, x: Any, labels: Any, input_length: Any, label_length: Any) -> Any:
    lattice = _Lattice(x, labels, input_length, label_length)
    along = np.where(lattice.scores == _NEVER, 0, lattice.of_states(h))
    (ahead, back), (ahead_change, back_change) = lattice.both(along)
    shares = lattice.shares(ahead, back, lattice.total(back))
    change = ahead_change + back_change - along
    # That of the total is the mean of the changes over the states of any step.
    mean = (shares * change).sum(2, keepdims=True)
    return lattice.of_classes(shares * (change - mean)).astype(x.dtype)


# ---------------------------------------------------------------------------------------------------- ops


def _loss_vjp(
    g: Node, out: Node, x: Node, labels: Node, input_length: Node, label_length: Node
) -> tuple[Node | None, ...]:
    share = o.ctc_posterior(x, labels, input_length, label_length)
    wide = o.expand_dims(o.expand_dims(-g, axis=1), axis=2)
    return o.shaped_like(wide * share, x), None, None, None


def _posterior_vjp(
    g: Node, out: Node, x: Node, labels: Node, input_length: Node, label_length: Node
) -> tuple[Node | None, ...]:
    # The posterior is the gradient of the logarithm of a sum: its derivative is symmetric.
    return o.shaped_like(o.ctc_tangent(g, x, labels, input_length, label_length), x), None, None, None


ctc_loss: Op = Op(
    "ctc_loss", _loss_type, numpy=_loss, vjp=_loss_vjp,
    doc="-log of the sum, over all alignments of the labels, of exp(the scores that it has in x); infinite if there is none.",
)  # fmt: skip

ctc_posterior: Op = Op(
    "ctc_posterior", _posterior_type, numpy=_posterior, vjp=_posterior_vjp,
    doc="Per step and class the share of the alignments that have the class there; 0 if there is no alignment.",
)  # fmt: skip

ctc_tangent: Op = Op(
    "ctc_tangent", _tangent_type, numpy=_tangent, doc="The derivative of ctc_posterior along a change h of x."
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the search


def _search(x: Any, input_length: Any, *, beam_width: int, top_paths: int) -> Any:
    batch, steps, _ = x.shape
    out = np.full((batch, top_paths, steps + 1), -1.0)
    out[:, :, steps] = _NEVER
    for sample in range(batch):
        scores = x[sample, : max(int(input_length[sample]), 0)].astype(np.float64)
        for path, (labels, score) in enumerate(_best_labels(scores, beam_width)[:top_paths]):
            out[sample, path, : len(labels)] = labels
            out[sample, path, steps] = score
    return out


def _best_labels(x: Any, beam_width: int) -> list[tuple[list[int], float]]:
    """The labels that the beam has after the last step, the best first, with the logarithms of their sums."""
    blank = x.shape[1] - 1
    # Labels are nodes of a tree, by number: that of the node before, the last label, and what has been made of it.
    before, label = [-1], [-1]
    longer: dict[tuple[int, int], int] = {}
    nodes = np.zeros(1, np.int64)
    with_blank, without = np.zeros(1), np.full(1, _NEVER)  # sums over alignments that end in a blank, and in the last label
    for scores in x:
        ends = np.array([label[node] for node in nodes], np.int64)
        total = np.logaddexp(with_blank, without)
        stay_blank = total + scores[blank]
        stay = np.where(ends >= 0, without + scores[ends], _NEVER)
        grown = total[:, None] + scores[:blank]
        same = np.flatnonzero(ends >= 0)
        grown[same, ends[same]] = with_blank[same] + scores[ends[same]]  # a repetition needs a blank between
        place = {int(node): i for i, node in enumerate(nodes)}
        for i, node in enumerate(nodes):
            j = place.get(before[node])
            if j is not None:  # what is before it is in the beam too, and grows to it
                stay[i] = np.logaddexp(stay[i], grown[j, ends[i]])
                grown[j, ends[i]] = _NEVER
        sums = np.concatenate([np.logaddexp(stay_blank, stay), grown.reshape(-1)])
        chosen = _largest(sums, beam_width)
        kept, fresh = chosen[chosen < len(nodes)], chosen[chosen >= len(nodes)] - len(nodes)
        made = []
        for number in fresh:
            key = (int(nodes[number // blank]), int(number % blank))
            if key not in longer:
                longer[key] = len(before)
                before.append(key[0])
                label.append(key[1])
            made.append(longer[key])
        with_blank = np.concatenate([stay_blank[kept], np.full(len(made), _NEVER)])
        without = np.concatenate([stay[kept], grown.reshape(-1)[fresh]])
        nodes = np.concatenate([nodes[kept], np.array(made, np.int64)])
    total = np.logaddexp(with_blank, without)
    return [(_spelled(nodes[i], before, label), float(total[i])) for i in _largest(total, beam_width)]


def _largest(values: Any, count: int) -> Any:
    """The places of the largest values that are neither -inf nor NaN, in falling order; of equal ones the first."""
    values = np.where(np.isnan(values), _NEVER, values)
    lowest = np.partition(values, -count)[-count] if len(values) > count else _NEVER
    places = np.flatnonzero((values >= lowest) & (values > _NEVER))
    return places[np.argsort(-values[places], kind="stable")[:count]]


def _spelled(node: int, before: list[int], label: list[int]) -> list[int]:
    labels: list[int] = []
    while node:
        labels.append(label[node])
        node = before[node]
    return labels[::-1]


ctc_beam_search: Op = Op(
    "ctc_beam_search", _search_type, numpy=_search,
    doc="[batch, paths, steps + 1]: labels with the largest sums over alignments, padded with -1; the log of the sum is last.",
)  # fmt: skip

__all__ = ["ctc_beam_search", "ctc_loss", "ctc_posterior", "ctc_tangent"]

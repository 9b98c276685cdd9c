"""K functions of connectionist temporal classification: the loss of unaligned labels, and what a prediction spells.

The last class is the blank. What the steps spell is their classes without repetitions, and then without blanks.
"""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.backend.operands import count_of, node_of, refuse
from kgraph.errors import ArgumentError, DTypeError, ShapeError
from kgraph.ir.node import Node
from kgraph.ir.promote import as_dtype, as_float
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import same_size

#: Added to probabilities before their logarithm is taken (Keras 1.2.2).
LEAST = 1e-8


def ctc_batch_cost(y_true: Any, y_pred: Any, input_length: Any, label_length: Any) -> Tensor:
    """Loss of labels that are not aligned with the steps: -log of the probability that the steps spell them, in nats.

    loss = -log(sum over all alignments of product over steps of p), p = softmax(log(y_pred + 1e-8)), which is y_pred nearly

    Args:
      y_true: [batch, labels]: class numbers, integers or floats; what is behind the label length is not read.
      y_pred: float [batch, steps, classes]: probabilities; the last class is the blank.
      input_length: [batch, 1] or [batch]: how many steps of each sample count.
      label_length: [batch, 1] or [batch]: how many labels each sample has; it may have none.
    Returns: [batch, 1], in the dtype of y_pred; infinite where the steps are too few to spell the labels, with gradient 0.
      Labels and lengths have no gradient. float16 is computed in float32.
    Raises: ShapeError, DTypeError; when the program runs, for a length beyond its axis, and IndexOutOfRange for a label that is
      no class or the blank.
    Source: Graves and others (2006), ICML; Keras 1.2.2 on TensorFlow, which refuses samples without labels. (Its Theano form
      had another smoothing, and shape (1, batch).)

    >>> half = K.variable([[[.5, .5], [.5, .5]]])
    >>> K.eval(K.ctc_batch_cost(K.variable([[0]]), half, K.variable([[2]]), K.variable([[1]])))
    array([[0.2876821]], dtype=float32)
    """
    scores, dtype = _scores(y_pred)
    labels = _integers(y_true, "y_true")
    if labels.ndim != 2 or not same_size(labels.type.shape[0], scores.type.shape[0]):
        raise refuse(ShapeError, "y_true is [batch, labels], with the batch of y_pred", y_true=y_true, y_pred=y_pred)
    steps, counts = _lengths(input_length, "input_length", scores), _lengths(label_length, "label_length", scores)
    loss = o.ctc_loss(o.log_softmax(scores, axis=2), labels, steps, counts)
    return Tensor(as_dtype(o.expand_dims(loss, axis=1), dtype))


def ctc_label_dense_to_sparse(labels: Any, label_lengths: Any) -> Tensor:
    """Labels as a sparse tensor: those within the lengths are kept, the others are 0.

    Args:
      labels: [batch, labels], any dtype.
      label_lengths: [batch] or [batch, 1].
    Returns: the shape and dtype of labels, marked as sparse (`is_sparse`); its values are dense, as those of each sparse tensor
      of kgraph. Keras 1.2.2 has this function on TensorFlow only, where the result is a SparseTensor.
    Raises: ShapeError, DTypeError.

    >>> K.eval(K.ctc_label_dense_to_sparse(K.variable([[3, 4], [5, 6]]), K.variable([1, 2])))
    array([[3., 0.],
           [5., 6.]], dtype=float32)
    """
    node = node_of(labels)
    if node.ndim != 2:
        raise refuse(ShapeError, f"labels has rank {node.ndim}, not 2: [batch, labels]", labels=labels)
    inside = _before(_lengths(label_lengths, "label_lengths", node), node)
    made: Any = Tensor(o.where(inside, node, o.scalar(0, node.dtype)))
    made._sparse = True
    return made


def ctc_decode(
    y_pred: Any, input_length: Any, greedy: bool = True, beam_width: int = 100, top_paths: int = 1
) -> tuple[list[Tensor], Tensor]:
    """What the steps spell: by the most probable class of each step, or by a search for the most probable labels.

    Args:
      y_pred: float [batch, steps, classes]: probabilities; the last class is the blank.
      input_length: [batch] or [batch, 1]: how many steps of each sample count; more than there are count as all.
      greedy: take the most probable class of each step, the first of equal ones; fast.
      beam_width: how many beginnings the search keeps, the most probable ones. With enough of them it is exact.
      top_paths: how many spellings the search gives, at most beam_width.
    Returns: a list with an int64 tensor [batch, longest] for each spelling (one, if greedy), padded with -1; and a tensor in
      the dtype of y_pred: if greedy, [batch, 1], minus the sum of the logarithms of what is taken; else [batch, top_paths],
      the logarithm of the probability of each spelling, best first, -inf where there are fewer. No gradient.
    Raises: ShapeError, DTypeError, ArgumentError.
    Source: Graves and others (2006); Graves and Jaitly (2014), algorithm 1; Keras 1.2.2 on TensorFlow, but that the search
      there merges equal labels that follow one another once more.

    >>> steps = K.variable([[[.1, .8, .1], [.1, .7, .2], [.1, .1, .8], [.2, .7, .1]]])
    >>> (labels,), _ = K.ctc_decode(steps, [4])
    >>> K.eval(labels)
    array([[1, 1]])
    """
    scores, dtype = _scores(y_pred)
    steps = _lengths(input_length, "input_length", scores)
    if greedy:
        labels, score = _taken(scores, steps)
        return [Tensor(_narrowed(labels))], Tensor(as_dtype(score, dtype))
    width, paths = count_of(beam_width, "beam_width", 1), count_of(top_paths, "top_paths", 1)
    if paths > width:
        raise refuse(ArgumentError, f"top_paths is {paths}, more than beam_width, {width}", y_pred=y_pred)
    found = o.ctc_beam_search(o.log_softmax(scores, axis=2), steps, beam_width=width, top_paths=paths)
    spelled = [_narrowed(o.cast(found[:, i, :-1], dtype="int64")) for i in range(paths)]
    return [Tensor(labels) for labels in spelled], Tensor(o.cast(found[:, :, -1], dtype=dtype))


def _taken(scores: Node, steps: Node) -> tuple[Node, Node]:
    """The classes of the largest scores without repetitions and blanks, [batch, steps] padded with -1, and minus their sum."""
    best = o.argmax(scores, axis=2)
    inside = _before(steps, best)
    repeated = o.concatenate(o.broadcast_like(o.scalar(False, "bool"), best[:, :1]), o.equal(best[:, 1:], best[:, :-1]), axis=1)
    counts = o.logical_and(inside, o.logical_and(o.logical_not(repeated), o.less(best, _int64(o.size_of(scores, 2)) - 1)))
    # Each goes to its place among those of its sample; what does not count adds nothing to the first place.
    number = o.cumsum(o.cast(counts, dtype="int64"), axis=1) - 1
    row = o.expand_dims(_places(best, 0), axis=1)
    count = _int64(o.size_of(best, 1))
    place = o.where(counts, row * count + number, o.scalar(0, "int64"))
    added = o.where(counts, best + 1, o.scalar(0, "int64"))
    flat = o.scatter_add(o.reshape(added, shape=(-1,)), o.reshape(place, shape=(-1,)), o.reshape(best, shape=(-1,)))
    labels = o.reshape_to(flat, [o.size_of(best, 0), o.size_of(best, 1)]) - 1
    top = o.where(inside, o.max(scores, axis=(2,), keepdims=False), o.scalar(0.0, scores.dtype))
    return labels, -o.sum(top, axis=(1,), keepdims=True)


def _int64(size: int | Node) -> Node:
    return o.scalar(size, "int64") if isinstance(size, int) else o.cast(size, dtype="int64")


def _places(x: Node, axis: int) -> Node:
    """0, 1, 2 ... along an axis."""
    entries, sizes = o.entries_of([0, o.size_of(x, axis), 1])
    return o.arange(*sizes, bounds=entries, dtype="int64")


def _narrowed(labels: Node) -> Node:
    """Labels without the last columns, which are -1 throughout."""
    counts = o.sum(o.cast(o.greater_equal(labels, o.scalar(0, "int64")), dtype="int64"), axis=(1,), keepdims=False)
    zero = o.broadcast_to(o.scalar(0, "int64"), shape=(1,))  # the longest of none
    longest: Node = o.max(o.concatenate(zero, counts, axis=0), axis=(0,), keepdims=False)
    narrow: Node = labels[:, :longest]
    return narrow


def _before(lengths: Node, like: Node) -> Node:
    """Whether the place along the second axis is below the length of the sample: [batch, size of that axis]."""
    return o.less(o.expand_dims(_places(like, 1), axis=0), o.expand_dims(o.cast(lengths, dtype="int64"), axis=1))


def _scores(y_pred: Any) -> tuple[Node, str]:
    """The logarithms of the probabilities, and the dtype of the result. Raises ShapeError."""
    node = as_float(node_of(y_pred))
    if node.ndim != 3:
        raise refuse(ShapeError, f"y_pred has rank {node.ndim}, not 3: [batch, steps, classes]", y_pred=y_pred)
    wide = as_dtype(node, "float32") if node.dtype == "float16" else node
    return o.log(wide + LEAST), node.dtype


def _integers(x: Any, name: str) -> Node:
    """Integers, or the whole floats that Keras feeds in their place, as int32 or wider."""
    node = node_of(x)
    if node.dtype == "bool":
        raise refuse(DTypeError, f"{name} is bool, not numbers", **{name: x})
    return node if node.dtype in ("int32", "int64") else o.cast(node, dtype="int32")


def _lengths(lengths: Any, name: str, x: Node) -> Node:
    """Lengths as integers, [batch]. Raises ShapeError."""
    node = _integers(lengths, name)
    if node.ndim == 2 and node.type.shape[1] in (1, None):
        node = o.squeeze(node, axis=1)
    if node.ndim != 1 or not same_size(node.type.shape[0], x.type.shape[0]):
        batch = "" if x.type.shape[0] is None else f", and there are {x.type.shape[0]} samples"
        raise refuse(ShapeError, f"{name} is [batch, 1] or [batch]{batch}", **{name: lengths})
    return node

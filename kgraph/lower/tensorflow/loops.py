"""A scan as a while loop of TensorFlow's: stacks are lists of tensors that a step writes one place of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from kgraph.ir.node import Graph, Node
from kgraph.ir.sizes import loose_parameters, sized_by_values
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from kgraph.lower.tensorflow.checks import Book, failed, require

raw = tf.raw_ops


def scan(
    node: Node, evaluate: Callable[..., list[Any]], book: Book, values: Sequence[Any], known: set[Node]
) -> list[Any]:  # fmt: skip
    """The results of a scan.

    Args:
      evaluate: what builds a body over values.
      values: of the inputs.
      known: nodes whose sizes are computed from values, which the program has to check.
    """
    loose = any(i in known for i in node.inputs)
    body: Graph = node.attr("body")
    sequences, states, reverse = node.attr("sequences"), node.attr("states"), node.attr("reverse")
    split = 1 + sequences
    count = tf.cast(values[0], "int32")
    inputs, captures = list(values[1:split]), values[split + states :]
    held = [i.type for i in node.inputs[split : split + states]]
    initial = [_typed(x, type, book) for x, type in zip(values[split:], held, strict=False)]
    if loose:
        for place, x in enumerate(inputs):
            size = tf.shape(x, "int64")[0]
            inputs[place] = require(x, tf.equal(size, tf.cast(count, "int64")), "length", size, tf.cast(count, "int64"))
    types = [root.type for root in body.outputs[states:]]
    stacks = [
        raw.TensorListReserve(element_shape=_entries(type), num_elements=count, element_dtype=type.dtype) for type in types
    ]
    given = loose_parameters(node, body, known)
    strange = sized_by_values(toposort(body.outputs, stop=body.inputs), given)
    checked = [i for i, type in enumerate(held) if not type.is_static and (loose or body.outputs[i] in strange)]
    flags = book.flags

    def step(at: Any, held: list[Any], lists: list[Any], *row: Any) -> tuple[Any, ...]:
        book.flags = None if flags is None else list(row)
        try:
            slices = [_typed(tf.gather(x, at), p.type, book) for x, p in zip(inputs, body.inputs[1:], strict=False)]
            results = evaluate(body, [at, *slices, *held, *captures], "body", given)
            news = results[:states]
            for i in checked:
                sizes = [tf.shape(x, "int64") for x in (news[i], initial[i])]
                news[i] = require(news[i], tf.reduce_all(tf.equal(*sizes)), "state", i)
            news = [tf.identity(_typed(x, type, book)) for x, type in zip(news, held, strict=True)]
            lists = [
                raw.TensorListSetItem(input_handle=handle, index=at, item=y)
                for handle, y in zip(lists, results[states:], strict=True)
            ]
            row = () if book.flags is None else (failed(book.flags),)
        finally:
            book.flags = flags
        return at - 1 if reverse else at + 1, news, lists, *row

    scalar = tf.TensorShape([])
    start: tuple[Any, ...] = (count - 1 if reverse else tf.constant(0), initial, stacks)
    invariants: tuple[Any, ...] = (scalar, [tf.TensorShape(type.shape) for type in held], [scalar] * len(stacks))
    if flags is not None:
        start, invariants = (*start, failed([])), (*invariants, tf.TensorShape(None))
    _, finals, lists, *row = tf.while_loop(
        lambda at, *rest: at >= 0 if reverse else at < count, step, start, invariants, parallel_iterations=1
    )
    if flags is not None:
        flags += row
    results = [_stacked(handle, type, count, book) for handle, type in zip(lists, types, strict=True)]
    declared: Sequence[TensorType] = node.type.items  # type: ignore[attr-defined]
    return [_typed(x, type, book) for x, type in zip([*finals, *results], declared, strict=True)]


def _stacked(handle: Any, type: TensorType, count: Any, book: Book) -> Any:
    """The elements of a list as one tensor; without any, the sizes that are not known are 0."""
    entries: Any = _entries(type)
    if not type.is_static and book.flags is None:
        entries = tf.where(count > 0, entries, tf.maximum(entries, 0))
    return raw.TensorListStack(input_handle=handle, element_shape=entries, element_dtype=type.dtype)


def _entries(type: TensorType) -> Any:
    return tf.constant([-1 if size is None else size for size in type.shape], "int32")


def _typed(x: Any, type: TensorType, book: Book) -> Any:
    """x with the static shape of a type."""
    if x.shape.is_fully_defined() or not type.shape:
        return x
    if book.flags is None:
        return tf.ensure_shape(x, type.shape)
    x.set_shape(type.shape)
    return x

"""Checks within a program: what has to hold before anything is computed further, and what is said when it does not.

Programs are built one at a time, under a lock: there is one book of checks being written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from kgraph.errors import ShapeError
from kgraph.ir.ops.ctc import out_of_range
from kgraph.ir.sizes import unequal

#: Where a node is: the attr that holds its body ("" for the graph itself) and its number in the order there, from the outermost
#: body.
Path = list[tuple[str, int]]

#: Numbers in the row of a check: its own, and those of its message.
WIDTH = 6


class Book:
    """The checks of one program.

    Attributes:
      rows: (path of the node, kind of check) by the number of the check.
      path: of the node that is being built.
      flags: None where a check can stop the program by itself. XLA has no such op: there, the rows of the body that is being
        built, which hands them on as one of its results.
      made: (graph, tensor, what for) -> what `once` has made, while the program is built.
    """

    def __init__(self, flagged: bool) -> None:
        self.rows: list[tuple[Path, str]] = []
        self.path: Path = []
        self.flags: list[Any] | None = [] if flagged else None
        self.made: dict[Any, Any] = {}

    def explain(self, numbers: Sequence[int]) -> tuple[Exception, Path]:
        """What the row of a failed check says, and of which node."""
        path, kind = self.rows[numbers[0]]
        return _MESSAGES[kind](*numbers[1:]), path


_books: list[Book] = [Book(False)]


@contextmanager
def writing(book: Book) -> Iterator[None]:
    """`require` writes into this book."""
    _books.append(book)
    try:
        yield
    finally:
        _books.pop()
        book.made.clear()


def require(x: Any, holds: Any, kind: str, *data: Any) -> Any:
    """x, once a condition (bool scalar) is known to hold.

    Args:
      kind: of the check.
      data: ints, then int64 scalars, for its message.
    """
    book = _books[-1]
    known = [len(book.rows), *[n for n in data if isinstance(n, int)]]
    book.rows.append((list(book.path), kind))
    row = [tf.constant(known, tf.int64), *data[len(known) - 1 :]]
    if book.flags is not None:
        parts = [*row, tf.zeros([WIDTH - 1 - len(data)], tf.int64)]
        book.flags.append(tf.where(holds, failed([]), tf.concat([tf.reshape(part, [-1]) for part in parts], 0)))
        return x
    with tf.control_dependencies([stop_unless(holds, *row)]):
        return tf.identity(x)


def once(x: Any, key: Any, make: Callable[[], Any]) -> Any:
    """What is made of a tensor once in a program, in the graph or body that is being built."""
    graph = tf.compat.v1.get_default_graph()
    place = id(graph), x.ref(), key
    made = _books[-1].made
    if place not in made:
        made[place] = make(), graph  # which lives on, so that no other one has its id
    return made[place][0]


def by_xla() -> bool:
    """Whether the program that is being made is for XLA."""
    return bool(_books) and _books[-1].flags is not None


def failed(flags: Sequence[Any]) -> Any:
    """Of the rows of some checks, that of the first which failed; -1 throughout if none did."""
    if not flags:
        return tf.constant(-1, tf.int64, [WIDTH])
    rows = tf.stack(flags)
    return rows[tf.argmax(tf.cast(rows[:, 0] >= 0, tf.int32))]


def stop_unless(holds: Any, *rows: Any) -> Any:
    """The op that ends the program, and shows rows of numbers, unless a condition holds."""
    return tf.raw_ops.Assert(condition=holds, data=rows, summarize=WIDTH)


def shown_row(message: str) -> list[int] | None:
    """The numbers that a failed check shows in the message of TensorFlow's error."""
    found = re.search(r"assertion failed: ([][\d -]+)", message)
    return None if found is None else [int(number) for number in re.findall(r"-?\d+", found[1])]


def _out_of_range(axis: int, lowest: int, highest: int, count: int, *rest: int) -> Exception:
    return IndexError(f"index {highest if highest >= count else lowest} is out of bounds for axis {axis} with size {count}")


def _sizes_differ(axis: int, one: int, other: int, *rest: int) -> Exception:
    return unequal(axis, min(one, other), max(one, other))


def _empty(axis: int, *rest: int) -> Exception:
    return ShapeError(f"axis {axis} has size 0, and no elements have no largest or smallest one")


def _ctc(what: int, lowest: int, highest: int, most: int, *rest: int) -> Exception:
    return out_of_range(what, lowest, highest, most)


def _length(size: int, count: int, *rest: int) -> Exception:
    return ShapeError(f"a sequence has {size} elements, for {count} steps")


def _state(number: int, *rest: int) -> Exception:
    return ShapeError(f"a step changes the shape of state {number}", hint="a state keeps the shape of its initial value")


_MESSAGES: dict[str, Callable[..., Exception]] = {
    "index": _out_of_range, "sizes": _sizes_differ, "empty": _empty, "ctc": _ctc, "length": _length, "state": _state,
}  # fmt: skip

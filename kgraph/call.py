"""The call of a compiled function: values in, a program, variables out. What can be decided before is decided before.

The text of each caller is written for its function: which values are fed, which variables are read and written. The first
call with a set of sizes goes through `Feeds.admit`, which checks everything; the next ones compare and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from kgraph.errors import FeedError, UpdateError
from kgraph.ir.node import Node, describe
from kgraph.ir.sizes import SizeCheck
from kgraph.ir.stream import Stream
from kgraph.ir.traverse import toposort
from kgraph.ir.types import Shape, numpy_dtype, same_size, show_shape
from kgraph.lower.variable import Variable

#: Sets of sizes remembered as checked.
MOST_SIGNATURES = 4096

#: Python nests ``with`` no deeper than 20.
MOST_LOCKS = 16


class Feeds:
    """What a function is fed: the conversion and the check of the values.

    Args:
      nodes: the placeholders, in the order of the function's inputs.
      roots: what the function computes, as built: the graph whose unknown sizes are checked.
      shown: how messages name each input.
    """

    def __init__(self, nodes: Sequence[Node], roots: Sequence[Node], shown: Sequence[str]):
        self.nodes, self.shown, self._roots = nodes, shown, roots
        self.dtypes = [numpy_dtype(node.dtype) for node in nodes]
        self.seen: set[Any] = set()  # sets of shapes that go together
        self._check: SizeCheck | None = None

    def admit(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The values as arrays of the placeholders' dtypes. Raises FeedError and ShapeError; remembers the sizes as checked."""
        arrays = tuple([self._convert(i, value) for i, value in enumerate(values)])
        shapes = tuple([array.shape for array in arrays])
        signature = shapes[0] if len(shapes) == 1 else shapes
        if signature not in self.seen:
            if self._check is None:
                self._check = SizeCheck(toposort(self._roots))
            self._check(dict(zip(self.nodes, shapes, strict=True)))
            if len(self.seen) >= MOST_SIGNATURES:
                self.seen.clear()
            self.seen.add(signature)
        return arrays

    def _convert(self, position: int, value: Any) -> np.ndarray[Any, Any]:
        node = self.nodes[position]
        array = value if isinstance(value, np.ndarray) else _to_array(value)
        if array is None or array.dtype.kind not in "biuf":
            came = type(value).__name__ if array is None or array.dtype == object else f"{array.dtype} array"
            raise self._refused(
                position, f"{came} cannot be fed", "give a bool, integer or float array, number or list of numbers"
            )
        if array.ndim != node.ndim:
            raise self._refused(
                position, f"rank {array.ndim} was fed, rank {node.ndim} is expected: {show_shape(array.shape)}", None
            )
        if not all(map(same_size, array.shape, node.type.shape)):
            raise self._refused(
                position, f"shape {show_shape(array.shape)} was fed, {show_shape(node.type.shape)} is expected", None
            )
        return array if array.dtype is self.dtypes[position] else array.astype(self.dtypes[position])

    def _refused(self, position: int, message: str, hint: str | None) -> FeedError:
        return FeedError(message, hint=hint).at(  # type: ignore[return-value]
            "function call", [f"input {position}: {self.shown[position]}"]
        )


def _to_array(value: Any) -> np.ndarray[Any, Any] | None:
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        return None


def value_for(variable: Variable, value: Any, node: Node) -> np.ndarray[Any, Any]:
    """A new value of a variable in its dtype. Raises UpdateError if its size, unknown until now, does not fit."""
    if value.shape != variable.type.shape:
        raise UpdateError(
            f"the new value of {variable.name!r} has shape {show_shape(value.shape)}, not {show_shape(variable.type.shape)}"
        ).at("function call", [f"new value: {describe(node)}"], str(node.origin))
    return value


@contextmanager
def all_held(locks: Sequence[Any]) -> Any:
    """Many locks at once, in the order given."""
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        yield


def functional_call(
    program: Callable[..., Any],
    feeds: Feeds,
    arguments: Sequence[Any],
    written: Sequence[tuple[Variable, Node]],
    outputs: int,
) -> Callable[..., list[Any]]:
    """The caller of a program that is a pure function.

    Args:
      arguments: what each argument of the program is: the number of a fed value, a Stream, a Variable, or an array.
      written: the variables that are updated, with the nodes of their new values.
      outputs: how many of the program's results are outputs; the rest are new values.
    """
    variables = sorted({a for a in arguments if isinstance(a, Variable)} | {v for v, _ in written}, key=lambda v: v.number)
    space: dict[str, Any] = {
        "ndarray": np.ndarray,
        "admit": feeds.admit,
        "seen": feeds.seen,
        "program": program,
        "value_for": value_for,
    }
    number = {variable: i for i, variable in enumerate(variables)}
    for variable, i in number.items():
        space[f"s{i}"], space[f"l{i}"] = variable, variable.lock
    passed = []
    for i, argument in enumerate(arguments):
        if isinstance(argument, Variable):
            passed.append(f"w{number[argument]}")
        elif isinstance(argument, Stream):
            space[f"key{i}"] = argument.next_key
            passed.append(f"key{i}()")
        elif isinstance(argument, int):
            passed.append(f"v{argument}")
        else:
            space[f"c{i}"] = argument
            passed.append(f"c{i}")
    for i, dtype in enumerate(feeds.dtypes):
        space[f"d{i}"] = dtype
    loose = []
    for i, (variable, node) in enumerate(written):
        if not node.type.is_static:
            loose.append((i, number[variable]))
            space[f"u{i}"] = node
    text = _call_text(
        len(feeds.nodes), tuple(passed), tuple(number[a] for a in dict.fromkeys(arguments) if isinstance(a, Variable)),
        tuple(number[v] for v, _ in written), tuple(loose), outputs, len(variables),
    )  # fmt: skip
    if len(variables) > MOST_LOCKS:
        space["held"], space["locks"] = all_held, [variable.lock for variable in variables]
    exec(_compiled(text), space)  # the text is made of numbers alone
    return space.pop("call")  # its globals do not name it: no cycle keeps the graph alive


def _call_text(
    fed: int,
    passed: Sequence[str],
    read: Sequence[int],
    written: Sequence[int],
    loose: Sequence[tuple[int, int]],
    outputs: int,
    locks: int,
) -> str:
    values = [f"v{i}" for i in range(fed)]
    lines = [f"def call({', '.join(values)}):"]
    if fed:
        classes = " and ".join(f"{v}.__class__ is ndarray and {v}.dtype is d{i}" for i, v in enumerate(values))
        shapes = f"({', '.join(f'{v}.shape' for v in values)})" if fed > 1 else "v0.shape"
        lines += [
            f"    if not ({classes} and {shapes} in seen):",
            f"        {', '.join(values)}, = admit(({', '.join(values)},))",
        ]
    pad = "    "
    if locks:
        held = "held(locks)" if locks > MOST_LOCKS else ", ".join(f"l{i}" for i in range(locks))
        lines.append(f"    with {held}:")
        pad = "        "
        for i in read:
            lines += [f"{pad}w{i} = s{i}.host", f"{pad}if w{i} is None: w{i} = s{i}.get()"]
        if not written:
            pad = "    "  # a reader has its snapshot and lets go
    results = [f"r{i}" for i in range(outputs)] + [f"n{i}" for i in range(len(written))]
    taken = ", ".join(results) + "," if results else "_"
    lines.append(f"{pad}{taken} = program({', '.join(passed)})")
    for i, s in loose:
        lines.append(f"{pad}n{i} = value_for(s{s}, n{i}, u{i})")
    # Nothing between these statements can be interrupted by a signal or another thread: they make no calls.
    for i, s in enumerate(written):
        lines += [f"{pad}s{s}.host = n{i}", f"{pad}s{s}.version += 1"]
    lines.append(f"    return [{', '.join(results[:outputs])}]")
    return "\n".join(lines)


@lru_cache(maxsize=1024)
def _compiled(text: str) -> CodeType:
    return compile(text, "<kgraph call>", "exec")


def stateful_call(
    program: Callable[..., Any],
    feeds: Feeds,
    arguments: Sequence[Any],
    written: Mapping[Variable, None],
    engine: Any,
    outputs: int,
) -> Callable[..., list[Any]]:
    """The caller of a program that keeps variables in storage of the engine's own.

    Args:
      arguments: as for `functional_call`, variables included; the program is called without those.
    """
    variables = sorted({a for a in arguments if isinstance(a, Variable)} | set(written), key=lambda v: v.number)
    locks = [variable.lock for variable in variables]

    def call(*values: Any) -> list[Any]:
        admitted = feeds.admit(values)
        given = [
            admitted[a] if isinstance(a, int) else a.next_key() if isinstance(a, Stream) else a
            for a in arguments
            if not isinstance(a, Variable)
        ]
        with all_held(locks):
            storages = {variable: variable.storage(engine) for variable in variables}
            results = list(program(*given))
            for variable in written:
                variable.wrote(engine, storages[variable])
        return results[:outputs]

    return call


def fits(shape: Shape, wanted: Shape) -> bool:
    """Whether a value of a shape may be the new value of a variable."""
    return len(shape) == len(wanted) and all(map(same_size, shape, wanted))

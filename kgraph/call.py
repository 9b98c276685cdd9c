"""The call of a compiled function: values in, a program, variables out. What can be decided before is decided before.

The text of each caller is written for its function: which values are fed, which variables are read and written. The first
call with a set of sizes goes through `Feeds.admit`, which checks everything; the next ones compare and go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from kgraph.errors import FeedError
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin
from kgraph.ir.sizes import SizeCheck
from kgraph.ir.stream import Stream
from kgraph.ir.traverse import toposort
from kgraph.ir.types import Shape, numpy_dtype, same_size, show_shape
from kgraph.lower.engine import Engine
from kgraph.lower.variable import Variable, locks_of, value_for
from kgraph.quiet import quietly

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
      made: where the function was made.
    """

    def __init__(self, nodes: Sequence[Node], roots: Sequence[Node], shown: Sequence[str], made: Origin):
        self.nodes, self.shown, self._roots, self._made = nodes, shown, roots, made
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
        array = value if value.__class__ is np.ndarray else _to_array(value)
        if array is None or array.dtype.kind not in "biuf":
            hint = "give a bool, integer or float array, number or list of numbers"
            if isinstance(value, Operators):
                hint = "give an array: K.eval gives the value of a tensor that needs no placeholder"
            raise self._refused(position, f"{_came(value, array)} cannot be fed", hint)
        wanted = node.type.shape
        if array.ndim != node.ndim:
            message = f"rank {array.ndim} was fed, rank {node.ndim} is expected: {show_shape(array.shape)}"
            one = fits(array.shape, wanted[1:])
            raise self._refused(position, message, "the first axis is missing; feed one sample as [sample]" if one else None)
        if not fits(array.shape, wanted):
            raise self._refused(position, f"shape {show_shape(array.shape)} was fed, {show_shape(wanted)} is expected", None)
        if array.dtype is self.dtypes[position]:
            return array
        return _cast(array, self.dtypes[position])

    def _refused(self, position: int, message: str, hint: str | None) -> FeedError:
        return refused(message, self._made, [f"input {position}: {self.shown[position]}"], hint)


@quietly
def _cast(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    return array.astype(dtype)


def refused(message: str, made: Origin, operands: Sequence[str] = (), hint: str | None = None) -> FeedError:
    """The error of a call of the function that was made at an origin."""
    error = FeedError(message, hint=hint)
    error.at("function call", operands, f"{made} (the function)")
    return error


def _to_array(value: Any) -> np.ndarray[Any, Any] | None:
    if hasattr(value, "tocoo"):  # a scipy sparse matrix
        value = value.toarray()
    try:
        return np.asarray(value)  # a subclass too becomes a plain array: to a program `*` is element by element
    except (ValueError, TypeError):
        return None


def _came(value: Any, array: np.ndarray[Any, Any] | None) -> str:
    """What was fed, for a message."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    if isinstance(value, Operators):
        return "a symbolic tensor"
    if array is None:
        return f"a {type(value).__name__} whose parts differ in length"
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"


def holding(locks: Sequence[Any], run: Callable[[], Any]) -> Any:
    """What run returns, called with all of the locks held, taken in the order given."""
    # Only a ``with`` over the lock itself lets go of it wherever Ctrl-C comes; so there is no loop, and no ExitStack.
    if len(locks) < MOST_LOCKS:
        if not locks:
            return run()
        with locks[0]:
            return holding(locks[1:], run)
    with (
        locks[0], locks[1], locks[2], locks[3], locks[4], locks[5], locks[6], locks[7],
        locks[8], locks[9], locks[10], locks[11], locks[12], locks[13], locks[14], locks[15],
    ):  # fmt: skip
        return holding(locks[MOST_LOCKS:], run)


class Caller:
    """Where the call of one function gets its values, and where it puts them.

    Args:
      feeds: of the function.
      arguments: what each input of the graph is: the number of a fed value, a Stream, a Variable, or an array.
      written: the variables that are updated, with the nodes of their new values.
      outputs: how many of the roots are outputs; the rest are new values.
    """

    def __init__(self, feeds: Feeds, arguments: Sequence[Any], written: Sequence[tuple[Variable, Node]], outputs: int):
        self.feeds, self.arguments, self.written, self.outputs = feeds, arguments, written, outputs
        self.read = list(dict.fromkeys(a for a in arguments if isinstance(a, Variable)))
        self.variables = sorted({*self.read, *(variable for variable, _ in written)}, key=lambda v: v.number)

    def make(
        self, program: Callable[..., Any], engine: Engine, rebind: Callable[..., Any] | None = None
    ) -> Callable[..., list[Any]]:
        """The function to call: values in, outputs out.

        Args:
          program: takes the values of the inputs (all but variables, for a stateful engine), returns those of the roots (of
            the outputs, for a stateful engine).
          rebind: called with the same values when the engine's generation is no longer that of the program.
        """
        feeds, number = self.feeds, {variable: i for i, variable in enumerate(self.variables)}
        run = getattr(program, "call", program)
        space: dict[str, Any] = {"ndarray": np.ndarray, "admit": feeds.admit, "seen": feeds.seen, "program": run}
        space.update({f"d{i}": dtype for i, dtype in enumerate(feeds.dtypes)})
        for variable, i in number.items():
            space[f"s{i}"] = variable
            if not engine.on_host:
                space[f"c{i}"] = variable.copy_in(engine)
        passed = []
        for i, argument in enumerate(self.arguments):
            if isinstance(argument, Variable):
                if not engine.stateful:
                    passed.append(f"w{number[argument]}")
            elif isinstance(argument, Stream):
                space[f"key{i}"] = argument.next_key
                passed.append(f"key{i}()")
            elif isinstance(argument, int):
                passed.append(f"v{argument}")
            else:
                space[f"k{i}"] = argument
                passed.append(f"k{i}")
        loose = []
        for i, (variable, node) in enumerate(self.written):
            if not node.type.is_static and not engine.stateful:
                loose.append((i, number[variable]))
                space[f"u{i}"] = node
        kind = "stateful" if engine.stateful else "host" if engine.on_host else "device"
        locks = locks_of(self.variables)
        space.update({f"l{i}": lock for i, lock in enumerate(locks[:MOST_LOCKS])})
        text = _call_text(
            kind, len(feeds.nodes), tuple(passed), tuple(number[v] for v in (self.variables if engine.stateful else self.read)),
            tuple(number[v] for v, _ in self.written), tuple(loose), self.outputs, len(locks),
        )  # fmt: skip
        space.update(
            value_for=value_for, holding=holding, locks=locks, to_host=engine.to_host,
            engine=engine, generation=getattr(program, "generation", engine.generation), rebind=rebind,
        )  # fmt: skip
        exec(_compiled(text), space)  # the text is made of numbers alone
        return space.pop("call")  # its globals do not name it: no cycle keeps the graph alive


def _call_text(
    kind: str, fed: int, passed: Sequence[str], read: Sequence[int], written: Sequence[int], loose: Sequence[tuple[int, int]],
    outputs: int, locks: int,
) -> str:  # fmt: skip
    """The text of a caller. A variable's value is a host array, or in the engine's storage; and the engine may be stateful."""
    values = [f"v{i}" for i in range(fed)]
    lines = [f"def call({', '.join(values)}):"]
    if fed:
        classes = " and ".join(f"{v}.__class__ is ndarray and {v}.dtype is d{i}" for i, v in enumerate(values))
        shapes = f"({', '.join(f'{v}.shape' for v in values)})" if fed > 1 else "v0.shape"
        lines += [
            f"    if not ({classes} and {shapes} in seen):",
            f"        {', '.join(values)}, = admit(({', '.join(values)},))",
        ]
    reads = []
    for i in read:
        if kind == "host":
            reads += [f"w{i} = s{i}.host", f"if w{i} is None: w{i} = s{i}.get()"]
        else:
            reads.append(f"if c{i}.version != s{i}.version: s{i}.refresh(c{i})")
            if kind == "device":
                reads.append(f"w{i} = c{i}.storage")
    news = [] if kind == "stateful" else [f"n{i}" for i in range(len(written))]
    results = [f"r{i}" for i in range(outputs)]
    call = [f"{_list(results + news)} = program({', '.join(passed)})"]
    call += [f"n{i} = value_for(s{s}, n{i}, u{i})" for i, s in loose]
    # Nothing between the statements of a commit can be interrupted by a signal or another thread: they make no calls.
    commit = []
    for i, s in enumerate(written):
        if kind == "host":
            commit += [f"s{s}.host = n{i}", f"s{s}.version += 1"]
        else:
            commit += [f"c{s}.storage = n{i}"] if kind == "device" else []
            commit += [f"s{s}.version += 1", f"c{s}.version = s{s}.version", f"s{s}.newest = c{s}", f"s{s}.host = None"]
    back = [f"return [{', '.join([f'to_host({r})' if kind == 'device' else r for r in results])}]"]
    # What is done while the locks are held, the names that it leaves, and what is done after that.
    if kind == "stateful":
        # A stateful program has written when it returns, and nothing when it raises: its storage is the newest either way.
        # The generation is asked within the locks: what holds the lock of a variable keeps it from moving to the next one.
        inside = ["if engine.generation == generation:", *_indented([*reads, *commit, *call, *back])]
        left, after = [], [f"return rebind({', '.join(values)})"]
    elif written:
        inside, left, after = [*reads, *call, *commit], results, back
    else:
        inside, left, after = reads, [f"w{i}" for i in read], [*call, *back]  # a reader has its snapshot and lets go
    if not locks:
        lines += _indented([*inside, *after])
    elif locks <= MOST_LOCKS:
        lines += _indented([f"with {', '.join(f'l{i}' for i in range(locks))}:", *_indented(inside), *after])
    elif kind == "stateful":
        inside = ["def within():", *_indented(inside), "found = holding(locks, within)", "if found is not None: return found"]
        lines += _indented([*inside, *after])
    else:
        inside = ["def within():", *_indented([*inside, f"return [{', '.join(left)}]"])]
        lines += _indented([*inside, f"{_list(left)} = holding(locks, within)", *after])
    return "\n".join(lines)


def _list(names: Sequence[str]) -> str:
    """What names are assigned to together; a list of none is kept."""
    return ", ".join(names) + "," if names else "_"


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


@lru_cache(maxsize=1024)
def _compiled(text: str) -> CodeType:
    return compile(text, "<kgraph call>", "exec")


def fits(shape: Shape, wanted: Shape) -> bool:
    """Whether a value of a shape may be the new value of a variable."""
    return len(shape) == len(wanted) and all(map(same_size, shape, wanted))

"""Making a program of a graph: its ops, in the graph of a generation, and the call that runs them."""

from __future__ import annotations

import re
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

import kgraph.ir.ops as o
from kgraph.ir.node import Constant, Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.sizes import loose_parameters, sized_by_values
from kgraph.ir.traverse import toposort
from kgraph.lower.tensorflow.checks import Book, Path, failed, require, shown_row, stop_unless, writing
from kgraph.lower.tensorflow.loops import scan
from kgraph.lower.tensorflow.memory import Memory, apart
from kgraph.lower.tensorflow.rules import RULES
from kgraph.lower.tensorflow.session import Home, Storage, closed, v1
from kgraph.lower.variable import misfit

#: Bytes from which on a constant is held as a variable is.
LARGE = 2**16

#: Nodes up to which a program runs in the thread of its caller, without TensorFlow's own between its ops.
SMALL = 200


class Program:
    """The program of one function.

    Args:
      home: the generation; its storages are those of the variables.
      xla: whether XLA compiles it, for each set of sizes.

    Attributes:
      call: takes the values of placeholders and streams, returns those of the outputs.
      generation: the number of the generation.
      forget: drops the program, whose function makes another one at its next call.
      traced: makes a call that notes the time of each op.
    """

    forget: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, home: Home, graph: Graph, storages: Mapping[Node, Storage], xla: bool):
        self.generation = home.number
        self._session = home.session
        self._updates = [(variable.attr("uid"), value) for variable, value in graph.updates]
        nodes = list(_all_nodes(graph))
        lacking = [what for op, what in _NOT_IN_XLA.items() if any(node.op is op for node in nodes)] if xla else []
        if lacking:
            warnings.warn(f"K.function: XLA cannot {lacking[0]}, so that this function is run without it", stacklevel=2)
            xla = False
        self._book = Book(flagged=xla)
        memory = Memory(graph)
        constants = {value: home.constant(value) for value in _large_constants(nodes)}
        self._constants = list(constants.values())
        with home.graph.as_default(), tf.control_dependencies(None), tf.name_scope("kgraph/"):
            home.place([(node.name or "variable", storages[node]) for node in storages])
            home.place([("constant", storage) for storage in self._constants])
            before = home.ops
            home.hidden += len(nodes) if xla else len(nodes) - len(graph)
            try:
                with tf.name_scope("function"), writing(self._book):
                    reads = {value: storage.read() for value, storage in constants.items()}
                    feeds, fetches, targets = _Building(self._book, memory, reads).run(graph, storages, xla)
                make = partial(home.callable, feeds, fetches, targets, small=len(nodes) <= SMALL)
                run = make()
                self.traced = partial(make, trace=True)
            finally:
                weakref.finalize(self, home.gone.append, home.made_since(before)).atexit = False
        self.call = _caller(run, [memory.copied(node) for node in graph.outputs])

    def explain(self, error: Exception) -> tuple[Exception, Path]:
        """An error of the call as one of ours or of Python's, and where in the graph it arose; [] if that is not known."""
        if self._session._closed:
            return closed(), []
        if not isinstance(error, tf.errors.OpError):
            return error, []
        found = re.search(r"Shape of tensor \S+ (\S+) is not .*\{\{node \S*/fit(\d+)\}\}", error.message, re.DOTALL)
        if found is not None:
            return misfit(*self._updates[int(found[2])], found[1].replace(",", ", ")), []
        row = shown_row(error.message)
        if row is not None:
            return self._book.explain(row)
        message = error.message.split("\n")[0]
        places = re.findall(r"(?:^|/|\s)at(\d+)((?:-[a-z]+\d+)*)/", " ".join(re.findall(r"\{\{node (\S+?)\}\}", error.message)))
        path = []
        if places:
            first, rest = places[-1]
            path = [("", int(first)), *[(name, int(number)) for name, number in re.findall(r"-([a-z]+)(\d+)", rest)]]
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return MemoryError(message), path
        if isinstance(error, (tf.errors.OutOfRangeError, tf.errors.InvalidArgumentError)):
            return (IndexError if "out of bounds" in message else ValueError)(message), path
        return error, path


def _caller(run: Callable[..., Any], copied: Sequence[bool]) -> Callable[..., Any]:
    """The call, with those results copied that may be in memory which is not the caller's alone. Scalars become arrays."""
    array = np.array
    if not any(copied):
        return run
    if len(copied) == 1:
        return lambda *values: (array(run(*values)[0]),)
    if all(copied):
        return lambda *values: [array(result) for result in run(*values)]
    return lambda *values: [array(result) if copy else result for result, copy in zip(run(*values), copied, strict=True)]


class _Building:
    """The ops of one program.

    Args:
      constants: large constant -> the tensor of its value.
    """

    def __init__(self, book: Book, memory: Memory, constants: Mapping[Constant, Any]):
        self.book, self.memory, self.constants = book, memory, constants

    def run(self, graph: Graph, storages: Mapping[Node, Storage], xla: bool) -> tuple[list[Any], list[Any], list[Any]]:
        """Returns: the tensors that are fed, those that are fetched, the ops that are run besides."""
        values = [
            storages[node].read() if node.op is o.variable else v1.placeholder(node.dtype, node.type.shape)
            for node in graph.inputs
        ]
        results = self._compiled(graph, values) if xla else self.evaluate(graph, values)
        feeds = [value for node, value in zip(graph.inputs, values, strict=True) if node.op is not o.variable]
        given = set(map(id, feeds))
        fetches = []
        for node, value in zip(graph.outputs, results, strict=False):
            if not self.memory.copied(node):
                value = apart(value)
            # What is fed cannot be fetched.
            fetches.append(tf.identity(value) if id(value) in given else value)
        targets = self._updates(graph, values, results, storages) if graph.updates else []
        return feeds, fetches, targets

    def _updates(self, graph: Graph, reads: list[Any], results: list[Any], storages: Mapping[Node, Storage]) -> list[Any]:
        """The writes: after every read, every result and every check."""
        news = []
        for number, (variable, value) in enumerate(graph.updates):
            new = results[len(graph.outputs) + number]
            if not value.type.is_static:
                # Not an Assert: knowing the shape of the variable, TensorFlow takes the condition for true and leaves it out.
                new = tf.ensure_shape(new, variable.type.shape, name=f"fit{number}")
            if self.memory.may_be_fed(value):
                new = apart(new)
            news.append(new)
        before = [value.op for value in (*reads, *results, *news)]
        with tf.control_dependencies(before):
            return [storages[variable].assign(new) for (variable, _), new in zip(graph.updates, news, strict=True)]

    def _compiled(self, graph: Graph, values: list[Any]) -> list[Any]:
        """The results, by XLA; what has failed there ends the program here."""

        def body(*given: Any) -> list[Any]:
            results = self.evaluate(graph, given)
            return [*map(tf.identity, results), failed(self.book.flags or [])]

        *results, row = tf.function(body, autograph=False, jit_compile=True)(*values)
        with tf.control_dependencies([stop_unless(row[0] < 0, row)]):
            return [tf.identity(result) for result in results]

    def evaluate(self, graph: Graph, values: Sequence[Any], attr: str = "", known: Iterable[Node] = ()) -> list[Any]:
        """The tensors of the roots of a graph, or of a body that an attr of the node being built holds.

        Args:
          known: inputs whose sizes are computed from values.
        """
        order = toposort(graph.roots, stop=graph.inputs)
        loose = sized_by_values(order, known)
        env: dict[Node, Any] = dict(zip(graph.inputs, values, strict=True))
        outer = self.book.path
        for number, node in enumerate(order):
            if node in env:
                continue
            self.book.path = [*outer, (attr, number)]
            with tf.name_scope("at" + "-".join(f"{name}{at}" for name, at in self.book.path)):
                env[node] = self._value(node, [env[i] for i in node.inputs], loose)
        self.book.path = outer
        return [env[root] for root in graph.roots]

    def _value(self, node: Node, inputs: list[Any], loose: set[Node]) -> Any:
        if node.op is o.constant and node.attrs[0][1] in self.constants:
            return self.constants[node.attrs[0][1]]
        if node.op is o.item:
            return inputs[0][node.attr("index")]
        if node.op is o.cond:
            return self._cond(node, loose, *inputs)
        if node.op is o.scan:
            return scan(node, self.evaluate, self.book, inputs, loose)
        if any(i in loose for i in node.inputs):
            inputs = _with_sizes_checked(node, inputs)
        value = RULES[node.op](*inputs, **dict(node.attrs))
        if not node.type.is_static or value.shape.is_fully_defined():
            return value
        return tf.ensure_shape(value, node.type.shape) if self.book.flags is None else _shaped(value, node.type.shape)

    def _cond(self, node: Node, loose: set[Node], condition: Any, *captures: Any) -> Sequence[Any]:
        book = self.book
        flags = book.flags

        def side(name: str) -> Callable[[], list[Any]]:
            def run() -> list[Any]:
                book.flags = None if flags is None else []
                body: Graph = node.attr(name)
                try:
                    values = self.evaluate(body, captures, name, loose_parameters(node, body, loose))
                    results = [tf.identity(value) for value in values]
                    return results if book.flags is None else [*results, failed(book.flags)]
                finally:
                    book.flags = flags

            return run

        if flags is None:
            return tf.cond(condition, side("then"), side("orelse"))
        if all(type.is_static for type in node.type.items):  # type: ignore[attr-defined]
            *results, row = tf.cond(condition, side("then"), side("orelse"))
        else:
            # Both sides of a branch have the same sizes in XLA, which those of what is absent are not.
            then, orelse = side("then")(), side("orelse")()
            roots = zip(node.attr("then").outputs, node.attr("orelse").outputs, strict=True)
            absent = [0 if x.op is o.absent else 1 if y.op is o.absent else None for x, y in roots]
            *results, row = [
                tf.where(condition, x, y) if gone is None else (x, y)[1 - gone]
                for x, y, gone in zip(then, orelse, [*absent, None], strict=True)
            ]
        flags.append(row)
        return results


def _shaped(value: Any, shape: Sequence[int | None]) -> Any:
    value.set_shape(shape)
    return value


#: What XLA has no op for.
_NOT_IN_XLA: dict[Op, str] = {
    o.print_: "print",
    o.ctc_beam_search: "search",
}

#: Operands, by position, whose first axes have equal sizes, where kernels would take others too.
_ALIKE: dict[Op, Sequence[tuple[int, int]]] = {
    o.softmax_crossentropy: [(0, 1)],
    o.softmax_crossentropy_grad: [(0, 1), (1, 2)],
    o.linear_recurrence: [(0, 1)],
    o.pick: [(1, 0)],
    o.unpick: [(0, 1), (1, 2)],
    o.ctc_loss: [(2, 0), (3, 1), (3, 0)],
    o.ctc_posterior: [(2, 0), (3, 1), (3, 0)],
    o.ctc_tangent: [(0, 1), (3, 1), (4, 2), (4, 1)],
    o.ctc_beam_search: [(1, 0)],
}


def _with_sizes_checked(node: Node, values: list[Any]) -> list[Any]:
    """The operands, once the sizes that meet are known to agree: what is only known to the program is its business."""
    values = list(values)
    if node.op.broadcasts or node.op is o.matmul:
        for axis in range(-max(i.ndim for i in node.inputs), -2 if node.op is o.matmul else 0):
            meet = [v for i, v in zip(node.inputs, values, strict=True) if -axis <= i.ndim and i.type.shape[axis] != 1]
            for other in meet[1:]:
                sizes = [tf.shape(value, out_type=tf.int64)[axis] for value in (meet[0], other)]
                values[0] = require(values[0], tf.equal(*sizes), "sizes", axis, *sizes)
    elif node.op in _ALIKE:
        for one, other in _ALIKE[node.op]:
            for axis in range(node.inputs[one].ndim):
                sizes = [tf.shape(values[place], out_type=tf.int64)[axis] for place in (one, other)]
                values[one] = require(values[one], tf.equal(*sizes), "sizes", axis, *sizes)
    elif node.op in (o.max, o.min, o.argmax, o.argmin):
        axes = node.attr("axis")
        for axis in axes if isinstance(axes, tuple) else (axes,):
            size = tf.shape(values[0], out_type=tf.int64)[axis]
            values[0] = require(values[0], size > 0, "empty", axis)
    return values


def _all_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of its bodies."""
    stack = [graph]
    while stack:
        body = stack.pop()
        for node in toposort(body.roots, stop=body.inputs):
            yield node
            stack += [node.attr(name) for name in node.op.bodies]


def kinds_of(graph: Graph) -> set[Any]:
    """The ops of a graph with the dtypes that they are used for: what TensorFlow may have no kernel for."""
    return {(node.op.name, *[getattr(i.type, "dtype", "") for i in (node, *node.inputs)]) for node in _all_nodes(graph)}


def _large_constants(nodes: Iterable[Node]) -> list[Constant]:
    values = [node.attrs[0][1] for node in nodes if node.op is o.constant]
    return list(dict.fromkeys(value for value in values if value.array.nbytes >= LARGE))

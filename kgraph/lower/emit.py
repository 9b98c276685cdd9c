"""Writing a graph as Python source over NumPy: a statement per node, values freed after their last use.

A value that nothing else reads any more is written over in place. Source is cut into functions of about a thousand
statements, with names of their own, so that repeated parts of a graph have the same text and are compiled once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from types import CodeType, TracebackType
from typing import Any, Protocol

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Constant, Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.ops.index import HIGHEST
from kgraph.ir.places import Path
from kgraph.ir.sizes import loose_parameters, sizes_meet
from kgraph.ir.types import FLOATS
from kgraph.lower.plan import WHOLE_VIEWS, Plan, fits
from kgraph.lower.runtime import fitting, kept, same_sizes
from kgraph.quiet import quietly

#: Statements in one function.
CHUNK = 1000

_SYMBOLS = {o.add: "+", o.subtract: "-", o.multiply: "*", o.divide: "/", o.matmul: "@"}

#: Last axes for which a number is laid out as a row: NumPy vectorises the maximum of two arrays, and not that of an array and a
#: number, which takes three times as long.
_ROW = range(16, 4097)


def _spelled_transpose(node: Node, x: str) -> str:
    perm = node.attr("perm")
    return f"{x}.T" if perm == tuple(range(node.ndim))[::-1] else f"{x}.transpose({perm})"


def _spelled_cast(node: Node, x: str) -> str | None:
    if node.inputs[0].ndim:
        return f"{x}.astype({node.dtype!r})"
    return f"{node.dtype}({x})" if node.type.is_float else None  # to integers a number's own constructor refuses NaN


def _spelled_index(node: Node, x: str) -> str | None:
    numbers = node.attr("numbers")
    if None in numbers or not node.attr("form"):
        return None
    rest, entries = iter(numbers), []
    for letter in node.attr("form"):
        if letter == "s":
            start, stop, step = (next(rest) for _ in range(3))
            bounds = f"{start or ''}:{stop if stop != HIGHEST else ''}" if step == 1 else f"{start}:{stop}:{step}"
            entries.append(bounds)
        else:
            entries.append("None" if letter == "n" else str(next(rest)))
    return f"{x}[{', '.join(entries)}]"


#: Op -> how to write it shorter than as a call of its meaning, given the name of its first operand; None where there is no way.
_SPELLED: dict[Op, Callable[[Node, str], str | None]] = {
    o.transpose: _spelled_transpose,
    o.reshape: lambda node, x: None if None in node.attr("shape") else f"{x}.reshape({node.attr('shape')})",
    o.expand_dims: lambda node, x: f"{x}[{':, ' * node.attr('axis')}None]",
    o.cast: _spelled_cast,
    o.item: lambda node, x: f"{x}[{node.attr('index')}]",
    o.index: _spelled_index,
}

#: What statements may name besides the meanings of ops.
_SPACE = {"int": int, **{name: getattr(np, name) for name in ("array", "int32", *FLOATS)}}


class Watch(Protocol):
    """Who looks at a program while it runs. What it is given it may not keep: memory is freed, and written over, as ever."""

    def key(self, path: Path, node: Node) -> int:
        """The number that the program has for a node at a place; asked while the program is written."""

    def before(self, key: int, *operands: Any) -> None:
        """Called before the node is computed."""

    def after(self, key: int, result: Any) -> None:
        """Called when it is there, and what nobody needs any more is freed."""


class NumpyProgram:
    """The program of a graph.

    Called with the values of the graph's inputs it returns those of its roots, none of which shares memory with an input, a
    constant or another result.

    Args:
      quiet: without NumPy's warnings: NaN and infinity are values like any other here. The bodies of a program are called
        within its own quiet.
      handed_on: the results are those of a step, which may be in the memory of its operands: the loop copies what it keeps.
      loose: inputs whose sizes are computed from values.
      watch: is told of each node that is computed, for a program that is looked at while it runs.
      path: of the body whose program it is.

    Attributes:
      source: its text.
      call: the function itself.
    """

    def __init__(
        self, graph: Graph, quiet: bool = True, handed_on: bool = False, loose: Iterable[Node] = (),
        watch: Watch | None = None, path: Path = (("", -1),),
    ):  # fmt: skip
        plan = Plan(graph, handed_on, loose)
        bodies = {
            (number, name): NumpyProgram(
                body,
                quiet=False,
                handed_on=node.op is o.scan,
                loose=loose_parameters(node, body, plan.loose),
                watch=watch,
                path=(*_numbered(path, number), (name, -1)),
            )
            for number, node in enumerate(plan.order)
            if plan.needs_statement(node)
            for name in node.op.bodies
            for body in [node.attr(name)]
        }
        count = len(plan.order)
        self._bodies = bodies
        self._chunks = [_Chunk(plan, bodies, start, start + CHUNK, watch, path) for start in range(0, max(count, 1), CHUNK)]
        call = self._chunks[0].function if count <= CHUNK else _driver(plan, self._chunks)
        self.call: Any = quietly(call) if quiet else call
        self.call.types = [root.type for root in graph.roots]
        for chunk in self._chunks:
            chunk.forget()
        self.source: str = "\n\n".join([chunk.text for chunk in self._chunks] + [body.source for body in bodies.values()])

    def __call__(self, *values: Any) -> Sequence[Any]:
        return self.call(*values)

    def locate(self, trace: TracebackType | None) -> list[tuple[str, int]]:
        """Where in the graph an exception arose, from the outermost body to the innermost: the attr that holds the body ("" for
        the graph itself), and the number of the node in its order. Empty if it arose elsewhere."""
        found: list[tuple[str, int]] = []
        expected = {"": self}
        running: _Chunk | None = None
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_name == "run_chunks":
                running = trace.tb_frame.f_locals["chunk"]
            for attr, program in expected.items():
                chunk = running or program._chunks[0]
                if code is chunk.code:
                    number = chunk.numbers[trace.tb_lineno - 1]
                    found.append((attr, number))
                    expected = {name: body for (n, name), body in program._bodies.items() if n == number}
                    running = None
                    break
            trace = trace.tb_next
        return found


def _numbered(path: Path, number: int) -> Path:
    """The path of the node of a number in the body of a path."""
    return (*path[:-1], (path[-1][0], number))


def _is_number(node: Node) -> bool:
    """Whether a node is a constant number other than NaN, which Python compares with others as NumPy does."""
    return node.op is o.constant and not node.ndim and bool(node.attrs[0][1].array == node.attrs[0][1].array)


def _all_fit(operands: Sequence[Node], result: Node) -> bool:
    return all(fits(operand, result) for operand in operands)


class _Chunk:
    """One function: the statements of the nodes from start to stop.

    Attributes:
      takes: the values that it is called with, in order.
      gives: the values that it returns for later chunks; the last chunk returns the results of the program instead.
      numbers: line, from 0 -> number of the node.
    """

    def __init__(
        self, plan: Plan, bodies: dict[tuple[int, str], NumpyProgram], start: int, stop: int, watch: Watch | None, path: Path
    ):
        self.plan, self.bodies, self.start, self.stop, self.watch, self.path = plan, bodies, start, stop, watch, path
        self.last = stop >= len(plan.order)
        self.names: dict[Node, str] = {}
        self.space: dict[str, Any] = {**_SPACE, "same_sizes": same_sizes, "fitting": fitting, "kept": kept}
        if watch is not None:
            self.space.update(_before=watch.before, _after=watch.after)
        self._spare: list[str] = []
        self._fixed: dict[Any, str] = {}
        self._count = 0
        nodes = [node for node in plan.order[start:stop] if plan.needs_statement(node)]
        self.takes = self._taken(nodes)
        self.names.update({value: f"a{i}" for i, value in enumerate(self.takes)})
        end = len(plan.order)
        self.gives = (
            [] if self.last else [node for node in nodes if plan.last_use.get(node, -1) >= stop and node.op is not o.constant]
        )
        lines, self.numbers = [f"def program({', '.join(self.names.values())}):"], [start]
        indent = "    "
        for node in nodes:
            if not plan.is_constant(node):
                number = plan.number[node]
                for line in self._statement(number, node):
                    lines.append(indent + line)
                    self.numbers.append(number)
        returned = self._results() if self.last else [self.names[node] for node in self.gives]
        lines.append(f"{indent}return ({', '.join(returned)}{',' if len(returned) == 1 else ''})")
        self.numbers.append(min(stop, end) - 1)
        self.text = "\n".join(lines)
        self.code = _compiled(self.text)
        space: dict[str, Any] = {"__builtins__": {}, **self.space}
        exec(self.code, space)  # defines the function: the text is ours, made of op names and numbers
        self.function = space.pop("program")  # its globals do not name it: no cycle keeps the constants alive
        self.code = self.function.__code__

    def forget(self) -> None:
        """Let go of the graph: the program outlives the function that it was made for."""
        del self.watch, self.plan, self.bodies, self.takes, self.gives, self.names, self.space, self._fixed, self._spare

    def _taken(self, nodes: Sequence[Node]) -> list[Node]:
        if self.start == 0 and self.last:
            return list(self.plan.graph.inputs)
        inside = set(nodes)
        read = [value for node in nodes for value in self.plan.read_by(node)]
        if self.last:
            read += [self.plan.value(root) for root in self.plan.graph.roots]
        return list(dict.fromkeys(value for value in read if value not in inside and not self.plan.is_constant(value)))

    # ------------------------------------------------------------------------------------------------ statements

    def _statement(self, number: int, node: Node) -> list[str]:
        plan = self.plan
        values = plan.read_by(node)
        operands = [self._name(value, node) for value in values]
        dying = [v for v in dict.fromkeys(values) if plan.last_use[v] == number and self.names.get(v, "a").startswith("v")]
        lines = []
        if sizes_meet(node) and any(v in plan.loose for v in values):
            if node.op.broadcasts:
                shapes = self._fix(tuple(v.type.shape for v in values))
                lines.append(f"same_sizes({shapes}, {', '.join(operands)})")
            else:
                lines.append(f"fitting({self._fix((node.op.type_rule, node.attrs))}, {', '.join(operands)})")
        if node.op is o.cond:
            target = self._target(node, dying)
            for word, name in (("if " + operands[0], "then"), ("else", "orelse")):
                body = self._fix(self.bodies[number, name].call)
                lines += [f"{word}:", f"    {target} = {body}({', '.join(operands[1:])})"]
        else:
            if node.op is o.scan:
                keywords = ", ".join(f"{name}={node.attr(name)}" for name in ("sequences", "states", "reverse"))
                body = self._fix(self.bodies[number, "body"].call)
                expression = f"{self._function(o.scan)}({', '.join(operands)}, body={body}, {keywords})"
            else:
                expression = self._expression(number, node, operands)
            target = self._target(node, dying)
            lines.append(f"{target} = {expression}")
        dead = [self.names.pop(value) for value in dying]
        self._spare += [name for name in dead if name != target]
        if dead := [name for name in dead if name != target]:
            lines.append(f"del {', '.join(dead)}")
        if self.watch is not None:
            key = self.watch.key(_numbered(self.path, number), node)
            lines = [f"_before({', '.join([str(key), *operands])})", *lines, f"_after({key}, {target})"]
        self.names[node] = target
        if node not in plan.last_use:  # an effect whose result nobody reads
            self._spare.append(self.names.pop(node))
        return lines

    def _target(self, node: Node, dying: Sequence[Node]) -> str:
        """A name for the result: that of an operand that dies here, one that is free, or a new one."""
        if dying:
            return self.names[dying[0]]
        if self._spare:
            return self._spare.pop()
        self._count += 1
        return f"v{self._count - 1}"

    def _expression(self, number: int, node: Node, operands: list[str]) -> str:
        op = node.op
        over = next((operands[i] for i in range(len(operands)) if node.ndim and self.plan.may_overwrite(number, i)), None)
        if op is o.relu and node.ndim and node.type.shape[-1] in _ROW:
            op, operands = o.maximum, [*operands, self._row(o.scalar(0, node.dtype), node)]
        if op is o.where and node.ndim and node.inputs[2] is o.scalar(0.0, node.dtype) and _all_fit(node.inputs[:2], node):
            return f"kept({operands[0]}, {operands[1]})"
        if isinstance(op.numpy, np.ufunc) and op is not o.matmul and over:
            # By name: NumPy 2.4 warns of a third operand of maximum and minimum.
            return f"{self._function(op)}({', '.join([*operands, f'out={over}' if op in (o.maximum, o.minimum) else over])})"
        if op in (o.maximum, o.minimum) and not node.ndim and _is_number(node.inputs[1]):
            return f"{operands[1]} if {operands[0]} {'<' if op is o.maximum else '>'} {operands[1]} else {operands[0]}"
        if op is o.power and not node.ndim:
            return f"{operands[0]}[()] ** {operands[1]}[()]"  # of numbers, as it is meant; of arrays it is another function
        if op in _SYMBOLS:
            return f"{operands[0]} {_SYMBOLS[op]} {operands[1]}"
        if op is o.size and len(node.attr("axes")) == 1:
            size = f"{operands[0]}.shape[{node.attr('axes')[0]}]"
            return size if node in self.plan.counts else f"int32({size})"
        if op in _SPELLED and (spelled := _SPELLED[op](node, operands[0])):
            return spelled
        if op is o.sum and node.type.is_float and node.inputs[0].ndim:
            axis = node.attr("axis")
            self.space["add_reduce"] = np.add.reduce
            return f"add_reduce({operands[0]}, {axis[0] if len(axis) == 1 else axis}, None, None, {node.attr('keepdims')})"
        attrs = {name: self._fix(value) for name, value in node.attrs}
        if op.sized is not None and (unknown := node.attr(op.sized).count(None)):
            operands, sizes = operands[:-unknown], iter(operands[-unknown:])
            entries = [f"int({next(sizes)})" if entry is None else repr(entry) for entry in node.attr(op.sized)]
            attrs[op.sized] = f"({', '.join(entries)},)"
        return f"{self._function(op)}({', '.join([*operands, *[f'{name}={value}' for name, value in attrs.items()]])})"

    def _results(self) -> list[str]:
        """The expressions of the results: a copy where another result, an input or a constant has the same memory."""
        taken: set[Node] = set()
        found = []
        for root in self.plan.graph.roots:
            value = self.plan.value(root)
            owners = self.plan.owners[value]
            own = (
                value.ndim > 0
                and not any(owner in taken or owner in self.plan.given or owner.op is o.constant for owner in owners)
                and (owners == (value,) or value.op in WHOLE_VIEWS)
                and owners != ()
            )
            stretched = root is not value and not fits(value, root)
            taken.update(owners)
            own = own or self.plan.handed_on
            found.append(self._name(value) if own and not stretched else f"array({self._name(value)})")
        return found

    # ------------------------------------------------------------------------------------------------ names

    def _name(self, value: Node, user: Node | None = None) -> str:
        short = None
        if user is not None and isinstance(user.op.numpy, np.ufunc) and not value.ndim:
            short = self._number(value, user)
        return short or (self._fix(value.attrs[0][1]) if self.plan.is_constant(value) else self.names[value])

    def _number(self, value: Node, user: Node) -> str | None:
        """What arithmetic reads in place of an array of no axes, where that is quicker."""
        constant = value.attrs[0][1] if self.plan.is_constant(value) else None
        if not user.ndim:  # NumPy is quickest with two numbers, and with an array of no axes and one that has some
            if constant is not None:
                return self._made((constant, "number"), lambda: constant.array[()])
            return f"{self.names[value]}[()]" if value in self.plan.given else None
        row = constant is not None and user.op in (o.maximum, o.minimum) and user.type.shape[-1] in _ROW
        return self._row(value, user) if row else None

    def _row(self, number: Node, user: Node) -> str:
        """A constant number, as often as the last axis of its user is long."""
        constant, size = number.attrs[0][1], user.type.shape[-1]
        return self._made((constant, size), lambda: np.full(size, constant.array))

    def _function(self, op: Any) -> str:
        self.space[op.name] = op.numpy
        return op.name

    def _fix(self, value: Any) -> str:
        """The spelling of an attr; a name for what has none."""
        if (
            value is None
            or type(value) in (bool, int, str)
            or (type(value) is tuple and all(type(v) in (bool, int, str, type(None)) for v in value))
        ):
            return repr(value)
        return self._made(value, lambda: value.array if isinstance(value, Constant) else value)

    def _made(self, key: Any, make: Callable[[], Any]) -> str:
        """The name of something that is made once."""
        name = self._fixed.get(key)
        if name is None:
            name = self._fixed[key] = f"c{len(self._fixed)}"
            self.space[name] = make()
        return name


def _driver(plan: Plan, chunks: Sequence[_Chunk]) -> Any:
    """The function that runs one chunk after another; values that they share are kept in slots between them."""
    slots: dict[Node, int] = {node: i for i, node in enumerate(plan.graph.inputs)}
    for chunk in chunks:
        for value in chunk.gives:
            slots[value] = len(slots)
    ends: dict[int, list[int]] = {}
    for value, slot in slots.items():
        ends.setdefault(min(plan.last_use.get(value, 0), len(plan.order) - 1) // CHUNK, []).append(slot)
    rows = [
        (chunk, chunk.function, [slots[v] for v in chunk.takes], [slots[v] for v in chunk.gives], ends.get(i, []))
        for i, chunk in enumerate(chunks)
    ]
    count = len(slots)

    def run_chunks(*values: Any) -> Sequence[Any]:
        env: list[Any] = [*values, *([None] * (count - len(values)))]
        del values
        results: Sequence[Any] = ()
        for chunk, function, takes, gives, dead in rows:  # noqa: B007  # locate reads chunk from the frame
            results = function(*[env[i] for i in takes])
            for i, value in zip(gives, results, strict=False):
                env[i] = value
            for i in dead:
                env[i] = None
        return results

    return run_chunks


@lru_cache(maxsize=256)
def _compiled(text: str) -> CodeType:
    return compile(text, "<kgraph program>", "exec")

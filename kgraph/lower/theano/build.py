"""A graph as Theano variables: the rules, op after op, with the bodies of branches in line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import theano.tensor as T
from theano.ifelse import IfElse

import kgraph.ir.ops as o
from kgraph.ir.listing import is_large
from kgraph.ir.node import Constant, Graph, Node
from kgraph.ir.sizes import loose_parameters, sized_by_values, sizes_meet
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType, merge_size
from kgraph.lower.theano.host import NumpyOp, broadcasting, pattern
from kgraph.lower.theano.loops import LoopOp
from kgraph.lower.theano.rules import RULES, by_numpy

#: Where a node is, from the outermost body to the innermost: the attr that holds the body, and the number of the node in it.
Path = tuple[tuple[str, int], ...]

_PLACES = "kgraph"  # stands for the name of a file in the traces that Theano hands on from what it rewrites

#: They move values of any dtype.
_ANY_DTYPE = {
    o.constant,
    o.absent,
    o.identity,
    o.stop_gradient,
    o.reshape,
    o.transpose,
    o.expand_dims,
    o.squeeze,
    o.shape,
    o.size,
}


def variable_for(type: TensorType, name: str) -> Any:
    """A Theano variable of a type."""
    made = T.TensorType(type.dtype, pattern(type))(name)
    made.tag.shape = type.shape
    return made


class Builder:
    """What a graph becomes.

    Args:
      given: the nodes that have values, with their variables.
      compile: what makes a program of the body of a loop, some inputs of which have sizes that are computed from values.

    Attributes:
      bodies: the programs of the bodies of loops.
      loops: where these loops are.
      large: constants that are inputs of the program: in the graph Theano would read them again and again.
      lazy: a branch has been built.
      places: the paths that the traces of variables name by number.
    """

    def __init__(self, given: Mapping[Node, Any], compile: Callable[[Graph, set[Node]], Any]):
        self.given, self._compile = given, compile
        self.bodies: list[Any] = []
        self.loops: list[Path] = []
        self.large: dict[Constant, Any] = {}
        self.places: list[Path] = []
        self.lazy = False

    def build(self, graph: Graph, known: Iterable[Node] = ()) -> list[Any]:
        """The values of the graph's roots.

        Args:
          known: inputs whose sizes are computed from values.
        """
        return self._body(graph, dict(self.given), (), "", known)

    def _body(self, graph: Graph, env: dict[Node, Any], outer: Path, attr: str, known: Iterable[Node]) -> list[Any]:
        order = toposort(graph.roots, stop=graph.inputs)
        loose = sized_by_values(order, known)
        for number, node in enumerate(order):
            if node in env:
                continue
            path = (*outer, (attr, number))
            values = [env[i] for i in node.inputs]
            if node.op is o.cond:
                env[node] = self._cond(node, values, path, loose)
            elif node.op is o.scan:
                env[node] = self._scan(node, values, path, loose)
            elif node.op is o.item:
                env[node] = values[0][node.attr("index")]
            else:
                check = sizes_meet(node) and any(i in loose for i in node.inputs)
                made = _conformed(self._value(node, values, check), node.type)
                self._mark(made, path, values)
                env[node] = made
        return [env[root] for root in graph.roots]

    def _value(self, node: Node, values: Sequence[Any], check: bool) -> Any:
        op = node.op
        if op is o.constant and is_large(node.attrs[0][1]):
            value: Constant = node.attrs[0][1]
            return self.large.setdefault(value, variable_for(node.type, "constant"))
        if op is o.switch:
            self.lazy = True
            sides = [_conformed(value, node.type) for value in values[1:]]
            return IfElse(1)(values[0], *sides)
        if op is o.matmul and node.ndim == 2 and node.dtype in ("float32", "float64"):
            return T.dot(*values)
        rule = RULES[op]
        # Theano's C code leaves float16 to Python, scalar by scalar.
        halves = op not in _ANY_DTYPE and any(dtype == "float16" for dtype in [node.dtype, *[v.dtype for v in values]])
        if rule is by_numpy or halves or check or (op is o.power and not node.type.is_float):
            return NumpyOp(node, check)(*values)
        made = rule(*values, **dict(node.attrs))
        return NumpyOp(node, check)(*values) if made is NotImplemented else made

    def _cond(self, node: Node, values: Sequence[Any], path: Path, loose: set[Node]) -> list[Any]:
        self.lazy = True
        types: Sequence[TensorType] = node.type.items  # type: ignore[attr-defined]
        sides = []
        for attr in node.op.bodies:
            body: Graph = node.attr(attr)
            given = dict(zip(body.inputs, values[1:], strict=True))
            found = self._body(body, given, path, attr, loose_parameters(node, body, loose))
            sides += [_conformed(value, type) for value, type in zip(found, types, strict=True)]
        made = IfElse(len(types))(values[0], *sides, return_list=True)
        for value, type in zip(made, types, strict=True):
            value.tag.shape = type.shape
        self._mark(made[0], path, [values[0], *sides])
        return made

    def _scan(self, node: Node, values: Sequence[Any], path: Path, loose: set[Node]) -> list[Any]:
        body: Graph = node.attr("body")
        program = self._compile(body, loose_parameters(node, body, loose))
        self.bodies.append(program)
        self.loops.append(path)
        made: list[Any] = LoopOp(node, program.call)(*values, return_list=True)
        for value, type in zip(made, node.type.items, strict=True):  # type: ignore[attr-defined]
            value.tag.shape = type.shape
        self._mark(made[0], path, values)
        return made

    def _mark(self, made: Any, path: Path, stop: Sequence[Any]) -> None:
        """Note on the variables that a node has become which node it was: Theano hands that on when it rewrites them."""
        self.places.append(path)
        trace = [[(_PLACES, len(self.places) - 1, "", "")]]
        known = {id(value) for value in stop}
        waiting = [made]
        while waiting:
            variable = waiting.pop()
            # What another node has become is not this one's, though a rule may go past an operand to it (`_unstretched`).
            if id(variable) in known or variable.owner is None or _numbers(variable):
                continue
            known.add(id(variable))
            for output in variable.owner.outputs:
                output.tag.trace = trace
            waiting += variable.owner.inputs

    def place(self, apply: Any) -> Path:
        """Where the node is that an application of a Theano op computes, or the first of them. Empty if that is not known."""
        return next(iter(self.placed(apply)), ())

    def placed(self, apply: Any) -> list[Path]:
        """Where the nodes are that an application of a Theano op is known to compute, in order."""
        return [self.places[number] for number in sorted({n for output in apply.outputs for n in _numbers(output)})]


def _numbers(variable: Any) -> list[int]:
    """The places that a variable is marked with."""
    return [entry[1] for trace in getattr(variable.tag, "trace", ()) for entry in trace if entry[0] == _PLACES]


def _conformed(value: Any, type: TensorType) -> Any:
    """The value with the pattern of a type, and with what is known of its sizes."""
    assert value.dtype == type.dtype, f"Theano gave {value.dtype} for {type}"
    known = getattr(value.tag, "shape", None)
    if value.broadcastable != pattern(type):
        stretches = getattr(value.tag, "stretches", None)
        value = broadcasting(value, pattern(type))
        if stretches is not None:
            value.tag.stretches = stretches
    value.tag.shape = type.shape if known is None else tuple(map(merge_size, type.shape, known))
    return value

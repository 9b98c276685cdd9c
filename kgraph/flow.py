"""Which variables a gradient of a loss gets to, and where it ends on the way to the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import kgraph.ir.ops as o
from kgraph.arguments import as_graph
from kgraph.errors import GradientError
from kgraph.ir.cost import OF_SHAPE
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.ops.elementwise import zero_vjp
from kgraph.ir.text import aligned, call
from kgraph.ir.traverse import toposort
from kgraph.ir.types import is_tuple

_MOST = 4  # ends that are remembered for a node: those nearest to the loss

#: In the state of an integer: a gradient has no way to it. It ends where a float is made into one.
_LOST: Any = None


class End(tuple[Node, int]):
    """A node that a gradient does not go back through, and the operand to which it does not go."""

    __slots__ = ()

    @property
    def node(self) -> Node:
        return self[0]

    @property
    def why(self) -> str:
        """What keeps a gradient from going on, after "which"."""
        node, position = self
        if position in OF_SHAPE.get(node.op, ()):
            return "reads the shape alone"
        if not is_tuple(node.type) and not node.type.is_float:
            return f"gives {node.type.dtype}, and only floats have gradients"
        if node.op is o.stop_gradient:
            return "holds gradients back"
        if node.op.vjp is zero_vjp:
            return "has a gradient of zero everywhere"
        return "has no gradient"


#: What is known of a node: None if the loss does not depend on it, True if a gradient gets to it, else where it ends.
State = Any


@dataclass(frozen=True)
class Flow:
    """What a gradient does on its way from a loss to a variable.

    Attributes:
      variable: its node.
      reached: whether a gradient gets there. It may be zero for some values all the same.
      ends: where it ends, if not; none if the loss does not depend on the variable at all.
    """

    variable: Node
    reached: bool
    ends: tuple[End, ...]


class Flows:
    """The answers for several variables. Print it; ``flows`` has them one by one."""

    def __init__(self, flows: Sequence[Flow]):
        self.flows = tuple(flows)

    @property
    def reached(self) -> bool:
        """Whether a gradient gets to each of them that is a float."""
        return all(flow.reached for flow in self.flows if flow.variable.type.is_float)

    def as_data(self) -> list[dict[str, Any]]:
        """The same as lists and dicts of texts, for JSON."""
        return [
            {
                "name": flow.variable.name, "op": flow.variable.op.name, "type": repr(flow.variable.type),
                "line": str(flow.variable.origin), "gradient": flow.reached,
                "ends": [
                    {"op": end.node.op.name, "call": self._call(end.node), "line": str(end.node.origin), "why": end.why}
                    for end in flow.ends
                ],
            }
            for flow in self.flows
        ]  # fmt: skip

    def __str__(self) -> str:
        rows = []
        for flow in self.flows:
            head = (flow.variable.name or describe(flow.variable), "gets a gradient" if flow.reached else "gets none")
            if flow.reached or not flow.ends:
                rows.append((*head, "" if flow.reached else _why_nothing(flow.variable), ""))
            for number, end in enumerate(flow.ends):
                said = f"it ends at {self._call(end.node)}, which {end.why}"
                rows.append((*(head if number == 0 else ("", "")), said, str(end.node.origin)))
        return aligned(rows) if rows else "there are no variables"

    def _call(self, node: Node) -> str:
        """A node with its operands by name, as far as they have any."""
        shown = {i: i.name or (repr(i.attrs[0][1]) if i.op is o.constant else i.op.name) for i in node.inputs}
        return call(node, shown)


def _why_nothing(variable: Node) -> str:
    if variable.type.is_float:
        return "the loss does not depend on it"
    return f"it is {variable.type.dtype}, and only floats have gradients"


def gradient_ends(loss: Any, variables: Iterable[Any] | None = None) -> Flows:
    """Which variables the gradient of a loss gets to; of the others, which node ends it, with its line. Print it.

    It is about paths: a gradient that gets to a variable may still be zero, where a relu is off, say. Loops and branches are
    looked into. A gradient goes through no op whose result is an integer or a bool (a cast, argmax, a comparison), through none
    that is flat (sign, rounding), to no operand of which only the shape is read, and not through `K.stop_gradient`.

    Args:
      loss: a tensor; of a list, a graph or a function, all float outputs together.
      variables: tensors; None for all variables that the loss is made of.
    Raises: GradientError if no output is a float, or a variable is no tensor; GraphError for what is no graph.
    """
    graph = as_graph(loss)
    floats = [node for node in graph.outputs if not is_tuple(node.type) and node.type.is_float]
    if not floats:
        shown = ", ".join(str(node.type) for node in graph.outputs) or "nothing"
        raise GradientError(f"the loss is {shown}, and only floats have gradients").at("gradient_ends")
    if variables is None:
        wanted = [node for node in toposort(floats, stop=graph.inputs) if node.op is o.variable]
    else:
        wanted = []
        for each in variables:
            if not isinstance(each, Operators):
                raise GradientError(f"{each!r:.60} is no tensor").at("gradient_ends")
            wanted.append(each.node)
    states = _states(Graph(graph.inputs, floats), [True] * len(floats))
    flows = []
    for node in wanted:
        state = states.get(node)
        ends = tuple([end for end in state if end is not _LOST]) if isinstance(state, tuple) else ()
        flows.append(Flow(node, state is True and node.type.is_float, ends))
    return Flows(flows)


def _states(graph: Graph, given: Sequence[State]) -> dict[Node, State]:
    """The state of each node that the results depend on, of which the states are given."""
    found: dict[Node, State] = {}
    results: dict[Node, dict[int, State]] = {}  # of nodes with several results, by their number
    for root, state in zip(graph.outputs, given, strict=True):
        found[root] = _merged(found.get(root), state)
    inputs = set(graph.inputs)
    for node in reversed(toposort(graph.outputs, stop=graph.inputs)):
        if not node.inputs or node in inputs:
            continue
        if node.op is o.item:
            own = results.setdefault(node.inputs[0], {})
            number = node.attr("index")
            own[number] = _merged(own.get(number), found.get(node))
            continue
        if node.op.bodies:
            states = _through_bodies(node, results.get(node, {}))
        else:
            state = found.get(node)
            for each in results.get(node, {}).values():
                state = _merged(state, each)
            states = [_through(node, position, state) for position in range(len(node.inputs))]
        for i, each in zip(node.inputs, states, strict=True):
            found[i] = _merged(found.get(i), each)
    return found


def _through(node: Node, position: int, state: State) -> State:
    """The state of an operand, as far as it is up to this node, of which the state is known."""
    if state is None:
        return None
    if not _may_have_gradient(node.inputs[position]):
        return (_LOST,) if state is True else state
    end = End((node, position))
    if state is not True:
        return tuple(dict.fromkeys([end if each is _LOST else each for each in state]))
    vjp = node.op.vjp
    if not _may_have_gradient(node) or vjp is None or vjp is zero_vjp or position in OF_SHAPE.get(node.op, ()):
        return (end,)
    return True


def _may_have_gradient(node: Node) -> bool:
    return is_tuple(node.type) or node.type.is_float


def _through_bodies(node: Node, given: dict[int, State]) -> list[State]:
    """The states of the operands of a loop or branch, of whose results some are known."""
    found: list[State] = [None] * len(node.inputs)
    lines: dict[End, End] = {}
    for name in node.op.bodies:
        body: Graph = node.attr(name)
        states = [given.get(number) for number in range(len(body.outputs))]
        first = len(node.inputs) - len(body.inputs)
        parameters = _at_parameters(body, states)
        if node.op is o.scan:
            begin, kept = 1 + node.attr("sequences"), node.attr("states")
            while True:  # what a step is given, the step before has made
                again = [_merged(state, old) for state, old in zip(states, parameters[begin : begin + kept], strict=False)]
                if again == states[:kept]:
                    break
                states[:kept] = again
                parameters = _at_parameters(body, states)
        for position, state in enumerate(parameters, first):
            if isinstance(state, tuple) and node.op is o.scan:
                state = tuple([_own_line(node, end, lines) for end in state])
            found[position] = _merged(found[position], state)
    if any(state is not None for state in given.values()):
        for position, i in enumerate(node.inputs):
            if found[position] is None and not _may_have_gradient(i):
                found[position] = (_LOST,)  # the condition, or how many steps there are
    return found


def _at_parameters(body: Graph, states: Sequence[State]) -> list[State]:
    inside = _states(body, states)
    return [inside.get(parameter) for parameter in body.inputs]


def _own_line(scan: Node, end: End, lines: dict[End, End]) -> End:
    """An end in the body of a loop over what its user has built it over: equal bodies share the lines of one of them."""
    if end is not _LOST and end not in lines:
        lines[end] = End((o.as_built(scan, end.node), end[1]))
    return lines.get(end, end)


def _merged(one: State, other: State) -> State:
    """What is known of a node with several users: a gradient from one of them is enough."""
    if one is None or other is None:
        return other if one is None else one
    if one is True or other is True:
        return True
    return tuple(dict.fromkeys((*one, *other)))[:_MOST]


__all__ = ["End", "Flow", "Flows", "gradient_ends"]

"""What a well-formed graph is. Tests run this after every pass; `K.function` runs the part that a user can break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import kgraph.ir.ops as o
from kgraph.errors import GraphError, KGraphError
from kgraph.ir.body import Parameter
from kgraph.ir.node import Constant, Graph, Identity, Node, describe
from kgraph.ir.op import OPS
from kgraph.ir.traverse import toposort
from kgraph.ir.types import Shape, TensorType, is_tuple, same_size

_ATTR_TYPES = (bool, int, str, type(None), tuple, TensorType, Constant, Identity, Graph)


def verify(graph: Graph) -> None:
    """Raises GraphError, naming the node, for a graph that breaks a rule of the graph.

    The rules: ops are in the table; the type of each node is what its type rule says; attrs are of the kinds that can be
    hashed, compared and saved; inputs are distinct sources or cut points; outputs have one result each; targets of updates are
    distinct variables, and new values have their type; bodies are closed, positional, and well-formed themselves.
    """
    pending: list[tuple[Graph, Node | None]] = [(graph, None)]
    seen: set[Graph] = set()  # a body that many loops share is looked at once
    while pending:
        checked, owner = pending.pop()
        if len(set(checked.inputs)) != len(checked.inputs):
            raise _broken("an input is named twice", owner)
        order = toposort((*checked.roots, *checked.inputs), stop=checked.inputs)
        for node in order:
            _check_node(node)
            for _, value in node.attrs:
                if isinstance(value, Graph) and value not in seen:
                    seen.add(value)
                    pending.append((value, node))
        for root in checked.roots:
            if is_tuple(root.type):
                raise _broken("an output has several results; item picks one", root)
        if owner is None:
            _check_updates(checked)
            given = set(checked.inputs)
            for node in order:
                if node.op is o.param and node not in given:
                    raise _broken("a parameter of a body is used outside of it", node)
        else:
            _check_closed(checked, order, owner)


def _check_node(node: Node) -> None:
    if OPS.get(node.op.name) is not node.op:
        raise _broken("the op is not in the table", node)
    for name, value in node.attrs:
        if not all(type(part) in _ATTR_TYPES or isinstance(part, Identity) for part in _parts(value)):
            raise _broken(f"the attr {name} is a {type(value).__name__}, {value!r}", node)
    try:
        found = node.op.infer(node.inputs, node.attrs)
    except Exception as error:  # a type rule foresees the wrong types, not the wrong kinds of inputs and attrs
        message = error.message if isinstance(error, KGraphError) else f"{type(error).__name__}: {error}"
        raise _broken(f"the type rule refuses the inputs and attrs: {message}", node) from error
    if found is not node.type:
        raise _broken("the type is not what the type rule says", node)


def _parts(value: Any) -> Iterable[Any]:
    return [part for item in value for part in _parts(item)] if type(value) is tuple else [value]


def _check_updates(graph: Graph) -> None:
    targets = [variable for variable, _ in graph.updates]
    if len(set(targets)) != len(targets):
        raise _broken("a variable is updated twice", Counter(targets).most_common(1)[0][0])
    for variable, value in graph.updates:
        if variable.op is not o.variable:
            raise _broken("the target of an update is no variable", variable)
        if variable.dtype != value.dtype or not _may_have(value.type.shape, variable.type.shape):
            raise _broken(f"the new value of {describe(variable)} is of another type", value)


def _may_have(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(map(same_size, shape, wanted))


def _check_closed(body: Graph, order: Iterable[Node], owner: Node) -> None:
    for position, parameter in enumerate(body.inputs):
        if parameter.op is not o.param or parameter.attr("index") != position:
            raise _broken(f"parameter {position} of a body is not positional", owner)
    given = set(body.inputs)
    for node in order:
        if node.op.source and node not in given and node.op not in (o.constant, o.absent):
            what = (
                "a parameter of another body"
                if node.op is o.param and isinstance(node.attr("index"), Parameter)
                else "an outer value"
            )
            raise _broken(f"a body reads {what}, {describe(node)}, that is no input of it", owner)
    if body.updates:
        raise _broken("a body has updates", owner)


def _broken(message: str, node: Node | None) -> GraphError:
    error = GraphError(message)
    if node is not None:
        error.at("verify", [f"node: {describe(node)}"], str(node.origin))
    return error

"""What a function is made of, as its user gives it: inputs, outputs and updates. What is refused, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph.call import fits
from kgraph.errors import FeedError, GraphError, KGraphError, UpdateError
from kgraph.ir.body import check_no_strays
from kgraph.ir.node import Graph, Identity, Node, as_given, describe
from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin, here
from kgraph.ir.promote import as_dtype, as_node
from kgraph.ir.traverse import substitute, toposort


def _wrong(kind: type[KGraphError], message: str, made: Origin, *operands: str, hint: str | None = None) -> KGraphError:
    """The error of making a function, with the line."""
    return kind(message, hint=hint).at(made.function, operands, str(made))


def as_inputs(values: Any, made: Origin) -> list[Node]:
    """The inputs of a function. Raises GraphError."""
    found = []
    for position, value in enumerate(_listed(values, "inputs", made)):
        if not isinstance(value, Operators):
            hint = "K.learning_phase() is an int while the phase is set; leave it out, or do not set it"
            message = f"input {position} is {value!r:.60}, not a tensor"
            raise _wrong(GraphError, message, made, hint=hint if isinstance(value, int) else None)
        found.append(value.node)
    return found


def as_outputs(values: Any, made: Origin) -> list[Node]:
    """The outputs of a function: tensors, numbers, arrays. Raises GraphError."""
    found = []
    for position, value in enumerate(_listed(values, "outputs", made)):
        try:
            found.append(as_node(value))
        except KGraphError as error:
            raise _wrong(GraphError, f"output {position}: {error.message}", made, hint=error.hint) from None
    return found


def _listed(values: Any, what: str, made: Origin) -> Sequence[Any]:
    if isinstance(values, (list, tuple)):
        return values
    hint = f"write [{what[:-1]}]" if isinstance(values, Operators) else None
    raise _wrong(GraphError, f"{what} is a {type(values).__name__}, not a list of tensors", made, hint=hint)


def as_updates(updates: Iterable[Any], made: Origin) -> list[tuple[Node, Node]]:
    """The updates as pairs of nodes, new values in the dtype of their variable. Raises UpdateError."""
    found: dict[Node, Node] = {}
    pairs = updates.items() if isinstance(updates, dict) else updates
    if not isinstance(pairs, Iterable):
        raise _wrong(UpdateError, f"updates is {updates!r:.80}, not a list of pairs (variable, new value)", made)
    for position, pair in enumerate(pairs):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            hint = "updates is a list of pairs: [(variable, new value)]"
            raise _wrong(UpdateError, f"update {position} is {pair!r:.80}, not a pair (variable, new value)", made, hint=hint)
        target, value = pair
        if not isinstance(target, Operators) or target.node.op is not o.variable:
            shown = describe(target.node) if isinstance(target, Operators) else repr(target)
            message = "the target of an update is no variable"
            raise _wrong(UpdateError, message, made, f"target: {shown}", hint="K.variable makes one")
        variable = target.node
        try:
            new = as_dtype(as_node(value, like=variable.dtype), variable.dtype)
        except KGraphError as error:
            message = f"the new value of {variable.name!r}: {error.message}"
            raise _wrong(UpdateError, message, made, f"variable: {describe(variable)}", hint=error.hint) from None
        if not fits(new.type.shape, variable.type.shape):
            operands = [f"variable:  {describe(variable)}", f"new value: {describe(as_given(new, made))}"]
            hint = "the shapes have to be equal; nothing is stretched"
            raise _wrong(UpdateError, "the new value does not fit the shape of its variable", made, *operands, hint=hint)
        if found.setdefault(variable, new) is not new:
            operands = [
                f"variable: {describe(variable)}",
                f"first:    {describe(as_given(found[variable], made))}",
                f"then:     {describe(as_given(new, made))}",
            ]
            message = "a variable is updated twice, by different values"
            raise _wrong(UpdateError, message, made, *operands, hint="name each variable once")
    return list(found.items())


def as_graph(x: Any) -> Graph:
    """The graph of a tensor, of a list of tensors, of a function; a graph itself. Its inputs are the placeholders it needs.

    Raises: GraphError for anything else.
    """
    if isinstance(x, Graph):
        return x
    if isinstance(graph := getattr(x, "graph", None), Graph):
        return graph
    made = here(2)
    outputs = as_outputs([x] if isinstance(x, Operators) else x, made)
    return Graph([node for node in toposort(outputs) if node.op is o.placeholder], outputs)


def cut(graph: Graph, given: Sequence[Node], made: Origin) -> Graph:
    """The graph with a placeholder at each input that is none, so that what it was made of is not computed."""
    stand_ins: dict[Node, Node] = {}
    inputs = []
    seen: set[Node] = set()
    for position, node in enumerate(given):
        if node in seen or node.op is o.learning_phase:  # one of these is no longer among them
            raise _wrong(GraphError, "an input is named twice", made, f"input {position}: {describe(node)}")
        seen.add(node)
        if node.op is o.placeholder:
            inputs.append(node)
        else:
            stand_ins[node] = o.placeholder(type=node.type, uid=Identity(node.name))
            inputs.append(stand_ins[node])
    for variable, _ in graph.updates:
        if variable in stand_ins:
            hint = "feed a placeholder in its place, or update another variable"
            message = "a variable that is fed cannot be updated in the same call"
            raise _wrong(UpdateError, message, made, f"variable: {describe(variable)}", hint=hint)
    if not stand_ins:
        return Graph(inputs, graph.outputs, graph.updates)
    return Graph(inputs, graph.outputs, graph.updates).with_roots(substitute(graph.roots, stand_ins))


def check_sources(graph: Graph, made: Origin) -> None:
    """Raises for what no call could ever find: a placeholder that is no input, a value of a body used outside of it."""
    order = toposort(graph.roots)
    check_no_strays(order, made.function)
    given = set(graph.inputs)
    for node in order:
        if node.op is o.placeholder and node not in given:
            hint = "add it to the inputs of K.function"
            if made.function == "eval":
                hint = "K.eval has no values to feed; K.function([placeholder], [x]) makes a function that is fed"
            message = f"the outputs need {node.name!r}, which is not among the inputs"
            error = _wrong(FeedError, message, made, f"placeholder: {describe(node)}", hint=hint)
            error.place = f"{made} (the function); {node.origin} (the placeholder)"
            raise error

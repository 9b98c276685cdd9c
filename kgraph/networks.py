"""A graph for networkx, with everything that is known of its nodes and edges."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kgraph.arguments import as_graph
from kgraph.errors import ArgumentError
from kgraph.ir import cost
from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.ops.elementwise import zero_vjp
from kgraph.ir.origin import Origin
from kgraph.ir.text import call, is_inline, numbered
from kgraph.ir.traverse import toposort
from kgraph.ir.types import is_tuple


def to_networkx(x: Any, bodies: str = "nested", *, sizes: Mapping[str, int] | None = None) -> Any:
    """A `networkx.MultiDiGraph` of a graph: edges go from operands to what is made of them.

    The keys of nodes are the names that `kgraph.show` has for them ("%3"); small constants, which it shows where they are used,
    are "const0", "const1" ... ``graph.graph["keys"][tensor.node]`` is the key of a tensor.

    Attributes of a node: op, attrs (a dict, without bodies), call (as `show` writes it), name (of a placeholder or variable, or
    None), dtype and shape (None where there are several results), types (of all results), parameters, file, line, place (both),
    function, scope, role ("forward", "gradient"), and the figures flops, read, written and bytes (see `kgraph.ir.cost`).
    Of an edge: operand (its position, which is the edge's key too), kind ("operand"; others below), dtype, shape and bytes of
    what it carries, and gradient: whether one may go back along it. Of the graph: inputs, outputs, updates (pairs), keys, sizes
    (those that the figures are for).

    Args:
      x: a tensor, a list of tensors, a graph or a function.
      bodies: "nested": a node with bodies has the attribute bodies, a dict with a MultiDiGraph for each; its figures are those
        of its bodies in all their runs. "flat": the nodes of bodies are in the graph itself, under keys such as "%5/then/%2",
        with the attribute owner, and edges of the kind "enter" from operands to parameters of a body, and "leave" from its
        results to its node, whose own figures are 0. No edge goes from one step of a loop to the next, so that there is no
        cycle. The figures of a body's nodes are those of one run; how many there are is the attribute times, of each node if
        flat, of the body's graph if nested: the steps of a loop, and 0 for the side of a branch that costs less.
      sizes: values of sizes that are not known, by the names that costs have for them; those left out are 1.
    Raises: GraphError for what is no graph; ArgumentError for sizes and bodies that there are not.
    """
    import networkx

    if bodies not in ("nested", "flat"):
        raise ArgumentError(f"bodies is {bodies!r}", hint='"nested" or "flat"').at("to_networkx")
    graph = as_graph(x)
    walk, known = _walk(graph, sizes)
    found = networkx.MultiDiGraph()
    _Filling(networkx, bodies == "flat").fill(found, graph, walk, "", None, 1)
    found.graph["sizes"] = known
    return found


def _walk(graph: Graph, sizes: Mapping[str, int] | None) -> tuple[Any, dict[str, int]]:
    """The costs of a graph of known sizes, and these sizes; None where no sizes go together."""
    try:
        unknown = cost.Unknowns(graph)
        wanted = {**dict.fromkeys(unknown.of, 1), **(sizes or {})}
        return unknown.at(wanted), wanted
    except ArgumentError as error:
        if sizes:
            raise error.at("to_networkx") from None
        return None, {}


#: The costs of a body that does not run.
_NOTHING = SimpleNamespace(each={}, inside={}, types={})


class _Filling:
    def __init__(self, networkx: Any, flat: bool):
        self.networkx, self.flat = networkx, flat
        self.places: dict[Origin, dict[str, Any]] = {}

    def fill(self, found: Any, graph: Graph, walk: Any, path: str, owner: str | None, times: int) -> dict[Node, str]:
        """Adds the nodes of a graph, or of a body, and returns their keys."""
        _, names = numbered(graph)
        order = toposort((*graph.inputs, *graph.roots, *[variable for variable, _ in graph.updates]), stop=graph.inputs)
        inline = [node for node in order if is_inline(node)]
        keys = {node: path + name for node, name in names.items()}
        keys.update({node: f"{path}const{number}" for number, node in enumerate(inline)})
        given = set(graph.inputs)
        for node in order:
            facts = self.facts(node, walk, names, node in given)
            if owner is not None:
                facts.update(owner=owner, times=times)
            found.add_node(keys[node], **facts)
            if node not in given:
                for position, operand in enumerate(node.inputs):
                    passes = _passes_gradient(node, position)
                    self.edge(found, keys[operand], keys[node], position, "operand", operand, walk, passes)
            if node.op.bodies:
                self.bodies(found, node, keys, walk, times)
        if not path:
            found.graph["keys"] = keys
        if not path or not self.flat:
            found.graph["inputs"] = [keys[node] for node in graph.inputs]
            found.graph["outputs"] = [keys[node] for node in graph.outputs]
            found.graph["updates"] = [(keys[variable], keys[value]) for variable, value in graph.updates]
        return keys

    def bodies(self, found: Any, node: Node, keys: dict[Node, str], walk: Any, times: int) -> None:
        # Of what only the shape is read, nothing is computed.
        inside = walk.inside.get(node, [(_NOTHING, 0)] * len(node.op.bodies)) if walk is not None else None
        nested = {}
        for number, name in enumerate(node.op.bodies):
            body = node.attr(name)
            inner, count = inside[number] if inside else (None, 1)
            if not self.flat:
                nested[name] = self.networkx.MultiDiGraph(times=count)
                self.fill(nested[name], body, inner, "", None, 1)
                continue
            own = keys[node]
            path = f"{own}/{name}/"
            within = self.fill(found, body, inner, path, own, times * count)
            first = len(node.inputs) - len(body.inputs)  # a body takes the last operands
            for position, parameter in enumerate(body.inputs):
                operand = node.inputs[first + position]
                self.edge(found, keys[operand], within[parameter], first + position, "enter", operand, walk)
            for position, result in enumerate(body.outputs):
                self.edge(found, within[result], own, f"{name}/{position}", "leave", result, inner)
        if not self.flat:
            found.nodes[keys[node]]["bodies"] = nested

    def edge(
        self, found: Any, start: str, end: str, position: int | str, kind: str, value: Node, walk: Any, passes: bool = True
    ) -> None:
        floats = any(each.is_float for each in (value.type.items if is_tuple(value.type) else (value.type,)))  # type: ignore[attr-defined]
        type = value.type if walk is None else walk.types.get(value, value.type)
        several = is_tuple(type)
        try:
            size = cost.bytes_of(type)
        except TypeError:  # a size that is not known
            size = None
        found.add_edge(
            start, end, position, operand=position, kind=kind, bytes=size, gradient=floats and passes,
            dtype=None if several else type.dtype, shape=None if several else value.type.shape,
        )  # fmt: skip

    def facts(self, node: Node, walk: Any, names: dict[Node, str], given: bool) -> dict[str, Any]:
        """All that is known of a node."""
        several = is_tuple(node.type)
        facts: dict[str, Any] = {
            "op": node.op.name,
            "attrs": {name: _plain(value) for name, value in node.attrs if not isinstance(value, Graph)},
            "call": call(node, names, given),
            "name": node.name,
            "dtype": None if several else node.type.dtype,
            "shape": None if several else node.type.shape,
            "types": [(type.dtype, type.shape) for type in (node.type.items if several else (node.type,))],  # type: ignore[attr-defined]
            "parameters": node.type.size if node.op.name == "variable" else 0,
        }
        origin = node.origin
        place = self.places.get(origin)
        if place is None:
            place = self.places[origin] = {
                "file": origin.file, "line": origin.line, "place": str(origin), "function": origin.function,
                "scope": origin.scope, "role": origin.role,
            }  # fmt: skip
        facts.update(place)
        if walk is not None:
            one = walk.each.get(node)
            own = one is not None and node not in walk.inside  # what bodies cost is theirs
            for name in ("flops", "read", "written", "bytes"):
                facts[name] = getattr(one, name) if own or (one is not None and not self.flat) else 0
        else:
            facts.update(flops=None, read=None, written=None, bytes=None)
        return facts


def _passes_gradient(node: Node, position: int) -> bool:
    """Whether a gradient may go from a node to an operand, if both are floats."""
    vjp = node.op.vjp
    return vjp is not None and vjp is not zero_vjp and position not in cost.OF_SHAPE.get(node.op, ())


def _plain(value: Any) -> Any:
    """An attr without objects of kgraph's own: of an identity its name, of a constant its array, of a type its text."""
    if isinstance(value, Identity):
        return value.name
    if isinstance(value, Constant):
        return value.array
    if isinstance(value, tuple):
        return tuple([_plain(part) for part in value])
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)

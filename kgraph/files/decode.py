"""The graph of a file's object: each number is looked at before it is used, each node is built by its op's type rule.

Nothing of a file is run, imported, or looked up by name but in tables that are closed: ops, dtypes, kinds, passes, engines.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import FileError, KGraphError
from kgraph.files.attrs import check_attrs
from kgraph.files.container import MOST_AXES, Container, Limits, bad, over
from kgraph.files.encode import ORIGINS
from kgraph.ir.listing import LARGE_CONSTANT
from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.op import OPS, Op
from kgraph.ir.origin import FORWARD, GRADIENT, Origin, building, saved_origin
from kgraph.ir.stream import Stream
from kgraph.ir.types import DTYPES, TensorType, TupleType, is_tuple, numpy_dtype
from kgraph.lower.variable import Variable

_MOST = 2**63 - 1
_MOST_NODES_BACK = 2**40
_MOST_SIZE = 2**60  # hashes of larger numbers can be made to be the same
_MOST_COUNT = 2**62  # of the keys that a stream has given: it goes on counting from there
_COLUMNS = ("head", "width", "operand", "type", "origin")
_SECTION = {"inputs", "outputs", "roots", "heads", *_COLUMNS}
_ROLES = (FORWARD, GRADIENT)


class _Body(NamedTuple):
    """A body that has been built, how deep it is, and how many nodes it has, with those of bodies within as often as used."""

    graph: Graph
    depth: int
    nodes: int


class Decoder:
    """Builds what an object of version 1 says."""

    def __init__(self, container: Container, limits: Limits):
        self._container, self._limits = container, limits
        self._taken: set[str] = set()  # tensors that are the value of something
        self._bodies: list[_Body] = []
        self._nodes = 0

    def decoded(self, found: Any) -> tuple[str, Graph, Any]:
        """The kind, the graph, and what else a function has, unread. Raises FileError."""
        fields = {"kind", "texts", "types", "identities", "places", "origins", "bodies", "graph"}
        if not isinstance(found, dict) or not fields <= set(found) <= {*fields, "function"}:
            raise bad(f"it is no object with {', '.join(sorted(fields))}", "the graph")
        kind = found["kind"]
        if kind not in ("tensor", "list", "graph", "function") or (kind == "function") != ("function" in found):
            raise bad(f"the kind {kind!r:.30} is none, or a function is missing", "the graph")
        self._texts = [self.text(text, f"text {i}") for i, text in enumerate(listed(found["texts"], "texts"))]
        self._types = [self._type(each, f"type {i}") for i, each in enumerate(listed(found["types"], "types"))]
        self._identities = [
            self._identity(each, f"identity {i}") for i, each in enumerate(listed(found["identities"], "identities"))
        ]
        self._places = self._read_places(found["places"])
        self._origins = [self._origin(each, f"origin {i}") for i, each in enumerate(listed(found["origins"], "origins"))]
        before = building.origin
        try:
            for number, section in enumerate(listed(found["bodies"], "bodies")):
                self._bodies.append(self._section(section, f"body {number}", body=True))
            graph = self._section(found["graph"], "the graph", body=False).graph
        finally:
            building.origin = before
        if kind == "tensor" and len(graph.outputs) != 1:
            raise bad("a tensor is one output", "the graph")
        if kind in ("tensor", "list") and (graph.inputs or graph.updates):
            raise bad("tensors have no inputs and updates of their own", "the graph")
        return kind, graph, found.get("function")

    # ------------------------------------------------------------------------------------------------ tables

    def text(self, value: Any, place: str) -> str:
        """A text that is not too long."""
        if not isinstance(value, str):
            raise bad("it is no text", place)
        if len(value) > self._limits.text:
            raise over("characters of a text", len(value), "text", self._limits.text, place)
        return value

    def origin_at(self, number: Any, place: str) -> Origin:
        """The place of a number."""
        return self._places[numbered(number, len(self._places), place)]

    def _type(self, value: Any, place: str, within: bool = False) -> Any:
        parts = listed(value, place)
        if not within and (not parts or isinstance(parts[0], list)):
            return TupleType(tuple([self._type(part, place, within=True) for part in parts]))
        dtype, *sizes = parts or [None]
        if not isinstance(dtype, str) or dtype not in DTYPES or len(sizes) > MOST_AXES:
            raise bad("it is no dtype with sizes", place)
        if not all(size is None or (type(size) is int and 0 <= size < _MOST_SIZE) for size in sizes):
            raise bad(f"a size is neither null nor a number from 0 to {_MOST_SIZE}", place)
        return TensorType(dtype, tuple(sizes))

    def _static(self, number: Any, place: str) -> TensorType:
        """A type of which all sizes are known."""
        kind = self._types[numbered(number, len(self._types), place)]
        if is_tuple(kind) or not kind.is_static:
            raise bad(f"a value is of the type {kind!r:.100}, which leaves its sizes open", place)
        return kind

    def _identity(self, value: Any, place: str) -> Any:
        parts = listed(value, place)
        sort = (parts[0] if isinstance(parts[0], str) else None, len(parts)) if parts else None
        if sort == ("constant", 3):
            return Constant(self._array(parts[2], self._static(parts[1], place), place))
        name = None if len(parts) < 2 or parts[1] is None else self.text(parts[1], place)
        if sort == ("placeholder", 2):
            return Identity(name)
        if sort == ("stream", 4):
            return Stream(integer(parts[2], -_MOST - 1, _MOST, place), integer(parts[3], 0, _MOST_COUNT, place), name)
        if sort == ("variable", 4):
            kind = self._static(parts[2], place)
            return Variable(name, kind, _zeros(kind, place) if parts[3] is None else self._array(parts[3], kind, place))
        raise bad("it is no placeholder, variable, stream or constant", place)

    def _array(self, name: Any, kind: TensorType, place: str) -> np.ndarray[Any, Any]:
        """The value of a tensor, which nothing else may have: a file of a megabyte gives no gigabytes."""
        entry = self._container.tensors.get(name) if isinstance(name, str) else None
        if entry is None:
            raise bad(f"there is no tensor {name!r:.100}", place)
        if (entry.dtype, entry.shape) != (kind.dtype, kind.shape):
            raise bad(f"tensor {name!r:.100} is {entry.dtype}{list(entry.shape)}, and the graph says {kind}", place)
        if name in self._taken:
            raise bad(f"tensor {name!r:.100} is the value of something else too", place)
        self._taken.add(name)
        return self._container.read(name)

    def _read_places(self, value: Any) -> list[Origin]:
        flat = integers(value, 0, _MOST, "places").reshape(-1, 5) if len(listed(value, "places")) % 5 == 0 else None
        if flat is None or (len(flat) and (flat[:, :3].max() >= len(self._texts) or flat[:, 3].max() > 1)):
            raise bad("they are no fives of file, function, scope (numbers of texts), role (0 or 1) and line", "places")
        texts = self._texts
        return [
            saved_origin(texts[file], texts[call], texts[scope], _ROLES[role], line)
            for file, call, scope, role, line in flat.tolist()
        ]

    def _origin(self, value: Any, place: str) -> tuple[Origin, ...]:
        numbers = value if isinstance(value, list) else [value]
        if not 1 <= len(numbers) <= ORIGINS:
            raise bad(f"a node has from 1 to {ORIGINS} places", place)
        return tuple([self.origin_at(number, place) for number in numbers])

    # ------------------------------------------------------------------------------------------------ sections

    def _section(self, found: Any, place: str, body: bool) -> _Body:
        if not isinstance(found, dict) or set(found) != _SECTION:
            raise bad(f"it is no object with {', '.join(sorted(_SECTION))}", place)
        heads, depth, within = self._heads(found["heads"], place)
        columns = self._read_columns(found, len(heads), place)
        uses = np.bincount(columns["head"], minlength=len(heads)).tolist()
        total = sum(uses) + sum(count * size for count, size in zip(uses, within, strict=True))
        if depth > self._limits.depth:
            raise over("loops and branches within one another", depth, "depth", self._limits.depth, place)
        if total > self._limits.nodes:
            raise over("nodes, those of a body as often as it is used", total, "nodes", self._limits.nodes, place)
        made = self._build(heads, columns, place, body)
        roots = [made[i] for i in integers(found["roots"], 0, len(made) - 1, f"{place}, roots").tolist()]
        first = integer(found["inputs"], 0, len(roots), f"{place}, inputs")
        last = first + integer(found["outputs"], 0, len(roots) - first, f"{place}, outputs")
        rest = roots[last:]
        if len(rest) % 2 or (body and rest):
            raise bad("updates are pairs of a variable and its new value, and a body has none", f"{place}, roots")
        graph = Graph(roots[:first], roots[first:last], zip(rest[::2], rest[1::2], strict=True))
        # The roots count too: the type rule of a loop goes over all of them, at each node that has this body.
        return _Body(graph, depth, total + len(roots))

    def _heads(self, value: Any, place: str) -> tuple[list[tuple[Op, Any]], int, list[int]]:
        """Op and attrs of each head; how deep its bodies are; how many nodes they have."""
        heads, within, deepest = [], [], 0
        for number, head in enumerate(listed(value, f"{place}, heads")):
            here = f"{place}, head {number}"
            name, given = head if isinstance(head, list) and len(head) == 2 else (head, {})
            op = OPS.get(name) if isinstance(name, str) else None
            if op is None:
                raise bad(f"there is no op {name!r:.60}", here, "a newer kgraph may have it: update kgraph")
            if not isinstance(given, dict) or set(given) != set(op.attr_names):
                raise bad(f"{op.name} has the attrs {', '.join(op.attr_names) or 'none'}, and here others", here)
            bodies: list[_Body] = []
            attrs = tuple([(key, self._attr(given[key], bodies, f"{here} ({op.name}), {key}")) for key in op.attr_names])
            check_attrs(op, attrs, f"{here} ({op.name})")
            heads.append((op, attrs))
            within.append(sum(each.nodes for each in bodies))
            deepest = max(deepest, *[1 + each.depth for each in bodies], 0)
        return heads, deepest, within

    def _attr(self, value: Any, bodies: list[_Body], place: str) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        if isinstance(value, str):
            return self.text(value, place)
        if isinstance(value, list):
            return tuple([self._attr(part, bodies, place) for part in value])
        ((kind, inner),) = value.items() if len(value) == 1 else [("", None)]
        if kind == "identity":
            return self._identities[numbered(inner, len(self._identities), place)]
        if kind == "type":
            return self._types[numbered(inner, len(self._types), place)]
        if kind == "body":  # one of those before: so none is within itself
            bodies.append(self._bodies[numbered(inner, len(self._bodies), place)])
            return bodies[-1].graph
        if kind == "value" and isinstance(inner, list) and len(inner) == 2:
            return self._small(inner[1], self._static(inner[0], place), place)
        raise bad("it is no type, identity, body or value", place)

    def _small(self, value: Any, kind: TensorType, place: str) -> Constant:
        size = math.prod([size or 0 for size in kind.shape]) * numpy_dtype(kind.dtype).itemsize
        if not isinstance(value, str) or len(value) != 2 * size or size > LARGE_CONSTANT:
            raise bad(f"a constant {kind} has {size:,} bytes in hex, at most {LARGE_CONSTANT:,}", place)
        try:
            data = np.frombuffer(bytes.fromhex(value), numpy_dtype(kind.dtype).newbyteorder("<"))
            if kind.dtype == "bool" and any(data.view(np.uint8) > 1):
                raise ValueError("a bool is neither 0 nor 1")
            return Constant(data.reshape(kind.shape))
        except ValueError as error:
            raise bad(f"a constant {kind}: {error}", place) from None

    def _read_columns(self, found: dict[str, Any], heads: int, place: str) -> dict[str, Any]:
        """The columns, of one length, with numbers that are there: operands among the nodes before their user."""
        most = {"head": heads, "type": len(self._types), "origin": len(self._origins)}
        columns = {
            name: integers(found[name], int(name == "operand"), most.get(name, _MOST_NODES_BACK) - 1, f"{place}, {name}")
            for name in _COLUMNS
        }
        count = len(columns["head"])
        if any(len(columns[name]) != count for name in ("width", "type", "origin")):
            raise bad("the columns differ in length", place)
        self._nodes += count
        if self._nodes > self._limits.nodes:
            raise over("nodes", self._nodes, "nodes", self._limits.nodes, place)
        widths, operands = columns["width"], columns["operand"]
        if (count and widths.max() > len(operands)) or widths.sum() != len(operands):
            raise bad("the nodes have more operands than are there, or fewer", f"{place}, operand")
        users = np.repeat(np.arange(count), widths)
        if np.any(wrong := operands > users):
            node = int(users[np.argmax(wrong)])
            raise bad("an operand stands before the first node", f"{place}, node {node}")
        return columns

    def _build(self, heads: Sequence[tuple[Op, Any]], columns: dict[str, Any], place: str, body: bool) -> list[Node]:
        made: list[Node] = []
        types, all_origins = self._types, self._origins
        operands, position = columns["operand"].tolist(), 0
        rows = zip(*[columns[name].tolist() for name in ("head", "width", "type", "origin")], strict=True)
        for number, (head, width, kind, origin) in enumerate(rows):
            op, attrs = heads[head]
            inputs = tuple([made[number - back] for back in operands[position : position + width]])
            position += width
            origins = all_origins[origin]
            building.origin = origins[0]
            try:
                node = op.apply(inputs, attrs)
            except Exception as error:  # a type rule foresees the wrong types, not the wrong kinds of inputs and attrs
                raise _refused(error, op, f"{place}, node {number}") from None
            if node.type is not types[kind]:
                message = f"{op.name} gives {node.type!r:.200}, and the file says {types[kind]!r:.200}"
                raise bad(message, f"{place}, node {number}")
            if op is o.param and not body:
                raise bad("a parameter of a body is outside of it", f"{place}, node {number}")
            for more in origins[1:]:
                building.origin = more
                op.apply(inputs, attrs)
            made.append(node)
        return made


def _refused(error: Exception, op: Op, place: str) -> FileError:
    said = error.message if isinstance(error, KGraphError) else f"{type(error).__name__}: {error!s:.200}"
    return bad(f"{op.name} does not take these operands and attrs: {said}", place)


def _zeros(kind: TensorType, place: str) -> np.ndarray[Any, Any]:
    """Zeros that take no memory: nobody writes to the array of a variable."""
    try:
        return np.broadcast_to(np.zeros((), numpy_dtype(kind.dtype)), kind.shape)  # type: ignore[arg-type]
    except (ValueError, OverflowError) as error:
        raise bad(f"NumPy has no array {kind}: {error}", place) from None


# ---------------------------------------------------------------------------------------------------- values of JSON


def listed(value: Any, place: str) -> list[Any]:
    """A list. Raises FileError, as the others here do."""
    if not isinstance(value, list):
        raise bad("it is no list", place)
    return value


def integer(value: Any, low: int, high: int, place: str) -> int:
    """An integer from low to high."""
    if type(value) is not int or not low <= value <= high:
        raise bad(f"{value!r:.30} is no number from {low} to {high}", place)
    return value


def numbered(value: Any, count: int, place: str) -> int:
    """The number of one of count things."""
    return integer(value, 0, count - 1, place)


def integers(value: Any, low: int, high: int, place: str) -> np.ndarray[Any, Any]:
    """A list of integers from low to high, as an array."""
    try:
        found = np.frombuffer(array("q", listed(value, place)), np.int64)
    except (TypeError, OverflowError):
        raise bad("it is no list of integers", place) from None
    if len(found) and not low <= found.min() <= found.max() <= high:
        wrong = found.min() if found.min() < low else found.max()
        raise bad(f"the number {wrong} is not from {low} to {high}", place)
    return found

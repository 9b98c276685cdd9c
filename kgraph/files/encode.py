"""A graph as what JSON holds: columns of integers, a row of each per node, and the few tables that they point into.

The text of version 1 is an object:

    kind        "tensor", "list", "graph" or "function"
    texts       paths, names of K functions and scopes, that places point at
    types       ["float32", null, 3], sizes after the dtype; [[...], [...]] for a node of several results
    identities  ["placeholder", name], ["variable", name, type, tensor or null], ["stream", name, seed, count],
                ["constant", type, tensor]: what is itself and no other, however alike
    places      five integers each: file, K function, scope, role (1 for a gradient), line
    origins     of nodes: the number of a place, or a list of up to four
    bodies      sections: of loops and branches, those within others first
    graph       a section
    function    what a function has besides its graph: see `_function`

A section has heads (the name of an op; with attrs, [name, {attr: value}]) and five columns: head, width (how many operands),
type and origin per node; operand, how many nodes back each operand stands. Roots are the numbers of its inputs, outputs, and of
variables and new values in turn; inputs and outputs say how many those are.

A value of an attr is an integer, true, false, null, a text, a list of such values, or an object of one entry: type, identity,
body (numbers), or value: [type, bytes in hex] of a small constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kgraph.files.container import METADATA, Limits, bad, over
from kgraph.ir.listing import Listing, Slot
from kgraph.ir.node import Constant, Graph, Identity
from kgraph.ir.origin import FORWARD, Origin
from kgraph.ir.stream import Stream
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType, TupleType
from kgraph.lower.variable import Variable

ORIGINS = 4  # of a node, as nodes keep them
NAME_LENGTH = 200  # of a tensor; the graph has a variable's name in full


class Encoder:
    """Makes the object of a graph, and collects the tensors that go with it.

    Attributes:
      tensors: name -> the variable or constant that has the value.
      nodes: how many there are, those of each body once.
    """

    def __init__(self, variables: bool, limits: Limits):
        self.tensors: dict[str, Variable | Constant] = {}
        self.nodes = 0
        self._variables, self._limits = variables, limits
        self._texts: dict[str, int] = {}
        self._types: dict[TensorType | TupleType, int] = {}
        self._identities: dict[Any, int] = {}
        self._numbers: dict[Origin, int] = {}
        self._places: dict[tuple[int, ...], int] = {}
        self._origins: dict[tuple[int, ...], int] = {}
        self._bodies: dict[Graph, int] = {}
        self._sections: list[dict[str, Any]] = []
        self._alike: dict[str, int] = {}  # a name of a tensor -> how many have it
        self._depth = 0

    def encoded(self, kind: str, graph: Graph, function: Any = None) -> dict[str, Any]:
        """The object of a graph. Raises FileError for what no file has: a name without end, an option that is an object."""
        section = self._section(graph)
        found = {} if function is None else {"function": self._function(function)}
        # What points into a table fills it: places point at texts, and so on.
        identities = [self._identity(identity) for identity in self._identities]
        for text in self._texts:
            self._checked(text, "a path, or the name of a K function or scope,")
        return {
            "kind": kind, "texts": list(self._texts), "types": [_type(each) for each in self._types], "identities": identities,
            "places": [number for place in self._places for number in place],
            "origins": [each[0] if len(each) == 1 else each for each in self._origins],
            "bodies": self._sections, "graph": section, **found,
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------------ sections

    def _section(self, graph: Graph) -> dict[str, Any]:
        flat = [*graph.inputs, *graph.outputs, *(node for pair in graph.updates for node in pair)]
        order = toposort(flat)
        self.nodes += len(order)
        listing = Listing.of(flat, order)
        slots = [self._numbered(identity) for identity in listing.identities]
        heads = [
            [name, {key: self._value(value, slots) for key, value in attrs}] if attrs else name for name, attrs in listing.heads
        ]
        widths, rows = np.frombuffer(listing.widths, np.int64), np.frombuffer(listing.rows, np.int64)
        at = np.cumsum(widths + 1) - widths - 1  # where the row of each node begins: with its head
        back = np.repeat(np.arange(len(widths)), widths) - np.delete(rows, at)
        origins = np.array([self._numbered_origins(each) for each in listing.origins], np.int64)
        return {
            "inputs": len(graph.inputs), "outputs": len(graph.outputs), "roots": list(listing.outputs), "heads": heads,
            "head": rows[at].tolist(), "width": widths.tolist(), "operand": back.tolist(),
            "type": [self._types.setdefault(node.type, len(self._types)) for node in order],
            "origin": origins[np.frombuffer(listing.origin_rows, np.int64)].tolist(),
        }  # fmt: skip

    def _value(self, value: Any, slots: Sequence[int]) -> Any:
        if isinstance(value, Slot):
            return {"identity": slots[value.number]}
        if isinstance(value, Graph):
            return {"body": self._body(value)}
        if isinstance(value, TensorType):
            return {"type": self._types.setdefault(value, len(self._types))}
        if isinstance(value, Constant):
            return {"value": [self._typed(value), _little(value.array).tobytes().hex()]}
        if isinstance(value, tuple):
            return [self._value(part, slots) for part in value]
        return self._checked(value, "a text among the attrs") if isinstance(value, str) else value

    def _body(self, body: Graph) -> int:
        if body not in self._bodies:
            self._depth += 1
            if self._depth > self._limits.depth:
                raise over("loops and branches within one another", self._depth, "depth", self._limits.depth)
            section = self._section(body)
            self._depth -= 1
            self._bodies[body] = len(self._sections)
            self._sections.append(section)
        return self._bodies[body]

    # ------------------------------------------------------------------------------------------------ tables

    def _numbered(self, identity: Any) -> int:
        return self._identities.setdefault(identity, len(self._identities))

    def _typed(self, constant: Constant) -> int:
        kind = TensorType(constant.array.dtype.name, constant.array.shape)
        return self._types.setdefault(kind, len(self._types))

    def _identity(self, identity: Any) -> list[Any]:
        if isinstance(identity, Constant):
            return ["constant", self._typed(identity), self._tensor("constant", identity)]
        name = None if identity.name is None else self._checked(identity.name, "a name")
        if isinstance(identity, Stream):
            return ["stream", name, identity.seed, identity.count]
        if isinstance(identity, Variable):
            kind = self._types.setdefault(identity.type, len(self._types))
            return ["variable", name, kind, self._tensor(name or "variable", identity) if self._variables else None]
        if type(identity) is not Identity:
            raise bad(f"{identity!r} is a parameter of a body that is not closed yet", hint="save what the loop returns")
        return ["placeholder", name]

    def _tensor(self, name: str, holder: Variable | Constant) -> str:
        """The name of a tensor: that of its variable, as other tools can read it, and told from those that are alike."""
        plain = found = name[:NAME_LENGTH].encode("utf-8", "replace").decode()
        number = self._alike.get(plain, 1)
        while found in self.tensors or found == METADATA:
            number += 1
            found = f"{plain}#{number}"
        self._alike[plain] = number
        self.tensors[found] = holder
        return found

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _numbered_origins(self, origins: tuple[Origin, ...]) -> int:
        places = tuple(dict.fromkeys([self._place(place) for place in origins[:ORIGINS]]))
        return self._origins.setdefault(places, len(self._origins))

    def _place(self, origin: Origin) -> int:
        """The number of a place: two origins of one line, of which a file has made the one, are the same."""
        number = self._numbers.get(origin)
        if number is None:
            texts = [self._text(text) for text in (origin.file, origin.call, origin.scope)]
            key = (*texts, int(origin.role != FORWARD), origin.line)
            number = self._numbers[origin] = self._places.setdefault(key, len(self._places))
        return number

    def _checked(self, text: str, what: str) -> str:
        if len(text) > self._limits.text:
            raise bad(f"{what} has {len(text):,} characters, and a file has {self._limits.text:,} at most", hint="shorten it")
        return text

    # ------------------------------------------------------------------------------------------------ functions

    def _function(self, function: Any) -> dict[str, Any]:
        engine = function._engine
        return {
            "engine": None if engine is None else self._checked(engine.name, "the name of the engine"),
            "passes": list(function.passes.names), "exclude": list(function.passes.exclude), "finite": function.passes.finite,
            "options": self._option("options", function.options)["dict"],
            "phase": function._fed_phase, "single": function._single,
            "shown": [self._checked(text, "a description") for text in function._shown], "names": list(function._names),
            "made": self._place(function._made),
        }  # fmt: skip

    def _option(self, name: str, value: Any) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        if type(value) is str:
            return self._checked(value, f"the option {name}")
        if type(value) is float:
            return {"float": value.hex()}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self._option(name, part) for part in value]}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": [[self._checked(key, f"a key of {name}"), self._option(key, part)] for key, part in value.items()]}
        raise bad(
            f"the option {name} is a {type(value).__name__}, which no file can have",
            hint="options that are saved are numbers, texts, None, and lists and dicts of them",
        )


def _type(type: TensorType | TupleType) -> list[Any]:
    return [_type(item) for item in type.items] if isinstance(type, TupleType) else [type.dtype, *type.shape]


def _little(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)

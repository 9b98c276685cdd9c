"""The one node type, the identity of what must stay distinct, constants' values, and the graph.

A node is ``op + inputs + attrs``, immutable and interned: equal expressions are the same object. Its type follows from them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kgraph.ir.operators import Operators
from kgraph.ir.origin import Origin
from kgraph.ir.types import TensorType, TupleType, is_tuple
from kgraph.ir.weak import WeakTable

if TYPE_CHECKING:
    from kgraph.ir.op import Op

Attrs = tuple[tuple[str, Any], ...]


class Node(Operators):
    """The application of an op to inputs (nodes) and attrs (static keyword metadata, as sorted pairs)."""

    __slots__ = ("op", "inputs", "attrs", "type", "origins", "__weakref__")
    op: Op
    inputs: tuple[Node, ...]
    attrs: Attrs
    type: TensorType
    origins: tuple[Origin, ...]
    __iter__ = None  # indexing until there is an IndexError never ends where a size is unknown

    @property
    def node(self) -> Node:  # type: ignore[override]
        return self

    @staticmethod
    def wrap(node: Node) -> Node:
        return node

    def attr(self, name: str) -> Any:
        """The value of one attr. Raises KeyError."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(name)

    @property
    def dtype(self) -> str:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def origin(self) -> Origin:
        return self.origins[0]

    @property
    def name(self) -> str | None:
        """What the user calls it: the name of a placeholder or variable, None for anything else."""
        for _, value in self.attrs:
            if isinstance(value, Identity):
                return value.name
        return None

    def __repr__(self) -> str:
        return f"<node {describe(self)}>"

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from kgraph.ir.listing import Listing

        return _first_output, (Listing.of([self]),)


def _first_output(listing: Any) -> Node:
    return listing.build()[0]


NODES = WeakTable()
_entries = NODES.entries
_new = object.__new__


def find(op: Op, inputs: tuple[Node, ...], attrs: Attrs, origin: Origin) -> Node | None:
    """The live node of this op, inputs and attrs; it remembers the origin too: the first few, and the last."""
    entry = _entries.get((op, inputs, attrs))
    node: Node | None = None if entry is None else entry()
    if node is not None and origin is not node.origins[0] and origin not in node.origins:
        node.origins = node.origins[:3] + origin.alone
    return node


def intern(op: Op, inputs: tuple[Node, ...], attrs: Attrs, type: TensorType | TupleType, origin: Origin) -> Node:
    """A new node, or the live one if another thread has just built it."""
    node = _new(Node)
    node.op, node.inputs, node.attrs, node.type, node.origins = op, inputs, attrs, type, origin.alone  # type: ignore[assignment]
    return NODES.setdefault((op, inputs, attrs), node)


class Identity:
    """What tells one placeholder, variable, stream or print from another of the same type; carries its name.

    Compared by identity. A pickle keeps identities that it names twice together, and loads them as new ones, so that
    what is loaded never merges with what is live. ``number`` orders them by birth.
    """

    __slots__ = ("number", "name", "__weakref__")
    _numbers = itertools.count()

    def __init__(self, name: str | None = None):
        self.number = next(Identity._numbers)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name or self.number!r})"


class Constant:
    """The value of a constant: a read-only array, compared by dtype, shape and bytes.

    Python holds 1 == 1.0 == True and 0.0 == -0.0, which are different constants; NaN is equal to itself here.
    """

    __slots__ = ("array", "key", "_hash", "_uniform")

    def __init__(self, array: np.ndarray[Any, Any]):
        array = np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)  # of one byte order: bytes are compared
        array.flags.writeable = False
        data = array.tobytes() if array.nbytes <= 64 else hashlib.blake2b(array.data, digest_size=32).digest()
        self.array = array
        self.key = (array.dtype.name, array.shape, data)
        self._hash = hash(self.key)
        self._uniform: Any = self

    @property
    def uniform(self) -> Any:
        """The number that all elements are, the sign of a zero included; None where they differ, or there are none."""
        if self._uniform is self:
            flat = self.array.reshape(-1)
            ends = flat[:1].tobytes(), flat[-1:].tobytes()
            same = flat.size and ends[0] == ends[1] and flat.tobytes() == ends[0] * flat.size
            self._uniform = flat[0].item() if same else None
        return self._uniform

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.key == other.key

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Constant, (self.array,)

    def __repr__(self) -> str:
        if self.array.size <= 8:
            return np.array2string(self.array, separator=", ", max_line_width=10_000, precision=6).replace("\n", "")
        return f"<{self.array.nbytes} bytes>"


class Graph:
    """Inputs, outputs and updates: what a function, or the body of a loop or branch, computes.

    Args:
      inputs: nodes that stand for the values given. In a body they are its parameters, by position.
      outputs: nodes.
      updates: pairs (variable, new value), carried out together after every read.
      built_as: of the body of a loop: a node for each of its inputs, over which its user has built it, then nodes built so.
        Equal bodies share their nodes, and so the lines where these come from; those built here have the lines of one loop.

    Equal graphs, of the same nodes, compare equal and hash alike.
    """

    __slots__ = ("inputs", "outputs", "updates", "built_as", "_hash")

    def __init__(
        self,
        inputs: Iterable[Node],
        outputs: Iterable[Node],
        updates: Iterable[tuple[Node, Node]] = (),
        built_as: Sequence[Node] = (),
    ):
        self.inputs, self.built_as = tuple(inputs), tuple(built_as)
        self.outputs = tuple(outputs)
        self.updates = tuple((variable, value) for variable, value in updates)
        self._hash = hash((self.inputs, self.outputs, self.updates))

    @property
    def roots(self) -> tuple[Node, ...]:
        """Every node that has to be computed: the outputs, then the new values of the variables."""
        return self.outputs + tuple([value for _, value in self.updates])

    def with_roots(self, roots: Sequence[Node]) -> Graph:
        """The same graph with other nodes in the place of its `roots`."""
        count = len(self.outputs)
        pairs = zip((variable for variable, _ in self.updates), roots[count:], strict=True)
        return Graph(self.inputs, roots[:count], pairs, self.built_as)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and (self.inputs, self.outputs, self.updates) == (
            other.inputs, other.outputs, other.updates,
        )  # fmt: skip

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        from kgraph.ir.traverse import toposort

        return len(toposort(self.roots))

    def __copy__(self) -> Graph:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from kgraph.ir.listing import Listing

        flat = [*self.inputs, *self.outputs, *(node for pair in self.updates for node in pair)]
        return _built_graph, (Listing.of(flat), len(self.inputs), len(self.outputs))

    def __repr__(self) -> str:
        return (
            f"<Graph: {len(self.inputs)} inputs, {len(self.outputs)} outputs, {len(self.updates)} updates, {len(self)} nodes>"
        )

    def __str__(self) -> str:
        from kgraph.ir.text import listing

        return listing(self)


def _built_graph(listing: Any, inputs: int, outputs: int) -> Graph:
    nodes = listing.build()
    rest = nodes[inputs + outputs :]
    return Graph(nodes[:inputs], nodes[inputs : inputs + outputs], zip(rest[::2], rest[1::2], strict=True))


def describe(node: Node) -> str:
    """The type of a node, and what its user calls it: ``float32[?, 3]  placeholder 'images'``."""
    name = node.name
    if name is not None:
        return f"{node.type}  {node.op.name} {name!r}"
    if node.op.name == "constant":
        return f"{node.type}  constant {node.attrs[0][1]!r}"
    origin = node.origin
    what = f"{origin.function} ({node.op.name})" if origin.function not in ("", node.op.name) else node.op.name
    return f"{node.type}  {what} at {origin}"


def as_given(node: Node, call: Origin) -> Node:
    """The tensor that a call was given, if the call has made the node of it alone: cast it, say, or added axes of size 1."""
    given: set[Node] = set()
    seen, todo = {node}, [node]
    for each in todo:
        if call in each.origins and each.inputs:
            todo += [i for i in each.inputs if i not in seen]
            seen.update(each.inputs)
        elif each.op.name not in ("constant", "stream"):
            given.add(each)
    if len(given) == 1 and not is_tuple(node.type):
        (one,) = given
        if not is_tuple(one.type) and [s for s in one.type.shape if s != 1] == [s for s in node.type.shape if s != 1]:
            return one
    return node

"""A graph as a flat listing, in toposort order: what pickles, what the cache keys on, and what it keeps.

A listing holds one row of integers per node, [row of the head, row of each input ...], and the distinct heads (op and attrs)
once. The identities among the attrs (of placeholders, variables, streams, prints), and the values of large constants, are
numbered by first visit and held apart: two models of one structure have equal rows and heads, and different identities.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.op import OPS
from kgraph.ir.origin import Origin, building
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType


@dataclass(frozen=True)
class Slot:
    """Stands in a head for the n-th identity of the listing; for a large constant, which is held apart too, with its type."""

    number: int
    type: TensorType | None = None


#: Bytes; a larger constant is an argument of the program, so that its value is in no key.
LARGE_CONSTANT = 1024


Head = tuple[str, tuple[tuple[str, Any], ...]]


class Listing:
    """The nodes that some outputs need, as data."""

    __slots__ = ("rows", "widths", "heads", "identities", "outputs", "origins", "origin_rows")

    def __init__(
        self, rows: array[int], widths: array[int], heads: Sequence[Head], identities: Sequence[Any],
        outputs: Sequence[int], origins: Sequence[tuple[Origin, ...]], origin_rows: array[int],
    ):  # fmt: skip
        self.rows, self.widths, self.heads, self.identities, self.outputs = rows, widths, heads, identities, outputs
        self.origins, self.origin_rows = origins, origin_rows

    @classmethod
    def of(cls, outputs: Sequence[Node], order: Sequence[Node] | None = None) -> Listing:
        """The listing of outputs.

        Args:
          order: the toposort of outputs, where the caller has it.
        """
        rows, widths, origin_rows = array("q"), array("q"), array("q")
        heads: dict[Head, int] = {}
        identities: dict[Any, int] = {}
        origins: dict[tuple[Origin, ...], int] = {}
        at: dict[Node, int] = {}
        plain: dict[Any, int] = {}  # op without attrs -> its head
        for number, node in enumerate(toposort(outputs) if order is None else order):
            at[node] = number
            if node.attrs:
                key = (node.op.name, tuple([(name, _numbered(value, identities)) for name, value in node.attrs]))
                head = heads.setdefault(key, len(heads))
            else:
                head = plain.get(node.op, -1)
                if head < 0:
                    head = plain[node.op] = heads.setdefault((node.op.name, ()), len(heads))
            rows.append(head)
            for i in node.inputs:
                rows.append(at[i])
            widths.append(len(node.inputs))
            origin_rows.append(origins.setdefault(node.origins, len(origins)))
        return cls(rows, widths, list(heads), list(identities), [at[node] for node in outputs], list(origins), origin_rows)

    def nodes(self, identities: Sequence[Any] | None = None) -> list[Node]:
        """Every node of the listing, built again.

        Args:
          identities: other identities in the place of the listing's own, one for one.
        """
        given = self.identities if identities is None else identities
        heads = [(OPS[name], tuple([(key, _named(value, given)) for key, value in attrs])) for name, attrs in self.heads]
        made: list[Node] = []
        rows, position = self.rows, 0
        before = building.origin
        try:
            for width, origins in zip(self.widths, self.origin_rows, strict=True):
                building.origin = self.origins[origins][0]
                op, attrs = heads[rows[position]]
                position += 1
                made.append(op.apply(tuple([made[i] for i in rows[position : position + width]]), attrs))
                position += width
        finally:
            building.origin = before
        return made

    def build(self, identities: Sequence[Any] | None = None) -> list[Node]:
        """The outputs, built again."""
        made = self.nodes(identities)
        return [made[i] for i in self.outputs]

    def digest(self, *context: Any) -> bytes:
        """A hash of the structure, and of the context (strings, numbers): not of identities, names, values or origins."""
        found = hashlib.blake2b(digest_size=20)
        for head in self.heads:
            found.update(_spelled(head).encode())
            found.update(b"\n")
        for part in (self.rows, self.widths, array("q", self.outputs)):
            found.update(len(part).to_bytes(8, "little"))
            found.update(part)
        found.update(repr(context).encode())
        return found.digest()

    def __reduce__(self) -> tuple[Any, ...]:
        return Listing, (self.rows, self.widths, self.heads, self.identities, self.outputs, self.origins, self.origin_rows)


def _numbered(value: Any, identities: dict[Any, int]) -> Any:
    """An attr with a slot in the place of an identity. A body keeps those of its prints: they tell nothing from outside."""
    if isinstance(value, Identity):
        return Slot(identities.setdefault(value, len(identities)))
    if is_large(value):
        return Slot(identities.setdefault(value, len(identities)), TensorType(value.array.dtype.name, value.array.shape))
    return value


def is_large(value: Any) -> bool:
    """Whether an attr is a constant that is held apart from the structure."""
    return isinstance(value, Constant) and value.array.nbytes > LARGE_CONSTANT


def _named(value: Any, identities: Sequence[Any]) -> Any:
    return identities[value.number] if isinstance(value, Slot) else value


def _spelled(value: Any) -> str:
    """An attr spelled out in full, for the digest: equal if and only if the attrs are."""
    if isinstance(value, Constant):
        return repr(value.key)
    if isinstance(value, Graph):
        flat = [*value.inputs, *value.outputs, *(node for pair in value.updates for node in pair)]
        inner = Listing.of(flat)
        # A program has the large constants of its bodies in it: only those outside of bodies are arguments.
        held = [constant.key for constant in inner.identities if isinstance(constant, Constant)]
        return f"body:{inner.digest(len(value.inputs), len(value.outputs), held).hex()}"
    if isinstance(value, tuple):
        return f"({','.join(map(_spelled, value))})"
    return f"{type(value).__name__}:{value!r}"

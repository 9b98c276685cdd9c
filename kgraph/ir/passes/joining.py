"""What merging products of matrices costs: operands joined along an axis, and the times of a model of one core.

The model is of nanoseconds that NumPy takes here; TensorFlow and Theano take longer for an op and as long for a byte, so that
what pays by it pays there too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.types import numpy_dtype

#: What sizes that are not known are tried as. Of the ways that cost no more for any of them, the best for `TYPICAL` is taken.
TRIED = (1, 32, 1_000_000)
TYPICAL = TRIED.index(32)
#: Costs that differ by less than this are the same.
SLACK = 1.02

#: Of each op, of each operand that is joined, and of a slice.
PRODUCT, SUM, JOIN, PART, SLICE = 1000.0, 450.0, 700.0, 100.0, 150.0
#: Of each byte: of a joined operand, of a sum, of what a product reads and writes.
JOINED, SUMMED, MOVED = 0.04, 0.03, 0.01
#: Of each byte of a right operand that is transposed; of each multiplication that is added up, in small products and in others,
#: whose operands BLAS packs first.
TRANSPOSED, MULTIPLIED, PACKED = 0.15, 0.018, 0.024
SMALL = 1_000_000

#: A figure for each of `TRIED`.
Each = tuple[float, float, float]


class Join(NamedTuple):
    """Operands joined along the last axis (-1) or the one before it (-2)."""

    axis: int
    parts: tuple[Operand, ...]


class Swap(NamedTuple):
    """An operand with its last two axes in each other's place."""

    of: Operand


Operand = Node | Join | Swap


def swaps(perm: tuple[int, ...]) -> bool:
    """Whether the last two axes change places, and no others."""
    n = len(perm)
    return n >= 2 and perm == (*range(n - 2), n - 1, n - 2)


def swapped(x: Node) -> Node:
    return o.transpose(x, perm=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def join(axis: int, parts: Sequence[Operand], swaps_after: bool = False) -> Operand:
    """Operands joined.

    Args:
      swaps_after: join those that are all transposed before that. A left operand may be transposed at no cost, and what it is
        joined of is often there; a right one takes a product twice as long, which a copy of it saves.
    """
    if len(parts) == 1:
        return parts[0]
    before = [_unswapped(part) for part in parts] if swaps_after else [None]
    if None not in before:
        return Swap(join(-3 - axis, before, True))  # type: ignore[arg-type]
    return Join(axis, tuple(parts))


def is_swapped(x: Operand) -> bool:
    return x.__class__ is Swap or (x.__class__ is Node and x.op is o.transpose and swaps(x.attr("perm")))


def _unswapped(x: Operand) -> Operand | None:
    return (x.of if x.__class__ is Swap else x.inputs[0]) if is_swapped(x) else None  # type: ignore[union-attr]


def joins(x: Operand) -> list[Join]:
    """Every join in an operand."""
    found: list[Join] = []
    waiting = [x]
    while waiting:
        one = waiting.pop()
        if one.__class__ is Swap:
            waiting.append(one.of)
        elif one.__class__ is Join:
            found.append(one)
            waiting += one.parts
    return found


def nodes_of(x: Operand) -> list[Node]:
    """The nodes that an operand is made of."""
    found: list[Node] = []
    waiting = [x]
    while waiting:
        one = waiting.pop()
        if one.__class__ is Swap:
            waiting.append(one.of)
        elif one.__class__ is Join:
            waiting += reversed(one.parts)
        else:
            found.append(one)  # type: ignore[arg-type]
    return found


def made(x: Operand, final: Callable[[Node], Node]) -> Node:
    """The node of an operand. Joins lie in one another two deep at most."""
    if x.__class__ is Swap:
        return swapped(made(x.of, final))
    if x.__class__ is Join:
        parts = [made(part, final) for part in x.parts]
        return o.concatenate(*parts, axis=parts[0].ndim + x.axis)
    return final(x)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- times


@functools.lru_cache(4096)
def elements(shape: tuple[int | None, ...]) -> Each:
    product = math.prod([1 if size is None else size for size in shape])
    one, some, many = [float(product * n ** shape.count(None)) for n in TRIED]
    return one, some, many


@functools.lru_cache(4096)
def bytes_of(shape: tuple[int | None, ...], dtype: str) -> Each:
    return times(elements(shape), numpy_dtype(dtype).itemsize)


def plus(first: Each, *others: Each) -> Each:
    one, some, many = first
    for other in others:
        one += other[0]
        some += other[1]
        many += other[2]
    return one, some, many


def times(each: Each, factor: float, constant: float = 0.0) -> Each:
    one, some, many = each
    return constant + factor * one, constant + factor * some, constant + factor * many


class Sizes:
    """Bytes of operands, and times of products, each worked out once."""

    def __init__(self) -> None:
        self._bytes: dict[Operand, Each] = {}
        self._products: dict[tuple[Each, Each, Each, bool, str], Each] = {}

    def bytes(self, x: Operand) -> Each:
        if x.__class__ is Node:
            return bytes_of(x.type.shape, x.type.dtype)
        if x.__class__ is Swap:
            return self.bytes(x.of)
        found = self._bytes.get(x)
        if found is None:
            found = self._bytes[x] = plus(*[self.bytes(part) for part in x.parts])  # type: ignore[union-attr]
        return found

    def joining(self, x: Join) -> Each:
        """What one join takes, without those in it."""
        return times(self.bytes(x), JOINED, JOIN + PART * len(x.parts))

    def product(self, left: Operand, right: Operand, out: Each, dtype: str) -> Each:
        """What one product takes, of operands that are there.

        Args:
          out: bytes of the product.
        """
        turned = is_swapped(right)
        key = (self.bytes(left), self.bytes(right), out, turned, dtype)
        found = self._products.get(key)
        if found is None:
            # The numbers of n by k, k by m and n by m elements, multiplied, are the square of n by k by m.
            size = numpy_dtype(dtype).itemsize
            slower = TRANSPOSED if turned else 0.0
            one, some, many = [
                PRODUCT + MOVED * (x + y + z) + slower * y + _arithmetic(math.sqrt(x * y * z / size**3))
                for x, y, z in zip(*key[:3], strict=True)
            ]
            found = self._products[key] = one, some, many
        return found


def _arithmetic(count: float) -> float:
    return count * (MULTIPLIED if count <= SMALL else PACKED)

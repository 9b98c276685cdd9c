"""Which products are merged: groups of sums of products, the ways to compute them, and the choice of those that cost least.

What products are joined of is shared: the joined weights of a layer by all steps, what a step is joined of by its gates and by
the gradients of their weights. So no group is judged by itself: each pays its share of what it joins, and groups that cost
more than the products one by one are left as they are, until the rest of them is worth it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph.ir.guards import Guard
from kgraph.ir.node import Node
from kgraph.ir.passes.fitting import Sources
from kgraph.ir.passes.joining import (
    SLACK,
    SLICE,
    SUM,
    SUMMED,
    TYPICAL,
    Each,
    Join,
    Sizes,
    bytes_of,
    join,
    joins,
    nodes_of,
    plus,
    swaps,
    times,
)  # fmt: skip
from kgraph.ir.types import TensorType

#: So many products are merged at most, and so many operands joined.
MOST = 128
#: How often each group may think again.
ROUNDS = 6

_ALL = (0, 2**63 - 1, 1)


class Sum:
    """A sum of products, and of other terms; or one product.

    Attributes:
      root: the node.
      terms: the operands of each product.
      others: the other terms.
      type: of each of the products.
      guard: of the sides of branches that need it.
      level: sums of one level do not wait for one another; 0 where that is not known.
    """

    __slots__ = ("root", "terms", "others", "type", "guard", "level")

    def __init__(self, root: Node, products: Sequence[Node], others: list[Node], guard: Guard | None):
        self.root, self.others, self.guard = root, others, guard
        self.type: TensorType = products[0].type
        self.terms: list[tuple[Node, Node]] = [(x, y) for x, y in (product.inputs for product in products)]
        self.level = 0


def unswapped(x: Node) -> Node:
    """What x is the transpose of, if it is one of matrices; x otherwise."""
    return x.inputs[0] if x.op is o.transpose and swaps(x.attr("perm")) else x


def _starts(sizes: Sequence[int | None]) -> list[Any]:
    """Where parts of some sizes begin, and where the last one ends; None where that is not known."""
    return [0, *itertools.accumulate(sizes, lambda end, size: None if end is None or size is None else end + size)]


class Block:
    """Sums that are computed together: those with the same right operands.

    Args:
      members: the sums.
      lefts: for each of them, its left operands, by term.
      rights: the right operands, by term.
      contracted: whether the sum of products is one product.

    Attributes:
      factors: the operands of each product that is left.
      rule: the name of what is done.
    """

    __slots__ = ("members", "factors", "rule", "_rows")

    def __init__(self, members: Sequence[Sum], lefts: Sequence[Sequence[Node]], rights: Sequence[Node], contracted: bool):
        self.members = members
        self._rows = _starts([xs[0].type.shape[-2] for xs in lefts])
        xs = [join(-2, column, True) for column in zip(*lefts, strict=True)]
        if contracted:
            starts = range(0, len(xs), MOST)
            self.factors = [(join(-1, xs[s : s + MOST], True), join(-2, rights[s : s + MOST])) for s in starts]
        else:
            self.factors = list(zip(xs, rights, strict=True))
        self.rule = "same_right" if len(members) > 1 else "sum_of_products"

    def joins(self) -> list[Join]:
        return [each for factor in self.factors for x in factor for each in joins(x)]

    def nodes(self) -> list[Node]:
        """What it is computed of."""
        return list(dict.fromkeys([node for factor in self.factors for x in factor for node in nodes_of(x)]))

    def cost(self, sizes: Sizes) -> Each:
        """Without what is joined."""
        dtype = self.members[0].type.dtype
        out = plus(*[bytes_of(one.type.shape, dtype) for one in self.members])
        total = plus(*[sizes.product(x, y, out, dtype) for x, y in self.factors])
        if len(self.factors) > 1:
            total = plus(total, times(times(out, SUMMED, SUM), len(self.factors) - 1))
        return plus(total, (SLICE * len(self.members),) * 3) if len(self.members) > 1 else total

    def part(self, product: Node, i: int) -> Node:
        """The product of one member."""
        if len(self.members) == 1:
            return product
        lead, rows = product.ndim - 2, self._rows
        if None not in rows:
            return o.index(product, form="s" * (lead + 1), numbers=(*_ALL * lead, rows[i], rows[i + 1], 1))
        apart = o.reshape(product, shape=(*product.type.shape[:-2], len(self.members), -1, product.type.shape[-1]))
        return o.index(apart, form="s" * lead + "i", numbers=(*_ALL * lead, i))


class Group:
    """Sums with the same right operands, and the ways to compute them.

    Args:
      members, lefts, rights: as of `Block`.
    """

    __slots__ = ("members", "lefts", "rights")

    def __init__(self, members: list[Sum], lefts: list[list[Node]], rights: list[Node]):
        self.members, self.lefts, self.rights = members, lefts, rights

    def ways(self, exclude: Collection[str], sources: Sources) -> Iterator[list[Block]]:
        """Lists of blocks, every sum in one of them; first each sum by itself, as it is, last what joins most."""
        ways: list[list[tuple[list[Sum], list[list[Node]]]]] = [
            [([one], [xs]) for one, xs in zip(self.members, self.lefts, strict=True)]
        ]
        if len(self.members) > 1 and "same_right" not in exclude and self._rows_known(sources):
            ways.append([(self.members, self.lefts)])
        contracted = (False, True) if len(self.rights) > 1 and "sum_of_products" not in exclude else (False,)
        for way in ways:
            for summed in contracted:
                yield [Block(members, lefts, self.rights, summed) for members, lefts in way]

    def _rows_known(self, sources: Sources) -> bool:
        """Whether it is known which rows of a product belong to which member."""
        firsts = [xs[0] for xs in self.lefts]
        sizes = {x.type.shape[-2] for x in firsts}
        if None not in sizes:
            return True
        others = (*self.members[0].type.shape[:-2], self.rights[0].type.shape[-1])
        if len(sizes) > 1 or not all(others):
            return False  # reshape works out one size, among others that are not 0
        wanted = sources(firsts[0], firsts[0].ndim - 2)
        return all(sources(x, x.ndim - 2) == wanted for x in firsts[1:])


class _Way:
    """One way to compute a group: its blocks, what they join, and what they cost without that."""

    __slots__ = ("blocks", "joins", "cost")

    def __init__(self, blocks: list[Block], sizes: Sizes):
        self.blocks = blocks
        self.joins = list(dict.fromkeys([each for block in blocks for each in block.joins()]))
        self.cost = plus(*[block.cost(sizes) for block in blocks])


def chosen_blocks(groups: Iterable[Group], exclude: Collection[str], sources: Sources) -> list[Block]:
    """The blocks that cost less than their sums one by one."""
    sizes = Sizes()
    ways: list[list[_Way]] = []
    for group in groups:
        found = [_Way(blocks, sizes) for blocks in group.ways(exclude, sources)]
        if len(found) > 1:
            ways.append(found)
    possible: dict[Join, int] = {}
    for found in ways:
        for each in dict.fromkeys([each for way in found for each in way.joins]):
            possible[each] = possible.get(each, 0) + 1
    picked = [_cheapest(found, found[0], possible, sizes, True) for found in ways]
    users: dict[Join, int] = {}
    for way in picked:
        for each in way.joins:
            users[each] = users.get(each, 0) + 1
    for settled in (False, True):
        for _ in range(ROUNDS):
            changed = False
            for number, found in enumerate(ways):
                before = picked[number]
                after = _cheapest((found[0], before) if settled else found, before, users, sizes)
                if after is not before:
                    changed = True
                    picked[number] = after
                    for way, step in ((before, -1), (after, 1)):
                        for each in way.joins:
                            users[each] = users.get(each, 0) + step
            if not changed:
                break
    return [
        block
        for way, found in zip(picked, ways, strict=True)
        if way is not found[0]
        for block in way.blocks
        if block.joins()
    ]


def _cheapest(found: Sequence[_Way], now: _Way, users: dict[Join, int], sizes: Sizes, counted: bool = False) -> _Way:
    """The way that costs least, if each user of a join pays a share of it.

    Args:
      now: the way that is taken now, one of the users.
      counted: whether every way is one of the users.
    """
    plain = best = found[0]
    least = plain.cost
    mine = set(now.joins)
    for way in found[1:]:
        cost = way.cost
        for each in way.joins:
            cost = plus(cost, times(sizes.joining(each), 1 / (users.get(each, 0) + (not counted and each not in mine))))
        no_more = all(one <= SLACK * other for one, other in zip(cost, plain.cost, strict=True))
        if no_more and cost[TYPICAL] < least[TYPICAL]:
            best, least = way, cost
    return best

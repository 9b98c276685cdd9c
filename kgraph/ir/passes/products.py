"""Products of matrices that share an operand, merged into one; sums of products as one product.

A graph is looked at as a whole, level by level of its bodies. Its sums of products (a product by itself is a sum of one) are
grouped by their right operands, as the gradients of the weights of an LSTM have the same cotangents: a group is one product, or
one sum of products, of joined left operands; each member is some rows of it. A sum of products is one product too, of operands
joined along the axis that is summed over.

Which of this is done, `merging` says, by what it costs. Products are merged only if none waits for another one, and if the same
sides of the same branches need them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import kgraph.ir.ops as o
from kgraph.ir.guards import Guard, guards
from kgraph.ir.node import Graph, Node
from kgraph.ir.origin import building
from kgraph.ir.passes.fitting import Sources
from kgraph.ir.passes.joining import made
from kgraph.ir.passes.merging import MOST, Block, Group, Sum, chosen_blocks, unswapped
from kgraph.ir.pattern import p, var
from kgraph.ir.record import Record
from kgraph.ir.rewrite import Rule, leave_out, refines
from kgraph.ir.traverse import rebuilt, toposort

_WHOLE = "that is decided over the whole graph, by what is copied and what is saved"

X, Y, Z, W = var("x"), var("y"), var("z"), var("w")


def same_right(x: Node, y: Node) -> str:
    """x @ z, y @ z -> [x; y] @ z, and slices of it"""
    return _WHOLE


def sum_of_products(x: Node, y: Node, z: Node, w: Node) -> str:
    """x @ y + z @ w -> [x, z] @ [y; w]"""
    return _WHOLE


class Whole:
    """A pass over a graph as a whole whose rewrites have names: `exclude` leaves them out as it does rules.

    Attributes:
      rules: their names, and what they look for; whether one applies, the graph as a whole decides.
    """

    def __init__(self, rules: Iterable[Rule]):
        self.rules = list(rules)

    def __call__(self, graph: Graph, record: Record, exclude: Collection[str] = ()) -> Graph:
        return _merged(graph, record, frozenset(name.rpartition(".")[2] for name in exclude))


def _merged(graph: Graph, record: Record, exclude: frozenset[str]) -> Graph:
    exclude = exclude.union(name.rpartition(".")[2] for name in record.left_out)
    order = toposort(graph.roots)
    bodies = any(node.op.bodies for node in order)
    count = sum(node.op is o.matmul for node in order)
    blocks = _blocks(order, graph.roots, exclude) if count > 1 else []
    if not blocks and not bodies:
        return graph
    return _Rebuilding(blocks, record, exclude).run(graph)


def _blocks(order: Sequence[Node], roots: Sequence[Node], exclude: Collection[str]) -> list[Block]:
    uses: dict[Node, int] = dict.fromkeys(order, 0)
    for node in order:
        for i in node.inputs:
            uses[i] += 1
    for root in roots:
        uses[root] += 1
    sides = guards(order, roots)
    sources = Sources()
    sums = _Sums(order, uses, sides, sources).found
    if len(sums) == 1 and len(sums[0].terms) == 1:
        return []
    place = {node: number for number, node in enumerate(order)}
    return chosen_blocks(_groups(sums, order, place, uses), exclude, sources)


# ---------------------------------------------------------------------------------------------------- sums of products


class _Sums:
    """Every product of a graph, in the sum that it is a term of; by itself if there is none."""

    def __init__(self, order: Sequence[Node], uses: dict[Node, int], sides: dict[Node, Guard | None], sources: Sources):
        self.uses, self.sources = uses, sources
        self.taken: set[Node] = set()
        self.found: list[Sum] = []
        for node in reversed(order):
            if node in self.taken:
                continue
            if node.op is o.add:
                products, others = self._terms(node)
                if len(products) > 1:
                    self.taken.update(products)
                    self.found.append(Sum(node, products, others, sides.get(node)))
            elif node.op is o.matmul:
                self.found.append(Sum(node, [node], [], sides.get(node)))
        self.found.reverse()

    def _terms(self, total: Node) -> tuple[list[Node], list[Node]]:
        """The products of a sum that are of its type for sure, and used by nothing else; its other terms."""
        products: list[Node] = []
        others: list[Node] = []
        inner: set[object] = set()
        waiting = [*reversed(total.inputs)]
        while waiting:
            node = waiting.pop()
            alone = self.uses[node] == 1 and node.type is total.type
            if alone and node.op is o.add:
                self.taken.add(node)
                waiting += reversed(node.inputs)
                continue
            fits = alone and node.op is o.matmul and (not products or self._alike(node, products[0]))
            (products if fits and self._joins(node, inner) else others).append(node)
        return products, others

    def _alike(self, x: Node, y: Node) -> bool:
        return all(size is not None or self.sources(x, a) == self.sources(y, a) for a, size in enumerate(x.type.shape))

    def _joins(self, product: Node, inner: set[object]) -> bool:
        """Whether operands that do not fit together would not fit either once they are joined with those of other products.

        That is so if they do fit for sure; or if the left operands that may not are all of one size, and the right ones too.
        """
        x, y = product.inputs
        sizes = self.sources(x, x.ndim - 1), self.sources(y, y.ndim - 2)
        if sizes[0] != sizes[1] and None in (x.type.shape[-1], y.type.shape[-2]):
            if inner and sizes not in inner:
                return False
            inner.add(sizes)
        return True


# ---------------------------------------------------------------------------------------------------- groups


def _groups(sums: list[Sum], order: Sequence[Node], place: dict[Node, int], uses: dict[Node, int]) -> list[Group]:
    """The sums by their right operands, but for products that have none in common with others."""
    for one in sums:
        one.terms.sort(key=lambda term: (place[term[1]], place[term[0]]))
    _level(sums, order)
    orders: dict[frozenset[Node], tuple[Node, ...]] = {}
    groups: dict[object, list[Sum]] = {}
    for one in sums:
        if 1 < len(one.terms) <= MOST:
            for side in zip(*_preferred(one.terms, place, uses), strict=True):
                orders.setdefault(frozenset(side), side)
        key = (one.level, one.guard, tuple([y for _, y in one.terms])) if one.level else one
        groups.setdefault(key, []).append(one)
    found = []
    for members in groups.values():
        if len(members) > 1 or len(members[0].terms) > 1:
            for start in range(0, len(members), MOST):
                found.append(_group(members[start : start + MOST], place, uses, orders))
    return found


def _level(sums: Sequence[Sum], order: Sequence[Node]) -> None:
    """Levels of sums that share operands with others: what waits for another one is a level above it. 0 for the rest.

    Sums that no other one waits for share a level of their own: they can all come last.
    """
    rights: dict[object, list[Sum]] = {}
    for one in sums:
        rights.setdefault((one.guard, tuple([y for _, y in one.terms])), []).append(one)
    sharing = {one.root: one for each in rights.values() if len(each) > 1 for one in each}
    if not sharing:
        return
    needed: set[Node] = {i for one in sharing.values() for term in one.terms for i in term}
    for node in reversed(order):
        if node in needed:
            needed.update(node.inputs)
    level: dict[Node, int] = {}
    get = level.get
    for node in order:
        found = sharing.get(node)
        if found is None:
            highest = 0
            for i in node.inputs:
                if get(i, 0) > highest:
                    highest = level[i]
        else:
            own = 0
            for x, y in found.terms:
                own = max(own, get(x, 0), get(y, 0))
            own += 1
            found.level = own if node in needed else -1
            highest = max([own, *[get(i, 0) for i in found.others]])
        if highest:
            level[node] = highest


def _preferred(terms: Sequence[tuple[Node, Node]], place: dict[Node, int], uses: dict[Node, int]) -> list[tuple[Node, Node]]:
    """The terms in the order of those operands that others use too, so that others find them joined."""
    side = sum([uses[y] - uses[x] for x, y in terms]) > 0
    return sorted(terms, key=lambda term: (place[term[side]], place[term[not side]]))


def _group(
    members: list[Sum], place: dict[Node, int], uses: dict[Node, int], orders: dict[frozenset[Node], tuple[Node, ...]]
) -> Group:
    """Sums with the same right operands, in an order in which something has their left ones joined already."""
    terms = members[0].terms
    wanted = {term: number for number, term in enumerate(_preferred(terms, place, uses))}
    numbers = sorted(range(len(terms)), key=lambda i: wanted[terms[i]])
    for i in numbers if len(members) > 1 else ():
        lefts = [unswapped(one.terms[i][0]) for one in members]
        there = orders.get(frozenset(lefts))
        if there is not None and len(there) == len(lefts):
            members = [members[lefts.index(x)] for x in there]
            break
    return Group(members, [[one.terms[i][0] for i in numbers] for one in members], [terms[i][1] for i in numbers])


# ---------------------------------------------------------------------------------------------------- the graph again


class _Rebuilding:
    """The graph with its blocks in the place of their members."""

    def __init__(self, blocks: Sequence[Block], record: Record, exclude: frozenset[str]):
        self.record, self.exclude = record, exclude
        self.members = {one.root: (one, block, i) for block in blocks for i, one in enumerate(block.members)}
        self.operands = {block: block.nodes() for block in blocks}
        self.products: dict[Block, Node] = {}
        self.final: dict[Node, Node] = {}

    def run(self, graph: Graph) -> Graph:
        final, members = self.final, self.members
        stack = [*reversed(graph.roots)]
        while stack:
            node = stack[-1]
            if node in final:
                stack.pop()
                continue
            member = members.get(node)
            if member is not None and not self._goes_on(member[1]):
                member = None
            needed: Sequence[Node] = node.inputs
            if member is not None:
                needed = member[0].others
                if member[1] not in self.products:
                    needed = [*self.operands[member[1]], *needed]
            waits = [i for i in needed if i not in final]
            if waits:
                stack += reversed(waits)
                continue
            if member is None:
                found: Node | None = rebuilt(node, tuple([final[i] for i in needed]), self._body if node.op.bodies else None)
            else:
                found = self._member(*member)
            if found is not None:
                stack.pop()
                final[node] = found
                if self.record.steps is not None and found is not node:
                    self.record.steps.setdefault(node, found)
        return graph.with_roots([final[root] for root in graph.roots])

    def _body(self, body: Graph) -> Graph:
        return _merged(body, self.record, self.exclude)

    def _goes_on(self, block: Block) -> bool:
        return self.record.by_rules != self.record.most and f"products.{block.rule}" not in self.record.left_out

    def _member(self, one: Sum, block: Block, i: int) -> Node | None:
        """What comes in the place of a sum; None if there is nothing, and its rule is left out."""
        before, building.origin = building.origin, one.root.origins[0]
        try:
            product = self.products.get(block)
            if product is None:
                product = self.products[block] = self._product(block)
            found = block.part(product, i)
            for other in one.others:
                found = o.add(found, self.final[other])
        except Exception as error:  # whatever it is, the program does not need this rule
            leave_out(RULES[block.rule], f"raised {type(error).__name__}: {error}", self.record)
            return None
        finally:
            building.origin = before
        if not refines(found.type, one.root.type):
            leave_out(RULES[block.rule], f"made {found.type} of {one.root.type}", self.record)
            return None
        self.record.by_rules += 1
        self.record.note("products", block.rule, one.root, found)
        return found

    def _product(self, block: Block) -> Node:
        left, right = block.factors[0]
        final = self.final.__getitem__
        total = o.matmul(made(left, final), made(right, final))
        for left, right in block.factors[1:]:
            total = o.add(total, o.matmul(made(left, final), made(right, final)))
        return total


products = Whole([
    Rule("products", [p.matmul(X, Y)], same_right, "rounding"),
    Rule("products", [p.matmul(X, Y) + p.matmul(Z, W)], sum_of_products, "rounding"),
])  # fmt: skip
RULES = {rule.name.partition(".")[2]: rule for rule in products.rules}

__all__ = ["Whole", "products"]

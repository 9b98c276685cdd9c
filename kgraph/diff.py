"""What went and what came between two graphs, by structure: nodes are told by what they are and what they are made of.

First the nodes are matched that are the same over the same sources. Of the others those belong together that do the same and
have an operand in common, in the order in which they come, and then those that the same results need in the same places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.text import Names, Row, call, ends, is_inline, numbered, rows
from kgraph.ir.traverse import toposort

AROUND = 2  # lines that stayed are shown on either side of a change


class Marked(NamedTuple):
    """A row, and whether it went "-", came "+", stayed " ", or stayed with other operands, type or bodies "~"; what it was."""

    mark: str
    row: Row
    was: str = ""


class Diff:
    """The difference of two graphs.

    Attributes:
      went: nodes of the first graph that the second has not, in order.
      came: nodes of the second that the first had not.
      stayed: pairs of nodes.
      changed: those of them whose operands, type or bodies are others.

    Small constants are no nodes of their own here: they belong to those that use them.
    """

    def __init__(self, before: Graph, after: Graph):
        self.before, self.after = before, after
        self._given = set(before.inputs) | set(after.inputs)
        self._pairs = _Matching(before, after)
        old, new = self._pairs.old, self._pairs.new
        before_nodes, before_names = numbered(before)
        after_nodes, self._names = numbered(after)
        self.went = [node for node in before_nodes if node not in new]
        self.came = [node for node in after_nodes if node not in old]
        self.stayed = [(old[node], node) for node in after_nodes if node in old]
        # What stayed has its new name; what went has the old one, with an apostrophe.
        old_names = {node: self._names.get(new.get(node, node), name + "'") for node, name in before_names.items()}
        self._old_names = Names(old_names)
        self.changed = [pair for pair in self.stayed if self._differs(*pair)]
        self._before_nodes, self._after_nodes = before_nodes, after_nodes

    def _differs(self, before: Node, after: Node) -> bool:
        if before is after:
            return False
        if before.type is not after.type or any(x != y for x, y in _bodies(before, after)):
            return True
        if before in self._given or after in self._given:
            return False
        return [self._pairs.new.get(i) for i in before.inputs] != list(after.inputs)

    def __bool__(self) -> bool:
        return bool(self.went or self.came or self.changed) or self._ends()[0] != self._ends()[1]

    @property
    def head(self) -> str:
        """The difference in a line."""
        other = f" ({len(self.changed):,} with other operands, type or bodies)" if self.changed else ""
        return f"{len(self.went):,} went, {len(self.came):,} came, {len(self.stayed):,} stayed{other}"

    def as_data(self) -> dict[str, Any]:
        """The same as lists of texts, for JSON."""
        found: dict[str, Any] = {"stayed": len(self.stayed)}
        changed = {pair[1] for pair in self.changed}
        for name, nodes, names in (
            ("went", self.went, self._old_names),
            ("came", self.came, self._names),
            ("changed", [node for node in self._after_nodes if node in changed], self._names),
        ):
            rows_ = [(names[node], repr(node.type), call(node, names), str(node.origin)) for node in nodes]
            found[name] = [dict(zip(("name", "type", "call", "line"), row, strict=True)) for row in rows_]
        return found

    def rows(self, depth: int = 0) -> Iterator[Marked]:
        """The rows of both graphs, in order."""
        place = {node: i for i, node in enumerate(self._before_nodes)}
        changed = {pair[1] for pair in self.changed}
        given, old_given = set(self.after.inputs), set(self.before.inputs)
        at = 0
        for node in [*self._after_nodes, None]:
            old = self._pairs.old.get(node) if node is not None else None
            end = len(place) if node is None else place.get(old, at) if old is not None else at
            for number in range(at, end):
                went = self._before_nodes[number]
                if went not in self._pairs.new:
                    yield from _whole("-", Row(depth, self._old_names[went], went, self._old_names, given=went in old_given))
            at = max(at, end)
            if node is None:
                break
            row = Row(depth, self._names[node], node, self._names, given=node in given)
            if old is None:
                yield from _whole("+", row)
            elif node not in changed:
                yield Marked(" ", row)
            else:
                was = call(old, self._old_names, old in old_given)
                texts = [was if was != call(node, self._names, node in given) else ""]
                texts.append(repr(old.type) if old.type is not node.type else "")
                yield Marked("~", row, ", ".join(filter(None, texts)))
                for name, value in node.attrs:
                    if isinstance(value, Graph) and value != old.attr(name):
                        yield Marked(" ", Row(depth + 1, f"{name}:"))
                        yield from Diff(old.attr(name), value).rows(depth + 2)
        before, after = self._ends()
        for i, row in enumerate(after):
            if i < len(before) and before[i][1:] == row[1:]:
                yield Marked(" ", row._replace(depth=depth))
            elif i == 0:
                yield Marked("~", row._replace(depth=depth), before[0].text)
            else:
                yield Marked(" " if row in before else "+", row._replace(depth=depth))
        yield from [Marked("-", row._replace(depth=depth)) for row in before[1:] if row not in after]

    def _ends(self) -> tuple[list[Row], list[Row]]:
        return list(ends(self.before, self._old_names)), list(ends(self.after, self._names))


def around_changes(marked: Sequence[Marked]) -> list[Marked]:
    """The rows without those that stayed far from any change; how many these are."""
    keep = [False] * len(marked)
    for i, each in enumerate(marked):
        if each.mark != " ":
            low = max(0, i - AROUND)
            keep[low : i + AROUND + 1] = [True] * (min(len(marked), i + AROUND + 1) - low)
    found: list[Marked] = []
    left_out = 0
    for wanted, each in zip(keep, marked, strict=True):
        if wanted and left_out:
            found.append(_left_out(left_out))
            left_out = 0
        if wanted:
            found.append(each)
        else:
            left_out += 1
    return [*found, _left_out(left_out)] if left_out else found


def _left_out(count: int) -> Marked:
    return Marked(" ", Row(0, "", text=f"... {count:,} stayed ..."))


def _whole(mark: str, row: Row) -> Iterator[Marked]:
    """A node that went or came, with its bodies."""
    yield Marked(mark, row)
    assert row.node is not None
    for name, value in row.node.attrs:
        if isinstance(value, Graph):
            yield Marked(mark, Row(row.depth + 1, f"{name}:"))
            yield from [Marked(mark, inner) for inner in rows(value, depth=row.depth + 2)]


def _bodies(one: Node, other: Node) -> list[tuple[Graph, Graph]]:
    return [(x, y) for (_, x), (_, y) in zip(one.attrs, other.attrs, strict=True) if isinstance(x, Graph)]


# ---------------------------------------------------------------------------------------------------- matching


class _Matching:
    """Which node of one graph is which of another.

    Attributes:
      new: node of the first graph -> node of the second.
      old: the other way round.
    """

    def __init__(self, before: Graph, after: Graph):
        self.new: dict[Node, Node] = {}
        self.old: dict[Node, Node] = {}
        orders = [_order(graph) for graph in (before, after)]
        self._identities = _same_identities(*orders)
        self._same(*orders)
        self._alike(orders[0], orders[1], True)  # passes keep the line of what they rewrite
        self._alike(orders[0], orders[1], False)
        self._from_results(before, after)

    def _pair(self, before: Node, after: Node) -> None:
        self.new[before], self.old[after] = after, before

    def _free(self, before: Node, after: Node) -> bool:
        return before not in self.new and after not in self.old and self._head(before) == self._head(after)

    def _head(self, node: Node) -> Any:
        """What a node does, whatever its operands, type and bodies."""
        attrs = [(name, None if isinstance(value, Graph) else value) for name, value in node.attrs if name != "type"]
        return node.op, tuple([(name, self._identities.get(value, value)) for name, value in attrs])

    def _same(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Nodes that are the same over the same sources."""
        numbers: dict[Any, int] = {}
        found: dict[int, Node] = {}
        of: dict[Node, int] = {}
        # Nodes are interned: most are themselves.
        common = set(before).intersection(after)
        for node in before:
            if node in common:
                self._pair(node, node)
                of[node] = numbers.setdefault(node, len(numbers))
        for order in (before, after):
            for node in order:
                if node in common:
                    continue
                attrs = tuple([(name, self._identities.get(value, value)) for name, value in node.attrs])
                key = (node.op, attrs, tuple([of.get(i, -1) for i in node.inputs]))
                of[node] = numbers.setdefault(key, len(numbers))
                if order is before:
                    found.setdefault(of[node], node)
                elif of[node] in found:
                    self._pair(found.pop(of[node]), node)

    def _alike(self, before: Sequence[Node], after: Sequence[Node], same_line: bool) -> None:
        """Nodes that do the same, and have an operand in common."""
        waiting: dict[Any, deque[Node]] = {}
        for node in before:
            if node not in self.new:
                operands: Sequence[Node | None] = node.inputs or (None,)
                for place, operand in enumerate(operands):
                    waiting.setdefault((self._what(node, same_line), place, operand), deque()).append(node)
        for node in after:
            if node in self.old:
                continue
            what = self._what(node, same_line)
            # A small constant in common says little, unless the line is the same too.
            places = [(place, i) for place, i in enumerate(node.inputs) if i in self.old and (same_line or not is_inline(i))]
            keys: list[Any] = [(what, place, self.old[i]) for place, i in places]
            for key in keys if node.inputs else [(what, 0, None)]:
                line = waiting.get(key, deque())
                while line and line[0] in self.new:
                    line.popleft()
                if line:
                    self._pair(line.popleft(), node)
                    break

    def _what(self, node: Node, with_line: bool) -> Any:
        return (self._head(node), node.origin) if with_line else self._head(node)

    def _from_results(self, before: Graph, after: Graph) -> None:
        """Nodes that do the same for the same results."""
        pairs = list(zip(before.outputs, after.outputs, strict=False))
        values = dict(before.updates)
        pairs += [(values[self.old[v]], value) for v, value in after.updates if self.old.get(v) in values]
        pairs += [(one, other) for one, other in self.new.items() if one is not other][::-1]
        for one, other in pairs:  # it grows
            new = self._free(one, other)
            if new:
                self._pair(one, other)
            if self.old.get(other) is one:
                for x, y in zip(one.inputs, other.inputs, strict=False):
                    if self._free(x, y):
                        pairs.append((x, y))


def _order(graph: Graph) -> list[Node]:
    return toposort((*graph.inputs, *graph.roots, *[variable for variable, _ in graph.updates]), stop=graph.inputs)


def _same_identities(before: Sequence[Node], after: Sequence[Node]) -> dict[Any, Any]:
    """Identity of the second graph -> the one of the first that it stands for: itself, or of the name, or of the type."""
    found: dict[Any, Any] = {}
    sources = []
    for order in (before, after):
        named = [(value, node) for node in order for _, value in node.attrs if isinstance(value, Identity)]
        sources.append(dict(named))
    rest, others = [{i: node for i, node in one.items() if i not in other} for one, other in (sources, sources[::-1])]
    for same in (lambda i, node: (node.op, i.name, node.ndim), lambda i, node: (node.op, node.type)):
        waiting: dict[Any, deque[Any]] = {}
        for identity, node in rest.items():
            waiting.setdefault(same(identity, node), deque()).append(identity)
        for identity, node in list(others.items()):
            if line := waiting.get(same(identity, node)):
                found[identity] = line.popleft()
                del rest[found[identity]], others[identity]
    return found

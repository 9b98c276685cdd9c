"""Rules, and the sweep that applies them: bottom-up, until none applies any more.

A rule is a pattern and a function that builds what stands in its place. What can be said of a rule before it is trusted is its
class:

- exact: the same bits, NaN, infinities and -0.0 included;
- rounding: other roundings, or a result where the plain formula overflows;
- finite: the same for finite numbers alone (``x * 0 -> 0``); off unless it is asked for.
"""

from __future__ import annotations

import functools
import inspect
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kgraph.errors import GraphError, RewriteWarning
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.origin import building, here
from kgraph.ir.pattern import MOST_OPERANDS, Found, Mismatch, Pattern, ops_around
from kgraph.ir.record import Record
from kgraph.ir.traverse import rebuilt, toposort
from kgraph.ir.types import is_tuple

CLASSES = ("exact", "rounding", "finite")

#: What a rule gives: the node in the place of the one that it is given, or, as text, why there is none.
Built = Node | str


class Rule:
    """One row: what to look for, and what to put in its place.

    Args:
      of: the name of the set that it belongs to.
      patterns: any of them.
      build: takes what the patterns bind, by name, and the node that fits as ``out``; gives a node of the same type, or of a
        more precise one, or a text that says why not. Its docstring begins with ``before -> after``.
      claim: "exact", "rounding" or "finite".

    Attributes:
      name: "set.function".
    """

    __slots__ = ("of", "name", "patterns", "build", "claim", "takes", "doc", "orders")

    def __init__(self, of: str, patterns: Sequence[Pattern], build: Callable[..., Built], claim: str):
        self.of, self.patterns, self.build, self.claim = of, tuple(patterns), build, claim
        self.name = f"{of}.{build.__name__}"
        self.doc = inspect.cleandoc(build.__doc__ or "")
        self.takes = tuple(inspect.signature(build).parameters)
        #: Its patterns with the operands of ops that commute in every order.
        self.orders = tuple([order for pattern in patterns for order in pattern.orders()])
        if claim not in CLASSES:
            raise ValueError(f"{self.name}: a rule is {', '.join(CLASSES)}, not {claim!r}")
        if "->" not in self.doc.partition("\n")[0]:
            raise ValueError(f"{self.name}: the docstring of a rule begins with what it does: before -> after")

    def apply(self, order: Pattern, node: Node, uses: Mapping[Node, int]) -> Built | Mismatch:
        """What stands in the place of a node, or why nothing does. Whatever the rule raises."""
        found: Found = {"out": node}
        failed = order.mismatch(node, found, uses)
        return failed if failed is not None else self.build(*[found[name] for name in self.takes])

    def __repr__(self) -> str:
        return f"<rule {self.name}: {self.doc.partition(chr(10))[0]}>"


class Rules(list[Rule]):
    """A set of rules; called with a graph and a record, it is the pass that applies them."""

    def __init__(self, name: str, rules: Iterable[Rule] = ()):
        super().__init__(rules)
        self.name = name

    def rule(self, *patterns: Pattern, claim: str = "exact") -> Callable[[Callable[..., Built]], Callable[..., Built]]:
        """Adds the function below, which builds what stands in the place of the patterns, as a rule; see `Rule`."""

        def add(build: Callable[..., Built]) -> Callable[..., Built]:
            made = Rule(self.name, patterns, build, claim)
            if any(rule.name == made.name for rule in self):
                raise ValueError(f"there are two rules {made.name}")
            self.append(made)
            changed()
            return build

        return add

    def __call__(self, graph: Graph, record: Record) -> Graph:
        return rewrite(graph, self, record)

    def __repr__(self) -> str:
        return f"<{len(self)} rules of {self.name}>"


_changes = 0


def changed() -> None:
    """Note that there is another rule, or one less: what was made before is not what would be made now."""
    global _changes
    _changes += 1


def version() -> int:
    """A number that is another one after each change of the rules."""
    return _changes


# ---------------------------------------------------------------------------------------------------- finding rules


Rows = tuple[tuple[Rule, Pattern], ...]


class _Index:
    """Rules by what they look for, so that a node meets those alone that may fit it."""

    def __init__(self, rules: Sequence[Rule]):
        self._rows: Rows = tuple([(rule, order) for rule in rules for order in rule.orders])
        self._of: dict[Op, Rows] = {}
        self._near: dict[tuple[Op, ...], Rows] = {}
        self._fitting: dict[Any, Rows] = {}

    def fitting(self, node: Node) -> Rows:
        """The rules, in order, that look for the ops that a node and its operands have."""
        key = (node.op, *[i.op for i in node.inputs[:MOST_OPERANDS]])
        near = self._near.get(key)
        if near is None:
            of = self._of.get(node.op)
            if of is None:
                of = self._of[node.op] = tuple([row for row in self._rows if row[1].may_fit(node.op)])
            near = self._near[key] = tuple([row for row in of if row[1].may_fit(key)])
        if len(near) <= _FEW:
            return near
        ops = ops_around(node)
        found = self._fitting.get(ops)
        if found is None:
            if len(self._fitting) >= _MOST_KEPT:
                self._fitting.clear()
            found = self._fitting[ops] = tuple([row for row in near if row[1].may_fit(ops)])
        return found


#: So many rules are tried sooner than looked up by the operands of operands too.
_FEW = 6
_MOST_KEPT = 20_000


@functools.lru_cache(64)
def _index_of(rules: tuple[Rule, ...]) -> _Index:
    return _Index(rules)


# ---------------------------------------------------------------------------------------------------- the sweep

#: How many rules in a row may apply in the place of one node, and to what they have built.
MOST_IN_A_ROW = 100
#: Seconds of a sweep, and seconds more for each node of the graph.
MOST_SECONDS, SECONDS_A_NODE = 10.0, 0.001


def rewrite(graph: Graph, rules: Iterable[Rule], record: Record, seconds: float | None = None) -> Graph:
    """The graph in its normal form: no rule applies to any of its nodes, within bodies neither.

    A rule that raises, that gives another type, or that undoes others is left out, with one warning that names it.

    Args:
      record: takes what is rewritten, and which rules were left out.
      seconds: how long it may take; None for as much as the graph has nodes for. When they are over, the best so far is given.
    """
    rules = tuple([rule for rule in rules if rule.name not in record.left_out])
    settled: dict[Graph, dict[Node, Node]] = {}
    while True:
        kept, counted = len(record), record.by_rules
        try:
            sweep = _Sweep(rules, record, seconds, settled)
            found = sweep.graph(graph)
            if found == graph or sweep.is_settled(found):
                return found
            graph = found
        except _Circle as circle:
            # Graphs are never changed, so that leaving the rule out is to begin again.
            del record[kept:]
            record.by_rules = counted
            leave_out(circle.rule, circle.why, record)
            rules = tuple([rule for rule in rules if rule is not circle.rule])


def leave_out(rule: Rule, why: str, record: Record) -> None:
    """Note that a rule is not used any more, and say so once."""
    record.left_out[rule.name] = why
    _warn(f"the rule {rule.name} {why}; it is left out, and the rest goes on")


def _warn(message: str) -> None:
    place = here()
    warnings.warn_explicit(RewriteWarning(message), None, place.file, place.line)


class _Circle(Exception):
    def __init__(self, rule: Rule, why: str):
        super().__init__(why)
        self.rule, self.why = rule, why


class _Sweep:
    """One way through a graph and its bodies.

    Attributes:
      settled: of each graph and body that the sweep before has given, the nodes that have nothing new to try.
    """

    def __init__(self, rules: Sequence[Rule], record: Record, seconds: float | None, settled: dict[Graph, dict[Node, Node]]):
        self.settled = settled
        self.index = _index_of(tuple(rules))
        self.record = record
        self.seconds = seconds
        self.until: float | None = None  # the end of its time
        self.over = False
        self.shared: dict[tuple[Pattern, Node], None] = {}  # what did not fit because of the uses in the graph as given
        self.done: set[Graph] = set()  # bodies in their normal form

    def graph(self, graph: Graph) -> Graph:
        """The graph in its normal form, or the body of one."""
        if graph in self.done:
            return graph
        order = toposort(graph.roots)
        if self.until is None:
            allowed = MOST_SECONDS + SECONDS_A_NODE * len(order) if self.seconds is None else self.seconds
            self.until = time.monotonic() + allowed
        level = _Level(self, _uses(order, graph.roots), dict(self.settled.get(graph, ())))
        found = graph.with_roots(level.normal(graph.roots))
        self.done.add(found)
        return found

    def is_settled(self, found: Graph) -> bool:
        """Whether no pattern fits now that did not before others had gone, in the graph as it is now and in its bodies.

        All that does not depend on such a node is as it was: `settled` tells the next sweep.
        """
        if not self.shared:
            return True
        order = toposort(found.roots)
        uses = _uses(order, found.roots)
        fits = {node for pattern, node in self.shared if node in uses and pattern.mismatch(node, {}, uses) is None}
        settled = self.settled[found] = {}
        for node in order:
            unsettled = [name for name in node.op.bodies if not self.is_settled(node.attr(name))]
            if not unsettled and node not in fits and settled.keys() >= set(node.inputs):
                settled[node] = node
        return len(settled) == len(order)


def _uses(order: Iterable[Node], roots: Iterable[Node]) -> dict[Node, int]:
    uses: dict[Node, int] = {}
    for node in order:
        uses.setdefault(node, 0)
        for i in node.inputs:
            uses[i] += 1
    for root in roots:
        uses[root] += 1
    return uses


class _Level:
    """The sweep over one graph, or one body.

    Attributes:
      known: the nodes of the graph as given, and those that came in their place.
      uses: of each node, in the graph as it is now: partly rewritten.
      instead: node that is replaced -> what came in its place.
      final: node -> its normal form.
      became: node that waits for the normal form of what came in its place -> that, and by which rule (None if its operands
        have changed).
      row: node that rules have made -> how many in a row, counted from a node of the graph.
    """

    def __init__(self, sweep: _Sweep, uses: dict[Node, int], final: dict[Node, Node]):
        self.sweep, self.uses, self.final = sweep, uses, final
        self.known = set(uses)
        self.instead: dict[Node, Node] = {}
        self.became: dict[Node, tuple[Node, Rule | None]] = {}
        self.row: dict[Node, int] = {}

    def normal(self, roots: Sequence[Node]) -> list[Node]:
        final, became, row, steps = self.final, self.became, self.row, self.sweep.record.steps
        stack = list(reversed(roots))
        while stack:
            node = stack[-1]
            if node in final:
                stack.pop()
                continue
            if node in became:
                final[node] = final[became.pop(node)[0]]
                stack.pop()
                continue
            waits = [i for i in node.inputs if i not in final]
            if waits:
                number = row.get(node)
                for i in waits:
                    if i in became:
                        raise self._circle(i, stack, "gives a result that holds what it stands for")
                    if number is not None and i not in self.known:
                        row.setdefault(i, number)
                stack += reversed(waits)
                continue
            after, rule = self._step(node)
            if after is node:
                final[node] = node
                stack.pop()
                continue
            if after in became:
                if rule is None:  # its operands became what something else waits for: that one's rule made these operands
                    raise self._circle(after, stack, "undoes others")
                raise _Circle(rule, f"undoes others: it gives back {after.op.name} at {after.origin}")
            self.known.add(after)
            self._count(node, after, rule is None)
            if steps is not None:
                steps[node] = after
            became[node] = (after, rule)
            if rule is not None:
                row.setdefault(after, row.get(node, 0) + 1)
            elif node in row:
                row.setdefault(after, row[node])
            if after not in final:
                stack.append(after)
        return [final[root] for root in roots]

    def _count(self, node: Node, after: Node, alike: bool) -> None:
        """The uses after a node was replaced: what used it uses the other now, and what only it used is used no more.

        Args:
          alike: it has only got the operands that came in the place of its own.
        """
        uses, count = self.uses, self.uses.get(node, 0)
        if alike and after not in uses:
            uses[after], uses[node], self.instead[node] = count, 0, after
            return
        after = self._now(after)
        if count:  # else the node itself is no part of the graph any more
            self._hold(after)
            uses[after] = uses.get(after, 0) + count
        self.instead[node] = after
        if count:
            uses[node] = 0
            pending = [node]
            while pending:
                for i in pending.pop().inputs:
                    i = self._now(i)
                    uses[i] -= 1
                    if not uses[i]:
                        pending.append(i)

    def _hold(self, node: Node) -> None:
        """Count what a node uses, if it is no part of the graph yet."""
        uses = self.uses
        pending = [] if uses.get(node) else [node]
        while pending:
            for i in pending.pop().inputs:
                i = self._now(i)
                count = uses.get(i, 0)
                uses[i] = count + 1
                if not count:
                    pending.append(i)

    def _now(self, node: Node) -> Node:
        """What is in the place of a node now."""
        instead = self.instead
        way = []
        while (after := instead.get(node)) is not None:
            way.append(node)
            node = after
        for before in way[:-1]:
            instead[before] = node
        return node

    def _circle(self, node: Node, stack: Sequence[Node], why: str) -> _Circle:
        """The rule that has to go: the last one that was applied on the way from a node back to itself."""
        rules = [self.became[n][1] for n in stack if n in self.became]
        rule = next(rule for rule in reversed(rules) if rule is not None)
        return _Circle(rule, why)

    def _step(self, node: Node) -> tuple[Node, Rule | None]:
        """The node over the normal forms of its operands; or, if it is that already, what a rule makes of it."""
        final = self.final
        inputs = tuple([final[i] for i in node.inputs])
        if inputs != node.inputs:
            return rebuilt(node, inputs), None
        rows = self.sweep.index.fitting(node)
        if rows:
            before, building.origin = building.origin, node.origins[0]
            try:
                for rule, order in rows:
                    after = self._apply(rule, order, node)
                    if after is not None:
                        return after, rule
            finally:
                building.origin = before
        if node.op.bodies:
            return rebuilt(node, inputs, self.sweep.graph), None
        return node, None

    def _apply(self, rule: Rule, order: Pattern, node: Node) -> Node | None:
        record = self.sweep.record
        if rule.name in record.left_out or self.sweep.over or record.by_rules == record.most:
            return None
        try:
            after = rule.apply(order, node, self.uses)
        except Exception as error:  # whatever it is, the program does not need this rule
            message = str(getattr(error, "message", error)).partition("\n")[0]
            leave_out(rule, f"raised {type(error).__name__}: {message}", record)
            return None
        if after is node or not isinstance(after, Node):
            if isinstance(after, Mismatch) and after.shared:
                self.sweep.shared[order, node] = None
            return None
        if not refines(after.type, node.type):
            leave_out(rule, f"made {after.type} of {node.type}", record)
            return None
        if not self._within_budget(rule, node):
            return None
        record.by_rules += 1
        record.note(rule.of, rule.name.partition(".")[2], node, after)
        return after

    def _within_budget(self, rule: Rule, node: Node) -> bool:
        sweep = self.sweep
        if self.row.get(node, 0) >= MOST_IN_A_ROW:
            leave_out(rule, f"went on for {MOST_IN_A_ROW} rewrites in a row", sweep.record)
            return False
        if sweep.until is not None and time.monotonic() > sweep.until:
            sweep.over = True
            _warn(f"optimising takes too long; the time was over in the rule {rule.name}, and the best graph so far is used")
            return False
        return True


def refines(found: Any, given: Any) -> bool:
    """Whether a type says what another one does, and perhaps of more sizes."""
    if found is given:
        return True
    if is_tuple(found) or is_tuple(given):
        return is_tuple(found) and is_tuple(given) and all(map(refines, found.items, given.items))
    ranks = found.dtype == given.dtype and len(found.shape) == len(given.shape)
    return ranks and all(was in (None, size) for size, was in zip(found.shape, given.shape, strict=True))


# ---------------------------------------------------------------------------------------------------- choosing rules


def without(rules: Iterable[Rule], exclude: Collection[str], finite: bool = False) -> Iterator[Rule]:
    """The rules but for some, named "set.rule" or "rule"; and those that hold for finite numbers alone only on demand."""
    for rule in rules:
        short = rule.name.partition(".")[2]
        if rule.name not in exclude and short not in exclude and (finite or rule.claim != "finite"):
            yield rule


def check_names(exclude: Iterable[str], rules: Iterable[Rule]) -> frozenset[str]:
    """The names, once each of them is that of a rule. Raises GraphError."""
    if isinstance(exclude, str):
        raise GraphError(f"exclude is {exclude!r}, not a list of rules", hint=f"exclude=[{exclude!r}]")
    wanted = frozenset(exclude)
    known = {name for rule in rules for name in (rule.name, rule.name.partition(".")[2])}
    if unknown := wanted - known:
        import difflib

        # The first few: each is compared with every rule.
        near = [name for each in sorted(unknown)[:3] for name in difflib.get_close_matches(each, sorted(known), 3)]
        hint = f"did you mean {', '.join(near)}?" if near else f"the rules are {', '.join(sorted(r.name for r in rules))}"
        raise GraphError(f"there is no rule {', '.join(sorted(map(repr, unknown)))}", hint=hint)
    return wanted

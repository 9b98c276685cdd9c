"""What the passes made of a graph, and why: as data, and as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import kgraph.ir.ops as o
from kgraph.errors import ArgumentError, GraphError
from kgraph.ir.cost import Cost, cost
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.passes import Passes, every_rule
from kgraph.ir.pattern import Mismatch
from kgraph.ir.polynomial import Polynomial
from kgraph.ir.record import Record, Rewrite
from kgraph.ir.rewrite import Rule, check_names
from kgraph.ir.traverse import toposort


@dataclass(frozen=True)
class Stage:
    """The graph after the passes up to one.

    Attributes:
      name: of the pass; "as built" before all.
      cost: of the graph, polynomials where sizes are not known; None where they follow from values alone.
      rewrites: how many this pass made.
    """

    name: str
    cost: Cost | None
    rewrites: int

    def figures(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self.cost, name, None)) for name in ("nodes", "flops", "bytes", "peak")]


#: Runs some passes over a graph.
Run = Callable[[Passes, Record], Graph]


class Explanation:
    """What a pipeline made of a graph.

    Args:
      before: the graph as built.
      run: the pipeline.
      passes: those that run.

    Attributes:
      after: the graph that the passes leave.
      record: every rewrite, in order, with the nodes before and after, which carry the lines that they come from.
      stages: the graph as built, and after each pass.
    """

    def __init__(self, before: Graph, run: Run, passes: Passes):
        self.before = before
        self.record = Record(steps=True)
        self.after = run(passes, self.record)
        self.stages = [Stage("as built", cost_of(before), 0)]
        counts: dict[str, int] = {}
        for rewrite in self.record:
            counts[rewrite.by] = counts.get(rewrite.by, 0) + 1
        # What a pass adds to those before it: passes of rules share a sweep, so that no graph lies between them.
        for number, name in enumerate(("specialise", *passes.names)):
            graph = run(passes._replace(names=passes.names[:number]), Record())
            self.stages.append(Stage(name, cost_of(graph), counts.get(name, 0)))
        if counts.get("legalise"):
            self.stages.append(Stage("legalise", cost_of(self.after), counts["legalise"]))

    @property
    def left_out(self) -> dict[str, str]:
        """Rules that failed, by name -> what they did."""
        return self.record.left_out

    def rewrites(self) -> list[tuple[str, str, str, int]]:
        """(pass.rule, "before -> after" as ops, line, how often), in order of the first."""
        found: dict[tuple[str, str, str], int] = {}
        for each in self.record:
            key = (f"{each.by}.{each.rule}", f"{_short(each.before)} -> {_short(each.after)}", _line(each.before))
            found[key] = found.get(key, 0) + 1
        return [(*key, count) for key, count in found.items()]

    def as_data(self) -> dict[str, Any]:
        """The same as lists and dicts of numbers and texts, for JSON."""
        stages = [{"pass": s.name, "rewrites": s.rewrites, **{n: plain_count(c) for n, c in s.figures()}} for s in self.stages]
        rows = [dict(zip(("rule", "change", "line", "count"), row, strict=True)) for row in self.rewrites()]
        return {"stages": stages, "rewrites": rows, "left_out": self.left_out}

    def __str__(self) -> str:
        head = ("pass", "rewrites", "nodes", "flops", "bytes", "peak bytes")
        rows = [(s.name, str(s.rewrites or ""), *[text_of(count) for _, count in s.figures()]) for s in self.stages]
        parts = [_table([head, *rows])]
        if self.record:
            parts.append(_table([(*row, f"{count} times" if count > 1 else "") for *row, count in self.rewrites()]))
        parts += [f"left out: {name} {why}" for name, why in self.left_out.items()]
        return "\n\n".join(parts)

    # ------------------------------------------------------------------------------------------------ questions

    def why(self, tensor: Any) -> str:
        """What became of a tensor of the graph as built, step by step: by which rule, or because its operands had changed.

        Raises: GraphError for what is no tensor of the graph.
        """
        node = self._node(tensor)
        lines = [f"{describe(node)}"]
        for before, after, rewrite in self._way(node):
            if rewrite:
                lines.append(f"  {rewrite.by}.{rewrite.rule}: {_short(before)} -> {_short(after)}")
                continue
            changed = [(x, y) for x, y in zip(before.inputs, after.inputs, strict=False) if x is not y]
            lines.append(f"  its operands changed: {'; '.join(f'{_short(x)} -> {_short(y)}' for x, y in changed)}")
        if len(lines) == 1:
            lines.append("  is as it was")
        end = self._end(node)
        if end not in set(toposort(self.after.roots)):
            lines.append("  nothing needs it any more, or it moved into the side of a branch")
            for each in dict.fromkeys(each for each in self.record if _takes_in(each, end)):
                change = f"{_short(each.before)} -> {_short(each.after)}"
                lines.append(f"  {each.by}.{each.rule}: {change} at {_line(each.before)}")
        return "\n".join(lines)

    def why_not(self, rule: str, tensor: Any) -> str:
        """Which part of the pattern of a rule, or which condition, keeps it from a tensor of the graph as built.

        Args:
          rule: its name, with or without that of its set.
        Raises: GraphError for a name that is none, and for what is no tensor of the graph.
        """
        (name,) = check_names([rule], every_rule())
        node = self._node(tensor)
        (found, *_) = [each for each in every_rule() if name in (each.name, each.name.partition(".")[2])]
        way = self._way(node)
        for _, _, rewrite in way:
            if rewrite is not None and f"{rewrite.by}.{rewrite.rule}" == found.name:
                return f"{found.name} did apply: {_short(rewrite.before)} -> {_short(rewrite.after)}"
        if found.name in self.left_out:
            return f"{found.name} was left out: it {self.left_out[found.name]}"
        forms = [node, *[after for _, after, _ in way]]
        reasons = [_reason(found, form) for form in dict.fromkeys(forms)]
        best = max(reasons, key=lambda reason: reason[0])
        return f"{found.name} ({found.doc.partition(chr(10))[0]}) does not apply to {describe(node)}:\n  {best[1]}"

    def _node(self, tensor: Any) -> Node:
        if not isinstance(tensor, Operators):
            raise GraphError(f"{tensor!r:.60} is no tensor")
        if tensor.node not in set(toposort(self.before.roots)):
            hint = "its outputs and updates need no such node; K functions make one op of several where they can"
            raise GraphError(f"the graph has no {describe(tensor.node)}", hint=hint)
        return tensor.node

    def _way(self, node: Node) -> list[tuple[Node, Node, Rewrite | None]]:
        by_before = {each.before: each for each in reversed(self.record)}
        found: list[tuple[Node, Node, Rewrite | None]] = []
        seen = {node}
        while True:
            rewrite = by_before.get(node)
            after = rewrite.after if rewrite else (self.record.steps or {}).get(node)
            if after is None or after in seen:
                return found
            found.append((node, after, rewrite))
            seen.add(after)
            node = after

    def _end(self, node: Node) -> Node:
        way = self._way(node)
        return way[-1][1] if way else node


def _takes_in(rewrite: Rewrite, node: Node) -> bool:
    """Whether a rewrite takes a node with it: what it replaces is made of the node, what it puts there is not."""
    return node is not rewrite.before and node in _close(rewrite.before) and node not in _close(rewrite.after)


def _close(node: Node) -> set[Node]:
    """A node, and what it is made of, as far as patterns reach."""
    found, last = {node}, [node]
    for _ in range(3):
        last = [i for each in last for i in each.inputs if i not in found]
        found.update(last)
    return found


def _reason(rule: Rule, node: Node) -> tuple[int, str]:
    """How much of a rule fits a node, and why the rest does not."""
    best = (-1, "")
    for order in rule.orders:
        found = rule.apply(order, node, {})
        if isinstance(found, Mismatch):
            best = max(best, (found.matched, str(found)), key=lambda each: each[0])
        elif isinstance(found, str):
            best = max(best, (1000, f"it fits {order}, but {found}"), key=lambda each: each[0])
        else:
            best = (1001, "it fits now; another rule came first, or the budget was spent")
    return best


def bisected(run: Callable[[Record], Graph], check: Callable[[Graph], Any]) -> Rewrite | None:
    """The one rewrite that makes a check fail: with those before it the check passes, with it too it does not.

    Args:
      run: the pipeline, of which a record says how many rewrites it may make.
      check: takes a graph; fails by raising an exception or by giving False.
    Returns: None if it passes with all rewrites.
    Raises: ArgumentError if it fails without any.
    """

    def passes(most: int) -> bool:
        graph = run(Record(most=most))
        try:
            return check(graph) is not False
        except Exception:  # whatever it is, it is what was asked about
            return False

    whole = Record()
    run(whole)
    low, high = 0, whole.by_rules
    if passes(high):
        return None
    if not passes(0):
        raise ArgumentError("the check fails without any rewrite by a rule too; it is not the rules that make it fail")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    record = Record(most=high)
    run(record)
    names = {rule.name for rule in every_rule()}
    return [each for each in record if f"{each.by}.{each.rule}" in names][high - 1]


# ---------------------------------------------------------------------------------------------------- text


def cost_of(graph: Graph) -> Cost | None:
    """What a graph costs; None where sizes follow from values alone."""
    try:
        return cost(graph)
    except ArgumentError:
        return None


def _line(node: Node) -> str:
    if node.op is o.learning_phase:
        return ""  # one node for all programs
    return f"{node.origin}{' (gradient)' if node.origin.role == 'gradient' else ''}"


def _short(node: Node) -> str:
    """A node with its operands' ops: ``log(softmax)``."""
    if node.op.source:
        return node.name or (repr(node.attrs[0][1]) if node.op.name == "constant" else node.op.name)
    return f"{node.op.name}({', '.join(i.name or i.op.name for i in node.inputs)})"


def plain_count(count: Any) -> int | str | None:
    """A number, or a polynomial as text."""
    if isinstance(count, Polynomial):
        return count(**dict.fromkeys(count.names, 0)) if count.is_number else str(count)
    return count


def text_of(count: Any) -> str:
    """A number, a polynomial, or None, for people."""
    return "?" if count is None else f"{count:,}" if isinstance(count, int) else str(count)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

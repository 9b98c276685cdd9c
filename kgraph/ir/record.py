"""What the passes did, as data."""

from __future__ import annotations

from dataclasses import dataclass

from kgraph.ir.node import Node


@dataclass(frozen=True)
class Rewrite:
    """One node replaced by another: by which pass and rule. The nodes carry the lines that they come from."""

    by: str
    rule: str
    before: Node
    after: Node

    def __str__(self) -> str:
        return f"{self.by}: {self.rule}: {self.before.op.name} -> {self.after.op.name}, at {self.before.origin}"


class Record(list[Rewrite]):
    """The rewrites of a pipeline, in order.

    Args:
      steps: whether to note what becomes of every node.
      most: how many rewrites by rules there may be; the others are not done. None for any number.

    Attributes:
      left_out: rules that failed, by name -> what they did.
      steps: node -> what came in its place: by a rule, or because its operands changed. None if not noted.
    """

    def __init__(self, steps: bool = False, most: int | None = None):
        super().__init__()
        self.left_out: dict[str, str] = {}
        self.steps: dict[Node, Node] | None = {} if steps else None
        self.most = most
        self.by_rules = 0

    def note(self, by: str, rule: str, before: Node, after: Node) -> None:
        self.append(Rewrite(by, rule, before, after))

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

    Attributes:
      left_out: rules that failed, by name -> what they did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}

    def note(self, by: str, rule: str, before: Node, after: Node) -> None:
        self.append(Rewrite(by, rule, before, after))

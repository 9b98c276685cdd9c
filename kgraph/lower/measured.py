"""What an engine that can measure its programs hands on of a measurement: see `Engine.profiler`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from kgraph.ir.places import Path


class Sample(NamedTuple):
    """One thing that a program computes, in a run.

    Attributes:
      paths: of the nodes that it computes: several, if the engine has made one operation of them.
      calls: how many times: in a loop, once for each step.
      seconds: that it took, without those of samples of its bodies.
      bytes: that it read and wrote; None where the engine cannot say.
    """

    paths: tuple[Path, ...]
    calls: int
    seconds: float
    bytes: int | None = None


class Measured(NamedTuple):
    """A run that was measured.

    Attributes:
      samples: there may be several of one node: then it ran as often as the one that ran most.
      rest: seconds that belong to no node.
    """

    samples: Sequence[Sample]
    rest: float


class Profiler(Protocol):
    """A program that can be measured. It may have `explain` or `locate`, as programs have."""

    def run(self, values: Sequence[Any]) -> Any:
        """Runs it, as a call does."""

    def measure(self, values: Sequence[Any]) -> Measured:
        """Runs it, and measures."""

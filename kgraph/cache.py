"""The cache of compiled programs, by structure, in two levels.

The first key is a graph as it was built, with the passes, the engine and the options: a hit runs no pass. The second is the
graph as the passes left it, and gives the program: a hit compiles nothing. Names, values and identities are in neither, so
that two models of one structure share a program and keep their own variables.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kgraph.lower.engine import Program

#: Programs, and nodes in all of them together, that are kept.
MOST_PROGRAMS = 512
MOST_NODES = 200_000


class LRU:
    """Keeps what was asked for last: at most so many entries, of at most so much weight together. Safe for threads."""

    def __init__(self, most: int, heaviest: int):
        self._most, self._heaviest, self._weight = most, heaviest, 0
        self._kept: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Any:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: bytes, value: Any, weight: int) -> None:
        with self._lock:
            # The table and its weight change together: no call lies between, at which Ctrl-C could come.
            replaced = self._kept.get(key, (None, 0))[1]
            self._kept[key] = value, weight
            self._weight += weight - replaced
            self._kept.move_to_end(key)
            while len(self._kept) > self._most or (self._weight > self._heaviest and len(self._kept) > 1):
                oldest = next(iter(self._kept))
                dropped = self._kept[oldest]
                del self._kept[oldest]
                self._weight -= dropped[1]

    def clear(self) -> None:
        with self._lock:
            self._kept, self._weight = OrderedDict(), 0

    def __len__(self) -> int:
        return len(self._kept)


@dataclass(frozen=True)
class Entry:
    """A compiled function without its identities.

    Attributes:
      program: what the engine made of the optimised graph. None for a stateful engine, which binds each function anew.
      sources: what each argument of the program is: an index into the identities of the function's listing.
      nodes: how many the optimised graph has.
    """

    program: Program | None
    sources: tuple[int, ...]
    nodes: int


as_built = LRU(MOST_PROGRAMS, MOST_NODES)
as_optimised = LRU(MOST_PROGRAMS, MOST_NODES)


def clear() -> None:
    """Forget every compiled program. Functions that live keep theirs."""
    as_built.clear()
    as_optimised.clear()


def program_of(key: bytes, lower: Callable[[], Program], nodes: int) -> Program:
    """The program of an optimised structure, lowered if it is not known."""
    found: Program | None = as_optimised.get(key)
    if found is None:
        found = lower()
        as_optimised.put(key, found, nodes)
    return found

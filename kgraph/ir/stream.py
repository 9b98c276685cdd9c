"""Random streams: where the keys of random draws come from."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from kgraph.ir.node import Identity


class Stream(Identity):
    """The identity of one random draw: a seed, and how many keys it has given.

    Args:
      seed: any int; it counts modulo 2**64.
      count: how many keys were given before.
      name: what the user calls it.

    A pickle keeps the count, so that what is loaded goes on where the stream was.
    """

    __slots__ = ("_lock", "count", "seed")

    def __init__(self, seed: int, count: int = 0, name: str | None = None):
        super().__init__(name)
        self.seed = (int(seed) + 2**63) % 2**64 - 2**63
        self.count = count
        self._lock = threading.Lock()

    @property
    def key(self) -> np.ndarray[Any, Any]:
        """The key that it gives next."""
        return np.array((self.seed, self.count), np.int64)

    def next_key(self) -> np.ndarray[Any, Any]:
        """int64[2]: the seed, and 0, 1, 2, ... for the first, second, third call."""
        with self._lock:
            count = self.count
            self.count = count + 1
        return np.array((self.seed, count), np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream, (self.seed, self.count, self.name)

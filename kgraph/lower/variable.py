"""Variables: one logical value each, kept where it was written last and moved only when another engine reads it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from kgraph.ir.node import Identity
from kgraph.ir.types import TensorType, numpy_dtype

if TYPE_CHECKING:
    from kgraph.lower.engine import Engine


class Variable(Identity):
    """The storage of a variable: it is the identity of the variable's node.

    Attributes:
      type: static.
      lock: held for a write, and for the reads of a call that has to see several variables of one moment.
      host: the value as a NumPy array that nobody writes to, or None while an engine holds a newer one.
      version: counts the writes.
    """

    __slots__ = ("type", "lock", "host", "version", "_copies", "_newest")

    def __init__(self, name: str | None, type: TensorType, value: np.ndarray[Any, Any]):
        super().__init__(name)
        self.type = type
        self.lock = threading.RLock()
        self.host: np.ndarray[Any, Any] | None = value
        self.version = 0
        self._copies: dict[str, tuple[int, Any]] = {}  # engine name -> version, storage
        self._newest: Engine | None = None  # the engine with the value, while host is None

    def get(self) -> np.ndarray[Any, Any]:
        """The value, as an array that must not be written to."""
        with self.lock:
            if self.host is None:
                assert self._newest is not None
                self.host = np.asarray(self._newest.to_host(self._copies[self._newest.name][1]), numpy_dtype(self.type.dtype))
            return self.host

    def set(self, value: np.ndarray[Any, Any]) -> None:
        """Take a new value, of the variable's dtype and shape, that nobody else will write to."""
        with self.lock:
            self.host = value
            self.version += 1

    def storage(self, engine: Engine) -> Any:
        """The engine's own copy of the value, brought up to date. Called with the lock held."""
        version, held = self._copies.get(engine.name, (-1, None))
        if version != self.version:
            held = engine.from_host(self.get(), held)
            self._copies[engine.name] = self.version, held
        return held

    def wrote(self, engine: Engine, storage: Any) -> None:
        """Note that an engine has written its own copy. Called with the lock held."""
        version = self.version + 1
        self._copies[engine.name] = version, storage
        self._newest, self.host, self.version = engine, None, version

    def __reduce__(self) -> tuple[Any, ...]:
        return Variable, (self.name, self.type, self.get())

"""Variables: one logical value each, kept where it was written last and moved only when another engine reads it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from kgraph.errors import KGraphError, UpdateError
from kgraph.ir.node import Identity, Node, describe
from kgraph.ir.types import TensorType, numpy_dtype, show_shape

if TYPE_CHECKING:
    from kgraph.lower.engine import Engine

#: More variables than these share locks: a call takes each lock in a statement of its own, and the stack of Python has an end.
_MOST_LOCKS = 4096

_locks: dict[int, threading.RLock] = {}


class Copy:
    """The value of a variable in an engine's own storage.

    Attributes:
      version: that of the variable, when the storage was last written or filled.
    """

    __slots__ = ("engine", "storage", "version")

    def __init__(self, engine: Engine):
        self.engine, self.version = engine, -1
        self.storage: Any = None


class Variable(Identity):
    """The storage of a variable: it is the identity of the variable's node.

    Attributes:
      type: static.
      lock: held for a write, and for the reads of a call that has to see several variables of one moment (`locks_of`).
      host: the value as a NumPy array that nobody writes to, or None while only an engine has it.
      version: counts the writes.
      newest: the copy that has the value while host is None.
    """

    __slots__ = ("_copies", "host", "lock", "newest", "type", "version")

    def __init__(self, name: str | None, type: TensorType, value: np.ndarray[Any, Any]):
        super().__init__(name)
        self.type = type
        number = self.number % _MOST_LOCKS
        self.lock = _locks.get(number) or _locks.setdefault(number, threading.RLock())
        self.host: np.ndarray[Any, Any] | None = value
        self.version = 0
        self.newest: Copy | None = None
        self._copies: dict[int, Copy] = {}  # by the number of the engine

    def get(self) -> np.ndarray[Any, Any]:
        """The value, as an array that must not be written to."""
        with self.lock:
            if self.host is None:
                assert self.newest is not None
                self.host = np.asarray(self.newest.engine.to_host(self.newest.storage), numpy_dtype(self.type.dtype))
            return self.host

    def found(self, value: np.ndarray[Any, Any], version: int) -> None:
        """Keep a value that was read from an engine's storage, if nothing has been written since that version."""
        with self.lock:
            if self.version == version:
                self.host = value

    def set(self, value: np.ndarray[Any, Any]) -> None:
        """Take a new value, of the variable's dtype and shape, that nobody else will write to."""
        with self.lock:
            self.host = value
            self.version += 1

    def copy_in(self, engine: Engine) -> Copy:
        """The engine's copy, as it is: `refresh` brings it up to date."""
        with self.lock:
            return self._copies.setdefault(engine.number, Copy(engine))

    def refresh(self, copy: Copy) -> None:
        """Give an engine's copy the value. Called with the lock held."""
        copy.storage = copy.engine.from_host(self.get(), copy.storage)
        copy.version = self.version

    def move(self, copy: Copy) -> None:
        """Take an engine's copy out of its storage, which is about to go. Its next use makes new storage."""
        with self.lock:
            if self.host is None and self.newest is copy:
                self.get()
            copy.storage, copy.version = None, -1

    def __reduce__(self) -> tuple[Any, ...]:
        return Variable, (self.name, self.type, self.get())


def locks_of(variables: Iterable[Variable]) -> list[threading.RLock]:
    """The locks of some variables, each once, in the one order in which several are taken."""
    found = {variable.number % _MOST_LOCKS: variable.lock for variable in variables}
    return [found[number] for number in sorted(found)]


def value_for(variable: Variable, value: Any, node: Node) -> np.ndarray[Any, Any]:
    """A new value of a variable in its dtype. Raises UpdateError if its size, unknown until now, does not fit."""
    if value.shape != variable.type.shape:
        raise misfit(variable, node, show_shape(value.shape))
    return value


def misfit(variable: Variable, node: Node, shape: str) -> KGraphError:
    """The error for a new value of a variable that has another shape."""
    message = f"the new value of {variable.name!r} has shape {shape}, not {show_shape(variable.type.shape)}"
    return UpdateError(message).at("function call", [f"new value: {describe(node)}"], str(node.origin))

"""A table that interns objects and forgets them when their last user does.

`weakref.WeakValueDictionary` does the same at two to three times the cost of a look-up, which is the price of building a node.
"""

from __future__ import annotations

import threading
import weakref
from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]  # what weakref.py itself removes entries with: atomic
from collections.abc import Callable, Hashable
from typing import Any


class Entry(weakref.ref[Any]):
    """A weak reference that knows under which key it is kept."""

    __slots__ = ("key",)
    key: Hashable


class WeakTable:
    """Key -> object. Equal keys give the same object for as long as it lives; building from several threads is safe."""

    def __init__(self) -> None:
        entries: dict[Hashable, Entry] = {}

        def drop(entry: weakref.ref[Any], remove: Callable[..., None] = _remove_dead_weakref) -> None:
            # No lock: this runs wherever an object happens to die, also in a thread that holds the lock, and when the
            # interpreter ends, which has emptied this module by then: hence the default.
            remove(entries, entry.key)  # type: ignore[attr-defined]

        self.entries = entries
        self._drop = drop
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, key: Hashable) -> Any:
        entry = self.entries.get(key)
        return None if entry is None else entry()

    def setdefault(self, key: Hashable, value: Any) -> Any:
        """The object kept under key; value, kept from now on, if there is none."""
        entry = Entry(value, self._drop)
        entry.key = key
        with self._lock:
            held = self.entries.get(key)
            if held is not None:
                kept = held()
                if kept is not None:
                    return kept
            self.entries[key] = entry
        return value

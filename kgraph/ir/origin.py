"""Where a node comes from: the user's line, the K function, the name scope, and the node's role.

An origin is a note beside a node, never part of its identity. It is taken when the node is built, from the first frame
outside of the package; the outermost frame inside of it is the K function that the user called.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import CodeType
from typing import Any

import numpy as np

import kgraph
from kgraph.ir.weak import WeakTable

FORWARD, GRADIENT = "forward", "gradient"


class Origin:
    """File, line, K function, name scope and role. Interned; keeps the code object of the line, never a frame."""

    __slots__ = ("file", "call", "scope", "role", "alone", "_line", "_code", "_lasti", "__weakref__")

    def __init__(
        self, file: str, call: str, scope: str, role: str = FORWARD, line: int = 0, code: CodeType | None = None, lasti: int = 0
    ):
        self.file, self.call, self.scope, self.role = file, call, scope, role
        self._line, self._code, self._lasti = line, code, lasti
        self.alone = (self,)  # what most nodes have as their origins; made once

    @property
    def line(self) -> int:
        """The line in the file. Looked up on demand: in a long module that takes longer than building the node."""
        if not self._line and self._code is not None:  # the code stays: the table's key has its id
            position = next(islice(self._code.co_positions(), self._lasti // 2, None), (0,))
            self._line = position[0] or self._code.co_firstlineno
        return self._line

    @property
    def function(self) -> str:
        """The K function as its user writes it: ``add`` for an operator."""
        return _OPERATORS.get(self.call, self.call.strip("_"))

    def with_role(self, role: str) -> Origin:
        """The same place in another role."""
        if role == self.role:
            return self
        key = (self, role)
        found: Origin | None = _ORIGINS.get(key)
        if found is None:
            found = _ORIGINS.setdefault(
                key, Origin(self.file, self.call, self.scope, role, self._line, self._code, self._lasti)
            )
        return found

    def __str__(self) -> str:
        return f"{os.path.relpath(self.file) if _is_below_here(self.file) else self.file}:{self.line}"

    def __repr__(self) -> str:
        scope = f" in {self.scope}" if self.scope else ""
        return f"<{self.function or 'built'} at {self}{scope}, {self.role}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return saved_origin, (self.file, self.call, self.scope, self.role, self.line)


_ORIGINS = WeakTable()
_OPERATORS = {
    "__truediv__": "divide", "__rtruediv__": "divide", "__floordiv__": "floor_divide", "__rfloordiv__": "floor_divide",
    "__sub__": "subtract", "__rsub__": "subtract", "__mul__": "multiply", "__rmul__": "multiply", "__radd__": "add",
    "__rpow__": "pow", "__rmod__": "mod", "__rmatmul__": "matmul", "__neg__": "negative", "__getitem__": "index",
    "__array_ufunc__": "", "__init__": "Function",
    "__gt__": "greater", "__ge__": "greater_equal", "__lt__": "lesser", "__le__": "lesser_equal",
}  # fmt: skip


def saved_origin(file: str, call: str, scope: str, role: str, line: int) -> Origin:
    """The origin of a pickle or a file, which has no code object to ask for the line."""
    key = (file, call, scope, role, line)
    found: Origin | None = _ORIGINS.get(key)
    return _ORIGINS.setdefault(key, Origin(*key)) if found is None else found


def _is_below_here(file: str) -> bool:
    try:
        return bool(file) and os.path.commonpath([os.path.abspath(file), os.getcwd()]) == os.getcwd()
    except (ValueError, OSError):  # another drive, or a folder that is gone
        return False


class _Building(threading.local):
    """What holds for the nodes that this thread builds now.

    Whoever sets the origin sets it back in a ``finally`` of its own: a context manager's way out is a call, and Ctrl-C may come
    before a call does anything.
    """

    scope: str = ""
    origin: Origin | None = None


building = _Building()

#: Folders whose frames are not the user's: a line of theirs is never an origin.
#: NumPy calls us back for its functions.
_INSIDE = [os.path.dirname(os.path.abspath(file)) + os.sep for file in (kgraph.__file__, np.__file__)]
_inside: dict[str, bool] = {}


def _is_inside(file: str) -> bool:
    found = _inside[file] = any(file.startswith(folder) for folder in _INSIDE)
    return found


def here(depth: int = 1) -> Origin:
    """The origin of what is built now: the caller's line, or the one that is set."""
    set_by_caller = building.origin
    if set_by_caller is not None:
        return set_by_caller
    frame: Any = sys._getframe(depth)
    call = ""
    while True:
        code = frame.f_code
        file = code.co_filename
        inside = _inside.get(file)
        if not (_is_inside(file) if inside is None else inside):
            break
        call = code.co_name
        back = frame.f_back
        if back is None:
            break
        frame = back
    # The id serves as long as the code object lives, and the origin under this key keeps it alive.
    scope = building.scope
    key = (id(code), frame.f_lasti, call, scope)
    entry = _ORIGINS.entries.get(key)
    found: Origin | None = None if entry is None else entry()
    if found is None:
        found = _ORIGINS.setdefault(key, Origin(file, call, scope, FORWARD, 0, code, frame.f_lasti))
    return found


@contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Nodes built inside the block belong to the scope ``name``, within the scopes around it ("encoder/layer_1")."""
    before = building.scope
    building.scope = f"{before}/{name}" if before else name
    try:
        yield
    finally:
        building.scope = before

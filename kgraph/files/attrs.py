"""What kind of value each attr of an op has. A type rule looks at the attrs that it computes with, and not at every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kgraph.ir.ops as o
from kgraph.files.container import MOST_AXES, bad
from kgraph.ir.node import Constant, Graph, Identity
from kgraph.ir.op import Op
from kgraph.ir.stream import Stream
from kgraph.ir.types import TensorType
from kgraph.lower.variable import Variable


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _entries(value: Any) -> bool:
    """Integers, None for those that are operands: three for each axis of a slice, at most."""
    return type(value) is tuple and len(value) <= 3 * MOST_AXES and all(part is None or type(part) is int for part in value)


def _axis(value: Any) -> bool:
    return type(value) is int or (_entries(value) and None not in value)


def _pairs(value: Any) -> bool:
    return type(value) is tuple and len(value) <= MOST_AXES and all(_entries(part) and len(part) == 2 for part in value)


def _word(value: Any) -> bool:
    return type(value) is str and len(value) <= 2 * MOST_AXES and (value.isidentifier() or not value)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is kind


#: Attr -> whether a value may be one. An op with an attr of another name is saved, and not loaded, until it has a row.
KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("keepdims", "reverse"), _is(bool)),
    **dict.fromkeys(("index", "depth", "k", "groups", "beam_width", "top_paths", "sequences", "states"), _count),
    **dict.fromkeys(("shape", "perm", "axes", "repeats", "reps", "bounds", "numbers", "dilation", "strides", "size"), _entries),
    **dict.fromkeys(("dtype", "form", "border"), _word),
    **dict.fromkeys(("then", "orelse", "body"), _is(Graph)),
    "axis": _axis, "padding": _pairs, "message": _is(str), "type": _is(TensorType), "value": _is(Constant),
    "uid": lambda value: isinstance(value, Identity),
}  # fmt: skip

#: What the uid of a source is; that of any other op is a plain identity.
_UIDS: dict[str, type] = {"variable": Variable, "stream": Stream}


def check_attrs(op: Op, attrs: tuple[tuple[str, Any], ...], place: str) -> None:
    """Raises FileError for an attr of the wrong kind."""
    for name, value in attrs:
        fits = KINDS.get(name)
        if fits is None or not fits(value) or (name == "uid" and type(value) is not _UIDS.get(op.name, Identity)):
            raise bad(f"{op.name} cannot have {value!r:.60} as {name}", place)
    if op is o.variable and dict(attrs)["uid"].type is not dict(attrs)["type"]:
        raise bad("the variable is of another type", place)

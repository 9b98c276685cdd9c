"""A function of a file: what it has besides its graph."""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from kgraph.arguments import check_sources
from kgraph.errors import KGraphError
from kgraph.files.container import bad
from kgraph.files.decode import Decoder, listed, numbered
from kgraph.function import Function, restored
from kgraph.ir.node import Graph
from kgraph.ir.passes import PIPELINE, chosen, every_rule
from kgraph.lower.engine import engine_names, get_engine

_PLACE = "the function"
_FIELDS = {"engine", "passes", "exclude", "finite", "options", "phase", "single", "shown", "names", "made"}
_MOST_PARTS = 10_000  # of the options, all together; of inputs, passes and excluded rules, each


def build_function(decoder: Decoder, graph: Graph, state: Any, engine: str | None) -> Function:
    """The function of a graph.

    Args:
      state: what the file says besides.
      engine: in the place of the one in the file, None for that.
    Raises: FileError.
    """
    if not isinstance(state, dict) or set(state) != _FIELDS:
        raise bad(f"it is no object with {', '.join(sorted(_FIELDS))}", _PLACE)
    if len(set(graph.inputs)) != len(graph.inputs) or any(node.op is not o.placeholder for node in graph.inputs):
        raise bad("the inputs of a function are different placeholders", _PLACE)
    count, phase, single = len(graph.inputs), state["phase"], state["single"]
    if phase is not None:
        numbered(phase, count + 1, f"{_PLACE}, phase")
    if type(single) is not bool or (single and len(graph.outputs) != 1) or type(state["finite"]) is not bool:
        raise bad("single and finite are true or false, and one tensor is one output", _PLACE)
    shown = _texts(decoder, state, "shown")
    names = [
        None if name is None else decoder.text(name, f"{_PLACE}, names") for name in listed(state["names"], f"{_PLACE}, names")
    ]
    if not len(shown) == len(names) == count:
        raise bad(f"the function has {count} inputs, {len(shown)} descriptions and {len(names)} names", _PLACE)
    passes, exclude = _texts(decoder, state, "passes"), _texts(decoder, state, "exclude")
    options = _Options(decoder).pairs(state["options"])
    made = decoder.origin_at(state["made"], f"{_PLACE}, made")
    named = state["engine"] if engine is None else engine
    if named is not None and named not in engine_names():  # looked up: a name of a file is never imported
        raise bad(f"there is no engine {named!r:.60}", _PLACE, f"load it with engine=, one of {', '.join(engine_names())}")
    rules = {name for rule in every_rule() for name in (rule.name, rule.name.partition(".")[2])}
    for what, wanted, known in (("pass", passes, set(PIPELINE)), ("rule", exclude, rules)):
        if strange := set(wanted) - known:
            advice = f"add a {what} of your own before you load it, or take the kgraph that it was saved with"
            raise bad(f"there is no {what} {min(strange)!r:.60}", _PLACE, advice)
    try:
        check_sources(graph, made)
        plan = chosen(passes, exclude, state["finite"])
        if named is not None:
            get_engine(named)
    except KGraphError as error:
        hint = f"load it with engine=, one of {', '.join(engine_names())}" if named and error.hint else error.hint
        raise bad(error.message, _PLACE, hint) from None
    return restored(graph, phase, shown, names, single, made, named, plan, options)


def _texts(decoder: Decoder, state: dict[str, Any], key: str) -> list[str]:
    place = f"{_PLACE}, {key}"
    if len(listed(state[key], place)) > _MOST_PARTS:
        raise bad(f"there are more than {_MOST_PARTS:,}", place)
    return [decoder.text(text, place) for text in state[key]]


class _Options:
    """Reads the options of an engine: numbers, texts, and lists and dicts of them."""

    place = f"{_PLACE}, options"

    def __init__(self, decoder: Decoder):
        self._decoder, self._left = decoder, _MOST_PARTS

    def pairs(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pair in listed(value, self.place):
            if len(listed(pair, self.place)) != 2 or self._decoder.text(pair[0], self.place) in found:
                raise bad("they are no pairs of different names and values", self.place)
            found[pair[0]] = self._value(pair[1])
        return found

    def _value(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise bad(f"they have more than {_MOST_PARTS:,} parts", self.place)
        if value is None or type(value) in (bool, int):
            return value
        if isinstance(value, str):
            return self._decoder.text(value, self.place)
        ((kind, inner),) = value.items() if isinstance(value, dict) and len(value) == 1 else [("", None)]
        if kind == "float" and isinstance(inner, str) and len(inner) < 40:
            try:
                return float.fromhex(inner)
            except (ValueError, OverflowError):
                raise bad(f"{inner!r} is no float", self.place) from None
        if kind in ("list", "tuple"):
            parts = [self._value(part) for part in listed(inner, self.place)]
            return parts if kind == "list" else tuple(parts)
        if kind == "dict":
            return self.pairs(inner)
        raise bad("a value is no number, text, list or dict", self.place)

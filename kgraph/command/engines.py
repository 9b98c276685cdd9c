"""``kgraph engines``: which engines there are, and whether they can run."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from kgraph import settings_file
from kgraph.command.parts import DIFFERS, FINE, Answer, Command, argument, check_engines, load_engine
from kgraph.errors import KGraphError
from kgraph.ir.text import aligned
from kgraph.lower.engine import engine_names


def _engines(asked: argparse.Namespace) -> Answer:
    """Loads each engine, and shows its version and devices, or why it cannot run and what to do. With names, only those:
    then the exit status is 1 if one of them cannot run.
    """
    known = engine_names()
    check_engines(asked.names)
    settings = settings_file.load()
    wanted = asked.names or known
    found = [{"name": name, "configured": name == settings.engine, **_facts(name)} for name in wanted]
    chosen = {"name": settings.engine, "from": settings.sources.get("engine", "default"), "known": settings.engine in known}
    status = DIFFERS if asked.names and not all(each["ready"] for each in found) else FINE
    return Answer(lambda: _text(found, chosen), lambda: {"engines": found, "configured": chosen}, status)


def _facts(name: str) -> dict[str, Any]:
    """Whether an engine is ready, what it runs on, or what keeps it from it."""
    package = importlib.util.find_spec(name) is not None
    try:
        return {"ready": True, "installed": True, **load_engine(name).facts()}
    except KGraphError as error:
        return {"ready": False, "installed": package, "why": error.message, "hint": error.hint}
    except Exception as error:  # a library that is installed and broken: whatever it says
        why = f"it cannot be loaded: {type(error).__name__}: {error!s:.300}"
        return {"ready": False, "installed": package, "why": why, "hint": f"python -c 'import {name}' shows all of it"}


def _text(found: list[dict[str, Any]], chosen: dict[str, Any]) -> str:
    rows, notes = [("", "engine", "", "version", "devices")], []
    for each in found:
        state = "ready" if each["ready"] else "cannot run" if each["installed"] else "not installed"
        rows.append((
            "*" if each["configured"] else "", each["name"], state, each.get("version", ""), "; ".join(each.get("devices", [])),
        ))  # fmt: skip
        shown = {"name", "configured", "ready", "installed", "version", "devices", "why", "hint"}
        more = [f"{name}: {value}" for name, value in each.items() if name not in shown]
        if more:
            notes.append(f"{each['name']}: {'; '.join(more)}")
        if not each["ready"]:
            notes.append(f"{each['name']}: {each['why']}" + (f"\n  {each['hint']}" if each["hint"] else ""))
    if chosen["known"]:
        last = f"* is the engine of functions that name none ({_source(chosen)})"
    else:
        last = f"{chosen['name']} is configured ({_source(chosen)}), and there is no engine of that name"
    return "\n".join([aligned(rows), "", *notes, "", last])


def _source(chosen: dict[str, Any]) -> str:
    return "the default" if chosen["from"] == "default" else f"from {chosen['from']}"


COMMANDS = (
    Command(
        "engines", "which engines can run here, and on what",
        ("kgraph engines", "kgraph engines theano", "kgraph engines --json"),
        (argument("names", nargs="*", metavar="NAME", help="an engine; all of them, if none is named"),),
        _engines,
    ),
)  # fmt: skip

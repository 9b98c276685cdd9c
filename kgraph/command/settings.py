"""``kgraph config``: the settings and where they come from."""

from __future__ import annotations

import argparse
from typing import Any

from kgraph import settings_file
from kgraph.command.parts import Answer, Command, argument
from kgraph.errors import ConfigError
from kgraph.ir.text import aligned


def _config(asked: argparse.Namespace) -> Answer:
    """Shows the settings and where they come from. With NAME=VALUE writes them to the settings file."""
    if asked.values:
        settings_file.save(dict(_pair(text) for text in asked.values))
    now = settings_file.load()
    file = settings_file.path()
    values = {name: getattr(now, "engine" if name == "backend" else name) for name in settings_file.NAMES}
    sources = {name: now.sources.get("engine" if name == "backend" else name, "default") for name in settings_file.NAMES}

    def text() -> str:
        rows = [(f"  {name}", str(value), sources[name]) for name, value in values.items()]
        return f"settings file: {file}{'' if file.exists() else ' (there is none)'}\n{aligned(rows)}"

    return Answer(text, lambda: {"file": str(file), "settings": values, "sources": sources})


def _pair(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"{text!r} is not NAME=VALUE", hint="kgraph config backend=numpy")
    if name == "epsilon":
        try:
            return name, float(value)
        except ValueError:
            pass  # refused below, with what is allowed
    return name, value


COMMANDS = (
    Command(
        "config", "show or write the settings",
        ("kgraph config", "kgraph config backend=tensorflow floatx=float32"),
        (argument("values", nargs="*", metavar="NAME=VALUE", help=f"one of {', '.join(settings_file.NAMES)}"),),
        _config,
    ),
)  # fmt: skip

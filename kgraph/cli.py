"""The command ``kgraph``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from kgraph import __version__, settings_file
from kgraph.errors import ConfigError, KGraphError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 after a message about what is wrong with what was asked for."""
    parser = argparse.ArgumentParser(prog="kgraph", description="The Keras 1.x backend functions as a graph, on many engines.")
    parser.add_argument("--version", action="version", version=f"kgraph {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = commands.add_parser(
        "config",
        help="show or write the settings",
        description="Shows the settings and where they come from. With NAME=VALUE writes them to the settings file.",
        epilog="example: kgraph config backend=tensorflow floatx=float32",
    )
    about.add_argument("values", nargs="*", metavar="NAME=VALUE", help=f"one of {', '.join(settings_file.NAMES)}")
    about.add_argument("--json", action="store_true", help="print JSON")
    about.set_defaults(run=_config)
    asked = parser.parse_args(arguments)
    try:
        asked.run(asked)
    except KGraphError as error:
        print(f"kgraph: {error}", file=sys.stderr)
        return 2
    return 0


def _config(asked: argparse.Namespace) -> None:
    if asked.values:
        settings_file.save(dict(_pair(text) for text in asked.values))
    now = settings_file.load()
    file = settings_file.path()
    values = {name: getattr(now, "engine" if name == "backend" else name) for name in settings_file.NAMES}
    sources = {name: now.sources.get("engine" if name == "backend" else name, "default") for name in settings_file.NAMES}
    if asked.json:
        print(json.dumps({"file": str(file), "settings": values, "sources": sources}))
        return
    print(f"settings file: {file}{'' if file.exists() else ' (there is none)'}")
    for name, value in values.items():
        print(f"  {name:<20}{value!s:<12}{sources[name]}")


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

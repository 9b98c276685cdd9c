"""The command itself: its table of subcommands, what it prints, and how it ends."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from kgraph import __version__, terminal
from kgraph.command import cache, engines, gradients, look, optimize, run, settings
from kgraph.command.parts import DIFFERS, FAILED, FINE, INTERRUPTED, PIPE_BROKEN, WRONG, Answer, Command
from kgraph.errors import KGraphError

COMMANDS: Sequence[Command] = (
    *engines.COMMANDS, *look.COMMANDS, *optimize.COMMANDS, *gradients.COMMANDS, *run.COMMANDS, *cache.COMMANDS,
    *settings.COMMANDS,
)  # fmt: skip

STATUSES = f"""exit status:
  {FINE}    fine
  {DIFFERS}    the answer is no: engines differ, a number is not finite, a variable gets no gradient, an engine is not ready
  {WRONG}    the command is used wrongly, or a file or program cannot be read
  {FAILED}    kgraph itself failed; the traceback is for a report
  {INTERRUPTED}  interrupted (Ctrl-C)
  {PIPE_BROKEN}  nobody reads on (kgraph show ... | head)
"""

ABOUT = """the Keras 1.x backend functions as a graph, on many engines: looking at graphs from a shell

GRAPH is a file of kgraph.save, or NAME in a Python program: path/to/file.py:NAME or module:NAME.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    try:
        try:
            if not given:
                parser.print_help()
                return WRONG
            asked = parser.parse_args(given)
        except SystemExit as end:  # argparse has said what is wrong, or printed a help
            return end.code if isinstance(end.code, int) else WRONG
        return _answered(asked)
    except BrokenPipeError:
        _close_output()
        return PIPE_BROKEN
    except KeyboardInterrupt:
        return INTERRUPTED


def _answered(asked: argparse.Namespace) -> int:
    try:
        answer: Answer = asked.run(asked)
        if asked.json:
            print(json.dumps(plain(answer.data()), indent=2 if sys.stdout.isatty() else None, allow_nan=False))
        else:
            text = answer.text()
            if text is not None:
                terminal.write([[(line, "")] for line in text.split("\n")])
        sys.stdout.flush()
        return answer.status
    except KGraphError as error:
        if asked.json:
            print(json.dumps({"error": _error_data(error)}))
        terminal.write([[(line, "")] for line in f"kgraph: {error}".split("\n")], sys.stderr)
        return WRONG
    except BrokenPipeError:
        raise
    except Exception:
        traceback.print_exc()
        print("kgraph: this should not have happened; please report it with the lines above", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="kgraph", description=ABOUT, epilog=STATUSES, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"kgraph {__version__}")
    found = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for command in COMMANDS:
        examples = "".join(f"  {example}\n" for example in command.examples)
        about = textwrap.fill(" ".join((command.run.__doc__ or "").split()), 100)
        more = f"examples:\n{examples}\n{STATUSES}"
        each = found.add_parser(command.name, help=command.help, description=about, epilog=more, formatter_class=form)
        for flags, options in command.arguments:
            each.add_argument(*flags, **options)
        each.add_argument("--json", action="store_true", help="print JSON")
        each.set_defaults(run=command.run)
    return parser


def plain(value: Any) -> Any:
    """The value as JSON can hold it: numbers that are not finite as texts, whatever is not known by its text."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _error_data(error: KGraphError) -> dict[str, Any]:
    return {
        "type": type(error).__name__, "call": error.call, "message": error.message, "operands": list(error.operands),
        "place": error.place, "hint": error.hint,
    }  # fmt: skip


def _close_output() -> None:
    """Let Python write what is left for standard output into nothing, or it would complain when it ends."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # there is no such file: it was replaced by something else

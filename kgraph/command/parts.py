"""What subcommands are made of: arguments, answers, the bar that says that something takes its time."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from kgraph import terminal
from kgraph.errors import ArgumentError
from kgraph.lower.engine import Engine, engine_names, get_engine

#: Seconds before there is a bar.
PATIENCE = 0.5

#: Exit statuses: all is well; the answer is no; what was asked for is wrong, or a file is; kgraph itself failed.
FINE, DIFFERS, WRONG, FAILED = 0, 1, 2, 3
#: Those of a program that the signal SIGINT, or SIGPIPE, has ended.
INTERRUPTED, PIPE_BROKEN = 130, 141


class Answer(NamedTuple):
    """What a subcommand has found.

    Attributes:
      text: gives it for people; or prints it itself, and gives None.
      data: gives it for programs: of numbers, texts, lists and dicts.
      status: with which the command ends.
    """

    text: Callable[[], str | None]
    data: Callable[[], Any]
    status: int = FINE


class Argument(NamedTuple):
    """What argparse's ``add_argument`` takes."""

    flags: tuple[str, ...]
    options: Mapping[str, Any]


def argument(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
      help: in half a line, for the list of subcommands.
      examples: as they are typed.
      arguments: besides --json, which all have.
      run: what it does; its docstring is the subcommand's own help.
    """

    name: str
    help: str
    examples: Sequence[str]
    arguments: Sequence[Argument]
    run: Callable[[argparse.Namespace], Answer]


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def sizes(text: str) -> tuple[str, int]:
    """``n=32``."""
    name, sign, value = text.partition("=")
    if not sign or not name or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SIZE, such as n=32")
    return name.strip(), int(value)


def count(text: str) -> int:
    """A number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


TARGET = argument(
    "target", metavar="GRAPH",
    help="a file of kgraph.save; path/to/file.py:NAME or module:NAME of a program, where NAME is a tensor, a list of tensors, "
    "a graph, a function, or something that gives one when it is called without arguments",
)  # fmt: skip
ENGINE = argument("--engine", metavar="NAME", help="the engine that runs it; else that of the function, or the configured one")
SIZES = argument(
    "--sizes", "--size", metavar="NAME=SIZE", type=sizes, action="append", default=[],
    help="a size that is not known, by the name that show --summary has for it; may be given several times",
)  # fmt: skip
TRAINING = argument("--training", action="store_true", help="the train program, in place of the test program")
PASSES = (
    argument("--passes", metavar="A,B", type=names, help="the passes that run; all of them, if it is left out"),
    argument("--exclude", metavar="A,B", type=names, default=[], help="names of rules that are left out"),
    argument("--finite", action="store_true", help="use rules too that hold for finite numbers alone"),
    argument("--training", action="store_true", default=None, help="set the learning phase to 1, which is left open else"),
    argument("--test", dest="training", action="store_false", default=None, help="set the learning phase to 0"),
)


def near(wanted: str, known: Iterable[str], what: str, cutoff: float = 0.6) -> str | None:
    """A hint: the known names that are like the one wanted, or all of them if they are few."""
    all_names = sorted(set(known))
    close = difflib.get_close_matches(wanted, all_names, n=3, cutoff=cutoff)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(all_names[:12]) + (f" and {len(all_names) - 12} more" if len(all_names) > 12 else "")
    return f"{what} are {shown}" if all_names else None


def wrong(message: str, *operands: str, hint: str | None = None) -> ArgumentError:
    """The error of an argument of the command."""
    error = ArgumentError(message, hint=hint)
    error.operands = operands
    return error


@contextmanager
def working(text: str, steps: int | None = None) -> Iterator[Callable[[str], None]]:
    """Inside the block, a bar in the terminal that errors go to, once that takes a while; nothing where they go elsewhere.

    Args:
      steps: how many there are; None if nobody knows.
    Yields: a function to be called at the beginning of each step, with what is being done.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda step: None
        return
    bar = _Bar(text, steps)
    terminal.taken = True
    try:
        yield bar.step
    finally:
        bar.stop()
        terminal.taken = False


class _Bar:
    """A bar that appears after `PATIENCE`: most work is done before, and rich need not be imported for it."""

    def __init__(self, text: str, steps: int | None):
        self._text, self._steps, self._begun, self._now = text, steps, itertools.count(), text
        self._done = 0
        # A file of its own: `hushed`, which may come next, leaves it alone.
        self._file = open(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)  # noqa: SIM115
        self._bar: Any = None
        self._ended = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(PATIENCE, self._start)
        self._timer.daemon = True
        self._timer.start()

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._ended:
                return
            columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
            console = Console(file=self._file)
            self._bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._task = self._bar.add_task(self._now, total=self._steps, completed=self._done)
            self._bar.start()

    def step(self, what: str) -> None:
        """Say that a step begins."""
        with self._lock:
            self._now, self._done = f"{self._text}: {what}", next(self._begun)
            if self._bar is not None:
                self._bar.update(self._task, description=self._now, completed=self._done)

    def stop(self) -> None:
        """Take the bar away."""
        self._timer.cancel()
        with self._lock:
            self._ended = True
            if self._bar is not None:
                self._bar.stop()
            self._file.close()


@contextmanager
def hushed() -> Iterator[None]:
    """Without what libraries write to standard error past Python, such as TensorFlow while it is loaded, whatever it is asked.
    It is shown all the same if the block raises, and where the user has set how much TensorFlow logs. Warnings come after it.
    """
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        os.close(before)
        yield
        return
    caught: list[warnings.WarningMessage] = []
    with tempfile.TemporaryFile() as kept:
        _flush()
        os.dup2(kept.fileno(), 2)
        try:
            with warnings.catch_warnings(record=True) as caught:
                yield
        except BaseException:
            _flush()
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            _flush()
            os.dup2(before, 2)
            os.close(before)
            for each in caught:
                warnings.showwarning(each.message, each.category, each.filename, each.lineno)


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def check_engines(names: Iterable[str]) -> None:
    """Raises EngineError for names that are none."""
    for name in names:
        if name not in engine_names():
            get_engine(name)


def load_engine(name: str) -> Engine:
    """The engine of a name. Raises EngineError, and whatever a broken library raises."""
    with working(f"loading {name}"), hushed():
        engine = get_engine(name)
        engine.facts()  # a device that cannot be had is said to be so when devices are first looked at
        return engine

"""The line on a terminal that says why nothing happens: Theano compiles for seconds what it has not compiled before."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from theano.link.c import cmodule

from kgraph import terminal

#: Seconds before the first line, and between lines.
FIRST, PAUSE = 1.0, 0.5


@contextmanager
def reported(nodes: int) -> Iterator[None]:
    """Inside the block, a line about the compiling of so many nodes, once that takes longer than `FIRST`; gone afterwards."""
    if sys.stderr is None or not sys.stderr.isatty() or terminal.taken:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_report, args=(sys.stderr, done, nodes), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _report(terminal: Any, done: threading.Event, nodes: int) -> None:
    began, before = time.monotonic(), _compiled()
    shown = False
    while not done.wait(PAUSE if shown else FIRST):
        shown = True
        seconds = time.monotonic() - began
        text = f"Theano compiles {nodes} nodes: {seconds:.0f} s, {_compiled() - before} new operations, kept for next time"
        terminal.write(f"\r\x1b[K{text[: _columns(terminal) - 1]}")
        terminal.flush()
    if shown:
        terminal.write("\r\x1b[K")
        terminal.flush()


def _compiled() -> int:
    """How many operations Theano has compiled in this process."""
    cache = cmodule._module_cache
    return 0 if cache is None else int(cache.stats[2])


def _columns(terminal: Any) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):
        return 80

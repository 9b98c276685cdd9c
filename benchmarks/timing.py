"""What the benchmarks share: two sides timed by turns, medians of paired ratios, resident memory, a table.

The machine is never quiet, so that a time by itself says little. The sides of a comparison take turns within one run, and
what is reported is the median of the differences or ratios of neighbours, with an interval.
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def seconds(run: Callable[[], Any]) -> float:
    """How long one call of run takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def by_turns(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """The times of two sides, in seconds, round by round; which of them begins changes from round to round."""
    times: tuple[list[float], list[float]] = ([], [])
    sides = (one, other)
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            times[side].append(seconds(sides[side]))
    return times


class Spread:
    """The median of some figures, and the interval that holds the true one in 95 of 100 runs, whatever their distribution."""

    def __init__(self, figures: Sequence[float]):
        ordered = sorted(figures)
        # The ranks between which a median lies, by the normal approximation of the binomial distribution.
        margin = 0.98 * math.sqrt(len(ordered))
        low = max(0, math.floor(len(ordered) / 2 - margin))
        self.median = statistics.median(ordered)
        self.low, self.high = ordered[low], ordered[len(ordered) - 1 - low]

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def as_json(self) -> dict[str, float]:
        return {"median": self.median, "low": self.low, "high": self.high}


def ratios(times: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times as long the first side takes as the second."""
    return Spread([a / b for a, b in zip(times, others, strict=True)])


def differences(times: Sequence[float], others: Sequence[float], number: int) -> Spread:
    """How many microseconds longer the first side takes, a call, where each time is that of so many calls."""
    return Spread([(a - b) / number * 1e6 for a, b in zip(times, others, strict=True)])


class Collector:
    """The seconds that Python's garbage collector takes inside the block."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def _note(self, moment: str, info: dict[str, int]) -> None:
        if moment == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began

    def __enter__(self) -> Collector:
        gc.collect()
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        gc.callbacks.remove(self._note)


def resident() -> float:
    """Bytes of memory that the process holds now; NaN where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return math.nan


def in_a_fork(measure: Callable[[], float]) -> float:
    """What measure returns in a process of its own, whose memory nothing has used and freed; NaN where there is no fork."""
    if not hasattr(os, "fork"):
        return math.nan
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, repr(measure()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return float(answer or "nan")


@contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds of the block to those of name."""
    began = time.perf_counter()
    try:
        yield
    finally:
        times[name] = times.get(name, 0.0) + time.perf_counter() - began


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need be, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    lines = []
    for row in (heads, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def verdict(figure: float, target: float) -> str:
    """Whether a figure is as low as its target."""
    return "met" if figure <= target else "MISSED" if figure > target else "not measured"

"""What memory the gradient of a loop takes: of an rnn over so many steps, in a process of its own.

    python -m benchmarks.memory [--engine numpy] [--steps 10000]

Prints the bytes that one call of the gradient held at most, beyond those that the process held before it.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.timing import resident, table, verdict
from kgraph import backend as K

STEPS = (100, 1_000, 10_000)
BATCH, UNITS = 32, 32

#: How many times as much a step may take of ten thousand as of a thousand: linear, but for what a program needs at any length.
MOST_GROWTH = 1.1


def gradient(engine: str) -> Any:
    """The gradient of the weights of an rnn over any number of steps, its elements added up."""
    x, w = K.placeholder((BATCH, None, UNITS)), K.placeholder((UNITS, UNITS))

    def step(part: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        h = K.tanh(part + K.dot(states[0], w))
        return h, [h]

    _, out, _ = K.rnn(step, x, [K.zeros((BATCH, UNITS))])
    return K.function([x, w], [K.sum(K.gradients(K.sum(K.square(out)), [w])[0])], engine=engine)


def peak(engine: str, steps: int) -> float:
    """The bytes that one call holds at most; NaN where the system does not say."""
    call = gradient(engine)
    x, w = np.ones((BATCH, steps, UNITS), "float32"), np.eye(UNITS, dtype="float32")
    call(x[:, :2], w)
    before = resident()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the highest number so far is forgotten
        call(x, w)
        with open("/proc/self/status") as file:
            (highest,) = [line for line in file if line.startswith("VmHWM:")]
    except OSError:
        return math.nan
    return float(highest.split()[1]) * 1024 - before


def in_processes(engine: str) -> list[float]:
    """`peak` for each of `STEPS`, each in a process whose memory nothing has used and freed before."""
    found = []
    for steps in STEPS:
        command = [sys.executable, "-m", "benchmarks.memory", "--engine", engine, "--steps", str(steps)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(float(answer.split()[-1]))
    return found


def shown(peaks: list[float]) -> str:
    """A table of the bytes of all lengths, and of each step."""
    each = [bytes_ / steps for bytes_, steps in zip(peaks, STEPS, strict=True)]
    growth = each[-1] / each[-2]
    heads = ("gradient of an rnn, bytes", *[f"{steps:,} steps" for steps in STEPS], "growth", f"target {MOST_GROWTH:.2g}")
    rows = [
        ["in all", *[f"{x:,.0f}" for x in peaks], "", ""],
        ["a step", *[f"{x:,.0f}" for x in each], f"{growth:.3f}", verdict(growth, MOST_GROWTH)],
    ]
    return table(heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="numpy")
    parser.add_argument("--steps", type=int, default=STEPS[-1])
    args = parser.parse_args()
    print(peak(args.engine, args.steps))


if __name__ == "__main__":
    main()

"""What TensorFlow's own trace says of a program: the time of each op, by the node that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tensorflow.core.protobuf import config_pb2

from kgraph.ir.places import Path
from kgraph.lower.measured import Measured, Sample
from kgraph.lower.tensorflow.program import Program

_PLACE = re.compile(r"(?:^|/)at(\d+)((?:-[a-z]+\d+)*)(?=/)")
_INNER = re.compile(r"-([a-z]+)(\d+)")


class TensorFlowProfiler:
    """A program, and another call of it that takes a trace.

    The time of an op is that of its kernel, where it runs: on a processor; of a GPU's kernels only the launch.
    """

    def __init__(self, program: Program):
        self._program, self._traced = program, program.traced()
        self.explain = program.explain

    def run(self, values: Sequence[Any]) -> Any:
        return self._program.call(*values)

    def measure(self, values: Sequence[Any]) -> Measured:
        seconds: dict[Path, float] = {}
        calls: dict[str, int] = {}  # by the name of the op
        for name, took in self._trace(values):
            path = path_of(name)
            seconds[path] = seconds.get(path, 0.0) + took
            calls[name] = calls.get(name, 0) + 1
        rest = seconds.pop((), 0.0)
        # A node is several ops: it ran as often as the one that did most. But of a loop some ops run in each step.
        counts: dict[Path, list[int]] = {path: [] for path in seconds}
        for name, count in calls.items():
            if path := path_of(name):
                counts[path].append(count)
        loops = {path[:end] for path in seconds for end in range(1, len(path)) if path[end][0] == "body"}
        samples = [Sample((path,), (min if path in loops else max)(counts[path]), took) for path, took in seconds.items()]
        return Measured(samples, rest)

    def _trace(self, values: Sequence[Any]) -> list[tuple[str, float]]:
        """The names of the ops that ran, and the seconds that each took."""
        found = config_pb2.RunMetadata()
        self._traced(*values, run_metadata=found)
        return [
            (op.node_name, (op.op_end_rel_nanos - op.op_start_rel_nanos) * 1e-9)
            for device in found.step_stats.dev_stats
            if "/stream:" not in device.device  # what the launches on a GPU's own page stand for
            for op in device.node_stats
        ]


def path_of(name: str) -> Path:
    """Where the node is that an op has been made for: its scope says so. Empty if it is for none.

    What TensorFlow makes of loops has the names of operands, and so their scopes, behind that of the loop.
    """
    path: Path = ()
    for first, rest in _PLACE.findall(name):
        place = (("", int(first)), *[(attr, int(number)) for attr, number in _INNER.findall(rest)])
        if place[: len(path)] == path:
            path = place
    return path

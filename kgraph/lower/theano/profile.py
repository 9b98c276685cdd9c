"""What Theano's own profile says of a program: the time of each operation, by the nodes that it computes.

Theano hands the marks of nodes on to most of what it makes of them, and leaves them out where it fuses. So in a program that is
measured they are handed on by us: what has come in the place of several operations has the marks of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

from theano.graph.opt import GlobalOptimizer
from theano.graph.toolbox import Feature

from kgraph.ir.places import Path
from kgraph.lower.measured import Measured, Sample
from kgraph.lower.theano.loops import LoopOp
from kgraph.lower.theano.program import TheanoProgram

# ---------------------------------------------------------------------------------------------------- marks that stay


class _Marks(Feature):  # type: ignore[misc]
    """Hands marks on where a variable is replaced by another one."""

    def on_change_input(self, fgraph: Any, node: Any, i: int, r: Any, new_r: Any, reason: Any = None) -> None:
        fused = reason == "FusionOptimizer"
        if new_r.owner is None or (_traces(new_r) and not fused):
            return
        made, kept = [new_r], {id(r)}
        for variable in made:  # grows while it is gone through
            for below in variable.owner.inputs:
                if below.owner is None or _traces(below):
                    kept.add(id(below))
                elif below not in made:
                    made.append(below)
        traces = [*_traces(r)]
        waiting = [] if r.owner is None else list(r.owner.inputs)
        while waiting:
            variable = waiting.pop()
            if id(variable) not in kept and variable.owner is not None:
                kept.add(id(variable))
                traces += _traces(variable)
                if fused:
                    waiting += variable.owner.inputs
        for variable in made:
            known = _traces(variable)
            variable.tag.trace = known + [trace for trace in traces if trace not in known]


def _traces(variable: Any) -> list[Any]:
    found: list[Any] = getattr(variable.tag, "trace", None) or []
    return found


class KeepMarks(GlobalOptimizer):  # type: ignore[misc]
    """Has Theano keep marks in the rewrites that come after."""

    def add_requirements(self, fgraph: Any) -> None:
        fgraph.attach_feature(_Marks())

    def apply(self, fgraph: Any) -> None:
        pass


# ---------------------------------------------------------------------------------------------------- measuring


class TheanoProfiler:
    """A program whose machine notes the time of each operation, and those of the bodies of its loops."""

    def __init__(self, program: TheanoProgram):
        self._program = program
        self.locate = program.locate

    def run(self, values: Sequence[Any]) -> Any:
        return self._program.call(*values)

    def measure(self, values: Sequence[Any]) -> Measured:
        with _timed(self._program):
            began = perf_counter()
            self._program.call(*values)
            took = perf_counter() - began
            samples = list(_samples(self._program, (), 1))
        return Measured(samples, max(took - sum(sample.seconds for sample in samples), 0.0))


def _programs(program: TheanoProgram) -> list[TheanoProgram]:
    """A program and those of the bodies of its loops."""
    found = [program]
    for each in found:  # grows while it is gone through
        found += each.builder.bodies
    return found


@contextmanager
def _timed(program: TheanoProgram) -> Iterator[None]:
    """Within it machines note times, from 0 on."""
    with ExitStack() as stack:
        for each in _programs(program):
            machine = each.function.fn
            if not hasattr(machine, "call_times"):  # our own loop, in Python
                stack.callback(setattr, machine, "thunks", machine.thunks)
                machine.call_times, machine.call_counts = [0.0] * len(machine.nodes), [0] * len(machine.nodes)
                machine.thunks = [_Thunk(machine, number, thunk) for number, thunk in enumerate(machine.thunks)]
                stack.callback(delattr, machine, "call_times")
                continue
            for number in range(len(machine.nodes)):
                machine.call_times[number], machine.call_counts[number] = 0.0, 0
            machine.time_thunks = 1
            stack.callback(setattr, machine, "time_thunks", 0)
        yield


class _Thunk:
    """An operation that notes its time."""

    def __init__(self, machine: Any, number: int, thunk: Callable[[], Any]):
        self._machine, self._number, self._thunk = machine, number, thunk
        self.lazy = thunk.lazy  # type: ignore[attr-defined]

    def __call__(self) -> Any:
        began = perf_counter()
        found = self._thunk()
        self._machine.call_times[self._number] += perf_counter() - began
        self._machine.call_counts[self._number] += 1
        return found


def _samples(program: TheanoProgram, outer: Path, runs: int) -> Iterator[Sample]:
    """What was measured of a program, or of that of the body of a loop, which is at a path and ran so many times."""
    machine, builder = program.function.fn, program.builder
    bodies = dict(zip(builder.loops, builder.bodies, strict=True))
    for apply, thunk, seconds, calls in zip(
        machine.nodes, machine.thunks, machine.call_times, machine.call_counts, strict=True
    ):
        places = builder.placed(apply)
        if not calls or not places:
            continue
        if isinstance(apply.op, LoopOp):
            inner = bodies[places[0]]
            body = _below(outer, places[0])
            within = inner.function.fn
            steps = max([n for n, each in zip(within.call_counts, within.thunks, strict=True) if not each.lazy], default=calls)
            yield from _samples(inner, body, steps)
            seconds = max(seconds - sum(within.call_times), 0.0)
        # Theano asks a branch what it wants before it runs, which counts.
        count = min(calls, runs) if thunk.lazy else calls
        yield Sample(tuple([_below(outer, place) for place in places]), count, seconds)


def _below(outer: Path, place: Path) -> Path:
    """The path of a node of the body of the loop at a path."""
    return (*outer, ("body", place[0][1]), *place[1:]) if outer else place

"""``kgraph check``, ``profile``, ``memory`` and ``nan``: what happens when a graph is computed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import kgraph
from kgraph.command import parts
from kgraph.command.parts import DIFFERS, ENGINE, FINE, TARGET, TRAINING, Answer, Command, argument, working
from kgraph.command.target import as_function, load
from kgraph.command.values import ARGUMENTS, Fed, fed
from kgraph.function import Function
from kgraph.lower.engine import engine_names


def _computed(asked: argparse.Namespace, what: str | None, compute: Callable[[Function, Fed], Any]) -> tuple[Fed, Any]:
    """The values that the graph which was asked for is fed, and what is made of both."""
    engine = getattr(asked, "engine", None)  # check and nan have none
    x = load(asked.target, engine)
    if engine is not None:
        parts.load_engine(engine)
    function = as_function(x, engine)
    given = fed(function, asked)
    with working(what) if what else nullcontext():
        return given, compute(function, given)


def _answer(given: Fed, found: Any, name: str, status: int = FINE) -> Answer:
    return Answer(lambda: f"{given}\n\n{found}", lambda: {"fed": given.as_data(), name: found.as_data()}, status)


def _check(asked: argparse.Namespace) -> Answer:
    """Computes a graph on several engines and compares the outputs. Where they differ, names the first node where they
    part, and shrinks the graph to a small one that still differs. The exit status is 1 if they do.
    """
    left_out: list[str] = []

    def compare(function: Function, given: Fed) -> Any:
        engines, others = _ready(asked.engines)  # by now the program has made those of its own known
        left_out[:] = others
        with working(f"comparing {', '.join(engines)}"):
            return kgraph.compare(function, given.values, engines=engines, training=asked.training, shrink=not asked.no_shrink)

    given, found = _computed(asked, None, compare)
    answer = _answer(given, found, "comparison", FINE if found.agree else DIFFERS)
    if not left_out:
        return answer
    note = f"left out: {', '.join(left_out)}, which cannot run here; kgraph engines says why"
    return answer._replace(text=lambda: f"{answer.text()}\n{note}", data=lambda: {**answer.data(), "left_out": left_out})


def _ready(asked: list[str] | None) -> tuple[list[str], list[str]]:
    """The engines to compare: those that were asked for, or all that can run; and those that cannot. Raises EngineError."""
    parts.check_engines(asked or ())
    ready, left_out = [], []
    for name in asked or engine_names():
        try:
            parts.load_engine(name)
            ready.append(name)
        except Exception:  # of a library that is not installed, or broken
            if asked:
                raise
            left_out.append(name)
    return ready, left_out


def _profile(asked: argparse.Namespace) -> Answer:
    """Runs a graph and shows what takes the time: the nodes, and your lines."""

    def profile(function: Function, given: Fed) -> Any:
        return function.profile(given.values, runs=asked.runs, training=asked.training)

    return _answer(*_computed(asked, "measuring", profile), "profile")


def _memory(asked: argparse.Namespace) -> Answer:
    """Shows how much memory a call of a graph holds at most, and what is held then."""

    def memory(function: Function, given: Fed) -> Any:
        return function.memory(given.values, training=asked.training)

    return _answer(*_computed(asked, "measuring", memory), "memory")


def _nan(asked: argparse.Namespace) -> Answer:
    """Computes a graph node after node, and names the first one whose result is not finite although what it was made of
    is, with its line and what it was given. The exit status is 1 if there is one.
    """

    def trace(function: Function, given: Fed) -> Any:
        return function.trace_nan(list(given.values), training=asked.training)

    given, found = _computed(asked, "computing node after node", trace)
    if found is None:
        return Answer(lambda: f"{given}\n\nevery number is finite", lambda: {"fed": given.as_data(), "found": None})
    return _answer(given, found, "found", DIFFERS)


COMMANDS = (
    Command(
        "check", "compare engines: do they give the same numbers?",
        (
            "kgraph check model.py:loss", "kgraph check step.safetensors --engines numpy,tensorflow --inputs batch.npz",
            "kgraph check model.py:step --training --seed 7 --size n=128",
        ),
        (
            TARGET, argument("--engines", metavar="A,B", type=parts.names, help="those to compare; all that can run"),
            TRAINING, *ARGUMENTS, argument("--no-shrink", action="store_true", help="look for no smaller graph that differs"),
        ),
        _check,
    ),
    Command(
        "profile", "where the time goes, by node and line",
        ("kgraph profile model.py:step --training", "kgraph profile step.safetensors --engine tensorflow --runs 100"),
        (
            TARGET, ENGINE, TRAINING, argument("--runs", type=parts.count, default=10, metavar="N", help="calls (10)"),
            *ARGUMENTS,
        ),
        _profile,
    ),
    Command(
        "memory", "how much memory a call takes, and what holds it",
        ("kgraph memory model.py:step --training", "kgraph memory step.safetensors --size n=1024"),
        (TARGET, ENGINE, TRAINING, *ARGUMENTS),
        _memory,
    ),
    Command(
        "nan", "which node made the first NaN or infinity",
        ("kgraph nan model.py:loss --inputs batch.npz", "kgraph nan step.safetensors --training --range -10 10"),
        (TARGET, TRAINING, *ARGUMENTS),
        _nan,
    ),
)  # fmt: skip

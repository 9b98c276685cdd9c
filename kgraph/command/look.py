"""``kgraph show``: a graph as text."""

from __future__ import annotations

import argparse
from typing import Any

import kgraph
from kgraph.arguments import as_graph
from kgraph.command.parts import ENGINE, PASSES, SIZES, TARGET, Answer, Command, argument, load_engine, working, wrong
from kgraph.command.target import load
from kgraph.diff import Diff
from kgraph.ir.node import Graph
from kgraph.ir.text import LONGEST
from kgraph.summary import Summary


def _show(asked: argparse.Namespace) -> Answer:
    """Prints a graph: a line for each node, inputs before users, with its name, type, op, operands, and your line. With
    --summary what it has and costs by op, by name scope and by variable: the largest variables come last. With --diff
    what went (-), what came (+), and what stayed with other operands (~).
    """
    if asked.summary and asked.diff is not None:
        raise wrong("--summary and --diff were asked for together", hint="ask for one after the other")
    built = as_graph(load(asked.target))
    graph = _improved(built, asked)
    sizes = dict(asked.sizes) or None
    old = None
    if asked.diff is not None:
        old = built if asked.diff is True else as_graph(load(asked.diff))
        if asked.diff is True and graph is built:
            raise wrong("--diff alone is about what passes did, and none was asked for", hint="--passes all, or --diff GRAPH")

    def text() -> None:
        lines = None if asked.lines == "all" else _lines(asked.lines)
        kgraph.show(graph, diff=old, summary=asked.summary, sizes=sizes, lines=lines, fold=not asked.no_fold)

    def data() -> Any:
        if asked.summary:
            return Summary(graph, sizes).as_data()
        return Diff(old, graph).as_data() if old is not None else graph_data(graph, sizes)

    return Answer(text, data)


def _lines(text: str) -> int:
    if not text.isdecimal():
        raise wrong(f"--lines is {text!r}, not a number or all")
    return int(text)


def _improved(graph: Graph, asked: argparse.Namespace) -> Graph:
    """The graph after the passes that were asked for; itself, if nothing was."""
    if asked.passes is None and asked.training is None and asked.engine is None and not asked.exclude and not asked.finite:
        return graph
    passes: Any = asked.passes if asked.passes is not None else bool(asked.exclude or asked.finite)
    if passes == ["all"]:
        passes = True
    if asked.engine is not None:
        load_engine(asked.engine)
    with working("optimising"):
        return kgraph.optimize(
            graph, passes, exclude=asked.exclude, finite=asked.finite, training=asked.training, engine=asked.engine
        )


def graph_data(graph: Graph, sizes: dict[str, int] | None) -> dict[str, Any]:
    """The nodes of a graph in order, with all that is known of them; the names are those that `kgraph.show` has."""
    return _data_of(kgraph.to_networkx(graph, sizes=sizes))


def _data_of(graph: Any) -> dict[str, Any]:
    nodes = []
    for key, facts in graph.nodes(data=True):
        operands = sorted((position, start) for start, _, position in graph.in_edges(key, keys=True))
        row = {"key": key, "operands": [start for _, start in operands], **facts}
        if "bodies" in row:
            row["bodies"] = {name: _data_of(body) for name, body in row["bodies"].items()}
        nodes.append(row)
    facts = {name: graph.graph[name] for name in ("sizes", "times", "inputs", "outputs", "updates") if name in graph.graph}
    return {"nodes": nodes, **facts}


COMMANDS = (
    Command(
        "show", "a graph as text, its summary, a difference",
        (
            "kgraph show model.py:loss", "kgraph show step.safetensors --summary --size n=32",
            "kgraph show model.py:loss --passes all --diff", "kgraph show new.safetensors --diff old.safetensors",
            "kgraph show model.py:step --json | jq '.nodes[].op'",
        ),
        (
            TARGET,
            argument("--summary", action="store_true", help="what the graph has and costs"),
            argument(
                "--diff", nargs="?", const=True, metavar="GRAPH",
                help="the difference from another graph; without one, what the passes did",
            ),
            *PASSES, ENGINE._replace(options={"metavar": "NAME", "help": "put the graph in ops of this engine"}), SIZES,
            argument("--lines", default=str(LONGEST), metavar="N", help=f"at most so many lines, or all ({LONGEST})"),
            argument("--no-fold", action="store_true", help="show what repeats in full"),
        ),
        _show,
    ),
)  # fmt: skip

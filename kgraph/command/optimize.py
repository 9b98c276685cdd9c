"""``kgraph optimize``: what the passes make of a graph, and why."""

from __future__ import annotations

import argparse
from typing import Any

import kgraph
from kgraph.arguments import as_graph
from kgraph.command.parts import ENGINE, PASSES, TARGET, Answer, Command, argument, load_engine, near, working, wrong
from kgraph.command.target import load
from kgraph.errors import KGraphError
from kgraph.explain import Explanation, Stage, cost_of, plain_count, text_of
from kgraph.function import Function
from kgraph.ir.node import Graph, Node
from kgraph.ir.passes import chosen
from kgraph.ir.tensor import Tensor
from kgraph.ir.text import numbered

_MOST = 20  # nodes of a name that are told of


def _optimize(asked: argparse.Namespace) -> Answer:
    """Runs the passes over a graph and shows what they leave. --explain tells what each pass and each rule did at which
    of your lines; --why what became of one tensor, --why-not which part of a rule did not fit it. A tensor is named by
    its name (w), op (softmax), K function (categorical_crossentropy), line (model.py:12) or number (%7). Of a function,
    its own passes are run if --passes does not name others. --out saves the same sort of thing, with the graph that is
    left.
    """
    if (asked.why_not is None) != (asked.of is None):
        raise wrong("--why-not and --of go together", hint="--why-not logarithm --of log: what keeps the rule from the log")
    x = load(asked.target)
    if asked.engine is not None:
        load_engine(asked.engine)
    how = _how(x, asked)
    explained: Explanation | None = None
    with working("optimising"):
        if asked.explain or asked.why or asked.of is not None:
            explained = kgraph.explain(x, **how)
            after = explained.after
        else:
            after = kgraph.optimize(x, **how)
    told = [] if explained is None else _told(explained, asked)
    if asked.out is not None:
        kgraph.save(asked.out, _as_given(x, after))
    was, now = (Stage(name, cost_of(graph), 0) for name, graph in (("as built", as_graph(x)), ("optimised", after)))

    def text() -> str | None:
        parts = [*told]
        if asked.explain:
            parts.append(str(explained))
        elif not told:
            figures = zip(was.figures(), now.figures(), strict=True)
            parts.append("; ".join(f"{name}: {text_of(old)} -> {text_of(new)}" for (name, old), (_, new) in figures))
        if asked.out is not None:
            parts.append(f"saved: {asked.out}")
        if asked.explain or told or asked.out is not None:
            return "\n\n".join(parts)
        print(*parts, sep="\n", end="\n\n")
        kgraph.show(after)
        return None

    def data() -> Any:
        found: dict[str, Any] = {} if explained is None or not asked.explain else explained.as_data()
        for stage in (was, now):
            found["before" if stage is was else "after"] = {name: plain_count(count) for name, count in stage.figures()}
        return found | ({"told": told} if told else {}) | ({} if asked.out is None else {"out": asked.out})

    return Answer(text, data)


def _how(x: Any, asked: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `kgraph.optimize`: the passes that were asked for; those of a function, if none were."""
    passes: Any = True if asked.passes in (None, ["all"]) else asked.passes
    exclude, finite = list(asked.exclude), asked.finite
    if isinstance(x, Function):
        passes = x.passes.names if asked.passes is None else passes
        exclude, finite = [*exclude, *x.passes.exclude], finite or x.passes.finite
    return {"passes": passes, "exclude": exclude, "finite": finite, "training": asked.training, "engine": asked.engine}


def _as_given(x: Any, graph: Graph) -> Any:
    """The same sort of thing as x, with another graph in it."""
    if isinstance(x, Function):
        return x.changed(graph, passes=chosen(False))
    if isinstance(x, Graph):
        return graph
    tensors = [Tensor(node) for node in graph.outputs]
    return tensors if isinstance(x, list) else tensors[0]


# ---------------------------------------------------------------------------------------------------- questions


def _told(explained: Explanation, asked: argparse.Namespace) -> list[str]:
    """The answers to --why and --why-not."""
    found = []
    for name in asked.why:
        found += [explained.why(Tensor(node)) for node in _nodes_called(explained.before, name)]
    if asked.why_not is not None:
        for node in _nodes_called(explained.before, asked.of):
            try:
                found.append(explained.why_not(asked.why_not, Tensor(node)))
            except KGraphError as error:
                raise error.at("--why-not") from None
    return found


def _nodes_called(graph: Graph, name: str) -> list[Node]:
    """The nodes of a graph that a user may mean. Raises ArgumentError for none."""
    nodes, labels = numbered(graph)
    line = name if ":" in name else None
    ways = (
        lambda node: name in (labels[node], node.name),
        lambda node: name == node.op.name,
        lambda node: name == node.origin.function,
        lambda node: line is not None and f"/{node.origin}".endswith(f"/{line.lstrip(':')}" if line[0] != ":" else line),
        lambda node: name in node.op.name,  # softmax: a K function may have made softmax_crossentropy of it
    )
    for fits in ways:
        found = [node for node in nodes if fits(node)]
        if len(found) > _MOST:
            hint = f"name one of them by its number: {', '.join(labels[node] for node in found[:_MOST])} ..."
            raise wrong(f"{len(found):,} nodes are called {name!r}", hint=hint)
        if found:
            return found
    known = {node.op.name for node in nodes} | {node.name for node in nodes if node.name}
    raise wrong(f"the graph has no node called {name!r}", hint=near(name, known, "its names and ops"))


COMMANDS = (
    Command(
        "optimize", "what the passes make of a graph, and why",
        (
            "kgraph optimize model.py:loss", "kgraph optimize model.py:loss --explain",
            "kgraph optimize step.safetensors --why softmax",
            "kgraph optimize model.py:loss --why-not logarithm --of log",
            "kgraph optimize model.py:predict --passes fold,simplify --test --out predict.safetensors",
        ),
        (
            TARGET, *PASSES, ENGINE._replace(options={"metavar": "NAME", "help": "put the graph in ops of this engine"}),
            argument("--explain", action="store_true", help="what each pass and each rule did"),
            argument("--why", metavar="TENSOR", action="append", default=[], help="what became of a tensor, step by step"),
            argument("--why-not", metavar="RULE", help="what keeps a rule from the tensor that --of names"),
            argument("--of", metavar="TENSOR", help="for --why-not"),
            argument("--out", metavar="FILE", help="save what is left"),
        ),
        _optimize,
    ),
)  # fmt: skip

"""Running the passes by hand, on any graph, for any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.arguments import as_graph
from kgraph.errors import ArgumentError
from kgraph.explain import Explanation, Run
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.passes import Passes, Record, chosen, run_pipeline
from kgraph.ir.traverse import toposort
from kgraph.ir.types import same_size
from kgraph.lower.engine import get_engine


def optimize(
    x: Any,
    passes: bool | Iterable[str] = True,
    *,
    exclude: Iterable[str] = (),
    finite: bool = False,
    training: bool | None = None,
    givens: Mapping[Any, Any] | None = None,
    engine: str | None = None,
) -> Graph:
    """The graph of a tensor, of a list of tensors, of a function, or a graph, after some passes and no others.

    Args:
      x: what to improve; it stays as it is.
      passes: True for all, or names of those that run: "fold", "simplify" ...
      exclude: names of rules that are left out.
      finite: whether rules run that hold for finite numbers alone.
      training: the learning phase; None leaves it open.
      givens: placeholder -> its value, or its shape (a tuple), if that is known before the program runs.
      engine: the name of the engine whose ops the graph is to be made of; None for any ops.
    Raises: GraphError for what is no graph, and for names that are none; ArgumentError for givens that do not fit.
    """
    _, plan, run = _pipeline(x, passes, exclude, finite, training, givens, engine)
    return run(plan, Record())


def explain(
    x: Any,
    passes: bool | Iterable[str] = True,
    *,
    exclude: Iterable[str] = (),
    finite: bool = False,
    training: bool | None = None,
    givens: Mapping[Any, Any] | None = None,
    engine: str | None = None,
) -> Explanation:
    """What `optimize` does with the same arguments, and why; print it."""
    graph, plan, run = _pipeline(x, passes, exclude, finite, training, givens, engine)
    return Explanation(graph, run, plan)


def _pipeline(
    x: Any,
    passes: bool | Iterable[str],
    exclude: Iterable[str],
    finite: bool,
    training: bool | None,
    givens: Mapping[Any, Any] | None,
    engine: str | None,
) -> tuple[Graph, Passes, Run]:
    """The graph as built, the passes asked for, and what runs some of them."""
    plan = chosen(passes, exclude, finite, always=())
    ops = None if engine is None else get_engine(engine).rules.keys()
    graph = as_graph(x)
    known = _known(graph, givens or {})
    phase = None if training is None else int(training)

    def run(some: Passes, record: Record) -> Graph:
        # What the engine has no rule for is expanded at the end.
        return run_pipeline(graph, phase, some, ops if some is plan else None, record, known)

    return graph, plan, run


def _known(graph: Graph, givens: Mapping[Any, Any]) -> dict[Node, Node]:
    """Placeholder -> a constant, or a placeholder of known sizes. Raises ArgumentError."""
    there = set(toposort((*graph.inputs, *graph.roots), stop=graph.inputs))
    found: dict[Node, Node] = {}
    for tensor, value in givens.items():
        if not isinstance(tensor, Operators) or tensor.node.op is not o.placeholder or tensor.node not in there:
            raise ArgumentError(f"{tensor!r:.60} is no placeholder of the graph")
        node = tensor.node
        sizes = value if isinstance(value, tuple) else np.shape(value)
        if len(sizes) != node.ndim or not all(map(same_size, sizes, node.type.shape)):
            raise ArgumentError(f"a value of shape {tuple(sizes)} does not fit {describe(node)}")
        if isinstance(value, tuple):
            shape = tuple([was if size is None else int(size) for size, was in zip(sizes, node.type.shape, strict=True)])
            found[node] = o.placeholder(type=node.type.with_shape(shape), uid=node.attr("uid"))
        else:
            found[node] = o.constant_of(np.asarray(value).astype(node.dtype))
    return found

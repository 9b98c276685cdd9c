"""The passes, in order. Each is Graph -> Graph, and records what it rewrites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from kgraph.errors import GraphError
from kgraph.ir.node import Graph
from kgraph.ir.op import Op
from kgraph.ir.passes.fold import fold
from kgraph.ir.passes.legalise import legalise
from kgraph.ir.passes.loops import loops
from kgraph.ir.passes.record import Record, Rewrite
from kgraph.ir.passes.sink import sink
from kgraph.ir.passes.specialise import specialise

Pass = Callable[[Graph, Record], Graph]

#: Name -> pass, in the order in which they run. specialise comes before them and legalise after: both need to be told
#: what for. loops takes away what is kept for gradients that nobody asked for, and sink decides which side of a branch runs, so
#: that they run whatever `optimize` says.
PIPELINE: dict[str, Pass] = {"fold": fold, "loops": loops, "sink": sink}
ALWAYS = ("loops", "sink")


def chosen(optimize: bool | Iterable[str]) -> tuple[str, ...]:
    """The names of the passes that ``optimize`` (True, False, or names) asks for, in the order in which they run.

    Raises: GraphError for a name that is none.
    """
    names = tuple(PIPELINE) if optimize is True else () if optimize is False else optimize
    if isinstance(names, str) or not isinstance(names, Iterable):
        hint = f"the passes are {', '.join(PIPELINE)}"
        raise GraphError(f"optimize is {optimize!r}, not True, False or a list of passes", hint=hint)
    wanted = set(names)
    if unknown := wanted - set(PIPELINE):
        raise GraphError(
            f"there is no pass {', '.join(sorted(map(repr, unknown)))}", hint=f"the passes are {', '.join(PIPELINE)}"
        )
    return tuple(name for name in PIPELINE if name in wanted or name in ALWAYS)


def run_pipeline(
    graph: Graph,
    phase: int,
    passes: Iterable[str] = tuple(PIPELINE),
    rules: Collection[Op] | None = None,
    record: Record | None = None,
) -> Graph:
    """The graph of one phase, improved, in ops that the engine has rules for.

    Args:
      phase: 0 test, 1 train.
      passes: names, as `chosen` gives them.
      rules: the ops that the engine has rules for; None for all.
      record: takes what is rewritten.
    """
    record = Record() if record is None else record
    graph = specialise(graph, record, phase)
    for name in passes:
        graph = PIPELINE[name](graph, record)
    return graph if rules is None else legalise(graph, record, rules)


__all__ = [
    "ALWAYS",
    "PIPELINE",
    "Pass",
    "Record",
    "Rewrite",
    "chosen",
    "fold",
    "legalise",
    "loops",
    "run_pipeline",
    "sink",
    "specialise",
]

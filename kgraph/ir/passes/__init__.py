"""The passes, in order. Each is Graph -> Graph, and records what it rewrites."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from kgraph.errors import GraphError
from kgraph.ir import rewrite as rewriting
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.passes.fold import fold
from kgraph.ir.passes.legalise import legalise
from kgraph.ir.passes.linear import linear
from kgraph.ir.passes.loops import loops
from kgraph.ir.passes.products import Whole, products
from kgraph.ir.passes.simplify import simplify
from kgraph.ir.passes.sink import sink
from kgraph.ir.passes.specialise import specialise
from kgraph.ir.passes.stabilise import stabilise
from kgraph.ir.record import Record, Rewrite
from kgraph.ir.rewrite import Rule, Rules, check_names, rewrite, without

Pass = Callable[[Graph, Record], Graph]

#: Name -> pass, in the order in which they run. Neighbours that are rules share one sweep. specialise comes before them and
#: legalise after: both need to be told what for. loops takes away what is kept for gradients that nobody asked for (products
#: then merges what is left), and sink decides which side of a branch runs, so that these two run whatever `optimize` says.
PIPELINE: dict[str, Pass] = {
    "fold": fold, "simplify": simplify, "stabilise": stabilise, "linear": linear, "loops": loops, "products": products,
    "sink": sink,
}  # fmt: skip
ALWAYS = ("loops", "sink")


class Passes(NamedTuple):
    """Which passes run, and which of their rules.

    Attributes:
      names: in the order in which they run.
      exclude: names of rules that do not.
      finite: whether rules run that hold for finite numbers alone.
      version: changes whenever a pass or a rule comes or goes, so that what was made before is not taken for what would be now.
    """

    names: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    finite: bool = False
    version: int = 0

    def rules(self) -> Iterator[Rule]:
        """The rules that run, in order."""
        for name in self.names:
            yield from without(_rules_of(PIPELINE[name]), self.exclude, self.finite)


def every_rule() -> list[Rule]:
    """All rules of all passes."""
    return [rule for each in PIPELINE.values() for rule in _rules_of(each)]


def _rules_of(each: Pass) -> list[Rule]:
    return each if isinstance(each, Rules) else each.rules if isinstance(each, Whole) else []


def chosen(
    optimize: bool | Iterable[str] = True, exclude: Iterable[str] = (), finite: bool = False, always: Iterable[str] = ALWAYS
) -> Passes:
    """What ``optimize`` (True, False, or names of passes) asks for.

    Args:
      always: passes that run whatever is asked for.
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
    left_out = check_names(exclude, every_rule())
    running = tuple(name for name in PIPELINE if name in wanted or name in always)
    return Passes(running, tuple(sorted(left_out)), bool(finite), rewriting.version())


def add_pass(name: str, added: Pass, after: str | None = None) -> None:
    """Adds a pass, or a set of rules, to those that every function made from now on runs.

    Args:
      name: for ``optimize=[...]`` and for records.
      added: ``(graph, record) -> graph``, or `Rules`.
      after: the pass that it runs after; None for the end.
    Raises: GraphError if there is a pass of the name, or none of the name ``after``.
    """
    if name in PIPELINE:
        raise GraphError(f"there is a pass {name!r} already", hint=f"remove_pass({name!r}) takes it away")
    if after is not None and after not in PIPELINE:
        raise GraphError(f"there is no pass {after!r}", hint=f"the passes are {', '.join(PIPELINE)}")
    before = dict(PIPELINE)
    PIPELINE.clear()
    for known, each in before.items():
        PIPELINE[known] = each
        if known == after:
            PIPELINE[name] = added
    PIPELINE.setdefault(name, added)
    rewriting.changed()


def remove_pass(name: str) -> None:
    """Takes a pass away. Raises GraphError if there is none of the name, or if no program can do without it."""
    if name in ALWAYS:
        raise GraphError(f"no program can do without the pass {name!r}")
    if PIPELINE.pop(name, None) is None:
        raise GraphError(f"there is no pass {name!r}", hint=f"the passes are {', '.join(PIPELINE)}")
    rewriting.changed()


def run_pipeline(
    graph: Graph,
    phase: int | None = None,
    passes: Passes | None = None,
    ops: Collection[Op] | None = None,
    record: Record | None = None,
    givens: Mapping[Node, Node] | None = None,
) -> Graph:
    """The graph of one phase, improved, in ops that the engine has rules for.

    Args:
      phase: 0 test, 1 train; None leaves it open.
      passes: those that run, as `chosen` gives them; None for all.
      ops: those that the engine has rules for; None for all.
      record: takes what is rewritten.
      givens: placeholder -> what it is known to be.
    """
    record = Record() if record is None else record
    passes = chosen() if passes is None else passes
    graph = specialise(graph, record, phase, givens or {})
    for together, of in itertools.groupby([PIPELINE[name] for name in passes.names], lambda each: isinstance(each, Rules)):
        if together:
            rules = [rule for rules in of if isinstance(rules, Rules) for rule in rules]
            graph = rewrite(graph, without(rules, passes.exclude, passes.finite), record)
            continue
        for each in of:
            graph = each(graph, record, passes.exclude) if isinstance(each, Whole) else each(graph, record)
    return graph if ops is None else legalise(graph, record, ops)


__all__ = [
    "ALWAYS",
    "PIPELINE",
    "Pass",
    "Passes",
    "Record",
    "Rewrite",
    "Rules",
    "add_pass",
    "chosen",
    "every_rule",
    "fold",
    "legalise",
    "linear",
    "loops",
    "products",
    "remove_pass",
    "run_pipeline",
    "simplify",
    "sink",
    "specialise",
    "stabilise",
]

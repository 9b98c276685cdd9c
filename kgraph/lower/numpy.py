"""The NumPy engine: its table is what the ops mean, its compiler writes straight-line Python over NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kgraph.ir.node import Graph, Node
from kgraph.ir.op import OPS
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.engine import Engine
from kgraph.lower.measured import Profiler

RULES = {op: op.numpy for op in OPS.values() if op.numpy is not None}


class NumpyEngine(Engine):
    """Needs nothing but NumPy."""

    on_host = True

    def facts(self) -> dict[str, Any]:
        from kgraph.lower.host import facts  # when it is asked for

        return facts()

    def lower(self, graph: Graph, options: Mapping[str, Any]) -> NumpyProgram:
        return NumpyProgram(graph)

    def profiler(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Profiler:
        from kgraph.lower.clock import NumpyProfiler  # when it is asked for

        return NumpyProfiler(graph)


ENGINE = NumpyEngine("numpy", RULES)

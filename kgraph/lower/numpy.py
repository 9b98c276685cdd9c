"""The NumPy engine: its table is what the ops mean, its compiler writes straight-line Python over NumPy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kgraph.ir.node import Graph
from kgraph.ir.op import OPS
from kgraph.lower.emit import NumpyProgram
from kgraph.lower.engine import Engine

RULES = {op: op.numpy for op in OPS.values() if op.numpy is not None}


class NumpyEngine(Engine):
    """Needs nothing but NumPy."""

    on_host = True

    def lower(self, graph: Graph, options: Mapping[str, Any]) -> NumpyProgram:
        return NumpyProgram(graph)

    def facts(self) -> dict[str, Any]:
        built: Any = np.show_config(mode="dicts")  # type: ignore[call-overload, unused-ignore]
        blas = built.get("Build Dependencies", {}).get("blas", {})
        found = " ".join(filter(None, [blas.get("name"), blas.get("version")]))
        return {"version": np.__version__, "devices": [f"cpu, {os.cpu_count()} cores"], "blas": found or "none"}


ENGINE = NumpyEngine("numpy", RULES)

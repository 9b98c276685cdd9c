"""A stateful engine: variables are in cells of its own. It notes each value that kgraph puts into a cell, or takes from one."""

from __future__ import annotations

from typing import Any

import numpy as np

from kgraph.ir.op import OPS
from kgraph.lower.engine import Engine, evaluator
from kgraph.lower.variable import value_for


class CellEngine(Engine):
    """Its cells are lists of one array, its rules are NumPy's, but for those that are left out."""

    stateful = True
    options = ("loud", "fast")

    def __init__(self, moves: list[str], without: tuple[str, ...] = ()):
        def put(array: Any, cell: Any) -> list[Any]:
            moves.append("put")
            cell = [None] if cell is None else cell
            cell[0] = array.copy()
            return cell

        def take(cell: list[Any]) -> Any:
            moves.append("taken")
            return cell[0].copy()

        rules = {op: op.numpy for name, op in OPS.items() if op.numpy is not None and name not in without}
        super().__init__("cells", rules, to_host=take, from_host=put)

    def bind(self, graph: Any, storages: Any, options: Any) -> Any:
        evaluate = evaluator(graph, self.rules)
        cells = [storages.get(node) for node in graph.inputs]  # None for what is fed
        written = [(storages[variable], variable.attr("uid"), value) for variable, value in graph.updates]
        dtypes, outputs = [root.dtype for root in graph.roots], len(graph.outputs)

        def program(*fed: Any) -> list[Any]:
            rest = iter(fed)
            values = [next(rest) if cell is None else cell[0] for cell in cells]
            results = [np.array(result, dtype) for result, dtype in zip(evaluate(*values), dtypes, strict=True)]
            for (_, variable, node), new in zip(written, results[outputs:], strict=True):
                value_for(variable, new, node)  # raises if it does not fit
            for (cell, _, _), new in zip(written, results[outputs:], strict=True):
                cell[0] = new
            return results[:outputs]

        return program

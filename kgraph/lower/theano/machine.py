"""What runs the operations of a program: Theano's C loop, or a loop in Python where that one cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from theano.link.vm import VMLinker

#: The C loop recurses from each operation to those that it needs, and would overrun its stack in a deeper program.
DEEPEST = 2000


class Linker(VMLinker):  # type: ignore[misc]
    """Theano's linker. What it makes has `handed_out`: the cells with what a caller gets, or a variable holds from then on.
    They have to be emptied before the next call, which would write into their arrays.

    Args:
      keep: the memory of intermediate values is kept from call to call.
      c_code: operations run in C where they can, else in Python.
    """

    def __init__(self, keep: bool, c_code: bool):
        super().__init__(allow_gc=not keep, use_cloop=True, c_thunks=c_code)

    def make_vm(
        self, nodes: Any, thunks: Any, inputs: Any, outputs: Any, storage_map: Any, spent: Any, computed: Any,
        compute_map: Any, updated: Any,
    ) -> Any:  # fmt: skip
        cells = [storage_map[variable] for variable in self.no_recycling]
        needs = self._needs(nodes)
        machine: Any = None
        if _depth(needs) <= DEEPEST:
            machine = super().make_vm(nodes, thunks, inputs, outputs, storage_map, spent, computed, compute_map, updated)
        if not hasattr(machine, "position_of_error"):  # not the C loop: it is too deep, or there is none (THEANO_FLAGS=cxx=)
            machine = Loop(nodes, thunks, needs, outputs, storage_map, compute_map, self.allow_gc)
        machine.handed_out = cells
        return machine

    def _needs(self, nodes: Sequence[Any]) -> list[list[int]]:
        """For each operation the numbers of those that run before it, if they run: a branch runs only one of its sides."""
        numbers = {node: i for i, node in enumerate(nodes)}
        after = self.fgraph.orderings()  # what reads a value runs before what works in its memory
        return [
            [numbers[v.owner] for v in node.inputs if v.owner is not None] + [numbers[other] for other in after.get(node, ())]
            for node in nodes
        ]


def _depth(needs: Sequence[Sequence[int]]) -> int:
    """The number of operations in the longest chain."""
    found: list[int] = []
    for numbers in needs:
        found.append(1 + max([found[i] for i in numbers], default=0))
    return max(found, default=0)


class Loop:
    """The operations one after the other, those of branches on demand.

    Args:
      needs: of each operation, the numbers of those before it.
      outputs: the cells of the results.
      spend: give up the memory of intermediate values after a call.
    """

    def __init__(
        self, nodes: Sequence[Any], thunks: Sequence[Any], needs: Sequence[Sequence[int]], outputs: Sequence[Any],
        storage_map: Any, compute_map: Any, spend: bool,
    ):  # fmt: skip
        self.nodes, self.thunks, self.position_of_error = nodes, thunks, -1
        self.allow_gc, self.need_update_inputs = spend, False
        self._needs, self._outputs = needs, outputs
        self._lazy = any(thunk.lazy for thunk in thunks)
        self._done = [[compute_map[variable] for variable in node.outputs] for node in nodes]
        results = {id(cell) for cell in outputs}
        own = [storage_map[variable] for node in nodes for variable in node.outputs] if spend else []
        self._spent = [cell for cell in own if id(cell) not in results]
        numbers = {node: i for i, node in enumerate(nodes)}
        self._operands = [[numbers.get(variable.owner) for variable in node.inputs] for node in nodes]
        cells = {id(storage_map[node.outputs[k]]): i for i, node in enumerate(nodes) for k in range(len(node.outputs))}
        self._wanted = [cells[id(cell)] for cell in outputs if id(cell) in cells]

    def __call__(self) -> list[Any]:
        if self._lazy:
            self._run_wanted()
        else:
            for self.position_of_error, thunk in enumerate(self.thunks):  # noqa: B020  # where it stands if one raises
                thunk()
        results = [cell[0] for cell in self._outputs]
        for cell in self._spent:
            cell[0] = None
        return results

    def _run_wanted(self) -> None:
        """Run what the results need. A lazy operation says which operands it wants, until it has run."""
        for cells in self._done:
            for cell in cells:
                cell[0] = False
        ran = [False] * len(self.thunks)
        stack = list(self._wanted)
        while stack:
            number = stack[-1]
            if ran[number]:
                stack.pop()
                continue
            thunk = self.thunks[number]
            self.position_of_error = number
            if thunk.lazy:
                waiting = [self._operands[number][i] for i in thunk()]
            else:
                waiting = [i for i in self._needs[number] if not ran[i]]
                if not waiting:
                    thunk()
            if waiting:
                stack += waiting
                continue
            ran[number] = True
            for cell in self._done[number]:
                cell[0] = True

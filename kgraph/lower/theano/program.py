"""Compiling a graph with Theano, and calling what comes out.

A variable is a shared variable of Theano; a program reads it when it is called, and never writes into its array: new values are
computed into memory of their own, and exchanged for the old ones when everything is there. So a call that fails half way has
changed nothing, whatever the order in which Theano's operations ran.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import CodeType, TracebackType
from typing import Any

import numpy as np
import theano
from theano.compile.function.types import orig_function
from theano.compile.io import In, Out
from theano.compile.mode import Mode

from kgraph.errors import EngineError
from kgraph.ir.node import Graph, Node
from kgraph.lower.theano.build import Builder, Path, variable_for
from kgraph.lower.theano.machine import Linker
from kgraph.lower.theano.rewrites import rewrites
from kgraph.lower.variable import value_for


class TheanoProgram:
    """The program of one function. It is made while no other thread compiles.

    Args:
      keep: the memory of intermediate values is kept from call to call.
      c_code: operations run in C where they can, else in Python.
      known: inputs whose sizes are computed from values.
      first: rewrites that Theano does before all others.

    Attributes:
      call: the values of placeholders and streams -> the outputs; writes the variables.
      function: Theano's.
      builder: knows which nodes Theano's operations compute.
    """

    def __init__(
        self, graph: Graph, storages: Mapping[Node, Any], keep: bool, c_code: bool, known: Iterable[Node] = (),
        first: Sequence[Any] = (),
    ):  # fmt: skip
        fed = [node for node in graph.inputs if node not in storages]
        given = {node: variable_for(node.type, f"input {i}") for i, node in enumerate(fed)}
        self._c_code, self._first = c_code, first
        # A body is called again and again, so that it keeps its memory.
        self.builder = Builder({**given, **storages}, lambda body, known: TheanoProgram(body, {}, True, c_code, known, first))
        self.function = self._compile(graph, storages, given, keep, c_code, known)
        self._updates = [(storages[v], v, value) for v, value in graph.updates]
        self._space = self._values(len(fed))
        self.call = self._caller(len(fed), len(graph.outputs))

    def _compile(
        self,
        graph: Graph,
        storages: Mapping[Node, Any],
        given: Mapping[Node, Any],
        keep: bool,
        c_code: bool,
        known: Iterable[Node],
    ) -> Any:
        builder = self.builder
        roots = builder.build(graph, known)
        inputs = [In(variable, borrow=True) for variable in given.values()]
        for storage in storages.values():
            inputs.append(In(storage, value=storage.container, borrow=False, mutable=False, shared=True, implicit=True))
        for constant, variable in builder.large.items():
            inputs.append(In(variable, value=constant.array, borrow=True, implicit=True))
        mode = Mode(Linker(keep, c_code), rewrites(builder.lazy, c_code, self._first))
        try:
            return orig_function(inputs, [Out(root, borrow=False) for root in roots], mode=mode, on_unused_input="ignore")
        except Exception as error:
            raise _explained(error) from error.__cause__

    def _values(self, fed: int) -> dict[str, Any]:
        """What the text of the call names."""
        machine = self.function.fn
        cells = [container.storage for container in self.function.input_storage][:fed]
        place = self.builder.place
        space: dict[str, Any] = {
            "lock": threading.Lock(),
            "run": machine if self._c_code else np.errstate(all="ignore")(machine),
            "unaligned": lambda: _unaligned(cells),
            "place": lambda: place(machine.nodes[machine.position_of_error]),
            "handed_out": machine.handed_out,
            "value_for": value_for,
        }
        space.update({f"c{i}": cell for i, cell in enumerate(cells)})
        for i, (storage, variable, value) in enumerate(self._updates):
            space[f"w{i}"], space[f"v{i}"], space[f"n{i}"] = storage.container.storage, variable.attr("uid"), value
        return space

    def _caller(self, fed: int, outputs: int) -> Callable[..., Any]:
        loose = tuple([i for i, (_, _, value) in enumerate(self._updates) if not value.type.is_static])
        exec(_call_code(fed, outputs, len(self._updates), loose), self._space)  # the text is made of numbers alone
        call = self._space.pop("call")
        self._code = call.__code__
        return call

    def unlock(self) -> None:
        """In a process that was forked: a thread that was in a call is not there to leave it."""
        self._space["lock"] = threading.Lock()
        for body in self.builder.bodies:
            body.unlock()

    def locate(self, trace: TracebackType | None) -> Path:
        """Where in the graph an exception arose. Empty if it arose elsewhere."""
        found: Path = ()
        code = self._code
        while trace is not None:
            frame = trace.tb_frame
            if frame.f_code is code or (found and frame.f_code.co_filename == code.co_filename):
                path: Path = frame.f_locals.get("path", ())
                if not path:
                    break
                # Within a loop, the programs of bodies are called by the loop.
                found = (*found, ("body", path[0][1]), *path[1:]) if found else path
            trace = trace.tb_next
        return found

    @property
    def source(self) -> str:
        """Theano's graph, as text."""
        text: str = theano.printing.debugprint(self.function, file="str")
        return text


@lru_cache(maxsize=1024)
def _call_code(fed: int, outputs: int, updates: int, loose: Sequence[int]) -> CodeType:
    lines = [
        f"def call({', '.join(f'a{i}' for i in range(fed))}):",
        "    with lock:",
        "        try:",
        *[f"            c{i}[0] = a{i}" for i in range(fed)],
        "            try:",
        "                results = run()",
        "            except Exception:",
        "                path = place()",
        "                if not unaligned(): raise",
        "                path = ()",
        "                results = run()",
        *[f"            value_for(v{i}, results[{outputs + i}], n{i})" for i in loose],
        # The commit: no statement makes a call, where a signal or another thread could come between.
        *[f"            w{i}[0] = results[{outputs + i}]" for i in range(updates)],
        f"            return results[:{outputs}]" if updates else "            return results",
        # Neither what was fed nor what is handed out stays in memory until the next call.
        "        finally:",
        *[f"            c{i}[0] = None" for i in range(fed)],
        "            for cell in handed_out: cell[0] = None",
    ]
    return compile("\n".join(lines), "<kgraph theano call>", "exec")


def _unaligned(cells: Sequence[Any]) -> bool:
    """Whether an argument lies where C code cannot read it; then it is copied."""
    found = [cell for cell in cells if not cell[0].flags.aligned]
    for cell in found:
        cell[0] = cell[0].copy()
    return bool(found)


def _explained(error: Exception) -> Exception:
    """A failure of the compiler in a line; anything else as it is."""
    said = next((text for text in error.args if isinstance(text, str) and text.startswith("Compilation failed")), None)
    if said is None:
        return error
    reason = said.partition(": ")[2].strip()
    return EngineError(
        f"Theano's compiler failed: {reason if len(reason) <= 300 else reason[:297] + '...'}",
        hint=f"Theano ran {theano.config.cxx} with the flags {theano.config.gcc__cxxflags!r:.60} and "
        f"{theano.config.blas__ldflags!r:.60}; THEANO_FLAGS=gcc__cxxflags=... and blas__ldflags=... set others",
    )

"""The engine: variables in Theano's shared variables, and the making of programs."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import theano
from theano.tensor.sharedvar import TensorSharedVariable

from kgraph.ir.node import Graph, Node
from kgraph.ir.traverse import toposort
from kgraph.lower.engine import Engine
from kgraph.lower.measured import Profiler
from kgraph.lower.theano.program import TheanoProgram
from kgraph.lower.theano.progress import reported
from kgraph.lower.theano.rules import RULES

#: In a graph of more nodes fewer operations work in place: to find all that can takes time with the square of their number.
_MANY = 1000

#: Theano's compiling is not safe for threads.
_compiling = threading.RLock()


class TheanoEngine(Engine):
    """Variables are shared variables; programs are Theano functions.

    Options:
      keep_memory: True keeps the memory of intermediate values from call to call, which is a few hundredths faster.
      c_code: False runs Theano's Python code in place of its C code: nothing is compiled, and calls take many times as long.
    """

    stateful = True
    options = ("keep_memory", "c_code")

    def __init__(self) -> None:
        super().__init__("theano", RULES, to_host=_to_host, from_host=_from_host)
        self._programs: weakref.WeakSet[TheanoProgram] = weakref.WeakSet()
        if hasattr(os, "register_at_fork"):
            # A process forked while a thread compiled would find Theano half way, and the lock taken for good.
            os.register_at_fork(before=_compiling.acquire, after_in_parent=_compiling.release, after_in_child=self._forked)

    def bind(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Any:
        return self._program(graph, storages, options)

    def profiler(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Profiler:
        from kgraph.lower.theano.profile import KeepMarks, TheanoProfiler  # when it is asked for

        return TheanoProfiler(self._program(graph, storages, options, [KeepMarks()]))

    def _program(
        self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any], first: Sequence[Any] = ()
    ) -> TheanoProgram:
        keep, c_code = bool(options.get("keep_memory", False)), bool(options.get("c_code", theano.config.cxx))
        nodes = len(toposort(graph.roots))
        with _compiling, reported(nodes), _settings(nodes):
            program = TheanoProgram(graph, storages, keep, c_code, first=first)
            self._programs.add(program)
        return program

    def facts(self) -> dict[str, Any]:
        config = theano.config
        blas = [flag for flag in config.blas__ldflags.split() if flag.startswith("-l")]
        return {
            "version": theano.__version__, "devices": [config.device], "compiler": config.cxx or "none: Python code runs",
            "blas": " ".join(blas) or "none: NumPy's products", "compiled": config.compiledir,
        }  # fmt: skip

    def _forked(self) -> None:
        for program in self._programs:
            program.unlock()
        _compiling.release()


@contextmanager
def _settings(nodes: int) -> Iterator[None]:
    """Theano's settings while it builds and compiles so many nodes. It recurses through them."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 50_000))
    try:
        flags = {"traceback__limit": 0, "traceback__compile_limit": 0, "compute_test_value": "off"}
        if nodes > _MANY:
            flags["cycle_detection"] = "fast"
        with theano.config.change_flags(**flags), np.errstate(all="ignore"):
            yield
    finally:
        sys.setrecursionlimit(limit)


def _from_host(array: Any, storage: Any) -> Any:
    value = np.array(array, order="C")
    if storage is None:
        kind = theano.tensor.TensorType(value.dtype.name, [size == 1 for size in value.shape])
        storage = TensorSharedVariable(name=None, type=kind, value=value, strict=False)
        storage.tag.shape = value.shape
    else:
        storage.container.storage[0] = value
    return storage


def _to_host(storage: Any) -> Any:
    return storage.container.storage[0].copy()


ENGINE = TheanoEngine()

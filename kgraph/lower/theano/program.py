"""Compiling a graph with Theano, and calling what comes out.

A variable is a shared variable of Theano; a program reads it when it is called, and never writes into its array: new values are
computed into memory of their own, and exchanged for the old ones when everything is there. So a call that fails half way has
changed nothing, whatever the order in which Theano's operations ran. The array that is exchanged becomes the memory for the
next new value, so that nothing is allocated from call to call.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, TracebackType
from typing import Any

import numpy as np
import theano
from theano.compile.function.types import alias_root, orig_function
from theano.compile.io import In, Out
from theano.compile.mode import Mode
from theano.graph.optdb import Query
from theano.link.vm import VMLinker

from kgraph.call import value_for
from kgraph.ir.node import Graph, Node
from kgraph.ir.traverse import toposort
from kgraph.lower.engine import Engine
from kgraph.lower.theano.build import Builder, Path, variable_for
from kgraph.lower.theano.host import pattern
from kgraph.lower.theano.rules import RULES
from kgraph.lower.theano.shims import prepare_headers

#: Theano's compiling is not safe for threads.
_compiling = threading.RLock()

#: Of Theano's own rewrites those that pay: BLAS, fusion, work in place. The graph has been improved before. Without the rest
#: `local_greedy_distributor` cannot run away, as it does on the gradient of a padding, and 0 * NaN stays NaN.
_NO_REWRITES = (
    "inline_ofg_expansion", "scan_eqopt1", "scan_eqopt2", "scanOp_save_mem", "scanOp_make_inplace", "ShapeOpt", "UnShapeOpt",
    "useless", "pre_local_IncSubtensor_serialize", "canonicalize", "stabilize", "specialize", "uncanonicalize",
    "specialize_device", "local_fill_to_alloc", "local_elemwise_alloc", "local_log_sum_exp", "AbstractConvCheck",
    "crossentropy_to_crossentropy_with_softmax", "random_make_inplace", "local_greedy_distributor",
)  # fmt: skip

#: Theano's C loop over the operations recurses from each to its operands; in a deeper graph a Python loop runs them.
_DEEPEST = 2000


class _Linker(VMLinker):  # type: ignore[misc]
    """Theano's linker, but that the memory of new values of variables is left where the next call finds it.

    Args:
      outputs: how many of the roots are outputs; the rest are new values.

    Its machine has `memories`: for each new value the cell in which Theano looks for memory before it allocates, or None.
    """

    def __init__(self, outputs: int, **options: Any):
        super().__init__(**options)
        self.outputs = outputs

    def make_vm(self, nodes: Any, thunks: Any, input_storage: Any, output_storage: Any, storage_map: Any, *rest: Any) -> Any:
        # No other result lies in this memory: Theano copies what would.
        sources = [alias_root(value) for value in self.fgraph.outputs[self.outputs :]]
        self.no_recycling = [variable for variable in self.no_recycling if variable not in sources]
        machine = super().make_vm(nodes, thunks, input_storage, output_storage, storage_map, *rest)
        machine.memories = [storage_map[source] if source.owner is not None else None for source in sources]
        return machine


def _mode(outputs: int, lazy: bool, deep: bool, keep: bool) -> Any:
    # In place of a value that both sides of a branch read, one side would have to wait for the other one to run.
    exclude = [*_NO_REWRITES, *(["inplace"] if lazy else [])]
    return Mode(_Linker(outputs, allow_gc=not keep, use_cloop=not deep), Query(include=["fast_run"], exclude=exclude))


class TheanoProgram:
    """The program of one function.

    Attributes:
      call: the values of placeholders and streams -> the outputs; writes the variables.
      function: Theano's.
    """

    def __init__(self, graph: Graph, storages: Mapping[Node, Any], keep: bool):
        fed = [node for node in graph.inputs if node not in storages]
        given = {node: variable_for(node.type, f"input {i}") for i, node in enumerate(fed)}
        builder = Builder({**given, **storages})
        with _compiling, _reporting(graph), _settings():
            prepare_headers(theano)
            self.function = self._compile(graph, storages, given, builder, keep)
        self._builder = builder
        self._updates = [(storages[v], v, value) for v, value in graph.updates]
        self.call = self._caller(len(fed), len(graph.outputs))

    def _compile(
        self, graph: Graph, storages: Mapping[Node, Any], given: Mapping[Node, Any], builder: Builder, keep: bool
    ) -> Any:
        roots = builder.build(graph)
        inputs = [In(variable, borrow=True) for variable in given.values()]
        for storage in storages.values():
            inputs.append(In(storage, value=storage.container, borrow=False, mutable=False, shared=True, implicit=True))
        for constant, variable in builder.large.items():
            inputs.append(In(variable, value=constant.array, borrow=True, implicit=True))
        mode = _mode(len(graph.outputs), builder.lazy, depth(roots) > _DEEPEST, keep)
        return orig_function(inputs, [Out(root, borrow=False) for root in roots], mode=mode, on_unused_input="ignore")

    def _caller(self, fed: int, outputs: int) -> Callable[..., Any]:
        function = self.function
        machine = function.fn
        cells = [container.storage for container in function.input_storage]
        space: dict[str, Any] = {
            "lock": threading.Lock(),
            "run": self._runner(),
            "unaligned": _unaligned,
            "value_for": value_for,
        }
        space.update({f"c{i}": cell for i, cell in enumerate(cells[:fed])})
        loose, spared = [], []
        for i, (storage, variable, value) in enumerate(self._updates):
            space[f"w{i}"] = storage.container.storage
            if not value.type.is_static:
                loose.append(i)
                space[f"v{i}"], space[f"n{i}"] = variable.attr("uid"), value
            if machine.memories[i] is not None:
                spared.append(i)
                space[f"m{i}"] = machine.memories[i]
        builder = self._builder
        space["place"] = lambda: builder.place(machine.nodes[machine.position_of_error])
        space["cells"] = cells[:fed]
        code = _call_code(fed, outputs, len(self._updates), tuple(loose), tuple(spared))
        exec(code, space)  # the text is made of numbers alone
        call = space.pop("call")
        self.code = call.__code__
        return call  # type: ignore[no-any-return]

    def _runner(self) -> Callable[[], Any]:
        """What runs the operations and returns the values of the roots."""
        function = self.function
        machine = function.fn
        if machine.__class__.__name__ == "CVM":
            return machine  # type: ignore[no-any-return]
        cells = [container.storage for container in function.output_storage]

        def run() -> list[Any]:
            machine()
            return [cell[0] for cell in cells]

        return run

    def locate(self, trace: TracebackType | None) -> Path:
        """Where in the graph an exception arose. Empty if it arose elsewhere."""
        while trace is not None:
            if trace.tb_frame.f_code is self.code:
                found: Path = trace.tb_frame.f_locals.get("path", ())
                return found
            trace = trace.tb_next
        return ()

    @property
    def source(self) -> str:
        """Theano's graph, as text."""
        text: str = theano.printing.debugprint(self.function, file="str")
        return text


@lru_cache(maxsize=1024)
def _call_code(fed: int, outputs: int, updates: int, loose: Sequence[int], spared: Sequence[int]) -> CodeType:
    values = [f"v{i}" for i in range(fed)]
    lines = [f"def call({', '.join(f'a{i}' for i in range(fed))}):", "    with lock:"]
    lines += [f"        c{i}[0] = a{i}" for i in range(fed)]
    lines += [
        "        try:",
        "            results = run()",
        "        except Exception:",
        "            path = place()",
        "            if not unaligned(cells): raise",
        "            results = run()",
    ]
    for i in loose:
        lines.append(f"        value_for(v{i}, results[{outputs + i}], n{i})")
    for i in range(updates):
        if i in spared:
            lines.append(f"        m{i}[0] = w{i}[0]")
        lines.append(f"        w{i}[0] = results[{outputs + i}]")
    if values:
        lines.append(f"        {' = '.join(f'c{i}[0]' for i in range(fed))} = None")
    lines.append(f"        return results[:{outputs}]" if updates else "        return results")
    return compile("\n".join(lines), "<kgraph theano call>", "exec")


def _unaligned(cells: Sequence[Any]) -> bool:
    """Whether an argument lies where C code cannot read it; then it is copied."""
    found = [cell for cell in cells if not cell[0].flags.aligned]
    for cell in found:
        cell[0] = cell[0].copy()
    return bool(found)


def depth(roots: Sequence[Any]) -> int:
    """The number of operations in the longest chain."""
    found: dict[Any, int] = {}
    stack = list(roots)
    while stack:
        variable = stack[-1]
        owner = variable.owner
        if owner is None or owner in found:
            stack.pop()
            continue
        waiting = [i for i in owner.inputs if i.owner is not None and i.owner not in found]
        if waiting:
            stack += waiting
            continue
        found[owner] = 1 + max([found[i.owner] for i in owner.inputs if i.owner is not None], default=0)
        stack.pop()
    return max(found.values(), default=0)


@contextmanager
def _settings() -> Iterator[None]:
    """Theano's settings while it builds and compiles."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 50_000))
    try:
        with theano.config.change_flags(traceback__limit=0, traceback__compile_limit=0, compute_test_value="off"):
            yield
    finally:
        sys.setrecursionlimit(limit)


@contextmanager
def _reporting(graph: Graph) -> Iterator[None]:
    """On a terminal, a line that says what takes so long: from the second second on."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_report, args=(done, len(toposort(graph.roots))), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _report(done: threading.Event, nodes: int) -> None:
    start = time.monotonic()
    shown = False
    while not done.wait(1.0):
        shown = True
        seconds = time.monotonic() - start
        folder = theano.config.compiledir
        sys.stderr.write(f"\r\x1b[Kkgraph: Theano compiles {nodes} nodes, {seconds:.0f} s (what it compiles stays in {folder})")
        sys.stderr.flush()
    if shown:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


# ---------------------------------------------------------------------------------------------------- the engine


class TheanoEngine(Engine):
    """Variables are shared variables; programs are Theano functions.

    Options:
      keep_memory: False gives the memory of values back in every call. It is kept otherwise, which is faster.
    """

    stateful = True
    options = ("keep_memory",)

    def bind(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Any:
        return TheanoProgram(graph, storages, bool(options.get("keep_memory", True)))


def _from_host(array: Any, storage: Any) -> Any:
    # Never the array itself: a call writes new values over the memory of old ones.
    value = np.array(array, order="C")
    if storage is None:
        kind = theano.tensor.TensorType(value.dtype.name, [size == 1 for size in value.shape])
        storage = (
            theano.compile.sharedvalue.SharedVariable
            if False
            else theano.tensor.sharedvar.TensorSharedVariable(name=None, type=kind, value=value, strict=False)
        )
        storage.tag.shape = value.shape
    else:
        storage.container.storage[0] = value
    return storage


ENGINE = TheanoEngine(
    "theano",
    RULES,
    to_host=lambda storage: storage.container.storage[0].copy() if hasattr(storage, "container") else storage,
    from_host=_from_host,
)

assert pattern is not None

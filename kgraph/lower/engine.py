"""The contract of an engine: a table of rules, and how a graph of ruled ops becomes a program.

There are two sorts of engine. A functional one (NumPy, JAX) makes a pure function of a graph: it takes the values of the
graph's inputs, variables among them, and returns the outputs and the new values of the variables. A stateful one
(TensorFlow, Theano, PyTensor) keeps variables in storage of its own and updates them itself.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kgraph.errors import EngineError
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.passes.legalise import missing_rule
from kgraph.ir.traverse import toposort
from kgraph.ir.types import numpy_dtype
from kgraph.lower.measured import Profiler

_numbers = itertools.count()

Rules = Mapping[Op, Callable[..., Any]]
Program = Callable[..., Sequence[Any]]


class Engine:
    """A lowering target.

    Args:
      name: what `K.function(engine=...)` and the configuration call it.
      rules: op -> ``(*values, **attrs) -> value``. An op without a rule is expanded before. Rules of ops with bodies get them
        as functions, which have the types of their results as ``types``.
      compile: what to make of the Python function that evaluates a whole graph by the rules (``jax.jit``), whose values nobody
        writes to; None leaves the function, and copies its results.
      to_host: storage or result -> NumPy array.
      from_host: ``(array, storage or None) -> storage`` with the value of the array: new storage, or the same written over.

    Subclasses override `lower` to do more than evaluate; a stateful one sets `stateful` and overrides `bind` instead.

    Attributes:
      stateful: keeps variables in storage of its own, and updates them itself.
      on_host: functional, and its values are NumPy arrays: variables need no storage of its own.
      generation: of the storage and the programs. When it changes, functions bind anew before their next call; storage of an
        old generation has to be given up with `Variable.move` before.
      options: the names of the options that `lower` or `bind` understands.
    """

    stateful = False
    on_host = False
    generation = 0
    options: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        rules: Rules,
        *,
        compile: Callable[[Program], Program] | None = None,
        to_host: Callable[[Any], Any] = np.asarray,
        from_host: Callable[[Any, Any], Any] = lambda array, storage: array,
    ):
        self.name, self.rules, self.to_host, self.from_host = name, rules, to_host, from_host
        self._compile = compile
        self.number = next(_numbers)  # tells engines of one name apart

    def lower(self, graph: Graph, options: Mapping[str, Any]) -> Program:
        """The program of a graph. Later functions of the same structure use it too: it holds on to no node or variable.

        Args:
          graph: inputs in the order of the program's arguments: placeholders, streams (int64[2]), variables, large constants.
        Returns: a function of the inputs' values that returns the values of `graph.roots`: outputs, then new values.
        """
        evaluate = evaluator(graph, self.rules)
        if self._compile is not None:
            return self._compile(evaluate)
        return _owned(evaluate, [numpy_dtype(root.dtype) for root in graph.roots])

    def bind(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Program:
        """For a stateful engine: the program of one function, for the engine's present generation.

        Args:
          graph: with the function's own variables. Its inputs are placeholders, streams (int64[2]) and variables, in this
            order; its updates are pairs of a variable and its new value.
          storages: variable -> the engine's storage of it, as `from_host` made it.
        Returns: a function of the values of the placeholders and streams that returns the outputs, as NumPy arrays that
          are the caller's own, and writes the storages: every write after every read, every new value and every check. When
          it raises, no storage has changed. It may be an object that has the function as its ``call``; ``generation``, if the
          engine has several; and ``explain``: error of the call -> (an error of Python's or ours, the path to its node).
        """
        raise NotImplementedError(f"the engine {self.name} is not stateful")

    def profiler(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Profiler:
        """For `fn.profile`: the program of a graph that can be measured, node by node. Raises EngineError where there is none.

        Args: as of `lower` and `bind`. The graph has no updates: new values of variables are outputs.
        """
        hint = "a function made with engine='numpy' can be measured, which says what it costs there"
        raise EngineError(f"the engine {self.name} does not measure its programs", hint=hint).at("profile")

    def session(self) -> Any:
        """The session that programs run in. Raises EngineError where there is no such thing."""
        raise EngineError(f"the engine is {self.name}, which has no session; tensorflow has one")

    def set_session(self, session: Any) -> None:
        """Run programs in this session from now on. Raises EngineError where there is no such thing."""
        self.session()

    def facts(self) -> dict[str, Any]:
        """What its user may want to know: ``version`` and ``devices`` (a list of texts), and more by other names."""
        return {}

    def clear(self) -> None:
        """Let go of what belongs to no function or variable alive."""

    def __repr__(self) -> str:
        return f"<engine {self.name}>"


def evaluator(graph: Graph, rules: Rules) -> Program:
    """The function that computes a graph's roots by the rules, op after op: the definition of what a graph means."""
    rows, results = _rows(graph, rules)

    def evaluate(*values: Any) -> tuple[Any, ...]:
        found = list(values)
        for rule, operands, attrs in rows:
            found.append(rule(*[found[i] for i in operands], **attrs))
        return tuple([found[i] for i in results])

    evaluate.types = [root.type for root in graph.roots]  # type: ignore[attr-defined]
    return evaluate


def _rows(graph: Graph, rules: Rules) -> tuple[list[tuple[Callable[..., Any], list[int], dict[str, Any]]], list[int]]:
    """A graph without its nodes: per node the rule, the numbers of its operands (inputs come first) and the attrs, bodies as
    functions; and the numbers of the roots."""
    slots = {node: i for i, node in enumerate(graph.inputs)}
    rows = []
    for node in toposort(graph.roots, stop=graph.inputs):
        if node not in slots:
            rule = rules.get(node.op)
            if rule is None:
                raise missing_rule(node)
            bodies = {name: evaluator(node.attr(name), rules) for name in node.op.bodies}
            rows.append((rule, [slots[i] for i in node.inputs], {**dict(node.attrs), **bodies}))
            slots[node] = len(slots)
    return rows, [slots[root] for root in graph.roots]


def _owned(program: Program, dtypes: Sequence[np.dtype[Any]]) -> Program:
    """A program whose results share no memory with its arguments or with one another, in the dtypes of the graph."""

    def call(*values: Any) -> list[Any]:
        return [np.array(result, dtype) for result, dtype in zip(program(*values), dtypes, strict=True)]

    return call


#: Name -> module with an ``ENGINE``. An engine is imported when it is first asked for.
_MODULES = {"numpy": "kgraph.lower.numpy", "theano": "kgraph.lower.theano", "tensorflow": "kgraph.lower.tensorflow"}
_registered: dict[str, Engine] = {}


def register(engine: Engine) -> Engine:
    """Make an engine known under its name. Raises EngineError if another one has it."""
    if engine.name in _MODULES or engine.name in _registered:
        raise EngineError(f"there is an engine {engine.name!r} already")
    _registered[engine.name] = engine
    return engine


def unregister(name: str) -> None:
    """Forget an engine that `register` made known."""
    del _registered[name]


def engines_with(op: Op) -> list[str]:
    """The names of the engines loaded by now that have a rule for an op."""
    return [engine.name for engine in engines_loaded() if op in engine.rules]


def engines_loaded() -> list[Engine]:
    """The engines that have been asked for by now."""
    modules: list[Any] = [sys.modules.get(module) for module in _MODULES.values()]
    return [module.ENGINE for module in modules if hasattr(module, "ENGINE")] + list(_registered.values())


def engine_names() -> list[str]:
    """The names that `get_engine` takes."""
    return [*_MODULES, *_registered]


def get_engine(name: str | Engine) -> Engine:
    """The engine of a name. Raises EngineError for one that is not known."""
    if isinstance(name, Engine):
        return name
    found = _registered.get(name)
    if found is None:
        module = _MODULES.get(name)
        if module is None:
            raise EngineError(f"there is no engine {name!r}", hint=f"the engines are {', '.join(engine_names())}")
        try:
            found = importlib.import_module(module).ENGINE
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("kgraph"):
                raise
            hint = f"python -m pip install 'kgraph[{name}]'"
            raise EngineError(f"the engine {name} needs the package {error.name}, which is not installed", hint=hint) from None
    return found

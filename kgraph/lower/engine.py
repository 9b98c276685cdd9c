"""The contract of an engine: a table of rules, and how a graph of ruled ops becomes a program.

There are two sorts of engine. A functional one (NumPy, JAX) makes a pure function of a graph: it takes the values of the
graph's inputs, variables among them, and returns the outputs and the new values of the variables. A stateful one
(TensorFlow, Theano, PyTensor) keeps variables in storage of its own and updates them itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kgraph.errors import EngineError
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.passes.legalise import missing_rule
from kgraph.ir.traverse import toposort

Rules = Mapping[Op, Callable[..., Any]]
Program = Callable[..., Sequence[Any]]


class Engine:
    """A lowering target.

    Args:
      name: what `K.function(engine=...)` and the configuration call it.
      rules: op -> ``(*values, **attrs) -> value``. An op without a rule is expanded before. Rules of ops with bodies get them
        as functions.
      compile: what to make of the Python function that evaluates a whole graph by the rules (``jax.jit``); None leaves it.
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

    def lower(self, graph: Graph, options: Mapping[str, Any]) -> Program:
        """The program of a graph. Later functions of the same structure use it too: it holds on to no node or variable.

        Args:
          graph: inputs in the order of the program's arguments: placeholders, streams (int64[2]), variables, large constants.
        Returns: a function of the inputs' values that returns the values of `graph.roots`: outputs, then new values.
        """
        evaluate = evaluator(graph, self.rules)
        return evaluate if self._compile is None else self._compile(evaluate)

    def bind(self, graph: Graph, storages: Mapping[Node, Any], options: Mapping[str, Any]) -> Program:
        """For a stateful engine: the program of one function, for the engine's present generation.

        Args:
          graph: with the function's own variables. Its inputs are placeholders, streams (int64[2]) and variables, in this
            order; its updates are pairs of a variable and its new value.
          storages: variable -> the engine's storage of it, as `from_host` made it.
        Returns: a function of the values of the placeholders and streams that returns the outputs, as NumPy arrays that
          are the caller's own, and writes the storages: every write after every read, every new value and every check. When
          it raises, no storage has changed.
        """
        raise NotImplementedError(f"the engine {self.name} is not stateful")

    def __repr__(self) -> str:
        return f"<engine {self.name}>"


def evaluator(graph: Graph, rules: Rules) -> Program:
    """The function that computes a graph's roots by the rules, op after op: the definition of what a graph means."""
    order = toposort(graph.roots, stop=graph.inputs)

    def evaluate(*values: Any) -> tuple[Any, ...]:
        env: dict[Node, Any] = dict(zip(graph.inputs, values, strict=True))
        for node in order:
            if node not in env:
                rule = rules.get(node.op)
                if rule is None:
                    raise missing_rule(node)
                env[node] = rule(*[env[i] for i in node.inputs], **_static(node, rules))
        return tuple([env[root] for root in graph.roots])

    return evaluate


def _static(node: Node, rules: Rules) -> dict[str, Any]:
    """The attrs of a node, its bodies as functions."""
    return {name: evaluator(value, rules) if name in node.op.bodies else value for name, value in node.attrs}


#: Name -> module with an ``ENGINE``. An engine is imported when it is first asked for.
_MODULES = {"numpy": "kgraph.lower.numpy"}
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

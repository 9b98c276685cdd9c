"""The engine itself: its generations, and the way of variables from one to the next."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kgraph.errors import EngineError
from kgraph.ir.node import Graph, Node
from kgraph.lower.engine import Engine
from kgraph.lower.tensorflow.program import Program
from kgraph.lower.tensorflow.rules import RULES
from kgraph.lower.tensorflow.session import Home, Storage
from kgraph.lower.variable import Variable


class TensorFlowEngine(Engine):
    """One graph and one session for each generation.

    A graph of TensorFlow only grows. So when most of its ops belong to functions that are gone, a new generation begins:
    another graph and session; variables move there, functions at their next call. In a user's own session ops accumulate.

    Locks are taken in this order: the lock of a function, those of variables, the engine's own.
    """

    stateful = True
    options = ("xla",)

    def __init__(self) -> None:
        super().__init__("tensorflow", RULES, to_host=Storage.get, from_host=self._from_host)
        self._lock = threading.RLock()  # building ops is for one thread at a time
        self._home: Home | None = None
        self._variables: weakref.WeakSet[Variable] = weakref.WeakSet()
        self._forked = False
        os.register_at_fork(after_in_child=self._note_fork)

    # ------------------------------------------------------------------------------------------------ sessions

    def session(self) -> Any:
        """The session in which functions run now: the one that was set, or one of the engine's own."""
        return self._here().session

    def set_session(self, session: Any) -> None:
        """Run in a session of the user's from now on. Raises EngineError for what is none."""
        if not isinstance(session, tf.compat.v1.Session | tf.compat.v1.InteractiveSession):
            raise EngineError(f"{session!r:.60} is no session of TensorFlow", hint="tf.compat.v1.Session() is one").at(
                "set_session"
            )
        if self._home is None or self._home.session is not session:
            self._begin(session)

    def clear(self) -> None:
        """Go on in a new session of the engine's own."""
        if self._home is not None:
            self._begin()

    def _here(self) -> Home:
        with self._lock:
            self._check_fork()
            if self._home is None:
                self._home = Home(self.generation)
            return self._home

    def _begin(self, session: Any = None) -> None:
        """A new generation. Whoever holds the lock of a variable still finds it in the old one, and after that in the new one."""
        with self._lock:
            self._check_fork()
            number = self.generation + 1
            self._home = home = Home(number, session)
            self.generation = number
            variables = list(self._variables)
        for variable in variables:
            copy = variable.copy_in(self)
            with variable.lock:
                if copy.storage is not None and copy.storage.home is not home and not copy.storage.home.session._closed:
                    variable.move(copy)

    def _note_fork(self) -> None:
        if self._home is not None:
            self._forked = True
            self.generation += 1  # every function asks for a new program before its next call

    def _check_fork(self) -> None:
        if self._forked:
            raise EngineError(
                "TensorFlow does not work in a process that was forked from one in which it was in use",
                hint="start processes with multiprocessing's 'spawn' or 'forkserver', or fork before the first call on tensorflow",
            )

    # ------------------------------------------------------------------------------------------------ variables

    def _from_host(self, array: np.ndarray[Any, Any], storage: Storage | None) -> Storage:
        with self._lock:
            self._check_fork()
            if storage is None:
                return Storage(self._here(), array)
            if not storage.placed:
                storage.pending = array
                return storage
        storage.set(array)
        return storage

    def _in(self, home: Home, variable: Variable, storage: Storage) -> Storage:
        """The storage of a variable in a generation."""
        if storage.home is home:
            return storage
        copy = variable.copy_in(self)
        with variable.lock:
            if copy.storage is None or copy.storage.home is not home:
                variable.move(copy)
                variable.refresh(copy)
            return copy.storage  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------------------ programs

    def bind(self, graph: Graph, storages: Mapping[Node, Storage], options: Mapping[str, Any]) -> Program:  # type: ignore[override]
        if self._here().crowded:
            self._begin()
        while True:
            home = self._here()
            found = {node: self._in(home, node.attr("uid"), storage) for node, storage in storages.items()}
            with self._lock:
                if home is self._home and all(storage.home is home for storage in found.values()):
                    self._variables.update([node.attr("uid") for node in found])
                    home.sweep()
                    return Program(home, graph, found, bool(options.get("xla")))


ENGINE = TensorFlowEngine()

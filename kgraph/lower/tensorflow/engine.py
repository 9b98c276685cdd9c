"""The engine itself: its generations, and the way of variables from one to the next."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kgraph.errors import EngineError
from kgraph.ir.node import Graph, Node
from kgraph.lower.engine import Engine
from kgraph.lower.measured import Profiler
from kgraph.lower.tensorflow.program import Program, kinds_of
from kgraph.lower.tensorflow.rules import RULES
from kgraph.lower.tensorflow.session import Home, Storage
from kgraph.lower.variable import Variable

#: A variable, a value that it had, and of which version.
Saved = tuple[Variable, np.ndarray[Any, Any], int]


class TensorFlowEngine(Engine):
    """One graph and one session for each generation.

    A graph of TensorFlow only grows. So when most of its ops belong to functions that are gone, a new generation begins:
    another graph and session; variables move there, functions at their next call. In a user's own session ops accumulate,
    and in one of ours that the user has built something in.

    Locks are taken in this order: the lock of a function, those of variables, the engine's own.
    """

    stateful = True
    options = ("xla",)

    def __init__(self) -> None:
        super().__init__("tensorflow", RULES, to_host=Storage.get, from_host=self._from_host)
        self._lock = threading.RLock()  # building ops is for one thread at a time
        self._home: Home | None = None
        self._variables: weakref.WeakSet[Variable] = weakref.WeakSet()
        self._known: set[Any] = set()  # kinds of nodes that TensorFlow has taken
        os.register_at_fork(after_in_child=self._note_fork)

    # ------------------------------------------------------------------------------------------------ sessions

    def session(self) -> Any:
        """The session in which functions run now: the one that was set, or one of the engine's own."""
        return self._here().session

    def set_session(self, session: Any) -> None:
        """Run in a session of the user's from now on. Raises EngineError for what is none, or can take no more ops."""
        if not isinstance(session, tf.compat.v1.Session | tf.compat.v1.InteractiveSession):
            hint = "tf.compat.v1.Session() is one"
            raise EngineError(f"{session!r:.60} is no session of TensorFlow", hint=hint).at("set_session")
        if session._closed or session.graph.finalized:
            what = "the session is closed" if session._closed else "the graph of the session is finalized"
            raise EngineError(f"{what}, and functions have to be built into its graph").at("set_session")
        if self._home is None or self._home.session is not session:
            self._begin(session)

    def facts(self) -> dict[str, Any]:
        devices = []
        for device in tf.config.list_physical_devices():
            known = tf.config.experimental.get_device_details(device)
            devices.append(" ".join(filter(None, [device.device_type.lower(), known.get("device_name", "")])))
        return {"version": tf.__version__, "devices": devices, "cuda": bool(tf.test.is_built_with_cuda())}

    def clear(self) -> None:
        """Go on in a new session of the engine's own."""
        if self._home is not None:
            self._begin()

    def _here(self) -> Home:
        with self._lock:
            if self._home is None:
                self._home = Home(self.generation)
            self._home.check_process()
            return self._home

    def _begin(self, session: Any = None) -> None:
        """A new generation. Who holds the lock of a variable still finds it in the old one, and after that in the new one."""
        with self._lock:
            if self._home is not None:
                self._home.check_process()
            number = self.generation + 1
            idle = [] if self._home is None else list(self._home.programs)
            self._home = Home(number, session)
            self.generation = number
            variables = list(self._variables)
        self._save(self._read(variables))
        for variable in variables:
            copy = variable.copy_in(self)
            with variable.lock, contextlib.suppress(EngineError):
                if copy.storage is not None and copy.storage.home is not self._home:  # that of yet another thread, perhaps
                    variable.move(copy)
        for program in idle:  # a function that is never called again would keep the old session alive
            program.forget()

    def _read(self, variables: Iterable[Variable]) -> list[Saved]:
        """The values that only this engine has, those of a session by one program."""
        waiting: dict[Home, list[tuple[Variable, Storage, int]]] = {}
        for variable in variables:
            copy = variable.copy_in(self)
            with variable.lock:  # a call that writes it is over
                if variable.host is None and variable.newest is copy and copy.storage.pending is None:
                    waiting.setdefault(copy.storage.home, []).append((variable, copy.storage, variable.version))
        found: list[Saved] = []
        for home, rows in waiting.items():
            if home.open and not home.broken:
                with contextlib.suppress(EngineError):  # a value that is lost is missed by whoever asks for it
                    values = home.read([storage for _, storage, _ in rows])
                    found += [(variable, value, version) for (variable, _, version), value in zip(rows, values, strict=True)]
        return found

    @staticmethod
    def _save(found: Iterable[Saved]) -> None:
        for variable, value, version in found:
            variable.found(value, version)

    def _note_fork(self) -> None:
        self._lock = threading.RLock()  # a thread that is not here may have held it
        if self._home is not None:
            self.generation += 1  # every function asks for a new program before its next call, and gets an error

    # ------------------------------------------------------------------------------------------------ variables

    def _from_host(self, array: np.ndarray[Any, Any], storage: Storage | None) -> Storage:
        with self._lock:
            home = self._here()
            if storage is None or not storage.home.open:
                return Storage(home, array)
            if storage.pending is not None:
                storage.pending = array
                return storage
        storage.set(array)
        return storage

    def _now(self, variable: Variable) -> Storage:
        """The storage of a variable in the present generation. Out of that it is never moved: programs write to it."""
        copy = variable.copy_in(self)
        with variable.lock:
            if copy.storage is None or copy.storage.home is not self._home:
                variable.move(copy)
                variable.refresh(copy)
            return copy.storage

    # ------------------------------------------------------------------------------------------------ programs

    def bind(self, graph: Graph, storages: Mapping[Node, Storage], options: Mapping[str, Any]) -> Program:  # type: ignore[override]
        if self._here().crowded:
            self._begin()
        kinds = kinds_of(graph)
        # A session that refuses one op takes no other, and so gives nothing more out: what only it has is read before.
        saved = [] if kinds <= self._known else self._read(list(self._variables))
        try:
            program = self._program(graph, storages, bool(options.get("xla")))
        except EngineError:
            if self._here().broken:
                self._save(saved)
                self._begin(None if self._here().owned else self.session())
            raise
        except KeyboardInterrupt:
            self._here().mend()
            raise
        self._known |= kinds
        return program

    def profiler(self, graph: Graph, storages: Mapping[Node, Storage], options: Mapping[str, Any]) -> Profiler:
        from kgraph.lower.tensorflow.profile import TensorFlowProfiler  # when it is asked for

        return TensorFlowProfiler(self.bind(graph, storages, options))

    def _program(self, graph: Graph, storages: Mapping[Node, Storage], xla: bool) -> Program:
        while True:
            home = self._here()
            found = {node: self._now(node.attr("uid")) for node in storages}
            with self._lock:
                if home is self._home and all(storage.home is home for storage in found.values()):
                    self._variables.update([node.attr("uid") for node in found])
                    home.sweep()
                    program = Program(home, graph, found, xla)
                    home.programs.add(program)
                    return program


ENGINE = TensorFlowEngine()

"""Generations: a graph and a session each, the storage of variables in them, and what in them is dead."""

from __future__ import annotations

import itertools
import os
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework.ops import dismantle_graph

from kgraph.errors import EngineError
from kgraph.ir.node import Constant

v1 = tf.compat.v1

#: A generation with fewer dead ops than this goes on, whatever part of it they are. It is small because what it costs to add a
#: program grows with the whole graph: TensorFlow copies that for the session, at some 4 microseconds an op.
FEW_OPS = 200

#: Bytes of variables that nobody has any more, in a session, that are given back before the session ends.
MANY_BYTES = 2**24

_own_names = f"kgraph_{os.urandom(4).hex()}"  # the processes of a cluster may share their variables' names
_numbers = itertools.count()


def _config() -> Any:
    config = v1.ConfigProto(allow_soft_placement=True)  # ops that have no kernel on a GPU run on the CPU
    # Without the rewrites of a graph (TensorFlow 2.21). Some change values: (x + 1e30) - 1e30 becomes x, (x * 1e-30) * 1e-30
    # becomes x * 0, a power of 0.5 a square root, which is NaN at -inf. What is left makes no program faster that kgraph's
    # passes have been over, and takes half of the time of making one.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


class Home:
    """One generation.

    Args:
      number: of the generation.
      session: the user's own; None makes one.

    Attributes:
      owned: the session is ours. A user's own stays for as long as the user wants it.
      hidden: the number of ops within the functions of the graph.
      made: the number of ops that kgraph has made. Others are the user's, who has taken the session for theirs.
      gone: sizes, in ops, of what is dead.
      broken: an op was refused when the session got it: it will refuse all that comes after.
      process: the number of the process that it works in.
      programs: those in use.
      constants: large constants, held as variables: within the graph they would be copied whenever it grows.
    """

    def __init__(self, number: int, session: Any = None):
        self.number, self.owned = number, session is None
        if session is None:
            session = v1.Session(graph=tf.Graph(), config=_config())
            weakref.finalize(session, _take_apart, session.graph).atexit = False
        self.session, self.graph = session, session.graph
        self.hidden, self.made, self.broken, self.process = 0, 0, False, os.getpid()
        self.gone: list[int] = []
        self.programs: weakref.WeakSet[Any] = weakref.WeakSet()
        self.constants: weakref.WeakValueDictionary[Any, Storage] = weakref.WeakValueDictionary()
        self._born = self.graph.version
        self._lost: list[tuple[str, int]] = []  # ops that destroy variables, and the bytes of those

    @property
    def ops(self) -> int:
        """The number of ops made in this generation."""
        return int(self.graph.version) - self._born + self.hidden

    def made_since(self, before: int) -> int:
        """The number of ops made since there were so many, which kgraph has made."""
        number = self.ops - before
        self.made += number
        return number

    @property
    def crowded(self) -> bool:
        """Whether it is time for another one: most of the ops are dead."""
        dead, ops = sum(self.gone), self.ops
        return self.owned and (self.broken or (dead > FEW_OPS and 2 * dead > ops == self.made))

    @property
    def open(self) -> bool:
        """Whether the session has not been closed."""
        return not self.session._closed

    def callable(
        self, feeds: Sequence[Any], fetches: Sequence[Any], targets: Sequence[Any] = (), small: bool = False,
        trace: bool = False,
    ) -> Callable[..., Any]:  # fmt: skip
        """The function of the values of tensors that returns those of others, and runs ops.

        Args:
          small: run in the thread of the caller: handing a small program to other threads takes longer than running it.
          trace: note the time of each op, for who calls it with ``run_metadata=``.
        Raises: EngineError if the session is closed, or refuses an op.
        """
        self.check()
        if not fetches and not targets:
            return lambda *values, **to: []  # TensorFlow refuses a program of nothing
        options = config_pb2.CallableOptions()
        options.feed.extend([tensor.name for tensor in feeds])
        options.fetch.extend([tensor.name for tensor in fetches])
        options.target.extend([op.name for op in targets])
        if small:
            options.run_options.inter_op_thread_pool = -1
        if trace:
            options.run_options.trace_level = config_pb2.RunOptions.FULL_TRACE
        # Session.make_callable takes no targets, and with feeds it is only another spelling of run, ten times as slow.
        make: Callable[..., Any] = self.session._make_callable_from_options
        try:
            return make(options)
        except tf.errors.OpError as error:
            self.broken = True
            hint = None if self.owned else "it refuses all that come after, too; K.set_session or K.clear_session gives another"
            message = f"the TensorFlow session refuses a program: {error.message.splitlines()[0]:.300}"
            raise EngineError(message, hint=hint) from error
        except KeyboardInterrupt:
            self.mend()
            raise

    def mend(self) -> None:
        """Make the graph usable again after Ctrl-C. Its lock is written in Python: it stays locked if that comes within it."""
        self.graph._group_lock = type(self.graph._group_lock)(num_groups=2)

    def check(self) -> None:
        """Raises EngineError where nothing can be run: in a closed session, in a process that was forked."""
        self.check_process()
        if not self.open:
            raise closed()

    def check_process(self) -> None:
        """Raises EngineError in a process that was forked from the one in which the session works."""
        if self.process != os.getpid():
            raise EngineError(
                "TensorFlow does not work in a process that was forked from one in which it was in use",
                hint="start processes by multiprocessing's 'spawn' or 'forkserver', or fork before the first call on it",
            )

    def read(self, storages: Sequence[Storage]) -> list[np.ndarray[Any, Any]]:
        """The values of many storages, by one program."""
        found = self.callable((), [storage.value for storage in storages])()
        return [np.array(value) for value in found]

    def constant(self, value: Constant) -> Storage:
        """The storage of a large constant, the same one for all programs."""
        found = self.constants.get(value)
        if found is None:
            found = self.constants[value] = Storage(self, value.array)
        return found

    def place(self, named: Sequence[tuple[str, Storage]]) -> None:
        """Give storages that are new their place, and the values that they begin with."""
        new = [(name, storage) for name, storage in named if not storage.placed]
        if new:
            places = [storage.place(name) for name, storage in new]
            begin = self.callable([feed for feed, _ in places], (), [assign for _, assign in places])
            begin(*[storage.pending for _, storage in new])
            for _, storage in new:
                storage.pending = None

    def lose(self, op: str, size: int, ops: int) -> None:
        """A variable is nobody's any more. Called wherever it dies: it takes no lock."""
        self._lost.append((op, size))
        self.gone.append(ops)

    def sweep(self) -> None:
        """Give back the memory of lost variables, if it is much."""
        lost = self._lost[:]
        if sum([size for _, size in lost]) < MANY_BYTES:
            return
        del self._lost[: len(lost)]
        self.callable((), (), [self.graph.get_operation_by_name(name) for name, _ in lost])()


def closed() -> EngineError:
    return EngineError(
        "the TensorFlow session is closed", hint="K.set_session gives another one, K.clear_session makes a new one"
    )


def _take_apart(graph: Any) -> None:
    """Give the memory of a graph back, whose ops point at one another: Python's collector comes late to what is mostly C's."""
    if all(op.name.startswith("kgraph/") for op in graph.get_operations()):  # else it is the user's, too
        dismantle_graph(graph)


class Storage:
    """The place of a variable, or of a large constant, in a session.

    Args:
      value: what it begins with: it gets there together with the others of the first program that needs them.

    Attributes:
      pending: the value, before it is there.
      value: the tensor that reads it, once it has a place.
    """

    __slots__ = ("_assign", "_fed", "_get", "_handle", "_set", "home", "pending", "value", "__weakref__")

    def __init__(self, home: Home, value: np.ndarray[Any, Any]):
        self.home = home
        self.pending: np.ndarray[Any, Any] | None = value
        self._handle: Any = None

    def place(self, name: str) -> tuple[Any, Any]:
        """Make its ops. Returns the feed and the op that give it a value."""
        assert self.pending is not None
        home, value = self.home, self.pending
        dtype, shape = tf.as_dtype(value.dtype), value.shape
        before = home.ops
        with home.graph.name_scope(re.sub(r"[^A-Za-z0-9_.\\/-]", "_", re.sub(r"^[^A-Za-z0-9.]+", "", name)) or "variable"):
            self._handle = tf.raw_ops.VarHandleOp(
                dtype=dtype, shape=shape, shared_name=f"{_own_names}_{next(_numbers)}", name="handle"
            )
            self._fed = v1.placeholder(dtype, shape, name="new")
            self._assign = tf.raw_ops.AssignVariableOp(resource=self._handle, value=self._fed, name="set")
            self.value = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=dtype, name="get")
            destroy = tf.raw_ops.DestroyResourceOp(resource=self._handle, ignore_lookup_error=True, name="drop")
        self._get: Callable[..., Any] | None = None
        self._set: Callable[..., Any] | None = None
        weakref.finalize(self, home.lose, destroy.name, value.nbytes, home.made_since(before)).atexit = False
        return self._fed, self._assign

    @property
    def placed(self) -> bool:
        """Whether its value is in the session. Ops alone are made anew: Ctrl-C came before they were run."""
        return self.pending is None

    def read(self) -> Any:
        """The tensor of its value, as of the beginning of a program."""
        return tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=self._fed.dtype)

    def assign(self, value: Any) -> Any:
        """The op that gives it the value of a tensor."""
        return tf.raw_ops.AssignVariableOp(resource=self._handle, value=value)

    def get(self) -> np.ndarray[Any, Any]:
        """The value. Raises EngineError if it is lost with a session that was closed."""
        pending = self.pending
        if pending is not None:
            return pending
        self.home.check_process()
        if not self.home.open:
            raise EngineError(
                "the value of a variable is lost with the TensorFlow session that was closed",
                hint="K.set_value gives it another one; K.clear_session, before a session is closed, saves all values",
            )
        if self._get is None:
            self._get = self.home.callable((), [self.value], small=True)
        return np.array(self._get()[0])

    def set(self, value: np.ndarray[Any, Any]) -> None:
        """Write the value, over one that is there."""
        self.home.check()
        if self._set is None:
            self._set = self.home.callable([self._fed], (), [self._assign], small=True)
        self._set(value)

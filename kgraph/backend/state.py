"""Settings, names and the learning phase."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph import cache
from kgraph import phase as _phase
from kgraph.backend.operands import number_of, refuse
from kgraph.config import settings
from kgraph.errors import ArgumentError, EngineError
from kgraph.ir import origin
from kgraph.ir.origin import here
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import FLOATS
from kgraph.lower.engine import engines_loaded, get_engine

_uids: defaultdict[str, int] = defaultdict(int)
_phase_tensor: dict[str, Tensor] = {}  # one entry, made when it is first asked for: its origin is a line of the user's
_legacy = {"weight_ordering": False, "manual_initialization": False}


def backend() -> str:
    """The name of the engine that functions run on, unless they name another.

    >>> K.backend()
    'numpy'
    """
    return settings.engine


def set_backend(name: str) -> None:
    """Make an engine the default one. Functions that have been called keep theirs; graphs belong to none.

    Raises: EngineError for an engine that is not known, or not installed.
    """
    try:
        get_engine(name)
    except EngineError as error:
        raise error.at("set_backend", place=str(here())) from error.__cause__
    settings.engine = name


def epsilon() -> float:
    """The fuzz factor of crossentropies, 1e-7 unless set."""
    return settings.epsilon


def set_epsilon(e: float) -> None:
    """Set the fuzz factor, for what is built from now on. Raises ArgumentError for any but a number in [0, 1)."""
    settings.epsilon = number_of(e, "epsilon", "a number from 0 to below 1")


def floatx() -> str:
    """The dtype of variables and placeholders that name none: 'float16', 'float32' or 'float64'."""
    return settings.floatx


def set_floatx(floatx: str) -> None:
    """Set the default dtype, for what is built from now on. Raises ArgumentError for any but the three floats."""
    if floatx not in FLOATS:
        raise refuse(ArgumentError, f"floatx is one of {', '.join(map(repr, FLOATS))}, not {floatx!r}")
    settings.floatx = str(floatx)


def cast_to_floatx(x: Any) -> np.ndarray[Any, Any]:
    """A NumPy array (not a tensor) of x in floatx; 0-d for a number.

    >>> K.cast_to_floatx([1, 2])
    array([1., 2.], dtype=float32)
    """
    return np.asarray(x, dtype=settings.floatx)


def image_dim_ordering() -> str:
    """'th' (channels before rows and columns) or 'tf' (after them)."""
    return settings.image_dim_ordering


def set_image_dim_ordering(dim_ordering: str) -> None:
    """Set the order of image axes. Raises ArgumentError for any but 'th' and 'tf'."""
    if dim_ordering not in ("th", "tf"):
        raise refuse(ArgumentError, f"dim_ordering is 'th' or 'tf', not {dim_ordering!r}")
    settings.image_dim_ordering = str(dim_ordering)


def get_uid(prefix: str = "") -> int:
    """1, 2, 3 ... for each prefix.

    >>> K.get_uid("dense"), K.get_uid("dense")
    (1, 2)
    """
    _uids[prefix] += 1
    return _uids[prefix]


def name_scope(name: str) -> AbstractContextManager[None]:
    """What is built inside the block belongs to the scope, within the scopes around it; listings and errors show it.

    >>> with K.name_scope("encoder"):
    ...     y = K.tanh(x)
    """
    return origin.name_scope(name)


def is_keras_tensor(x: Any) -> bool:
    """Whether x bears the ``_keras_shape`` that Keras writes on its tensors."""
    return hasattr(x, "_keras_shape")


def legacy_weight_ordering() -> bool:
    """Whether old weight files are read in their own order; False unless set. Kept for Keras, means nothing here."""
    return _legacy["weight_ordering"]


def set_legacy_weight_ordering(value: bool) -> None:
    """Set what `legacy_weight_ordering` answers. Raises ArgumentError for anything but True and False."""
    if value not in (True, False):
        raise refuse(ArgumentError, f"legacy_weight_ordering is True or False, not {value!r}")
    _legacy["weight_ordering"] = bool(value)


def manual_variable_initialization(value: bool) -> None:
    """Accepted for programs of the TensorFlow backend. Variables have their values from birth, so it changes nothing."""
    _legacy["manual_initialization"] = bool(value)


def learning_phase() -> Any:
    """The learning phase: the int 0 (test) or 1 (train) while it is set, else a symbolic uint8 scalar, always the same one.

    A function compiles a program for each phase, on first use. Unfed and unset, the phase is test.
    Keras 1.x: there an unfed phase is an error.
    """
    if _phase.fixed is not None:
        return _phase.fixed
    found = _phase_tensor.get("learning_phase")
    return _phase_tensor.setdefault("learning_phase", Tensor(o.learning_phase())) if found is None else found


def set_learning_phase(value: int) -> None:
    """Fix the phase, 0 test or 1 train, for every function, built before or after; `clear_session` unsets it.

    Raises: ArgumentError for any other value.
    """
    if value not in (0, 1):
        raise refuse(ArgumentError, f"the learning phase is 0 (test) or 1 (train), not {value!r}")
    _phase.fixed = int(value)


def clear_session() -> None:
    """Unset the learning phase, start `get_uid` anew, forget compiled programs, and give up the session of tensorflow.

    Tensors, variables and functions go on working: there is no global graph to clear.
    """
    _phase.fixed = None
    _uids.clear()
    cache.clear()
    for engine in engines_loaded():
        engine.clear()


def get_session() -> Any:
    """The session in which the TensorFlow engine runs functions, with kgraph's own graph unless `set_session` gave another.

    A new session may take its place when most of its graph is dead, so ask again rather than keep it; one that you have set,
    or built ops of your own in, stays. Raises EngineError on any other engine, which has none.
    """
    try:
        return get_engine(settings.engine).session()
    except EngineError as error:
        raise error.at("get_session", place=str(here())) from None


def set_session(session: Any) -> None:
    """Run the functions of the TensorFlow engine in a session of yours (on a cluster, with a configuration), from now on.

    Variables keep their values and move there; functions are built into its graph at their next call. `clear_session` ends it.
    What TensorFlow rewrites in graphs is for the session's configuration to say. A session of kgraph's own rewrites nothing,
    because some rewrites change values: (x + 1e30) - 1e30 becomes x.
    Raises EngineError on any other engine, which has none.
    """
    try:
        get_engine(settings.engine).set_session(session)
    except EngineError as error:
        raise error.at("set_session", place=str(here())) from None

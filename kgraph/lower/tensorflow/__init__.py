"""The TensorFlow engine: a graph and a session for each generation, resource variables, a callable for each function."""

from __future__ import annotations

from kgraph.errors import EngineError

try:
    from kgraph.lower.tensorflow.quiet import quietly

    with quietly():
        import tensorflow  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise EngineError("TensorFlow is not installed", hint="python -m pip install 'kgraph[tensorflow]'") from None

from kgraph.lower.tensorflow.engine import ENGINE, TensorFlowEngine

__all__ = ["ENGINE", "TensorFlowEngine"]

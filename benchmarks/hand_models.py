"""The models of `benchmarks.models` by an engine's own functions: what has the names of the K functions that they use.

Each makes one call of a training step, as a program of that engine would: TensorFlow by a graph, a session and `tf.gradients`,
Theano by shared variables, `theano.grad` and its own optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.models import Model
from kgraph.lower.engine import get_engine


class TensorFlow:
    """TensorFlow as its version 1 was used."""

    def __init__(self) -> None:
        get_engine("tensorflow")  # imports TensorFlow quietly
        import tensorflow as tf

        self.tf, self.v1 = tf, tf.compat.v1
        self.exp, self.log, self.sqrt, self.pow = tf.exp, tf.math.log, tf.sqrt, tf.pow
        self.maximum, self.tanh, self.reshape, self.batch_dot = tf.maximum, tf.tanh, tf.reshape, tf.matmul
        self.permute_dimensions = tf.transpose
        self._variables: dict[int, Any] = {}
        self._inside = tf.Graph().as_default()
        self._inside.__enter__()

    def placeholder(self, shape: tuple[int | None, ...], name: str) -> Any:
        return self.v1.placeholder(self.tf.float32, shape, name)

    def variable(self, value: np.ndarray) -> Any:
        made = self.v1.Variable(value, use_resource=True)
        read = made.read_value()  # once, not at every use
        self._variables[id(read)] = made
        return read

    def sum(self, x: Any, axis: int, keepdims: bool = False) -> Any:
        return self.tf.reduce_sum(x, axis, keepdims)

    def mean(self, x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        return self.tf.reduce_mean(x, axis, keepdims)

    def dot(self, x: Any, y: Any) -> Any:
        return self.tf.matmul(x, y) if len(x.shape) == 2 else self.tf.tensordot(x, y, 1)

    def conv2d(self, x: Any, kernel: Any, border_mode: str, dim_ordering: str) -> Any:
        return self.tf.nn.conv2d(x, kernel, 1, border_mode.upper())

    def pool2d(self, x: Any, size: Any, strides: Any, dim_ordering: str) -> Any:
        return self.tf.nn.max_pool2d(x, size, strides, "VALID")

    def gradients(self, loss: Any, wrt: list[Any]) -> list[Any]:
        return self.tf.gradients(loss, wrt)  # type: ignore[no-any-return]

    def step(self, model: Model) -> Callable[[], Any]:
        """One call of the training step."""
        from tensorflow.core.protobuf import config_pb2

        session = self.v1.Session()
        session.run(self.v1.global_variables_initializer())
        with self.tf.control_dependencies([model.loss, *[new for _, new in model.updates]]):  # all reads, then all writes
            writes = [self.v1.assign(self._variables[id(v)], self.tf.identity(new)) for v, new in model.updates]
        self._inside.__exit__(None, None, None)
        options = config_pb2.CallableOptions()
        options.feed.extend(x.name for x in model.inputs)
        options.fetch.append(model.loss.name)
        options.target.extend(write.op.name for write in writes)
        run = session._make_callable_from_options(options)
        return lambda: run(*model.values)


class Theano:
    """Theano as it is meant to be used."""

    def __init__(self) -> None:
        get_engine("theano")  # makes Theano run on this Python
        import theano
        import theano.tensor as T
        from theano.tensor.signal.pool import pool_2d

        self.theano, self.T, self._pool = theano, T, pool_2d
        theano.config.floatX = "float32"  # of numbers and means; kgraph gives each of its nodes the dtype that it has
        self.exp, self.log, self.sqrt, self.tanh, self.maximum, self.dot = T.exp, T.log, T.sqrt, T.tanh, T.maximum, T.dot
        self.pow, self.batch_dot, self.gradients = T.pow, T.batched_dot, theano.grad

    def placeholder(self, shape: tuple[int | None, ...], name: str) -> Any:
        return self.T.TensorType("float32", (False,) * len(shape))(name)

    def variable(self, value: np.ndarray) -> Any:
        return self.theano.shared(value)

    def sum(self, x: Any, axis: int, keepdims: bool = False) -> Any:
        return x.sum(axis, keepdims=keepdims)

    def mean(self, x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
        return x.mean(axis, keepdims=keepdims)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        return x.reshape(shape, ndim=len(shape))

    def permute_dimensions(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.dimshuffle(*axes)

    def conv2d(self, x: Any, kernel: Any, border_mode: str, dim_ordering: str) -> Any:
        made = self.T.nnet.conv2d(
            x.dimshuffle(0, 3, 1, 2), kernel.dimshuffle(3, 2, 0, 1), border_mode="half", filter_flip=False
        )  # fmt: skip
        return made.dimshuffle(0, 2, 3, 1)

    def pool2d(self, x: Any, size: Any, strides: Any, dim_ordering: str) -> Any:
        return self._pool(x.dimshuffle(0, 3, 1, 2), size, True, strides).dimshuffle(0, 2, 3, 1)

    def step(self, model: Model) -> Callable[[], Any]:
        """One call of the training step."""
        function = self.theano.function(model.inputs, model.loss, updates=model.updates)
        function.trust_input = True
        return lambda: function(*model.values)


#: Engine -> how its own functions make a model's step.
BY_HAND: dict[str, Callable[[], Any]] = {"tensorflow": TensorFlow, "theano": Theano}

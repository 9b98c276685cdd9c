"""The sides of `benchmarks.call` that are written by hand in TensorFlow as its version 1 was used: a graph, a session, resource
variables, `tf.gradients`, a callable of the session.

`Session.make_callable` with feeds is `Session.run` under another name, several times as slow as the callable that it gives
without feeds. So that the comparison is with the best that a session has, this one is made of the same options, with feeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kgraph import backend as K
from kgraph.lower.engine import get_engine

get_engine("tensorflow")  # imports TensorFlow quietly

import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402

v1 = tf.compat.v1

MOST_MICROSECONDS = 15.0
SMALL, UPDATED = 4, 6

#: Run in the thread of the caller, as kgraph does with programs of few ops: TensorFlow's own threads take longer to wake than
#: such a step takes.
IN_CALLER = -1


def _callable(feeds: list[Any], fetch: Any, targets: list[Any]) -> Callable[..., Any]:
    """The callable of a session of its own, in which the variables have their first values."""
    session = v1.Session()
    session.run(v1.global_variables_initializer())
    options = config_pb2.CallableOptions()
    options.feed.extend(feed.name for feed in feeds)
    options.fetch.append(fetch.name)
    options.target.extend(target.name for target in targets)
    options.run_options.inter_op_thread_pool = IN_CALLER
    run = session._make_callable_from_options(options)
    return lambda *values: run(*values)[0]


def _variable(value: np.ndarray) -> Any:
    return v1.Variable(value, use_resource=True)


def small_by_hand() -> Callable[[Any, Any], Any]:
    """Two inputs, one output, six updated variables."""
    with tf.Graph().as_default():
        x, y = (v1.placeholder(tf.float32, [SMALL]) for _ in range(2))
        product = x * y
        variables = [_variable(np.zeros(SMALL, "float32")) for _ in range(UPDATED)]
        return _callable([x, y], product, [v1.assign(v, v + product) for v in variables])


class ByHand:
    """The network and the training step of examples/digits_mlp.py.

    The same mathematics as in `benchmarks.call`, with what is TensorFlow's own and quickest there: the gradient, the fused
    cross-entropy of logits, stateful random numbers, the fused op of its Adam.
    """

    rate, beta1, beta2 = 0.002, 0.9, 0.999

    def __init__(self, weights: list[np.ndarray], dropout: float):
        with tf.Graph().as_default():
            dtype = weights[0].dtype
            images, labels = (v1.placeholder(dtype, [None, n]) for n in (weights[0].shape[0], weights[-1].shape[0]))
            w1, b1, w2, b2 = variables = [_variable(weight) for weight in weights]
            features = tf.nn.relu(tf.matmul(images, w1) + b1)
            if dropout:
                features = tf.nn.dropout(features, rate=dropout, seed=1)
            loss = self.loss(tf.matmul(features, w2) + b2, labels)
            self.step = _callable([images, labels], loss, self.adam(loss, variables))

    @staticmethod
    def loss(logits: Any, labels: Any) -> Any:
        """The cross-entropy, held within [log epsilon, log(1 - epsilon)], with gradient zero beyond."""
        bounds = np.log(K.epsilon()), np.log1p(-K.epsilon())
        held = tf.clip_by_value(tf.nn.log_softmax(logits), *bounds)
        return -tf.reduce_mean(tf.reduce_sum(labels * held, axis=-1))

    def adam(self, loss: Any, weights: list[Any]) -> list[Any]:
        """The updates of Kingma & Ba (2015), algorithm 1, in the order that their section 2 suggests."""
        optimizer = v1.train.AdamOptimizer(self.rate, self.beta1, self.beta2, epsilon=K.epsilon())
        return [optimizer.minimize(loss, var_list=weights)]

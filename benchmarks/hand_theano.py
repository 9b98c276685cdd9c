"""The sides of `benchmarks.call` that are written by hand in Theano, as it is meant to be used: shared variables, updates,
`theano.grad`, Theano's own optimiser in its default mode, inputs taken on trust.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kgraph import backend as K
from kgraph.lower.engine import get_engine

get_engine("theano")  # makes Theano run on this Python

import theano  # noqa: E402
import theano.tensor as T  # noqa: E402
from theano.sandbox.rng_mrg import MRG_RandomStream  # noqa: E402

MOST_MICROSECONDS = 5.0
SMALL, UPDATED = 4, 6


def _compiled(inputs: list[Any], output: Any, updates: list[Any]) -> Any:
    function = theano.function(inputs, output, updates=updates)
    function.trust_input = True
    return function


def small_by_hand() -> Callable[[Any, Any], Any]:
    """Two inputs, one output, six updated variables."""
    x, y = T.fvector("x"), T.fvector("y")
    product = x * y
    variables = [theano.shared(np.zeros(SMALL, "float32")) for _ in range(UPDATED)]
    return _compiled([x, y], product, [(v, v + product) for v in variables])  # type: ignore[no-any-return]


class ByHand:
    """The network and the training step of examples/digits_mlp.py.

    The same mathematics as in `benchmarks.call`, with what is Theano's own and quickest there: the gradient, random numbers
    from its C generator.
    """

    rate, beta1, beta2 = 0.002, 0.9, 0.999

    def __init__(self, weights: list[np.ndarray], dropout: float):
        number = weights[0].dtype.type
        images, labels = T.matrix("images", weights[0].dtype.name), T.matrix("labels", weights[0].dtype.name)
        w1, b1, w2, b2 = shared = [theano.shared(weight.copy()) for weight in weights]
        features = T.nnet.relu(T.dot(images, w1) + b1)
        if dropout:
            draws = MRG_RandomStream(seed=1).uniform((images.shape[0], weights[0].shape[1]), dtype=features.dtype)
            features = features * (draws >= number(dropout)) * number(1 / (1 - dropout))
        epsilon = number(K.epsilon())
        predicted = T.clip(T.nnet.softmax(T.dot(features, w2) + b2), epsilon, number(1) - epsilon)
        loss = T.nnet.categorical_crossentropy(predicted, labels).mean(dtype=predicted.dtype)
        self.function = _compiled([images, labels], loss, self.adam(loss, shared))

    def adam(self, loss: Any, weights: list[Any]) -> list[Any]:
        """The updates of Kingma & Ba (2015), algorithm 1, in the order that their section 2 suggests."""
        number = np.dtype(weights[0].dtype).type
        one = number(1)
        steps = theano.shared(number(0))
        t = steps + one
        rate = number(self.rate) * T.sqrt(one - number(self.beta2) ** t) / (one - number(self.beta1) ** t)
        updates = [(steps, t)]
        for weight, gradient in zip(weights, theano.grad(loss, weights), strict=True):
            mean, square = (theano.shared(np.zeros_like(weight.get_value())) for _ in range(2))
            new_mean = number(self.beta1) * mean + (one - number(self.beta1)) * gradient
            new_square = number(self.beta2) * square + (one - number(self.beta2)) * T.sqr(gradient)
            step = rate * new_mean / (T.sqrt(new_square) + number(K.epsilon()))
            updates += [(mean, new_mean), (square, new_square), (weight, weight - step)]
        return updates

    def step(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The loss of a batch; the weights are moved against its gradient."""
        return self.function(images, labels)  # type: ignore[no-any-return]

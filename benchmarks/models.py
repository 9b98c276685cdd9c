"""Four models as people write them, with K functions alone: each with its loss, its gradients and its updates.

Nothing is written for speed, or for finite results far out: softmax is exp over a sum of exps, crossentropy a logarithm of it,
each gate of an LSTM a product of its own, each of query, key and value too. That is for the passes to mend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kgraph import backend as K

CLASSES = 10


class Model(NamedTuple):
    """One training step.

    Attributes:
      inputs: placeholders: what is looked at, and the classes, one-hot.
      loss: scalar.
      updates: of all weights.
      values: arrays for the inputs.
    """

    inputs: list[Any]
    loss: Any
    updates: list[tuple[Any, Any]]
    values: list[np.ndarray]


class Weights(list[Any]):
    """Makes weights, the same ones each time, and keeps them."""

    def __call__(self, *shape: int) -> Any:
        generator = np.random.default_rng(len(self))
        value = generator.normal(size=shape) / np.sqrt(shape[0] if len(shape) > 1 else np.inf)
        self.append(K.variable(value.astype("float32")))
        return self[-1]


def softmax(x: Any) -> Any:
    e = K.exp(x)
    return e / K.sum(e, axis=-1, keepdims=True)


def training(inputs: list[Any], scores: Any, weights: Sequence[Any], values: list[np.ndarray]) -> Model:
    """The step that lowers the crossentropy, by gradients with momentum."""
    predicted = softmax(scores)
    loss = K.mean(-K.sum(inputs[1] * K.log(predicted), axis=-1))
    updates = []
    for w, g in zip(weights, K.gradients(loss, list(weights)), strict=True):
        moved = K.zeros(K.int_shape(w))
        step = 0.9 * moved - 0.01 * g
        updates += [(moved, step), (w, w + step)]
    return Model(inputs, loss, updates, values)


def _values(batch: int, *shape: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    targets = np.eye(CLASSES, dtype="float32")[np.arange(batch) % CLASSES]
    return [generator.normal(size=(batch, *shape)).astype("float32"), targets]


def _inputs(*shape: int) -> list[Any]:
    return [K.placeholder((None, *shape), name="x"), K.placeholder((None, CLASSES), name="target")]


def mlp(batch: int = 128, features: int = 784, hidden: int = 512) -> Model:
    """Two hidden layers."""
    weights, inputs = Weights(), _inputs(features)
    h = inputs[0]
    for rows, units in ((features, hidden), (hidden, hidden)):
        h = K.maximum(K.dot(h, weights(rows, units)) + weights(units), 0.0)
    return training(inputs, K.dot(h, weights(hidden, CLASSES)) + weights(CLASSES), weights, _values(batch, features))


def conv_net(batch: int = 32, size: int = 28, filters: int = 16) -> Model:
    """Two convolutions, each with the maximum of 2 x 2, and a layer over all."""
    weights, inputs = Weights(), _inputs(size, size, 1)
    h, channels = inputs[0], 1
    for _ in range(2):
        h = K.conv2d(h, weights(3, 3, channels, filters) * (1 / 3), border_mode="same", dim_ordering="tf") + weights(filters)
        h = K.pool2d(K.maximum(h, 0.0), (2, 2), (2, 2), dim_ordering="tf")
        channels = filters
    flat = (size // 4) ** 2 * filters
    return training(inputs, K.dot(K.reshape(h, (-1, flat)), weights(flat, CLASSES)), weights, _values(batch, size, size, 1))


def lstm(batch: int = 32, steps: int = 10, features: int = 64, units: int = 64) -> Model:
    """An LSTM, unrolled, of four gates with weights of their own."""
    weights, inputs = Weights(), _inputs(steps, features)
    gates = [(weights(features, units), weights(units, units), weights(units)) for _ in range(4)]
    h = c = K.zeros_like(inputs[0][:, 0, :1]) + np.zeros((1, units), "float32")
    for t in range(steps):
        forget, write, read, new = (K.dot(inputs[0][:, t], w) + K.dot(h, u) + b for w, u, b in gates)
        c = _sigmoid(forget) * c + _sigmoid(write) * K.tanh(new)
        h = _sigmoid(read) * K.tanh(c)
    return training(inputs, K.dot(h, weights(units, CLASSES)), weights, _values(batch, steps, features))


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + K.exp(-x))


def transformer(batch: int = 16, steps: int = 32, width: int = 64, heads: int = 4) -> Model:
    """One block: attention and a layer, each after a normalisation and added to what it is of; the mean over the steps."""
    weights, inputs = Weights(), _inputs(steps, width)
    x = inputs[0]
    y = _normalised(x) * weights(width) + weights(width)
    query, key, value = (_by_head(K.dot(y, weights(width, width)), steps, heads, width // heads) for _ in range(3))
    scores = K.batch_dot(query, K.permute_dimensions(key, (0, 2, 1))) / np.sqrt(width / heads)
    mixed = K.reshape(K.batch_dot(softmax(scores), value), (-1, heads, steps, width // heads))
    mixed = K.reshape(K.permute_dimensions(mixed, (0, 2, 1, 3)), (-1, steps, width))
    x = x + K.dot(mixed, weights(width, width))
    y = _normalised(x) * weights(width) + weights(width)
    x = x + K.dot(K.maximum(K.dot(y, weights(width, 4 * width)) + weights(4 * width), 0.0), weights(4 * width, width))
    return training(inputs, K.dot(K.mean(x, axis=1), weights(width, CLASSES)), weights, _values(batch, steps, width))


def _normalised(x: Any) -> Any:
    mean = K.mean(x, axis=-1, keepdims=True)
    variance = K.mean(K.pow(x - mean, 2), axis=-1, keepdims=True)
    return (x - mean) / K.sqrt(variance + 1e-5)


def _by_head(x: Any, steps: int, heads: int, units: int) -> Any:
    apart = K.permute_dimensions(K.reshape(x, (-1, steps, heads, units)), (0, 2, 1, 3))
    return K.reshape(apart, (-1, steps, units))


MODELS: dict[str, Callable[[], Model]] = {
    "MLP": mlp, "conv net": conv_net, "LSTM, 10 steps unrolled": lstm, "transformer block": transformer,
}  # fmt: skip

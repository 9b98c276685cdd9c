"""Four models as people write them: each with its loss, its gradients and its updates; by K functions, or by an engine's own.

Nothing is written for speed, or for finite results far out: softmax is exp over a sum of exps, crossentropy a logarithm of it,
each gate of an LSTM a product of its own, each of query, key and value too. That is for the passes to mend.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Makes weights, the same ones each time, and keeps them.

    Args:
      by: whose functions the model is written with: the backend, or what has functions of the same names.
    """

    def __init__(self, by: Any):
        super().__init__()
        self.by = by
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, *shape: int) -> Any:
        generator = np.random.default_rng(len(self))
        value = generator.normal(size=shape) / np.sqrt(shape[0] if len(shape) > 1 else np.inf)
        self.append(self.by.variable(value.astype("float32")))
        self.shapes.append(shape)
        return self[-1]


def softmax(by: Any, x: Any) -> Any:
    e = by.exp(x)
    return e / by.sum(e, axis=-1, keepdims=True)


def training(by: Any, inputs: list[Any], scores: Any, weights: Weights, values: list[np.ndarray]) -> Model:
    """The step that lowers the crossentropy, by gradients with momentum."""
    predicted = softmax(by, scores)
    loss = by.mean(-by.sum(inputs[1] * by.log(predicted), axis=-1))
    updates = []
    for w, g, shape in zip(weights, by.gradients(loss, list(weights)), weights.shapes, strict=True):
        moved = by.variable(np.zeros(shape, "float32"))
        step = 0.9 * moved - 0.01 * g
        updates += [(moved, step), (w, w + step)]
    return Model(inputs, loss, updates, values)


def _values(batch: int, *shape: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    targets = np.eye(CLASSES, dtype="float32")[np.arange(batch) % CLASSES]
    return [generator.normal(size=(batch, *shape)).astype("float32"), targets]


def _inputs(by: Any, *shape: int) -> list[Any]:
    return [by.placeholder((None, *shape), name="x"), by.placeholder((None, CLASSES), name="target")]


def mlp(by: Any = K, batch: int = 128, features: int = 784, hidden: int = 512) -> Model:
    """Two hidden layers."""
    weights, inputs = Weights(by), _inputs(by, features)
    h = inputs[0]
    for rows, units in ((features, hidden), (hidden, hidden)):
        h = by.maximum(by.dot(h, weights(rows, units)) + weights(units), 0.0)
    return training(by, inputs, by.dot(h, weights(hidden, CLASSES)) + weights(CLASSES), weights, _values(batch, features))


def conv_net(by: Any = K, batch: int = 32, size: int = 28, filters: int = 16) -> Model:
    """Two convolutions, each with the maximum of 2 x 2, and a layer over all."""
    weights, inputs = Weights(by), _inputs(by, size, size, 1)
    h, channels = inputs[0], 1
    for _ in range(2):
        h = by.conv2d(h, weights(3, 3, channels, filters) * (1 / 3), border_mode="same", dim_ordering="tf") + weights(filters)
        h = by.pool2d(by.maximum(h, 0.0), (2, 2), (2, 2), dim_ordering="tf")
        channels = filters
    flat = (size // 4) ** 2 * filters
    scores = by.dot(by.reshape(h, (-1, flat)), weights(flat, CLASSES))
    return training(by, inputs, scores, weights, _values(batch, size, size, 1))


def lstm(by: Any = K, batch: int = 32, steps: int = 10, features: int = 64, units: int = 64) -> Model:
    """An LSTM, unrolled, of four gates with weights of their own."""
    weights, inputs = Weights(by), _inputs(by, steps, features)
    gates = [(weights(features, units), weights(units, units), weights(units)) for _ in range(4)]
    h = c = by.sum(inputs[0][:, 0], axis=1, keepdims=True) * np.zeros((1, units), "float32")  # a row for each sample
    for t in range(steps):
        forget, write, read, new = (by.dot(inputs[0][:, t], w) + by.dot(h, u) + b for w, u, b in gates)
        c = _sigmoid(by, forget) * c + _sigmoid(by, write) * by.tanh(new)
        h = _sigmoid(by, read) * by.tanh(c)
    return training(by, inputs, by.dot(h, weights(units, CLASSES)), weights, _values(batch, steps, features))


def _sigmoid(by: Any, x: Any) -> Any:
    return 1.0 / (1.0 + by.exp(-x))


def transformer(by: Any = K, batch: int = 16, steps: int = 32, width: int = 64, heads: int = 4) -> Model:
    """One block: attention and a layer, each after a normalisation and added to what it is of; the mean over the steps."""
    weights, inputs = Weights(by), _inputs(by, steps, width)
    x = inputs[0]
    y = _normalised(by, x) * weights(width) + weights(width)
    query, key, value = (_by_head(by, by.dot(y, weights(width, width)), steps, heads, width // heads) for _ in range(3))
    scores = by.batch_dot(query, by.permute_dimensions(key, (0, 2, 1))) / float(np.sqrt(width / heads))
    mixed = by.reshape(by.batch_dot(softmax(by, scores), value), (-1, heads, steps, width // heads))
    mixed = by.reshape(by.permute_dimensions(mixed, (0, 2, 1, 3)), (-1, steps, width))
    x = x + by.dot(mixed, weights(width, width))
    y = _normalised(by, x) * weights(width) + weights(width)
    x = x + by.dot(by.maximum(by.dot(y, weights(width, 4 * width)) + weights(4 * width), 0.0), weights(4 * width, width))
    return training(by, inputs, by.dot(by.mean(x, axis=1), weights(width, CLASSES)), weights, _values(batch, steps, width))


def _normalised(by: Any, x: Any) -> Any:
    mean = by.mean(x, axis=-1, keepdims=True)
    variance = by.mean(by.pow(x - mean, 2), axis=-1, keepdims=True)
    return (x - mean) / by.sqrt(variance + 1e-5)


def _by_head(by: Any, x: Any, steps: int, heads: int, units: int) -> Any:
    apart = by.permute_dimensions(by.reshape(x, (-1, steps, heads, units)), (0, 2, 1, 3))
    return by.reshape(apart, (-1, steps, units))


MODELS: dict[str, Callable[..., Model]] = {
    "MLP": mlp, "conv net": conv_net, "LSTM, 10 steps unrolled": lstm, "transformer block": transformer,
}  # fmt: skip

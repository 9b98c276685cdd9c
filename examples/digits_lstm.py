"""Reads handwritten digits row by row, from the top, with an LSTM.

    python examples/digits_lstm.py --epochs 30

Prints the accuracy on the images that it trained on, and on a third of them that it never saw. Needs nothing but kgraph.
"""

from __future__ import annotations

from typing import Any

from training import CLASSES, bias, dense, functions, options, run, weight

from kgraph import backend as K


def lstm(x: Any, units: int, weights: list) -> Any:
    """The last output of an LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Args:
      x: [samples, time, inputs].
    """
    inputs = K.int_shape(x)[-1]
    w = weight((inputs, 4 * units), 2 * inputs, "lstm_W", weights)
    u = weight((units, 4 * units), 2 * units, "lstm_U", weights)
    b = bias(4 * units, "lstm_b", weights)

    def step(x_t: Any, states: list) -> tuple[Any, list]:
        h, c = states
        gates = K.dot(x_t, w) + K.dot(h, u) + b
        keep, write, read = (K.sigmoid(gates[:, i * units : (i + 1) * units]) for i in range(3))
        c = keep * c + write * K.tanh(gates[:, 3 * units :])
        h = read * K.tanh(c)
        return h, [h, c]

    nothing = K.zeros_like(K.dot(x[:, 0], w)[:, :units])
    last, _, _ = K.rnn(step, x, [nothing, nothing])
    return last


def build(hidden: int, dropout: float, engine: str) -> tuple[Any, Any]:
    """The functions: train(images, labels) -> loss, and test(images, labels) -> loss, accuracy."""
    rows = K.placeholder(shape=(None, 8, 8), name="rows")
    weights: list = []
    features = lstm(rows, hidden, weights)
    features = K.in_train_phase(K.dropout(features, dropout), features)
    predicted = K.softmax(dense(features, CLASSES, "output", weights))
    return functions(rows, predicted, weights, engine)


if __name__ == "__main__":
    run(options("Reads handwritten digits row by row with an LSTM.", epochs=30, hidden=64, dropout=0.2), build, (8, 8))

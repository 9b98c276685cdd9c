"""Looks at handwritten digits with two convolutions.

    python examples/digits_conv.py --epochs 30

Prints the accuracy on the images that it trained on, and on a third of them that it never saw. Needs nothing but kgraph.
"""

from __future__ import annotations

from typing import Any

from training import CLASSES, bias, dense, functions, options, run, weight

from kgraph import backend as K


def convolution(x: Any, filters: int, name: str, weights: list) -> Any:
    """A convolution by kernels of 3 x 3, relu, and the maximum of each 2 x 2. x is [samples, channels, rows, columns]."""
    channels = K.int_shape(x)[1]
    kernel = weight((filters, channels, 3, 3), 9 * channels, f"{name}_W", weights)
    y = K.conv2d(x, kernel, border_mode="same", dim_ordering="th")
    y = K.relu(K.bias_add(y, bias(filters, f"{name}_b", weights), dim_ordering="th"))
    return K.pool2d(y, (2, 2), strides=(2, 2), dim_ordering="th")


def build(hidden: int, dropout: float, engine: str) -> tuple[Any, Any]:
    """The functions: train(images, labels) -> loss, and test(images, labels) -> loss, accuracy."""
    images = K.placeholder(shape=(None, 1, 8, 8), name="images")
    weights: list = []
    features = convolution(images, hidden // 2, "first", weights)
    features = K.batch_flatten(convolution(features, hidden, "second", weights))
    features = K.in_train_phase(K.dropout(features, dropout), features)
    predicted = K.softmax(dense(features, CLASSES, "output", weights))
    return functions(images, predicted, weights, engine)


if __name__ == "__main__":
    run(options("Looks at handwritten digits with two convolutions.", epochs=30, hidden=32, dropout=0.25), build, (1, 8, 8))

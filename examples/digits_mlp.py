"""Trains a network of two layers on real handwritten digits, with K functions alone.

    python examples/digits_mlp.py --epochs 60 --dropout 0.5 --batch 32

Prints the accuracy on the images that it trained on, and on a third of them that it never saw. Needs nothing but kgraph.
"""

from __future__ import annotations

from typing import Any

from training import CLASSES, dense, functions, options, run

from kgraph import backend as K


def build(hidden: int, dropout: float, engine: str) -> tuple[Any, Any]:
    """The functions: train(images, labels) -> loss, and test(images, labels) -> loss, accuracy."""
    images = K.placeholder(shape=(None, 64), name="images")
    weights: list = []
    features = K.relu(dense(images, hidden, "hidden", weights))
    features = K.in_train_phase(K.dropout(features, dropout), features)  # no dropout in the test program
    predicted = K.softmax(dense(features, CLASSES, "output", weights))
    return functions(images, predicted, weights, engine)


if __name__ == "__main__":
    run(options("Trains a network of two layers on real handwritten digits.", hidden=256, dropout=0.5), build)

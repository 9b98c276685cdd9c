"""Trains a network of two layers on real handwritten digits, with K functions alone.

    python examples/digits_mlp.py --epochs 60 --dropout 0.5 --batch 32

Prints the accuracy on the images that it trained on, and on a third of them that it never saw. Needs nothing but kgraph.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from kgraph import backend as K
from kgraph.errors import EngineError

CLASSES = 10


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [1797, 64] from 0 to 1, and digits as one-hot float32 [1797, 10], in an order that is always the same."""
    table = np.loadtxt(Path(__file__).parent / "data" / "digits.csv.gz", delimiter=",", dtype="float32")
    table = np.random.default_rng(0).permutation(table)
    return table[:, :64] / 16, np.eye(CLASSES, dtype="float32")[table[:, 64].astype(int)]


def dense(x, units: int, name: str, weights: list):
    """x W + b, its two variables added to weights. W is drawn as He et al. (2015) do for relu."""
    inputs = K.int_shape(x)[-1]
    w = K.random_normal_variable((inputs, units), 0.0, np.sqrt(2 / inputs), name=f"{name}_W")
    b = K.zeros((units,), name=f"{name}_b")
    weights += [w, b]
    return K.dot(x, w) + b


def adam(loss, weights: list, rate: float = 0.002, beta1: float = 0.9, beta2: float = 0.999) -> list:
    """The updates of one step of Adam: Kingma & Ba (2015), algorithm 1, in the order that their section 2 suggests."""
    steps = K.variable(0.0, name="steps")
    t = steps + 1.0
    rate_now = rate * K.sqrt(1.0 - K.pow(beta2, t)) / (1.0 - K.pow(beta1, t))
    updates = [K.update(steps, t)]
    for weight, gradient in zip(weights, K.gradients(loss, weights), strict=True):
        mean, square = (K.zeros(K.int_shape(weight), name=f"{weight.name}_{moment}") for moment in ("mean", "square"))
        new_mean = beta1 * mean + (1.0 - beta1) * gradient
        new_square = beta2 * square + (1.0 - beta2) * K.square(gradient)
        step = rate_now * new_mean / (K.sqrt(new_square) + K.epsilon())
        updates += [K.update(mean, new_mean), K.update(square, new_square), K.update(weight, weight - step)]
    return updates


def build(hidden: int, dropout: float, engine: str):
    """The functions: train(images, labels) -> loss, and test(images, labels) -> loss, accuracy."""
    images = K.placeholder(shape=(None, 64), name="images")
    labels = K.placeholder(shape=(None, CLASSES), name="labels")
    weights: list = []
    features = K.relu(dense(images, hidden, "hidden", weights))
    features = K.in_train_phase(K.dropout(features, dropout), features)  # no dropout in the test program
    predicted = K.softmax(dense(features, CLASSES, "output", weights))

    loss = K.mean(K.categorical_crossentropy(predicted, labels))
    right = K.equal(K.argmax(predicted), K.argmax(labels))
    train = K.function([images, labels], loss, updates=adam(loss, weights), engine=engine)
    test = K.function([images, labels], [loss, K.mean(right)], engine=engine)
    return train, test


def show(done: int, of: int, text: str) -> None:
    """A bar that stays on its line; ten lines in all where the output is no terminal."""
    if sys.stdout.isatty():
        print(f"\r[{'#' * (30 * done // of):<30}] {done}/{of}  {text}", end="\n" if done == of else "", flush=True)
    elif done % max(1, of // 10) == 0 or done == of:
        print(f"epoch {done}/{of}  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a network of two layers on real handwritten digits.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--engine", default="numpy", help="which engine computes")
    parser.add_argument("--epochs", type=int, default=60, help="how often every image is trained on")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--hidden", type=int, default=256, help="units of the hidden layer")
    parser.add_argument("--dropout", type=float, default=0.5, help="share of the hidden units dropped while training")
    args = parser.parse_args()

    K.set_seed(0)  # of the first weights and the dropout masks
    rng = np.random.default_rng(0)
    images, labels = load_digits()
    held_out, training = slice(0, len(images) // 3), slice(len(images) // 3, None)
    images_train, labels_train = images[training], labels[training]
    train, test = build(args.hidden, args.dropout, args.engine)

    began = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        order = rng.permutation(len(images_train))
        losses = []
        for start in range(0, len(order), args.batch):
            batch = order[start : start + args.batch]
            losses.append(train([images_train[batch], labels_train[batch]], training=True))
        show(epoch, args.epochs, f"loss {np.mean(losses):.4f}")
    seconds = time.perf_counter() - began

    for name, part in (("train", training), ("held-out", held_out)):
        loss, accuracy = test([images[part], labels[part]])
        print(f"{name:<8}  {100 * accuracy:5.1f} %  of {len(images[part])} images, loss {loss:.4f}")
    print(f"{seconds:.1f} s on {train.engine.name}")


if __name__ == "__main__":
    try:
        main()
    except EngineError as error:  # unknown, not installed, or without its compiler
        sys.exit(f"{error.message}: {error.hint}")

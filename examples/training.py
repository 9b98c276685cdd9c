"""What the digits examples share: the images, a dense layer, Adam, and a loop that trains and shows how far it is."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kgraph import backend as K
from kgraph.errors import EngineError

CLASSES = 10


def load_digits(shape: Sequence[int] = (64,)) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [1797, *shape] from 0 to 1, digits as one-hot float32 [1797, 10]; in an order that is always the same."""
    table = np.loadtxt(Path(__file__).parent / "data" / "digits.csv.gz", delimiter=",", dtype="float32")
    table = np.random.default_rng(0).permutation(table)
    return (table[:, :64] / 16).reshape(-1, *shape), np.eye(CLASSES, dtype="float32")[table[:, 64].astype(int)]


def weight(shape: Sequence[int], inputs: int, name: str, weights: list) -> Any:
    """A new variable, added to weights. It is drawn as He et al. (2015) do for relu: inputs is what each sum is over."""
    made = K.random_normal_variable(shape, 0.0, np.sqrt(2 / inputs), name=name)
    weights.append(made)
    return made


def bias(units: int, name: str, weights: list) -> Any:
    """A new variable of zeros, added to weights."""
    made = K.zeros((units,), name=name)
    weights.append(made)
    return made


def dense(x: Any, units: int, name: str, weights: list) -> Any:
    """x W + b, its two variables added to weights."""
    inputs = K.int_shape(x)[-1]
    return K.dot(x, weight((inputs, units), inputs, f"{name}_W", weights)) + bias(units, f"{name}_b", weights)


def adam(loss: Any, weights: list, rate: float = 0.002, beta1: float = 0.9, beta2: float = 0.999) -> list:
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


def functions(images: Any, predicted: Any, weights: list, engine: str) -> tuple[Any, Any]:
    """train(images, labels) -> loss, and test(images, labels) -> loss, accuracy, of a network that predicts probabilities."""
    labels = K.placeholder(shape=(None, CLASSES), name="labels")
    loss = K.mean(K.categorical_crossentropy(predicted, labels))
    right = K.equal(K.argmax(predicted), K.argmax(labels))
    train = K.function([images, labels], loss, updates=adam(loss, weights), engine=engine)
    test = K.function([images, labels], [loss, K.mean(right)], engine=engine)
    return train, test


def options(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options of every example; defaults give another number of epochs, say."""
    parser = argparse.ArgumentParser(description=description)
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--engine", default="numpy", help="which engine computes")
    parser.add_argument("--epochs", type=int, default=60, help="how often every image is trained on")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--hidden", type=int, help="units of the hidden layer")
    parser.add_argument("--dropout", type=float, help="share of the hidden units dropped while training")
    parser.set_defaults(**defaults)
    return parser


def show(done: int, of: int, text: str) -> None:
    """A bar that stays on its line; ten lines in all where the output is no terminal."""
    if sys.stdout.isatty():
        print(f"\r[{'#' * (30 * done // of):<30}] {done}/{of}  {text}", end="\n" if done == of else "", flush=True)
    elif done % max(1, of // 10) == 0 or done == of:
        print(f"epoch {done}/{of}  {text}", flush=True)


def run(parser: argparse.ArgumentParser, build: Callable[..., tuple[Any, Any]], shape: Sequence[int] = (64,)) -> None:
    """Train the network that build(hidden, dropout, engine) makes on two thirds of the images; print how good it is."""
    args = parser.parse_args()
    try:
        _run(args, build, shape)
    except EngineError as error:  # unknown, not installed, or without its compiler
        sys.exit(f"{error.message}: {error.hint}")


def _run(args: argparse.Namespace, build: Callable[..., tuple[Any, Any]], shape: Sequence[int]) -> None:
    K.set_seed(0)  # of the first weights and the dropout masks
    rng = np.random.default_rng(0)
    images, labels = load_digits(shape)
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

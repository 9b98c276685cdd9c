"""What a call costs beyond the computation: kgraph beside the same written by hand for its engine, by turns in one run.

    python -m benchmarks.call [--engine numpy] [--rounds 60] [--json]

First a function so small that little but the call is left: two inputs, one output, six updated variables. Then the training
step of examples/digits_mlp.py. Both sides are made sure to give the same losses before they are timed.

What is written by hand for an engine other than NumPy is in ``benchmarks/hand_<engine>.py``: `MOST_MICROSECONDS`, the target;
`small_by_hand` and `ByHand` as here.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.timing import Spread, by_turns, differences, ratios, table, verdict
from kgraph import backend as K

MOST_MICROSECONDS, MOST_RATIO = 5.0, 1.1

# ---------------------------------------------------------------------------------------------------- a small function

SMALL = 4  # elements
UPDATED = 6  # variables


def small_function(engine: str) -> Any:
    """Two inputs, one output, six updated variables."""
    x, y = K.placeholder((SMALL,), name="x"), K.placeholder((SMALL,), name="y")
    variables = [K.zeros((SMALL,), name=f"v{i}") for i in range(UPDATED)]
    product = x * y
    return K.function([x, y], product, updates=[K.update(v, v + product) for v in variables], engine=engine)


def small_by_hand() -> Callable[[Any, Any], Any]:
    """The same in NumPy. The variables are replaced, not written over, so that whoever read one keeps what was read."""
    a, b, c, d, e, f = (np.zeros(SMALL, "float32") for _ in range(UPDATED))

    def step(x: Any, y: Any) -> Any:
        nonlocal a, b, c, d, e, f
        product = x * y
        a, b, c, d, e, f = a + product, b + product, c + product, d + product, e + product, f + product
        return product

    return step


# ---------------------------------------------------------------------------------------------------- the digits


class ByHand:
    """The network and the training step of examples/digits_mlp.py, in NumPy.

    The same mathematics: He's first weights are given, dropout scales what it keeps, the cross-entropy of the softmax is held
    within [log epsilon, log(1 - epsilon)] with gradient zero beyond, Adam updates in place.
    """

    rate, beta1, beta2 = 0.002, 0.9, 0.999

    def __init__(self, weights: list[np.ndarray], dropout: float):
        self.weights = [weight.copy() for weight in weights]
        self.moments = [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
        self.dropout, self.steps = dropout, 0
        self.random = np.random.default_rng(0)
        self.epsilon = K.epsilon()
        number = weights[0].dtype.type
        self.bounds = number(math.log(self.epsilon)), number(math.log1p(-self.epsilon))
        self.scale = number(1 / (1 - dropout))

    def step(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The loss of a batch; the weights are moved against its gradient."""
        w1, b1, w2, b2 = self.weights
        features = images @ w1
        features += b1
        np.maximum(features, 0, out=features)
        if self.dropout:
            keep = (self.random.random(features.shape, dtype="float32") >= self.dropout) * self.scale
            features *= keep
        logits = features @ w2
        logits += b2

        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        logits -= np.log(total)  # log p
        low, high = self.bounds
        within = (logits >= low) & (logits <= high)
        np.clip(logits, low, high, out=logits)
        loss = -(labels * logits).sum(axis=1).mean()

        held = labels * within
        p *= held.sum(axis=1, keepdims=True)
        p -= held
        p /= len(images)
        g = p @ w2.T
        if self.dropout:
            g *= keep
        g *= features > 0
        self.adam([images.T @ g, g.sum(axis=0), features.T @ p, p.sum(axis=0)])
        return loss

    def adam(self, gradients: list[np.ndarray]) -> None:
        """Kingma & Ba (2015), algorithm 1, in the order that their section 2 suggests. Overwrites the gradients."""
        self.steps += 1
        rate = self.rate * math.sqrt(1 - self.beta2**self.steps) / (1 - self.beta1**self.steps)
        for weight, (mean, square), g in zip(self.weights, self.moments, gradients, strict=True):
            mean *= self.beta1
            mean += (1 - self.beta1) * g
            square *= self.beta2
            g *= g
            g *= 1 - self.beta2
            square += g
            np.sqrt(square, out=g)
            g += self.epsilon
            np.divide(mean, g, out=g)
            g *= rate
            weight -= g


def example() -> Any:
    """What makes the example's functions, and what loads its data."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))  # where it finds what the examples share
    build, load = importlib.import_module("digits_mlp").build, importlib.import_module("training").load_digits
    return SimpleNamespace(build=build, load_digits=load)


HIDDEN = 128


class Digits:
    """Both sides of the digits step, from the same first weights, over the same batches."""

    def __init__(self, digits: Any, engine: str, batch: int, dropout: float, dtype: str = "float32"):
        np.random.seed(0)  # noqa: NPY002  # what K draws the first weights and the seed of the mask from
        images, labels = (array.astype(dtype) for array in digits.load_digits())
        self.batches = [
            (images[i : i + batch].copy(), labels[i : i + batch].copy()) for i in range(0, len(images) - batch + 1, batch)
        ]
        floatx = K.floatx()
        K.set_floatx(dtype)
        try:
            self.train, _ = digits.build(HIDDEN, dropout, engine)
        finally:
            K.set_floatx(floatx)
        variables = {variable.name: variable.attr("uid") for variable, _ in self.train.graph.updates}
        first = [variables[name].get() for name in ("hidden_W", "hidden_b", "output_W", "output_b")]
        self.dropout = dropout
        self.hand = hand_for(engine).ByHand(first, dropout)

    def by_kgraph(self, steps: int) -> list[float]:
        train = self.train
        return [float(train([x, y], training=True)) for x, y in itertools.islice(itertools.cycle(self.batches), steps)]

    def by_hand(self, steps: int) -> list[float]:
        step = self.hand.step
        return [float(step(x, y)) for x, y in itertools.islice(itertools.cycle(self.batches), steps)]

    def check(self) -> float:
        """How far the losses of the two sides are apart. Raises AssertionError where they are not the same."""
        if not self.dropout:
            ours, theirs = np.array(self.by_kgraph(20)), np.array(self.by_hand(20))
            apart = float(np.abs(ours - theirs).max())
            assert apart <= 1e-6 * max(1.0, theirs.max()), f"the losses of 20 steps are up to {apart:.1e} apart"
            return apart
        # The masks differ: so do single losses. Each epoch's mean is of the same distribution.
        epochs = 6
        ours, theirs = (np.array(side(epochs * len(self.batches))) for side in (self.by_kgraph, self.by_hand))
        ours, theirs = (losses.reshape(epochs, -1).mean(axis=1) for losses in (ours, theirs))
        apart = float(np.abs(ours / theirs - 1).max())
        assert apart <= 0.1, f"the mean losses of {epochs} epochs are up to {apart:.0%} apart: {ours} and {theirs}"
        return apart


# ---------------------------------------------------------------------------------------------------- running


def hand_for(engine: str) -> Any:
    """The module with what is written by hand for an engine."""
    return importlib.import_module(__name__ if engine == "numpy" else f"benchmarks.hand_{engine}")


def measure_small(engine: str, rounds: int) -> tuple[Spread, Spread]:
    """Microseconds of the call by hand, and how many more kgraph takes."""
    ours, hand = small_function(engine), hand_for(engine).small_by_hand()
    x, y = np.ones(SMALL, "float32"), np.full(SMALL, 0.5, "float32")
    for _ in range(100):
        np.testing.assert_array_equal(ours(x, y), hand(x, y))
    number = 2000

    def run(function: Callable[[Any, Any], Any]) -> Callable[[], None]:
        def repeat() -> None:
            for _ in range(number):
                function(x, y)

        return repeat

    times, others = by_turns(run(ours), run(hand), rounds)
    return Spread([t / number * 1e6 for t in others]), differences(times, others, number)


def measure_digits(digits: Any, engine: str, batch: int, dropout: float, rounds: int) -> dict[str, Any]:
    """The times of the digits step on both sides, and their ratio."""
    both = Digits(digits, engine, batch, dropout)
    # Without dropout in float64: in float32 Adam takes the rounding of the smallest gradients up to whole steps.
    apart = both.check() if dropout else Digits(digits, engine, batch, dropout, "float64").check()
    steps = 60 if batch <= 32 else 30
    times, others = by_turns(lambda: both.by_kgraph(steps), lambda: both.by_hand(steps), rounds)
    return {
        "batch": batch,
        "dropout": dropout,
        "apart": apart,
        "kgraph": Spread([t / steps * 1e6 for t in times]),
        "by_hand": Spread([t / steps * 1e6 for t in others]),
        "ratio": ratios(times, others),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="numpy", help="the engine, on both sides")
    parser.add_argument("--rounds", type=int, default=60, help="of both sides by turns")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    by_hand, overhead = measure_small(args.engine, args.rounds)
    digits = example()
    found = [measure_digits(digits, args.engine, batch, dropout, args.rounds) for batch in (32, 128) for dropout in (0.0, 0.2)]
    if args.json:
        figures = {"small": {"by_hand": by_hand, "overhead": overhead}, "digits": found}
        print(json.dumps(figures, default=lambda spread: spread.as_json(), indent=1))
        return
    print(f"two inputs, one output, {UPDATED} updated variables of {SMALL} elements: {by_hand:.2f} microseconds by hand")
    most = hand_for(args.engine).MOST_MICROSECONDS
    print(f"  kgraph takes {overhead:.2f} more, target {most}: {verdict(overhead.median, most)}\n")
    heads = ("digits step", "kgraph, us", "by hand, us", "ratio", f"target {MOST_RATIO}", "losses apart")
    rows = [
        [
            f"batch {row['batch']}, dropout {row['dropout']}",
            f"{row['kgraph'].median:.0f}",
            f"{row['by_hand'].median:.0f}",
            f"{row['ratio']:.3f}",
            verdict(row["ratio"].median, MOST_RATIO),
            f"{row['apart']:.1e}",
        ]
        for row in found
    ]
    print(table(heads, rows))


if __name__ == "__main__":
    main()

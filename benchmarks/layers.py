"""What layers cost, forward and backward: kgraph beside the same written by hand for its engine, by turns in one run; and the
memory that the gradient of a loop takes.

    python -m benchmarks.layers [--engine numpy] [--only lstm] [--rounds 40] [--json]

Both sides give the same arrays before they are timed; timed, each gives the sums of its results alone, so that handing arrays
over does not count. With NumPy, where TensorFlow is installed, its convolution is timed beside TensorFlow's too.

What is written by hand for an engine is in ``benchmarks/hand_layers_<engine>.py``: for each name in `LAYERS` a function
``(layer, values, sums) -> call``.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import memory
from benchmarks.timing import Spread, by_turns, ratios, table, verdict
from kgraph import backend as K

MOST_RATIO = 1.1
#: How many times as long NumPy's convolution may take as TensorFlow's: at least 30 % of its speed.
MOST_OF_TENSORFLOW = 1 / 0.3

Call = Callable[..., Sequence[Any]]


class Layer(NamedTuple):
    """A layer to be timed.

    Args:
      kind: which function makes it: a name in `LAYERS`.
      back: with the gradients with respect to its operands.
      how: what the function needs to know besides.
    """

    kind: str
    back: bool
    how: Mapping[str, Any]

    def __str__(self) -> str:
        how = ", ".join(f"{name} {value}" for name, value in self.how.items())
        return f"{self.kind}, {'forward and back' if self.back else 'forward'}: {how}".replace("'", "")


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


# ---------------------------------------------------------------------------------------------------- by kgraph


def ordering(engine: str) -> str:
    """The layout that a program for the engine is written in."""
    return "th" if engine == "theano" else "tf"


def laid_out(x: np.ndarray, engine: str) -> np.ndarray:
    """[batch, rows, columns, channels] in the layout of the engine."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if ordering(engine) == "th" else x


def image(how: Mapping[str, Any]) -> np.ndarray:
    return floats(*how["image"])


def kernel(how: Mapping[str, Any]) -> np.ndarray:
    taps, channels = how["kernel"], how["image"][-1]
    return floats(taps, taps, channels, how["filters"], seed=1)


def conv(layer: Layer, engine: str, sums: bool) -> tuple[Call, list[np.ndarray]]:
    """A convolution, and the values that it is called with."""
    how, name = layer.how, ordering(engine)
    x, w = laid_out(image(how), engine), kernel(how)
    if name == "th":
        w = np.ascontiguousarray(w.transpose(3, 2, 0, 1))
    a, b = K.placeholder(x.shape), K.placeholder(w.shape)
    out = K.conv2d(a, b, (how["stride"],) * 2, how["border"], name)
    return _function(layer, engine, sums, out, [a, b]), [x, w]


def pool(layer: Layer, engine: str, sums: bool) -> tuple[Call, list[np.ndarray]]:
    """A pooling, and the values that it is called with."""
    how = layer.how
    x = laid_out(image(how), engine)
    a = K.placeholder(x.shape)
    out = K.pool2d(a, (how["size"],) * 2, (how["stride"],) * 2, "valid", ordering(engine), how["mode"])
    return _function(layer, engine, sums, out, [a]), [x]


def weights(how: Mapping[str, Any]) -> list[np.ndarray]:
    """Of an LSTM: of the input, of the state, and the bias; the gates forget, write, read, candidate side by side."""
    features, units = how["features"], how["units"]
    return [0.1 * floats(*shape, seed=i) for i, shape in enumerate(((features, 4 * units), (units, 4 * units), (4 * units,)))]


def lstm(layer: Layer, engine: str, sums: bool) -> tuple[Call, list[np.ndarray]]:
    """All outputs of an LSTM, and the values that it is called with."""
    how = layer.how
    units = how["units"]
    values = [floats(how["batch"], how["steps"], how["features"]), *weights(how)]
    x, w, u, b = operands = [K.placeholder(value.shape) for value in values]

    def step(projected: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        h, c = states
        gates = projected + K.dot(h, u)
        forget, write, read = (K.sigmoid(gates[:, i * units : (i + 1) * units]) for i in range(3))
        c = forget * c + write * K.tanh(gates[:, 3 * units :])
        h = read * K.tanh(c)
        return h, [h, c]

    nothing = K.zeros((how["batch"], units))
    _, out, _ = K.rnn(step, K.dot(x, w) + b, [nothing, nothing])
    return _function(layer, engine, sums, out, operands, wrt=operands[1:]), values


def _function(
    layer: Layer, engine: str, sums: bool, out: Any, operands: list[Any], wrt: list[Any] | None = None
) -> Call:  # fmt: skip
    found = [out]
    if layer.back:
        found = K.gradients(K.sum(K.square(out)), operands if wrt is None else wrt)
    return K.function(operands, [K.sum(x) for x in found] if sums else found, engine=engine)  # type: ignore[no-any-return]


#: Name -> how kgraph makes the layer.
LAYERS: dict[str, Callable[[Layer, str, bool], tuple[Call, list[np.ndarray]]]] = {
    "conv": conv, "pool": pool, "lstm": lstm,
}  # fmt: skip

_IMAGE = {"image": (32, 28, 28, 16)}
_SERIES = {"batch": 32, "steps": 50, "features": 128}
TIMED = [
    Layer(kind, back, {**(_SERIES if kind == "lstm" else _IMAGE), **how})
    for kind, how in (
        ("conv", {"kernel": 3, "filters": 32, "stride": 1, "border": "same"}),
        ("conv", {"kernel": 3, "filters": 32, "stride": 2, "border": "valid"}),
        ("conv", {"kernel": 1, "filters": 32, "stride": 1, "border": "valid"}),
        ("pool", {"size": 2, "stride": 2, "mode": "max"}),
        ("pool", {"size": 2, "stride": 2, "mode": "avg"}),
        ("lstm", {"units": 128}),
    )
    for back in (False, True)
]

# ---------------------------------------------------------------------------------------------------- running


def hand_for(engine: str) -> Any:
    """The module with what is written by hand for an engine."""
    return importlib.import_module(f"benchmarks.hand_layers_{engine}")


def sides(layer: Layer, engine: str, hand: str, sums: bool) -> tuple[Call, Call, list[np.ndarray]]:
    """kgraph's call, the one by hand, and what both are called with."""
    ours, values = LAYERS[layer.kind](layer, engine, sums)
    return ours, getattr(hand_for(hand), layer.kind)(layer, values, sums), values


def measure(layer: Layer, engine: str, hand: str, rounds: int) -> dict[str, Any]:
    """The times of both sides, in microseconds, and their ratio. Raises AssertionError if they do not agree."""
    ours, theirs, values = sides(layer, engine, hand, sums=False)
    for a, b in zip(ours(*values), theirs(*values), strict=True):
        scale = float(np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * scale)
    ours, theirs, values = sides(layer, engine, hand, sums=True)
    for _ in range(3):
        ours(*values), theirs(*values)
    times, others = by_turns(lambda: ours(*values), lambda: theirs(*values), rounds)
    return {
        "layer": str(layer),
        "kgraph": Spread([t * 1e6 for t in times]),
        "by_hand": Spread([t * 1e6 for t in others]),
        "ratio": ratios(times, others),
    }


def shown(rows: list[dict[str, Any]], other: str, most: float) -> str:
    heads = ("layer", "kgraph, us", f"{other}, us", "ratio", f"target {most:.2g}")
    lines = [
        [row["layer"], f"{row['kgraph'].median:.0f}", f"{row['by_hand'].median:.0f}", f"{row['ratio']:.3f}",
         verdict(row["ratio"].median, most)]
        for row in rows
    ]  # fmt: skip
    return table(heads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="numpy", help="the engine, on both sides")
    parser.add_argument("--only", choices=[*LAYERS, "memory"], help="layers of one kind, or the memory of a loop")
    parser.add_argument("--rounds", type=int, default=40, help="of both sides by turns")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    layers = [layer for layer in TIMED if args.only in (None, layer.kind)]
    found = [measure(layer, args.engine, args.engine, args.rounds) for layer in layers]
    beside = []
    if args.engine == "numpy" and importlib.util.find_spec("tensorflow"):
        beside = [measure(layer, "numpy", "tensorflow", args.rounds) for layer in layers if layer.kind == "conv"]
    peaks = memory.in_processes(args.engine) if args.only in (None, "memory") else []
    if args.json:
        rows = {"layers": found, "tensorflow": beside, "bytes": dict(zip(memory.STEPS, peaks, strict=False))}
        print(json.dumps(rows, default=lambda spread: spread.as_json(), indent=1))
        return
    parts = [shown(found, "by hand", MOST_RATIO)] if found else []
    parts += [shown(beside, "TensorFlow", MOST_OF_TENSORFLOW)] if beside else []
    parts += [memory.shown(peaks)] if peaks else []
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()

"""What building a graph costs: time and memory a node, from a thousand nodes to a million, beside TensorFlow's graph.

    python -m benchmarks.build [--sizes 1000 10000 100000 1000000] [--json]

Prints microseconds per node for building, for the gradient, for the passes and for compiling, memory per node, the share of the
garbage collector, and the time of dropping the graph. TensorFlow, where it is installed, builds the same graph by turns with
kgraph.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import Collector, Spread, in_a_fork, ratios, resident, seconds, table, timed, verdict
from kgraph import backend as K
from kgraph import cache
from kgraph.ir.node import Graph
from kgraph.ir.passes import run_pipeline
from kgraph.ir.traverse import toposort
from kgraph.lower import emit

SIZES = (1_000, 10_000, 100_000, 1_000_000)

#: TensorFlow is not asked for more nodes than this: it takes minutes and gigabytes for a million.
TENSORFLOW_MOST = 20_000

MOST_OF_TENSORFLOW, MOST_BYTES, MOST_GROWTH, MOST_OF_BUILDING = 0.1, 1500, 1.25, 4.0

UNITS = 8  # of the layers, and the size of the vectors


class KGraph:
    """What the programs below are written with, by kgraph."""

    def __init__(self) -> None:
        self.tanh, self.sigmoid, self.relu, self.dot, self.maximum = K.tanh, K.sigmoid, K.relu, K.dot, K.maximum
        self.x = K.placeholder((None, UNITS))
        self.w, self.b = K.variable(np.eye(UNITS)), K.zeros((UNITS,))

    def gradient(self, y: Any) -> Any:
        return K.gradients(K.sum(y), [self.x])

    def function(self, y: Any) -> Callable[[Any], Any]:
        return K.function([self.x], [y], engine="numpy")

    def close(self) -> None:
        pass


class TensorFlow:
    """The same, by TensorFlow's graph."""

    def __init__(self) -> None:
        import tensorflow as tf

        self.tf = tf
        self.tanh, self.sigmoid, self.relu = tf.math.tanh, tf.math.sigmoid, tf.nn.relu
        self.dot, self.maximum = tf.linalg.matmul, tf.math.maximum
        self._graph = tf.Graph()
        self._inside = self._graph.as_default()
        self._inside.__enter__()
        self.x = tf.compat.v1.placeholder(tf.float32, (None, UNITS))
        w = tf.compat.v1.get_variable("w", initializer=np.eye(UNITS, dtype="float32"), use_resource=True)
        b = tf.compat.v1.get_variable("b", initializer=np.zeros(UNITS, "float32"), use_resource=True)
        self.w, self.b = w.read_value(), b.read_value()  # read once, not at every use

    def gradient(self, y: Any) -> Any:
        return self.tf.gradients(self.tf.reduce_sum(y), [self.x])

    def function(self, y: Any) -> Callable[[Any], Any]:
        session = self.tf.compat.v1.Session()
        session.run(self.tf.compat.v1.global_variables_initializer())
        call = session.make_callable([y], [self.x])
        return lambda values: call(*values)

    def close(self) -> None:
        self._inside.__exit__(None, None, None)


# ---------------------------------------------------------------------------------------------------- three graphs


def chain(by: Any, count: int) -> Any:
    """tanh of tanh of tanh ..."""
    x, tanh = by.x, by.tanh
    for _ in range(count):
        x = tanh(x)
    return x


def layers(by: Any, count: int) -> Any:
    """Dense layers of seven nodes each, with what they were given mixed in: functions, and operators with scalars."""
    x, w, b = by.x, by.w, by.b
    for _ in range(count // 7):
        h = by.relu(by.dot(x, w) + b)
        x = by.tanh(0.5 * h + x * 0.9)
    for _ in range(count % 7):
        x = by.tanh(x)
    return x


def wide(by: Any, count: int) -> Any:
    """A random graph up to 1000 values wide: each node uses the oldest value that none has used, and a random one."""
    steps = _random_steps(count)
    width = min(1000, count // 10)
    values = [by.x * (1.0 + i / width) for i in range(width)]
    tanh, sigmoid, maximum = by.tanh, by.sigmoid, by.maximum
    for i, (kind, back) in enumerate(steps):
        a, b = values[i], values[back]
        if kind == 0:
            values.append(tanh(a))
        elif kind == 1:
            values.append(sigmoid(a))
        elif kind == 2:
            values.append(a - b)
        elif kind == 3:
            values.append(a * b)
        else:
            values.append(maximum(a, b))
    total = values[-width]
    for value in values[1 - width :]:
        total = total + value
    return total


_steps: dict[int, list[tuple[int, int]]] = {}


def _random_steps(count: int) -> list[tuple[int, int]]:
    """Per node in the middle of the graph: its op, and the number of its second operand. Drawn before the clock runs."""
    if count not in _steps:
        width = min(1000, count // 10)
        draw = np.random.default_rng(count)
        number = np.arange(count - 2 * width + 1)
        second = number + draw.integers(width, size=len(number))
        _steps[count] = list(zip(draw.integers(5, size=len(number)).tolist(), second.tolist(), strict=True))
    return _steps[count]


GRAPHS = {"chain": chain, "layers": layers, "wide": wide}

# ---------------------------------------------------------------------------------------------------- measuring


def bytes_per_node(graph: Callable[..., Any], size: int) -> float:
    """Resident memory that a graph adds to a process, a node."""

    def measure() -> float:
        by = KGraph()
        graph(by, 1000)  # what the first nodes load is not the graph's
        _random_steps(size)
        gc.collect()
        before = resident()
        kept = graph(by, size)
        gc.collect()
        added = resident() - before
        del kept
        return added / size

    return in_a_fork(measure)


def whole(make: Callable[[], Any], graph: Callable[..., Any], size: int) -> dict[str, float]:
    """One graph built, differentiated, compiled, called and dropped: seconds of each, and of the collector while building."""
    cache.clear()
    emit._compiled.cache_clear()
    _random_steps(size)
    times: dict[str, float] = {}
    by = make()
    value = np.full((2, UNITS), 0.5, "float32")
    try:
        with Collector() as collector, timed(times, "build"):
            y = graph(by, size)
        times["collector"] = collector.seconds
        if make is KGraph:
            forward = len(toposort([y.node]))
        gc.collect()
        with timed(times, "gradient"):
            gradient = by.gradient(y)
        if make is KGraph:
            times["gradient_nodes"] = len(toposort([gradient[0].node])) - forward
        del gradient
        gc.collect()
        if make is KGraph:
            with timed(times, "optimise"):
                run_pipeline(Graph([by.x.node], [y.node]), 0)
            gc.collect()
        with timed(times, "first"):
            call = by.function(y)
            call([value])
        with timed(times, "call"):
            call([value])
        del call
        gc.collect()
        with timed(times, "drop"):
            del y
    finally:
        by.close()
    return times


def build_once(make: Callable[[], Any], graph: Callable[..., Any], size: int) -> float:
    """Seconds of building alone."""
    by = make()
    try:
        gc.collect()
        return seconds(lambda: graph(by, size))
    finally:
        by.close()


def rounds_of(size: int, most: int = 200_000) -> int:
    return max(1, min(9, most // size))


def measure(name: str, size: int, tensorflow: bool, memory: float) -> dict[str, Any]:
    """The figures of one graph of one size, in microseconds a node."""
    graph = GRAPHS[name]
    runs = []
    build, other = [], []
    with_tensorflow = tensorflow and size <= TENSORFLOW_MOST
    for _ in range(rounds_of(size)):
        runs.append(whole(KGraph, graph, size))
    for _ in range(rounds_of(size, 30_000) if with_tensorflow else 0):
        build.append(build_once(KGraph, graph, size))
        other.append(build_once(TensorFlow, graph, size))
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    found: dict[str, Any] = {"graph": name, "size": size, "bytes": memory}
    for key in ("build", "optimise", "first", "call", "drop"):
        found[key] = median[key] / size * 1e6
    found["passes"] = ratios([run["optimise"] for run in runs], [run["build"] for run in runs])
    found["gradient"] = median["gradient"] / median["gradient_nodes"] * 1e6
    found["gradient_nodes"] = median["gradient_nodes"]
    found["collector"] = median["collector"] / median["build"]
    found["compile"] = found["first"] - found["call"]
    if with_tensorflow:
        peer = whole(TensorFlow, graph, size)
        found["tensorflow"] = {
            "build": statistics.median(other) / size * 1e6,
            **{key: peer[key] / size * 1e6 for key in ("gradient", "first", "call")},
        }
        found["ratio"] = ratios(build, other)
    return found


def growth(name: str, small: int, large: int) -> Spread:
    """How many times as long a node takes in a large graph as in a small one; small ones come before, between and after."""
    graph = GRAPHS[name]
    before = [build_once(KGraph, graph, small) / small for _ in range(5)]
    found = []
    for _ in range(3):
        time = build_once(KGraph, graph, large) / large
        after = [build_once(KGraph, graph, small) / small for _ in range(5)]
        found.append(time / statistics.median(before + after))
        before = after
    return Spread(found)


# ---------------------------------------------------------------------------------------------------- printing


def _row(found: dict[str, Any]) -> list[str]:
    cells = [
        f"{found['graph']} {found['size']:,}",
        *(f"{found[key]:.2f}" for key in ("build", "gradient", "optimise", "compile", "call", "drop")),
        f"{100 * found['collector']:.0f} %",
        f"{found['bytes']:.0f}",
    ]
    peer = found.get("tensorflow")
    return cells + ([f"{peer['build']:.1f}", f"{found['ratio']:.3f}"] if peer else ["-", "-"])


HEADS = ("graph", "build", "gradient", "optimise", "compile", "call", "drop", "gc", "bytes", "TF build", "build / TF build")


def _has_tensorflow() -> bool:
    try:
        import tensorflow as tf
    except ImportError:
        return False
    return bool(tf.__version__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="nodes; 100 at least")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    sizes = sorted(args.sizes)
    if sizes[0] < 100:
        parser.error("a size is 100 at least")

    # Before TensorFlow starts its threads, which do not survive a fork.
    memory = {(name, size): bytes_per_node(GRAPHS[name], size) for size in sizes for name in GRAPHS}
    tensorflow = _has_tensorflow()
    found = [measure(name, size, tensorflow, memory[name, size]) for size in sizes for name in GRAPHS]
    small = min(10_000, sizes[-1])
    grown = {name: growth(name, small, sizes[-1]) for name in GRAPHS} if sizes[-1] > small else {}

    if args.json:
        print(json.dumps({"figures": found, "growth": grown}, default=lambda spread: spread.as_json(), indent=1))
        return
    print("Microseconds a node; of the gradient, a node that it adds. compile: the first call less a later one.\n")
    print(table(HEADS, [_row(row) for row in found]))
    print()
    compared = [row for row in found if "ratio" in row]
    if compared:
        worst = max(compared, key=lambda row: row["ratio"].median)
        print(f"building, of TensorFlow's time:  at most {worst['ratio'].median:.3f} ({worst['graph']} {worst['size']:,}), "
              f"target {MOST_OF_TENSORFLOW}: {verdict(worst['ratio'].median, MOST_OF_TENSORFLOW)}")  # fmt: skip
        if sizes[-1] > TENSORFLOW_MOST:
            print(f"  TensorFlow builds up to {TENSORFLOW_MOST:,} nodes here: more takes it minutes and gigabytes.")
    else:
        why = "no size is small enough" if tensorflow else "it is not installed"
        print(f"building, of TensorFlow's time:  not measured: {why}")
    for name, spread in grown.items():
        print(f"{name}: a node among {sizes[-1]:,} takes {spread:.2f} of one among {small:,}, "
              f"target {MOST_GROWTH}: {verdict(spread.median, MOST_GROWTH)}")  # fmt: skip
    slowest = max(found, key=lambda row: row["passes"].median)
    most = slowest["passes"].median
    print(f"optimising, of the time of building:  at most {most:.2f} ({slowest['graph']} {slowest['size']:,}), "
          f"target {MOST_OF_BUILDING}: {verdict(most, MOST_OF_BUILDING)}")  # fmt: skip
    heaviest = max((row["bytes"] for row in found if row["size"] >= 10_000), default=math.nan)
    print(f"memory:  at most {heaviest:.0f} bytes a node, target {MOST_BYTES}: {verdict(heaviest, MOST_BYTES)}")


if __name__ == "__main__":
    main()

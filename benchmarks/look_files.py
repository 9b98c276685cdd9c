"""What saving and loading a graph takes: time, bytes of the file, memory at most.

python -m benchmarks.look_files [--nodes 100000]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import kgraph
from benchmarks.timing import seconds
from kgraph import backend as K


def layers(nodes: int) -> Any:
    """A deep graph of about so many nodes: small layers, each with weights of its own and what came before added."""
    x = K.placeholder((None, 4), name="x")
    generator = np.random.default_rng(0)
    y = x
    for number in range(max(1, nodes // 8)):
        w = K.variable(generator.normal(size=(4, 4)), name=f"layer_{number}_W")
        y = y + K.tanh(K.dot(y, w) * 0.5 + K.exp(-y))
    return y


def chain(nodes: int) -> Any:
    """A chain of one op."""
    y = K.placeholder((), name="x")
    for _ in range(nodes):
        y = K.sin(y)
    return y


def _both(build: Callable[[int], Any]) -> Callable[[int], dict[str, float]]:
    def measure(nodes: int) -> dict[str, float]:
        graph = build(nodes)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "graph.safetensors")
            saving = seconds(lambda: kgraph.save(path, graph))
            held: list[Any] = []
            loading = seconds(lambda: held.append(kgraph.load(path)))
            held.clear()
            size = os.path.getsize(path)
            tracemalloc.start()
            kgraph.save(path, graph)
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return {"save, s": saving, "load, s": loading, "file, MB": size / 1e6, "memory of save, MB": most / 1e6}

    return measure


#: Name -> (nodes) -> figures.
LOOKS: dict[str, Callable[[int], dict[str, float]]] = {"files, layers": _both(layers), "files, chain": _both(chain)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100_000)
    args = parser.parse_args()
    for name, measure in LOOKS.items():
        figures = "  ".join(f"{what}: {figure:.3g}" for what, figure in measure(args.nodes).items())
        print(f"{name}, {args.nodes:,} nodes  {figures}")


if __name__ == "__main__":
    main()

"""What looking at a graph costs: seconds, and a node of a large graph beside one of a small graph.

    python -m benchmarks.look [--sizes 1000 10000 100000] [--only show to_networkx ...] [--json]

Each way of looking is timed on the graphs of `benchmarks.build`; building them is not counted. What is reported is the shortest
of some rounds: what takes longer was disturbed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

import kgraph
from benchmarks.build import GRAPHS, KGraph, rounds_of
from benchmarks.timing import seconds, table, verdict
from kgraph import backend as K
from kgraph.ir.tensor import Tensor

SIZES = (1_000, 10_000, 100_000)
MOST_GROWTH = 3.0  # times as long for a node; the garbage collector alone makes it 2


def through_a_file(fn: Any, back: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "graph.safetensors")
        kgraph.save(path, fn)
        if back:
            kgraph.load(path)


#: What is timed, of a function: its name -> it.
WAYS: dict[str, Callable[[Any], Any]] = {
    "show": kgraph.to_text,
    "show every line": lambda fn: kgraph.to_text(fn, lines=None, fold=False),
    "show a diff": lambda fn: kgraph.to_text(fn, diff=K.exp(Tensor(fn.graph.outputs[0]))),
    "show a summary": lambda fn: kgraph.to_text(fn, summary=True),
    "to_networkx": kgraph.to_networkx,
    "save": lambda fn: through_a_file(fn, False),
    "save and load": lambda fn: through_a_file(fn, True),
}


def measure(way: str, name: str, size: int) -> float:
    """Seconds of one way of looking at one graph."""
    by = KGraph()
    fn = K.function([by.x], GRAPHS[name](by, size), engine="numpy")
    found = []
    for _ in range(rounds_of(size, 100_000)):
        gc.collect()
        found.append(seconds(lambda: WAYS[way](fn)))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="nodes; 100 at least")
    parser.add_argument("--only", nargs="+", default=list(WAYS), choices=list(WAYS), help="ways of looking")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    sizes = sorted(args.sizes)
    if sizes[0] < 100:
        parser.error("a size is 100 at least")

    found = {(way, name): [measure(way, name, size) for size in sizes] for way in args.only for name in GRAPHS}
    # A small graph is timed again after the large ones: the slower of two says what the machine was like.
    small = {key: max(times[0], measure(*key, sizes[0])) / sizes[0] for key, times in found.items()}
    growth = {key: times[-1] / sizes[-1] / small[key] for key, times in found.items()}
    if args.json:
        rows = [{"way": k[0], "graph": k[1], "seconds": times, "growth": growth[k]} for k, times in found.items()]
        print(json.dumps({"sizes": sizes, "figures": rows}, indent=1))
        return
    heads = ("seconds", *[f"{size:,}" for size in sizes], "growth a node")
    print(table(heads, [[f"{k[0]}: {k[1]}", *[f"{t:.3f}" for t in times], f"{growth[k]:.2f}"] for k, times in found.items()]))
    print()
    worst = max(growth, key=lambda key: growth[key])
    print(f"a node among {sizes[-1]:,} takes at most {growth[worst]:.2f} of one among {sizes[0]:,} ({worst[0]}: {worst[1]}), "
          f"target {MOST_GROWTH}: {verdict(growth[worst], MOST_GROWTH)}")  # fmt: skip


if __name__ == "__main__":
    main()

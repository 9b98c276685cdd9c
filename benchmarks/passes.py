"""What the passes do for four models as people write them: nodes, operations, bytes and the time of a training step.

    python -m benchmarks.passes [--engine numpy] [--rounds 30] [--only MLP] [--json]

For each pass, those before it run too. Times are those of the program with the passes over those of the same program without
any, by turns in one run: medians of paired ratios, with an interval. No model may take more than 3 % longer. The program
without any is timed beside the same by the engine's own functions too, where it has a gradient of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.hand_models import BY_HAND
from benchmarks.models import MODELS, Model
from benchmarks.timing import Spread, by_turns, ratios, seconds, table, verdict
from kgraph import backend as K
from kgraph.ir.passes import ALWAYS, PIPELINE

#: How many times as long an optimised program may take, as the lower bound of the interval.
MOST_RATIO = 1.03
#: And of the program without passes, over that by the engine's own functions.
MOST_OF_BY_HAND = 1.1

#: Each time is that of so many calls as take this long, in seconds.
LONG_ENOUGH = 0.05


def step(model: Model, engine: str, optimize: Any) -> Callable[[], Any]:
    """One call of the training step."""
    f = K.function(model.inputs, [model.loss], model.updates, engine=engine, optimize=optimize)
    return lambda: f(model.values)


def several(call: Callable[[], Any], number: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(number):
            call()

    return run


def measure(name: str, engine: str, rounds: int) -> list[dict[str, Any]]:
    """A row for the program without passes, and for each pass with those before it."""
    model = MODELS[name]()
    sizes = {"n": len(model.values[0])}
    explained = K.function(model.inputs, [model.loss], model.updates, engine=engine).explain()
    optional = [each for each in PIPELINE if each not in ALWAYS]
    plain = step(model, engine, [])
    first = plain()
    number = max(1, round(LONG_ENOUGH / min(seconds(plain) for _ in range(3))))
    row: dict[str, Any]
    rows: list[dict[str, Any]] = []
    if engine in BY_HAND:
        by = BY_HAND[engine]()
        hand = by.step(MODELS[name](by))
        np.testing.assert_allclose(hand(), first[0], rtol=1e-3)
        compared = ratios(*by_turns(several(step(MODELS[name](), engine, []), number), several(hand, number), rounds))
        row = {"model": name, "pass": "as built, over that by hand", "ratio": compared}
        rows.append({**row, "judged": compared.median, "most": MOST_OF_BY_HAND})
    for stage in explained.stages:
        cost = stage.cost
        row = {"model": name, "pass": stage.name, "nodes": cost.nodes if cost else None}
        row.update({key: _at(getattr(cost, key, None), sizes) for key in ("flops", "bytes", "peak")})
        if stage.name in optional:
            call = step(MODELS[name](), engine, optional[: optional.index(stage.name) + 1])
            np.testing.assert_allclose(call(), first, rtol=1e-3)
            row["ratio"] = ratios(*by_turns(several(call, number), several(plain, number), rounds))
            row.update(judged=row["ratio"].low, most=MOST_RATIO)
        rows.append(row)
    return rows


def _at(count: Any, sizes: dict[str, int]) -> int | None:
    return count(**sizes) if callable(count) else count  # type: ignore[no-any-return]


def _in_millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.3g}"


def shown(rows: Sequence[dict[str, Any]], engine: str) -> str:
    heads = ["model, pass", "nodes", "Mflops", "MB moved", "MB held", f"time on {engine}", ""]
    lines = []
    for row in rows:
        ratio: Spread | None = row.get("ratio")
        name = row["model"] if row["pass"] == "as built" else f"  {row['pass']}"
        figures = [f"{row.get('nodes', '')}", *[_in_millions(row.get(key)) for key in ("flops", "bytes", "peak")]]
        judged = "" if ratio is None else verdict(row["judged"], row["most"])
        lines.append([name, *figures, "" if ratio is None else f"{ratio:.3g}", judged])
    return table(heads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="numpy")
    parser.add_argument("--only", choices=list(MODELS), help="one model")
    parser.add_argument("--rounds", type=int, default=30, help="of both sides by turns")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    found = [row for name in MODELS if args.only in (None, name) for row in measure(name, args.engine, args.rounds)]
    if args.json:
        print(json.dumps(found, default=lambda spread: spread.as_json(), indent=1))
        return
    print(shown(found, args.engine))


if __name__ == "__main__":
    main()

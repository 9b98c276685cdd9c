"""Rows of connectionist temporal classification, against all alignments one by one."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import INF, NAN, Array, Case, array, floats


def spelled(classes: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """Without repetitions, and then without blanks."""
    return tuple(c for c, _ in itertools.groupby(classes) if c != blank)


def alignments(x: Array, labels: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Each way to spell the labels in the steps of x, with its score."""
    steps, classes = x.shape
    for path in itertools.product(range(classes), repeat=steps):
        if spelled(path, classes - 1) == labels:
            yield path, math.exp(math.fsum(float(x[t, c]) for t, c in enumerate(path)))


def samples(x: Array, labels: Array, steps: Array, counts: Array) -> Iterator[tuple[int, list[tuple[tuple[int, ...], float]]]]:
    for b in range(len(x)):
        wanted = tuple(int(label) for label in labels[b, : counts[b]])
        yield b, list(alignments(x[b, : steps[b]], wanted))


def loss(x: Array, labels: Array, steps: Array, counts: Array) -> Array:
    out = np.zeros(len(x))
    for b, found in samples(x, labels, steps, counts):
        total = math.fsum(score for _, score in found)
        out[b] = 0 - math.log(total) if total else INF
    return out


def posterior(x: Array, labels: Array, steps: Array, counts: Array) -> Array:
    out = np.zeros(x.shape)
    for b, found in samples(x, labels, steps, counts):
        total = math.fsum(score for _, score in found)
        for path, score in found:
            for t, c in enumerate(path):
                out[b, t, c] += score / total if total else 0
    return out


def tangent(h: Array, x: Array, labels: Array, steps: Array, counts: Array) -> Array:
    """The covariance of having a class in a step with the change of the score."""
    share = posterior(x, labels, steps, counts)
    out = np.zeros(x.shape)
    for b, found in samples(x, labels, steps, counts):
        total = math.fsum(score for _, score in found)
        mean = float(np.sum(share[b] * h[b]))
        for path, score in found:
            change = math.fsum(float(h[b, t, c]) for t, c in enumerate(path)) - mean
            for t, c in enumerate(path):
                out[b, t, c] += score / total * change
    return out


def best(x: Array, paths: int) -> tuple[list[list[int]], list[float]]:
    """The spellings with the largest sums, and the logarithms of these."""
    sums: defaultdict[tuple[int, ...], list[float]] = defaultdict(list)
    steps, classes = x.shape
    for path in itertools.product(range(classes), repeat=steps):
        sums[spelled(path, classes - 1)].append(math.exp(math.fsum(float(x[t, c]) for t, c in enumerate(path))))
    ranked = sorted(((math.fsum(scores), labels) for labels, scores in sums.items()), reverse=True)[:paths]
    return [list(labels) for _, labels in ranked], [math.log(total) for total, _ in ranked]


def searched(x: Array, steps: Array, paths: int) -> Array:
    out = np.full((len(x), paths, x.shape[1] + 1), -1.0)
    out[:, :, -1] = -INF
    for b in range(len(x)):
        for i, (labels, score) in enumerate(zip(*best(x[b, : max(steps[b], 0)], paths), strict=True)):
            out[b, i, : len(labels)], out[b, i, -1] = labels, score
    return out


def lengths(*values: int, dtype: str = "int32") -> Array:
    return np.array(values, dtype)


#: What is particular; labels, how many of them count, how many steps do (of 4), classes. What is not counted may be anything.
SAMPLES: list[tuple[str, list[list[int]], list[int], list[int], int]] = [
    (
        "repetitions, no labels, exact fits", [[0, 1], [1, 1], [0, 9], [1, -5], [0, 1], [1, 0], [0, 0]], [2, 2, 1, 1, 0, 2, 2],
        [4, 3, 3, 4, 4, 2, 4], 3,
    ),
    ("one label", [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [5, 5, 5, 5]], [2, 1, 0, 0], [4, 1, 2, 0], 2),
    ("no room for labels", [[], []], [0, 0], [4, 2], 3),
    ("nothing but the blank", [[0], [0]], [0, 0], [4, 3], 1),
    ("three labels", [[2, 0, 1]], [3], [4], 4),
]  # fmt: skip
#: Where some have no alignment: too few steps, for the labels or for the blanks that repetitions need.
HOPELESS = ("hopeless", [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0] * 5, [1, 1, 0, 0, 0], [1] * 5], [5, 3, 1, 2, 1], [4, 4, 0, 2, 2], 3)


def _sums() -> list[Case]:
    rows = []
    for note, labels, counts, steps, classes in [*SAMPLES, HOPELESS]:
        rest = [np.array(labels, "int32").reshape(len(counts), -1), lengths(*steps), lengths(*counts)]
        x, h = floats(len(counts), 4, classes), floats(len(counts), 4, classes, seed=1)
        slope = lambda w, x, *rest: [-w[:, None, None] * posterior(x, *rest), None, None, None]  # noqa: E731
        rows.append(Case(o.ctc_loss, [x, *rest], {}, loss, grad=slope if note == "hopeless" else True, second=True, rtol=4e-6, note=note))
        rows.append(Case(o.ctc_posterior, [x, *rest], {}, posterior, second=False, rtol=4e-6, note=note))
        rows.append(Case(o.ctc_tangent, [h, x, *rest], {}, tangent, rtol=4e-6, note=note))
    labels, steps, counts = array([[0, 1], [1, 1]], "int64"), lengths(3, 3, dtype="uint8"), lengths(1, 2, dtype="int64")
    for dtype in ("float16", "float64"):
        x = floats(2, 3, 3, dtype=dtype)
        rows += [Case(op, [x, labels, steps, counts], {}, f, second=op is o.ctc_loss, rtol={"float16": 4e-3}.get(dtype)) for op, f in ((o.ctc_loss, loss), (o.ctc_posterior, posterior))]
        rows.append(Case(o.ctc_tangent, [x, x[:, ::-1].copy(), labels, steps, counts], {}, tangent, rtol={"float16": 4e-3}.get(dtype)))
    barred = floats(2, 3, 3)
    barred[:, 1, 0] = -INF
    far = floats(1, 4, 3) + array([[[300], [-500], [80], [0]]])
    unknown = floats(2, 3, 3)
    unknown[0, 1, 2] = NAN
    empty = [floats(0, 3, 3), np.zeros((0, 2), "int32"), lengths(), lengths()]
    still = [floats(2, 0, 3), np.zeros((2, 2), "int32"), lengths(0, 0), lengths(0, 1)]
    rows += [
        Case(o.ctc_loss, [barred, labels, steps, counts], {}, loss, note="a barred class", grad=False, rtol=4e-6),
        Case(o.ctc_posterior, [barred, labels, steps, counts], {}, posterior, note="a barred class", grad=False, rtol=4e-6),
        Case(o.ctc_loss, [unknown, labels, steps, counts], {}, lambda x, *r: [NAN, loss(floats(2, 3, 3), *r)[1]], note="special", grad=False, rtol=4e-6),
        Case(o.ctc_loss, [far, array([[1, 0]], "int32"), lengths(4), lengths(2)], {}, lambda x, *r: loss(x - [[[300], [-500], [80], [0]]], *r) + 120, note="large scores",
             grad=False, rtol=4e-6),
        *[Case(op, operands, {}, f, note="empty", grad=False) for operands in (empty, still) for op, f in ((o.ctc_loss, loss), (o.ctc_posterior, posterior))],
        *[Case(o.ctc_tangent, [operands[0], *operands], {}, tangent, note="empty") for operands in (empty, still)],
    ]  # fmt: skip
    return rows


def _searches() -> list[Case]:
    rows = []
    for shape, steps, width, paths in [((2, 4, 3), (4, 3), 100, 3), ((1, 4, 4), (4,), 200, 2), ((2, 3, 2), (3, 0), 20, 5), ((1, 3, 1), (3,), 2, 2), ((0, 3, 3), (), 5, 1),
                                       ((2, 0, 3), (0, 0), 5, 2), ((2, 3, 3), (9, -1), 50, 1)]:  # fmt: skip
        for dtype in ("float32", "float64"):
            x = floats(*shape, dtype=dtype, low=-4, high=0)
            attrs = {"beam_width": width, "top_paths": paths}
            wanted = lambda x, n, p=paths: searched(x, n, p)  # noqa: E731
            rows.append(Case(o.ctc_beam_search, [x, lengths(*steps)], attrs, wanted, dtype="float64", rtol=1e-6 if dtype == "float32" else None))
    lost = np.full((1, 2, 3), NAN, "float32")
    rows.append(Case(o.ctc_beam_search, [lost, lengths(2)], {"beam_width": 2, "top_paths": 1}, lambda x, n: [[[-1, -1, -INF]]], dtype="float64", note="special"))
    # The blank and label 0 lead, but only label 1 goes on: a beam of one has dropped it.
    x = np.log(array([[[0.35, 0.25, 0.4], [0.05, 0.9, 0.05]]]))
    rows.append(Case(o.ctc_beam_search, [x, lengths(2)], {"beam_width": 1, "top_paths": 1}, lambda x, n: [[[1, -1, math.log(0.4 * 0.9)]]], dtype="float64", rtol=1e-6, note="a beam of one"))
    return rows


ROWS: list[Any] = [*_sums(), *_searches()]

"""Rows of the losses and searches of connectionist temporal classification."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import INF, Array, array, floats, ints
from tests.cases.ctc import HOPELESS, SAMPLES, best, lengths, loss
from tests.cases.nn import softmax
from tests.kcases.base import KCase


def probabilities(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    return np.asarray(softmax(floats(*shape, seed=seed, dtype="float64"), len(shape) - 1)).astype(dtype)


def normal(y: Array) -> Array:
    """log(softmax(log(y + 1e-8)))."""
    return np.log((y + 1e-8) / (y + 1e-8).sum(-1, keepdims=True))


def cost(labels: Array, y: Array, steps: Array, counts: Array) -> Array:
    return loss(normal(y), labels.astype(int), steps.astype(int).ravel(), counts.astype(int).ravel())[:, None]


def _costs() -> list[KCase]:
    rows = []
    for note, labels, counts, steps, classes in [*SAMPLES[:2], HOPELESS]:
        given = [np.array(labels, "int32"), probabilities(len(counts), 4, classes), lengths(*steps)[:, None], lengths(*counts)[:, None]]
        rows.append(KCase(K.ctc_batch_cost, given, {}, cost, dtype="float32", rtol=8e-6, note=note, grad=note != "hopeless", stretches=False))
    labels, steps, counts = array([[0, 1], [1, 1]], "int32"), lengths(4, 3), lengths(1, 2)
    y = probabilities(2, 4, 3)
    certain = array([[[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]])
    rows += [
        KCase(K.ctc_batch_cost, [labels, y, steps, counts], {}, cost, dtype="float32", rtol=8e-6, note="flat lengths"),
        KCase(K.ctc_batch_cost, [v.astype("float32") for v in (labels, y, steps, counts)], {}, cost, rtol=8e-6, note="all floats", grad=False),
        KCase(K.ctc_batch_cost, [v.astype("int64") if v is not y else v.astype("float64") for v in (labels, y, steps, counts)], {}, cost, dtype="float64", rtol=1e-12, note="wide"),
        KCase(K.ctc_batch_cost, [labels, y.astype("float16"), steps, counts], {}, cost, dtype="float16", rtol=4e-3),
        KCase(K.ctc_batch_cost, [array([[0, 0]], "int32"), certain, lengths(4), lengths(2)], {}, lambda *_: [[0]], dtype="float32", atol=1e-6, note="certain", grad=False),
        # One step is said to be impossible: the least probability is 1e-8.
        KCase(K.ctc_batch_cost, [array([[1]], "int32"), certain[:, :1], lengths(1), lengths(1)], {}, lambda *_: [[-math.log(1e-8)]], dtype="float32", note="impossible", grad=False),
    ]  # fmt: skip
    return rows


def _dense() -> list[KCase]:
    def kept(labels: Array, counts: Array) -> Array:
        out = np.zeros(labels.shape)
        for b, count in enumerate(counts.ravel().astype(int)):
            for i in range(count):
                out[b, i] = labels[b, i]
        return out

    f = K.ctc_label_dense_to_sparse
    return [
        KCase(f, [ints(3, 4, low=1), lengths(0, 2, 4)], {}, kept),
        KCase(f, [ints(3, 4, low=1, dtype="int64"), lengths(0, 2, 4)[:, None]], {}, kept, stretches=False),
        KCase(f, [floats(2, 3), array([1, 3])], {}, kept, grad=lambda w, x, n: [w * [[1, 0, 0], [1, 1, 1]], None]),
        KCase(f, [ints(0, 3), lengths()], {}, kept),
        KCase(f, [ints(2, 0), lengths(0, 0)], {}, kept),
    ]


def _padded(rows: list[list[int]]) -> Array:
    longest = max([len(row) for row in rows], default=0)
    return np.array([row + [-1] * (longest - len(row)) for row in rows], "int64").reshape(len(rows), longest)


def _taken(y: Array, steps: Array) -> tuple[Array, Array]:
    rows, scores = [], []
    for sample, count in zip(y, steps.ravel().astype(int), strict=True):
        sample = sample[:count]
        classes = [int(np.argmax(step)) for step in sample]
        rows.append([c for c, _ in itertools.groupby(classes) if c != y.shape[2] - 1])
        scores.append(-math.fsum(math.log(max(step) + 1e-8) for step in sample.tolist()))
    return _padded(rows), np.array(scores)[:, None]


def _searched(y: Array, steps: Array, paths: int) -> tuple[list[Array], Array]:
    found = [best(normal(sample[:count]), paths) for sample, count in zip(y, steps.ravel().astype(int), strict=True)]
    labels = [_padded([sample[0][i] if i < len(sample[0]) else [] for sample in found]) for i in range(paths)]
    return labels, np.array([sample[1] + [-INF] * (paths - len(sample[1])) for sample in found]).reshape(len(found), paths)


def _decoded() -> list[KCase]:
    rows = []
    hot = np.eye(3, dtype="float32")
    spelling = np.stack([hot[[0, 0, 2, 0, 1, 1]], hot[[2, 2, 2, 2, 2, 2]], hot[[1, 0, 1, 2, 2, 0]]]) * 0.7 + 0.1
    tied = np.full((1, 3, 3), 1 / 3, "float32")
    for y, steps in [
        (spelling, lengths(6, 6, 6)), (spelling, lengths(2, 6, 4)[:, None]), (spelling, lengths(0, 0, 0)), (spelling, array([9, 1, 5])), (probabilities(3, 5, 4), lengths(5, 5, 3)),
        (probabilities(2, 4, 1), lengths(4, 4)), (probabilities(0, 3, 3), lengths()), (np.zeros((2, 0, 3), "float32"), lengths(0, 0)), (tied, lengths(3)),
        (probabilities(2, 3, 3, dtype="float64"), lengths(3, 2)),
    ]:  # fmt: skip
        width = _taken(y, steps)[0].shape[1]
        common: dict[str, Any] = {"stretches": False, "grad": False}
        rows += [
            KCase(K.ctc_decode, [y, steps], {}, lambda y, n: _taken(y, n)[0], dtype="int64", call=lambda y, n: K.ctc_decode(y, n)[0][0], note=f"greedy labels {steps.ravel()}",
                  known=(len(y), None), **common),
            KCase(K.ctc_decode, [y, steps], {}, lambda y, n: _taken(y, n)[1], call=lambda y, n: K.ctc_decode(y, n)[1], note=f"greedy {steps.ravel()}", **common),
        ]  # fmt: skip
        assert width <= y.shape[1]
    for y, steps, paths in [(probabilities(2, 4, 3), lengths(4, 3), 3), (probabilities(2, 3, 2), lengths(3, 0)[:, None], 4), (probabilities(0, 3, 3), lengths(), 1),
                            (probabilities(1, 3, 3, dtype="float64"), array([3]), 2), (probabilities(1, 3, 3, dtype="float16"), lengths(3), 1)]:  # fmt: skip
        attrs = {"greedy": False, "beam_width": 200, "top_paths": paths}
        rtol = {"float16": 4e-3, "float32": 4e-6}.get(y.dtype.name)
        rows += [
            KCase(K.ctc_decode, [y, steps], {}, lambda y, n, p=paths, i=i: _searched(y, n, p)[0][i], dtype="int64", call=lambda y, n, a=attrs, i=i: K.ctc_decode(y, n, **a)[0][i],
                  note=f"path {i} of {paths}", known=(len(y), None), stretches=False, grad=False)
            for i in range(paths)
        ]  # fmt: skip
        rows.append(KCase(K.ctc_decode, [y, steps], {}, lambda y, n, p=paths: _searched(y, n, p)[1], call=lambda y, n, a=attrs: K.ctc_decode(y, n, **a)[1],
                          note=f"{paths} paths", stretches=False, grad=False, rtol=rtol))  # fmt: skip
    return rows


ROWS: list[Any] = [*_costs(), *_dense(), *_decoded()]

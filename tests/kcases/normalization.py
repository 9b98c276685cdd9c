"""Rows of normalising over a batch."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import Array, floats, ints
from tests.kcases.base import KCase

EPSILON = 1e-3


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and population variance of each group of elements that differ in their indices along axes only."""
    kept = [a for a in range(x.ndim) if a not in axes]
    mean, var = [np.zeros([x.shape[a] for a in kept]) for _ in "mv"]
    for at in np.ndindex(mean.shape):
        index: list[Any] = [slice(None)] * x.ndim
        for a, i in zip(kept, at, strict=True):
            index[a] = i
        group = x[tuple(index)].ravel().tolist()
        mean[at] = math.fsum(group) / len(group)
        var[at] = math.fsum((v - mean[at]) ** 2 for v in group) / len(group)
    return mean, var


def normed(x: Array, gamma: Array, beta: Array, axes: tuple[int, ...], epsilon: float = EPSILON) -> Array:
    mean, var = moments(x, axes)
    kept = [a for a in range(x.ndim) if a not in axes]
    gamma, beta = gamma.reshape(mean.shape), beta.reshape(mean.shape)
    out = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        own = tuple(at[a] for a in kept)
        out[at] = gamma[own] * (x[at] - mean[own]) / math.sqrt(var[own] + epsilon) + beta[own]
    return out


def _training() -> list[KCase]:
    def part(number: int, axes: Any, epsilon: float = EPSILON) -> Any:
        return lambda x, gamma, beta: K.normalize_batch_in_training(x, gamma, beta, axes, epsilon)[number]

    def rows_of(
        shape: tuple[int, ...], axes: tuple[int, ...], given: Any = None, dtype: str = "float32", full: bool = False
    ) -> list[KCase]:
        kept = tuple(1 if a in axes else n for a, n in enumerate(shape) if full or a not in axes)
        inputs = [floats(*shape, dtype=dtype), floats(*kept, low=0.5, seed=1, dtype=dtype), floats(*kept, seed=2, dtype=dtype)]
        note = f"axes={axes if given is None else given}{' full' if full else ''}"
        rtol = {"float32": 4e-6, "float64": 1e-13, "float16": 4e-3}[dtype]
        oracles = [
            lambda x, g, b: normed(x, g, b, axes),
            lambda x, g, b: moments(x, axes)[0],
            lambda x, g, b: moments(x, axes)[1],
        ]
        return [
            KCase(K.normalize_batch_in_training, inputs, {}, oracle, call=part(i, axes if given is None else given), note=f"{name} {note}", rtol=rtol, stretches=full or None)
            for i, (name, oracle) in enumerate(zip(("normed", "mean", "var"), oracles, strict=True))
        ]  # fmt: skip

    rows = []
    for shape, axes in [((4, 3), (0,)), ((4, 3), (1,)), ((4, 3), (0, 1)), ((2, 3, 2), (0, 1)), ((2, 3, 2), (0, 2)), ((2, 3, 2), (1,)), ((2, 2, 3, 2), (0, 2, 3)),
                        ((2, 2, 3, 2), (0, 1, 2)), ((5,), (0,))]:  # fmt: skip
        rows += rows_of(shape, axes)
    rows += rows_of((4, 3), (0,), given=[-2]) + rows_of((2, 3, 2), (0, 2), given=[2, 0]) + rows_of((4, 3), (0,), given=0)
    rows += rows_of((2, 3, 2), (0, 2), full=True) + rows_of((4, 3), (0,), full=True)
    rows += rows_of((4, 3), (0,), dtype="float64") + rows_of((4, 3), (0,), dtype="float16")
    far = (1e4 + np.arange(8).reshape(4, 2) * 0.25).astype("float32")
    ones, zeros = np.ones(2, "float32"), np.zeros(2, "float32")
    rows += [
        KCase(K.normalize_batch_in_training, [far, ones, zeros], {}, lambda x, g, b: moments(x, (0,))[1], call=part(2, [0]), note="a large mean", grad=False),
        KCase(K.normalize_batch_in_training, [far, ones, zeros], {}, lambda x, g, b: normed(x, g, b, (0,)), call=part(0, [0]), note="a large mean", grad=False, rtol=4e-6),
        KCase(K.normalize_batch_in_training, [np.full((3, 2), 60000, "float16"), *[v.astype("float16") for v in (ones, zeros)]], {}, lambda x, g, b: x[0], call=part(1, [0]),
              note="a large mean", grad=False),
        KCase(K.normalize_batch_in_training, [np.ones((3, 2), "float32"), ones, zeros], {}, lambda x, g, b: normed(x, g, b, (0,)), call=part(0, [0]), note="all equal"),
        KCase(K.normalize_batch_in_training, [ints(4, 2), ones, zeros], {}, lambda x, g, b: normed(x, g, b, (0,)), call=part(0, [0]), dtype="float32", rtol=4e-6),
        KCase(K.normalize_batch_in_training, [floats(4, 2), floats(2)], {}, lambda x, b: normed(x, np.ones(2), b, (0,), 0.5), note="no gamma, epsilon 0.5", rtol=4e-6,
              call=lambda x, b: K.normalize_batch_in_training(x, None, b, [0], epsilon=0.5)[0]),
        KCase(K.normalize_batch_in_training, [floats(4, 2), floats(2)], {}, lambda x, g: normed(x, g, np.zeros(2), (0,)), note="no beta", rtol=4e-6,
              call=lambda x, g: K.normalize_batch_in_training(x, g, None, [0])[0]),
    ]  # fmt: skip
    return rows


def _given() -> list[KCase]:
    def wanted(x: Array, mean: Array, var: Array, beta: Array, gamma: Array, epsilon: float = EPSILON) -> Array:
        out = np.zeros(x.shape)
        for at in np.ndindex(x.shape):
            m, v, b, g = [
                p[tuple(i if n > 1 else 0 for i, n in zip(at[x.ndim - p.ndim :], p.shape, strict=True))]
                for p in (mean, var, beta, gamma)
            ]
            out[at] = g * (x[at] - m) / math.sqrt(v + epsilon) + b
        return out

    def parameters(*shape: int, dtype: str = "float32") -> list[Array]:
        return [floats(*shape, low=0.5 if i == 1 else -2, seed=i, dtype=dtype) for i in range(4)]

    rows = []
    for shape, own in [((4, 3), (3,)), ((2, 3, 4), (4,)), ((2, 2, 3, 2), (2,)), ((2, 3, 4), (1, 3, 1)), ((2, 2, 3, 2), (1, 2, 1, 1)), ((4, 3), (4, 3)), ((3,), (3,)),
                       ((0, 3), (3,)), ((4, 1), (1,)), ((4, 3), (1, 1))]:  # fmt: skip
        rows.append(KCase(K.batch_normalization, [floats(*shape, seed=7), *parameters(*own)], {}, wanted, rtol=4e-6))
    rows += [
        KCase(K.batch_normalization, [floats(4, 1, seed=7), *parameters(1)], {}, wanted, rtol=4e-6, stretches=False, note="unknown"),
        KCase(K.batch_normalization, [floats(4, 3, seed=7), *parameters(3)], {"epsilon": 0}, lambda *a: wanted(*a, epsilon=0), rtol=4e-6),
        *[KCase(K.batch_normalization, [floats(4, 3, seed=7, dtype=d), *parameters(3, dtype=d)], {}, wanted, rtol=r) for d, r in (("float64", 1e-13), ("float16", 8e-3))],
        KCase(K.batch_normalization, [floats(4, 3, seed=7, dtype="float16"), *parameters(3)], {}, wanted, dtype="float32", rtol=4e-6),
        KCase(K.batch_normalization, [ints(4, 3, seed=7), *parameters(3)], {}, wanted, dtype="float32", rtol=4e-6),
        *[
            KCase(
                K.batch_normalization, [floats(4, 3, seed=7), *parameters(3)], {}, rtol=4e-6, note=f"without {'beta ' * no_beta}{'gamma' * no_gamma}",
                call=lambda x, m, v, b, g, nb=no_beta, ng=no_gamma: K.batch_normalization(x, m, v, None if nb else b, None if ng else g),
                oracle=lambda x, m, v, b, g, nb=no_beta, ng=no_gamma: wanted(x, m, v, b * 0 if nb else b, g * 0 + 1 if ng else g),
            )
            for no_beta, no_gamma in itertools.product((True, False), repeat=2)
            if no_beta or no_gamma
        ],
    ]  # fmt: skip
    return rows


ROWS: list[Any] = [*_training(), *_given()]

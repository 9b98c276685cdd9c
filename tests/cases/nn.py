"""Rows of softmax and the cross-entropies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import INF, NAN, Array, Case, array, floats

EPS = 1e-3  # a bound on probabilities that rows can reach


def softmax(x: Array, axis: int) -> Array:
    def row(v: Array) -> Array:
        e = [math.exp(u - v.max()) for u in v]
        return np.array(e) / math.fsum(e)

    return np.apply_along_axis(row, axis, x) if x.size else x


def log_softmax(x: Array, axis: int) -> Array:
    def row(v: Array) -> Array:
        return v - v.max() - math.log(math.fsum(math.exp(u - v.max()) for u in v))

    return np.apply_along_axis(row, axis, x) if x.size else x


def softmax_slopes(w: Array, x: Array) -> Array:
    p = softmax(x, 1)
    return p * (w - (w * p).sum(1, keepdims=True))


def crossentropy(x: Array, target: Array, epsilon: Array) -> Array:
    """The clip is on the logarithms, as 1 - p of a p near 1 has no digits left."""
    low, high = (math.log(epsilon), math.log1p(-epsilon)) if epsilon > 0 else (-math.inf, 0.0)
    out = np.zeros(x.shape[:-1])
    for at in np.ndindex(out.shape):
        top = x[at].max(initial=-math.inf)
        total = math.log(math.fsum(math.exp(v - top) for v in x[at])) if x[at].size else 0.0
        out[at] = -math.fsum(t * min(max(v - top - total, low), high) for v, t in zip(x[at], target[at], strict=True))
    return out


def crossentropy_grad(g: Array, x: Array, target: Array, epsilon: Array) -> Array:
    out = np.zeros(x.shape)
    for at in np.ndindex(g.shape):
        p = softmax(x[at], 0)
        held = [t if epsilon == 0 or epsilon <= q <= 1 - epsilon else 0.0 for t, q in zip(target[at], p, strict=True)]
        out[at] = g[at] * (p * sum(held) - held)
    return out


def labels(*shape: int) -> Array:
    return softmax(floats(*shape, seed=7), len(shape) - 1)


def bound(value: float, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


_SHAPES: list[tuple[int, ...]] = [(4,), (3, 4), (2, 3, 4), (1, 1), (0, 4), (3, 40), (2, 0)]


def _activations() -> list[Case]:
    rows = []
    for op, f in ((o.softmax, softmax), (o.log_softmax, log_softmax)):
        for shape in _SHAPES:
            for axis in range(len(shape)):
                rows.append(
                    Case(
                        op,
                        [floats(*shape, low=-5, high=5)],
                        {"axis": axis},
                        lambda x, f=f, a=axis: f(x, a),
                        grad=40 not in shape,
                    )
                )
        rows += [Case(op, [floats(3, 4, dtype=d)], {"axis": 1}, lambda x, f=f: f(x, 1)) for d in ("float16", "float64")]
    rows += [
        Case(o.softmax, [array([[1e4, 1e4, -1e4], [1000, 0, -1000], [-1e4, -1e4, -1e4]])], {"axis": 1},
             lambda x: [[0.5, 0.5, 0], [1, 0, 0], [1 / 3] * 3], note="extreme", grad=lambda w, x: [softmax_slopes(w, x)]),
        Case(o.log_softmax, [array([[1e4, 1e4, -1e4], [1000, 0, -1000], [-1e4, -1e4, -1e4]])], {"axis": 1},
             lambda x: [[-math.log(2)] * 2 + [-2e4 - math.log(2)], [0, -1000, -2000], [-math.log(3)] * 3], note="extreme",
             grad=lambda w, x: [w - w.sum(1, keepdims=True) * softmax(x, 1)]),
        Case(o.softmax, [array([[NAN, 1, 2], [-INF, 0, 0], [INF, 0, 0]])], {"axis": 1}, lambda x: [[NAN] * 3, [0, 0.5, 0.5], [NAN] * 3], note="special",
             grad=False),
        Case(o.log_softmax, [array([[NAN, 1, 2], [-INF, 0, 0]])], {"axis": 1}, lambda x: [[NAN] * 3, [-INF, -math.log(2), -math.log(2)]], note="special",
             grad=False),
        Case(o.softmax, [np.zeros((1, 70_000), "float16")], {"axis": 1}, lambda x: x + 1 / 70_000, note="of many", grad=False, rtol=5e-3, atol=0),
    ]  # fmt: skip
    return rows


def _entropies() -> list[Case]:
    rows = []
    for shape in _SHAPES:
        x, t, few = floats(*shape, low=-3, high=3), labels(*shape).astype("float32"), math.prod(shape) < 30
        for epsilon in (0.0, 1e-7):
            rows.append(
                Case(
                    o.softmax_crossentropy,
                    [x, t, bound(epsilon)],
                    {},
                    crossentropy,
                    grad=few and _no_gradient_of_epsilon,
                    rtol=4e-6,
                )
            )
            g = floats(*shape[:-1], seed=2)
            rows.append(
                Case(
                    o.softmax_crossentropy_grad,
                    [g, x, t, bound(epsilon)],
                    {},
                    crossentropy_grad,
                    grad=few and epsilon == 0 and _numeric_but_epsilon,
                    rtol=4e-6,
                )
            )
    for dtype in ("float16", "float64"):
        x, t = floats(3, 4, dtype=dtype), labels(3, 4).astype(dtype)
        rows.append(Case(o.softmax_crossentropy, [x, t, bound(1e-3, dtype)], {}, crossentropy, grad=False))
        rows.append(
            Case(
                o.softmax_crossentropy_grad,
                [floats(3, dtype=dtype), x, t, bound(1e-3, dtype)],
                {},
                crossentropy_grad,
                grad=False,
            )
        )
    far = array([[1e4, -1e4, 0], [0, 20, 0], [-1e4, 0, 0]])
    hot = array([[0, 1, 0], [0, 1, 0], [1, 0, 0]])
    rows += [
        Case(o.softmax_crossentropy, [far, hot, bound(EPS)], {}, crossentropy, note="beyond the clip", grad=_no_gradient_of_epsilon, second=False),
        Case(o.softmax_crossentropy, [far, hot, bound(0)], {}, lambda x, t, e: [2e4, math.log1p(2 * math.exp(-20)), 1e4 + math.log(2)], note="no clip",
             grad=_no_gradient_of_epsilon, second=False),
        Case(o.softmax_crossentropy_grad, [array([1, 1, 1]), far, hot, bound(EPS)], {}, crossentropy_grad, note="beyond the clip", grad=False),
        Case(o.softmax_crossentropy_grad, [array([1, 1, 1]), far, hot, bound(0)], {}, crossentropy_grad, note="no clip", grad=False),
        Case(o.softmax_crossentropy, [array([[NAN, 1, 2]]), array([[0, 1, 0]]), bound(1e-7)], {}, lambda x, t, e: [NAN], note="special", grad=False),
        Case(o.softmax_crossentropy, [floats(2, 3), array([[0, 0, 0], [2, 1, -1]]), bound(1e-7)], {}, crossentropy, note="labels that are no distribution",
             grad=_no_gradient_of_epsilon, rtol=4e-6),
    ]  # fmt: skip
    return rows


def _no_gradient_of_epsilon(w: Array, x: Array, target: Array, epsilon: Array) -> list[Any]:
    """d loss / d x and d loss / d target; the bound is no variable of anyone's."""
    gx = crossentropy_grad(w, x, target, epsilon)
    low, high = (math.log(epsilon), math.log1p(-epsilon)) if epsilon > 0 else (-math.inf, 0.0)
    return [gx, -w[..., None] * np.clip(log_softmax(x, x.ndim - 1), low, high), None]


def _numeric_but_epsilon(w: Array, g: Array, x: Array, target: Array, epsilon: Array) -> list[Any]:
    return [*[numeric(crossentropy_grad, w, [g, x, target, epsilon], i) for i in range(3)], None]


def numeric(f: Callable[..., Array], w: Array, inputs: list[Array], position: int, step: float = 1e-5) -> Array:
    """The gradient of sum(w * f(inputs)) by central differences."""
    out = np.zeros(inputs[position].shape)
    for at in np.ndindex(out.shape):
        ends = []
        for sign in (1, -1):
            moved = [x.copy() for x in inputs]
            moved[position][at] += sign * step
            ends.append(np.sum(w * f(*moved)))
        out[at] = (ends[0] - ends[1]) / (2 * step)
    return out


def _bits() -> list[Case]:
    def bit(z: float, t: float) -> float:
        return max(z, 0) - z * t + math.log1p(math.exp(-abs(z)))

    f: Callable[..., Any] = lambda x, t: np.vectorize(bit, otypes=[float])(x, t)  # noqa: E731
    extreme = array([1e4, -1e4, 1e4, -1e4, 0, 60, -60])
    aims = array([1, 0, 0, 1, 0.5, 1, 0])
    return [
        *[Case(o.sigmoid_crossentropy, [floats(*s, low=-6, high=6), floats(*s, low=0, high=1, seed=1)], {}, f) for s in [(3, 4), (), (0, 3), (1, 1)]],
        Case(o.sigmoid_crossentropy, [floats(3, 1), floats(1, 4, low=0, high=1)], {}, f),
        *[Case(o.sigmoid_crossentropy, [floats(5, dtype=d), floats(5, low=0, high=1, dtype=d)], {}, f) for d in ("float16", "float64")],
        Case(o.sigmoid_crossentropy, [extreme, aims], {}, lambda x, t: [0, 0, 1e4, 1e4, math.log(2), math.exp(-60), math.exp(-60)], note="extreme", atol=0,
             grad=lambda w, x, t: [w * [0, 0, 1, -1, 0, -math.exp(-60), math.exp(-60)], -w * x]),
        Case(o.sigmoid_crossentropy, [array([NAN, 1, INF]), array([1, NAN, 0])], {}, lambda x, t: [NAN, NAN, NAN], note="special", grad=False),
    ]  # fmt: skip


ROWS = [*_activations(), *_entropies(), *_bits()]

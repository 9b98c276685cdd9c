"""Rows of activations and losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import INF, NAN, Array, array, floats, ints
from tests.cases.elementwise import each
from tests.cases.nn import labels, softmax
from tests.kcases.base import FLOATX, KCase

EPS = 1e-7
FAR = [1e4, -1e4, 88.0, -88.0, 0.0]
NEVER = [NAN, INF, -INF]


def bound(low: float | None, high: float | None) -> Callable[[float], float]:
    """Held within bounds; the upper one is the lower one at least."""

    def held(x: float) -> float:
        if math.isnan(x):
            return x
        below = x if low is None else max(x, low)
        return below if high is None else min(below, high if low is None else max(high, low))

    return held


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def elu(x: float, alpha: float = 1.0) -> float:
    return x if x > 0 else alpha * math.expm1(x)


def relu(x: float, alpha: float = 0.0, max_value: float | None = None) -> float:
    positive = max(x, 0.0)
    if max_value is not None:
        positive = min(positive, max_value)
    return positive - alpha * max(-x, 0.0)


_ACTIVATIONS: dict[Callable[..., Any], Callable[[float], float]] = {
    K.sigmoid: sigmoid, K.softplus: softplus, K.elu: elu, K.tanh: math.tanh, K.softsign: lambda x: x / (1 + abs(x)),
    K.hard_sigmoid: lambda x: min(max(0.2 * x + 0.5, 0), 1), K.relu: relu,
}  # fmt: skip
#: the value and the slope far out, at FAR; and at NaN, infinity and -infinity
_ENDS: dict[Callable[..., Any], tuple[list[float], list[float], list[float]]] = {
    K.sigmoid: ([1, 0, 1, math.exp(-88), 0.5], [0, 0, math.exp(-88), math.exp(-88), 0.25], [NAN, 1, 0]),
    K.softplus: ([1e4, 0, 88, math.exp(-88), math.log(2)], [1, 0, 1, math.exp(-88), 0.5], [NAN, INF, 0]),
    K.elu: ([1e4, -1, 88, -1, 0], [1, 0, 1, 0, 1], [NAN, INF, -1]),
    K.tanh: ([1, -1, 1, -1, 0], [0, 0, 0, 0, 1], [NAN, 1, -1]),
    K.softsign: ([1e4 / 10001, -1e4 / 10001, 88 / 89, -88 / 89, 0], [1 / 10001**2, 1 / 10001**2, 1 / 89**2, 1 / 89**2, 1], [NAN, NAN, NAN]),
    K.hard_sigmoid: ([1, 0, 1, 0, 0.5], [0, 0, 0, 0, 0.2], [NAN, 1, 0]),
    K.relu: ([1e4, 0, 88, 0, 0], [1, 0, 1, 0, 0], [NAN, INF, 0]),
}  # fmt: skip


def _activations() -> list[KCase]:
    rows = []
    for f, oracle in _ACTIVATIONS.items():
        for shape in ((3, 4), (), (0, 2), (2, 1, 3)):
            rows.append(KCase(f, [floats(*shape, low=-4, high=4)], {}, each(oracle)))
        rows += [KCase(f, [floats(6, dtype=d)], {}, each(oracle)) for d in ("float16", "float64")]
        rows += [
            KCase(f, [ints(6, low=0, high=4, dtype=d)], {}, each(oracle), dtype=d if f is K.relu else FLOATX)
            for d in ("uint8", "int8", "int32", "int64")
        ]
        far, slopes, never = _ENDS[f]
        rows += [
            KCase(f, [array(FAR, d)], {}, lambda x, far=far: far, note="far out", grad=lambda w, x, s=slopes: [w * np.array(s)],
                  second=f in (K.sigmoid, K.softplus, K.tanh), atol=0 if f is not K.softplus else 1e-37, rtol=1e-5)
            for d in ("float32", "float64")
        ]  # fmt: skip
        rows.append(KCase(f, [array(NEVER)], {}, lambda x, never=never: never, note="special", grad=False))
    rows.append(KCase(K.relu, [ints(6)], {}, each(relu)))
    return rows


def _relus() -> list[KCase]:
    x = array([-3, -0.5, 0.5, 3, 9])
    rows = [
        KCase(K.relu, [x], attrs, each(lambda v, attrs=attrs: relu(v, **attrs)))
        for attrs in [
            {"alpha": 0.5},
            {"max_value": 4.0},
            {"max_value": 4},
            {"alpha": 0.5, "max_value": 4.0},
            {"alpha": -1.0},
            {"alpha": 0, "max_value": None},
            {"alpha": 1},
        ]
    ]
    rows += [
        KCase(K.relu, [x, array([0.1, 0.2, 0.3, 0.4, 0.5])], {}, each(relu), call=lambda x, a: K.relu(x, alpha=a), note="alpha a tensor"),
        KCase(K.relu, [x, array([1, 1, 2, 2, 4])], {}, each(lambda v, m: relu(v, 0, m)), call=lambda x, m: K.relu(x, max_value=m), note="max_value a tensor"),
        KCase(K.relu, [x, floats(5, low=0, high=1), floats(5, low=1, high=4)], {}, each(relu), call=lambda x, a, m: K.relu(x, a, m), note="both tensors"),
        KCase(K.relu, [x], {}, each(lambda v: relu(v, 0.5)), call=lambda x: K.relu(x, alpha=np.array(0.5)), note="alpha a 0-d array"),
        KCase(K.relu, [array([-4, 4], "int32")], {"alpha": 0.5}, each(lambda v: relu(v, 0.5)), dtype=FLOATX, note="of integers"),
        KCase(K.relu, [array([-4, 4, 9], "int32")], {"max_value": 6}, each(lambda v: relu(v, 0, 6)), note="of integers"),
        KCase(K.elu, [x], {"alpha": 2.0}, each(lambda v: elu(v, 2))),
        KCase(K.elu, [x], {}, each(lambda v: elu(v, 0.5)), call=lambda x: K.elu(x, np.array(0.5)), note="alpha a 0-d array"),
        KCase(K.elu, [x, floats(5, low=0.5)], {}, each(elu), note="alpha a tensor"),
    ]  # fmt: skip
    return rows


def _clips() -> list[KCase]:
    x = array([-2, -0.5, 0.5, 3])
    rows = [
        KCase(K.clip, [x], {"min_value": low, "max_value": high}, each(bound(low, high)))
        for low, high in [(-1.0, 1.0), (0, 2), (None, 1.0), (0.0, None), (None, None), (1.0, -1.0), (1, 0), (-5.0, 5.0)]
    ]
    rows += [
        KCase(
            K.clip,
            [x],
            {"min_value": 0.0, "max_value": 1.0},
            each(bound(0, 1)),
            grad=lambda w, x: [w * [0, 0, 1, 0]],
            note="gradient 0 beyond",
        ),
        KCase(
            K.clip,
            [x, array([-1, 0, 0, 0]), array([1, 1, 1, 1])],
            {},
            lambda x, a, b: [max(a[0], -2), a[1], x[2], b[3]],
            note="tensors",
        ),
        KCase(
            K.clip,
            [x, array([0, 0, 1, 1]), array([1, -1, 0, 2])],
            {},
            lambda x, a, b: [0, 0, 1, 2],
            grad=False,
            note="tensors, a max below a min",
        ),
        KCase(K.clip, [ints(5)], {"min_value": -1, "max_value": 2}, each(bound(-1, 2)), note="of integers"),
        KCase(
            K.clip,
            [ints(5)],
            {"min_value": -0.5, "max_value": 2},
            each(bound(-0.5, 2)),
            dtype=FLOATX,
            note="of integers, by a float",
        ),
        KCase(K.clip, [array([3, 7], "uint8")], {"min_value": 4, "max_value": 6}, each(bound(4, 6)), note="of integers"),
        KCase(K.clip, [array(NEVER)], {"min_value": -1.0, "max_value": 1.0}, each(bound(-1, 1)), note="special", grad=False),
        KCase(K.clip, [floats(0, 2)], {"min_value": -1.0, "max_value": 1.0}, lambda x: x),
        KCase(K.clip, [floats(3, dtype="float16")], {"min_value": -1.0, "max_value": 1.0}, each(bound(-1, 1))),
    ]
    return rows


def _softmaxes() -> list[KCase]:
    last = lambda x: softmax(x, x.ndim - 1)  # noqa: E731
    rows = [
        KCase(K.softmax, [floats(*s, low=-5, high=5)], {}, last)
        for s in ((4,), (3, 4), (2, 3, 4), (2, 2, 2, 3), (1, 1), (3, 1), (0, 4), (2, 0))
    ]
    rows += [KCase(K.softmax, [floats(3, 4, dtype=d)], {}, last) for d in ("float16", "float64")]
    rows += [
        KCase(K.softmax, [ints(3, 4)], {}, last, dtype=FLOATX),
        KCase(
            K.softmax,
            [array([[1e4, 1e4, -1e4], [1000, 0, -1000]])],
            {},
            lambda x: [[0.5, 0.5, 0], [1, 0, 0]],
            grad=lambda w, x: [_softmax_slopes(w, x)],
            note="far out",
        ),
        KCase(K.softmax, [array([[0, -60]])], {}, lambda x: [[1, math.exp(-60)]], atol=0, note="the small ones too"),
        KCase(K.softmax, [array([[NAN, 1], [-INF, 0]])], {}, lambda x: [[NAN, NAN], [0, 1]], grad=False, note="special"),
    ]
    return rows


def _softmax_slopes(w: Array, x: Array) -> Array:
    p = softmax(x, 1)
    return p * (w - (w * p).sum(1, keepdims=True))


# ---------------------------------------------------------------------------------------------------- losses


def clipped(p: Array, dtype: str = "float32") -> Array:
    """Within [epsilon, 1 - epsilon], as near as the dtype comes."""
    low, high = np.array([EPS, 1 - EPS], dtype).astype("float64")
    return np.clip(p, low, high)


def categorical(output: Array, target: Array) -> Array:
    return -np.sum(target * np.log(clipped(output / output.sum(-1, keepdims=True))), -1)


def categorical_logits(output: Array, target: Array) -> Array:
    top = output.max(-1, keepdims=True)
    return -np.sum(target * (output - top - np.log(np.exp(output - top).sum(-1, keepdims=True))), -1)


def sparse(f: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda output, target: f(output, np.eye(output.shape[-1])[target.astype(int).reshape(output.shape[:-1])])


def binary(output: Array, target: Array) -> Array:
    p = clipped(output)
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def binary_logits(z: Array, target: Array) -> Array:
    return np.maximum(z, 0) - z * target + np.log1p(np.exp(-np.abs(z)))


def hot(*shape: int) -> Array:
    return np.eye(shape[-1], dtype="float32")[ints(*shape[:-1], low=0, high=shape[-1])]


def _crossentropies() -> list[KCase]:
    rows = []
    cross, from_logits = K.categorical_crossentropy, {"from_logits": True}
    for shape in ((3, 4), (4,), (2, 3, 4), (1, 1), (0, 4)):
        z, p, t = floats(*shape, low=-3, high=3), floats(*shape, low=0.1, high=1), labels(*shape).astype("float32")
        # rounding to float32 and back leaves the labels a distribution within 1e-7
        rows += [
            KCase(cross, [p, t], {}, categorical, note="rescaled", stretches=False, rtol=4e-6),
            KCase(cross, [p / p.sum(-1, keepdims=True), hot(*shape)], {}, categorical, note="one-hot", stretches=False, rtol=4e-6),
            KCase(cross, [z, t], from_logits, categorical_logits, stretches=False, rtol=4e-6),
            KCase(cross, [z, hot(*shape)], from_logits, categorical_logits, note="one-hot", stretches=False, rtol=4e-6),
            KCase(cross, [z, t], {}, lambda z, t: categorical(softmax(z, z.ndim - 1), t), call=lambda z, t: cross(K.softmax(z), t), note="of a softmax",
                  stretches=False, rtol=4e-6),
        ]  # fmt: skip
    s = K.sparse_categorical_crossentropy
    for shape, target in [((3, 4), ints(3, low=0, high=4)), ((3, 4), ints(3, low=0, high=4, dtype="int64")), ((3, 4), array([0, 3, 1])), ((2, 3, 4), ints(2, 3, low=0, high=4)),
                          ((2, 3, 4), ints(6, low=0, high=4)), ((2, 3, 4), array(ints(2, 3, 1, low=0, high=4))), ((3, 4), array([[0], [3], [1]], "uint8")),
                          ((4,), np.array(2)), ((0, 4), ints(0))]:  # fmt: skip
        z, p = floats(*shape, low=-3, high=3), floats(*shape, low=0.1, high=1)
        of_target = False if target.dtype.kind != "f" else None
        keywords: dict[str, Any] = {"stretches": False, "rtol": 4e-6, "fixed": target.shape != shape[:-1]}
        if of_target is None:  # whole floats: classes, which have no gradient
            keywords["grad"] = False
        rows += [
            KCase(s, [p, target], {}, sparse(categorical), **keywords),
            KCase(s, [z, target], from_logits, sparse(categorical_logits), **keywords),
            KCase(
                s,
                [z, target],
                {},
                sparse(lambda z, t: categorical(softmax(z, z.ndim - 1), t)),
                call=lambda z, t: s(K.softmax(z), t),
                note="of a softmax",
                **keywords,
            ),
        ]
    b = K.binary_crossentropy
    for shape in ((3, 4), (), (0, 2), (1, 1)):
        z, p, t = floats(*shape, low=-3, high=3), floats(*shape, low=0.1, high=0.9), floats(*shape, low=0, high=1, seed=1)
        rows += [
            KCase(b, [p, t], {}, binary, stretches=False, rtol=4e-6),
            KCase(b, [z, t], from_logits, binary_logits, stretches=False, rtol=4e-6),
            KCase(
                b,
                [z, t],
                {},
                binary_logits,
                call=lambda z, t: b(K.sigmoid(z), t),
                note="of a sigmoid",
                stretches=False,
                rtol=4e-6,
            ),
        ]
    return rows


def _ends() -> list[KCase]:
    """Where the clip holds, and beyond it; logits of any size."""
    cross, s, b, logits = (
        K.categorical_crossentropy,
        K.sparse_categorical_crossentropy,
        K.binary_crossentropy,
        {"from_logits": True},
    )
    least, most = -math.log(EPS), -math.log1p(-EPS)
    z = array([[1e4, -1e4], [-1e4, 1e4], [1000, 999]])
    nothing = lambda w, x, t: [np.zeros(x.shape), -w[:, None] * np.log(clipped(x))]  # noqa: E731
    flat = lambda w, z, t: [np.zeros(z.shape), -w[:, None] * np.clip(_log_softmax(z), math.log(EPS), math.log1p(-EPS))]  # noqa: E731
    targets = array([[0, 1], [1, 0]])
    rows = [
        KCase(cross, [array([[1, 0], [0, 1]]), targets], {}, lambda p, t: [least, least], note="at the clip", grad=nothing, second=False),
        KCase(cross, [array([[1, 0], [0, 1]]), targets[::-1].copy()], {}, lambda p, t: [most, most], note="at the other clip", grad=nothing, second=False),
        KCase(cross, [z[:2], targets], {}, lambda z, t: [least, least], call=lambda z, t: cross(K.softmax(z), t), note="beyond the clip of a softmax", grad=flat, second=False),
        KCase(cross, [z, array([[0, 1], [0, 1], [1, 0]])], logits, lambda z, t: [2e4, 0, math.log1p(math.exp(-1))], note="far out",
              grad=lambda w, z, t: [w[:, None] * (softmax(z, 1) - t), -w[:, None] * _log_softmax(z)]),
        KCase(s, [array([[1, 0], [0, 1]]), array([1, 0], "int32")], {}, lambda p, t: [least, least], note="at the clip", grad=lambda w, p, t: [np.zeros(p.shape), None], second=False),
        KCase(s, [z[:2], array([1, 0], "int32")], {}, lambda z, t: [least, least], call=lambda z, t: s(K.softmax(z), t), note="beyond the clip of a softmax",
              grad=lambda w, z, t: [np.zeros(z.shape), None], second=False),
        KCase(s, [z, array([1, 1, 0], "int32")], logits, lambda z, t: [2e4, 0, math.log1p(math.exp(-1))], note="far out",
              grad=lambda w, z, t: [w[:, None] * (softmax(z, 1) - np.eye(2)[t]), None]),
        KCase(b, [array([0, 1, 0, 1]), array([1, 0, 0, 1])], {}, lambda p, t: binary(p, t), note="at the clip", rtol=1e-5,
              grad=lambda w, p, t: [np.zeros(4), w * np.log((1 - clipped(p, "float64")) / clipped(p, "float64"))], second=False),
        KCase(b, [array(FAR), array([1, 0, 0, 1, 0.5])], logits, lambda z, t: [0, 0, 88, 88, math.log(2)], note="far out",
              grad=lambda w, z, t: [w * (each(sigmoid)(z) - t), -w * z], second=False),
        KCase(b, [array([1e4, -1e4]), array([0, 1])], {}, lambda z, t: [least, least], call=lambda z, t: b(K.sigmoid(z), t), note="beyond the clip of a sigmoid", rtol=1e-5,
              grad=lambda w, z, t: [np.zeros(2), w * np.array([-1, 1]) * (least - most)], second=False),
        KCase(cross, [array([[NAN, 1]]), array([[0, 1]])], {}, lambda p, t: [NAN], note="special", grad=False),
        KCase(cross, [array([[NAN, 1]]), array([[0, 1]])], logits, lambda p, t: [NAN], note="special", grad=False),
        KCase(b, [array([NAN, 0.5]), array([1, NAN])], {}, lambda p, t: [NAN, NAN], note="special", grad=False),
        KCase(cross, [array([[0.25, 0.75]]), array([[1, 0]], "int32")], {}, categorical, note="integer labels"),
        KCase(b, [array([0.25, 0.75]), array([True, False], "bool")], {}, binary, note="bool labels"),
    ]  # fmt: skip
    for d in ("float16", "float64"):
        p, t = np.array([[0.25, 0.75], [0.5, 0.5]], d), np.array([[1, 0], [0.5, 0.5]], d)
        rows += [
            KCase(cross, [p, t], {}, categorical), KCase(cross, [p, t], logits, categorical_logits), KCase(b, [p, t], {}, binary), KCase(b, [p, t], logits, binary_logits),
            KCase(s, [p, array([1, 0], "int32")], {}, sparse(categorical)), KCase(s, [p, array([1, 0], "int32")], logits, sparse(categorical_logits)),
        ]  # fmt: skip
    # float16 has no 1e-7 with all its digits: its least normal number is the bound
    tiny = float(np.finfo("float16").tiny)
    rows.append(
        KCase(
            cross,
            [array([[1, 0]], "float16"), array([[0, 1]], "float16")],
            {},
            lambda p, t: [-math.log(tiny)],
            note="at the clip of float16",
            grad=False,
        )
    )
    return rows


def _log_softmax(z: Array) -> Array:
    top = z.max(-1, keepdims=True)
    return z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))


ROWS = [*_activations(), *_relus(), *_clips(), *_softmaxes(), *_crossentropies(), *_ends()]

"""Rows of the functions that look at shapes, rearrange, join, repeat and select."""

from __future__ import annotations

from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import INF, NAN, Array, array, bools, floats, ints
from tests.cases.elementwise import each, zeros
from tests.cases.index import taken
from tests.kcases.base import FLOATX, KCase

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def of_dtype(dtype: str, *shape: int) -> Array:
    return ints(*shape, low=0, high=5).astype(dtype)


def _layout() -> list[KCase]:
    in_order = lambda s: lambda x: np.array(x.ravel().tolist()).reshape(s)  # noqa: E731
    rows = [
        KCase(K.reshape, [floats(*shape)], {"shape": wanted}, in_order(found), known=known)
        for shape, wanted, found, known in [
            ((2, 6), (3, 4), (3, 4), None), ((2, 6), [3, 4], (3, 4), None), ((2, 6), (-1,), (12,), None), ((2, 6), -1, (12,), None), ((2, 6), (4, -1), (4, 3), None),
            ((2, 6), (np.int64(3), -1), (3, 4), None), ((2, 6), np.array([3, 4]), (3, 4), None), ((), (1, 1), (1, 1), None), ((1,), (), (), None), ((0, 3), (3, 0), (3, 0), None),
            ((0, 3), (-1, 3), (0, 3), None), ((2, 3), (2, 3), (2, 3), None),
        ]
    ]  # fmt: skip
    rows += [
        KCase(K.reshape, [floats(2, 6)], {}, in_order((2, 3, 2)), call=lambda x: K.reshape(x, (K.shape(x)[0], 3, 2)), note="symbolic size"),
        KCase(K.reshape, [floats(2, 6)], {}, in_order((6, 2)), call=lambda x: K.reshape(x, (-1, K.shape(x)[0])), note="-1 and a symbolic size"),
        KCase(K.reshape, [floats(2, 6)], {}, in_order((3, 2, 2)), call=lambda x: K.reshape(x, (3, K.shape(x)[0], K.shape(x)[1] // 3)), note="arithmetic of sizes"),
        KCase(K.reshape, [floats(2, 6), floats(4, 3)], {}, lambda x, y: x.reshape(4, 3), call=lambda x, y: K.reshape(x, K.shape(y)), note="symbolic shape"),
        KCase(K.reshape, [floats(2, 6)], {}, in_order((4, 3)), call=lambda x: K.reshape(x, K.stack([4, K.shape(x)[1] // 2])), note="stacked sizes", fixed=True),
        KCase(K.reshape, [floats(0, 6)], {}, in_order((0, 3, 2)), call=lambda x: K.reshape(x, (K.shape(x)[0], 3, 2)), note="an empty batch"),
        *[KCase(K.reshape, [of_dtype(d, 2, 3)], {"shape": (3, 2)}, in_order((3, 2))) for d in DTYPES],
        *[KCase(K.flatten, [floats(*s)], {}, in_order((-1,))) for s in ((2, 3), (), (5,), (0, 3), (2, 1, 3))],
        *[
            KCase(K.batch_flatten, [floats(*s)], {}, in_order(found))
            for s, found in (((2, 3, 4), (2, 12)), ((2, 3), (2, 3)), ((5,), (5, 1)), ((0, 3, 4), (0, 12)), ((2, 0), (2, 0)))
        ],
        *[
            KCase(K.permute_dimensions, [floats(2, 3, 4)], {"pattern": pattern}, lambda x, p=pattern: np.einsum(x, list(range(3)), [a % 3 for a in p]))
            for pattern in ((0, 1, 2), (2, 0, 1), [1, 2, 0], (0, 2, 1), (-1, 0, 1))
        ],
        KCase(K.permute_dimensions, [floats()], {"pattern": ()}, lambda x: x),
        KCase(K.permute_dimensions, [floats(0, 2)], {"pattern": (1, 0)}, lambda x: np.zeros((2, 0))),
        KCase(K.transpose, [floats(2, 3)], {}, lambda x: [[x[i, j] for i in range(2)] for j in range(3)]),
        KCase(K.transpose, [floats(2, 3, 4)], {}, lambda x: [[[x[i, j, k] for i in range(2)] for j in range(3)] for k in range(4)]),
        *[KCase(K.transpose, [x], {}, lambda x: x) for x in (floats(), floats(3), bools(1, 1))],
        *[
            KCase(K.expand_dims, [floats(2, 3)], attrs, lambda x, s=found: x.reshape(s))
            for attrs, found in [({}, (2, 3, 1)), ({"dim": 0}, (1, 2, 3)), ({"dim": 1}, (2, 1, 3)), ({"dim": 2}, (2, 3, 1)), ({"dim": -2}, (2, 1, 3)), ({"dim": -3}, (1, 2, 3))]
        ],
        KCase(K.expand_dims, [floats()], {}, lambda x: [x]),
        KCase(K.expand_dims, [bools(0)], {"dim": 0}, lambda x: np.zeros((1, 0))),
        *[
            KCase(K.squeeze, [floats(1, 2, 1, 3)], {"axis": axis}, lambda x, s=found: x.reshape(s), stretches=False)
            for axis, found in [(0, (2, 1, 3)), (2, (1, 2, 3)), (-2, (1, 2, 3)), (-4, (2, 1, 3))]
        ],
        KCase(K.squeeze, [ints(1, 0)], {"axis": 0}, lambda x: np.zeros(0)),
        *[
            KCase(K.reverse, [floats(2, 3, 4)], {"axes": axes}, lambda x, flipped=flipped: x[tuple(slice(None, None, -1) if a in flipped else slice(None) for a in range(3))])
            for axes, flipped in [(0, (0,)), (1, (1,)), (-1, (2,)), ([0, 2], (0, 2)), ((1, -1), (1, 2)), ([], ())]
        ],
        KCase(K.reverse, [ints(3)], {"axes": 0}, lambda x: x.tolist()[::-1]),
        KCase(K.reverse, [floats(0, 2)], {"axes": [0, 1]}, lambda x: x),
        KCase(K.pattern_broadcast, [floats(2, 1)], {"broatcastable": [False, True]}, lambda x: x),
        KCase(K.pattern_broadcast, [floats(1, 3), floats(2, 3)], {}, lambda x, y: x + y, call=lambda x, y: K.pattern_broadcast(x, [True, False]) + y, note="stretched",
              stretches=False),
    ]  # fmt: skip
    return rows


def _joined() -> list[KCase]:
    together = lambda *xs: K.concatenate(list(xs))  # noqa: E731
    first = lambda *xs: K.concatenate(xs, axis=0)  # noqa: E731
    rows = [
        KCase(
            K.concatenate,
            [floats(2, 3), floats(2, 1, seed=1)],
            {},
            lambda x, y: [[*a, *b] for a, b in zip(x, y, strict=True)],
            call=together,
            stretches=False,
        ),
        KCase(
            K.concatenate,
            [floats(2, 3), floats(1, 3, seed=1)],
            {},
            lambda x, y: [*x, *y],
            call=first,
            stretches=False,
            note="axis 0",
        ),
        KCase(
            K.concatenate,
            [floats(2, 3, 2)] * 3,
            {},
            lambda *xs: np.concatenate(xs, 1),
            call=lambda *xs: K.concatenate(xs, axis=-2),
            note="axis -2",
        ),
        KCase(K.concatenate, [floats(3)], {}, lambda x: x, call=together),
        KCase(K.concatenate, [floats(0), floats(2)], {}, lambda x, y: y, call=together),
        KCase(
            K.concatenate, [floats(2), ints(3)], {}, lambda x, y: [*x, *y], dtype="float32", call=together, note="of two kinds"
        ),
        KCase(
            K.concatenate,
            [ints(2, dtype="uint8"), ints(2, dtype="int8")],
            {},
            lambda x, y: [*x.tolist(), *y.tolist()],
            dtype="int16",
            call=together,
            note="of two kinds",
        ),
        KCase(
            K.concatenate,
            [floats(2), floats(2, dtype="float64")],
            {},
            lambda x, y: [*x, *y],
            dtype="float64",
            call=together,
            note="of two kinds",
        ),
        KCase(K.concatenate, [bools(2), bools(1)], {}, lambda x, y: [*x, *y], call=together),
        KCase(
            K.concatenate,
            [floats(2)],
            {},
            lambda x: [*x, 1, 2],
            call=lambda x: K.concatenate([x, [1, 2]]),
            note="of a list",
            arrays=False,
        ),
        KCase(K.stack, [floats(2, 3), floats(2, 3, seed=1)], {}, lambda *xs: np.array(xs), call=lambda *xs: K.stack(list(xs))),
        KCase(K.stack, [floats(), floats(seed=1)], {}, lambda *xs: xs, call=lambda *xs: K.stack(xs)),
        KCase(K.stack, [floats()], {}, lambda x: [x, 2], call=lambda x: K.stack([x, 2]), note="of a number"),
        KCase(
            K.stack,
            [ints(2), floats(2)],
            {},
            lambda *xs: np.array(xs),
            dtype="float32",
            call=lambda *xs: K.stack(xs),
            note="of two kinds",
        ),
        KCase(K.stack, [floats(0, 2)], {}, lambda x: x[None], call=lambda x: K.stack([x])),
    ]
    return rows


def _repeated() -> list[KCase]:
    rows = [
        KCase(K.repeat, [floats(2, 3)], {"n": n}, lambda x, n=n: np.array([[row] * n for row in x.tolist()]).reshape(2, n, 3))
        for n in (1, 2, 5, 0, np.int64(2))
    ]
    rows += [
        KCase(K.repeat, [floats(2, 3), floats(4)], {}, lambda x, y: [[row] * 4 for row in x.tolist()], call=lambda x, y: K.repeat(x, K.shape(y)[0]), note="symbolic size"),
        KCase(K.repeat, [ints(0, 3)], {"n": 2}, lambda x: np.zeros((0, 2, 3))),
        *[
            KCase(K.repeat_elements, [floats(2, 3)], {"rep": rep, "axis": axis}, lambda x, r=rep, a=axis: np.repeat(x, r, a))
            for rep, axis in [(2, 0), (3, 1), (2, -1), (1, 0), (0, 1), (np.int64(2), -2)]
        ],
        KCase(K.repeat_elements, [floats(2, 3), floats(4)], {}, lambda x, y: np.repeat(x, 4, 1), call=lambda x, y: K.repeat_elements(x, K.shape(y)[0], 1), note="symbolic size"),
        KCase(K.repeat_elements, [bools(3)], {"rep": 2, "axis": 0}, lambda x: [v for v in x for _ in "ab"]),
        *[
            KCase(K.tile, [floats(*shape)], {"n": n}, lambda x, n=n: np.tile(x, n))
            for shape, n in [((3,), 2), ((2, 3), 2), ((2, 3), (2, 1)), ((2, 3), [1, 3]), ((2, 3), (2,)), ((2, 3), (2, 1, 2)), ((), 3), ((), ()), ((0, 3), (2, 2)), ((2, 3), (0, 1)), ((3,), [np.int64(2)])]
        ],
        KCase(K.tile, [floats(3), floats(4)], {}, lambda x, y: np.tile(x, 4), call=lambda x, y: K.tile(x, K.shape(y)[0]), note="symbolic size"),
        KCase(K.tile, [floats(2, 3), floats(4)], {}, lambda x, y: np.tile(x, (4, 2)), call=lambda x, y: K.tile(x, (K.shape(y)[0], 2)), note="symbolic size"),
        KCase(K.tile, [floats(2, 3), floats(2, 1)], {}, lambda x, y: np.tile(x, (2, 1)), call=lambda x, y: K.tile(x, K.shape(y)), note="symbolic shape", stretches=False),
    ]  # fmt: skip
    return rows


def _values() -> list[KCase]:
    rows = [
        *[KCase(K.shape, [x], {}, lambda x: np.array(x.shape), dtype="int32", stretches=False) for x in (floats(2, 3), floats(), bools(0, 4), floats(1, 1))],
        KCase(K.shape, [floats(2, 3)], {}, lambda x: 3, dtype="int32", call=lambda x: K.shape(x)[1], note="of one axis"),
        KCase(K.shape, [floats(2, 3)], {}, lambda x: 3, dtype="int32", call=lambda x: K.shape(x)[-1], note="of the last axis"),
        KCase(K.shape, [floats(2, 3, 4)], {}, lambda x: [3, 4], dtype="int32", call=lambda x: K.shape(x)[1:], note="of the last axes"),
        *[
            KCase(f, [of_dtype(d, 2, 3)], {}, lambda x, v=v: np.full(x.shape, v), grad=zeros, stretches=False)
            for f, v in ((K.zeros_like, 0), (K.ones_like, 1)) for d in DTYPES
        ],
        *[
            KCase(f, [floats(*s)], {"dtype": d}, lambda x, v=v: np.full(x.shape, v), dtype=d, grad=zeros, stretches=False)
            for f, v in ((K.zeros_like, 0), (K.ones_like, 1)) for s, d in [((2, 3), "int32"), ((), "float64"), ((0, 2), "bool"), ((1,), "float16")]
        ],
        KCase(K.zeros_like, [floats(2)], {"name": "nothing"}, lambda x: [0, 0], grad=zeros),
        *[
            KCase(K.cast, [of_dtype(a, 2, 3)], {"dtype": b}, lambda x: x, dtype=b, grad=a.startswith("float") and b in ("float32", "float64"))
            for a in DTYPES for b in DTYPES
        ],
        KCase(K.cast, [array([1.7, -1.7, 0])], {"dtype": "int32"}, each(int), dtype="int32", note="towards 0", grad=False),
        KCase(K.cast, [array([0, -0.0, 0.1, NAN, -INF])], {"dtype": "bool"}, lambda x: [0, 0, 1, 1, 1], dtype="bool", note="of what is not 0", grad=False),
        KCase(K.cast, [floats()], {"dtype": "float64"}, lambda x: x, dtype="float64"),
        KCase(K.cast, [floats(0, 2)], {"dtype": "int8"}, lambda x: x, dtype="int8", grad=False),
        KCase(K.cast, [floats(2)], {}, lambda x: x, dtype="float64", call=lambda x: K.cast(x, np.float64), note="to a NumPy type"),
        *[KCase(f, [x], {}, lambda x: x) for f in (K.identity, K.to_dense) for x in (floats(2, 3), floats(), ints(0), bools(2))],
        KCase(K.identity, [floats(2)], {"name": "mine"}, lambda x: x),
        *[KCase(K.stop_gradient, [x], {}, lambda x: x, grad=zeros) for x in (floats(2, 3), ints(2), array([NAN, INF]))],
        KCase(K.stop_gradient, [floats(3)], {}, lambda x: x * x, call=lambda x: x * K.stop_gradient(x), grad=lambda w, x: [w * x], arrays=False, note="of one factor"),
        KCase(K.stop_gradient, [floats(3), floats(3, seed=1)], {}, lambda x, y: x + y, call=lambda x, y: sum(K.stop_gradient([x, y])), grad=zeros, note="of a list"),
        *[KCase(K.print_tensor, [x], {"message": "x is"}, lambda x: x) for x in (floats(2, 3), floats(), bools(0))],
    ]  # fmt: skip
    for args, keywords in [
        ((5,), {}),
        ((1, 7), {}),
        ((1, 7, 2), {}),
        ((5, 0, -2), {}),
        ((0,), {}),
        ((3, 0), {}),
        ((-3,), {}),
        ((0, -3, -1), {}),
        ((2, 9), {"step": 3}),
    ]:
        wanted = lambda args=args, keywords=keywords: list(range(*(args if "step" not in keywords else (*args, 3))))  # noqa: E731
        for dtype in ("int32", "int64", "float32", "uint8") if min(wanted(), default=0) >= 0 else ("int32", "float64"):
            rows.append(
                KCase(
                    K.arange,
                    [],
                    {},
                    wanted,
                    dtype=dtype,
                    call=lambda a=args, k=keywords, d=dtype: K.arange(*a, dtype=d, **k),
                    note=f"{args} {keywords} {dtype}",
                )
            )
    rows += [
        KCase(K.arange, [], {}, lambda: [0, 0.5, 1.0], dtype="float32", call=lambda: K.arange(0, 1.5, 0.5, dtype="float32"), note="of floats"),
        KCase(K.arange, [], {}, lambda: [0, 1, 2], dtype="int32", call=lambda: K.arange(3, dtype=None), note="no dtype"),
        KCase(K.arange, [floats(4)], {}, lambda x: [0, 1, 2, 3], dtype="int32", call=lambda x: K.arange(K.shape(x)[0]), note="symbolic stop", arrays=False),
        KCase(K.arange, [floats(4)], {}, lambda x: [1, 3], dtype="float32", call=lambda x: K.arange(1, K.shape(x)[0], 2, dtype="float32"), note="symbolic stop", arrays=False, grad=False),
        KCase(K.arange, [floats(4)], {}, lambda x: np.zeros(0), dtype="int32", call=lambda x: K.arange(0, -K.shape(x)[0]), note="negative symbolic stop", arrays=False),
        KCase(K.arange, [floats(4)], {}, lambda x: [4, 3, 2, 1], dtype="int32", call=lambda x: K.arange(K.shape(x)[0], 0, -1), note="symbolic start", arrays=False),
    ]  # fmt: skip
    return rows


def _selected() -> list[KCase]:
    rows = []
    for shape, indices in [((4, 3), ints(5, low=0, high=4)), ((4, 3), ints(2, 3, low=-4, high=4)), ((4,), np.array(2)), ((4, 3), np.array(-1)), ((4, 2, 3), ints(2, 2, low=0, high=4)),
                           ((4, 3), np.zeros(3, "int64")), ((4, 3), ints(0)), ((4, 0), ints(3, low=0, high=4)), ((0, 3), ints(0, 2))]:  # fmt: skip
        rows.append(KCase(K.gather, [floats(*shape), indices], {}, taken))
    for dtype in ("uint8", "int8", "int16", "int64"):
        rows.append(KCase(K.gather, [floats(3, 2), array([2, 0], dtype)], {}, taken))
    rows += [KCase(K.gather, [of_dtype(d, 3, 2), array([2, 0, 2], "int32")], {}, taken) for d in DTYPES]
    rows.append(
        KCase(
            K.gather,
            [floats(3, 2)],
            {},
            lambda x: [x[1], x[1]],
            call=lambda x: K.gather(x, [1, 1]),
            note="of a list",
            arrays=False,
        )
    )
    rows.append(
        KCase(K.gather, [floats(3, 2)], {}, lambda x: x[1], call=lambda x: K.gather(x, 1), note="of a number", arrays=False)
    )

    def hot(x: Array, depth: int) -> Array:
        return np.array([[1.0 if i == j else 0.0 for j in range(depth)] for i in x.ravel()]).reshape((*x.shape, depth))

    for indices, depth in [(ints(5, low=0, high=4), 4), (ints(2, 3, low=0, high=4, dtype="int64"), 4), (np.array(1), 3), (array([-1, 0, 3], "int32"), 3), (ints(0), 2),
                           (array([255, 7], "uint8"), 300), (ints(2, 1, low=0, high=2, dtype="int8"), np.int64(2))]:  # fmt: skip
        rows.append(
            KCase(K.one_hot, [indices], {"nb_classes": depth}, lambda x, n=depth: hot(x, int(n)), dtype=FLOATX, stretches=False)
        )
    scores = array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.1], [NAN, 1, 2], [1, INF, 0], [3, 2, 1]])
    for targets, k, wanted in [
        ([1, 1, 1, 0, 0], 1, [1, 1, 0, 0, 1]), ([2, 2, 1, 1, 2], 2, [1, 0, 1, 0, 0]), ([0, 0, 0, 2, 1], 3, [1, 1, 0, 1, 1]), ([-1, 3, 1, 0, 0], 3, [0, 0, 1, 1, 1]),
        ([1, 1, 1, 1, 1], 0, [0] * 5),
    ]:  # fmt: skip
        rows += [
            KCase(K.in_top_k, [scores, array(targets, d)], {"k": k}, lambda p, t, w=wanted: w, dtype="bool")
            for d in ("int32", "int64")
        ]
    return rows


ROWS: list[Any] = [*_layout(), *_joined(), *_repeated(), *_values(), *_selected()]

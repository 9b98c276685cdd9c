"""Rows of the ops that select by position and put back. (Basic indexing has a grid of its own in tests/backend/test_indexing.py.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import INF, NAN, Array, Case, array, bools, floats, ints, size

_LOW, _HIGH = -(2**63), 2**63 - 1
ALL = (0, _HIGH, 1)


def key_of(form: str, numbers: tuple[int | None, ...], sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """What NumPy takes for the attrs of an index."""
    rest = iter(sizes)
    entries = iter([int(next(rest)) if number is None else number for number in numbers])
    key: list[Any] = []
    for letter in form:
        if letter == "n":
            key.append(None)
        elif letter == "i":
            key.append(next(entries))
        else:
            key.append(slice(next(entries), next(entries), next(entries)))
    return tuple(key)


def _indexing() -> list[Case]:
    rows = []
    for shape, form, numbers, sizes, known in [
        ((3, 4), "i", (1,), [], None), ((3, 4), "i", (-1,), [], None), ((3, 4), "si", (*ALL, 2), [], None), ((3, 4), "ii", (0, -4), [], None),
        ((3, 4), "s", (1, 3, 1), [], None), ((3, 4), "ss", (0, _HIGH, 2, 1, 4, 2), [], None), ((5,), "s", (_HIGH, _LOW, -1), [], None),
        ((5,), "s", (4, 0, -2), [], None), ((5,), "s", (-2, _HIGH, 1), [], None), ((5,), "s", (3, 1, 1), [], None), ((5,), "s", (9, 20, 1), [], None),
        ((3, 4), "nsn", ALL, [], None), ((3,), "in", (1,), [], None), ((2, 3, 4), "isi", (1, *ALL, -2), [], None), ((), "n", (), [], None),
        ((0, 3), "s", (0, 2, 1), [], None), ((0, 3), "si", (*ALL, 1), [], None), ((3, 4), "", (), [], None),
        ((3, 4), "i", (None,), [size(2)], None), ((3, 4), "i", (None,), [size(-3, "int64")], None),
        ((5, 2), "s", (None, None, 1), [size(1), size(4, "int8")], (None, 2)), ((5,), "s", (0, None, 2), [size(-1)], (None,)),
        ((3, 4), "si", (None, _HIGH, 1, None), [size(1), size(0, "uint8")], (None,)),
    ]:  # fmt: skip
        attrs = {"form": form, "numbers": numbers}
        x, taken = floats(*shape), lambda x, *sizes, f=form, n=numbers: x[key_of(f, n, sizes)]

        def put(g: Array, like: Array, *sizes: Any, f: str = form, n: Any = numbers) -> Array:
            out = np.zeros(like.shape)
            out[key_of(f, n, sizes)] = g
            return out

        rows.append(Case(o.index, [x, *sizes], attrs, taken, known=known))
        g = floats(*np.shape(taken(x, *sizes)), seed=1)
        rows.append(Case(o.scatter_index, [g, x, *sizes], attrs, put))
    rows += [
        Case(o.index, [x], {"form": "i", "numbers": (1,)}, lambda x: x[1])
        for x in (bools(3, 2), ints(3, dtype="uint8"), floats(3, dtype="float16"))
    ]
    rows.append(
        Case(o.scatter_index, [ints(2), floats(5)], {"form": "s", "numbers": (1, 3, 1)}, lambda g, x: [0, g[0], g[1], 0, 0])
    )
    return rows


def added(g: Array, indices: Array, like: Array) -> Array:
    """The rows of g added up, one by one."""
    out = np.zeros(like.shape, "float64" if g.dtype.kind == "f" else g.dtype)
    for at in np.ndindex(indices.shape):
        out[indices[at]] += g[at]
    return out


def taken(x: Array, indices: Array) -> Array:
    rows = [x[i] for i in indices.ravel()]
    return np.array(rows).reshape(indices.shape + x.shape[1:])


def _rows() -> list[Case]:
    rows = []
    for shape, indices in [
        ((4, 3), ints(5, low=0, high=4)), ((4, 3), ints(2, 3, low=-4, high=4)), ((4,), np.array(2)), ((4,), np.array(-1)), ((4, 2, 3), ints(2, 2, low=0, high=4)),
        ((4, 3), np.zeros(3, "int64")), ((4, 3), ints(0)), ((4, 0), ints(3, low=0, high=4)), ((4, 0), ints(2, 3, low=0, high=4)), ((0, 3), ints(0, 2)), ((1, 3), np.zeros((2,), "int32")),
        ((200, 2), ints(300, low=0, high=256, dtype="uint8") % 200),
        ((5, 40), ints(100, low=-5, high=5)),  # enough elements to go another way
    ]:  # fmt: skip
        rows.append(Case(o.gather, [floats(*shape), indices], {}, taken))
        g = floats(*indices.shape, *shape[1:], seed=1)
        many = g.size > 500  # too many for differences
        rows.append(Case(o.scatter_add, [g, indices, floats(*shape)], {}, added, rtol=1e-5 if many else None,
                         grad=(lambda w, g, indices, like: [taken(w, indices), np.zeros(like.shape)]) if many else True))  # fmt: skip
    for dtype in ("uint8", "int8", "int16", "int64"):
        rows.append(Case(o.gather, [floats(3, 2, dtype="float64"), array([2, 0], dtype)], {}, taken))
    rows += [
        Case(o.gather, [x, array([1, 0], "int32")], {}, taken, grad=False)
        for x in (bools(2, 2), ints(2, dtype="uint8"), array([NAN, INF]))
    ]
    rows.append(Case(o.scatter_add, [ints(3), array([1, 1, 0], "int32"), floats(2)], {}, added))
    for shape, indices in [((3, 4), ints(3, low=0, high=4)), ((3, 4), ints(3, low=-4, high=4, dtype="int64")), ((4,), np.array(1)), ((2, 3, 5), ints(2, 3, low=0, high=5)),
                           ((0, 4), ints(0)), ((2, 0, 3), ints(2, 0)), ((1, 3), array([2], "uint8"))]:  # fmt: skip
        rows.append(Case(o.pick, [floats(*shape), indices], {}, _picked))
        rows.append(Case(o.unpick, [floats(*indices.shape, seed=1), indices, floats(*shape)], {}, _unpicked))
    rows.append(Case(o.pick, [ints(2, 3), array([2, 0], "int32")], {}, _picked))
    rows.append(Case(o.unpick, [ints(2), array([2, 0], "int32"), floats(2, 3)], {}, _unpicked))
    return rows


def _picked(x: Array, indices: Array) -> Array:
    return np.array([x[at][indices[at]] for at in np.ndindex(indices.shape)]).reshape(indices.shape)


def _unpicked(g: Array, indices: Array, like: Array) -> Array:
    out = np.zeros(like.shape)
    for at in np.ndindex(indices.shape):
        out[at][indices[at]] = g[at]
    return out


def _classes() -> list[Case]:
    def hot(depth: int) -> Callable[[Array], Array]:
        return lambda x: np.array([[1.0 if i == j else 0.0 for j in range(depth)] for i in x.ravel()]).reshape(
            (*x.shape, depth)
        )

    rows = [
        Case(o.one_hot, [indices], {"depth": depth, "dtype": dtype}, hot(depth), dtype=dtype)
        for indices, depth, dtype in [
            (ints(5, low=0, high=4), 4, "float32"), (ints(2, 3, low=0, high=4, dtype="int64"), 4, "float64"), (np.array(1), 3, "float16"),
            (array([-1, 0, 3, 99], "int32"), 3, "float32"), (ints(0), 3, "float32"), (ints(2, low=0), 0, "float32"),
            (array([255, 7], "uint8"), 300, "float32"), (array([1, 0], "int8"), 2, "int32"), (array([1, 0], "int8"), 2, "bool"),
        ]
    ]  # fmt: skip

    def among(predictions: Array, targets: Array, k: int) -> list[bool]:
        found = []
        for row, target in zip(predictions.tolist(), targets.tolist(), strict=True):
            score = row[target] if 0 <= target < len(row) else NAN
            found.append(bool(abs(score) < INF and sum(other > score for other in row) < k))
        return found

    scores = array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [NAN, 1, 2], [1, INF, 0], [3, 2, 1]])
    for k in (0, 1, 2, 3, 9):
        for targets in ([1, 1, 2, 0, 1, 2], [2, 0, 0, 1, 0, 3], [-1, 2, 1, 2, 2, 0]):
            rows.append(
                Case(o.in_top_k, [scores, array(targets, "int32")], {"k": k}, lambda p, t, k=k: among(p, t, k), dtype="bool")
            )
    rows += [
        Case(
            o.in_top_k,
            [floats(3, 5, dtype=d), ints(3, low=0, high=5, dtype=i)],
            {"k": 2},
            lambda p, t: among(p, t, 2),
            dtype="bool",
        )
        for d, i in [("float64", "int64"), ("float16", "uint8")]
    ]
    rows.append(Case(o.in_top_k, [floats(0, 5), ints(0)], {"k": 2}, lambda p, t: np.zeros(0, bool), dtype="bool"))
    rows.append(Case(o.in_top_k, [floats(2, 0), ints(2)], {"k": 2}, lambda p, t: [False, False], dtype="bool"))
    return rows


ROWS = [*_indexing(), *_rows(), *_classes()]

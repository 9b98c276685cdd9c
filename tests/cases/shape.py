"""Rows of the ops that rearrange, join and repeat, and of sizes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from tests.cases.base import Array, Case, bools, floats, ints, size

Entries = tuple[int | None, ...]


def filled(entries: Entries, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    rest = iter(sizes)
    return tuple(int(next(rest)) if entry is None else entry for entry in entries)


def _reshape() -> list[Case]:
    def row(shape: tuple[int, ...], entries: Entries, *sizes: Array, **keywords: Any) -> Case:
        wanted = lambda x, *sizes: np.array(x.ravel().tolist()).reshape(filled(entries, sizes))  # noqa: E731
        return Case(o.reshape, [keywords.pop("x", floats(*shape)), *sizes], {"shape": entries}, wanted, **keywords)

    return [
        row((2, 6), (3, 4)), row((2, 6), (-1,)), row((2, 6), (4, -1)), row((2, 6), (12, 1, 1)), row((), (1, 1)), row((), ()),
        row((1, 1), ()), row((), (-1,)), row((0, 3), (0,)), row((0, 3), (3, -1)), row((0, 3), (5, 0, 2)), row((2, 3), (2, 3)),
        row((2, 6), (None, 4), size(3), known=(None, 4)),
        row((2, 6), (None, -1), size(3, "int64"), known=(None, None)),
        row((2, 6), (None, 2, None), size(3), size(2, "uint8"), known=(None, 2, None)),
        row((0, 3), (None, 3), size(0), known=(None, 3)),
        *[row((2, 6), (3, 4), x=x) for x in (ints(2, 6, dtype="uint8"), bools(2, 6), floats(2, 6, dtype="float16"), ints(2, 6, dtype="int64"))],
    ]  # fmt: skip


def _layout() -> list[Case]:
    rows = []
    for perm in itertools.permutations(range(3)):
        wanted = lambda x, perm=perm: np.stack(  # noqa: E731
            [[[x[tuple(dict(zip(perm, (i, j, k), strict=True))[a] for a in range(3))] for k in range(x.shape[perm[2]])]
              for j in range(x.shape[perm[1]])] for i in range(x.shape[perm[0]])]
        )  # fmt: skip
        rows.append(Case(o.transpose, [floats(2, 3, 4)], {"perm": perm}, wanted))
    rows += [
        Case(o.transpose, [floats()], {"perm": ()}, lambda x: x),
        Case(o.transpose, [floats(5)], {"perm": (0,)}, lambda x: x),
        Case(o.transpose, [floats(0, 3)], {"perm": (1, 0)}, lambda x: np.zeros((3, 0))),
        Case(o.transpose, [bools(2, 3)], {"perm": (1, 0)}, lambda x: [[x[i, j] for i in range(2)] for j in range(3)]),
    ]
    for shape in ((2, 3), (), (0, 3), (1, 1)):
        for axis in range(len(shape) + 1):
            wanted_shape = (*shape[:axis], 1, *shape[axis:])
            rows.append(Case(o.expand_dims, [floats(*shape)], {"axis": axis}, lambda x, s=wanted_shape: x.reshape(s)))
            rows.append(Case(o.squeeze, [floats(*wanted_shape)], {"axis": axis}, lambda x, s=shape: x.reshape(s)))
    rows += [Case(op, [x], {"axis": 0}, lambda x, op=op: x[None] if op is o.expand_dims else x[0])
             for op in (o.expand_dims, o.squeeze) for x in (ints(1, 3, dtype="uint8"), bools(1, 2))]  # fmt: skip
    for shape, axes in [((3,), (0,)), ((2, 3, 4), (0,)), ((2, 3, 4), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (0, 1, 2)), ((2, 3), ()), ((), ()),
                        ((0, 3), (0,)), ((1, 1), (0, 1))]:  # fmt: skip

        def wanted(x: Array, axes: tuple[int, ...] = axes) -> Array:
            out = np.empty_like(x)
            for at in np.ndindex(x.shape):
                out[at] = x[tuple(x.shape[a] - 1 - i if a in axes else i for a, i in enumerate(at))]
            return out

        rows.append(Case(o.flip, [floats(*shape)], {"axes": axes}, wanted))
    rows.append(Case(o.flip, [ints(4, dtype="int8")], {"axes": (0,)}, lambda x: x.tolist()[::-1]))
    return rows


def _stretch() -> list[Case]:
    rows = []
    for shape, wanted in [((3, 1), (3, 4)), ((1, 4), (3, 4)), ((), (2, 3)), ((), ()), ((4,), (2, 3, 4)), ((2, 3), (2, 3)), ((1, 1), (1, 1)),
                          ((1,), (0,)), ((0, 1), (0, 3)), ((2, 1, 3), (5, 2, 4, 3)), ((1, 3), (70, 30, 3))]:  # fmt: skip
        stretched = lambda x, *rest, s=wanted: np.zeros(s) + x  # noqa: E731
        rows.append(Case(o.broadcast_to, [floats(*shape)], {"shape": wanted}, stretched, stretches=True))
        rows.append(
            Case(
                o.broadcast_like,
                [floats(*shape), floats(*wanted, seed=1)],
                {},
                stretched,
                grad=lambda w, x, y: [_summed(w, x), None],
            )
        )
    rows += [
        Case(
            o.broadcast_to,
            [floats(1, 3), size(4)],
            {"shape": (None, 3)},
            lambda x, n: [x[0]] * 4,
            stretches=True,
            known=(None, 3),
        ),
        Case(
            o.broadcast_to,
            [floats(3), size(2), size(0, "int64")],
            {"shape": (None, None, 3)},
            lambda x, n, m: np.zeros((2, 0, 3)),
            known=(None, None, 3),
        ),
        Case(o.broadcast_to, [bools(1, 2)], {"shape": (3, 2)}, lambda x: [x[0]] * 3, stretches=True),
        Case(o.broadcast_like, [ints(1, 2), floats(3, 2)], {}, lambda x, y: [x[0]] * 3, grad=False),
        Case(o.broadcast_like, [floats(dtype="float64"), bools(3)], {}, lambda x, y: [x] * 3),
    ]
    return rows


def _summed(w: Array, x: Array) -> Array:
    """The gradient of what was stretched: sums over the copies."""
    total = np.zeros(x.shape)
    for at in np.ndindex(w.shape):
        own = at[w.ndim - x.ndim :]
        total[tuple(0 if n == 1 else i for i, n in zip(own, x.shape, strict=True))] += w[at]
    return total


def _joined() -> list[Case]:
    rows = []
    for shapes, axis in [
        ([(2, 3), (2, 3)], 0), ([(2, 3), (2, 1), (2, 4)], 1), ([(3,)], 0), ([(0, 3), (2, 3)], 0), ([(2, 0), (2, 0)], 1), ([(2, 1, 3)] * 3, 1),
        ([(2, 3, 1), (2, 3, 2)], 2),
    ]:  # fmt: skip
        xs = [floats(*shape, seed=i) for i, shape in enumerate(shapes)]

        def wanted(*xs: Array, axis: int = axis) -> Array:
            slices = [np.moveaxis(x, axis, 0)[i] for x in xs for i in range(x.shape[axis])]
            return np.stack(slices, axis) if slices else np.zeros((2, 0))

        rows.append(Case(o.concatenate, xs, {"axis": axis}, wanted))
    rows += [
        Case(o.concatenate, [x, x], {"axis": 0}, lambda x, y: [*x, *y])
        for x in (ints(2, dtype="uint8"), bools(3), floats(2, dtype="float16"))
    ]

    for shape, axis, count in [
        ((3,), 0, 2),
        ((2, 3), 0, 3),
        ((2, 3), 1, 2),
        ((2, 3), 1, 1),
        ((2, 3), 1, 0),
        ((0, 3), 0, 2),
        ((2, 1, 2), 1, 3),
    ]:

        def repeated(x: Array, *n: Array, axis: int = axis, count: int = count) -> Array:
            parts = [np.moveaxis(x, axis, 0)[i] for i in range(x.shape[axis]) for _ in range(count)]
            return np.stack(parts, axis) if parts else np.zeros([0 if a == axis else s for a, s in enumerate(x.shape)])

        rows.append(Case(o.repeat, [floats(*shape)], {"axis": axis, "repeats": (count,)}, repeated))
        unknown = tuple(0 if s == 0 else None if a == axis else s for a, s in enumerate(shape))
        rows.append(Case(o.repeat, [floats(*shape), size(count)], {"axis": axis, "repeats": (None,)}, repeated, known=unknown))
    rows.append(
        Case(
            o.repeat,
            [ints(3, dtype="int8"), size(2, "uint8")],
            {"axis": 0, "repeats": (None,)},
            lambda x, n: [v for v in x for _ in "ab"],
            known=(None,),
        )
    )

    for shape, reps in [((3,), (2,)), ((2, 3), (1, 2)), ((2, 3), (3, 1)), ((2, 3), (2, 2)), ((2, 3), (1, 1)), ((2, 3), (0, 2)), ((0, 3), (2, 2)),
                        ((2, 1, 2), (2, 3, 1)), ((), ())]:  # fmt: skip

        def tiled(x: Array, *n: Array, reps: tuple[int, ...] = reps) -> Array:
            out = np.empty([s * r for s, r in zip(x.shape, reps, strict=True)])
            for at in np.ndindex(out.shape):
                out[at] = x[tuple(i % s for i, s in zip(at, x.shape, strict=True))]
            return out

        rows.append(Case(o.tile, [floats(*shape)], {"reps": reps}, tiled))
        if reps:
            sizes = [size(n) for n in reps]
            unknown = tuple(0 if s == 0 else None for s in shape)
            rows.append(Case(o.tile, [floats(*shape), *sizes], {"reps": (None,) * len(reps)}, tiled, known=unknown))
    rows.append(Case(o.tile, [bools(3)], {"reps": (2,)}, lambda x: [*x, *x]))
    return rows


def _sizes() -> list[Case]:
    rows = []
    for x in (floats(2, 3), floats(), floats(0, 4), bools(5), ints(2, 1, 3, dtype="uint8")):
        rows.append(Case(o.shape, [x], {}, lambda x: [len_of for len_of in x.shape], dtype="int32"))
        for axes in {(), tuple(range(x.ndim)), (0,) if x.ndim else (), (x.ndim - 1,) if x.ndim else ()}:
            rows.append(
                Case(o.size, [x], {"axes": axes}, lambda x, axes=axes: int(np.prod([x.shape[a] for a in axes])), dtype="int32")
            )
    for bounds in [(0, 5, 1), (2, 9, 3), (5, 0, -2), (0, 0, 1), (3, 0, 1), (0, 3, -1), (-3, 3, 2), (0, 10, 100)]:
        for dtype in ("int32", "int64", "float32", "float16"):
            rows.append(Case(o.arange, [], {"bounds": bounds, "dtype": dtype}, lambda b=bounds: list(range(*b)), dtype=dtype))
    for entries, sizes in [
        ((0, None, 1), [size(4)]),
        ((None, None, 2), [size(1), size(8, "int64")]),
        ((0, 7, None), [size(3, "uint8")]),
        ((5, 0, None), [size(-1)]),
    ]:
        rows.append(
            Case(
                o.arange,
                sizes,
                {"bounds": entries, "dtype": "int32"},
                lambda *n, e=entries: list(range(*filled(e, n))),
                dtype="int32",
                known=(None,),
            )
        )
    return rows


ROWS = [*_reshape(), *_layout(), *_stretch(), *_joined(), *_sizes()]

"""Rows of biases, resizing and padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import Array, bools, floats, ints
from tests.cases.pad import Padding, padded
from tests.kcases.base import KCase

ORDERINGS = ("th", "tf")


def image(ordering: str, batch: int, channels: int, *space: int, **keywords: Any) -> Array:
    return floats(batch, channels, *space, **keywords) if ordering == "th" else floats(batch, *space, channels, **keywords)


def _biases() -> list[KCase]:
    rows = []
    for ordering in (*ORDERINGS, "default"):
        for space in ((), (4,), (4, 3), (2, 4, 3)):
            kind = "tf" if ordering == "tf" else "th"

            def wanted(x: Array, bias: Array, first: bool = kind == "th") -> Array:
                out = x.copy()
                for at in np.ndindex(x.shape):
                    out[at] += bias[at[1] if first else at[-1]]
                return out

            attrs = {} if ordering == "default" else {"dim_ordering": ordering}
            rows.append(KCase(K.bias_add, [image(kind, 2, 3, *space), floats(3)], attrs, wanted))
    last = lambda x, b: x + b.reshape(-1)  # noqa: E731
    rows += [
        KCase(K.bias_add, [floats(0, 3), floats(3)], {}, last),
        KCase(K.bias_add, [floats(2, 0, 3), floats(3)], {"dim_ordering": "tf"}, last),
        KCase(K.bias_add, [floats(2, 1), floats(1)], {}, last),
        KCase(K.bias_add, [floats(2, 2, 1), floats(1)], {"dim_ordering": "tf"}, last, stretches=False, note="unknown"),
        KCase(K.bias_add, [ints(2, 3), floats(3)], {}, last, dtype="float32"),
        KCase(K.bias_add, [floats(2, 3, dtype="float16"), floats(3, dtype="float16")], {}, last),
        KCase(K.bias_add, [floats(2, 3), floats(3, dtype="float64")], {}, last, dtype="float64"),
        KCase(K.bias_add, [ints(2, 3), ints(3)], {}, last),
    ]
    return rows


def _resized() -> list[KCase]:
    def larger(x: Array, axes: tuple[int, ...], factors: tuple[int, ...]) -> Array:
        out = np.empty([n * dict(zip(axes, factors, strict=True)).get(a, 1) for a, n in enumerate(x.shape)], x.dtype)
        for at in np.ndindex(out.shape):
            out[at] = x[tuple(i // dict(zip(axes, factors, strict=True)).get(a, 1) for a, i in enumerate(at))]
        return out

    rows = []
    for ordering in ORDERINGS:
        first = 2 if ordering == "th" else 1
        for space, factors in [
            ((2, 3), (2, 3)),
            ((2, 3), (1, 2)),
            ((2, 3), (1, 1)),
            ((1, 1), (2, 5)),
            ((0, 2), (2, 2)),
            ((2, 3), (np.int64(2), 1)),
        ]:
            axes = (first, first + 1)
            attrs = {"height_factor": factors[0], "width_factor": factors[1], "dim_ordering": ordering}
            wanted = lambda x, a=axes, f=factors: larger(x, a, f)  # noqa: E731
            rows.append(KCase(K.resize_images, [image(ordering, 2, 2, *space)], attrs, wanted, stretches=False))
        for space, factors in [((2, 1, 2), (2, 3, 1)), ((1, 2, 1), (2, 2, 2)), ((1, 1, 1), (1, 1, 1)), ((1, 2, 1), (1, 1, 6))]:
            axes = (first, first + 1, first + 2)
            attrs = dict(zip(("depth_factor", "height_factor", "width_factor"), factors, strict=True)) | {
                "dim_ordering": ordering
            }
            wanted = lambda x, a=axes, f=factors: larger(x, a, f)  # noqa: E731
            rows.append(KCase(K.resize_volumes, [image(ordering, 1, 2, *space)], attrs, wanted, stretches=False))
    attrs = {"height_factor": 2, "width_factor": 2, "dim_ordering": "default"}
    rows += [
        KCase(K.resize_images, [x], attrs, lambda x: larger(x, (2, 3), (2, 2)), stretches=False)
        for x in (
            floats(1, 1, 2, 2),
            floats(0, 1, 2, 2),
            ints(1, 1, 2, 2, dtype="uint8"),
            bools(1, 1, 2, 2),
            floats(1, 1, 2, 2, dtype="float16"),
        )
    ]
    return rows  # fmt: skip


def _padded() -> list[KCase]:
    def row(f: Callable[..., Any], x: Array, attrs: dict[str, Any], padding: Padding) -> KCase:
        return KCase(f, [x], attrs, lambda x: padded(x, padding), stretches=False)

    none = (0, 0)
    rows = [
        row(K.temporal_padding, floats(2, 3, 2), {"padding": p}, (none, pair, none))
        for p, pair in [(2, (2, 2)), (0, none), ((1, 2), (1, 2)), ([0, 1], (0, 1))]
    ]
    rows += [
        row(K.temporal_padding, floats(2, 3, 2), {}, (none, (1, 1), none)),
        row(K.temporal_padding, floats(2, 0, 2), {}, (none, (1, 1), none)),
        row(K.temporal_padding, ints(2, 3, 2, dtype="uint8"), {"padding": np.int64(1)}, (none, (1, 1), none)),
        row(K.temporal_padding, bools(2, 3, 2), {"padding": 1}, (none, (1, 1), none)),
        row(K.asymmetric_temporal_padding, floats(2, 3, 2), {}, (none, (1, 1), none)),
        row(K.asymmetric_temporal_padding, floats(2, 3, 2), {"left_pad": 2, "right_pad": 0}, (none, (2, 0), none)),
        row(K.asymmetric_temporal_padding, floats(2, 1, 2), {"left_pad": 0, "right_pad": 3}, (none, (0, 3), none)),
    ]
    for ordering in (*ORDERINGS, "default"):
        named = {} if ordering == "default" else {"dim_ordering": ordering}
        kind = "tf" if ordering == "tf" else "th"

        def around(*pairs: tuple[int, int], kind: str = kind) -> Padding:
            return (none, none, *pairs) if kind == "th" else (none, *pairs, none)

        x, v = image(kind, 2, 2, 3, 2), image(kind, 1, 2, 2, 1, 3)
        rows += [
            row(K.spatial_2d_padding, x, named, around((1, 1), (1, 1))),
            *[
                row(K.spatial_2d_padding, x, {"padding": p} | named, around(*pairs))
                for p, pairs in [
                    ((1, 2), ((1, 1), (2, 2))),
                    (2, ((2, 2), (2, 2))),
                    (((1, 2), (0, 3)), ((1, 2), (0, 3))),
                    ([0, [1, 0]], (none, (1, 0))),
                    ((0, 0), (none, none)),
                ]
            ],
            row(K.asymmetric_spatial_2d_padding, x, named, around((1, 1), (1, 1))),
            row(
                K.asymmetric_spatial_2d_padding,
                x,
                {"top_pad": 1, "bottom_pad": 2, "left_pad": 3, "right_pad": 0} | named,
                around((1, 2), (3, 0)),
            ),
            row(K.spatial_3d_padding, v, named, around((1, 1), (1, 1), (1, 1))),
            *[
                row(K.spatial_3d_padding, v, {"padding": p} | named, around(*pairs))
                for p, pairs in [
                    ((1, 2, 0), ((1, 1), (2, 2), none)),
                    (2, ((2, 2),) * 3),
                    (((1, 2), 0, (0, 3)), ((1, 2), none, (0, 3))),
                ]
            ],
        ]
    return rows  # fmt: skip


ROWS: list[Any] = [*_biases(), *_resized(), *_padded()]

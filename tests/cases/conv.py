"""Rows of convolution and of pooling: over pairs of borders, strides, dilations, even and odd sizes, and numbers of axes."""

from __future__ import annotations

from typing import Any

import kgraph.ir.ops as o
from tests import windows
from tests.cases.base import INF, NAN, Array, Case, array, floats, size

#: Sums of a few dozen products, in the order of BLAS.
RTOL = 4e-6

#: [batch, *spatial, channels], taps, filters, strides, dilation, border, groups.
CONVS: list[tuple[Any, ...]] = [
    ((2, 4, 5, 2), (3, 2), 3, (1, 1), (1, 1), "valid", 1),
    ((1, 5, 4, 2), (2, 3), 2, (2, 1), (1, 1), "same", 1),
    ((2, 3, 4, 1), (3, 3), 2, (1, 2), (1, 1), "full", 1),
    ((1, 6, 5, 2), (2, 3), 1, (2, 2), (2, 1), "same", 1),
    ((1, 5, 6, 1), (3, 2), 2, (1, 2), (2, 3), "valid", 1),
    ((1, 4, 3, 2), (2, 2), 2, (3, 1), (1, 2), "full", 1),
    ((2, 3, 3, 2), (1, 1), 3, (1, 1), (1, 1), "same", 1),
    ((1, 5, 4, 2), (1, 1), 2, (2, 3), (1, 1), "full", 1),
    ((1, 2, 3, 1), (5, 4), 1, (1, 1), (1, 1), "same", 1),
    ((2, 6, 3), (3,), 2, (1,), (1,), "same", 1),
    ((1, 7, 2), (4,), 2, (2,), (2,), "full", 1),
    ((2, 5, 1), (2,), 1, (3,), (1,), "valid", 1),
    ((1, 3, 4, 3, 2), (2, 3, 2), 2, (1, 2, 1), (1, 1, 1), "same", 1),
    ((1, 3, 3, 4, 1), (2, 1, 2), 2, (1, 1, 2), (2, 1, 1), "valid", 1),
    ((1, 2, 3, 2, 1), (2, 2, 3), 1, (1, 1, 1), (1, 1, 1), "full", 1),
    ((2, 4, 4, 3), (3, 3), 3, (1, 1), (1, 1), "same", 3),
    ((1, 5, 4, 2), (2, 3), 6, (2, 1), (1, 1), "valid", 2),
    ((1, 4, 5, 2), (2, 2), 4, (1, 2), (2, 1), "full", 2),
    ((1, 5, 2), (3,), 4, (1,), (2,), "same", 2),
    ((1, 3, 2, 3, 2), (2, 2, 2), 2, (1, 1, 1), (1, 1, 1), "full", 2),
    ((0, 4, 4, 2), (3, 3), 2, (1, 1), (1, 1), "valid", 1),
    ((1, 0, 4, 2), (3, 3), 2, (1, 1), (1, 1), "same", 1),
    ((1, 3, 0, 2), (2, 2), 2, (1, 2), (1, 1), "full", 1),
    ((1, 3, 3, 0), (2, 2), 2, (1, 1), (1, 1), "valid", 1),
    ((1, 3, 3, 2), (2, 2), 0, (1, 1), (1, 1), "same", 1),
    ((0, 3, 3, 2), (2, 2), 4, (1, 1), (1, 1), "same", 2),
]  # fmt: skip


def _convs() -> list[Case]:
    rows = []
    for shape, taps, filters, strides, dilation, border, groups in CONVS:
        how = {"strides": strides, "dilation": dilation, "border": border, "groups": groups}
        x, w = floats(*shape), floats(*taps, shape[-1] // groups, filters, seed=1)
        counts = windows.counts(shape[1:-1], taps, strides, dilation, border)
        g = floats(shape[0], *counts, filters, seed=2)
        space = shape[1:-1]

        def forward(x: Array, w: Array, how: Any = how) -> Array:
            return windows.conv(x, w, **how)

        def back(g: Array, w: Array, *sizes: Any, how: Any = how, space: Any = space) -> Array:
            return windows.conv_input_grad(g, w, space, **how)

        def kernel(x: Array, g: Array, how: Any = how, taps: Any = taps) -> Array:
            return windows.conv_kernel_grad(x, g, taps, **how)

        rows += [
            Case(o.conv, [x, w], how, forward, rtol=RTOL, fixed=(1,)),
            Case(o.conv_input_grad, [g, w], {**how, "shape": space}, back, rtol=RTOL, fixed=(1,)),
            Case(o.conv_kernel_grad, [x, g], {**how, "shape": taps}, kernel, rtol=RTOL),
        ]
        if strides[0] > 1 or shape[0] == 0 or 0 in space:
            holes = (None,) * len(space)
            rows.append(
                Case(
                    o.conv_input_grad, [g, w, *map(size, space)], {**how, "shape": holes}, back, rtol=RTOL, fixed=(1,),
                    known=(shape[0], *holes, shape[-1]),
                )
            )  # fmt: skip
    how = {"strides": (1, 1), "dilation": (1, 1), "border": "same", "groups": 1}
    for dtype in ("float16", "float64"):
        for groups in (1, 2):
            here = {**how, "groups": groups}
            x, w, g = (
                floats(*s, seed=i, dtype=dtype) for i, s in enumerate([(1, 4, 3, 2), (3, 2, 2 // groups, 2), (1, 4, 3, 2)])
            )
            rtol = 4e-3 if dtype == "float16" else None
            rows += [
                Case(o.conv, [x, w], here, lambda x, w, h=here: windows.conv(x, w, **h), rtol=rtol, fixed=(1,)),
                Case(
                    o.conv_input_grad, [g, w], {**here, "shape": (4, 3)},
                    lambda g, w, h=here: windows.conv_input_grad(g, w, (4, 3), **h), rtol=rtol, fixed=(1,),
                ),
                Case(
                    o.conv_kernel_grad, [x, g], {**here, "shape": (3, 2)},
                    lambda x, g, h=here: windows.conv_kernel_grad(x, g, (3, 2), **h), rtol=rtol,
                ),
            ]  # fmt: skip
    special = floats(1, 4, 4, 1)
    special[0, 1, 2, 0], special[0, 3, 0, 0] = NAN, INF
    how["border"] = "valid"
    rows.append(
        Case(
            o.conv, [special, floats(2, 2, 1, 2, low=0.5)], how, lambda x, w: windows.conv(x, w, **how), rtol=RTOL,
            grad=False, note="special", fixed=(1,),
        )
    )  # fmt: skip
    return rows


#: [batch, *spatial, channels], size, strides, border.
POOLS: list[tuple[Any, ...]] = [
    ((2, 4, 6, 2), (2, 2), (2, 2), "valid"),
    ((1, 5, 4, 2), (3, 2), (1, 2), "valid"),
    ((1, 5, 4, 2), (3, 2), (2, 1), "same"),
    ((2, 3, 5, 1), (2, 4), (2, 3), "same"),
    ((1, 4, 5, 1), (3, 2), (3, 2), "same"),
    ((1, 5, 4, 1), (2, 2), (2, 2), "valid"),
    ((1, 3, 4, 2), (3, 2), (2, 1), "full"),
    ((1, 3, 4, 2), (1, 1), (1, 1), "same"),
    ((1, 5, 4, 1), (1, 2), (3, 1), "full"),
    ((2, 6, 2), (3,), (2,), "same"),
    ((1, 5, 2), (2,), (1,), "full"),
    ((1, 4, 3, 4, 2), (2, 2, 2), (2, 1, 2), "valid"),
    ((1, 3, 4, 3, 1), (2, 3, 2), (2, 2, 1), "same"),
    ((1, 2, 3, 2, 1), (2, 2, 1), (1, 2, 1), "full"),
    ((0, 4, 4, 2), (2, 2), (2, 2), "valid"),
    ((1, 0, 4, 2), (2, 2), (2, 2), "same"),
    ((1, 4, 4, 0), (2, 2), (1, 1), "same"),
]  # fmt: skip


def _pools() -> list[Case]:
    rows = []
    for shape, taps, strides, border in POOLS:
        how = {"size": taps, "strides": strides, "border": border}
        space = shape[1:-1]
        g = floats(shape[0], *windows.counts(space, taps, strides, [1] * len(taps), border), shape[-1], seed=2)
        rows += _pool_rows(floats(*shape), g, how, rtol=1e-6)
        if border == "same":
            holes = (None,) * len(space)
            rows.append(
                Case(
                    o.avg_pool_grad, [g, *map(size, space)], {**how, "shape": holes},
                    lambda g, *sizes, how=how, space=space: windows.avg_pool_grad(g, space, **how), rtol=RTOL,
                    known=(shape[0], *holes, shape[-1]),
                )
            )  # fmt: skip
    for dtype in ("float16", "float64"):
        how = {"size": (2, 3), "strides": (1, 2), "border": "same"}
        rows += _pool_rows(floats(1, 4, 5, 2, dtype=dtype), floats(1, 4, 3, 2, seed=2, dtype=dtype), how)
    return rows


def _pool_rows(x: Array, g: Array, how: dict[str, Any], rtol: float | None = None) -> list[Case]:
    space, h = x.shape[1:-1], floats(*x.shape, seed=3, dtype=x.dtype.name)
    return [
        Case(o.max_pool, [x], how, lambda x: windows.max_pool(x, **how), rtol=0),
        Case(o.max_pool_grad, [g, x], how, lambda g, x: windows.max_pool_grad(g, x, **how), rtol=rtol),
        Case(
            o.max_pool_grad, [g, x, windows.max_pool(x, **how).astype(x.dtype)], how,
            lambda g, x, top: windows.max_pool_grad(g, x, **how),
            rtol=rtol, grad=False,
        ),
        Case(o.max_pool_pick, [h, x], how, lambda h, x: windows.max_pool_pick(h, x, **how), rtol=0),
        Case(o.avg_pool, [x], how, lambda x: windows.avg_pool(x, **how), rtol=rtol),
        Case(
            o.avg_pool_grad, [g], {**how, "shape": space}, lambda g: windows.avg_pool_grad(g, space, **how), rtol=rtol
        ),
    ]  # fmt: skip


#: What the maximum may meet: ties, NaN, windows of the least number alone, beside padding too.
_TIES = array([[1, 1, 0, 2], [1, 1, 2, 2], [-3, -3, 0.0, -0.0], [-3, -1, -0.0, 0.0]])
_MISSING = array([[1, NAN, NAN, NAN], [INF, 2, 1, 0], [-INF, -INF, -1, INF], [-INF, -INF, NAN, INF]])


def _specials() -> list[Case]:
    rows = []
    for note, x in (("ties", _TIES), ("special", _MISSING)):
        x = x.reshape(1, 4, 4, 1)
        for taps, strides, border in [((2, 2), (2, 2), "valid"), ((3, 3), (1, 1), "same"), ((2, 3), (2, 2), "full")]:
            how = {"size": taps, "strides": strides, "border": border}
            g = floats(*windows.pooled(x, **how).shape, seed=2)
            rows += [
                Case(o.max_pool, [x], how, lambda x, how=how: windows.max_pool(x, **how), rtol=0, note=note, grad=False),
                Case(
                    o.max_pool_grad, [g, x], how, lambda g, x, how=how: windows.max_pool_grad(g, x, **how),
                    rtol=1e-6, note=note, grad=False,
                ),
                Case(
                    o.max_pool_grad, [g, x, windows.max_pool(x, **how).astype(x.dtype)], how,
                    lambda g, x, top, how=how: windows.max_pool_grad(g, x, **how), rtol=1e-6, note=note, grad=False,
                ),
                Case(
                    o.max_pool_pick, [floats(*x.shape, seed=3), x], how, lambda h, x, how=how: windows.max_pool_pick(h, x, **how),
                    rtol=0, note=note, grad=False,
                ),
            ]  # fmt: skip
            if note == "ties":
                how = {**how, "strides": strides}
                rows.append(
                    Case(
                        o.max_pool, [x], how, lambda x, how=how: windows.max_pool(x, **how), rtol=0, note="gradient of ties",
                        grad=lambda w, x, how=how: [windows.max_pool_grad(w, x, **how)], second=False,
                    )
                )  # fmt: skip
    lowest = array([[-INF, -INF, 1], [-INF, -INF, -INF]]).reshape(1, 2, 3, 1)
    how = {"size": (2, 2), "strides": (1, 1), "border": "full"}
    g = floats(1, 3, 4, 1, seed=2)
    rows += [
        Case(o.max_pool, [lowest], how, lambda x: windows.max_pool(x, **how), rtol=0, note="lowest", grad=False),
        Case(o.max_pool_grad, [g, lowest], how, lambda g, x: windows.max_pool_grad(g, x, **how), note="lowest", grad=False),
    ]
    wide = {"size": (2, 2), "strides": (2, 2), "border": "valid"}
    away = array([INF, NAN]).reshape(1, 1, 2, 1)
    rows += [
        Case(
            o.max_pool_grad, [away, floats(1, 2, 4, 1)], wide, lambda g, x: windows.max_pool_grad(g, x, **wide),
            note="special cotangent", grad=False,
        ),
        Case(
            o.avg_pool, [array([[1, NAN, INF, 1], [1, 1, 2, -1]]).reshape(1, 2, 4, 1)], wide,
            lambda x: windows.avg_pool(x, **wide), note="special", grad=False,
        ),
    ]  # fmt: skip
    return rows


ROWS = [*_convs(), *_pools(), *_specials()]

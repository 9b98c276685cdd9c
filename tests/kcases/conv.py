"""Rows of convolution and pooling: pairs of orderings, borders, strides, dilations and sizes, against plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kgraph import backend as K
from tests import windows
from tests.cases.base import NAN, Array, array, floats, ints
from tests.kcases.base import FLOATX, KCase

#: Sums of a few dozen products, in the order of BLAS.
RTOL = 4e-6


def last(x: Array) -> Array:
    """[batch, channels, ...] with its channels last."""
    return np.moveaxis(x, 1, -1)


def first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


def kernel_last(w: Array) -> Array:
    """[filters, channels, ...] as [..., channels, filters]."""
    return np.moveaxis(np.moveaxis(w, 0, -1), 0, -2)


def kernel_first(w: Array) -> Array:
    return np.moveaxis(np.moveaxis(w, -1, 0), -1, 1)


def each(value: Any, rank: int) -> Sequence[int]:
    return [value] * rank if isinstance(value, int) else value


def conv_of(rank: int, ordering: str, strides: Any = 1, border: str = "valid", dilation: Any = 1) -> Any:
    how = each(strides, rank), each(dilation, rank), border

    def over(x: Array, w: Array) -> Array:
        if ordering == "tf":
            return windows.conv(x, w, *how)
        return first(windows.conv(last(x), kernel_last(w), *how))

    return over


def deconv_of(ordering: str, space: Sequence[int], strides: Any, border: str) -> Any:
    how = space, each(strides, 2), (1, 1), border

    def over(x: Array, w: Array) -> Array:
        if ordering == "tf":
            return windows.conv_input_grad(x, np.swapaxes(w, 2, 3), *how)
        return first(windows.conv_input_grad(last(x), np.swapaxes(kernel_last(w), 2, 3), *how))

    return over


def separable_of(ordering: str, strides: Any, border: str) -> Any:
    def over(x: Array, depth: Array, point: Array) -> Array:
        if ordering == "th":
            x, depth, point = last(x), kernel_last(depth), kernel_last(point)
        flat = depth.reshape(*depth.shape[:2], 1, -1)
        between = windows.conv(x, flat, each(strides, 2), (1, 1), border, groups=depth.shape[2])
        out = windows.conv(between, point, (1, 1), (1, 1), "valid")
        return out if ordering == "tf" else first(out)

    return over


def pool_of(mode: str, rank: int, ordering: str, size: Any, strides: Any, border: str) -> Any:
    pool: Any = {"max": windows.max_pool, "avg": windows.avg_pool}[mode]
    how = each(size, rank), each(strides, rank), border
    return lambda x: pool(x, *how) if ordering == "tf" else first(pool(last(x), *how))


def laid_out(ordering: str, x: Sequence[int], w: Sequence[int]) -> list[Array]:
    """Operands of [batch, *spatial, channels] and [*taps, channels, filters] in an ordering."""
    a, b = floats(*x), floats(*w, seed=1)
    return [a, b] if ordering == "tf" else [np.ascontiguousarray(first(a)), np.ascontiguousarray(kernel_first(b))]


def _conv2d() -> list[KCase]:
    rows = []
    for ordering, x, w, attrs in [
        ("th", (2, 4, 5, 2), (3, 2, 2, 3), {}),
        ("tf", (2, 4, 5, 2), (3, 2, 2, 3), {}),
        ("th", (1, 5, 4, 2), (2, 3, 2, 2), {"strides": (2, 1), "border_mode": "same"}),
        ("tf", (1, 5, 4, 1), (3, 3, 1, 2), {"strides": (1, 2), "border_mode": "full"}),
        ("th", (1, 4, 4, 1), (2, 3, 1, 2), {"strides": (2, 2), "border_mode": "full"}),
        ("tf", (1, 5, 6, 2), (3, 2, 2, 1), {"border_mode": "same", "filter_dilation": (2, 1)}),
        ("th", (1, 5, 5, 1), (2, 2, 1, 2), {"border_mode": "valid", "filter_dilation": (1, 3), "strides": 2}),
        ("tf", (1, 3, 4, 1), (2, 2, 1, 2), {"border_mode": "full", "filter_dilation": 2}),
        ("tf", (1, 4, 4, 2), (4, 4, 2, 1), {"strides": [3, 2], "border_mode": "same"}),
        ("th", (2, 3, 3, 2), (1, 1, 2, 3), {"border_mode": "same"}),
        ("tf", (0, 4, 4, 2), (3, 3, 2, 2), {"border_mode": "same"}),
        ("th", (1, 0, 3, 2), (2, 2, 2, 2), {"border_mode": "same"}),
        ("tf", (1, 3, 3, 2), (2, 2, 2, 2), {"image_shape": (None, 3, 3, None), "filter_shape": (2, 2, 2, 2)}),
    ]:  # fmt: skip
        how = (attrs.get("strides", 1), attrs.get("border_mode", "valid"), attrs.get("filter_dilation", 1))
        # Where the sizes of the kernel are given as a hint it is of unknown sizes too.
        fixed = () if "filter_shape" in attrs else (1,)
        oracle = conv_of(2, ordering, *how)
        rows.append(
            KCase(
                K.conv2d, laid_out(ordering, x, w), {**attrs, "dim_ordering": ordering}, oracle, rtol=RTOL, fixed=fixed,
                stretches=False,
            )
        )  # fmt: skip
    image, kernel = laid_out("th", (1, 3, 4, 2), (2, 2, 2, 2))
    rows += [
        KCase(K.conv2d, [image, kernel], {}, conv_of(2, "th"), rtol=RTOL, fixed=(1,), note="default ordering"),
        KCase(
            K.conv2d, [ints(1, 2, 3, 4), kernel], {"border_mode": "same"}, conv_of(2, "th", 1, "same"), rtol=RTOL, fixed=(1,),
            dtype=FLOATX, note="of two kinds",
        ),
        KCase(
            K.conv2d, [ints(1, 2, 3, 4), ints(2, 2, 2, 2)], {}, conv_of(2, "th"), fixed=(1,), dtype=FLOATX, note="of integers"
        ),
        KCase(
            K.conv2d, [image.astype("float16"), kernel.astype("float16")], {}, conv_of(2, "th"), fixed=(1,), rtol=4e-3
        ),
        KCase(
            K.conv2d, [image, kernel.astype("float64")], {}, conv_of(2, "th"), fixed=(1,), dtype="float64"
        ),
        KCase(
            K.conv2d, [array([[[[1, 2, 4]]]]), array([[[[1, 10]]]])], {}, lambda x, w: [[[[21, 42]]]], fixed=(1,), grad=False,
            note="not flipped",
        ),
    ]  # fmt: skip
    return rows


def _conv1d_3d() -> list[KCase]:
    rows = [
        KCase(
            K.conv1d, laid_out("tf", x, w), attrs, conv_of(1, "tf", attrs.get("stride", 1), attrs.get("border_mode", "valid")),
            rtol=RTOL, fixed=(1,), stretches=False,
        )
        for x, w, attrs in [
            ((2, 5, 2), (3, 2, 2), {}),
            ((1, 6, 2), (2, 2, 3), {"stride": 2, "border_mode": "same"}),
            ((1, 4, 1), (4, 1, 2), {"stride": 3, "border_mode": "full", "image_shape": (1, 4, None)}),
            ((0, 4, 1), (2, 1, 1), {}),
        ]
    ]  # fmt: skip
    for ordering, x, w, attrs in [
        ("th", (1, 3, 4, 3, 2), (2, 3, 2, 2, 2), {}),
        ("tf", (1, 3, 3, 2, 1), (2, 2, 2, 1, 2), {"strides": (2, 1, 1), "border_mode": "same"}),
        ("th", (1, 2, 3, 2, 1), (2, 2, 2, 1, 1), {"strides": (1, 2, 1), "border_mode": "full"}),
        ("tf", (1, 3, 4, 3, 1), (2, 2, 2, 1, 1), {"filter_dilation": (1, 2, 1), "volume_shape": (1, 3, None, 3, 1)}),
    ]:  # fmt: skip
        how = (attrs.get("strides", 1), attrs.get("border_mode", "valid"), attrs.get("filter_dilation", 1))
        rows.append(
            KCase(
                K.conv3d, laid_out(ordering, x, w), {**attrs, "dim_ordering": ordering}, conv_of(3, ordering, *how), rtol=RTOL,
                fixed=(1,), stretches=False,
            )
        )  # fmt: skip
    for ordering, x, w, rate, border in [
        ("th", (1, 4, 4, 1), (2, 2, 1, 2), 2, "valid"),
        ("tf", (1, 3, 4, 2), (3, 2, 2, 1), 3, "same"),
        ("tf", (1, 3, 3, 1), (2, 2, 1, 1), 1, "full"),
    ]:
        rows.append(
            KCase(
                K.atrous_conv2d, laid_out(ordering, x, w), {"rate": rate, "border_mode": border, "dim_ordering": ordering},
                conv_of(2, ordering, 1, border, rate), rtol=RTOL, fixed=(1,),
            )
        )  # fmt: skip
    return rows


def _deconv2d() -> list[KCase]:
    rows = []
    for ordering, g, w, space, strides, border, batch in [
        ("th", (2, 2, 3, 2), (3, 2, 2, 3), (4, 4), 1, "valid", None),
        ("tf", (1, 2, 2, 2), (2, 3, 2, 1), (4, 4), (2, 2), "same", 1),
        ("tf", (1, 2, 2, 2), (2, 3, 2, 1), (3, 4), (2, 2), "same", None),
        ("th", (1, 2, 3, 1), (2, 2, 1, 2), (5, 6), (3, 2), "valid", None),
        ("tf", (1, 3, 4, 1), (2, 2, 1, 2), (2, 3), 1, "full", None),
        ("tf", (0, 2, 2, 1), (2, 2, 1, 2), (3, 3), 1, "valid", None),
    ]:  # fmt: skip
        shape = [batch, *space, w[-1]] if ordering == "tf" else [batch, w[-1], *space]

        attrs = {"output_shape": tuple(shape), "strides": strides, "border_mode": border, "dim_ordering": ordering}
        rows.append(
            KCase(K.deconv2d, laid_out(ordering, g, w), attrs, deconv_of(ordering, space, strides, border), rtol=RTOL, fixed=(1,), stretches=False)
        )
    image, kernel = laid_out("tf", (2, 2, 3, 2), (2, 2, 2, 3))
    rows.append(
        KCase(
            K.deconv2d, [image, kernel, floats(2, 4, 6, 1, seed=4)], {},
            lambda x, k, like: windows.conv_input_grad(x, np.swapaxes(k, 2, 3), (4, 6), (2, 2), (1, 1), "same"),
            call=lambda x, k, like: K.deconv2d(
                x, k, (K.shape(like)[0], K.shape(like)[1], K.shape(like)[2], 3), (2, 2), "same", "tf"
            ),
            rtol=RTOL, fixed=(1,), note="symbolic sizes", arrays=False,
        )
    )  # fmt: skip
    return rows


def _separable() -> list[KCase]:
    rows = []
    for ordering, x, depth, filters, attrs in [
        ("th", (1, 4, 4, 2), (3, 2, 2, 2), 3, {}),
        ("tf", (1, 4, 4, 3), (2, 2, 3, 1), 2, {"border_mode": "same", "strides": (2, 2)}),
        ("tf", (1, 3, 4, 2), (2, 3, 2, 2), 1, {"border_mode": "full", "strides": (1, 2)}),
        ("th", (1, 3, 3, 1), (2, 2, 1, 2), 2, {"border_mode": "same"}),
    ]:  # fmt: skip
        a, d = laid_out(ordering, x, depth)
        _, p = laid_out(ordering, x, (1, 1, depth[2] * depth[3], filters))

        rows.append(
            KCase(
                K.separable_conv2d, [a, d, p], {**attrs, "dim_ordering": ordering},
                separable_of(ordering, attrs.get("strides", 1), attrs.get("border_mode", "valid")), rtol=RTOL, fixed=(1, 2),
                stretches=False,
            )
        )  # fmt: skip
    return rows


def _pools() -> list[KCase]:
    rows = []
    for function, rank, ordering, shape, size, attrs in [
        (K.pool2d, 2, "th", (2, 4, 6, 2), (2, 2), {"strides": (2, 2)}),
        (K.pool2d, 2, "tf", (2, 4, 6, 2), (2, 3), {}),
        (K.pool2d, 2, "th", (1, 5, 4, 2), (3, 2), {"strides": (2, 1), "border_mode": "same"}),
        (K.pool2d, 2, "tf", (1, 5, 5, 1), 2, {"strides": 2, "border_mode": "same"}),
        (K.pool2d, 2, "tf", (1, 3, 4, 2), (2, 3), {"strides": (1, 2), "border_mode": "full"}),
        (K.pool2d, 2, "tf", (0, 4, 4, 2), (2, 2), {"strides": (2, 2)}),
        (K.pool2d, 2, "th", (1, 0, 3, 2), (2, 2), {"border_mode": "same"}),
        (K.pool3d, 3, "th", (1, 4, 3, 2, 2), (2, 2, 2), {"strides": (2, 1, 2)}),
        (K.pool3d, 3, "tf", (1, 3, 3, 4, 1), (2, 3, 2), {"strides": (2, 2, 1), "border_mode": "same"}),
    ]:  # fmt: skip
        for mode in ("max", "avg"):
            x = floats(*shape) if ordering == "tf" else np.ascontiguousarray(first(floats(*shape)))
            how = {"pool_size": size, **attrs, "dim_ordering": ordering, "pool_mode": mode}
            oracle = pool_of(mode, rank, ordering, size, attrs.get("strides", 1), attrs.get("border_mode", "valid"))
            rows.append(KCase(function, [x], how, oracle, rtol=1e-6, stretches=False))
    rows += [
        KCase(K.pool2d, [ints(1, 1, 3, 4)], {"pool_size": (2, 2)}, _pooled_max, dtype=FLOATX, grad=False),
        KCase(K.pool2d, [array([[[[NAN, 1, 2, 3]]]])], {"pool_size": (1, 2)}, _pooled_max, grad=False, note="special"),
        KCase(
            K.pool2d, [array([[[[1, 1, 1, 0]]]])], {"pool_size": (1, 2)}, lambda x: [[[[1, 1, 1]]]], note="ties",
            grad=lambda w, x: [np.append(w, 0).reshape(1, 1, 1, 4)], second=False,
        ),
    ]  # fmt: skip
    return rows


def _pooled_max(x: Array) -> Array:
    return first(windows.max_pool(last(x), (min(2, x.shape[2]), 2), (1, 1), "valid"))


ROWS = [*_conv2d(), *_conv1d_3d(), *_deconv2d(), *_separable(), *_pools()]

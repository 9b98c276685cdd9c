"""Convolution in Theano: CorrMM, which has its channels before the spatial axes.

CorrMM is for two spatial axes; one axis is taken for two. Three are left to NumPy, whose convolution goes through BLAS as well.
What is said of CorrMM holds of theano-pymc 1.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import theano.tensor as T
from theano.compile.ops import Shape_i
from theano.tensor.nnet import corr

import kgraph.ir.ops as o
from kgraph.ir.ops.windows import padding, span
from kgraph.lower.theano import host

Ints = Sequence[int]

# ---------------------------------------------------------------------------------------------------- CorrMM

#: In the C code: a result without elements is an error; and how many windows there are is rounded towards 0.
_REPAIRS = {
    "out_dim[2] <= 0 || out_dim[3] <= 0": "out_dim[2] < 0 || out_dim[3] < 0",
    "- ((PyArray_DIMS(weights)[wdim-2]-1)*dilH + 1)) / dH + 1)": "- ((PyArray_DIMS(weights)[wdim-2]-1)*dilH + 1) + dH) / dH)",
    "- ((PyArray_DIMS(weights)[wdim-1]-1)*dilW + 1)) / dW + 1)": "- ((PyArray_DIMS(weights)[wdim-1]-1)*dilW + 1) + dW) / dW)",
}
_CALL = "    out2 = corrMM("


class _Repaired:
    """CorrMM of nothing gives nothing, or zeros; and there is Python code too, for programs that nothing is compiled for."""

    def c_code(self, *args: Any, **kwargs: Any) -> str:
        text: str = super().c_code(*args, **kwargs)  # type: ignore[misc]
        for old, new in _REPAIRS.items():
            assert old in text
            text = text.replace(old, new)
        assert text.count(_CALL) == 1
        out = {"forward": "top", "backprop weights": "weights", "backprop inputs": "bottom"}[self._direction]  # type: ignore[attr-defined]
        given = [name for name in ("bottom", "weights", "top") if name != out]
        sizes = " || ".join(f"!PyArray_SIZE({name})" for name in (*given, "*out"))
        call = f"    if ({sizes}) {{ PyArray_FILLWBYTE(*out, 0); out2 = *out; }}\n    else out2 = corrMM("
        return text.replace(_CALL, call)

    def c_code_cache_version(self) -> tuple[Any, ...]:
        return (*super().c_code_cache_version(), "empty", 2)  # type: ignore[misc]

    def perform(self, node: Any, inputs: Sequence[Any], outputs: Any, params: Any = None) -> None:
        outputs[0][0] = np.ascontiguousarray(self.compute(*inputs))

    def compute(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def _how(self) -> dict[str, Any]:
        return {
            "strides": self.subsample, "dilation": self.filter_dilation, "border": "valid", "groups": self.num_groups,  # type: ignore[attr-defined]
        }  # fmt: skip

    def _padded(self, x: Any) -> Any:
        """[batch, channels, rows, columns] with its padding, and the channels last."""
        return np.pad(x, ((0, 0), (0, 0), *self.border_mode)).transpose(0, 2, 3, 1)  # type: ignore[attr-defined]


class Corr(_Repaired, corr.CorrMM):  # type: ignore[misc]
    def compute(self, x: Any, w: Any) -> Any:
        x = self._padded(x)
        how = self._how()
        reach = [span(k, d) for k, d in zip(w.shape[2:], how["dilation"], strict=True)]
        if any(n < r for n, r in zip(x.shape[1:3], reach, strict=True)):
            counts = [max(n - r + s, 0) // s for n, r, s in zip(x.shape[1:3], reach, how["strides"], strict=True)]
            return np.zeros((x.shape[0], w.shape[0], *counts), x.dtype)
        return o.conv.numpy(x, w.transpose(2, 3, 1, 0), **how).transpose(0, 3, 1, 2)  # type: ignore[misc]


class CorrInputs(_Repaired, corr.CorrMM_gradInputs):  # type: ignore[misc]
    def compute(self, w: Any, g: Any, *sizes: Any) -> Any:
        space = [int(n) for n in sizes]
        wide = tuple([n + before + behind for n, (before, behind) in zip(space, self.border_mode, strict=True)])
        if not g.size:
            return np.zeros((g.shape[0], w.shape[1] * self.num_groups, *space), g.dtype)
        out = o.conv_input_grad.numpy(g.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0), shape=wide, **self._how())  # type: ignore[misc]
        kept = [slice(before, before + n) for n, (before, _) in zip(space, self.border_mode, strict=True)]
        return out[(slice(None), *kept)].transpose(0, 3, 1, 2)


class CorrWeights(_Repaired, corr.CorrMM_gradWeights):  # type: ignore[misc]
    def compute(self, x: Any, g: Any, *sizes: Any) -> Any:
        shape = tuple([int(n) for n in sizes])
        if not g.size:
            return np.zeros((g.shape[1], x.shape[1] // self.num_groups, *shape), x.dtype)
        out = o.conv_kernel_grad.numpy(self._padded(x), g.transpose(0, 2, 3, 1), shape=shape, **self._how())  # type: ignore[misc]
        return out.transpose(3, 2, 0, 1)


# ---------------------------------------------------------------------------------------------------- rules


class _Plan:
    """How windows lie over an image of two spatial axes, of which one axis is given first a size of 1.

    Args:
      sizes: the spatial sizes: ints where they are known, else integer scalars.

    Attributes:
      pads: what CorrMM pads: what is known of the padding. The rest, ``more``, is put around the image before.
    """

    def __init__(self, sizes: Sequence[Any], taps: Ints, strides: Ints, dilation: Ints, border: str):
        self.flat = len(taps) == 1
        lead: tuple[int, ...] = (1,) if self.flat else ()
        self.sizes: Sequence[Any] = (*lead, *sizes)
        self.taps, self.strides, self.dilation = (*lead, *taps), (*lead, *strides), (*lead, *dilation)
        self.pads: list[tuple[int, int]] = []
        self.more: list[tuple[Any, Any]] = []
        for n, k, s, d in zip(self.sizes, self.taps, self.strides, self.dilation, strict=True):
            if isinstance(n, int) or border != "same" or s == 1:
                self.pads.append(padding(n if isinstance(n, int) else 1, k, s, d, border))
                self.more.append((0, 0))
                continue
            total = T.maximum((n + s - 1) // s * s - s + span(k, d) - n, 0)
            self.pads.append((0, 0))
            self.more.append((total // 2, total - total // 2))

    @property
    def is_padded(self) -> bool:
        return any(before != (0, 0) for before in self.more)

    @property
    def wide(self) -> list[Any]:
        """The sizes with what is put around."""
        return [n + before + behind for n, (before, behind) in zip(self.sizes, self.more, strict=True)]

    def image(self, x: Any) -> Any:
        """[batch, *spatial, channels] as CorrMM takes it."""
        return x.dimshuffle(0, 2, "x", 1) if self.flat else x.dimshuffle(0, 3, 1, 2)

    def padded(self, x: Any) -> Any:
        if not self.is_padded:
            return x
        zeros = T.alloc(np.zeros((), x.dtype), Shape_i(0)(x), Shape_i(1)(x), *self.wide)
        return T.set_subtensor(zeros[self._inside()], host.broadcasting(x, [False] * 4))

    def cut(self, x: Any) -> Any:
        """What is put around an image taken away."""
        return x[self._inside()] if self.is_padded else x

    def _inside(self) -> tuple[slice, ...]:
        every = slice(None)
        places = zip(self.sizes, self.more, strict=True)
        return (every, every, *[every if m == (0, 0) else slice(m[0], m[0] + n) for n, m in places])

    def back(self, x: Any) -> Any:
        """What CorrMM gives as [batch, *spatial, channels]."""
        if self.flat:
            return host.of_size_one(x, 2).dimshuffle(0, 3, 1)
        return x.dimshuffle(0, 2, 3, 1)

    def kernel(self, w: Any) -> Any:
        """[*taps, channels, filters] as CorrMM takes it."""
        return w.dimshuffle(2, 1, "x", 0) if self.flat else w.dimshuffle(3, 2, 0, 1)

    def kernel_back(self, w: Any) -> Any:
        if self.flat:
            return host.of_size_one(w, 2).dimshuffle(3, 1, 0)
        return w.dimshuffle(2, 3, 1, 0)

    def op(self, kind: Any, groups: int) -> Any:
        pads = tuple(self.pads)
        return kind(border_mode=pads, subsample=self.strides, filter_dilation=self.dilation, num_groups=groups)


def _sizes(x: Any) -> list[Any]:
    """The spatial sizes."""
    return [Shape_i(axis)(x) if x.tag.shape[axis] is None else x.tag.shape[axis] for axis in range(1, x.ndim - 1)]


def conv(x: Any, w: Any, *, strides: Ints, dilation: Ints, border: str, groups: int) -> Any:
    if len(strides) == 3:
        return NotImplemented
    plan = _Plan(_sizes(x), w.tag.shape[:-2], strides, dilation, border)
    return plan.back(plan.op(Corr, groups)(plan.padded(plan.image(x)), plan.kernel(w)))


def conv_input_grad(
    g: Any, w: Any, *sizes: Any, shape: Sequence[int | None], strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    if len(strides) == 3:
        return NotImplemented
    rest = iter(sizes)
    space = [T.cast(next(rest), "int64") if n is None else n for n in shape]
    plan = _Plan(space, w.tag.shape[:-2], strides, dilation, border)
    wide = [T.constant(np.int64(n)) if isinstance(n, int) else n for n in plan.wide]
    return plan.back(plan.cut(plan.op(CorrInputs, groups)(plan.kernel(w), plan.image(g), wide)))


def conv_kernel_grad(
    x: Any, g: Any, *, shape: Ints, strides: Ints, dilation: Ints, border: str, groups: int
) -> Any:
    if len(strides) == 3:
        return NotImplemented
    plan = _Plan(_sizes(x), shape, strides, dilation, border)
    taps = [T.constant(np.int64(n)) for n in plan.taps]
    return plan.kernel_back(plan.op(CorrWeights, groups)(plan.padded(plan.image(x)), plan.image(g), taps))

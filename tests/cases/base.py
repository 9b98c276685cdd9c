"""A row of the table of ops, and the arrays that rows are made of."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kgraph.ir.node import Node
from kgraph.ir.op import Op

Array = np.ndarray[Any, Any]

#: dtype -> relative error that a row may have unless it says otherwise: a few units in the last place.
RTOL = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}


@dataclass(frozen=True, eq=False)
class Row:
    """Something over arrays, and what it gives.

    Args:
      of: what the row is about: an op, or a K function.
      inputs: the operands.
      attrs: of the op; arguments of the function that are no operands.
      oracle: ``(*inputs) -> array``, told in NumPy or plain Python; it gets floats as float64. What it returns is compared
        in values and shape.
      dtype: of the result; None is that of the first operand.
      note: what is particular about the row.
      grad: whether gradients are checked against central differences of the oracle, in float64; or the gradients
        themselves where differences do not find them (at ties, say): ``(weights, *inputs) -> arrays``, one per float operand,
        None for one that has none.
      second: whether second-order gradients are, against central differences of the first; None is as grad, if that is a bool.
      rtol, atol: None is RTOL of the dtype. 0 for both asks for equality.
      known: the static shape of the result over operands of known sizes; None is the real one.
      stretches: axes of size 1 are stretched: they stay known where other sizes are not; None is what the op says, and True
        for a K function.
      fixed: operands have the sizes that they have (the key of a draw); there is no form of unknown sizes. Or the positions
        of operands for which that holds.
    """

    of: Any
    inputs: Sequence[Array]
    attrs: Mapping[str, Any]
    oracle: Callable[..., Any]
    dtype: str | None = None
    note: str = ""
    grad: bool | Callable[..., Sequence[Any]] = True
    second: bool | None = None
    rtol: float | None = None
    atol: float | None = None
    known: tuple[int | None, ...] | None = None
    stretches: bool | None = None
    fixed: bool | tuple[int, ...] = False
    _made: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.of.__name__  # type: ignore[no-any-return]

    def __str__(self) -> str:
        operands = ",".join(f"{x.dtype}{list(x.shape)}".replace(" ", "") for x in self.inputs)
        attrs = ",".join(f"{name}={shown(value)}" for name, value in self.attrs.items())
        return "-".join(part for part in (self.name, operands, attrs, self.note) if part)

    @property
    def result_dtype(self) -> str:
        return self.dtype or self.inputs[0].dtype.name

    def expected(self) -> Array:
        """What the oracle gives, in the dtype of the result."""
        if "expected" not in self._made:
            with np.errstate(all="ignore"):
                value = np.asarray(self.oracle(*[widest(x) for x in self.inputs]))
                self._made["expected"] = value.astype(self.result_dtype)
        return self._made["expected"]  # type: ignore[no-any-return]

    @property
    def keeps_ones(self) -> bool:
        return self.stretches is not False

    def shapes(self, known: bool) -> list[tuple[int | None, ...]]:
        """The static shapes of the operands; unknown but for axes that are to be stretched."""
        kept = range(len(self.inputs)) if known or self.fixed is True else self.fixed or ()
        return [
            x.shape if i in kept else tuple(1 if self.keeps_ones and size == 1 else None for size in x.shape)
            for i, x in enumerate(self.inputs)
        ]

    @property
    def differentiable(self) -> bool:
        """Whether the row has a gradient in float64. (Other float dtypes take the same way.)"""
        return (
            self.grad is not False and self.result_dtype.startswith("float") and any(x.dtype.kind == "f" for x in self.inputs)
        )

    @property
    def curved(self) -> bool:
        """Whether the row has a gradient of the gradient."""
        return self.differentiable and (self.grad is True if self.second is None else self.second)

    def close(self, found: Any) -> None:
        """Asserts that found is what the oracle gives, within the tolerance of the row."""
        wanted = self.expected()
        assert found.dtype.name == wanted.dtype.name
        assert found.shape == wanted.shape
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted)
            return
        rtol = RTOL[wanted.dtype.name] if self.rtol is None else self.rtol
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol if self.atol is None else self.atol)


@dataclass(frozen=True, eq=False)
class Case(Row):
    """A row of the table of ops.

    Args:
      build: ``(*nodes) -> node`` in the place of ``op(*nodes, **attrs)``.
    """

    build: Callable[..., Node] | None = None

    @property
    def op(self) -> Op:
        return self.of  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        return self.op.name

    @property
    def keeps_ones(self) -> bool:
        return self.op.broadcasts if self.stretches is None else self.stretches

    @property
    def differentiable(self) -> bool:
        return self.op.vjp is not None and super().differentiable

    def node(self, *nodes: Node) -> Node:
        return self.op(*nodes, **self.attrs) if self.build is None else self.build(*nodes)


def shown(value: Any) -> str:
    """An attr in the id of a row: what has no short name is left out."""
    if isinstance(value, (int, float, str, tuple, list, type(None))):
        return repr(value).replace(" ", "")
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else ""


def widest(x: Array) -> Array:
    """Floats as float64, anything else as it is."""
    return x.astype("float64") if x.dtype.kind == "f" else x


def floats(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0, dtype: str = "float32") -> Array:
    """Floats without ties, the same ones in every run."""
    generator = np.random.default_rng([zlib.crc32(repr(shape).encode()), seed])
    return np.asarray(generator.uniform(low, high, shape)).astype(dtype)


def ints(*shape: int, low: int = -5, high: int = 6, seed: int = 0, dtype: str = "int32") -> Array:
    """Integers from low to below high, the same ones in every run."""
    generator = np.random.default_rng([zlib.crc32(repr(shape).encode()), seed])
    return np.asarray(generator.integers(low, high, shape)).astype(dtype)


def bools(*shape: int, seed: int = 0) -> Array:
    return ints(*shape, low=0, high=2, seed=seed).astype(bool)


def array(value: Any, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


def size(value: int, dtype: str = "int32") -> Array:
    """A symbolic size."""
    return np.array(value, dtype)


NAN, INF = float("nan"), float("inf")
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0]

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
class Case:
    """One op over arrays, and what it gives.

    Args:
      op: what the row is about.
      inputs: the operands.
      attrs: of the op.
      oracle: ``(*inputs) -> array``, told in NumPy or plain Python; it gets floats as float64. What it returns is compared
        in values and shape.
      dtype: of the result; None is that of the first operand.
      note: what is particular about the row.
      grad: whether gradients are checked against central differences of the oracle, in float64; or the gradients
        themselves where differences do not find them (at ties, say): ``(weights, *inputs) -> arrays``, one per float operand,
        None for one that has none.
      second: whether second-order gradients are, against central differences of the first; None is as grad, if that is a bool.
      build: ``(*nodes) -> node`` in the place of ``op(*nodes, **attrs)``.
      rtol, atol: None is RTOL of the dtype. 0 for both asks for equality.
      known: the static shape of the result over operands of known sizes; None is the real one.
      stretches: axes of size 1 are stretched: they stay known where other sizes are not; None is what the op says.
      fixed: operands have the sizes that they have (the key of a draw); there is no form of unknown sizes.
      expands: whether the row holds for the expansion of the op too; a str is the reason why not.
    """

    op: Op
    inputs: Sequence[Array]
    attrs: Mapping[str, Any]
    oracle: Callable[..., Any]
    dtype: str | None = None
    note: str = ""
    grad: bool | Callable[..., Sequence[Any]] = True
    second: bool | None = None
    build: Callable[..., Node] | None = None
    rtol: float | None = None
    atol: float | None = None
    known: tuple[int | None, ...] | None = None
    stretches: bool | None = None
    fixed: bool = False
    expands: bool | str = True
    _made: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        operands = ",".join(f"{x.dtype}{list(x.shape)}".replace(" ", "") for x in self.inputs)
        attrs = ",".join(f"{name}={value}".replace(" ", "") for name, value in self.attrs.items() if type(value) in (int, str, tuple, bool))
        return "-".join(part for part in (self.op.name, operands, attrs, self.note) if part)

    @property
    def result_dtype(self) -> str:
        return self.dtype or self.inputs[0].dtype.name

    def node(self, *nodes: Node) -> Node:
        return self.op(*nodes, **self.attrs) if self.build is None else self.build(*nodes)

    def expected(self) -> Array:
        """What the oracle gives, in the dtype of the result."""
        if "expected" not in self._made:
            with np.errstate(all="ignore"):
                value = np.asarray(self.oracle(*[widest(x) for x in self.inputs]))
                self._made["expected"] = value.astype(self.result_dtype)
        return self._made["expected"]  # type: ignore[no-any-return]

    def shapes(self, known: bool) -> list[tuple[int | None, ...]]:
        """The static shapes of the operands; unknown but for axes that are to be stretched."""
        if known or self.fixed:
            return [x.shape for x in self.inputs]
        keeps = self.op.broadcasts if self.stretches is None else self.stretches
        return [tuple(1 if keeps and size == 1 else None for size in x.shape) for x in self.inputs]

    def close(self, found: Any, wanted: Array | None = None) -> None:
        """Asserts that found is what is wanted (None: what the oracle gives), within the tolerance of the row."""
        wanted = self.expected() if wanted is None else wanted
        assert found.dtype.name == wanted.dtype.name
        assert found.shape == wanted.shape
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted)
            return
        rtol = RTOL[wanted.dtype.name] if self.rtol is None else self.rtol
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol if self.atol is None else self.atol)


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

"""Ops without inputs: what is bound when a program runs, and constants."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from kgraph.errors import DTypeError
from kgraph.ir.node import Constant, Identity, Node
from kgraph.ir.op import Op
from kgraph.ir.origin import here
from kgraph.ir.types import Shape, TensorType, kind, numpy_dtype


def _given(*, type: TensorType, uid: Identity) -> TensorType:
    return type


placeholder: Op = Op("placeholder", _given, source=True, doc="A value given at each call.")

variable: Op = Op("variable", _given, source=True, doc="A value kept between calls; its uid is the variable's storage.")

param: Op = Op(
    "param", lambda *, index, type: type, source=True,
    doc="A parameter of a closed body, by position; while a body is traced, index is the identity of its parameter.",
)  # fmt: skip

stream: Op = Op(
    "stream", lambda *, uid: TensorType("int64", (2,)), source=True,
    doc="The key of a random draw: int64[2] of seed and call counter, new at each call.",
)  # fmt: skip

learning_phase: Op = Op(
    "learning_phase", lambda: TensorType("uint8", ()), source=True, doc="0 in a test program, 1 in a train program."
)

absent: Op = Op(
    "absent", lambda *, type: type, source=True,
    numpy=lambda *, type: np.zeros([size or 0 for size in type.shape], numpy_dtype(type.dtype)),
    doc="A value that nothing reads: what the side of a branch that is not taken leaves for the other side's use.",
)  # fmt: skip


def _constant_type(*, value: Constant) -> TensorType:
    return TensorType(value.array.dtype.name, value.array.shape)


constant: Op = Op(
    "constant", _constant_type, numpy=lambda *, value: value.array, source=True, doc="A fixed array, copied and read-only."
)


def constant_of(array: Any) -> Node:
    """The constant with the value and dtype of an array."""
    return constant(value=Constant(np.asarray(array)))


def scalar(value: float, dtype: str) -> Node:
    """The constant of one Python number in a dtype. Raises DTypeError if an integer does not fit it."""
    # By bits: 0.0 and -0.0 are different constants, and NaN is one.
    key = (dtype, struct.pack("d", value)) if value.__class__ is float else (dtype, value.__class__, value)
    made = _scalars.get(key)
    if made is None:
        if kind(dtype) == "int" and not _holds(dtype, value):
            raise DTypeError(f"{value!r} does not fit {dtype}", hint="cast the tensor to a wider dtype first, with K.cast").at(
                here(3).function, (), str(here(3))
            )
        made = Constant(np.array(value, numpy_dtype(dtype)))
        if len(_scalars) >= 10_000:
            _scalars.clear()
        _scalars[key] = made
    return constant.apply((), (("value", made),))


def _holds(dtype: str, value: float) -> bool:
    bounds = np.iinfo(dtype)
    return bounds.min <= value <= bounds.max and int(value) == value


_scalars: dict[Any, Constant] = {}  # numbers that programs name again and again


def filled(value: float, dtype: str, shape: Shape) -> Node:
    """A constant array of one value; the shape has to be known."""
    return constant_of(np.full([size or 0 for size in shape], value, numpy_dtype(dtype)))

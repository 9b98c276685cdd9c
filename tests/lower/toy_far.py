"""A functional engine with arrays of its own, on a device far away. It notes each that is sent there, or fetched from it."""

from __future__ import annotations

from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.lower.engine import Engine


class Far:
    """An array on the device. Nobody but the rules looks inside."""

    def __init__(self, array: Any):
        self.array = np.asarray(array)
        self.shape = self.array.shape


def far(function: Any) -> Any:
    return lambda *values, **attrs: Far(function(*[value.array for value in values], **attrs))


def filled(entries: Any, sizes: Any) -> list[int]:
    """Sizes with what is computed in the place of None."""
    return [int(sizes.pop(0)) if entry is None else entry for entry in entries] if sizes else entries


#: NumPy has them under the name of the op.
NAMED = """add subtract multiply divide maximum minimum negative square exp log log1p tanh matmul where equal not_equal less
    less_equal greater greater_equal logical_and logical_or squeeze""".split()
RULES = {o.OPS[name]: far(getattr(np, name)) for name in NAMED} | {
    o.constant: lambda *, value: Far(value.array),
    o.cast: far(lambda x, *, dtype: x.astype(dtype)),
    o.shape: far(lambda x: np.array(x.shape, "int32")),
    o.index: far(o.index.numpy),
    o.transpose: far(lambda x, *, perm: x.transpose(perm)),
    o.reshape: far(lambda x, *sizes, shape: x.reshape(filled(shape, [*sizes]))),
    o.broadcast_to: far(lambda x, *sizes, shape: np.broadcast_to(x, filled(shape, [*sizes]))),
    o.sum: far(lambda x, *, axis, keepdims: np.sum(x, axis, keepdims=keepdims)),
    o.max: far(lambda x, *, axis, keepdims: np.max(x, axis, keepdims=keepdims)),
    o.random_uniform: far(
        lambda key, *sizes, shape, dtype: np.random.default_rng(key.view("uint64")).random(filled(shape, [*sizes]), dtype)
    ),
    o.cond: lambda condition, *captures, then, orelse: (then if condition.array else orelse)(*captures),
    o.item: lambda values, *, index: values[index],
}


def far_engine(moves: list[str]) -> Engine:
    def compile(evaluate: Any) -> Any:  # what is fed comes from the host
        return lambda *values: evaluate(*[value if isinstance(value, Far) else Far(value) for value in values])

    return Engine(
        "far", RULES, compile=compile,
        from_host=lambda array, storage: moves.append("sent") or Far(array.copy()),
        to_host=lambda value: moves.append("fetched") or value.array.copy(),
    )  # fmt: skip

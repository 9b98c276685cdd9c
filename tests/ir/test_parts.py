"""The cotangent of what is read in parts: one concatenation where they lie side by side, sums of zeros elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph.ir.grad import gradients
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from kgraph.lower.emit import NumpyProgram
from tests.cases.base import Array, floats


def placeholder(*shape: int | None) -> Node:
    return o.placeholder(uid=Identity("x"), type=TensorType("float64", shape))


def total(x: Node) -> Node:
    return o.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def slope(x: Node, keys: list[Any]) -> Node:
    """The gradient of the sum of the parts, each squared and times its number."""
    loss = o.scalar(0.0, x.dtype)
    for number, key in enumerate(keys, 1):
        loss = loss + total(o.square(x[key])) * float(number)
    (found,) = gradients(loss, [x])
    assert found is not None
    return found


def oracle(x: Array, keys: list[Any]) -> Array:
    found = np.zeros_like(x)
    for number, key in enumerate(keys, 1):
        found[key] += 2 * number * x[key]
    return found


ALL = slice(None)

#: Name -> sizes (unknown where negative), what is read, whether the parts are all there is.
PARTS: dict[str, tuple[tuple[int, ...], list[Any], bool]] = {
    "gates": ((3, 8), [(ALL, slice(4, 6)), (ALL, slice(0, 2)), (ALL, slice(2, 4)), (ALL, slice(6, None))], True),
    "unknown rows": ((-3, 8), [(ALL, slice(0, 5)), (ALL, slice(5, 8))], True),
    "unknown axis": ((-3, 8), [slice(0, 2), slice(2, 3)], False),
    "steps of an unrolled loop": ((3, 2, 4), [0, 1, 2], True),
    "from the end": ((3, 4), [(ALL, slice(-4, -1)), (ALL, -1)], True),
    "a number and a slice": ((4, 3), [0, slice(1, None)], True),
    "a gap": ((3, 8), [(ALL, slice(0, 3)), (ALL, slice(4, 8))], False),
    "the end is missing": ((3, 8), [(ALL, slice(0, 3)), (ALL, slice(3, 7))], False),
    "one over the other": ((3, 8), [(ALL, slice(0, 5)), (ALL, slice(4, 8))], False),
    "every second": ((4, 3), [slice(0, None, 2), slice(1, None, 2)], False),
    "the other way": ((4, 3), [slice(None, 1, -1), slice(0, 2)], False),
    "two axes": ((4, 4), [(slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 4))], False),
    "nothing of it": ((3, 4), [slice(0, 0), slice(0, 2), slice(2, 3)], True),
    "a new axis": ((4, 3), [(None, slice(0, 2)), slice(2, 4)], False),
    "other parts too": ((4, 4), [slice(0, 2), slice(2, 4), (slice(0, 4), slice(1, 3)), (0, 0)], True),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str) -> None:
    sizes, keys, complete = PARTS[name]
    x = placeholder(*[size if size > 0 else None for size in sizes])
    found = slope(x, keys)
    assert found.type is x.type
    joins = [node for node in toposort([found]) if node.op is o.concatenate]
    assert len(joins) == complete
    value = floats(*map(abs, sizes), dtype="float64")
    np.testing.assert_allclose(NumpyProgram(Graph([x], [found]))(value)[0], oracle(value, keys), rtol=1e-12, atol=1e-15)


def test_elements_of_many_steps_take_nodes_linear_in_them_and_no_zeros() -> None:
    """Each step's cotangent within zeros for all steps would take time quadratic in them."""
    x = placeholder(200, 2, 3)
    found = slope(x, list(range(200)))
    assert not any(node.op is o.scatter_index for node in toposort([found]))

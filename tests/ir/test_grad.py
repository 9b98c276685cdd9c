"""Gradients of graphs: against differences; of gradients; where no path leads; the same each time; and how large they get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.errors import GradientError
from kgraph.ir.grad import cotangents, gradients
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.origin import FORWARD, GRADIENT
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType, is_tuple
from kgraph.ir.verify import verify
from tests.ir.steps import compute
from tests.ir.strategies import SMOOTH, Sample, graphs, quick
from tests.numeric import assert_gradient, central_difference
from tests.process import run_python

F64 = TensorType("float64", (3,))


def value(name: str, type: TensorType = F64) -> Node:
    return o.placeholder(type=type, uid=Identity(name))


def total(x: Node) -> Node:
    return o.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def loss_of(sample: Sample) -> Node:
    """A float64 scalar of all that is float64 in the outputs, every element weighted by another number."""
    loss = o.scalar(0.0, "float64")
    for number, x in enumerate(out for out in sample.graph.outputs if out.dtype == "float64"):
        position = o.broadcast_like(o.scalar(0.3 + number, "float64"), x)
        for axis in range(x.ndim):
            position = o.cumsum(position, axis=axis)  # no two elements alike
        loss = loss + total(x * o.sin(position))
    return loss


def tame(sample: Sample, loss: Node) -> bool:
    """Whether differences say anything: all is float64 and of a size like 1."""
    nodes = [node for node in toposort([loss]) if not is_tuple(node.type) and node.type.is_float]
    with np.errstate(all="ignore"):
        values = compute(nodes, sample.feeds)
    return all(node.dtype == "float64" and np.all(np.abs(x) < 50) for node, x in zip(nodes, values, strict=True))


def sources(sample: Sample) -> list[Node]:
    return [node for node in sample.feeds if node.dtype == "float64"]


def differences(sample: Sample, x: Node, wrt: Sequence[Node]) -> list[Any]:
    def at(*values: Any) -> Any:
        return compute([x], {**sample.feeds, **dict(zip(wrt, values, strict=True))})[0]

    return [central_difference(at, [sample.feeds[node] for node in wrt], i) for i in range(len(wrt))]


smooth = graphs([*SMOOTH, "switch"], dtypes=("float64",), updates=False, steps=14)


@settings(quick, max_examples=120)
@given(sample=smooth)
def test_gradients_are_what_differences_say(sample: Sample) -> None:
    loss, wrt = loss_of(sample), sources(sample)
    assume(tame(sample, loss))
    found = gradients(loss, wrt, "none")
    held = [g for g in found if g is not None]
    verify(Graph((), held))
    values = iter(compute(held, sample.feeds))
    for node, g, wanted in zip(wrt, found, differences(sample, loss, wrt), strict=True):
        assert g is None or (g.type.dtype == "float64" and g.ndim == node.ndim)
        assert_gradient(None if g is None else next(values), wanted)


@settings(quick, max_examples=60)
@given(sample=graphs([*SMOOTH, "switch"], dtypes=("float64",), updates=False, steps=8))
def test_gradients_of_gradients_are_what_differences_of_gradients_say(sample: Sample) -> None:
    loss, wrt = loss_of(sample), sources(sample)
    first = [g for g in gradients(loss, wrt, "none") if g is not None]
    slope = o.scalar(0.0, "float64")
    for number, g in enumerate(first):
        slope = slope + total(o.sin(g) * o.scalar(0.7 + number, "float64"))
    assume(tame(sample, slope))
    found = gradients(slope, wrt, "none")
    held = [g for g in found if g is not None]
    verify(Graph((), held))
    values = iter(compute(held, sample.feeds))
    for g, wanted in zip(found, differences(sample, slope, wrt), strict=True):
        assert_gradient(None if g is None else next(values), wanted)


@settings(quick, max_examples=80)
@given(sample=graphs(dtypes=("float32", "float64", "int32", "float16"), updates=False))
def test_a_gradient_has_the_type_of_its_node_whatever_the_graph(sample: Sample) -> None:
    for loss in sample.graph.outputs:
        if loss.type.is_float:
            nodes = [node for node in toposort([loss]) if not is_tuple(node.type)]
            for node, g in zip(nodes, gradients(loss, nodes, "none"), strict=True):
                assert g is None or (node.type.is_float and g.dtype == node.dtype and g.ndim == node.ndim)
                assert g is None or all(a is None or b in (a, None) for a, b in zip(node.type.shape, g.type.shape, strict=True))
            verify(Graph((), [g for g in gradients(loss, nodes, "zeros") if g is not None]))


# ---------------------------------------------------------------------------------------------------- with respect to what


def test_with_respect_to_the_loss_itself_and_to_a_node_twice() -> None:
    x = value("x")
    loss = o.sin(x)
    found = gradients(loss, [loss, x, x])
    assert found[0] is o.ones_like(loss)
    assert found[1] is found[2] is not None


def test_what_a_target_is_made_of_is_a_target_too() -> None:
    x = value("x")
    h = o.exp(x)
    gx, gh = gradients(total(h * h + x), [x, h])
    feeds = {x: np.array([0.1, 0.2, -0.3])}
    at = feeds[x]
    assert gx is not None and gh is not None
    for g, wanted in zip(compute([gx, gh], feeds), (2 * np.exp(2 * at) + 1, 2 * np.exp(at)), strict=True):
        np.testing.assert_allclose(g, wanted, rtol=1e-12)


def test_cotangents_of_several_outputs_are_added_and_none_is_nothing() -> None:
    x, y = value("x"), value("y")
    a, b, c = x * y, o.sin(x), o.exp(y)
    g = o.constant_of(np.array([1.0, 10.0, 100.0]))
    gx, gy = cotangents([a, b, c], [g, g, None], [x, y])
    feeds = {x: np.array([0.1, 0.2, 0.3]), y: np.array([4.0, 5.0, 6.0])}
    found = compute([gx, gy], feeds)  # type: ignore[list-item]
    np.testing.assert_allclose(found[0], [1, 10, 100] * (feeds[y] + np.cos(feeds[x])), rtol=1e-12)
    np.testing.assert_allclose(found[1], [1, 10, 100] * feeds[x], rtol=1e-12)
    assert cotangents([a, b, c], [None, None, None], [x, y]) == [None, None]


def test_nodes_of_a_gradient_come_from_the_lines_that_they_are_the_gradient_of() -> None:
    x = value("x")
    h = o.sin(x)  # forward: h
    y = o.exp(h)
    (g,) = gradients(total(y), [x])
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (cos,) = [node for node in toposort([g]) if node.op is o.cos]  # type: ignore[list-item]
    assert cos.origin.role == GRADIENT
    assert lines[cos.origin.line - 1].endswith("# forward: h")
    assert (h.origin.role, h.origin.line) == (FORWARD, cos.origin.line)


# ---------------------------------------------------------------------------------------------------- where no path leads


@settings(quick, max_examples=100)
@given(sample=graphs(dtypes=("float64", "int32", "float32"), updates=False))
def test_none_zeros_and_an_error_say_the_same(sample: Sample) -> None:
    for loss in sample.graph.outputs:
        if not loss.type.is_float:
            continue
        wrt = [node for node in sample.graph.inputs if not node.type.is_float or node.dtype == "float64"]
        for node, none, zeros in zip(wrt, gradients(loss, wrt, "none"), gradients(loss, wrt, "zeros"), strict=True):
            assert zeros is not None
            if none is not None:
                assert zeros is none is gradients(loss, [node])[0]
                assert node.type.is_float
                continue
            np.testing.assert_array_equal(compute([zeros], sample.feeds)[0], np.zeros_like(sample.feeds[node]))
            assert (zeros.dtype, zeros.ndim) == (node.dtype, node.ndim)
            try:
                (raised,) = gradients(loss, [node])
            except GradientError as error:
                assert node.name is not None and repr(node.name) in str(error)
            else:  # a wanted end of the path
                assert raised is zeros
                steps = {n.op for n in toposort([loss])}
                assert steps & {o.stop_gradient, o.floor, o.round, o.sign, o.floor_divide, o.max_pool_grad, o.max_pool_pick}


ZERO = o.scalar(0.0, "float64")
ENDS: dict[str, Callable[[Node], Node]] = {
    "a cast to integers": lambda x: o.cast(o.cast(x, dtype="int32"), dtype="float64"),
    "a comparison": lambda x: o.cast(o.greater(x, o.zeros_like(x)), dtype="float64"),
    "argmax": lambda x: o.cast(o.argmax(x, axis=0), dtype="float64"),
    "an index": lambda x: o.gather(o.constant_of(np.arange(9.0)), o.cast(x, dtype="int64")),
    "a size": lambda x: o.cast(o.shape(x), dtype="float64"),
    "a condition": lambda x: o.switch(o.greater(total(x), ZERO), ZERO, o.scalar(2.0, "float64")),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_a_path_through_integers_is_none_and_beside_it_the_rest_counts(end: str) -> None:
    x, n = value("x"), value("n", TensorType("int32", (3,)))
    ended = total(ENDS[end](x))
    assert gradients(ended, [x], "none") == [None]
    g, none = gradients(ended + total(o.square(x)) + total(x * o.cast(n, dtype="float64")), [x, n], "none")
    assert none is None
    feeds = {x: np.array([1.5, 2.5, 0.5]), n: np.array([1, 2, 3], "int32")}
    np.testing.assert_array_equal(compute([g], feeds)[0], 2 * feeds[x] + feeds[n])  # type: ignore[list-item]


@pytest.mark.parametrize("flat", [o.floor, o.round, o.sign, o.stop_gradient], ids=str)
def test_a_path_of_zeros_adds_nothing(flat: Callable[[Node], Node]) -> None:
    x = value("x")
    assert gradients(total(o.sin(x)) + total(flat(o.exp(x))), [x]) == gradients(total(o.sin(x)), [x])
    assert gradients(total(flat(o.exp(x))), [x]) == [o.zeros_like(x)]


# ---------------------------------------------------------------------------------------------------- the same graph each time


@settings(quick, max_examples=60)
@given(sample=graphs([*SMOOTH, "switch"], dtypes=("float64",), updates=False), seed=st.randoms(use_true_random=False))
def test_the_order_of_what_is_asked_for_changes_nothing(sample: Sample, seed: Any) -> None:
    loss = loss_of(sample)
    wrt = [node for node in toposort([loss]) if not is_tuple(node.type) and node.type.is_float]
    whole = dict(zip(wrt, gradients(loss, wrt, "none"), strict=True))
    seed.shuffle(wrt)
    assert gradients(loss, wrt, "none") == [whole[node] for node in wrt]
    if wrt:
        assert gradients(loss, wrt[:1], "none") == [whole[wrt[0]]]


DIGEST = """
from random import Random
import kgraph.ir.ops as o
from kgraph.ir.grad import gradients
from kgraph.ir.listing import Listing
from kgraph.ir.node import Identity
from kgraph.ir.types import TensorType
c = o.placeholder(type=TensorType("bool", ()), uid=Identity("c"))
for seed in range(30):
    random = Random(seed)
    wrt = [o.placeholder(type=TensorType("float64", ()), uid=Identity(str(i))) for i in range(4)]
    made = list(wrt)
    for _ in range(30):
        x, y = random.choice(made), random.choice(made)
        made.append(random.choice([lambda: x * y, lambda: x + y, lambda: o.sin(x), lambda: o.switch(c, x, y)])())
    print(Listing.of([g for g in gradients(made[-1], wrt, "none") if g is not None]).digest().hex())
"""


def test_contributions_are_added_in_the_same_order_in_every_process() -> None:
    one, two = [run_python(DIGEST, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert one == two
    assert len(set(one.split())) > 20


# ---------------------------------------------------------------------------------------------------- size


def repeated(x: Node, count: int) -> Node:
    """Each step uses the one before twice, so that there are 2 ** count paths."""
    for _ in range(count):
        x = o.sin(x) * x
    return x


def fan(x: Node, count: int) -> Node:
    h = o.exp(x)
    out = o.tanh(h)
    for i in range(count):
        out = out + o.sin(h * o.scalar(1.0 + i, "float64"))
    return out


def row(x: Node, count: int) -> Node:
    for i in range(count):
        x = o.switch(value(f"c{i}", TensorType("bool", ())), o.sin(x), o.cos(x) * x)
    return x


def one_condition(x: Node, count: int) -> Node:
    c = value("c", TensorType("bool", ()))
    for _ in range(count):
        x = o.switch(c, o.sin(x), o.cos(x) * x)
    return x


def nest(x: Node, count: int) -> Node:
    y = o.cos(x)
    for i in range(count):
        y = o.switch(value(f"c{i}", TensorType("bool", ())), o.sin(y) * y, x)
    return y


def slices(x: Node, count: int) -> Node:
    out = x[0] * x[1]
    for i in range(count):
        out = out + x[i % 3] * o.scalar(1.0 + i, "float64")
    return out


@pytest.mark.parametrize("build", [repeated, fan, row, one_condition, nest, slices], ids=lambda f: f.__name__)
@pytest.mark.parametrize("order", [1, 2])
def test_the_number_of_nodes_is_linear_in_that_of_the_graph(build: Callable[[Node, int], Node], order: int) -> None:
    def made(count: int) -> int:
        x = value("x")
        y = total(build(x, count))
        for _ in range(order):
            (g,) = gradients(y, [x])
            assert g is not None
            y = total(g)
        return len(toposort([y]))

    small, middle, large = [made(count) for count in (80, 160, 320)]
    assert large - middle == 2 * (middle - small)
    # What leaves a nest is wrapped in as many branches as it is deep, up to DEEPEST of them.
    assert large <= (43 if build is nest else 12) * (3 if order == 2 else 1) * 320

"""Rules of linear algebra: what they make of a graph, where they stay away, and what that costs and computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.ir.cost import cost
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.passes import Record, linear
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType


def leaf(*shape: int | None, dtype: str = "float32") -> Node:
    return o.placeholder(type=TensorType(dtype, shape), uid=Identity())


def only(node: Node) -> Node:
    return linear(Graph((), [node]), Record()).outputs[0]


def swapped(x: Node) -> Node:
    return o.transpose(x, perm=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


HOW = {"strides": (1, 1), "dilation": (1, 1), "border": "same", "groups": 1}


def conv(x: Node, w: Node) -> Node:
    return o.conv(x, w, **HOW)


tall, wide, column = leaf(50, 4), leaf(4, 50), leaf(50, 1)
rows = leaf(None, 64)
square, thin = leaf(64, 64), leaf(64, 1)
image, kernel = leaf(None, 8, 8, 3), leaf(3, 3, 3, 5)
per_filter, other, deep = leaf(5), leaf(5), leaf(1, 1, 1, 5)
number = leaf()
TAPS = conv(image, kernel)

#: Name -> before, after.
REWRITTEN: dict[str, tuple[Node, Node]] = {
    "a vector at the right": (o.matmul(o.matmul(tall, wide), column), o.matmul(tall, o.matmul(wide, column))),
    "a vector at the left": (
        o.matmul(swapped(column), o.matmul(tall, wide)), o.matmul(o.matmul(swapped(column), tall), wide),
    ),
    "any batch, a vector": (o.matmul(o.matmul(rows, square), thin), o.matmul(o.matmul(rows, square), thin)),
    "a transpose of a product": (swapped(o.matmul(swapped(tall), column)), o.matmul(swapped(column), tall)),
    "on the other side": (swapped(o.matmul(tall, swapped(tall))), o.matmul(tall, swapped(tall))),
    "a factor out": (o.matmul(wide * number, column), number * o.matmul(wide, column)),
    "a factor out at the right": (o.matmul(swapped(column), tall * number), number * o.matmul(swapped(column), tall)),
    "a factor in": (o.matmul(tall, wide) * number, o.matmul(tall * number, wide)),
    "a factor of one element": (o.matmul(tall, wide) * leaf(1, 1), None),  # type: ignore[dict-item]
    "a scale": (TAPS * per_filter, conv(image, kernel * per_filter)),
    "a divisor": (TAPS / per_filter, conv(image, kernel / per_filter)),
    "a scale with axes": (TAPS * deep, conv(image, kernel * o.reshape(deep, shape=(5,)))),
    "a scale of all": (TAPS * number, conv(image, kernel * number)),
    "a scaled bias": ((TAPS + other) * per_filter, conv(image, kernel * per_filter) + other * per_filter),
    "a divided difference": ((TAPS - other) / per_filter, conv(image, kernel / per_filter) - other / per_filter),
    "two biases": ((TAPS + other) + per_filter, TAPS + (other + per_filter)),
    "a mean and a bias": ((TAPS - other) + per_filter, TAPS - (other - per_filter)),
    "a bias and a mean": ((TAPS + other) - per_filter, TAPS + (other - per_filter)),
    "two means": ((TAPS - other) - per_filter, TAPS - (other + per_filter)),
    "dense, of many rows": (o.matmul(leaf(500, 6), wide_ := leaf(6, 5)) * per_filter, None),  # type: ignore[dict-item]
}  # fmt: skip
_one = REWRITTEN["a factor of one element"][0].inputs[1]
REWRITTEN["a factor of one element"] = (o.matmul(tall, wide) * _one, o.matmul(tall * o.reshape(_one, shape=()), wide))
_many = REWRITTEN["dense, of many rows"][0].inputs[0].inputs[0]
REWRITTEN["dense, of many rows"] = (o.matmul(_many, wide_) * per_filter, o.matmul(_many, wide_ * per_filter))

#: Name -> a graph that stays as it is, a rule that might have changed it, why it does not.
KEPT: dict[str, tuple[Node, str, str]] = {
    "the other order is dearer": (o.matmul(o.matmul(wide, tall), leaf(4, 7)), "right_first", "it would not be fewer products"),
    "the sizes decide": (o.matmul(o.matmul(rows, square), leaf(64, 63)), "right_first", "it would not be fewer products"),
    "other axes": (o.transpose(o.matmul(leaf(2, 3, 4), swapped(leaf(2, 5, 4))), perm=(1, 0, 2)), "transposed_right", "other axes"),
    "a factor for each row": (o.matmul(tall * leaf(50, 1), wide), "factor_out", "the factor is no scalar"),
    "a larger product": (o.matmul(tall * number, wide), "factor_out", "the product has no fewer elements"),
    "rows that may be few": (o.matmul(rows, square) * leaf(64), "scale_in_weights", "the weights have no fewer elements"),
    "a factor for each place": (TAPS * leaf(8, 8, 1), "scale_in_weights", "it is no factor for each of the last axis"),
    "a factor that stretches": (conv(image, leaf(3, 3, 3, 1)) * per_filter, "scale_in_weights", "it is no factor for each"),
    "a bias for each place": ((TAPS + leaf(8, 8, 5)) * per_filter, "scale_in_bias", "they are no factor and no bias"),
    "biases of another kind": ((TAPS + leaf(8, 8, 5)) + per_filter, "one_bias", "they are not both a bias"),
    "after no product": ((image - leaf(3)) * leaf(3), "scale_in_bias", "it is no"),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_a_rule_makes(name: str) -> None:
    before, after = REWRITTEN[name]
    assert only(before) is after


@pytest.mark.parametrize("name", KEPT)
def test_where_rules_stay_away(name: str) -> None:
    node, rule, reason = KEPT[name]
    assert only(node) is node
    assert reason in kgraph.explain(Tensor(node), ["linear"]).why_not(rule, Tensor(node))


def test_what_others_use_is_not_computed_twice() -> None:
    scaled = TAPS * per_filter
    found = linear(Graph((), [scaled, o.relu(TAPS)]), Record())
    assert found.outputs == (scaled, o.relu(TAPS))
    alone = linear(Graph((), [scaled]), Record())
    assert alone.outputs[0].op is o.conv


def test_every_rule_has_a_row() -> None:
    seen = set()
    for before, _ in REWRITTEN.values():
        record = Record()
        linear(Graph((), [before]), record)
        seen |= {f"linear.{each.rule}" for each in record}
    assert seen == {rule.name for rule in linear}


@pytest.mark.parametrize("rule", linear, ids=lambda rule: rule.name)
def test_rules_keep_their_promise(rule: Any) -> None:
    tensors = [Tensor(before) for before, _ in REWRITTEN.values() if all(None not in i.type.shape for i in toposort([before]))]
    small, weights = leaf(2, 8, 8, 3), leaf(3, 3, 3, 4)
    shift, scale = leaf(4), leaf(4)
    made = conv(small, weights)
    tensors += [Tensor(t) for t in (made * scale, made / scale, (made + shift) * scale, (made - shift) / scale)]
    tensors += [Tensor(t) for t in ((made + shift) + scale, (made - shift) + scale, (made - shift) - scale)]
    (report,) = kgraph.check_rule(rule, tensors=tensors, graphs=20)
    assert report.applied >= 3


@pytest.mark.parametrize("name", REWRITTEN)
def test_no_graph_costs_more(name: str) -> None:
    before, after = (cost(Graph((), [node])) for node in REWRITTEN[name])
    sizes = dict.fromkeys(getattr(before.flops, "names", ()), 1)

    def at(count: Any) -> int:
        return int(count(**sizes)) if callable(count) else int(count)

    assert at(after.flops) <= at(before.flops)


# ---------------------------------------------------------------------------------------------------- batch normalisation


def layer(x: Any, dropped: bool) -> Any:
    """A convolution with batch normalisation and dropout, each in its phase."""
    kernel = K.variable(np.random.default_rng(1).normal(size=(3, 3, 3, 5)), name="kernel")
    numbers = [K.variable(np.random.default_rng(i).uniform(0.5, 2, 5), name=f"number {i}") for i in range(5)]
    bias, gamma, beta, mean, variance = numbers
    y = K.bias_add(K.conv2d(x, kernel, border_mode="same", dim_ordering="tf"), bias, dim_ordering="tf")
    trained, _, _ = K.normalize_batch_in_training(y, gamma, beta, [0, 1, 2])
    y = K.in_train_phase(trained, K.batch_normalization(y, mean, variance, beta, gamma))
    return K.in_train_phase(K.dropout(y, 0.5), y) if dropped else y


def large(graph: Graph) -> list[Any]:
    """The ops over whole images."""
    return [node.op for node in toposort(graph.roots) if node.ndim == 4 and node.type.shape[0] is None and not node.op.source]


def test_the_test_program_of_a_conv_net_has_no_draw_no_branch_and_no_batch_normalisation(engine: str) -> None:
    x = K.placeholder((None, 8, 8, 3), name="x")
    f = K.function([x], K.relu(layer(x, True)), engine=engine)
    graph = f.optimized()
    assert [op for op in large(graph) if op not in (o.relu, o.maximum)] == [o.conv, o.add]
    ops = {node.op for node in toposort(graph.roots)}
    assert not ops & {o.random_uniform, o.switch, o.cond, o.stream}
    values = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    plain = K.function([x], K.relu(layer(x, True)), engine=engine, optimize=False)
    np.testing.assert_allclose(f([values]), plain([values]), rtol=1e-4, atol=1e-5)


def test_chains_of_any_length() -> None:
    x: Node = leaf(3, 40)
    for i in range(6):
        x = o.matmul(x, leaf(40, 40 if i < 5 else 1))
    assert cost(Graph((), [only(x)])).flops == 5 * 2 * 40 * 40 + 2 * 3 * 40  # from the right: there is a vector, not three rows
    y: Node = leaf(40, 1)
    for _ in range(5):
        y = o.matmul(leaf(40, 40), y)
    assert only(y) is y
    z: Node = leaf(40, 40)
    for i in range(5):
        z = o.matmul(z, leaf(40, 40 if i < 4 else 1))
    assert cost(Graph((), [only(z)])).flops == 5 * 2 * 40 * 40



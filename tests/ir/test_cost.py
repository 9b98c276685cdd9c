"""The cost model: operations, bytes and memory of small graphs worked out by hand; polynomials in sizes that are not known."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import ArgumentError
from kgraph.ir.cost import DEAR, Cost, Unknowns, bytes_of, cost
from kgraph.ir.node import Graph
from kgraph.ir.polynomial import Polynomial, interpolated
from kgraph.ir.traverse import toposort
from tests.ir.strategies import graphs, quick


def of(*tensors: Any, **how: Any) -> Cost:
    nodes = [tensor.node for tensor in tensors]
    return cost(Graph([n for n in toposort(nodes) if n.op is o.placeholder], nodes), **how)


x, y = K.placeholder((2, 3)), K.placeholder((3, 4))
image, kernel = K.placeholder((5, 8, 8, 3)), K.placeholder((3, 3, 3, 7))

#: Name -> tensor; nodes, operations, bytes read, written, peak.
BY_HAND: dict[str, tuple[Any, tuple[int, ...]]] = {
    "sum of two": (x + x * 2.0, (2, 12, 24 + 4 + 24 + 24, 48, 24 + 4 + 24 + 24)),
    "exp": (K.exp(x), (1, 6 * DEAR, 24, 24, 48)),
    "matrix product": (K.dot(x, y), (1, 2 * 2 * 3 * 4, 24 + 48, 32, 24 + 48 + 32)),
    "reduction": (K.sum(x, axis=0), (1, 6, 24, 12, 36)),
    "views": (K.reshape(K.transpose(x), (6,))[1:4], (3, 0, 0, 0, 24)),
    "joined": (K.concatenate([x, x]), (1, 0, 48, 48, 72)),
    "convolution": (
        K.conv2d(image, kernel, dim_ordering="tf"),
        (1, 2 * 5 * 6 * 6 * 7 * 27, 4 * (960 + 189), 4 * 1260, 4 * (960 + 189 + 1260)),
    ),
    "pooling": (K.pool2d(image, (2, 2), (2, 2), dim_ordering="tf"), (1, 4 * 5 * 4 * 4 * 3, 4 * 960, 4 * 240, 4 * 1200)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_worked_out_by_hand(name: str) -> None:
    tensor, wanted = BY_HAND[name]
    assert tuple(of(tensor)) == wanted


def test_gradients_of_a_convolution_cost_as_much_as_it_does() -> None:
    out = K.conv2d(image, kernel, dim_ordering="tf")
    weights, once = K.placeholder((5, 6, 6, 7)), 2 * 5 * 6 * 6 * 7 * 27
    for wrt in (image, kernel):
        (g,) = K.gradients(K.sum(out * weights), [wrt])  # the result itself is not computed for it
        assert once <= of(g).flops < 1.1 * once


def test_memory_is_given_back_after_the_last_use() -> None:
    chain = x
    for _ in range(10):
        chain = K.exp(chain)
    assert of(chain).peak == 24 + 2 * 24  # what is fed stays
    kept = [K.exp(x)]
    for _ in range(9):
        kept.append(K.exp(kept[-1]))
    assert of(*kept).peak == 24 + 10 * 24
    wide = K.exp(K.reshape(K.exp(x), (6,)))
    assert of(wide).peak == 24 + 2 * 24  # the view holds what it is a view of


def test_a_loop_costs_its_body_times_its_steps_and_a_branch_its_dearer_side() -> None:
    rows = K.placeholder((7, 4))
    looped = of(K.foldl(lambda total, part: K.exp(total) + part, rows))
    assert looped.flops == 6 * (4 * DEAR + 4)
    condition = K.sum(x) > 0
    branch = K.function([x], K.switch(condition, lambda: K.exp(x), lambda: K.dot(x, K.zeros((3, 3))))).optimized()
    assert cost(branch).flops == 6 + 1 + 6 * DEAR
    assert cost(branch).nodes == 2 + 1 + 1 + 2  # the sum, the comparison; cond and item; exp and matmul


def test_polynomials_in_the_sizes_that_are_not_known() -> None:
    batch, targets = K.placeholder((None, 64), name="batch"), K.placeholder((None, 10), name="targets")
    w = K.variable(np.zeros((64, 10)), name="w")
    found = of(K.square(K.dot(batch, w) - targets))
    assert str(found.flops) == "1,300*n"  # two sizes that meet are one
    assert found.flops(n=32) == 1300 * 32
    assert str(found.read) == "376*n + 2,560"
    assert str(found.bytes) == "496*n + 2,560"
    assert found.nodes == 3
    assert of(K.square(K.dot(batch, w) - targets), sizes={"n": 32}).flops == 1300 * 32
    pairs = K.dot(K.placeholder((None, None), name="left"), K.placeholder((None, None), name="right"))
    assert str(of(pairs).flops) == "2*n*left_1*right_1"
    with pytest.raises(ArgumentError, match=r"sizes is {'m': 3}\n  hint: the unknown sizes are n \(axis 0 of .*'batch' = axis 0"):
        of(K.square(K.dot(batch, w) - targets), sizes={"m": 3})
    with pytest.raises(ArgumentError, match="the unknown sizes are none"):
        of(x, sizes={"n": 3})


def test_strides_divide_the_sizes_that_are_tried() -> None:
    wide = K.placeholder((1, None, 8, 1), name="wide")
    pooled = K.pool2d(wide, (2, 2), (2, 2), dim_ordering="tf")
    assert str(of(pooled).written) == "8*wide_1"
    assert str(of(pooled[:, 1:] * 2.0).flops) == "10*wide_1 - 4"  # 4 for each of 4 in half of the rows; once for each left


def test_sizes_that_only_values_decide_are_taken_for_one() -> None:
    n = K.placeholder((), dtype="int32")
    assert of(K.arange(n) * 2).flops == 1


def test_polynomials() -> None:
    p = Polynomial(["n", "m"], {(1, 1): Fraction(2), (0, 0): Fraction(-3), (2, 0): Fraction(1, 2), (0, 1): Fraction(0)})
    assert str(p) == "2*n*m + 0.5*n**2 - 3"
    assert p(n=4, m=5) == 45
    assert not p.is_number
    assert Polynomial(["n"], {(0,): Fraction(7)}) == 7
    assert Polynomial(["n"], {}) == 0
    assert str(Polynomial(["n"], {})) == "0"
    assert p != 3
    found = interpolated(["a", "b"], lambda v: [3 * v["a"] ** 3 - v["b"], v["a"] * v["b"] + 1], 3, 12)
    assert [str(each) for each in found] == ["3*a**3 - b", "a*b + 1"]
    assert str(Polynomial(["n"], {(1,): Fraction(-1)})) == "-n"


@quick
@given(sample=graphs())
def test_graphs_have_costs(sample: Any) -> None:
    try:
        unknown = Unknowns(sample.graph)
    except ArgumentError:  # sizes that fit by accident alone
        reject()
    found = cost(sample.graph)
    assert set(unknown.of) == set(found.flops.names if isinstance(found.flops, Polynomial) else ())
    at = cost(sample.graph, dict.fromkeys(unknown.of, 12000))
    assert at.nodes == found.nodes
    assert min(at) >= 0
    assert at.peak >= max((bytes_of(root.type) for root in sample.graph.roots if root.type.is_static), default=0)

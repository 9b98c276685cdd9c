"""Depth costs nothing but memory: a million nodes at Python's default recursion limit."""

from __future__ import annotations

import copy
import gc
import pickle
import sys

import numpy as np

from kgraph import backend as K
from kgraph.ir.node import NODES
from kgraph.ir.verify import verify


def chain(x, length: int):
    for _ in range(length):
        x = K.cos(x)
    return x


def test_a_million_nodes_in_a_row() -> None:
    assert sys.getrecursionlimit() == 1000
    x = K.placeholder((4,), name="x")
    gc.collect()  # what other tests have left
    before = len(NODES)
    y = chain(x, 1_000_000)
    assert len(NODES) == before + 1_000_000
    f = K.function([x], [y])
    np.testing.assert_allclose(f([np.ones(4)])[0], 0.7390851, rtol=1e-6)  # the fixed point of cos
    again = pickle.loads(pickle.dumps(y))
    assert again.node is not y.node
    assert copy.deepcopy(y).node is y.node
    assert "cos" in repr(y)
    gc.disable()  # dropped by reference counts alone
    try:
        del f, y, again
        assert len(NODES) == before
    finally:
        gc.enable()


def test_the_gradient_of_a_deep_chain_runs_and_is_well_formed() -> None:
    x = K.placeholder((3,), dtype="float64", name="x")
    y = chain(x, 100_000)
    f = K.function([x], K.gradients(K.sum(y), [x]))
    verify(f.graph)
    np.testing.assert_allclose(f([np.ones(3)])[0], 0.0, atol=1e-300)
    short = K.function([x], K.gradients(K.sum(chain(x, 3)), [x]))
    v = np.array([0.1, 0.5, 2.0])
    exact = -np.sin(v) * np.sin(np.cos(v)) * np.sin(np.cos(np.cos(v)))
    np.testing.assert_allclose(short([v])[0], exact, rtol=1e-12)


def test_a_sum_of_many_terms() -> None:
    x = K.placeholder((2,), name="x")
    total = sum(x * float(i) for i in range(10_000))
    np.testing.assert_allclose(K.function([x], [total])([[1, 2]])[0], [49995000, 99990000], rtol=1e-4)

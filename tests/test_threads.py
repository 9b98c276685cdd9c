"""Threads build, compile and call at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np

from kgraph import backend as K


def test_eight_threads_build_compile_and_call() -> None:
    start = Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for i in range(15):
            x, w = K.placeholder((None, 3)), K.variable(np.full((3, 2), seed + 1.0))
            y = K.tanh(K.dot(x, w) * float(i % 5)) + float(seed % 2)
            f = K.function([x], [y, *K.gradients(K.sum(y), [w])], [(w, w + 1.0)])
            value = np.full((2, 3), 0.01 * (i + 1))
            held = np.full((3, 2), seed + 1.0)
            for _ in range(3):
                out, slope = f([value])
                inner = np.tanh(value @ held * (i % 5))
                np.testing.assert_allclose(out, inner + seed % 2, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(slope, value.T @ ((1 - inner**2) * (i % 5)), rtol=1e-4, atol=1e-6)
                held = held + 1
            np.testing.assert_allclose(K.get_value(w), held)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_equal_expressions_of_many_threads_are_one_node() -> None:
    x = K.placeholder((3,))
    start = Barrier(8)

    def build(_: int) -> list:
        start.wait()
        return [K.exp(x * float(i)) + 1.0 for i in range(300)]

    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(build, range(8)))
    for tensors in zip(*built, strict=True):
        assert len({t.node for t in tensors}) == 1


def test_two_threads_that_train_leave_what_some_serial_order_leaves() -> None:
    x, v, n = K.placeholder(()), K.variable(0.0, dtype="float64"), K.variable(0.0, dtype="float64")
    f = K.function([x], [v, n], [(v, v + K.cast(x, "float64")), (n, n + 1.0)])
    read = K.function([], [v, n])
    torn = []

    def train(step: float) -> None:
        for _ in range(2000):
            f([step])

    def look(_: int) -> None:
        for _ in range(2000):
            total, count = read()
            if not count <= total <= 2 * count:  # steps of 1 and 2: both are of one moment, or this breaks
                torn.append((total, count))

    with ThreadPoolExecutor(3) as pool:
        for job in (pool.submit(train, 1.0), pool.submit(train, 2.0), pool.submit(look, 0)):
            job.result()
    assert K.get_value(v) == 6000
    assert K.get_value(n) == 4000
    assert torn == []


def test_functions_whose_variables_share_locks_wait_for_each_other_and_not_for_ever() -> None:
    made = [K.variable(0.0) for _ in range(3 * 4096)]  # kgraph.lower.variable: those 4,096 apart share a lock
    numbered = {v.node.attr("uid").number: v for v in made}
    first = min(numbered)
    a, b, c, d = [numbered[first + n] for n in (0, 1, 4096 + 1, 8192)]
    locks = [v.node.attr("uid").lock for v in (a, b, c, d)]
    assert locks[0] is locks[3]
    assert locks[1] is locks[2]
    assert locks[0] is not locks[1]
    functions = [K.function([], [], [(x, x + y + 1.0), (y, y + 1.0)]) for x, y in ((a, b), (c, d))]
    start = Barrier(2)

    def work(f: Any) -> None:
        start.wait()
        for _ in range(2000):
            f([])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, functions))
    assert K.batch_get_value([b, d]) == [2000, 2000]


def test_a_function_over_more_variables_than_python_has_frames() -> None:
    variables = [K.variable(float(i)) for i in range(20_000)]
    f = K.function([], [variables[-1]], [(v, v + 1.0) for v in variables])
    assert f([]) == [19_999]
    assert K.batch_get_value(variables) == [i + 1 for i in range(20_000)]
    K.batch_set_value([(v, 0.0) for v in variables])
    assert K.batch_get_value(variables) == [0] * 20_000

"""`fn.memory`: the peak of a call, what holds it then, and which variables hold how much."""

from __future__ import annotations

import inspect
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.config import changed
from kgraph.errors import FeedError, IndexOutOfRange
from kgraph.ir.traverse import toposort

MEGABYTE = 2**20


def line() -> int:
    """The caller's line."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def block(name: str) -> Any:
    """A placeholder of a megabyte."""
    return K.placeholder((512, 512), name=name)


ONES = np.ones((512, 512), "float32")


def trained() -> tuple[Any, list[Any]]:
    x = K.placeholder((None, 300), name="x")
    first, second = [K.variable(np.full((300, 300), 0.1), name=name) for name in ("first", "second")]
    loss = K.mean(K.square(K.tanh(K.dot(K.tanh(K.dot(x, first)), second))))
    steps = [(w, w - 0.1 * g) for w, g in zip((first, second), K.gradients(loss, [first, second]), strict=True)]
    return K.function([x], [loss], steps), [np.ones((400, 300), "float32")]


def convolved() -> tuple[Any, list[Any]]:
    with changed(image_dim_ordering="tf"):
        x = K.placeholder((None, 20, 20, 3), name="x")
        w = K.variable(np.full((3, 3, 3, 16), 0.1), name="w")
        loss = K.sum(K.pool2d(K.relu(K.conv2d(x, w)), (2, 2)))
        return K.function([x], [loss, *K.gradients(loss, [w])]), [np.ones((40, 20, 20, 3), "float32")]


def looped() -> tuple[Any, list[Any]]:
    x = K.placeholder((100, 30, 100), name="x")
    w = K.variable(np.full((100, 100), 0.01), name="w")

    def step(part: Any, states: list[Any]) -> Any:
        h = K.tanh(K.dot(states[0], w) + part)
        return h, [h]

    last, _, _ = K.rnn(step, x, [K.zeros((100, 100))])
    return K.function([x], [last, *K.gradients(K.sum(last), [w])]), [np.ones((100, 30, 100), "float32")]


def branched() -> tuple[Any, list[Any]]:
    x = block("x")
    y = K.switch(K.sum(x) > 0, lambda: K.exp(x) + K.dot(x, x), lambda: x * 2)
    return K.function([x], [y, K.transpose(y), y * 1.5]), [ONES]


@pytest.mark.parametrize("make", [trained, convolved, looped, branched])
def test_the_peak_is_what_python_is_told_of(make: Callable[[], tuple[Any, list[Any]]]) -> None:
    """What NumPy tells Python of the memory that it takes in a call, which knows nothing of nodes."""
    f, values = make()
    f(values)
    memory = f.memory(values)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        f(values)
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    own = sum(row.bytes for row in (*memory.results, *memory.work))
    assert abs(own - taken) < 2**16 < taken / 20
    given = sum(row.bytes for row in (*memory.variables, *memory.inputs, *memory.constants))
    assert memory.peak == own + given == sum(row.bytes for row in memory.holders())


def test_what_is_written_over_shared_or_needed_later() -> None:
    x = block("x")
    chain = x
    for _ in range(5):
        chain = K.exp(chain)
    memory = K.function([x], chain).memory([ONES])
    assert [(row.name, row.bytes) for row in memory.results] == [("exp", MEGABYTE)]  # each over the one before
    assert memory.peak == 2 * MEGABYTE
    x = block("another")
    with K.name_scope("kept"):
        exp, at = K.exp(x), line()
    turned = K.sum(K.reshape(K.transpose(exp), (512, 512, 1)))
    memory = K.function([x], [turned], optimize=False).memory([ONES])
    assert [row.name for row in memory.results if row.bytes == MEGABYTE] == ["exp"]  # of which the others are views
    sums = K.function([x], [K.dot(K.sin(exp), exp)]).memory([ONES])
    assert [(row.name, row.bytes) for row in sums.results] == [("exp", MEGABYTE), ("sin", MEGABYTE), ("matmul", MEGABYTE)]
    assert sums.at is not None
    assert sums.at.op is o.matmul
    assert sums.results[0].line.endswith(f"test_memory_of.py:{at}")
    assert sums.results[0].scope == "kept"
    assert str(sums).splitlines()[0].startswith(f"at most {4 * MEGABYTE:,} bytes are held, while matmul at ")


def test_what_a_loop_keeps_for_its_gradient() -> None:
    f, values = looped()
    memory = f.memory(values)
    (stack,) = [row for row in memory.results if (row.name, row.role) == ("scan", "forward")]
    assert stack.bytes == 2 * (30 * 100 * 100 * 4) + 100 * 100 * 4  # two stacks, and the last state
    forward = K.function([f.graph.inputs[0]], [f.graph.outputs[0]]).memory(values)
    assert forward.peak < memory.peak / 2  # without a gradient no step is kept


def test_work_that_an_op_gives_back() -> None:
    x, w = K.placeholder((None, 10, 40), name="x"), K.variable(np.ones((5, 40, 2)), name="w")
    memory = K.function([x], K.conv1d(x, w)).memory([np.ones((100, 10, 40))])
    (work,) = memory.work
    assert work.name == "conv"
    assert work.bytes >= 100 * 6 * 5 * 40 * 4  # its windows, laid out
    assert f"work {work.bytes:,}" in str(memory).splitlines()[0]
    assert memory.at is work.node


def test_which_variable_holds_most_memory(engine: str) -> None:
    words = K.placeholder((None,), dtype="int32", name="words")
    table, at = K.variable(np.ones((1000, 50)), name="embedding"), line()
    out = K.variable(np.ones((50, 10)), name="out")
    count = K.variable(0.0, name="count")
    f = K.function([words], [K.dot(K.gather(table, words), out)], [(count, count * 0 + 1.0)])
    memory = f.memory([[1, 2, 3]])
    assert [(row.name, row.bytes) for row in memory.variables] == [("embedding", 200_000), ("out", 2_000), ("count", 4)]
    assert memory.variables[0].line.endswith(f"test_memory_of.py:{at}")
    assert memory.holders()[0].name == "embedding"
    assert [(row.name, row.bytes) for row in memory.inputs] == [("words", 12)]
    text = str(memory).splitlines()
    assert text[2].split() == ["variable", "bytes", "share", "arrays", "line", "scope"]
    assert text[3].split()[:2] == ["embedding", "200,000"]
    assert text[3].endswith(f"test_memory_of.py:{at}")
    data = json.loads(json.dumps(memory.as_data()))
    assert data["peak"] == memory.peak
    assert [row["name"] for row in data["variables"]] == ["embedding", "out", "count"]
    assert "node" not in data["variables"][0]


def test_nothing_is_written_and_no_stream_moves(engine: str) -> None:
    w = K.variable([1.0, 2.0], name="w")
    f = K.function([], [w * K.random_uniform((2,), seed=3)], [(w, w * 2)])
    (stream,) = [node.attr("uid") for node in toposort(f.graph.roots) if node.op is o.stream]
    key = np.array(stream.key)
    f.memory([])
    np.testing.assert_array_equal(K.get_value(w), [1, 2])
    np.testing.assert_array_equal(stream.key, key)


def test_wrong_inputs_are_refused_as_by_a_call(engine: str) -> None:
    table, rows = K.variable(np.ones((4, 2)), name="table"), K.placeholder((None,), dtype="int32", name="rows")
    f = K.function([rows], [K.gather(table, rows)])
    with pytest.raises(FeedError, match="rank 2 was fed"):
        f.memory([[[1]]])
    with pytest.raises(IndexOutOfRange, match=r"test_memory_of\.py:\d+") as caught:
        f.memory([[1, 4]])
    assert "variable 'table'" in str(caught.value)


def test_the_phase_is_that_of_a_call() -> None:
    x = block("x")
    f = K.function([x], K.in_train_phase(K.dot(K.exp(x), x), x + 1.0))
    assert [row.name for row in f.memory([ONES]).results] == ["add"]
    for memory in (f.memory([ONES], training=True), f.memory(x=ONES, training=1)):
        assert [row.name for row in memory.results] == ["exp", "matmul"]
        assert memory.peak == 3 * MEGABYTE
    assert K.function([], []).memory([]).peak == 0
    assert K.function([x], [x]).memory([ONES]).peak == 2 * MEGABYTE  # a call gives a copy

"""`kgraph.compare`: engines against NumPy, the node at which they part, and the smallest program that shows it."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import EngineError, GraphError
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.pattern import p, var
from kgraph.ir.rewrite import Rules
from kgraph.ir.traverse import substitute, toposort
from kgraph.lower.engine import Engine, get_engine, register, unregister
from kgraph.lower.numpy import RULES
from tests.engines import engines_installed

Planted = Callable[..., str]


def line() -> int:
    """The caller's line."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


@pytest.fixture
def planted() -> Iterator[Planted]:
    """Makes the engine "faulty": NumPy's table with another rule for one op."""

    def plant(op: Op, rule: Callable[..., Any], kind: type[Engine] = Engine) -> str:
        return register(kind("faulty", {**RULES, op: rule})).name

    yield plant
    unregister("faulty")


def off_below_zero(op: Op) -> Callable[..., Any]:
    """The rule of an op of one operand, wrong by a thousandth for negative numbers alone."""
    right: Any = RULES[op]

    def rule(x: Any) -> Any:
        return np.where(x < 0, right(x) * np.asarray(1.001, x.dtype), right(x))

    return rule


class Shown:
    """What the printed program does."""

    def __init__(self, program: str | None):
        assert program is not None
        out, self.space = io.StringIO(), {"__name__": "shown"}
        with contextlib.redirect_stdout(out):
            exec(compile(program, "program.py", "exec"), self.space)
        self.printed = out.getvalue()
        reference, found = self.printed.split("faulty")
        self.reference, self.found = reference.replace("reference", "").strip(), found.strip()

    @property
    def nodes(self) -> list[str]:
        """The ops of the program that compute something, in loops too."""
        made = [value.node for value in self.space.values() if hasattr(value, "node")]
        return sorted(node.op.name for node in set(made) if not node.op.source and node.op is not o.item)


# ---------------------------------------------------------------------------------------------------- engines that agree


class Model:
    """A training step of a network with a convolution, dropout, pooling and a loop that draws."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.x, self.t = K.placeholder((None, 4, 4, 1), name="x"), K.placeholder((None, 2), name="t")
        shapes = {"kernel": (2, 2, 1, 2), "w": (2, 3), "u": (3, 3), "v": (3, 2)}
        self.weights = [K.variable(draw.normal(size=shape) * 1.5, name=name) for name, shape in shapes.items()]
        kernel, w, u, v = self.weights
        h = K.relu(K.conv2d(self.x, kernel, border_mode="same", dim_ordering="tf"))
        h = K.dropout(K.reshape(K.pool2d(h, (2, 2), (2, 2), dim_ordering="tf"), (-1, 4, 2)), 0.3)

        def step(row: Any, states: Any) -> Any:
            new = K.tanh(K.dot(row, w) + K.dot(states[0], u) * K.random_uniform((3,)))
            return new, [new]

        last, _, _ = K.rnn(step, h, [K.dot(h[:, 0], w)])
        scores = K.softmax(K.dot(last, v))
        loss = K.mean(K.categorical_crossentropy(scores, self.t))
        updates = [(a, a - 0.1 * g) for a, g in zip(self.weights, K.gradients(loss, self.weights), strict=True)]
        self.step = K.function([self.x, self.t], [loss, K.argmax(scores)], updates)
        self.values = [draw.normal(size=(3, 4, 4, 1)), np.eye(2)[[0, 1, 1]]]


@pytest.mark.usefixtures("uncompiled")
def test_all_engines_agree_on_a_training_step_and_nothing_is_written() -> None:
    model = Model()
    streams = [n.attr("uid") for n in toposort(model.step.graph.roots) if n.op is o.stream]
    before = [s.count for s in streams], K.batch_get_value(model.weights)
    found = kgraph.compare(model.step, model.values, training=True)
    assert found.agree, str(found)
    assert (found.first, found.program, found.errors) == (None, None, {})
    assert list(found.times) == engines_installed()
    names = ["output 0", "output 1", *[f"new value of {v.name!r}" for v in model.weights]]
    assert [(row.engine, row.output) for row in found.rows] == [(e, name) for e in engines_installed() for name in names]
    assert all(row.units == 0 for row in found.rows if row.output == "output 1")  # classes, which are integers
    assert all(t.compile is not None and t.call is not None and t.call > 0 for t in found.times.values())
    assert [s.count for s in streams] == before[0]
    for now, was in zip(K.batch_get_value(model.weights), before[1], strict=True):
        np.testing.assert_array_equal(now, was)
    assert str(found).endswith("The engines agree.")


def test_the_phase_is_that_of_the_call(planted: Planted) -> None:
    x = K.placeholder((3,), name="x")
    wrong = planted(o.exp, off_below_zero(o.exp))
    f = K.function([x, K.learning_phase()], K.in_train_phase(K.exp(x), K.sin(x)))
    values = [-1.0, 0.0, 1.0]
    assert [kgraph.compare(f, [values, now], [wrong], shrink=False).agree for now in (0, 1)] == [True, False]
    assert not kgraph.compare(f, {"x": values}, [wrong], training=True, shrink=False).agree


@pytest.mark.parametrize("start", [0.3, 0.61])
def test_a_chaotic_graph_blames_nobody_but_the_one_to_blame(planted: Planted, start: float) -> None:
    y = K.placeholder((2,), name="x")
    for _ in range(50):
        y = 3.99 * y * (1.0 - y)
    tail, at = K.sin(y), line()

    def last_place(x: Any, y: Any) -> Any:  # right to half a unit more than NumPy's
        return np.nextafter(np.multiply(x, y), np.float32(0))

    name = planted(o.multiply, last_place)
    found = kgraph.compare(tail, [[start, 0.4]], [name])
    assert found.rows[0].units > 1000
    assert found.agree and found.first is None
    assert "no node is off by itself" in str(found)
    unregister(name)
    planted(o.sin, lambda x: np.sin(x) * np.float32(1.001))
    found = kgraph.compare(tail, [[start, 0.4]], [name], shrink=False)
    assert found.first is not None
    assert (found.first.node.op, found.first.node.origin.line) == (o.sin, at)


# ---------------------------------------------------------------------------------------------------- planted faults


def test_the_printed_text_says_which_engine_is_off_and_where(planted: Planted) -> None:
    x = K.placeholder((None, 3), name="x")
    w = K.variable(np.ones((3, 2)), name="w")
    h, at = K.tanh(x), line()
    name = planted(o.tanh, off_below_zero(o.tanh))
    found = kgraph.compare(K.dot(h, w), [[[0.5, -2.0, 1.0]]], ["numpy", name])
    text, right = str(found), np.tanh(np.float32([-2]))
    wrong = right * np.float32(1.001)
    assert (
        f"faulty parts first at tanh, at tests/test_compare.py:{at}\n"
        f"  it gives {wrong[0]!s} at [0, 1], numpy {right[0]!s}\n"
        f"  x: float32[?, 3], -2.0 there\n"
    ) in text
    off = [row for row in text.splitlines() if row.endswith("off")]
    assert [row.split()[:3] for row in off] == [["faulty", "output", "0"]]
    assert text.endswith(
        "The smallest program that shows it:\n\n"
        "import numpy as np\n"
        "from kgraph import backend as K\n\n"
        "x = K.placeholder((1, 1), dtype='float32', name='x')\n"
        "y = K.tanh(x)\n"
        "values = [np.array([[-1.0]], 'float32')]\n"
        "print('reference', *K.function([x], [y], engine='numpy', optimize=False)(values))\n"
        "print('faulty', *K.function([x], [y], engine='faulty', optimize=False)(values))"
    )
    shown = Shown(found.program)
    np.testing.assert_allclose(float(shown.reference.strip("[]")), np.tanh(-1), rtol=1e-5)
    np.testing.assert_allclose(float(shown.found.strip("[]")), np.tanh(-1) * 1.001, rtol=1e-5)
    data = json.loads(json.dumps(found.as_data(), allow_nan=False))
    assert data["agree"] is False
    assert data["first"]["line"] == f"tests/test_compare.py:{at}"
    assert [out["allowed"] for out in data["outputs"]] == [True, False]


def test_a_fault_amid_sixty_nodes(planted: Planted) -> None:
    y = K.placeholder((None, 4), name="x")
    at = 0
    for number in range(20):
        if number == 11:
            y, at = K.tanh(y) * 1.1, line()
        else:
            y = K.sigmoid(y * 1.5) * 2.0 - 1.0
    assert len(toposort([y.node])) > 60
    found = kgraph.compare(y, [np.random.default_rng(1).normal(size=(5, 4))], [planted(o.tanh, off_below_zero(o.tanh))])
    assert found.first is not None
    assert found.first.node.op is o.tanh
    assert found.first.line.endswith(f":{at}")
    shown = Shown(found.program)
    assert shown.nodes == ["tanh"]
    assert shown.reference != shown.found


def test_a_fault_in_the_body_of_a_loop_and_its_step(planted: Planted) -> None:
    rows = K.placeholder((4, 3), name="rows")
    total = K.foldl(lambda total, row: K.exp(K.sin(total) - row), rows)
    at = line() - 1
    values = np.zeros((4, 3), "float32")
    values[2, 1] = 5.0  # the exponent is negative from the second step on, for this one
    found = kgraph.compare(total, [values], [planted(o.exp, off_below_zero(o.exp))])
    assert found.first is not None
    assert found.first.node.op is o.exp
    assert found.first.line.endswith(f":{at}")
    assert [(p.owner.op, p.step) for p in found.first.places] == [(o.scan, 1)]
    assert f"in step 1 of foldl at tests/test_compare.py:{at}" in str(found)
    shown = Shown(found.program)
    assert shown.nodes == ["exp"]
    assert shown.reference != shown.found


def test_a_fault_of_the_loop_itself_is_shrunk_to_a_loop(planted: Planted) -> None:
    rows = K.placeholder((6, 3), name="rows")
    total = K.foldl(lambda total, row: K.tanh(total * 2.0 + row) - 0.1, rows)

    def rule(*operands: Any, **attrs: Any) -> Any:
        return tuple(np.asarray(y * np.float32(1.5)) for y in RULES[o.scan](*operands, **attrs))

    found = kgraph.compare(total, [np.full((6, 3), 0.2)], [planted(o.scan, rule)])
    assert found.first is not None
    assert (found.first.node.op, found.first.places) == (o.scan, ())
    shown = Shown(found.program)
    assert "scan" in shown.nodes and len(shown.nodes) <= 5
    assert shown.reference != shown.found


@pytest.mark.parametrize("side", [0.0, 1.0])
def test_a_fault_in_a_side_that_is_taken(planted: Planted, side: float) -> None:
    c, x = K.placeholder((), name="c"), K.placeholder((3,), name="x")
    y = K.switch(c, lambda: K.exp(x) * 2.0, lambda: K.square(x))
    found = kgraph.compare(y, {"c": side, "x": [-1.0, 1.0, 2.0]}, [planted(o.exp, off_below_zero(o.exp))])
    assert found.agree == (side == 0)
    if side:
        assert found.first is not None
        assert (found.first.node.op, found.first.places[0].body) == (o.exp, "then")


def test_a_fault_of_an_op_that_gradients_alone_make(planted: Planted) -> None:
    image = K.placeholder((None, 4, 4, 2), name="image")
    (slope,) = K.gradients(K.sum(K.square(K.pool2d(image, (2, 2), dim_ordering="tf"))), [image])

    def rule(*operands: Any, **attrs: Any) -> Any:
        return RULES[o.max_pool_grad](*operands, **attrs) * np.float32(2)

    values = np.random.default_rng(0).normal(size=(3, 4, 4, 2))
    found = kgraph.compare(slope, [values], [planted(o.max_pool_grad, rule)])
    assert "faulty parts first at max_pool_grad (of pool2d) in a gradient, at tests/test_compare.py:" in str(found)
    shown = Shown(found.program)
    assert shown.nodes == ["max_pool_grad"]
    assert shown.reference != shown.found


def test_a_fault_in_a_loop_that_draws(planted: Planted) -> None:
    rows = K.placeholder((4, 3), name="rows")
    total = K.foldl(lambda total, row: total + K.tanh(row - K.random_uniform((3,))), rows)
    assert kgraph.compare(total, [np.zeros((4, 3))], ["numpy"]).agree
    found = kgraph.compare(total, [np.zeros((4, 3))], [planted(o.tanh, off_below_zero(o.tanh))])
    assert found.first is not None
    assert (found.first.node.op, found.first.places[0].step) == (o.tanh, 0)


def test_engines_are_shown_in_order_and_each_has_its_parting(planted: Planted) -> None:
    x = K.placeholder((2,), name="x")
    found = kgraph.compare([x + 1.0, K.exp(x)], [[-1.0, 2.0]], [planted(o.exp, off_below_zero(o.exp)), "numpy"])
    assert [(row.engine, row.allowed) for row in found.rows] == [
        ("faulty", True), ("faulty", False), ("numpy", True), ("numpy", True),
    ]  # fmt: skip
    assert list(found.partings) == ["faulty"]


# ---------------------------------------------------------------------------------------------------- what differs


def test_an_engine_that_raises(planted: Planted) -> None:
    def rule(x: Any) -> Any:
        raise OSError("the device is on fire")

    x = K.placeholder((3,), name="x")
    y = K.cos(K.sin(x) * 2.0)
    found = kgraph.compare(y, [[1.0, 2.0, 3.0]], ["numpy", planted(o.sin, rule)])
    assert not found.agree
    assert found.errors == {"faulty": "OSError: the device is on fire"}
    assert [row.engine for row in found.rows] == ["numpy"]
    assert found.times["faulty"].call is None
    assert found.first is not None
    assert (found.first.node.op, found.first.error) == (o.sin, "OSError: the device is on fire")
    with pytest.raises(OSError, match="on fire"):
        Shown(found.program)


def test_nan_is_equal_to_nan_and_infinitely_far_from_a_number(planted: Planted) -> None:
    x = K.placeholder((3,), name="x")
    assert kgraph.compare(K.log(x), [[-1.0, 0.0, np.inf]], ["numpy"]).rows[0].units == 0
    found = kgraph.compare(K.log(x), [[-1.0, 0.0, 3.0]], [planted(o.log, lambda x: x * np.float32(np.nan))])
    (row,) = found.rows
    assert (row.units, row.absolute, row.unequal, row.index) == (math.inf, math.inf, 2, (1,))
    assert json.loads(json.dumps(found.as_data(), allow_nan=False))["outputs"][0]["units"] == "inf"


def test_integers_are_counted(planted: Planted) -> None:
    x = K.placeholder((2, 3), dtype="int32", name="x")
    name = planted(o.multiply, lambda x, y: np.where(x == 3, 0, x * y).astype(x.dtype))
    (row,) = kgraph.compare(x * 2, [[[1, 2, 3], [3, 4, 5]]], [name], shrink=False).rows
    assert (row.units, row.unequal, row.index, row.allowed, row.dtype) == (1, 2, (0, 2), False, "int32")


def test_the_optimiser_is_named_if_it_is_to_blame() -> None:
    x = K.placeholder((3,), name="x")
    y, at = K.log(K.sin(x) + 4.0) * 3.0, line()
    wrong = Rules("wrong")

    @wrong.rule(p.sin(var("x")))
    def forgets_the_sign(x: Node) -> Node:
        """sin(x) -> abs(x), which is wrong"""
        return o.absolute(x)

    kgraph.add_pass("wrong", wrong)
    try:
        found = kgraph.compare(y, [[1.0, 2.0, 3.0]], ["numpy"])
        assert not found.agree and found.first is None
        assert found.rewrites["numpy"].rule.endswith("forgets_the_sign")
        assert "numpy is right without the optimiser; it goes wrong by wrong: " in str(found)
        assert f"tests/test_compare.py:{at}" in str(found)
        assert found.program is not None
        assert "engine='numpy')" in found.program
        space: dict[str, Any] = {}
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(found.program, space)
        first, second = out.getvalue().split("numpy")
        assert first.replace("reference", "").strip() != second.strip()
        assert found.program.count("K.sin") == 1 and "K.log" not in found.program
    finally:
        kgraph.remove_pass("wrong")


class Fusing(Engine):
    """Fuses sin of tanh into what it is not; each of the two alone is right."""

    def lower(self, graph: Graph, options: Mapping[str, Any]) -> Any:
        changed = {n: o.cos(n.inputs[0]) for n in toposort(graph.roots) if n.op is o.sin and n.inputs[0].op is o.tanh}
        return super().lower(graph.with_roots(substitute(graph.roots, changed)), options)


def test_two_nodes_that_are_wrong_together(planted: Planted) -> None:
    x = K.placeholder((4,), name="x")
    y = K.exp(K.sin(K.tanh(K.square(x) + 1.0)) * 3.0) - x
    found = kgraph.compare(y, [[1.0, 2.0, 3.0, 4.0]], [planted(o.tanh, np.tanh, Fusing)])
    assert not found.agree and found.first is None
    assert "faulty: each node is right alone, but not all of them together" in str(found)
    shown = Shown(found.program)
    assert shown.nodes == ["sin", "tanh"]
    assert shown.reference != shown.found


def test_another_dtype_is_a_difference() -> None:
    register(Engine("faulty", {**RULES, o.sin: lambda x: np.sin(x.astype("float64"))}, compile=lambda program: program))
    try:
        x = K.placeholder((2,), name="x")
        found = kgraph.compare(K.sin(x), [[1.0, 2.0]], ["faulty"])
        assert [(row.dtype, row.allowed) for row in found.rows] == [("float64", False)]
        assert "it gives float64[2], numpy float32[2]" in str(found)
    finally:
        unregister("faulty")


def test_tries_are_counted_on_a_terminal(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    x, screen = K.placeholder((2,), name="x"), Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    assert not kgraph.compare(K.exp(x), [[-1.0, 2.0]], [planted(o.exp, off_below_zero(o.exp))]).agree
    assert "shrinking: 2 tries, 1 nodes" in screen.getvalue()


# ---------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("values", [[], [1, 2, 3], [[1, 2, 3], [[1]]], {"x": [1, 2, 3]}, {"z": 1}, [[1, 2, 3], "a"], [[1, 2], [1, 2]]])
def test_values_that_a_call_refuses_are_refused_alike(values: Any) -> None:
    x, y = K.placeholder((3,), name="x"), K.placeholder((None,), name="y")
    f = K.function([x, y], x + y)
    with pytest.raises(Exception) as called:
        f(**values) if isinstance(values, dict) else f(values)
    with pytest.raises(type(called.value)) as compared:
        kgraph.compare(f, values, ["numpy"])
    assert str(compared.value) == str(called.value)


def test_an_index_that_is_out_of_range_is_an_error_of_the_call() -> None:
    x, i = K.placeholder((3,), name="x"), K.placeholder((2,), dtype="int32", name="i")
    y, at = K.gather(x, i), line()
    f = K.function([x, i], y, engine="numpy")
    values = [[1, 2, 3], [0, 7]]
    with pytest.raises(IndexError, match=f"test_compare.py:{at}") as called:
        f(values)
    with pytest.raises(type(called.value)) as compared:
        kgraph.compare(f, values, ["numpy"])
    assert str(compared.value) == str(called.value)


def test_what_may_be_compared_and_how_it_is_fed(planted: Planted) -> None:
    x, y = K.placeholder((2,), name="x"), K.placeholder((2,), name="y")
    name = planted(o.exp, off_below_zero(o.exp))
    z = K.exp(x) + y
    low, high = [-1.0, 1.0], [1.0, 1.0]
    for fed, agree in (({x: low, y: high}, False), ({y: low, x: high}, True), ({x: low, "y": high}, False), ([high, low], True)):
        for given_ in (z, [z], K.function([x, y], [z]), Graph([x.node, y.node], [z.node])):
            assert kgraph.compare(given_, fed, [name], shrink=False).agree is agree
    for wrong in ({x: low}, {x: low, K.placeholder((2,)): high}, {x: low, "x": high}, {3: low, y: high}):
        with pytest.raises(kgraph.errors.FeedError):
            kgraph.compare(z, wrong, [name])
    with pytest.raises(EngineError, match="there is no engine 'nobody'"):
        kgraph.compare(z, [low, high], ["nobody"])
    with pytest.raises(GraphError):
        kgraph.compare(3, [low, high])


def test_prints_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    rows = K.placeholder((2, 3), name="rows")
    total = K.foldl(lambda total, row: K.print_tensor(total + row), K.print_tensor(rows, "rows"))
    assert kgraph.compare(total, [np.ones((2, 3))], ["numpy"]).agree
    assert capsys.readouterr().out == ""


def test_an_engine_that_cannot_run_is_left_out_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(name: str) -> Engine:
        if name == "theano":
            raise ImportError("no such symbol")
        if name == "tensorflow":
            raise EngineError("the engine tensorflow is not installed")
        return get_engine(name)

    monkeypatch.setattr(sys.modules["kgraph.compare"], "get_engine", get)  # the function has the name of its module
    x = K.placeholder((2,))
    found = kgraph.compare(K.exp(x), [[1.0, 2.0]])
    assert found.agree
    assert list(found.times) == ["numpy"]
    assert found.notes == ["theano is left out, it cannot run here: ImportError: no such symbol"]
    assert str(found).endswith("cannot run here: ImportError: no such symbol\nThe engines agree.")

"""`K.switch` and `K.in_train_phase` in functions: what only one side needs runs only when that side is taken."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgraph import backend as K
from kgraph.errors import DTypeError, IndexOutOfRange, ShapeError
from kgraph.ir.guards import DEEPEST
from kgraph.ir.node import Graph
from kgraph.ir.traverse import toposort
from tests.engines import engines_tested


class Printed:
    """The messages of print_tensor, as they come: an engine may print in C, on either stream."""

    def __init__(self, capfd: pytest.CaptureFixture[str]):
        self.capfd = capfd

    def __call__(self) -> list[str]:
        out = self.capfd.readouterr()
        return [line[: line.index(">") + 1] for line in (out.out + out.err).splitlines() if line.startswith("<")]


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Printed:
    return Printed(capfd)


def seen(x: Any, name: str) -> Any:
    """x, and the name among those printed when it is computed."""
    return K.print_tensor(x, f"<{name}>")


def ops_of(graph: Graph) -> list[str]:
    """The names of the ops of a graph, those in its bodies included."""
    nodes = toposort(graph.roots)
    inner = [op for node in nodes for _, value in node.attrs if isinstance(value, Graph) for op in ops_of(value)]
    return [node.op.name for node in nodes] + inner


# ---------------------------------------------------------------------------------------------------- only the side taken


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("before", [True, False], ids=["tensors built before", "callables"])
def test_only_the_side_that_is_taken_runs(before: bool, optimize: bool, engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder((3,))
    yes, no = (lambda: seen(x * 2, "yes")), (lambda: seen(x * 3, "no"))
    f = K.function([c, x], [K.switch(c, yes(), no()) if before else K.switch(c, yes, no)], optimize=optimize)
    np.testing.assert_array_equal(f([1, [1, 2, 3]])[0], [2, 4, 6])
    assert printed() == ["<yes>"]
    np.testing.assert_array_equal(f([0, [1, 2, 3]])[0], [3, 6, 9])
    assert printed() == ["<no>"]


@pytest.mark.parametrize("optimize", [True, False])
def test_what_would_fail_on_the_other_side_does_not_run(optimize: bool, engine: str) -> None:
    c, x, i = K.placeholder((), dtype="bool"), K.placeholder((3,)), K.placeholder((), dtype="int32")
    v = K.variable([0.0, 0.0, 0.0])
    y = K.switch(c, lambda: K.gather(x, i) * x, lambda: x)
    f = K.function([c, x, i], [y, *K.gradients(K.sum(y), [x])], [(v, y)], optimize=optimize)
    value, gradient = f([False, [1, 2, 3], 99])
    np.testing.assert_array_equal(value, [1, 2, 3])
    np.testing.assert_array_equal(gradient, [1, 1, 1])
    with pytest.raises(IndexOutOfRange):
        f([True, [1, 2, 3], 99])
    np.testing.assert_array_equal(K.get_value(v), [1, 2, 3])
    value, gradient = f([True, [1, 2, 3], 1])  # x_1 x: the gradient of the sum is x_1 each, and the sum at 1
    np.testing.assert_array_equal(value, [2, 4, 6])
    np.testing.assert_array_equal(gradient, [2, 2 + 6, 2])


def test_a_gradient_runs_only_what_the_side_that_is_taken_needs(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    y = K.switch(c, lambda: K.square(seen(K.sin(x), "yes")), lambda: K.square(seen(K.cos(x), "no")))
    (first,) = K.gradients(y, [x])
    (second,) = K.gradients(first, [x])
    f = K.function([c, x], [first, second])
    for taken, sign in ((1, 1), (0, -1)):  # d sin^2 = sin 2x, d cos^2 = - sin 2x
        np.testing.assert_allclose(f([taken, 0.7]), [sign * np.sin(1.4), sign * 2 * np.cos(1.4)], rtol=1e-6)
        assert printed() == ["<yes>" if taken else "<no>"]


def test_infinity_and_nan_of_the_other_side_stay_there(engine: str) -> None:
    x = K.placeholder((), dtype="float64")
    y = K.switch(x > 0, lambda: K.log(x) + K.pow(x, 0.5), lambda: x * 0)
    f = K.function([x], [y, *K.gradients(y, [x])])
    assert f([-1.0]) == [0, 0]
    assert f([0.0]) == [0, 0]
    np.testing.assert_allclose(f([4.0]), [np.log(4) + 2, 1 / 4 + 1 / 4])


def test_what_both_sides_need_runs_once_whichever_is_taken(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    shared = seen(x * x, "shared")
    f = K.function([c, x], [K.switch(c, lambda: shared + 1, lambda: shared - 1)])
    assert f([1, 3]) == [10]
    assert printed() == ["<shared>"]
    assert f([0, 3]) == [8]
    assert printed() == ["<shared>"]


def test_what_is_needed_outside_too_runs_always_and_once(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    shared = seen(x * x, "shared")
    f = K.function([c, x], [K.switch(c, lambda: shared + 1, lambda: x), shared])
    for taken in (1, 0):
        assert f([taken, 3]) == [10 if taken else 3, 9]
        assert printed() == ["<shared>"]


def test_switches_of_one_condition_run_one_side_of_each(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    common = seen(K.exp(x), "common")
    first = K.switch(c, lambda: common + seen(x, "a"), lambda: seen(-x, "b"))
    second = K.switch(c, lambda: common * 2, lambda: seen(x * 5, "c"))
    third = K.switch(c, lambda: first + seen(x, "d"), lambda: first - 1)  # waits for the first
    f = K.function([c, x], [first, second, third])
    e = np.exp(np.float32(2))
    np.testing.assert_allclose(f([1, 2]), [e + 2, 2 * e, e + 4], rtol=1e-6)
    assert sorted(printed()) == ["<a>", "<common>", "<d>"]
    np.testing.assert_allclose(f([0, 2]), [-2, 10, -3], rtol=1e-6)
    assert sorted(printed()) == ["<b>", "<c>"]


def test_the_other_way_round_is_another_condition(engine: str, printed: Printed) -> None:
    c, x = K.placeholder((), dtype="bool"), K.placeholder(())
    y = K.switch(c, lambda: seen(x + 1, "yes"), x) + K.switch(K.equal(c, False), lambda: seen(x + 10, "no"), x)
    f = K.function([c, x], [y])
    assert f([True, 1]) == [3]
    assert printed() == ["<yes>"]
    assert f([False, 1]) == [12]
    assert printed() == ["<no>"]


def test_a_branch_in_the_condition_of_a_branch(engine: str, printed: Printed) -> None:
    a, b, x = K.placeholder(()), K.placeholder(()), K.placeholder(())
    condition = K.switch(a, lambda: seen(K.greater(x, 0), "if a"), lambda: seen(K.greater(b, 0), "if not a"))
    f = K.function([a, b, x], [K.switch(condition, lambda: seen(x * 10, "then"), lambda: seen(x * 100, "else"))])
    for values, result, names in (
        ([1, 0, 1], 10, ["<if a>", "<then>"]),
        ([1, 9, -1], -100, ["<if a>", "<else>"]),
        ([0, 1, -1], -10, ["<if not a>", "<then>"]),
        ([0, 0, 1], 100, ["<if not a>", "<else>"]),
    ):
        assert f(values) == [result]
        assert printed() == names


def test_a_condition_within_a_side_runs_only_there(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    inner = lambda: K.switch(seen(K.greater(x, 5), "asked"), lambda: seen(x, "big"), lambda: seen(-x, "small"))  # noqa: E731
    f = K.function([c, x], [K.switch(c, inner, x * 0)])
    assert f([0, 7]) == [0]
    assert printed() == []
    assert f([1, 7]) == [7]
    assert printed() == ["<asked>", "<big>"]
    assert f([1, 3]) == [-3]
    assert printed() == ["<asked>", "<small>"]


def test_one_condition_asked_again_within_its_own_side(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    again = lambda: K.switch(c, lambda: seen(x + 1, "yes"), lambda: seen(x + 2, "never"))  # noqa: E731
    f = K.function([c, x], [K.switch(c, again, x)])
    assert f([1, 1]) == [2]
    assert printed() == ["<yes>"]
    assert f([0, 1]) == [1]
    assert printed() == []


def test_a_tensor_condition_chooses_element_by_element_and_computes_both(engine: str, printed: Printed) -> None:
    c, x = K.placeholder((3,)), K.placeholder((2, 1))
    f = K.function([c, x], [K.switch(c, lambda: seen(x, "yes"), lambda: seen(-x, "no"))])
    np.testing.assert_array_equal(f([[1, 0, 2], [[5], [6]]])[0], [[5, -5, 5], [6, -6, 6]])
    assert sorted(printed()) == ["<no>", "<yes>"]


@pytest.mark.parametrize("condition", [True, False, 1, 0, 0.0, np.bool_(True), np.float32(0), np.array(3)], ids=repr)
def test_of_a_number_only_the_side_that_it_picks_is_built(condition: Any) -> None:
    def never() -> Any:
        raise AssertionError

    sides = (lambda: K.variable(1.0), never) if condition else (never, lambda: K.variable(1.0))
    assert K.eval(K.switch(condition, *sides)) == 1


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
def test_a_condition_of_any_dtype_is_whether_it_is_not_zero(dtype: str, engine: str) -> None:
    c = K.placeholder((), dtype=dtype)
    f = K.function([c], [K.switch(c, 1.0, 2.0)])
    assert f([0]) == [2]
    assert f([1]) == [1]
    if dtype.startswith("float"):
        assert f([0.25]) == [1]
        assert f([-0.0]) == [2]
        assert f([np.nan]) == [1]


def test_both_sides_are_taken_to_one_dtype_and_shape(engine: str) -> None:
    c, x, n = K.placeholder(()), K.placeholder((None, 3)), K.placeholder((), dtype="int32")
    y = K.switch(c, x, n)
    assert (y.dtype, y.shape) == ("float32", (None, 3))
    z = K.switch(c, lambda: K.variable([[1.0], [2.0]]), lambda: [10, 20, 30])
    assert (z.dtype, z.shape) == ("float32", (2, 3))
    f = K.function([c, x, n], [y, z])
    for taken in (1, 0):
        a, b = f([taken, np.ones((4, 3)), 7])
        np.testing.assert_array_equal(a, np.full((4, 3), 1 if taken else 7))
        np.testing.assert_array_equal(b, [[1, 1, 1], [2, 2, 2]] if taken else [[10, 20, 30]] * 2)


def test_sides_that_do_not_go_together_are_refused() -> None:
    c = K.placeholder(())
    with pytest.raises(
        ShapeError, match=r"^switch: sizes differ on axis -1: 2 != 3\n  then_expression: .*\n  else_expression: "
    ):
        K.switch(c, K.zeros((2,)), K.zeros((3,)))
    with pytest.raises(DTypeError):
        K.switch(c, K.zeros((2,)), "no tensor")


def test_a_branch_in_an_update(engine: str, printed: Printed) -> None:
    v, c = K.variable([1.0, 2.0]), K.placeholder(())
    f = K.function([c], [], [(v, K.switch(c, lambda: seen(v * 2, "doubled"), v))])
    f([0])
    np.testing.assert_array_equal(K.get_value(v), [1, 2])
    assert printed() == []
    f([1])
    np.testing.assert_array_equal(K.get_value(v), [2, 4])
    assert printed() == ["<doubled>"]


def test_a_draw_in_a_branch_has_one_value_forward_and_backward(engine: str) -> None:
    c, x = K.placeholder(()), K.placeholder((20,))
    y = K.switch(c, lambda: x * K.random_normal((20,)), lambda: x * K.random_uniform((20,)))
    f = K.function([c, x], [y, *K.gradients(K.sum(y), [x])])
    last = None
    for taken in (1, 0, 1, 0):
        value, gradient = f([taken, np.full(20, 2)])
        np.testing.assert_array_equal(value, 2 * gradient)
        assert last is None or not np.any(value == last)
        last = value


# ---------------------------------------------------------------------------------------------------- phases


@pytest.mark.parametrize("before", [True, False], ids=["tensors built before", "callables"])
def test_only_the_side_of_the_phase_runs(before: bool, engine: str, printed: Printed) -> None:
    x = K.placeholder(())
    train, test = (lambda: seen(K.sin(x), "train")), (lambda: seen(K.cos(x), "test"))
    y = K.in_train_phase(train(), test()) if before else K.in_train_phase(train, test)
    z = K.in_test_phase(train, test)
    assert y._uses_learning_phase is z._uses_learning_phase is True
    f, g = K.function([x], [y, *K.gradients(K.square(y), [x])]), K.function([x], [z])
    for training in (False, True):
        s, c = np.sin(0.5), np.cos(0.5)
        np.testing.assert_allclose(
            f([0.5], training=training), [s if training else c, 2 * s * c * (1 if training else -1)], rtol=1e-6
        )
        assert printed() == ["<train>" if training else "<test>"]
        np.testing.assert_allclose(g([0.5], training=training), [c if training else s], rtol=1e-6)
        assert printed() == ["<test>" if training else "<train>"]


@pytest.mark.parametrize("optimize", [True, ["fold"]])
def test_the_program_of_a_phase_holds_nothing_of_the_other(optimize: Any) -> None:
    x = K.placeholder((None, 4))
    w = K.variable(np.ones((4, 4)))
    y = K.in_train_phase(lambda: K.dropout(K.dot(x, w), 0.5), lambda: K.tanh(K.dot(x, w)))
    f = K.function([x], [y, *K.gradients(K.sum(y), [w])], optimize=optimize)
    test, train = ops_of(f.optimized(training=False)), ops_of(f.optimized(training=True))
    assert not {"learning_phase", "switch", "cond"} & {*test, *train}
    assert "random_uniform" not in test and "tanh" in test
    assert "random_uniform" in train and "tanh" not in train


def test_phases_and_conditions_nest(engine: str, printed: Printed) -> None:
    c, x = K.placeholder(()), K.placeholder(())
    y = K.switch(
        c,
        lambda: K.in_train_phase(lambda: seen(x, "train"), lambda: seen(-x, "test")),
        lambda: K.in_test_phase(lambda: seen(2 * x, "other test"), lambda: K.switch(x > 0, lambda: seen(x, "deep"), x)),
    )
    f = K.function([c, x], [y])
    for taken, training, result, names in (
        (1, True, 3, ["<train>"]), (1, False, -3, ["<test>"]), (0, False, 6, ["<other test>"]), (0, True, 3, ["<deep>"]),
    ):  # fmt: skip
        assert f([taken, 3], training=training) == [result]
        assert printed() == names


# ---------------------------------------------------------------------------------------------------- depth


@pytest.mark.parametrize("depth", [1, DEEPEST - 1, DEEPEST, DEEPEST + 1, DEEPEST + 10])
def test_branches_nest_to_any_depth(depth: int, engine: str) -> None:
    c, x = K.placeholder((depth,)), K.placeholder((), dtype="float64")

    def level(n: int) -> Any:
        return x * x if n == depth else K.switch(c[n], lambda: level(n + 1) * 1.5, lambda: K.sin(x) * n)

    y = level(0)
    f = K.function([c, x], [y, *K.gradients(y, [x])])
    for stop in {0, 1, depth // 2, depth - 1, depth}:
        flags = np.arange(depth) != stop
        scale = 1.5**stop
        expected = [scale * np.sin(0.3) * stop, scale * np.cos(0.3) * stop] if stop < depth else [scale * 0.09, scale * 0.6]
        np.testing.assert_allclose(f([flags, 0.3]), expected, rtol=1e-12)


def test_a_long_row_of_branches(engine: str) -> None:
    c, x = K.placeholder((200,)), K.placeholder((), dtype="float64")
    y = x
    for n in range(200):
        y = K.switch(c[n], lambda y=y: K.sin(y), lambda y=y: y * 1.01)
    f = K.function([c, x], [y, *K.gradients(y, [x])])
    flags = np.arange(200) % 3 == 0
    value, slope = 0.3, 1.0
    for flag in flags:
        value, slope = (np.sin(value), slope * np.cos(value)) if flag else (value * 1.01, slope * 1.01)
    np.testing.assert_allclose(f([flags, 0.3]), [value, slope], rtol=1e-11)


# ---------------------------------------------------------------------------------------------------- random programs
#
# A program is a list of instructions over a pool of values, which begins with the inputs; an instruction appends one value.
# It is carried out twice: with K, and by the oracle below, on dual numbers of NumPy and on demand. Probes show what ran: each
# adds a row of zeros, gathered by an index of its own, and an index out of range raises if and only if it is looked up.

INDEX = st.integers(0, 11)
CONDITION = st.one_of(
    st.tuples(st.just("flag"), st.integers(0, 3)),
    st.tuples(st.just("above"), INDEX),
    st.tuples(st.just("either"), st.integers(0, 3), INDEX, INDEX),
)
PLAIN = st.tuples(st.sampled_from(["add", "subtract", "damp", "sin", "tanh", "sum", "probe", "probe"]), INDEX, INDEX)


def _instructions(inner: Any) -> Any:
    side = st.one_of(st.tuples(st.just("value"), INDEX), st.tuples(st.just("body"), inner))
    return st.lists(st.one_of(PLAIN, st.tuples(st.just("switch"), CONDITION, side, side)), min_size=1, max_size=5)


PROGRAMS = st.recursive(st.lists(PLAIN, min_size=1, max_size=3), _instructions, max_leaves=12)
THRESHOLD = 0.1234567

#: Instruction -> values and derivatives of the operands -> value and derivative.
MEANING: dict[str, Callable[..., Any]] = {
    "add": lambda a, da, b, db: (a + b, da + db),
    "subtract": lambda a, da, b, db: (a - b, da - db),
    "damp": lambda a, da, b, db: (a * np.sin(b), da * np.sin(b) + a * np.cos(b) * db),
    "sin": lambda a, da: (np.sin(a), np.cos(a) * da),
    "tanh": lambda a, da: (np.tanh(a), (1 - np.tanh(a) ** 2) * da),
    "sum": lambda a, da: (np.sum(a), np.sum(da)),
    "above": lambda a, da: (np.sum(a) > THRESHOLD, 0.0),
    "probe": lambda a, da: (a, da),
}
IN_K: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "damp": lambda a, b: a * K.sin(b), "sin": K.sin, "tanh": K.tanh, "sum": K.sum,
}  # fmt: skip
ONE_OPERAND = ("sin", "tanh", "sum")


class Value:
    """What the oracle computes: made once for equal expressions, and forced on demand."""

    def __init__(self, kind: str, operands: Sequence[Value], shape: tuple[int, ...], pair: Any = None):
        self.kind, self.operands, self.shape, self.pair = kind, operands, shape, pair

    def force(self) -> Any:
        if self.pair is None:
            if self.kind == "switch":
                taken = self.operands[1 if self.operands[0].force()[0] else 2]
                self.pair = tuple(np.broadcast_to(part, self.shape) for part in taken.force())
            else:
                self.pair = MEANING[self.kind](*[part for operand in self.operands for part in operand.force()])
        return self.pair


class Oracle:
    def __init__(self, flags: Sequence[bool], optimize: bool):
        self.optimize = optimize
        self.flags = [Value("flag", (), (), (flag, 0.0)) for flag in flags]
        self.made: dict[Any, Value] = {}
        self.probes: list[Value] = []

    def make(self, kind: str, *operands: Value) -> Value:
        shape = () if kind in ("sum", "above") else np.broadcast_shapes(*[v.shape for v in operands[kind == "switch" :]])
        return self.made.setdefault((kind, *operands), Value(kind, operands, shape))

    def plain(self, kind: str, x: Value, y: Value) -> Value:
        if kind == "probe":
            self.probes.append(Value(kind, [x], x.shape))
            return self.probes[-1]
        return self.make(kind, x) if kind in ONE_OPERAND else self.make(kind, x, y)

    def above(self, x: Value) -> Value:
        return self.make("above", x)

    def switch(self, condition: Value, then: Any, orelse: Any) -> Value:
        sides = [side() if callable(side) else side for side in (then, orelse)]
        if self.optimize and sides[0] is sides[1]:
            return sides[0]  # nothing is decided: the condition is not computed, nor does a probe in it raise
        return self.make("switch", condition, *sides)

    def never(self, root: Value) -> set[Value]:
        """The probes that are needed only where one condition takes the side that it did not take."""
        asked = {v.operands[0] for v in self.made.values() if v.kind == "switch" and v.pair is not None}
        return {probe for condition in asked for probe in set(self.probes) - _reached(root, condition)}


def _reached(root: Value, condition: Value) -> set[Value]:
    """What root needs, knowing of one condition which side it takes."""
    found, stack = set(), [root]
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            if value.kind == "switch" and value.operands[0] is condition:
                stack += [condition, value.operands[1 if condition.force()[0] else 2]]
            else:
                stack += value.operands
    return found


class Symbolic:
    def __init__(self, flags: Any, indices: Any):
        self.flags, self.indices, self.count = flags, indices, 0
        self.row = K.variable([0.0], dtype="float64")

    def plain(self, kind: str, x: Any, y: Any) -> Any:
        if kind == "probe":
            self.count += 1
            return x + K.gather(self.row, self.indices[self.count - 1])
        return IN_K[kind](x) if kind in ONE_OPERAND else IN_K[kind](x, y)

    def above(self, x: Any) -> Any:
        return K.greater(K.sum(x), THRESHOLD)

    def switch(self, condition: Any, then: Any, orelse: Any) -> Any:
        if self.count % 2:  # some are built before the call of K.switch
            then, orelse = [side() if callable(side) else side for side in (then, orelse)]
        return K.switch(condition, then, orelse)


def carry_out(program: Sequence[Any], pool: list[Any], how: Oracle | Symbolic) -> Any:
    """The last value of a program."""
    for kind, *rest in program:
        at = [pool[i % len(pool)] if isinstance(i, int) else i for i in rest]
        if kind != "switch":
            pool.append(how.plain(kind, *at))
            continue
        (sort, *operands), *sides = at
        if sort == "above":
            condition = how.above(pool[operands[0] % len(pool)])
        else:
            condition = how.flags[operands[0]]
        if sort == "either":
            condition = how.switch(condition, *[how.above(pool[i % len(pool)]) for i in operands[1:]])
        built = [
            pool[what % len(pool)] if side == "value" else (lambda body=what: carry_out(body, list(pool), how))
            for side, what in sides
        ]
        pool.append(how.switch(condition, *built))
    return pool[-1]


def count_probes(program: Sequence[Any]) -> int:
    bodies = [what for kind, *rest in program if kind == "switch" for side, what in rest[1:] if side == "body"]
    return sum(kind == "probe" for kind, *_ in program) + sum(map(count_probes, bodies))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("engine", engines_tested())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=PROGRAMS, optimize=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_random_programs_of_nested_branches(program: Any, optimize: bool, seed: int, engine: str) -> None:
    count, random = count_probes(program), np.random.default_rng(seed)
    x, y = K.placeholder((3,), dtype="float64"), K.placeholder((), dtype="float64")
    flags, indices = K.placeholder((4,), dtype="bool"), K.placeholder((count,), dtype="int32")
    out = carry_out(program, [x, y], Symbolic(flags, indices))
    wrt = K.gradients(K.sum(out), [x, y], disconnected="zeros")
    f = K.function([x, y, flags, indices], [out, *wrt], optimize=optimize, engine=engine)
    for _ in range(3):
        chosen = random.integers(0, 2, 4).astype(bool)
        a, da, b, db = random.normal(size=3), random.normal(size=3), random.normal(), random.normal()
        oracle = Oracle(chosen, optimize)
        root = carry_out(program, [Value("x", (), (3,), (a, da)), Value("y", (), (), (b, db))], oracle)
        value, slope = root.force()

        never = oracle.never(root)
        bad = [99 if probe in never else 0 for probe in oracle.probes]
        result, gx, gy = f([a, b, chosen, bad])
        np.testing.assert_allclose(result, value, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(gx @ da + gy * db, np.sum(slope), rtol=1e-8, atol=1e-8)

        for number, probe in enumerate(oracle.probes):
            if probe.pair is not None:
                with pytest.raises(IndexOutOfRange):
                    f([a, b, chosen, np.eye(count, dtype="int32")[number]])
                break

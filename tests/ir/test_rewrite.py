"""Patterns, and the sweep of rules: what it finds, in which order, and what it does with rules that fail."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import GraphError, RewriteWarning
from kgraph.ir import pattern, rewrite
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.passes import PIPELINE, add_pass, chosen, remove_pass, run_pipeline
from kgraph.ir.pattern import alone, attr, const, named, p, var, whole
from kgraph.ir.record import Record
from kgraph.ir.rewrite import MOST_IN_A_ROW, Rules
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from tests.ir.strategies import Sample, graphs, quick

X, Y, Z = var("x"), var("y"), var("z")


def leaf(*shape: int | None, dtype: str = "float32") -> Node:
    return o.placeholder(type=TensorType(dtype, shape), uid=Identity())


x, y, z = leaf(2, 3), leaf(2, 3), leaf(2, 3)


def normal(root: Node, rules: Rules, record: Record | None = None, **how: Any) -> Node:
    (found,) = rewrite.rewrite(Graph([], [root]), rules, Record() if record is None else record, **how).outputs
    return found


def found_by(wanted: pattern.Pattern, node: Node, uses: dict[Node, int] | None = None) -> dict[str, Any] | str:
    """What a pattern binds in one of its orders; or why the first one does not fit."""
    failed = []
    for order in wanted.orders():
        found: dict[str, Any] = {}
        mismatch = order.mismatch(node, found, uses or {})
        if mismatch is None:
            return found
        failed.append(mismatch.why)
    return failed[0]


# ---------------------------------------------------------------------------------------------------- patterns

ONES, C = o.constant_of(np.ones(3, "float32")), o.scalar(2.5, "float32")
FITS: list[tuple[pattern.Pattern, Node, dict[str, Any] | str]] = [
    (X, o.exp(x), {"x": o.exp(x)}),
    (var("x", "int"), x, "it is of another kind than int"),
    (var("x", "int"), leaf(dtype="uint8"), {}),
    (p.exp(X), o.exp(x), {"x": x}),
    (p.exp(X), o.log(x), "it is no exp"),
    (p.log(p.exp(X)), o.log(o.exp(x)), {"x": x}),
    (p.log(p.exp(X)), o.log(o.tanh(x)), "it is no exp"),
    (X - X, o.subtract(x, x), {"x": x}),
    (X - X, o.subtract(x, y), "x is another node already"),
    (X - Y, o.subtract(x, y), {"x": x, "y": y}),
    (X * p.exp(Y), o.multiply(o.exp(x), y), {"x": y, "y": x}),
    (X - p.exp(Y), o.subtract(o.exp(x), y), "it is no exp"),
    (p.exp(X) * p.log(X), o.multiply(o.log(x), o.exp(x)), {"x": x}),
    (p.exp(X) * p.log(X), o.multiply(o.log(x), o.exp(y)), "it is no exp"),
    ((X + Y) * (X + Z), o.multiply(o.add(y, x), o.add(z, x)), {"x": x, "y": y, "z": z}),
    (p.maximum(X, 0.0), o.maximum(o.scalar(0.0, "float32"), x), {"x": x}),
    (X + 0.0, o.add(x, o.scalar(-0.0, "float32")), "it is not 0.0"),
    (X + -0.0, o.add(x, o.scalar(-0.0, "float32")), {"x": x}),
    (X * 1.0, o.multiply(x, ONES), {"x": x}),
    (X * 1.0, o.multiply(x, o.broadcast_to(o.scalar(1.0, "float32"), shape=(2, 3))), {"x": x}),
    (X * 1.0, o.multiply(x, o.constant_of(np.array([1, 1, 2], "float32"))), "it is not 1.0"),
    (X * 1.0, o.multiply(x, o.constant_of(np.ones((0, 1, 3), "float32"))), "it is not 1.0"),
    (X * 1, o.multiply(leaf(dtype="int32"), o.scalar(1, "int32")), {}),
    (1.0 - X, o.subtract(o.scalar(1.0, "float32"), x), {"x": x}),
    (1.0 / X, o.divide(C, x), "it is not 1.0"),
    (X**2.0, o.power(x, o.scalar(2.0, "float32")), {"x": x}),
    (-X, o.negative(x), {"x": x}),
    (X * const("c"), o.multiply(C, x), {"x": x, "c": C}),
    (X * const("c"), o.multiply(y, x), "it is no constant"),
    (p.sum(X), o.sum(x, axis=(0,), keepdims=True), {"x": x}),
    (p.sum(X, axis=attr("a")), o.sum(x, axis=(0,), keepdims=True), {"x": x, "a": (0,)}),
    (p.sum(X, keepdims=False), o.sum(x, axis=(0,), keepdims=True), "its keepdims is True"),
    (
        p.sum(p.sum(X, axis=attr("a")), axis=attr("a")),
        o.sum(o.sum(x, axis=(0,), keepdims=True), axis=(1,), keepdims=True),
        "a is (1,) already, not (0,)",
    ),
    (p.sqrt(named("e", p.exp(X))), o.sqrt(o.exp(x)), {"x": x, "e": o.exp(x)}),
    (named("e", p.exp(X)) - named("e", p.exp(Y)), o.subtract(o.exp(x), o.exp(y)), "e is another node already"),
    (p.reshape(X), o.reshape(x, o.scalar(3, "int32"), shape=(2, None)), "it has 2 operands"),
    (whole(), o.tanh(x), {}),
    (whole(o.exp), o.tanh(x), "it is no exp"),
    (whole(over=o.constant), o.add(ONES, C), {}),
    (whole(over=o.constant), o.add(x, C), "not every operand is a constant"),
]


@pytest.mark.parametrize(("wanted", "node", "result"), FITS, ids=lambda each: str(each) if isinstance(each, pattern.Pattern) else "")
def test_what_a_pattern_binds(wanted: pattern.Pattern, node: Node, result: dict[str, Any] | str) -> None:
    found = found_by(wanted, node)
    assert isinstance(found, str) == isinstance(result, str)
    if isinstance(result, str):
        assert found == result
    else:
        assert {name: found[name] for name in result} == result  # type: ignore[index]


def test_a_pattern_of_what_nothing_else_uses() -> None:
    node = o.log(o.exp(x))
    assert found_by(p.log(alone(p.exp(X))), node, {o.exp(x): 1}) == {"x": x}
    assert found_by(p.log(alone(p.exp(X))), node, {o.exp(x): 3}) == "it is used 3 times"


def test_a_pattern_reads_as_it_is_written_and_names_no_attr_that_is_not_there() -> None:
    assert str(p.log(alone(p.softmax(X, axis=attr("axis")))) + 1.0) == "add(log(alone(softmax(x, axis=axis))), 1.0)"
    with pytest.raises(TypeError, match="softmax has no attr axes; it has axis"):
        p.softmax(X, axes=1)
    with pytest.raises(AttributeError, match="there is no op 'sofmax'"):
        p.sofmax(X)


# ---------------------------------------------------------------------------------------------------- the sweep


def rules_of(*rows: tuple[Any, Any], name: str = "test") -> Rules:
    """Rules r0, r1, ... of patterns and functions."""
    rules = Rules(name)
    for number, (wanted, build) in enumerate(rows):
        build.__name__, build.__doc__ = f"r{number}", "before -> after"
        rules.rule(*(wanted if isinstance(wanted, tuple) else (wanted,)))(build)
    return rules


def test_inner_nodes_come_first_and_what_rules_make_is_rewritten_in_turn() -> None:
    rules = rules_of(
        (p.negative(-X), lambda x: x),
        (p.exp(p.log(X)), lambda x: o.negative(o.negative(o.tanh(x)))),
        (p.tanh(X), lambda x: o.sin(x)),
    )
    record = Record()
    assert normal(o.negative(o.negative(o.exp(o.log(x)))), rules, record) is o.sin(x)
    assert [r.rule for r in record] == ["r1", "r2", "r0"]  # what the outer two are over the result has its normal form by then


def test_a_node_that_nothing_fits_is_kept() -> None:
    node = o.add(o.tanh(x), y)
    assert normal(node, rules_of((p.exp(X), lambda x: x))) is node


def test_the_first_rule_that_gives_a_node_is_taken_and_a_text_is_a_reason_not_to() -> None:
    rules = rules_of((p.exp(X), lambda x: "not today"), (p.exp(X), lambda x: o.sin(x)), (p.exp(X), lambda x: o.cos(x)))
    assert normal(o.exp(x), rules) is o.sin(x)


def test_bodies_are_rewritten_too_and_once_where_they_are_nested() -> None:
    swept: list[Node] = []
    rules = rules_of((p.tanh(X), lambda x: o.sin(x)), (whole(o.param), lambda out: swept.append(out) or "never"))

    def nested(depth: int, part: Any, state: Any) -> Any:
        if not depth:
            return K.tanh(part + state)
        return K.foldl(lambda a, b: nested(depth - 1, a, b), K.stack([part, state]))

    rows = K.placeholder((4, 3))
    counts = []
    for depth in (1, 5):
        swept.clear()
        root = K.foldl(lambda a, b: nested(depth, a, b), rows).node  # noqa: B023
        found = normal(root, rules)
        nodes = set(all_nodes(found))
        assert sum(node.op is o.sin for node in nodes) == 1
        assert not any(node.op is o.tanh for node in nodes)
        counts.append(len(swept))
    assert counts[1] < 8 * counts[0]  # not twice as much for each loop that one is in


def all_nodes(root: Node) -> list[Node]:
    found: list[Node] = []
    pending = [root]
    while pending:
        nodes = toposort([pending.pop()])
        found += nodes
        pending += [out for node in nodes for name in node.op.bodies for out in node.attr(name).outputs]
    return found


def test_a_type_may_get_more_precise_and_its_users_are_typed_anew() -> None:
    rows = leaf(None, 3)
    rules = rules_of((p.tanh(X), lambda x: x if x.type.is_static else o.reshape(x, shape=(2, 3))))
    found = normal(o.sum(o.tanh(rows), axis=(1,), keepdims=False), rules)
    assert found.type.shape == (2,)


def test_depth_costs_no_recursion() -> None:
    root = x
    for _ in range(200_000):
        root = o.negative(root)
    assert normal(root, rules_of((p.negative(-X), lambda x: x))) is x


# ---------------------------------------------------------------------------------------------------- rules that fail


def warned(*parts: str) -> Any:
    return pytest.warns(RewriteWarning, match="(?s)" + ".*".join(map(re.escape, parts)))


def failing(x: Node) -> Node:
    raise ZeroDivisionError("no such number\nof lines")


FAIL: dict[str, tuple[list[tuple[Any, Any]], str]] = {
    "raises": ([(p.exp(X), failing)], "test.r0 raised ZeroDivisionError: no such number; it is left out"),
    "raises what types refuse": ([(p.exp(X), lambda x: o.add(x, leaf(7)))], "test.r0 raised ShapeError: sizes differ"),
    "another dtype": ([(p.exp(X), lambda x: o.cast(x, dtype="int32"))], "test.r0 made int32[2, 3] of float32[2, 3]"),
    "less of a type": ([(p.exp(X), lambda x: leaf(None, 3))], "test.r0 made float32[?, 3] of float32[2, 3]"),
    "undoes itself": ([(p.exp(X), lambda x: o.log(x)), (p.log(X), lambda x: o.exp(x))], "test.r1 undoes others"),
    "undoes through others": (
        [(p.exp(X), lambda x: o.sin(x)), (p.sin(X), lambda x: o.cos(x)), (p.cos(X), lambda x: o.exp(x))], "test.r2 undoes others",
    ),
    "over its operands": (
        [(p.exp(p.tanh(X)), lambda x: o.exp(o.sin(x))), (p.sin(X), lambda x: o.tanh(x))], "test.r0 undoes others",
    ),
    "holds itself": ([(p.exp(X), lambda x: o.negative(o.negative(o.exp(x))))], "test.r0 gives a result that holds what it"),
    "goes on": ([(p.exp(X), lambda x: o.exp(o.log(x)))], f"test.r0 went on for {MOST_IN_A_ROW} rewrites in a row"),
    "goes on inside": ([(p.exp(X), lambda x: o.tanh(o.exp(o.log(x))))], f"test.r0 went on for {MOST_IN_A_ROW} rewrites in a row"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAIL)
def test_a_rule_that_fails_is_named_once_and_left_out(name: str) -> None:
    rows, message = FAIL[name]
    good = (p.square(X), lambda x: o.multiply(x, x))
    record = Record()
    root = o.square(o.add(o.exp(o.tanh(x)), o.exp(o.tanh(y))))
    with warned("the rule " + message) as caught:
        found = normal(root, rules_of(*rows, good), record)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found.op is o.multiply  # the rest goes on
    assert found.type is root.type
    assert list(record.left_out) == [message.split()[0]]
    assert [r.rule for r in record].count(f"r{len(rows)}") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert normal(root, rules_of(*rows, good), record).type is root.type  # it knows, and says no more


def test_what_takes_too_long_ends_with_the_best_so_far() -> None:
    def slow(x: Node) -> Node:
        time.sleep(0.02)
        return x

    root = x
    for number in range(100):
        root = o.add(root, o.scalar(number, "float32"))
    with warned("optimising takes too long; the time was over in the rule test.r0"):
        found = normal(root, rules_of((X + const("c"), slow)), seconds=0.2)
    assert 10 < len(toposort([found])) < 201
    assert found.type is root.type


# ---------------------------------------------------------------------------------------------------- rules and sets of them


def test_a_rule_says_what_it_does_and_what_it_promises() -> None:
    rules = Rules("mine")

    def plain(x: Node) -> Node:
        return x

    with pytest.raises(ValueError, match="mine.plain: the docstring of a rule begins with what it does: before -> after"):
        rules.rule(p.exp(X))(plain)
    plain.__doc__ = "exp(x) -> x"
    with pytest.raises(ValueError, match="mine.plain: a rule is exact, rounding, finite, not 'close'"):
        rules.rule(p.exp(X), claim="close")(plain)
    rules.rule(p.exp(X))(plain)
    with pytest.raises(ValueError, match="there are two rules mine.plain"):
        rules.rule(p.log(X))(plain)
    assert repr(rules) == "<1 rules of mine>"
    assert repr(rules[0]) == "<rule mine.plain: exp(x) -> x>"


@pytest.fixture
def mine() -> Iterator[Rules]:
    """A set of rules of a user's own, in the pipeline while a test runs."""
    rules = Rules("mine")

    @rules.rule(p.multiply(var("x"), 0.0), claim="finite")
    def nothing(x: Node, out: Node) -> Node:
        """x * 0 -> 0"""
        return o.zeros_like(out)

    @rules.rule(p.exp(p.log(X)), claim="rounding")
    def back(x: Node) -> Node:
        """exp(log(x)) -> x"""
        return x

    before = dict(PIPELINE)
    add_pass("mine", rules, after="fold")
    yield rules
    PIPELINE.clear()
    PIPELINE.update(before)
    rewrite.changed()


def test_a_pass_of_ones_own_runs_in_every_function_and_makes_new_programs(mine: Rules) -> None:
    a = K.placeholder((3,))
    values = np.array([-1, 1, 2], "float32")
    wanted = K.exp(K.log(a))
    assert list(PIPELINE)[:2] == ["fold", "mine"]
    np.testing.assert_array_equal(K.function([a], wanted)([values]), values)  # and no NaN for -1
    assert np.isnan(K.function([a], wanted, optimize=["fold"])([values])[0])
    assert np.isnan(K.function([a], wanted, exclude=["back"])([values])[0])
    assert np.isnan(K.function([a], wanted, exclude=["mine.back"])([values])[0])
    remove_pass("mine")
    assert np.isnan(K.function([a], wanted)([values])[0])
    add_pass("mine", mine)
    assert list(PIPELINE)[-1] == "mine"
    np.testing.assert_array_equal(K.function([a], wanted)([values]), values)


@pytest.mark.usefixtures("mine")
def test_rules_for_finite_numbers_run_only_where_that_is_asked_for() -> None:
    a = K.placeholder((2,))
    values = [np.array([1, np.inf], "float32")]
    assert np.isnan(K.function([a], a * 0.0)(values)[1])
    np.testing.assert_array_equal(K.function([a], a * 0.0, finite=True)(values), [0, 0])
    assert [rule.name for rule in chosen().rules() if rule.of == "mine"] == ["mine.back"]


@pytest.mark.usefixtures("mine")
def test_names_that_are_none() -> None:
    a = K.placeholder((2,))
    with pytest.raises(GraphError, match=r"there is no rule 'bakc'\n  .*\n  hint: did you mean back"):
        K.function([a], a, exclude=["bakc"])
    with pytest.raises(GraphError, match=r"exclude is 'back', not a list of rules"):
        K.function([a], a, exclude="back")
    with pytest.raises(GraphError, match="there is a pass 'mine' already"):
        add_pass("mine", Rules("mine"))
    with pytest.raises(GraphError, match="there is no pass 'folt'"):
        add_pass("other", Rules("other"), after="folt")
    with pytest.raises(GraphError, match="there is no pass 'other'"):
        remove_pass("other")
    with pytest.raises(GraphError, match="no program can do without the pass 'sink'"):
        remove_pass("sink")


def test_neighbours_share_a_sweep(mine: Rules) -> None:
    """What one set makes, the other may rewrite, and the other way round."""
    a = o.placeholder(type=TensorType("float32", ()), uid=Identity())
    root = o.add(o.exp(o.log(o.scalar(3.0, "float32"))), o.exp(o.log(a)))
    record = Record()
    (found,) = run_pipeline(Graph([a], [root]), record=record).outputs
    assert found is not root
    assert {(r.by, r.rule) for r in record} == {("mine", "back"), ("fold", "constant")} or {r.by for r in record} == {"mine", "fold"}
    assert found.op is o.add
    assert a in found.inputs


# ---------------------------------------------------------------------------------------------------- uses


@quick
@given(graphs())
def test_uses_are_counted_while_the_graph_changes(sample: Sample) -> None:
    roots = sample.graph.roots
    sweep = rewrite._Sweep(list(chosen().rules()), Record(), None, {})
    level = rewrite._Level(sweep, rewrite._uses(toposort(roots), roots), {})
    found = level.normal(roots)
    wanted = rewrite._uses(toposort(found), found)
    assert {node: level.uses[node] for node in wanted} == wanted
    assert {node for node, count in level.uses.items() if count} == set(wanted)


def test_what_is_used_once_in_the_graph_as_it_was_and_twice_as_it_is_stays_shared() -> None:
    rules = Rules("test")

    @rules.rule(p.exp(p.negative(X)))
    def past(x: Node) -> Node:
        """exp(-x) -> tanh(x)"""
        return o.tanh(x)

    @rules.rule(p.tanh(alone(p.sin(X))))
    def alone_only(x: Node) -> Node:
        """tanh(sin(x)) -> cos(x), if nothing else needs the sine"""
        return o.cos(x)

    middle = o.negative(o.sin(x))
    found = rewrite.rewrite(Graph([], [o.exp(middle), o.sqrt(middle)]), rules, Record()).outputs
    assert found == (o.tanh(o.sin(x)), o.sqrt(middle))
    assert normal(o.exp(middle), rules) is o.cos(x)


@quick
@given(graphs())
def test_nothing_is_left_to_rewrite(sample: Sample) -> None:
    rules = list(chosen().rules())
    found = rewrite.rewrite(sample.graph, rules, Record())
    assert rewrite.rewrite(found, rules, Record()) == found

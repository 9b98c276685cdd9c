"""`kgraph.optimize` and `explain`, `fn.explain`, why and why not, bisection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import ArgumentError, GraphError, RewriteWarning
from kgraph.explain import Explanation
from kgraph.ir import rewrite
from kgraph.ir.node import Graph
from kgraph.ir.passes import PIPELINE, Passes, Record, chosen, run_pipeline
from kgraph.ir.pattern import p, var
from kgraph.ir.rewrite import Rules
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort


@pytest.fixture(autouse=True)
def toys() -> Iterator[Rules]:
    """Rules of which a test knows what they do, after those that there are."""
    rules = Rules("toys")

    @rules.rule(p.exp(p.log(var("x"))), claim="rounding")
    def back(x: Any) -> Any:
        """exp(log(x)) -> x"""
        return x

    @rules.rule(p.cos(var("x")), claim="rounding")
    def turned(x: Any) -> Any:
        """cos(x) -> sin(x), which is wrong"""
        return o.sin(x)

    @rules.rule(p.tanh(var("x")))
    def never(x: Any) -> Any:
        """tanh(x) -> nothing"""
        return f"its operand is {x.op.name}"

    @rules.rule(p.floor(var("x")))
    def fails(x: Any) -> Any:
        """floor(x) -> an error"""
        raise ValueError("so it does")

    before = dict(PIPELINE)
    kgraph.add_pass("toys", rules, after="fold")
    yield rules
    PIPELINE.clear()
    PIPELINE.update(before)
    rewrite.changed()


def program() -> tuple[Any, ...]:
    x, w = K.placeholder((None, 4), name="x"), K.variable(np.ones((4, 3), "float32"), name="w")
    projected = K.dot(K.in_train_phase(K.dropout(x, 0.5), x), w)
    back = K.exp(K.log(projected))
    return x, w, projected, back, K.sum(K.cos(back) + K.tanh(projected))


# ---------------------------------------------------------------------------------------------------- optimize


def test_each_pass_is_usable_alone() -> None:
    x, _, _, _, loss = program()
    folded = kgraph.optimize(loss, ["fold"])
    assert {node.op for node in toposort(folded.roots)} >= {o.exp, o.switch}  # nothing else ran
    assert kgraph.optimize(loss, []).roots == (loss.node,)
    assert kgraph.optimize(loss, False, training=True).roots != (loss.node,)  # the phase alone
    sunk = kgraph.optimize([loss], ["sink"])
    ops = {node.op for node in toposort(sunk.roots)}
    assert o.cond in ops
    assert o.switch not in ops
    tested = kgraph.optimize(loss, ["fold"], training=False)
    assert not {node.op for node in toposort(tested.roots)} & {o.switch, o.cond, o.random_uniform}
    assert tested.inputs == (x.node,)


def test_of_a_tensor_a_list_a_function_and_a_graph() -> None:
    x, w, _, back, loss = program()
    f = K.function([x], [loss, back], [(w, w * 2)])
    assert kgraph.optimize(f, ["fold"]).updates
    assert kgraph.optimize(f.graph, ["fold"]) == kgraph.optimize(f, ["fold"])
    assert kgraph.optimize([loss, back], ["fold"]).outputs == kgraph.optimize(f, ["fold"]).outputs
    assert kgraph.optimize(loss, ["fold"]).outputs == kgraph.optimize(f, ["fold"]).outputs[:1]
    with pytest.raises(GraphError, match=r"outputs is a int, not a list of tensors"):
        kgraph.optimize(3)


def test_what_is_known_before_the_program_runs() -> None:
    x, y = K.placeholder((None, 4), name="x"), K.placeholder((), name="y")
    loss = K.mean(x) * y
    fixed = kgraph.optimize(loss, ["fold"], givens={x: (8, 4), y: 3.0})
    assert [i.type.shape for i in fixed.inputs] == [(8, 4)]
    assert any(node.op is o.constant and node.attr("value").array == 32 for node in toposort(fixed.roots))
    value = K.function([Tensor(fixed.inputs[0])], Tensor(fixed.outputs[0]))([np.ones((8, 4))])
    assert value == 3
    assert kgraph.optimize(loss, ["fold"], givens={x: np.ones((2, 4)), y: 3.0}).outputs[0].op is o.constant
    with pytest.raises(ArgumentError, match=r"a value of shape \(8, 5\) does not fit float32\[\?, 4\]  placeholder 'x'"):
        kgraph.optimize(loss, givens={x: (8, 5)})
    with pytest.raises(ArgumentError, match="is no placeholder of the graph"):
        kgraph.optimize(loss, givens={K.placeholder(()): 1.0})
    with pytest.raises(ArgumentError, match="'x' is no placeholder of the graph"):
        kgraph.optimize(loss, givens={"x": 1.0})


def test_in_the_ops_of_an_engine(engine: str) -> None:
    _, _, _, _, loss = program()
    from kgraph.lower.engine import get_engine

    found = kgraph.optimize(K.softplus(loss), ["sink"], training=False, engine=engine)
    assert {node.op for node in toposort(found.roots) if not node.op.source} <= set(get_engine(engine).rules)


# ---------------------------------------------------------------------------------------------------- explain


def test_what_was_rewritten_by_which_rule_at_which_line_and_what_it_saved() -> None:
    x, _, _, _, loss = program()
    explained = K.function([x], loss).explain()
    rows = {rule: (change, line, count) for rule, change, line, count in explained.rewrites()}
    assert rows["toys.back"][0] == "exp(log) -> matmul(x, w)"
    assert re.search(r"test_explain\.py:\d+$", rows["toys.back"][1])
    assert rows["specialise.learning_phase"][0] == "learning_phase -> 0"
    stages = {stage.name: stage for stage in explained.stages}
    assert list(stages) == ["as built", "specialise", *PIPELINE]
    before, folded, after = (stages[name].cost for name in ("as built", "fold", "toys"))
    assert before is not None and folded is not None and after is not None
    assert folded.nodes < before.nodes
    assert folded.nodes - after.nodes == 2  # exp and log
    # 4 x 3 products for each row, two ops of 10 over each of 3 results, an addition and a sum of 3.
    assert str(folded.flops) == f"{24 + 4 * 30 + 3 + 3}*n"
    assert str(after.flops) == f"{24 + 2 * 30 + 3 + 3}*n"
    assert stages["toys"].rewrites == 2
    text = str(explained)
    assert "as built" in text
    assert "toys.back" in text
    assert json.loads(json.dumps(explained.as_data()))["stages"][0]["nodes"] == before.nodes


def test_of_the_train_program_and_of_other_graphs() -> None:
    x, _, _, _, loss = program()
    f = K.function([x], loss)
    assert o.random_uniform in {node.op for node in toposort(f.explain(training=True).after.roots)}
    assert o.random_uniform not in {node.op for node in toposort(f.explain().after.roots)}
    assert f.explain().after == f.optimized()
    assert kgraph.explain(loss, ["fold"]).after == kgraph.optimize(loss, ["fold"])
    nothing = kgraph.explain(x * 2)
    assert len(nothing.record) == 0
    assert str(nothing).count("\n") == len(PIPELINE) + 2


def test_what_an_engine_has_no_rule_for_is_the_last_stage() -> None:
    x = K.placeholder((2, 3), name="x")
    graph, plan = Graph([x.node], [K.softmax(x).node]), chosen()
    simple = [op for op in o.OPS.values() if op.expand is None]

    def run(passes: Passes, record: Record) -> Graph:
        return run_pipeline(graph, 0, passes, simple if passes is plan else None, record)

    explained = Explanation(graph, run, plan)
    assert [stage.name for stage in explained.stages] == ["as built", "specialise", *PIPELINE, "legalise"]
    assert explained.stages[-1].rewrites == 1
    assert [row[:2] for row in explained.rewrites()] == [("legalise.expand", "softmax(x) -> divide(exp, sum)")]


def test_why() -> None:
    x, _, projected, back, loss = program()
    explained = K.function([x], [loss]).explain()
    assert "its operands changed: switch(not_equal, multiply, x) -> " in explained.why(projected)
    lines = explained.why(back).splitlines()
    assert lines[0].startswith("float32[?, 3]  exp at ")
    assert lines[-1] == "  toys.back: exp(log) -> matmul(x, w)"
    assert explained.why(loss).count("\n") >= 1
    assert K.function([x], x * 2).explain().why(x) == "float32[?, 4]  placeholder 'x'\n  is as it was"
    with pytest.raises(GraphError, match="the graph has no float32.*\n.*\n? *hint: its outputs and updates need no such node"):
        explained.why(x * 7)
    with pytest.raises(GraphError, match="'back' is no tensor"):
        explained.why("back")


def test_why_not() -> None:
    x, _, projected, back, loss = program()
    explained = K.function([x], loss).explain()
    assert explained.why_not("back", back) == "toys.back did apply: exp(log) -> matmul(x, w)"
    assert "exp(log(x)) does not fit" in explained.why_not("toys.back", projected)
    assert "it is no exp" in explained.why_not("toys.back", projected)
    squared, tanh = K.square(x), K.tanh(x)
    explained = K.function([x], [K.exp(squared), tanh]).explain()
    (inside,) = [node for node in toposort(explained.before.roots) if node.op is o.exp]
    assert "log(x) does not fit float32[?, 4]  square" in explained.why_not("back", Tensor(inside))
    assert explained.why_not("never", tanh).endswith("it fits tanh(x), but its operand is placeholder")
    with pytest.raises(GraphError, match=r"(?s)there is no rule 'nevr'.*hint: did you mean never"):
        explained.why_not("nevr", tanh)


def test_rules_that_failed_are_named() -> None:
    x = K.placeholder((3,))
    y = K.round(x) + Tensor(o.floor(x.node))
    with pytest.warns(RewriteWarning, match=r"the rule toys\.fails raised ValueError: so it does; it is left out"):
        explained = K.function([x], y).explain()
    assert explained.left_out == {"toys.fails": "raised ValueError: so it does"}
    assert "left out: toys.fails raised ValueError: so it does" in str(explained)
    assert explained.why_not("fails", Tensor(o.floor(x.node))) == "toys.fails was left out: it raised ValueError: so it does"
    np.testing.assert_array_equal(K.function([x], y, exclude=["fails"])([[1.4, 2.6, -0.5]]), [2, 5, -1])


# ---------------------------------------------------------------------------------------------------- bisection


def test_the_one_rewrite_that_makes_a_check_fail(engine: str) -> None:
    x = K.placeholder((2,), name="x")
    y = x
    for number in range(8):
        y = K.exp(K.log(y + float(number)))
        if number == 5:
            y = K.cos(y)
    f = K.function([x], y, engine=engine)
    wanted = np.cos([16.0, 17.0]) + 13

    calls = []

    def check(one: Any) -> None:
        calls.append(one)
        np.testing.assert_allclose(one([[1.0, 2.0]]), wanted, rtol=1e-5)

    found = f.bisect(check)
    assert found is not None
    assert (found.by, found.rule) == ("toys", "turned")
    assert found.before.op is o.cos
    assert "test_explain.py" in str(found.before.origin)
    assert len(calls) <= 6
    good = K.function([x], y, engine=engine, exclude=["turned"])
    np.testing.assert_allclose(good([[1.0, 2.0]]), wanted, rtol=1e-5)
    assert good.bisect(check) is None
    with pytest.raises(ArgumentError, match="the check fails without any rewrite by a rule too"):
        f.bisect(lambda one: False)


def test_in_bodies_and_in_the_train_program_too() -> None:
    x = K.placeholder((3, 2))
    looped = K.foldl(lambda total, part: total + K.cos(part), x)
    f = K.function([x], K.in_train_phase(looped, K.sum(x, axis=0)))
    values = np.arange(6.0).reshape(3, 2)
    wanted = values[0] + np.cos(values[1:]).sum(0)
    found = f.bisect(lambda one: np.allclose(one([values]), wanted, rtol=1e-5), training=True)
    assert found is not None
    assert found.rule == "turned"
    assert f.bisect(lambda one: np.allclose(one([values]), values.sum(0))) is None


def test_graphs_are_the_same_whatever_is_counted() -> None:
    """The first rewrites of a pipeline are the first of the whole."""
    x, _, _, _, loss = program()
    f = K.function([x], loss)
    whole = f.explain().record
    seen: list[Graph] = []
    f.bisect(lambda one: not seen.append(one.graph))  # type: ignore[func-returns-value]
    assert seen == [f.optimized()]
    assert [r.rule for r in whole if r.by == "toys"] == ["back", "turned"]


def test_what_is_absent_from_a_side_may_have_sizes_that_are_not_known() -> None:
    x, w = K.placeholder((None, 4), name="x"), K.variable(np.ones((4, 4)), name="w")
    h = K.tanh(K.dot(x, w))
    loss = K.sum(K.switch(K.sum(x) > 0, lambda: K.exp(h), lambda: K.dot(h, w)))
    f = K.function([x], K.gradients(loss, [w]))
    assert "absent" in {node.op.name for cond in _conds(f.optimized()) for node in toposort(cond.attr("then").roots)}
    assert f.explain().stages[-1].cost is not None


def _conds(graph: Graph) -> list[Any]:
    return [node for node in toposort(graph.roots) if node.op is o.cond]

"""`kgraph.check_rule`: rules that keep their promise pass, and each way of breaking one is found and shown."""

from __future__ import annotations

import re
from typing import Any

import pytest

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import RuleError
from kgraph.ir.node import Node
from kgraph.ir.passes import fold
from kgraph.ir.pattern import attr, const, p, var
from kgraph.ir.rewrite import Rules

X, Y = var("x"), var("y")


def rule_of(build: Any, *patterns: Any, claim: str = "exact") -> Rules:
    rules = Rules("mine")
    build.__name__, build.__doc__ = "rule", "before -> after"
    rules.rule(*patterns, claim=claim)(build)
    return rules


def same(x: Node, out: Node) -> Node | str:
    return x if x.type is out.type else "stretched"


KEPT: dict[str, Rules] = {
    "x * 1": rule_of(lambda x, out: same(x, out), X * 1.0),
    "x + -0.0": rule_of(lambda x, out: same(x, out), X + -0.0),
    "min(x, x)": rule_of(lambda x: x, p.minimum(X, X)),
    "ints": rule_of(lambda x, out: same(x, out), var("x", "int") + 0),
    "two transposes": rule_of(
        lambda x, a, b: o.transpose(x, perm=tuple(a[i] for i in b)), p.transpose(p.transpose(X, perm=attr("a")), perm=attr("b")),
    ),
    "max of max": rule_of(
        lambda x: o.max(x, axis=(0, 1), keepdims=False) if x.ndim == 2 else "not a matrix",
        p.max(p.max(X, axis=(0,), keepdims=False), axis=(0,), keepdims=False),
    ),
    "a constant moved": rule_of(lambda x, c: o.subtract(x, o.negative(c)), X + const("c")),
    "log softmax": rule_of(lambda x, a: o.log_softmax(x, axis=a), p.log(p.softmax(X, axis=attr("a"))), claim="rounding"),
    "log1p": rule_of(lambda x, out: o.log1p(x) if x.type is out.type else "stretched", p.log(X + 1.0), claim="rounding"),
    "x * 0": rule_of(lambda out: o.zeros_like(out), X * 0.0, claim="finite"),
    "x - x": rule_of(lambda x: o.zeros_like(x), X - X, claim="finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_rule_that_keeps_its_promise(name: str) -> None:
    (report,) = kgraph.check_rule(KEPT[name])
    assert report.applied == 100
    assert str(report).startswith("mine.rule: kept its promise on 100 graphs")


def failing(x: Node) -> Node:
    raise KeyError("lost")


BROKEN: dict[str, tuple[Rules, str]] = {
    "the sign of zero": (rule_of(lambda x, out: same(x, out), X + 0.0), "which is exact, gave .*-0.0.* gives .*0.0"),
    "NaN": (rule_of(lambda x: o.ones_like(x), X / X), r"gave .*1.0.* gives .*nan"),
    "infinity": (rule_of(lambda x: o.square(x) / x, p.absolute(var("x", "float"))), "which is exact, gave"),
    "another rounding": (rule_of(lambda x, y: x * y + x, X * (Y + 1.0)), "which is exact, gave"),
    "wrong": (rule_of(lambda x: o.cos(x), p.sin(X), claim="rounding"), "units in the last place off on average, and the plain"),
    "wrong for finite numbers": (rule_of(lambda x: o.ones_like(x), X - X, claim="finite"), "gave .*1.* gives .*0"),
    "loses digits": (
        rule_of(lambda x: o.log(o.exp(x) - o.scalar(1.0, x.dtype)), p.log(p.expm1(X)), claim="rounding"),
        "units in the last place off on average, and the plain",
    ),
    "forgets NaN": (rule_of(lambda x: o.maximum(o.where(o.equal(x, x), x, o.zeros_like(x)), o.scalar(0.0, x.dtype)),
                            p.relu(var("x", "float")), claim="rounding"), "gave .*0.0.* gives .*nan"),
    "overflows": (rule_of(lambda x: o.square(x), p.absolute(var("x", "int"))), "gave"),
    "dtype": (rule_of(lambda x: o.cast(x, dtype="float32"), p.exp(X)), "made float32.* of float"),
    "shape": (rule_of(lambda x: x, X * 1.0), r"made .* of "),
    "raises": (rule_of(failing, p.exp(X)), "raised KeyError: 'lost'"),
    "goes on": (rule_of(lambda x: o.exp(o.negative(o.negative(x))), p.exp(X)), "went on for"),
    "holds itself": (rule_of(lambda x: o.negative(o.negative(o.exp(x))), p.exp(X)), "holds what it stands for"),
    "never applies": (rule_of(lambda x: "not today", p.exp(X)), "mine.rule never applied: not today"),
    "fits no graph": (rule_of(lambda x: x, p.conv(X, Y)), "never applied: no graph that its patterns fit could be made\n"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::kgraph.errors.RewriteWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_that_does_not(name: str) -> None:
    rules, message = BROKEN[name]
    with pytest.raises(RuleError, match="(?s).*" + message):
        kgraph.check_rule(rules)


def test_the_error_shows_the_graph_and_the_values() -> None:
    with pytest.raises(RuleError) as caught:
        kgraph.check_rule(BROKEN["the sign of zero"][0][0])
    text = str(caught.value)
    assert text.startswith("check_rule: mine.rule (before -> after), which is exact, gave ")
    assert re.search(r"%1 +float\d+\[.*add\(%0, 0\.\)", text)
    assert "\n  x0 = " in text


def test_values_of_attrs_and_tensors_to_try() -> None:
    rules = rule_of(lambda x: x, p.pad(X, before=(0, 0), behind=(0, 0))) if "before" in o.pad.attr_names else None
    assert rules is None or kgraph.check_rule(rules)
    x, n = K.placeholder((6,)), o.scalar(3, "int32")
    sized = next(rule for rule in fold if rule.name == "fold.dynamic_size")
    with pytest.raises(RuleError, match="never applied"):
        kgraph.check_rule(sized)
    tensors = [o.reshape(x.node, n, o.scalar(2, "int32"), shape=(None, None)), o.broadcast_to(x.node, n, shape=(None, 6))]
    (report,) = kgraph.check_rule(sized, tensors=tensors)
    assert report.applied == 2
    picky = rule_of(lambda x: x, p.flip(p.flip(X, axes=attr("a")), axes=attr("a")))
    with pytest.raises(RuleError, match=r"never applied.*\n  hint: attrs="):
        kgraph.check_rule(picky, attrs={"axes": ((7,),)})
    assert kgraph.check_rule(picky, attrs={"axes": ((0,),)})[0].applied == 100


def test_equal_seeds_try_the_same() -> None:
    first, again, other = (str(kgraph.check_rule(KEPT["x * 1"], seed=seed)[0]) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_what_computes_constants_computes_what_the_program_would() -> None:
    (report,) = kgraph.check_rule(next(rule for rule in fold if rule.name == "fold.constant"), graphs=300)
    assert report.applied == 300

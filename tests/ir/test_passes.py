"""Properties of the passes on random graphs: values, types and form are kept, nothing is left to do, rewrites are recorded."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import GraphError, IndexOutOfRange, MissingRule, RewriteWarning
from kgraph.ir.guards import guards
from kgraph.ir.listing import Listing
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.op import OPS
from kgraph.ir.passes import (
    ALWAYS,
    PIPELINE,
    Record,
    chosen,
    every_rule,
    fold,
    legalise,
    loops,
    run_pipeline,
    simplify,
    sink,
    specialise,
)  # fmt: skip
from kgraph.ir.passes.fold import LARGEST
from kgraph.ir.rewrite import Rules
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType, is_tuple
from kgraph.ir.verify import verify
from tests.ir.strategies import ALL, SMOOTH, Sample, built, graphs, quick

many = settings(quick, max_examples=50)

#: Those of the ops with a simpler form for which it computes the same bits.
EXACT = [OPS[name] for name in "expand_dims flip broadcast_like repeat tile size one_hot in_top_k cond".split()]
SIMPLE = {op for op in OPS.values() if op.expand is None}

#: The rules that may change the last digits of a float.
ROUNDING = sorted(rule.name for rule in every_rule() if rule.claim == "rounding")
exactly = Rules("simplify", [rule for rule in simplify if rule.claim == "exact"])

#: Name -> pass, given the phase. What computes a float in another order is not among them.
PASSES: dict[str, Callable[[Graph, int, Record], Graph]] = {
    "specialise": lambda graph, phase, record: specialise(graph, record, phase),
    "fold": lambda graph, phase, record: fold(graph, record),
    "simplify": lambda graph, phase, record: exactly(graph, record),
    "loops": lambda graph, phase, record: loops(graph, record),
    "sink": lambda graph, phase, record: sink(graph, record),
    "legalise": lambda graph, phase, record: legalise(graph, record, set(OPS.values()) - set(EXACT)),
    "pipeline": lambda graph, phase, record: run_pipeline(graph, phase, chosen(exclude=ROUNDING), record=record),
    "pipeline of what always runs": lambda graph, phase, record: run_pipeline(graph, phase, chosen(False), record=record),
}
RULES = {
    "specialise": {"learning_phase"}, "fold": {"branch", "size", "dynamic_size", "constant", "capture"}, "sink": {"switch", "known"},
    "simplify": {rule.name.partition(".")[2] for rule in exactly}, "legalise": {"expand"}, "loops": {"unread"},
}  # fmt: skip
each_pass = pytest.mark.parametrize("name", PASSES)


def run(name: str, sample: Sample, record: Record | None = None) -> Graph:
    return PASSES[name](sample.graph, sample.phase, Record() if record is None else record)


def assert_same(found: Iterable[Any], wanted: Iterable[Any]) -> None:
    """Asserts that values are equal, to the sign of zeros; NaN is equal to NaN."""
    for a, b in zip(found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b))


def refines(found: Any, given: Any) -> bool:
    """Whether a type says what another one does, and perhaps of more sizes."""
    if is_tuple(found) or is_tuple(given):
        return is_tuple(found) and is_tuple(given) and all(map(refines, found.items, given.items))
    ranks = found.dtype == given.dtype and len(found.shape) == len(given.shape)
    return ranks and all(was in (None, size) for size, was in zip(found.shape, given.shape, strict=True))


def nodes_of(graph: Graph) -> list[Node]:
    """Its nodes, those in bodies included."""
    nodes = toposort(graph.roots)
    return nodes + [inner for node in nodes for name in node.op.bodies for inner in nodes_of(node.attr(name))]


# ---------------------------------------------------------------------------------------------------- what every pass keeps


#: Half of the graphs are of all ops, half are mostly branches, of which the learning phase decides some.
special = st.one_of(graphs(special=True), graphs(["switch", "cast", "add", "negative"], special=True, steps=30))


@each_pass
@many
@given(sample=special)
def test_values_are_the_same_to_the_bit(name: str, sample: Sample) -> None:
    assert_same(sample.compute(run(name, sample)), sample.expected())


@settings(quick, max_examples=300)
@given(sample=graphs(SMOOTH, dtypes=("float64",)))
def test_rules_that_round_keep_values_up_to_rounding(sample: Sample) -> None:
    found = sample.compute(run_pipeline(sample.graph, sample.phase))
    for value, wanted in zip(found, sample.expected(), strict=True):
        assert value.dtype == wanted.dtype
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max(initial=1))


@each_pass
@many
@given(sample=graphs())
def test_the_result_is_well_formed_and_its_types_say_no_less(name: str, sample: Sample) -> None:
    found = run(name, sample)
    verify(found)
    assert found.inputs == sample.graph.inputs
    assert [v for v, _ in found.updates] == [v for v, _ in sample.graph.updates]
    assert all(refines(a.type, b.type) for a, b in zip(found.roots, sample.graph.roots, strict=True))


@each_pass
@many
@given(sample=graphs())
def test_a_second_time_there_is_nothing_to_do(name: str, sample: Sample) -> None:
    once = run(name, sample)
    record = Record()
    assert run(name, Sample(once, sample.feeds), record) == once
    assert record == []


@each_pass
@many
@given(sample=graphs())
def test_every_rewrite_is_on_record(name: str, sample: Sample) -> None:
    record = Record()
    found = run(name, sample, record)
    assert (record == []) == (found == sample.graph)
    for rewrite in record:
        assert rewrite.rule in RULES[rewrite.by]
        assert name.startswith("pipeline") or rewrite.by == name
        assert rewrite.before is not rewrite.after
        after, before = rewrite.after.type, rewrite.before.type
        if is_tuple(before) and not is_tuple(after):  # of an op with several results the first one is told
            before = before.items[0]
        if rewrite.by == "loops":
            assert set(after.items) <= set(before.items)
        else:
            assert refines(after, before)
        line = re.escape(f"{rewrite.before.op.name} -> {rewrite.after.op.name}, at {rewrite.before.origin}")
        assert re.fullmatch(f"{rewrite.by}: {rewrite.rule}: {line}", str(rewrite))
    # A node that is new is told of, or is one of the others over other operands (a parameter, for one, in a body).
    told = set(nodes_of(sample.graph)) | {node for rewrite in record for node in nodes_of(Graph((), [rewrite.after]))}
    heads = {(node.op, node.attrs) for node in told if node.op is not o.constant}
    for node in nodes_of(found):
        assert node in told or (node.op, node.attrs) in heads or node.op in REBUILT


#: What sink makes of a branch besides what it tells of, and what has attrs that follow from its operands, or a body.
REBUILT = (o.cond, o.scan, o.item, o.param, o.absent)


@each_pass
@many
@given(sample=graphs(special=True))
def test_what_is_on_record_has_the_value_of_what_it_replaced(name: str, sample: Sample) -> None:
    record = Record()
    run(name, sample, record)
    for rewrite in record:
        pair = Graph((), [rewrite.before, rewrite.after])
        inside = any(node.op is o.param for node in toposort(pair.roots))  # of a body, which has no values of its own
        if not inside and not is_tuple(rewrite.before.type) and rewrite.by != "specialise":
            before, after = sample.compute(pair)
            assert_same([before], [after])


@each_pass
@settings(quick, max_examples=40)
@given(sample=graphs())
def test_the_same_structure_is_rewritten_the_same_way(name: str, sample: Sample) -> None:
    one, two = Record(), Record()
    graph = run(name, sample, one)
    listing = Listing.of([*sample.graph.inputs, *sample.graph.roots])
    nodes = listing.build([twin(identity) for identity in listing.identities])
    inputs, roots = nodes[: len(sample.graph.inputs)], nodes[len(sample.graph.inputs) :]
    again = run(name, Sample(Graph(inputs, roots), sample.feeds), two)
    assert Listing.of(graph.roots).digest() == Listing.of(again.roots).digest()
    assert [str(r).partition(", at")[0] for r in one] == [str(r).partition(", at")[0] for r in two]


def twin(identity: Any) -> Any:
    """Another identity in the place of one; a value stays what it is."""
    return Identity(identity.name) if isinstance(identity, Identity) else identity


def test_every_rule_is_met_in_random_graphs() -> None:
    random, met = Random(0), set()
    for number in range(300):
        record = Record()
        ops = ALL if number % 3 else ["switch", "add", "tanh"]  # branches within branches
        sample = built([random.getrandbits(32) for _ in range(20)], ops)
        run("pipeline", sample, record)
        run("legalise", sample, record)
        met |= {(rewrite.by, rewrite.rule) for rewrite in record}
    # Those of simplify are too many, and too particular: each has rows of its own, in test_simplify.py.
    assert met >= {(by, rule) for by, rules in RULES.items() for rule in rules if by != "simplify"}
    assert len([rule for by, rule in met if by == "simplify"]) > 20


# ---------------------------------------------------------------------------------------------------- what each pass is for


@many
@given(sample=graphs())
def test_specialise_leaves_no_phase_and_nothing_else_changed(sample: Sample) -> None:
    for phase in (0, 1):
        record = Record()
        found = specialise(sample.graph, record, phase)
        nodes = toposort(found.roots)
        assert o.learning_phase() not in nodes
        needed = o.learning_phase() in toposort(sample.graph.roots)
        assert [(r.by, r.before.op, r.after) for r in record] == [
            ("specialise", o.learning_phase, o.scalar(phase, "uint8"))
        ] * needed
        assert len(nodes) <= len(toposort(sample.graph.roots))


@many
@given(sample=graphs())
def test_fold_leaves_nothing_that_is_known(sample: Sample) -> None:
    found = fold(sample.graph, Record())
    assert len(nodes_of(found)) <= len(nodes_of(sample.graph)) + sum(node.op is o.constant for node in nodes_of(found))
    for node in nodes_of(found):
        known = node.inputs and all(i.op is o.constant for i in node.inputs)
        kept = node.op in (o.identity, o.cond, o.item, o.fold_in) or node.op.effect or node.op is o.switch
        assert not known or kept or node.type.size is None or node.type.size > 4096 or raises(node)
        assert node.op is not o.switch or node.inputs[0].op is not o.constant
        assert node.op is not o.shape or not node.inputs[0].type.is_static
        if node.op.sized is not None:
            entries = node.attr(node.op.sized)
            filled = node.inputs[len(node.inputs) - entries.count(None) :] if None in entries else ()
            assert all(size.op is not o.constant for size in filled)


def raises(node: Node) -> bool:
    """Whether an op over constants fails: then the program raises that, and not the compiler."""
    try:
        assert node.op.numpy is not None
        node.op.numpy(*[i.attr("value").array for i in node.inputs], **dict(node.attrs))
    except (ValueError, IndexError):
        return True
    return False


def test_fold_takes_a_branch_of_equal_sides_for_either() -> None:
    x, c = K.placeholder((3,), name="x"), K.placeholder((), name="c")
    f = K.function([x, c], K.switch(c > 0, lambda: K.exp(x), lambda: K.exp(x)))
    assert [node.op.name for node in toposort(f.optimized().roots)] == ["placeholder", "exp"]
    np.testing.assert_array_equal(f([[0, 0, 0], 1]), [1, 1, 1])


@many
@given(sample=graphs())
def test_sink_leaves_no_branch_unfilled(sample: Sample) -> None:
    for graph in itertools.chain([found := sink(sample.graph, Record())], bodies(found)):
        order = toposort(graph.roots)
        sides = guards(order, graph.roots)
        for node in order:
            if node.op is o.switch:  # what it chooses from is needed whichever side is taken
                assert all(sides.get(i) is None for i in node.inputs[1:])


def bodies(graph: Graph) -> Iterable[Graph]:
    for node in toposort(graph.roots):
        for name in node.op.bodies:
            yield node.attr(name)
            yield from bodies(node.attr(name))


@many
@given(sample=graphs())
def test_legalise_leaves_what_has_rules_and_no_sources_changed(sample: Sample) -> None:
    found = legalise(sample.graph, Record(), SIMPLE)
    verify(found)
    assert {node.op for node in nodes_of(found)} <= SIMPLE
    assert all(refines(a.type, b.type) for a, b in zip(found.roots, sample.graph.roots, strict=True))
    assert sources(found) <= sources(sample.graph)
    assert legalise(sample.graph, Record(), set(OPS.values())) == sample.graph
    assert legalise(found, Record(), SIMPLE) == found


def sources(graph: Graph) -> set[Node]:
    """What a graph is given, constants aside."""
    return {node for node in toposort(graph.roots) if node.op.source and node.op is not o.constant}


@settings(quick, max_examples=100)
@given(sample=graphs([*SMOOTH, "switch", "cond", "log", "sqrt", "logsumexp", "relu"], dtypes=("float64",), special=True))
def test_legalise_to_the_fewest_ops_keeps_values_up_to_rounding(sample: Sample) -> None:
    for found, wanted in zip(sample.compute(legalise(sample.graph, Record(), SIMPLE)), sample.expected(), strict=True):
        assert found.dtype == wanted.dtype
        rtol = {"float64": 1e-10, "float32": 1e-5}.get(found.dtype.name, 0.0)
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol)


#: Ops of which the formulas are built that rounding rules are about.
FORMULAS = (*SMOOTH, "exp", "log", "log1p", "expm1", "square", "absolute", "divide", "maximum", "where", "stop_gradient")


@settings(quick, max_examples=200)
@given(sample=graphs(FORMULAS, dtypes=("float64",)))
def test_rounding_rules_keep_values_up_to_rounding(sample: Sample) -> None:
    nodes = [node for node in toposort(sample.graph.roots) if node.type.__class__ is TensorType and node.type.is_float]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RewriteWarning)
        found = run_pipeline(sample.graph, sample.phase)
    everything = sample.compute(Graph((), nodes))
    if any(not np.all(np.abs(x) < 1e3) for x in everything) or any(np.any((x != 0) & (np.abs(x) < 1e-3)) for x in everything):
        return  # formulas are as good as one another where values are moderate
    for value, wanted in zip(sample.compute(found), sample.expected(), strict=True):
        assert value.dtype == wanted.dtype
        np.testing.assert_allclose(value, wanted, rtol=1e-8, atol=1e-8)


# ---------------------------------------------------------------------------------------------------- particulars


def test_passes_run_in_the_order_of_the_pipeline_whichever_are_asked_for() -> None:
    assert chosen(True).names == tuple(PIPELINE)
    assert chosen(False).names == chosen([]).names == ALWAYS
    for names in itertools.permutations(PIPELINE):
        assert chosen(names).names == tuple(PIPELINE)
    assert chosen(iter(["fold"])).names == tuple(name for name in PIPELINE if name == "fold" or name in ALWAYS)
    x = K.placeholder((2,))
    record = Record()
    looped = K.foldl(lambda total, part: total + part, x)  # kept for a gradient that nobody asks for
    graph = Graph([x.node], [K.in_train_phase(K.switch(K.sum(x) > 0, x * (K.ones_like(x) + looped) * K.ones_like(x), x), x).node])
    run_pipeline(graph, 1, record=record, ops=SIMPLE)
    assert {r.by for r in record} >= set(RULES)
    alone = [r.by for r in record if r.by not in PIPELINE or not isinstance(PIPELINE[r.by], Rules)]  # sets of rules share a sweep
    order = ["specialise", *PIPELINE, "legalise"]
    assert alone == sorted(alone, key=order.index)


def test_what_fails_for_constants_is_left_to_the_program() -> None:
    rows, x = K.variable(np.ones((2, 2))), K.placeholder((2, 2))
    wrong = K.gather(np.eye(2, dtype="float32"), np.array([0, 7]))
    f = K.function([x], [x + wrong, rows], engine="numpy")
    assert f.optimized() == fold(f.graph, Record()) == f.graph
    with pytest.raises(IndexOutOfRange, match="(?s)^gather: .*7 is out of bounds.*test_passes.py"):
        f([np.zeros((2, 2))])


@pytest.mark.parametrize("size", [LARGEST, LARGEST + 1])
def test_a_constant_is_made_unless_it_is_large_and_of_something_small(size: int) -> None:
    row = o.constant_of(np.arange(size, dtype="float32"))
    grown = o.broadcast_to(o.scalar(2.0, "float32"), shape=(size,))
    found = fold(Graph((), [grown, row * row, o.sum(row, axis=(0,), keepdims=False), grown[:3] * 2.0]), Record()).roots
    large = size > LARGEST
    assert [root.op is o.constant for root in found] == [not large, True, True, not large]
    assert found[1].attr("value").array[-1] == (size - 1.0) ** 2


def test_a_size_that_gets_known_makes_types_more_precise_down_to_the_result() -> None:
    n, x = o.scalar(3, "int32"), o.placeholder(type=TensorType("float32", (6,)), uid=Identity())
    rows = o.reshape(x, n * 1, o.scalar(2, "int32"), shape=(None, None))
    (found,) = fold(Graph([x], [o.sum(rows, axis=(1,), keepdims=False)]), Record()).roots
    assert found.type is TensorType("float32", (3,))
    assert found.inputs[0].attr("shape") == (3, 2)


def test_a_simpler_form_says_as_much_of_its_sizes() -> None:
    x, n = [o.placeholder(type=TensorType(*type), uid=Identity()) for type in (("float32", (0, 3)), ("int32", ()))]
    for node in (o.tile(x, n, reps=(None, 1)), o.repeat(x, n, axis=0, repeats=(None,)), o.tile(x, n, n, reps=(None, None))):
        (found,) = legalise(Graph([x, n], [node]), Record(), SIMPLE).roots
        assert found.type is node.type
        assert found.type.shape[0] == 0  # none of them, however often


def test_what_has_no_rule_and_no_simpler_form_is_found_in_a_body_too() -> None:
    x = o.placeholder(type=TensorType("float32", ()), uid=Identity("x"))
    branch = sink(Graph([x], [o.switch(o.greater(x, o.scalar(0.0, "float32")), o.sin(x), x)]), Record())
    with pytest.raises(MissingRule) as caught:
        legalise(branch, Record(), set(OPS.values()) - {o.sin})
    assert caught.value.op == "sin"
    assert "test_passes.py" in str(caught.value)


def test_simpler_forms_that_go_in_a_circle_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(o.relu, "expand", lambda x: o.negative(o.sigmoid(x)))
    monkeypatch.setattr(o.sigmoid, "expand", lambda x: o.negative(o.relu(x)))
    x = o.placeholder(type=TensorType("float32", ()), uid=Identity("x"))
    with pytest.raises(GraphError, match="came to no end in 20 rounds"):
        legalise(Graph([x], [o.relu(x)]), Record(), {o.negative})


def test_what_a_pass_makes_comes_from_the_lines_of_what_it_replaces() -> None:
    x = K.placeholder((None, 2))
    n = K.shape(x)[1]
    y = K.switch(K.sum(x) > 0, lambda: K.relu(x), lambda: x * K.cast(n, "float32"))  # this line
    record = Record()
    found = run_pipeline(Graph([x.node], [y.node]), 0, ops=SIMPLE | {o.cond}, record=record)
    for node in [*nodes_of(found), *[r.after for r in record]]:
        if not node.op.source:
            assert re.search(r"test_passes.py:\d+$", str(node.origin)), node
    cond = next(node for node in nodes_of(found) if node.op is o.item).inputs[0]
    assert "# this line" in Path(__file__).read_text(encoding="utf-8").splitlines()[cond.origin.line - 1]

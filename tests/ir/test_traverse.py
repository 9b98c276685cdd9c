"""The walks of a graph against recursive ones, on random graphs; and at depths and widths where those come to no end."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.errors import DTypeError
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.origin import Origin, building
from kgraph.ir.traverse import reachable, rebuilt, sources, substitute, toposort
from kgraph.ir.types import TensorType
from tests.ir.steps import STEPS, compute
from tests.ir.strategies import Sample, graphs, quick

choices = st.integers(0, 2**32 - 1)  # seeds of what is chosen of a graph


def visit(outputs: Sequence[Node], stop: Collection[Node] = ()) -> list[Node]:
    """The oracle of toposort: by recursion, inputs from left to right, each node after its inputs."""
    found: list[Node] = []

    def go(node: Node) -> None:
        if node not in found:
            if node not in stop:
                for i in node.inputs:
                    go(i)
            found.append(node)

    for output in outputs:
        go(output)
    return found


def chain(x: Node, length: int) -> Node:
    for _ in range(length):
        x = o.cos(x)
    return x


def scalar(name: str | None = None) -> Node:
    return o.placeholder(type=TensorType("float32", ()), uid=Identity(name))


# ---------------------------------------------------------------------------------------------------- toposort


@settings(quick, max_examples=150)
@given(sample=graphs(tuple(STEPS)), seed=choices)
def test_the_order_is_that_of_a_recursive_visit(sample: Sample, seed: int) -> None:
    roots, random = list(sample.graph.roots), Random(seed)
    order = toposort(roots)
    assert order == visit(roots)
    assert len(set(order)) == len(order)
    at = {node: i for i, node in enumerate(order)}
    assert all(at[i] < at[node] for node in order for i in node.inputs)
    assert toposort(iter([*roots, *order])) == order  # those named again are not listed again

    stop = random.sample(order, random.randint(0, len(order)))
    cut = toposort(roots, stop=iter(stop))
    assert cut == visit(roots, stop)
    assert set(cut) <= set(order)

    given = list(sample.graph.inputs)
    assert toposort([*given, *roots])[: len(given)] == given


def test_of_nothing_there_is_no_order() -> None:
    x = scalar()
    assert toposort([]) == []
    assert toposort([x, x]) == [x]
    assert toposort([o.sin(x)], stop=[o.sin(x)]) == [o.sin(x)]
    assert toposort([o.sin(x)], stop=[scalar()]) == [x, o.sin(x)]


def test_a_node_given_is_an_end_even_where_it_is_above_another() -> None:
    x = scalar()
    a = o.sin(x)
    b = o.cos(a)
    assert toposort([b + a], stop=[b]) == [b, x, a, b + a]


def test_depth_costs_no_stack() -> None:
    assert sys.getrecursionlimit() == 1000
    x = scalar()
    y = chain(x, 50_000)
    assert len(order := toposort([y])) == 50_001
    assert order[0] is x and order[-1] is y
    assert all(later.inputs == (earlier,) for earlier, later in itertools.pairwise(order))
    z = scalar()
    (moved,) = substitute([y], {x: z})
    assert toposort([moved])[0] is z and len(toposort([moved])) == 50_001
    assert len(reachable(order, [x])) == 50_001


def test_a_path_count_that_doubles_with_each_step_costs_nothing() -> None:
    x = scalar()
    y = x
    for _ in range(200):
        y = o.add(y, o.sin(y))
    assert len(toposort([y])) == 401
    z = scalar()
    assert len(toposort(substitute([y], {x: z}))) == 401


def test_a_node_of_many_inputs_and_a_node_of_many_users() -> None:
    x = o.placeholder(type=TensorType("float32", (1,)), uid=Identity())
    parts = [x * float(i) for i in range(5000)]
    joined = o.concatenate(*parts, axis=0)
    order = toposort([joined])
    assert [node for node in order if node.op is o.multiply] == parts
    assert order[-1] is joined and order[0] is x
    assert toposort([joined], stop=parts) == [*parts, joined]


# ---------------------------------------------------------------------------------------------------- substitute


def replace(root: Node, replaced: Mapping[Node, Node], made: dict[Node, Node], called: list[Node]) -> Node:
    """The oracle of substitute: by recursion."""
    if root in replaced:
        return replaced[root]
    if root not in made:
        inputs = tuple(replace(i, replaced, made, called) for i in root.inputs)
        if inputs != root.inputs:
            called.append(root)
        made[root] = root if inputs == root.inputs else root.op.apply(inputs, root.attrs)
    return made[root]


@settings(quick, max_examples=150)
@given(sample=graphs(tuple(STEPS)), seed=choices)
def test_substitute_is_a_recursive_replacement(sample: Sample, seed: int) -> None:
    roots, random = list(sample.graph.roots), Random(seed)
    order = toposort(roots)
    changed = [node for node in random.sample(order, min(len(order), random.randint(0, 3))) if node.op is not o.cond]
    replaced = {node: o.identity(node, uid=Identity()) for node in changed}
    called: list[Node] = []
    made: dict[Node, Node] = {}
    wanted = [replace(root, replaced, made, called) for root in roots]
    assert substitute(roots, replaced) == wanted

    seen: list[Node] = []

    def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
        seen.append(node)
        assert list(inputs) == [replaced.get(i) or made[i] for i in node.inputs]
        return rebuilt(node, inputs)

    assert substitute(roots, replaced, rebuild) == wanted
    assert set(seen) == set(called) and len(seen) == len(called)
    seen.clear()
    assert substitute(roots, replaced, rebuild, every=True) == wanted
    assert seen == [node for node in toposort(roots, stop=replaced) if node not in replaced]
    for value, before in zip(sample.compute(Graph((), wanted)), sample.expected(), strict=True):
        np.testing.assert_array_equal(value, before)


def test_what_is_not_above_a_replaced_node_stays_as_it_is() -> None:
    x, y, z = scalar("x"), scalar("y"), scalar("z")
    left, right = o.sin(x), o.cos(y)
    (found,) = substitute([left + right], {y: z})
    assert found.inputs[0] is left
    assert found.inputs[1] is o.cos(z)
    assert substitute([x, left, y], {y: z}) == [x, left, z]
    assert substitute([left + right], {}) == [left + right]


def test_two_nodes_change_places() -> None:
    x, y = scalar("x"), scalar("y")
    assert substitute([o.subtract(x, y), x, y], {x: y, y: x}) == [o.subtract(y, x), y, x]


def test_what_a_replaced_node_was_made_of_is_not_looked_at() -> None:
    x, z = scalar(), scalar()
    inside = o.sin(x)
    outer = o.exp(inside)

    def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
        assert node is outer
        return rebuilt(node, inputs)

    assert substitute([outer], {inside: z}, rebuild, every=True) == [o.exp(z)]


def test_a_node_that_is_rebuilt_comes_from_the_same_line() -> None:
    x, y = scalar(), scalar()
    building.origin = Origin("model.py", "sin", "scope", line=7)
    try:
        node = o.sin(x)
    finally:
        building.origin = None
    (found,) = substitute([node], {x: y})
    assert found is not node
    assert found.origin is node.origin
    assert building.origin is None

    def fails(node: Node, inputs: tuple[Node, ...]) -> Node:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        substitute([node], {x: y}, fails)
    with pytest.raises(DTypeError, match=r"^sin: int64 is no float dtype\n(.*\n)+  at model.py:7\n"):
        substitute([node], {x: o.stream(uid=Identity())})
    assert building.origin is None


# ---------------------------------------------------------------------------------------------------- bodies


def branch(x: Node) -> Node:
    """A cond over a value, and a branch of a branch in it."""
    given = [o.param(index=0, type=x.type)]
    twice, square = Graph(given, [given[0] + given[0]]), Graph(given, [o.square(given[0])])
    positive = o.greater(o.sum(given[0], axis=(0,), keepdims=False), o.scalar(0.0, x.dtype))
    inner = Graph(given, [o.item(o.cond(positive, *given, then=twice, orelse=square), index=0)])
    return o.item(o.cond(o.not_equal(o.learning_phase(), o.scalar(0, "uint8")), x, then=inner, orelse=square), index=0)


def bodies(node: Node) -> list[Graph]:
    found = [value for _, value in node.attrs if isinstance(value, Graph)]
    return [*found, *(inner for body in found for below in toposort(body.outputs) for inner in bodies(below))]


def test_a_body_gets_parameters_of_the_types_that_it_is_given() -> None:
    loose, known = (o.placeholder(type=TensorType("float32", shape), uid=Identity()) for shape in ((None,), (3,)))
    node = branch(loose)
    assert node.type.shape == (None,)
    (found,) = substitute([node], {loose: known})
    assert found.type.shape == (3,)
    assert found is branch(known)
    for body in bodies(found.inputs[0]):
        assert [p.type.shape for p in body.inputs] == [(3,)]
        assert [p.attr("index") for p in body.inputs] == [0]
    for value, wanted in (([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), ([-1.0, 0.0, 0.5], [1.0, 0.0, 0.25])):
        (result,) = compute([found], {known: np.array(value, "float32"), o.learning_phase(): np.uint8(1)})
        np.testing.assert_array_equal(result, wanted)


def test_a_body_given_the_same_types_stays_the_same() -> None:
    x, y = (o.placeholder(type=TensorType("float32", (2,)), uid=Identity()) for _ in range(2))
    node = branch(x)
    (found,) = substitute([node], {x: y})
    assert found is not node
    for before, after in zip(bodies(node.inputs[0]), bodies(found.inputs[0]), strict=True):
        assert after is before


def test_bodies_are_changed_by_the_function_given() -> None:
    x = o.placeholder(type=TensorType("float32", (2,)), uid=Identity())
    cond = branch(x).inputs[0]
    seen: list[Graph] = []

    def change(body: Graph) -> Graph:
        seen.append(body)
        return body.with_roots([o.negative(output) for output in body.outputs])

    found = rebuilt(cond, cond.inputs, change)
    assert seen == [cond.attr("orelse"), cond.attr("then")]
    for name in ("then", "orelse"):
        assert found.attr(name).outputs == tuple(o.negative(output) for output in cond.attr(name).outputs)
    assert rebuilt(cond, cond.inputs, lambda body: body) is cond
    assert rebuilt(cond, cond.inputs) is cond


# ---------------------------------------------------------------------------------------------------- reachable, sources


@settings(quick, max_examples=150)
@given(sample=graphs(tuple(STEPS)), seed=choices)
def test_what_is_reachable_has_a_path_to_a_source(sample: Sample, seed: int) -> None:
    random = Random(seed)
    order = toposort(sample.graph.roots)
    chosen = set(random.sample(order, random.randint(0, min(3, len(order)))))
    blocked = set(random.sample(order, random.randint(0, len(order) // 3)))

    def has_path(node: Node, through: Callable[[Node], bool]) -> bool:
        return node in chosen or (through(node) and any(has_path(i, through) for i in node.inputs))

    assert reachable(order, iter(chosen)) == {node for node in order if has_path(node, lambda n: True)}
    passes = lambda n: n not in blocked  # noqa: E731
    assert reachable(order, chosen, passes) == {node for node in order if has_path(node, passes)}


def test_a_source_counts_wherever_it_is_and_whether_it_lets_pass_or_not() -> None:
    x, y, elsewhere = scalar(), scalar(), scalar()
    a = o.sin(x)
    order = toposort([a + y])
    assert reachable(order, [elsewhere]) == {elsewhere}
    assert reachable(order, [a], lambda node: False) == {a}
    assert reachable(order, [x], lambda node: node is not a) == {x}
    assert reachable(order, []) == set()


@quick
@given(graphs())
def test_sources_of_one_op_are_listed_in_order(sample: Sample) -> None:
    order = toposort(sample.graph.roots)
    for name in ("placeholder", "variable", "constant", "learning_phase"):
        assert sources(iter(order), name) == [node for node in order if node.op is o.OPS[name]]
    assert {node for node in order if not node.inputs} >= set(sources(order, "placeholder"))

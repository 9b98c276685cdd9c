"""Flat listings: equal for graphs of one structure, whatever their names, identities and lines; different for any others."""

from __future__ import annotations

import itertools
import pickle
from array import array
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.ir.listing import LARGE_CONSTANT, Listing, Slot, is_large
from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.origin import Origin, building
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from tests.ir.steps import STEPS
from tests.ir.strategies import ALL, Sample, built, graphs, quick, twins
from tests.process import run_python

#: Identities within bodies tell nothing from outside, so that a listing does not hold them apart.
NOT_IN_BODIES = tuple(name for name in ALL if name != "identity")


def placeholder(dtype: str = "float32", shape: tuple[int | None, ...] = (3,), name: str | None = None) -> Node:
    return o.placeholder(type=TensorType(dtype, shape), uid=Identity(name))


def flat(graph: Graph) -> list[Node]:
    return [*graph.inputs, *graph.roots]


def digest(*nodes: Node) -> bytes:
    return Listing.of(nodes).digest()


# ---------------------------------------------------------------------------------------------------- structure


def structure(roots: Sequence[Node], values: bool = False) -> Any:
    """The oracle: all that matters of a graph, with nodes and identities numbered in the order of a visit.

    Args:
      values: of large constants count too: in bodies.
    """
    numbers: dict[Node, int] = {}
    identities: dict[Any, int] = {}
    rows: list[Any] = []

    def attr(value: Any) -> Any:
        if isinstance(value, Graph):
            return "body", len(value.inputs), len(value.outputs), structure([*value.inputs, *value.roots], values=True)
        if isinstance(value, Identity):
            return "identity", identities.setdefault(value, len(identities))
        if isinstance(value, Constant):
            known = (value.array.dtype.name, value.array.shape)
            if value.array.nbytes > LARGE_CONSTANT and not values:
                return "large", *known, identities.setdefault(value, len(identities))
            return "constant", *known, value.array.tobytes()
        if isinstance(value, tuple):
            return tuple(map(attr, value))
        return type(value).__name__, value

    def go(node: Node) -> int:
        if node not in numbers:
            inputs = [go(i) for i in node.inputs]
            rows.append((node.op.name, *inputs, *((name, attr(value)) for name, value in node.attrs)))
            numbers[node] = len(numbers)
        return numbers[node]

    return [go(root) for root in roots], rows


@settings(quick, max_examples=100)
@given(twins(tuple(STEPS)))
def test_graphs_of_one_structure_have_equal_rows_and_digests_and_other_identities(pair: tuple[Sample, Sample]) -> None:
    one, other = (Listing.of(flat(sample.graph)) for sample in pair)
    assert structure(flat(pair[0].graph)) == structure(flat(pair[1].graph))
    assert (one.rows, one.widths, one.outputs) == (other.rows, other.widths, other.outputs)
    assert len(one.heads) == len(other.heads)
    assert one.digest() == other.digest()
    assert one.digest("numpy", 2) == other.digest("numpy", 2)
    assert len(one.identities) == len(other.identities)
    assert not set(one.identities) & set(other.identities)
    names = [identity.name for identity in one.identities if identity.name]
    assert [identity.name for identity in other.identities if identity.name] == [f"other {name}" for name in names]


def test_digests_are_equal_if_and_only_if_structures_are() -> None:
    random = Random(0)
    digests: dict[bytes, Any] = {}
    structures: dict[str, bytes] = {}
    for ops, steps in ((ALL, 8), (("add", "multiply", "sin", "sum", "where"), 3), (("cond", "sin", "add"), 3)):
        for _ in range(400):
            graph = built([random.randint(0, 3), *[random.randint(0, 3) for _ in range(steps)]], ops).graph
            for roots in (graph.outputs, flat(graph)):
                found, spelled = Listing.of(roots).digest(), repr(structure(roots))
                assert digests.setdefault(found, spelled) == spelled
                assert structures.setdefault(spelled, found) == found
    assert 500 < len(digests) < 1800  # of 2400


DIFFERENT: dict[str, Callable[[], list[Node]]] = {
    "an op": lambda: [o.sin(placeholder())],
    "another op": lambda: [o.cos(placeholder())],
    "the dtype of a source": lambda: [o.sin(placeholder("float64"))],
    "a size of a source": lambda: [o.sin(placeholder(shape=(4,)))],
    "an unknown size of a source": lambda: [o.sin(placeholder(shape=(None,)))],
    "the kind of a source": lambda: [o.sin(o.variable(type=TensorType("float32", (3,)), uid=Identity()))],
    "an attr": lambda: [o.cast(placeholder(), dtype="float64")],
    "another attr": lambda: [o.cast(placeholder(), dtype="float16")],
    "a number": lambda: [placeholder() * 2.0],
    "another number": lambda: [placeholder() * 3.0],
    "the sign of a zero": lambda: [placeholder() * 0.0],
    "another sign of a zero": lambda: [placeholder() * -0.0],
    "NaN": lambda: [placeholder() * np.nan],
    "the text of a print": lambda: [o.print_(placeholder(), uid=Identity(), message="a")],
    "another text of a print": lambda: [o.print_(placeholder(), uid=Identity(), message="b")],
    "two sources": lambda: [placeholder() + placeholder()],
    "one source, twice": lambda: [(x := placeholder()) + x],
    "an output": lambda: [x := placeholder(), o.sin(x)],
    "the order of outputs": lambda: [o.sin(x := placeholder()), x],
    "an output twice": lambda: [x := placeholder(), o.sin(x), x],
    "the order of inputs": lambda: [x := placeholder(), y := placeholder(), o.subtract(x, y)],
    "another order of inputs": lambda: [x := placeholder(), y := placeholder(), o.subtract(y, x)],
    "one identity": lambda: [(y := o.identity(placeholder(), uid=Identity())) + y],
    "two identities": lambda: [o.identity(x := placeholder(), uid=Identity()) + o.identity(x, uid=Identity())],
    "one draw": lambda: [(y := draw(o.stream(uid=Identity()))) + y],
    "two draws of a stream": lambda: [draw(key := o.stream(uid=Identity())) + draw(key, (1,))],
    "two streams": lambda: [draw(o.stream(uid=Identity())) + draw(o.stream(uid=Identity()), (1,))],
    "nothing": list,
}


def draw(key: Node, shape: tuple[int, ...] = ()) -> Node:
    return o.random_uniform(key, shape=shape, dtype="float32")


def test_what_matters_makes_another_digest() -> None:
    digests = {name: digest(*build()) for name, build in DIFFERENT.items()}
    assert digests == {name: digest(*build()) for name, build in DIFFERENT.items()}
    for (one, x), (other, y) in itertools.combinations(digests.items(), 2):
        assert x != y, f"{one}, {other}"


def test_how_many_inputs_each_node_has_makes_another_digest() -> None:
    def joined(*parts: list[int]) -> list[Node]:
        """x, and one after the other what joins the nodes of these numbers."""
        nodes = [placeholder(shape=(None,))]
        for part in parts:
            nodes.append(o.concatenate(*[nodes[i] for i in part], axis=0))
        return nodes

    # Written one after the other, the numbers of both are the same.
    one, other = joined([0], [1, 0], [2], [0, 1], [3, 1, 0, 2]), joined([0], [1, 0], [2, 1, 0, 1], [3], [0, 2])
    assert Listing.of(one).rows == Listing.of(other).rows
    assert digest(*one) != digest(*other)


def test_where_and_under_what_name_makes_no_other_digest() -> None:
    plain = o.sin(placeholder(name="x"))
    with K.name_scope("scope"):
        scoped = o.sin(placeholder(name="y"))
    building.origin = Origin("elsewhere.py", "call", "", role="gradient", line=3)
    try:
        elsewhere = o.sin(placeholder())
    finally:
        building.origin = None
    assert digest(plain) == digest(scoped) == digest(elsewhere)


def test_the_context_of_a_digest_counts_its_parts_one_by_one() -> None:
    listing = Listing.of([placeholder()])
    contexts: list[tuple[Any, ...]] = [(), ("a",), ("a", ""), ("", "a"), ("a, b",), ("a", "b"), (1,), ("1",), (12,), (1, 2), (None,), (("a", "b"),)]
    assert len({listing.digest(*context) for context in contexts}) == len(contexts)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "1", "int:1", "a,b", "(", "')", "None", "\n"]),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


def exact(value: Any) -> Any:
    """A value that is equal to another only if their types are too: 1 == True otherwise."""
    return tuple(map(exact, value)) if isinstance(value, tuple) else (type(value).__name__, value)


def of(*heads: tuple[str, Any]) -> bytes:
    """The digest of heads alone."""
    empty = array("q")
    return Listing(empty, empty, [(name, (("attr", value),)) for name, value in heads], [], [], [], empty).digest()


ALIKE = ["a", ("a",), ("a", "b"), ("a,b",), ("a,str:b",), ("a',str:'b",), "('a', 'b')", "float32[3]", TensorType("float32", (3,)), 1, True, "1", (), ((),), None, "None"]


def test_attrs_that_look_alike_are_told_apart() -> None:
    assert len({of(("op", value)) for value in ALIKE}) == len(ALIKE)


@settings(quick, max_examples=150)
@given(one=values, other=values)
def test_attrs_are_spelled_so_that_no_two_are_one(one: Any, other: Any) -> None:
    for x, y in ((one, other), (one, (one,)), ((one, other), ((one, other),)), ((one, (other,)), ((one,), other))):
        assert (of(("op", x)) == of(("op", y))) == (exact(x) == exact(y))
    assert of(("op", one), ("op", other)) != of(("op", one))


def test_a_digest_is_the_same_in_every_process() -> None:
    program = """
import random
from kgraph.ir.listing import Listing
from tests.ir.strategies import built
for seed in range(30):
    graph = built([random.Random(seed + i).getrandbits(32) for i in range(15)]).graph
    print(Listing.of([*graph.inputs, *graph.roots]).digest("context").hex())
"""
    first, second = (run_python(program, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second
    assert len(set(first.split())) == 30


# ---------------------------------------------------------------------------------------------------- building again


@settings(quick, max_examples=100)
@given(twins(NOT_IN_BODIES))
def test_with_the_identities_of_another_graph_a_listing_builds_the_other_graph(pair: tuple[Sample, Sample]) -> None:
    one, other = (sample.graph for sample in pair)
    listing, given_identities = Listing.of(flat(one)), Listing.of(flat(other)).identities
    assert listing.build(given_identities) == flat(other)
    assert listing.build() == flat(one)
    assert listing.nodes() == toposort(flat(one))
    assert listing.nodes(given_identities) == toposort(flat(other))
    assert building.origin is None


@settings(quick, max_examples=50)
@given(graphs(tuple(STEPS)))
def test_a_pickled_listing_has_the_same_digest_and_builds_a_graph_of_its_own(sample: Sample) -> None:
    listing = Listing.of(flat(sample.graph))
    twin = pickle.loads(pickle.dumps(listing))
    assert twin.digest() == listing.digest()
    assert not set(twin.identities) & set(listing.identities)
    again = twin.build()
    assert structure(again) == structure(flat(sample.graph))
    assert [node.type for node in again] == [node.type for node in flat(sample.graph)]
    # A print or an identity within a body is another one in a pickle, but the listing of the body is the same.
    assert Listing.of(again).digest() == listing.digest()


@quick
@given(graphs())
def test_an_order_that_is_given_is_used(sample: Sample) -> None:
    roots = sample.graph.roots
    one, other = Listing.of(roots), Listing.of(roots, toposort(roots))
    assert (one.rows, one.heads, one.identities, one.origin_rows) == (other.rows, other.heads, other.identities, other.origin_rows)


def test_heads_and_origins_are_held_once_and_rows_name_them() -> None:
    x, y = placeholder(), placeholder()
    building.origin = Origin("model.py", "sum", "", line=1)
    try:
        total = o.sin(x) + o.sin(y) + o.sin(x)
    finally:
        building.origin = None
    listing = Listing.of([total, x])
    type = TensorType("float32", (3,))
    assert listing.heads == [("placeholder", (("type", type), ("uid", Slot(0)))), ("sin", ()), ("placeholder", (("type", type), ("uid", Slot(1)))), ("add", ())]
    assert list(listing.rows) == [0, 1, 0, 2, 1, 2, 3, 1, 3, 3, 4, 1]
    assert list(listing.widths) == [0, 1, 0, 1, 2, 2]
    assert listing.outputs == [5, 0]
    assert listing.identities == [x.attr("uid"), y.attr("uid")]
    assert [listing.origins[i][0] for i in listing.origin_rows] == [node.origin for node in toposort([total])]


def test_what_is_built_comes_from_the_lines_of_the_listing() -> None:
    building.origin = Origin("model.py", "sin", "scope", line=5)
    try:
        y = o.sin(placeholder(name="x"))
    finally:
        building.origin = None
    (again,) = pickle.loads(pickle.dumps(Listing.of([y]))).build()
    assert repr(again.origin) == repr(y.origin) == "<sin at model.py:5 in scope, forward>"
    listing = Listing.of([y])
    listing.heads = [listing.heads[0], ("no such op", ())]
    with pytest.raises(KeyError, match="no such op"):
        listing.build()
    listing.heads = [listing.heads[0], ("cumsum", (("axis", 5),))]
    listing.build([Identity()])
    assert building.origin is None


# ---------------------------------------------------------------------------------------------------- large constants


def test_a_large_constant_is_held_apart_with_its_type_in_its_place() -> None:
    edge = LARGE_CONSTANT // 4
    assert not is_large(Constant(np.zeros(edge, "float32")))
    assert is_large(Constant(np.zeros(edge + 1, "float32")))
    assert not is_large(np.zeros(9999))
    x = placeholder(shape=())
    node = o.constant_of(np.arange(1000.0))
    listing = Listing.of([x * 2.0 + 1.0, node])
    assert listing.identities == [x.attr("uid"), node.attr("value")]
    assert ("constant", (("value", Slot(1, TensorType("float64", (1000,)))),)) in listing.heads
    (found,) = Listing.of([node]).build([Constant(np.ones(1000))])
    assert found is o.constant_of(np.ones(1000))


def test_the_value_of_a_large_constant_is_in_no_digest_and_its_type_is() -> None:
    x = placeholder(shape=())
    zeros, ones = np.zeros(1000, "float32"), np.ones(1000, "float32")
    large = lambda value: o.broadcast_like(x, o.constant_of(value))  # noqa: E731
    assert digest(large(zeros)) == digest(large(ones))
    others = [zeros.astype("int32"), zeros[:999], zeros.reshape(10, 100), zeros[:2], ones[:2]]
    assert len({digest(large(value)) for value in (zeros, *others)}) == 6
    assert digest(large(zeros), large(zeros)) == digest(large(ones), large(ones))
    assert digest(large(zeros), large(ones)) == digest(large(ones), large(zeros)) != digest(large(ones), large(ones))


def branch(value: Any) -> Node:
    x = placeholder(shape=(1000,))
    given = [o.param(index=0, type=x.type)]
    bodies = Graph(given, [given[0] + o.constant_of(np.float32(value))]), Graph(given, given)
    return o.item(o.cond(placeholder("bool", ()), x, then=bodies[0], orelse=bodies[1]), index=0)


def test_the_value_of_a_large_constant_in_a_body_is_in_the_digest() -> None:
    zeros, ones = np.zeros(1000), np.ones(1000)
    assert digest(branch(zeros)) == digest(branch(zeros.copy()))
    assert digest(branch(zeros)) != digest(branch(ones))
    assert digest(branch(0.0)) != digest(branch(1.0))
    assert digest(branch(0.0)) != digest(branch(zeros))


def test_functions_with_other_large_constants_in_their_branches_are_other_functions(engine: str) -> None:
    c, x = K.placeholder(()), K.placeholder((1000,))
    for shift in (1.0, 2.0, 1.0):
        value = np.full(1000, shift)
        value[0] = 9
        f = K.function([c, x], [K.switch(c, lambda value=value: x + value, lambda: x)])
        np.testing.assert_array_equal(f([1, np.zeros(1000)])[0], value)
        np.testing.assert_array_equal(f([0, np.zeros(1000)])[0], np.zeros(1000))


def test_slots_are_equal_by_number_and_type() -> None:
    kind = TensorType("float32", (9,))
    assert Slot(1) == Slot(1) != Slot(2)
    assert Slot(1, kind) == Slot(1, kind) != Slot(1)
    assert len({Slot(1), Slot(1), Slot(1, kind), Slot(1, kind)}) == 2
    assert pickle.loads(pickle.dumps(Slot(1, kind))) == Slot(1, kind)

"""Nodes: equal structure is one object, for as long as somebody holds it; constants, identities, graphs."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.ir.listing import Listing
from kgraph.ir.node import NODES, Constant, Graph, Identity, Node, describe
from kgraph.ir.op import OPS
from kgraph.ir.origin import Origin, building
from kgraph.ir.traverse import toposort
from kgraph.ir.types import DTYPES, TensorType, numpy_dtype
from tests.ir.steps import STEPS
from tests.ir.strategies import Sample, built, graphs, quick, seeds


def placeholder(dtype: str = "float32", shape: tuple[int | None, ...] = (3,), name: str | None = None) -> Node:
    return o.placeholder(type=TensorType(dtype, shape), uid=Identity(name))


@contextmanager
def originating(origin: Origin) -> Iterator[None]:
    """What is built inside the block comes from this line."""
    building.origin = origin
    try:
        yield
    finally:
        building.origin = None


# ---------------------------------------------------------------------------------------------------- interning


@settings(quick, max_examples=100)
@given(graphs(tuple(STEPS)))
def test_building_the_same_again_gives_the_same_nodes(sample: Sample) -> None:
    order = toposort(sample.graph.roots)
    for node in order:
        assert node.op.apply(node.inputs, node.attrs) is node
        assert node.op(*node.inputs, **dict(node.attrs)) is node
    again = Listing.of(sample.graph.roots)
    assert all(x is y for x, y in zip(again.build(), sample.graph.roots, strict=True))
    keys = [(node.op, node.inputs, node.attrs) for node in order]
    assert len(set(keys)) == len(order)  # no two nodes are the same thing


@settings(quick, max_examples=100)
@given(seeds(12))
def test_dropped_nodes_are_gone_without_the_garbage_collector(found: list[int]) -> None:
    gc.disable()
    try:
        held = built(found)  # some of what it is made of may stay for the next: types, numbers, but no node
        before = len(NODES)
        other = built(found)
        assert len(NODES) > before
        del other
        assert len(NODES) == before
        del held
    finally:
        gc.enable()


def test_what_is_still_used_stays_and_what_is_not_goes() -> None:
    x = placeholder()
    middle = x * 3.0
    top = o.sin(middle)
    node, above = weakref.ref(middle), weakref.ref(top)
    del middle
    assert node() is top.inputs[0]
    del top
    assert node() is above() is None
    assert (x * 3.0).inputs[0] is x


DIFFERENT: list[Callable[[Node, Node], Node]] = [
    lambda x, y: o.subtract(x, y),
    lambda x, y: o.subtract(y, x),
    lambda x, y: o.subtract(x, x),
    lambda x, y: o.add(x, y),
    lambda x, y: o.add(y, x),
    lambda x, y: o.sum(x, axis=(), keepdims=False),
    lambda x, y: o.sum(x, axis=(0,), keepdims=False),
    lambda x, y: o.sum(x, axis=(0,), keepdims=True),
    lambda x, y: o.cast(x, dtype="float64"),
    lambda x, y: o.cast(x, dtype="float16"),
    lambda x, y: o.identity(x, uid=Identity()),
    lambda x, y: o.identity(x, uid=Identity()),
    lambda x, y: o.placeholder(type=x.type, uid=Identity("x")),
    lambda x, y: o.placeholder(type=x.type, uid=Identity("x")),
    lambda x, y: o.print_(x, uid=Identity(), message=""),
    lambda x, y: o.print_(x, uid=Identity(), message=""),
    lambda x, y: o.stream(uid=Identity()),
    lambda x, y: o.stream(uid=Identity()),
    lambda x, y: o.absent(type=x.type),
]


def test_nodes_that_differ_in_op_order_of_inputs_attrs_or_identity_are_different() -> None:
    x, y = placeholder(), placeholder()
    made = [build(x, y) for build in DIFFERENT]
    assert len(set(made)) == len(made)
    assert not any(a == b for a, b in itertools.combinations(made, 2))


def test_an_attr_too_many_or_too_few_or_of_another_name_is_refused() -> None:
    x = placeholder()
    with pytest.raises(TypeError, match=r"^sum takes the attrs \('axis', 'keepdims'\), not \('axis',\)$"):
        o.sum(x, axis=(0,))
    with pytest.raises(TypeError):
        o.sin(x, axis=0)
    with pytest.raises(KeyError):
        o.cumsum(x, axes=(0,))
    assert o.cumsum(x, axis=0).attr("axis") == 0
    with pytest.raises(KeyError, match="keepdims"):
        o.cumsum(x, axis=0).attr("keepdims")


def test_an_op_of_each_name_is_the_one_in_the_table_in_pickles_too() -> None:
    for name, op in OPS.items():
        assert op.name == name
        assert pickle.loads(pickle.dumps(op)) is copy.deepcopy(op) is op
        assert repr(op) == f"<op {name}>"
    count = len(OPS)
    with pytest.raises(ValueError, match="there are two ops named 'add'"):
        type(o.add)("add", o.add.type_rule)
    assert OPS["add"] is o.add and len(OPS) == count


def test_a_node_that_dies_in_one_thread_while_another_builds_it_is_there_or_made_anew() -> None:
    x = placeholder()
    stop = threading.Event()
    wrong: list[Any] = []

    def build_and_drop() -> None:
        while not stop.is_set():
            node = o.sin(o.cos(x))
            if node.op is not o.sin or node.inputs[0].inputs != (x,) or o.sin(o.cos(x)) is not node:
                wrong.append(node)

    threads = [threading.Thread(target=build_and_drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        build_once = o.sin(o.cos(x))
        assert build_once.inputs[0] is o.cos(x)
        del build_once
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------------------------------------------- constants


NUMBERS: list[Any] = [0, 1, -1, 0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, True, False, 0.1]


def test_constants_are_told_apart_by_dtype_shape_and_bits() -> None:
    arrays = []
    for number, name, shape in itertools.product(NUMBERS, DTYPES, [(), (1,), (1, 1), (2,)]):
        if np.isfinite(number) or name.startswith("float"):
            arrays.append(np.full(shape, number).astype(name))
    arrays += [np.zeros(s, d) for s in [(0,), (0, 2), (2, 0)] for d in ("bool", "float32")]
    arrays += [np.arange(12.0).reshape(s) for s in [(12,), (3, 4), (4, 3)]] + [np.arange(12.0).reshape(4, 3).T]
    keys = [(a.dtype.name, a.shape, a.tobytes()) for a in arrays]
    nodes = [o.constant_of(a) for a in arrays]
    assert len(set(nodes)) == len(set(keys)) > 100
    for key, node in zip(keys, nodes, strict=True):
        assert node is nodes[keys.index(key)]
        assert (node.dtype, node.type.shape) == key[:2]
        assert hash(node.attr("value")) == hash(nodes[keys.index(key)].attr("value"))


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("count", [1, 5, 300])
def test_a_constant_is_the_same_in_any_layout_and_byte_order(name: str, count: int) -> None:
    array = (np.arange(6 * count) % 2).reshape(2 * count, 3).astype(name)
    node = o.constant_of(array)
    turned = array.astype(np.dtype(name).newbyteorder(">")), array.astype(np.dtype(name).newbyteorder("<"))
    for same in (np.asfortranarray(array), array.repeat(2, 0)[::2], array[::-1][::-1], *turned):
        assert o.constant_of(same) is node
        np.testing.assert_array_equal(node.attr("value").array, array)
    assert node.attr("value").array.dtype == numpy_dtype(name)
    if array.itemsize > 1:  # the same bytes, read the other way round, are other numbers
        other = turned[0].view(np.dtype(name).newbyteorder("<"))
        assert o.constant_of(other) is not node
        np.testing.assert_array_equal(K.eval(K.zeros(other.shape, name) + other), other)


@pytest.mark.parametrize("size", [1, 8, 1000])
def test_a_constant_keeps_its_value_whatever_becomes_of_the_array(size: int) -> None:
    array = np.arange(float(size))
    node = o.constant_of(array)
    array[0] = 99.0
    value = node.attr("value").array
    assert value[0] == 0
    assert o.constant_of(array) is not node
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1.0


@given(value=st.floats(width=64))
@quick
def test_a_scalar_is_the_constant_of_that_number(value: float) -> None:
    node = o.scalar(value, "float64")
    assert node.attr("value").array.tobytes() == np.float64(value).tobytes()
    assert node.type is TensorType("float64", ())
    assert o.scalar(value, "float64") is node is o.constant_of(np.float64(value))


def test_repr_of_a_constant_is_short() -> None:
    shown = {
        "[1.5, 2. ]": [1.5, 2.0], "[[1, 2], [3, 4]]": [[1, 2], [3, 4]], "True": True, "-0.": -0.0, "nan": np.nan, "[]": [], "[0, 1, 2, 3, 4, 5, 6, 7]": range(8),
        "<72 bytes>": range(9), "<80000 bytes>": np.zeros((100, 100)), "0.123457": 0.123456789,
    }  # fmt: skip
    for text, value in shown.items():
        assert repr(Constant(np.array(value))) == text


# ---------------------------------------------------------------------------------------------------- identities, names


def test_identities_compare_by_identity_and_are_ordered_by_birth() -> None:
    first, second = Identity("name"), Identity("name")
    assert first != second and len({first, second}) == 2
    assert first.number < second.number < Identity().number
    assert repr(first) == "Identity('name')"
    assert repr(anonymous := Identity()) == f"Identity({anonymous.number})"
    one, two, other = pickle.loads(pickle.dumps([first, first, second]))
    assert one is two and one is not other and one is not first
    assert one.name == "name" and one.number > second.number


def test_a_node_is_described_by_its_name_its_value_or_its_line() -> None:
    with originating(Origin("model.py", "dense", "", line=12)):
        x = placeholder(shape=(None, 2), name="images")
        assert describe(x) == "float32[?, 2]  placeholder 'images'"
        assert describe(o.identity(x, uid=Identity("mine"))) == "float32[?, 2]  identity 'mine'"
        assert describe(placeholder()) == "float32[3]  dense (placeholder) at model.py:12"
        assert describe(o.constant_of(np.int8(3))) == "int8[]  constant 3"
        assert describe(o.tanh(x)) == "float32[?, 2]  dense (tanh) at model.py:12"
        assert x.name == "images" and o.tanh(x).name is None
    with originating(Origin("model.py", "tanh", "", line=13)):
        y = o.tanh(x * 2.0)
        assert describe(y) == "float32[?, 2]  tanh at model.py:13"
        assert repr(y) == f"<node {describe(y)}>"
    with originating(Origin("model.py", "", "", line=14)):
        assert describe(o.tanh(x * 3.0)) == "float32[?, 2]  tanh at model.py:14"


def test_a_node_remembers_the_first_places_where_it_was_built_and_the_last() -> None:
    x = placeholder()
    places = [Origin("model.py", "sin", "", line=i) for i in range(1, 8)]
    with originating(places[0]):
        node = o.sin(x)
    for place in places * 2:
        with originating(place):
            assert o.sin(x) is node
        assert node.origin is places[0]
        assert place in node.origins
        assert 1 <= len(node.origins) <= 4
        assert len(set(node.origins)) == len(node.origins)
    assert node.origins[:3] == tuple(places[:3])


# ---------------------------------------------------------------------------------------------------- as Python values


@pytest.mark.parametrize("use", [float, int, complex, len, list, iter, tuple, sorted, lambda x: 1.0 in x, lambda x: [1][x], range])
@pytest.mark.parametrize("shape", [(), (3,), (None,)], ids=str)
def test_a_node_is_no_number_and_no_sequence(use: Callable[[Any], Any], shape: tuple[int | None, ...]) -> None:
    for node in (placeholder("float32", shape), placeholder("int32", shape)):
        with pytest.raises(TypeError):
            use(node)


def test_nodes_compare_by_identity_and_may_be_keys() -> None:
    x, y = placeholder(), placeholder()
    assert x == x and x != y and hash(x) == hash(x)
    assert {x: 1, y: 2}[x] == 1
    assert x and [y, x].index(x) == 1
    assert (x > y).op is o.greater  # ordering, unlike equality, is symbolic


# ---------------------------------------------------------------------------------------------------- graphs


@quick
@given(graphs())
def test_graphs_of_the_same_nodes_are_equal_and_others_are_not(sample: Sample) -> None:
    graph = sample.graph
    again = Graph(list(graph.inputs), iter(graph.outputs), [list(pair) for pair in graph.updates])  # type: ignore[misc]
    assert again == graph and hash(again) == hash(graph) and again is not graph
    assert graph.with_roots(graph.roots) == graph
    assert graph.roots == (*graph.outputs, *(value for _, value in graph.updates))
    assert len(graph) == len(toposort(graph.roots))
    others = [
        Graph(graph.inputs[:-1], graph.outputs, graph.updates),
        Graph(graph.inputs[::-1], graph.outputs, graph.updates),
        Graph(graph.inputs, (*graph.outputs, graph.outputs[0]), graph.updates),
        Graph(graph.inputs, graph.outputs, (*graph.updates, (graph.inputs[0], graph.outputs[0]))),
        Graph(graph.inputs, graph.roots) if graph.updates else Graph(graph.inputs, ()),
    ]
    assert all(other != graph and graph != other for other in others)
    assert graph != graph.outputs


def test_other_roots_take_the_places_of_the_old_ones() -> None:
    x, v, w = placeholder(), placeholder(), placeholder()
    graph = Graph([x], [x, v], [(v, x), (w, w)])
    a, b, c, d = (placeholder() for _ in range(4))
    changed = graph.with_roots([a, b, c, d])
    assert changed == Graph([x], [a, b], [(v, c), (w, d)])
    assert changed.roots == (a, b, c, d)
    for wrong in ([a, b, c], [a, b, c, d, a]):
        with pytest.raises(ValueError, match="zip"):
            graph.with_roots(wrong)

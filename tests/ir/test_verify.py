"""The verifier: every graph that can be built is well formed, and one with a fault planted in it is refused."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.errors import GraphError
from kgraph.ir import grad
from kgraph.ir.body import Parameter
from kgraph.ir.node import Constant, Graph, Identity, Node, intern
from kgraph.ir.op import OPS, Op
from kgraph.ir.origin import Origin
from kgraph.ir.passes import Record, legalise, run_pipeline
from kgraph.ir.traverse import substitute, toposort
from kgraph.ir.types import TensorType, TupleType
from kgraph.ir.verify import verify
from tests.ir.steps import STEPS
from tests.ir.strategies import Sample, graphs, quick

HERE = Origin("model.py", "layer", "", line=3)
VECTOR, FLAG = TensorType("float32", (3,)), TensorType("bool", ())


def planted(op: Op, *inputs: Node, type: Any = VECTOR, **attrs: Any) -> Node:
    """A node that no type rule has seen."""
    return intern(op, inputs, tuple(sorted(attrs.items())), type, HERE)


def mistyped(x: Node, type: Any) -> Node:
    """x, as a node that says that it has another type."""
    return planted(o.identity, x, type=type, uid=Identity())


def source(type: TensorType = VECTOR, op: Op = o.placeholder, name: str | None = None) -> Node:
    return op(type=type, uid=Identity(name))


def body(build: Callable[[Node], Node], type: TensorType = VECTOR) -> Graph:
    given = o.param(index=0, type=type)
    return Graph([given], [build(given)])


def refuses(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify(graph)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------- what is well formed


@settings(quick, max_examples=150)
@given(graphs(tuple(STEPS)))
def test_a_graph_that_was_built_is_well_formed(sample: Sample) -> None:
    verify(sample.graph)
    verify(sample.closed)


@settings(quick, max_examples=80)
@given(sample=graphs(), seed=st.integers(0, 2**32 - 1))
def test_what_is_made_of_a_graph_is_well_formed(sample: Sample, seed: int) -> None:
    roots = [root for root in sample.graph.roots if root.type.is_float]
    if roots:
        wrt = [node for node in sample.feeds if node.type.is_float]
        slopes = grad.gradients(roots[0], wrt, "none")
        verify(Graph(sample.feeds, [g for g in slopes if g is not None]))
    verify(run_pipeline(sample.graph, sample.phase))
    verify(legalise(sample.graph, Record(), [op for op in OPS.values() if not op.expand]))
    cut = Random(seed).choice([node for node in toposort(sample.graph.roots) if node.op is not o.cond])
    verify(Graph([cut], sample.graph.outputs))  # an input may be any node
    fed = source(cut.type)
    verify(Graph([fed], substitute(sample.graph.outputs, {cut: fed})))


def test_what_a_program_may_do_is_well_formed() -> None:
    x, v = source(), source(op=o.variable)
    verify(Graph([], []))
    verify(Graph([x, v], [x, x, v, o.constant_of(np.zeros(3))]))
    verify(Graph([v], [], [(v, v)]))
    verify(Graph([x], [x], [(v, x), (w := source(op=o.variable), v), (source(op=o.variable), w)]))
    verify(Graph([], [], [(v, source(TensorType("float32", (None,))))]))
    verify(body(lambda p: o.sin(p)))  # its parameters are its inputs


# ---------------------------------------------------------------------------------------------------- nodes


def test_an_op_that_is_not_in_the_table_is_refused() -> None:
    op = Op("one of a kind", lambda x: x)
    try:
        node = op(source())
        verify(Graph([], [node]))
    finally:
        del OPS["one of a kind"]
    refuses(Graph([], [o.sin(node)]), "the op is not in the table\n  node: float32[3]")
    other = Op("one of a kind", lambda x: x)
    try:
        refuses(Graph([], [node]), "the op is not in the table")
        verify(Graph([], [other(source())]))
    finally:
        del OPS["one of a kind"]


@pytest.mark.parametrize("shape", [(4,), (None,), (3, 1), ()], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_type_that_the_rule_does_not_say_is_refused(dtype: str, shape: tuple[int | None, ...]) -> None:
    wrong = TensorType(dtype, shape)
    x, v = source(), source(wrong, op=o.variable)
    node = mistyped(x, wrong)
    message = f"verify: the type is not what the type rule says\n  node: {wrong}  layer (identity) at model.py:3\n  at model.py:3"
    refuses(Graph([x], [node]), message)
    refuses(Graph([x], [o.shape(node)]), message)  # below an output
    refuses(Graph([x], [], [(v, node)]), message)  # below an update
    refuses(Graph([node], [x]), message)  # an input
    refuses(cond_of(body(lambda p: o.broadcast_like(o.size(mistyped(p, wrong), axes=()), p)), body(lambda p: o.cast(p, dtype="int32"))), message)


def cond_of(then: Graph, orelse: Graph | None = None, x: Node | None = None) -> Graph:
    """A graph of a branch."""
    x = source() if x is None else x
    flag = source(FLAG)
    made = o.cond(flag, x, then=then, orelse=orelse or body(lambda p: p))
    return Graph([flag, x], [o.item(made, index=0)])


def test_a_fault_in_a_body_of_a_body_is_found() -> None:
    p, flag = o.param(index=0, type=VECTOR), o.param(index=1, type=FLAG)
    for fault in (False, True):
        inner = body(lambda q, fault=fault: o.shape(mistyped(q, VECTOR.with_shape((4,)) if fault else VECTOR)))
        outer = Graph([p, flag], [o.item(o.cond(flag, p, then=body(o.shape), orelse=inner), index=0)])
        x, c = source(), source(FLAG)
        graph = Graph([x, c], [o.item(o.cond(c, x, c, then=outer, orelse=Graph([p, flag], [o.shape(p)])), index=0)])
        if fault:
            refuses(graph, "the type is not what the type rule says")
        else:
            verify(graph)


@pytest.mark.parametrize("bad", [1.5, 1j, np.int64(0), np.float32(0), b"0", frozenset(), len, range(1), Ellipsis, np.dtype("int8")], ids=repr)
def test_an_attr_of_another_kind_is_refused(bad: Any) -> None:
    for value in (bad, (0, bad), ((), (0, (bad,)))):
        node = planted(o.sum, source(), axis=value, keepdims=False)
        refuses(Graph([], [node]), f"verify: the attr axis is a {type(value).__name__}, ")


@pytest.mark.parametrize(
    ("node", "error"),
    [
        (lambda x: planted(o.sin, x, x), "TypeError: "),
        (lambda x: planted(o.add, x), "TypeError: "),
        (lambda x: planted(o.sin, x, axis=0), "TypeError: "),
        (lambda x: planted(o.sum, x, axis=(0,)), "TypeError: "),
        (lambda x: planted(o.add, x, source(VECTOR.with_dtype("int8"))), "dtypes differ: float32 != int8"),
        (lambda x: planted(o.add, x, source(VECTOR.with_shape((4,)))), "sizes differ on axis -1: 3 != 4"),
        (lambda x: planted(o.expand_dims, x, axis=2), "axis 2 is outside of the result"),
        (lambda x: planted(o.transpose, x, perm=(0, 0)), r"(0, 0) does not name each of the 1 axes once"),
        (lambda x: planted(o.reshape, x, shape=(None, 3)), "shape has 1 entries to fill, but there are 0 sizes"),
        (lambda x: planted(o.cast, x, dtype="complex64"), "KeyError: "),
    ],
)
def test_inputs_and_attrs_that_the_type_rule_refuses_are_refused(node: Callable[[Node], Node], error: str) -> None:
    refuses(Graph([], [node(source())]), f"the type rule refuses the inputs and attrs: {error}")


# ---------------------------------------------------------------------------------------------------- several results


def test_several_results_are_used_one_by_one() -> None:
    x, v = source(), source(op=o.variable)
    made = cond_of(body(o.sin), x=x).outputs[0].inputs[0]
    several = "an output has several results; item picks one\n  node: (float32[3])"
    refuses(Graph([], [x, made]), several)
    refuses(Graph([], [], [(v, made)]), several)
    p, q = o.param(index=0, type=VECTOR), o.param(index=1, type=FLAG)
    inner = Graph([p, q], [o.cond(q, p, then=body(o.sin), orelse=body(o.cos))])
    outer = o.cond(source(FLAG), x, source(FLAG), then=inner, orelse=Graph([p, q], [o.absent(type=VECTOR)]))
    refuses(Graph([], [o.item(o.item(outer, index=0), index=0)]), several)


def test_several_results_are_no_operand_of_anything_but_item() -> None:
    x = source()
    made = cond_of(body(o.sin), x=x).outputs[0].inputs[0]
    verify(Graph([], [o.item(made, index=0)]))
    for node in (planted(o.sin, made), planted(o.add, x, made), planted(o.sum, made, axis=(0,), keepdims=False), planted(o.item, x, index=0)):
        refuses(Graph([], [node]), "the type rule refuses the inputs and attrs: AttributeError: ")
    refuses(Graph([], [planted(o.item, made, index=1)]), "the type rule refuses the inputs and attrs: IndexError: ")


# ---------------------------------------------------------------------------------------------------- inputs, updates


def test_an_input_named_twice_is_refused() -> None:
    x, y = source(), source()
    refuses(Graph([x, y, x], [y]), "an input is named twice")
    given, flag = o.param(index=0, type=VECTOR), source(FLAG)
    node = o.cond(flag, x, y, then=Graph([given, given], [given]), orelse=Graph([given, o.param(index=1, type=VECTOR)], [given]))
    refuses(Graph([], [o.item(node, index=0)]), "an input is named twice\n  node: (float32[3])")


def test_a_variable_updated_twice_is_refused() -> None:
    v, w = source(op=o.variable, name="v"), source(op=o.variable)
    refuses(Graph([], [], [(w, v), (v, w), (v, v)]), "a variable is updated twice\n  node: float32[3]  variable 'v'")


def test_a_target_that_is_no_variable_is_refused() -> None:
    v, x = source(op=o.variable), source(name="x")
    refuses(Graph([x], [], [(x, v)]), "the target of an update is no variable\n  node: float32[3]  placeholder 'x'")
    refuses(Graph([x], [], [(o.sin(v), v)]), "the target of an update is no variable")


@pytest.mark.parametrize("type", [TensorType("float64", (3,)), TensorType("float32", (4,)), TensorType("float32", ()), TensorType("float32", (3, 1)), TensorType("float32", (None, None))], ids=repr)
def test_a_new_value_of_another_type_is_refused(type: TensorType) -> None:
    v, x = source(op=o.variable, name="v"), source(type, name="x")
    refuses(Graph([x], [], [(v, x)]), f"the new value of float32[3]  variable 'v' is of another type\n  node: {type}  placeholder 'x'")


# ---------------------------------------------------------------------------------------------------- bodies


def test_a_parameter_outside_of_its_body_is_refused() -> None:
    for index in (0, Parameter("x", "rnn", "model.py:1")):
        stray = o.param(index=index, type=VECTOR)
        refuses(Graph([], [o.sin(stray)]), "a parameter of a body is used outside of it\n  node: float32[3]")
        refuses(Graph([source()], [], [(source(op=o.variable), stray)]), "a parameter of a body is used outside of it")
        verify(Graph([stray], [o.sin(stray)]))


def test_parameters_are_positional() -> None:
    first, second, named = [o.param(index=i, type=VECTOR) for i in (0, 1, Parameter("x"))]
    x, flag = source(), source(FLAG)
    right = Graph([first, second], [first])
    for inputs, position in (([second, first], 0), ([first, named], 1), ([first, x], 1), ([-first, second], 0)):
        made = o.cond(flag, x, o.sin(x), then=right, orelse=Graph(inputs, [inputs[0]]))
        refuses(Graph([], [o.item(made, index=0)]), f"parameter {position} of a body is not positional\n  node: (float32[3])")
    verify(Graph([], [o.item(o.cond(flag, x, o.sin(x), then=right, orelse=right), index=0)]))


@pytest.mark.parametrize(
    ("op", "name"),
    [(lambda: source(name="outer"), "an outer value, float32[3]  placeholder 'outer'"), (lambda: source(op=o.variable, name="w"), "an outer value, float32[3]  variable 'w'"),
     (lambda: o.cast(o.learning_phase(), dtype="float32"), "an outer value, uint8[]"),
     (lambda: o.random_uniform(o.stream(uid=Identity()), shape=(), dtype="float32"), "an outer value, int64[2]"),
     (lambda: o.param(index=1, type=VECTOR), "an outer value, float32[3]"),
     (lambda: o.param(index=0, type=TensorType("float32", (1,))), "an outer value, float32[1]"),
     (lambda: o.param(index=Parameter("state", "rnn"), type=VECTOR), "a parameter of another body, float32[3]  param 'state'")],
)  # fmt: skip
def test_a_body_reads_only_its_parameters_and_constants(op: Callable[[], Node], name: str) -> None:
    refuses(cond_of(body(lambda p: p + op())), f"a body reads {name}")
    refuses(cond_of(body(lambda p: p), body(lambda p: o.square(p - op()))), f"a body reads {name}")
    verify(cond_of(body(lambda p: p + 1.0), body(lambda p: o.absent(type=p.type))))


def test_a_body_has_no_updates() -> None:
    given = o.param(index=0, type=VECTOR)
    v = o.param(index=1, type=VECTOR)
    for inputs, pairs in (([given], [(given, o.sin(given))]), ([given, v], [(v, given)])):
        flag, xs = source(FLAG), [source() for _ in inputs]
        made = o.cond(flag, *xs, then=Graph(inputs, [given], pairs), orelse=Graph(inputs, [given]))
        refuses(Graph([], [o.item(made, index=0)]), "a body has updates")


def test_bodies_that_do_not_fit_what_they_are_given_or_each_other_are_refused() -> None:
    flag, x = source(FLAG), source()
    one, two = body(lambda p: p), Graph([o.param(index=0, type=VECTOR)], [o.param(index=0, type=VECTOR)] * 2)
    for then, orelse, xs in ((one, two, [x]), (one, one, [x, x]), (one, one, []), (one, body(lambda p: p, TensorType("int8", (3,))), [x])):
        node = planted(o.cond, flag, *xs, type=TupleType((VECTOR,)), then=then, orelse=orelse)
        refuses(Graph([], [o.item(node, index=0)]), "the type rule refuses the inputs and attrs: ")


def test_an_error_names_the_node_and_its_line() -> None:
    node = planted(o.sum, source(), axis=1.5, keepdims=False)
    with pytest.raises(GraphError) as caught:
        verify(Graph([], [node]))
    assert str(caught.value) == "verify: the attr axis is a float, 1.5\n  node: float32[3]  layer (sum) at model.py:3\n  at model.py:3"
    assert isinstance(caught.value, ValueError)
    constant = planted(o.constant, value=Constant(np.zeros(3, "float32")), type=TensorType("float64", (3,)))
    refuses(Graph([], [constant]), "the type is not what the type rule says\n  node: float64[3]  constant [0., 0., 0.]")

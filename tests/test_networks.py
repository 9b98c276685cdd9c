"""`kgraph.to_networkx`: every node and edge, with what is known of them; bodies nested and flat."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import ArgumentError, GraphError
from kgraph.ir import cost
from kgraph.ir.node import Graph, Node
from kgraph.ir.text import numbered
from kgraph.ir.traverse import reachable, toposort
from tests.ir.strategies import Sample, graphs, quick


def order_of(graph: Graph) -> list[Node]:
    return toposort((*graph.inputs, *graph.roots, *[v for v, _ in graph.updates]), stop=graph.inputs)


def check(found: Any, graph: Graph) -> None:
    """A nested graph has every node and edge, and so have those of its bodies."""
    order, keys = order_of(graph), found.graph["keys"]
    assert list(found.nodes) == [keys[node] for node in order]
    for node, name in numbered(graph)[1].items():
        assert keys[node] == name
    given_ = set(graph.inputs)
    wanted = [(keys[i], keys[n], place) for n in order if n not in given_ for place, i in enumerate(n.inputs)]
    assert sorted(found.edges(keys=True)) == sorted(wanted)
    assert all(facts["operand"] == place and facts["kind"] == "operand" for _, _, place, facts in found.edges(keys=True, data=True))
    for node in order:
        facts = found.nodes[keys[node]]
        assert (facts["op"], facts["name"], facts["scope"], facts["role"]) == (node.op.name, node.name, node.origin.scope, node.origin.role)
        assert f"{facts['file']}:{facts['line']}".endswith(str(node.origin).rsplit("/", 1)[-1])
        assert facts["types"][0] == (facts["dtype"], facts["shape"]) or len(facts["types"]) != 1 or facts["dtype"] is None
        assert set(facts["attrs"]) == {name for name, value in node.attrs if not isinstance(value, Graph)}
        assert set(facts.get("bodies", ())) == set(node.op.bodies)
        for name in node.op.bodies:
            check(facts["bodies"][name], node.attr(name))
    assert found.graph["outputs"] == [keys[node] for node in graph.outputs]
    assert found.graph["updates"] == [(keys[v], keys[x]) for v, x in graph.updates]
    assert nx.is_directed_acyclic_graph(found)


@quick
@given(graphs())
def test_every_node_and_edge_is_there(sample: Sample) -> None:
    found = kgraph.to_networkx(sample.graph)
    check(found, sample.graph)
    keys = found.graph["keys"]
    order = order_of(sample.graph)
    for node in sample.graph.inputs[:1]:
        assert nx.descendants(found, keys[node]) | {keys[node]} == {keys[x] for x in reachable(order, [node])}


@quick
@given(graphs())
def test_flat_has_the_nodes_of_all_bodies_and_no_cycle(sample: Sample) -> None:
    nested, flat = kgraph.to_networkx(sample.graph), kgraph.to_networkx(sample.graph, bodies="flat")
    assert nx.is_directed_acyclic_graph(flat)

    def count(graph: Any) -> tuple[int, int]:
        inner = [count(body) for _, facts in graph.nodes(data=True) for body in facts.get("bodies", {}).values()]
        return len(graph) + sum(n for n, _ in inner), graph.number_of_edges() + sum(e for _, e in inner)

    operands = [edge for *edge, kind in flat.edges(data="kind") if kind == "operand"]
    assert (len(flat), len(operands)) == count(nested)
    assert all(flat.nodes[key]["owner"] == key.rsplit("/", 2)[0] for key in flat if "/" in key)


@quick
@given(graphs())
def test_figures_add_up_to_what_the_graph_costs(sample: Sample) -> None:
    try:
        whole = cost.cost(sample.graph, dict.fromkeys(cost.Unknowns(sample.graph).of, 1))
    except ArgumentError:
        assume(False)
    nested, flat = kgraph.to_networkx(sample.graph), kgraph.to_networkx(sample.graph, bodies="flat")
    for name in ("flops", "bytes", "read", "written"):
        wanted = getattr(whole, name)
        assert sum(facts[name] for _, facts in nested.nodes(data=True)) == wanted
        assert sum(facts[name] * facts.get("times", 1) for _, facts in flat.nodes(data=True)) == wanted


def test_a_small_graph() -> None:
    x = K.placeholder((None, 4), name="x")
    with K.name_scope("dense"):
        w = K.variable(np.ones((4, 3)), name="w")
        y = K.sum(K.dot(x, w) * 0.5, axis=1)
    found = kgraph.to_networkx([y], sizes={"n": 10})
    key = found.graph["keys"]
    (product,) = found.successors(key[w.node])
    facts = found.nodes[product]
    assert (facts["op"], facts["scope"], facts["function"], facts["shape"], facts["dtype"]) == ("matmul", "dense", "dot", (None, 3), "float32")
    assert (facts["flops"], facts["read"], facts["written"], facts["bytes"]) == (10 * 24, 4 * (40 + 12), 120, 328)
    assert found.edges[key[x.node], product, 0]["bytes"] == 160
    assert found.edges[key[w.node], product, 1]["bytes"] == 48
    assert found.nodes[key[w.node]]["parameters"] == 12
    assert found.nodes["const0"]["attrs"]["value"] == 0.5
    assert found.nodes[key[y.node]]["attrs"] == {"axis": (1,), "keepdims": False}
    assert found.graph["sizes"] == {"n": 10}
    assert kgraph.to_networkx(y).graph["sizes"] == {"n": 1}


def test_edges_that_gradients_go_back_along() -> None:
    a, n = K.variable(np.ones(3), name="a"), K.placeholder((3,), dtype="int32", name="n")
    for way, passes in (
        (K.exp(a), True), (K.stop_gradient(a), False), (K.round(a), False), (K.cast(a, "int32"), True), (K.greater(a, 0.0), False),
    ):  # fmt: skip
        found = kgraph.to_networkx(way)
        key = found.graph["keys"]
        assert found.edges[key[a.node], key[way.node], 0]["gradient"] == passes, way.name
    end = K.sum(K.cast(K.cast(a, "int32") * n, "float32"))
    back = nx.MultiDiGraph(edge for edge in kgraph.to_networkx(end).edges(data=True) if edge[2]["gradient"])
    key = kgraph.to_networkx(end).graph["keys"]
    assert not nx.has_path(back, key[a.node], key[end.node])
    (shaped,) = K.gradients(K.sum(a), [a])  # broadcast_like reads the shape of a alone
    found = kgraph.to_networkx(shaped)
    assert not any(passes for start, _, passes in found.edges(data="gradient") if start == found.graph["keys"][a.node])


def test_one_operand_twice_is_two_edges() -> None:
    x = K.placeholder((2,))
    found = kgraph.to_networkx(x + x)
    assert sorted(found.edges(keys=True)) == [("%0", "%1", 0), ("%0", "%1", 1)]


def test_a_loop_leads_in_and_out() -> None:
    x = K.placeholder((7, 3), name="x")
    y = K.foldl(lambda total, row: total + K.exp(row), x)
    flat = kgraph.to_networkx(y, bodies="flat")
    keys = flat.graph["keys"]
    (scan,) = [key for key, op in flat.nodes(data="op") if op == "scan"]
    (exp,) = [key for key, op in flat.nodes(data="op") if op == "exp"]
    assert nx.has_path(flat, keys[x.node], exp)
    assert nx.has_path(flat, exp, keys[y.node])
    assert (flat.nodes[exp]["owner"], flat.nodes[exp]["times"], flat.nodes[exp]["flops"]) == (scan, 6, 3 * cost.DEAR)
    body = kgraph.to_networkx(y).nodes[scan]["bodies"]["body"]
    assert body.graph["times"] == 6
    assert "exp" in dict(body.nodes(data="op")).values()


def test_sizes_that_do_not_go_together_leave_the_figures_out() -> None:
    image = K.placeholder((None, None, None, 1))
    y = K.conv2d(image, K.variable(np.ones((3, 3, 1, 2))), dim_ordering="tf")
    found = kgraph.to_networkx(y)
    if found.nodes[found.graph["keys"][y.node]]["flops"] is None:
        assert found.graph["sizes"] == {}
    names = cost.Unknowns(Graph([image.node], [y.node])).of
    fixed = kgraph.to_networkx(y, sizes=dict.fromkeys(names, 5))
    convolution = next(facts for _, facts in fixed.nodes(data=True) if facts["op"] == "conv")
    assert convolution["flops"] == 2 * (5 * 3 * 3 * 2) * 9


def test_what_is_refused() -> None:
    x = K.placeholder((None,), name="x")
    with pytest.raises(ArgumentError, match="to_networkx: bodies is 'round'"):
        kgraph.to_networkx(x, bodies="round")
    with pytest.raises(ArgumentError, match=r"(?s)to_networkx: sizes is .*'m': 3.*the unknown sizes are n"):
        kgraph.to_networkx(x * 2, sizes={"m": 3})
    with pytest.raises(GraphError):
        kgraph.to_networkx("x")


def test_a_hundred_thousand_nodes() -> None:
    y = x = K.placeholder((4,))
    for _ in range(100_000):
        y = K.tanh(y)
    found = kgraph.to_networkx(y)
    assert (len(found), found.number_of_edges()) == (100_001, 100_000)
    assert found.nodes["%100000"]["op"] == o.tanh.name
    assert found.graph["keys"][x.node] == "%0"

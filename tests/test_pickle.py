"""Pickles, copies and texts of tensors, nodes, graphs and functions."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import IndexOutOfRange
from kgraph.ir.node import NODES, Graph
from kgraph.ir.passes import PIPELINE
from kgraph.ir.traverse import toposort
from kgraph.ir.verify import verify
from tests.process import run_python

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def loaded(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


EXPRESSIONS = {
    "arithmetic": lambda v: (2 * v - 1) / (v + 3) ** 2,
    "a variable": lambda v: v,
    "a constant": lambda v: K.arange(4),
    "a large constant": lambda v: K.sum(v) * np.arange(3000.0),
    "shapes": lambda v: K.reshape(K.tile(v, 2), (K.shape(v)[0], -1, 1)),
    "an index": lambda v: v[1:, None, ..., -1],
    "a branch": lambda v: K.switch(K.sum(v) > 0, lambda: K.sin(v), lambda: K.cos(v)),
    "a gradient": lambda v: K.gradients(K.sum(K.softmax(v)[:, 0]), [v])[0],
    "a reduction": lambda v: K.logsumexp(K.cumsum(v, axis=1), axis=0, keepdims=True),
    "a draw": lambda v: v + K.random_normal((2, 3), seed=1),
    "a phase": lambda v: K.in_train_phase(v, -v),
    "a print": lambda v: K.print_tensor(v, "seen"),
    "an identity": lambda v: K.identity(v, name="mine") * 2,
    "special floats": lambda v: K.sum(v) * 0 + np.array([np.nan, -0.0, np.inf, 5e-324]),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_loaded_tensor_has_the_same_value_and_type(name: str, protocol: int, engine: str) -> None:
    tensor = EXPRESSIONS[name](K.variable([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], name="v"))
    twin = loaded(tensor, protocol)
    assert type(twin) is type(tensor)
    assert twin.node.type is tensor.node.type
    expected, got = K.eval(tensor), K.eval(twin)
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes()
    assert repr(twin) == repr(tensor)
    verify(Graph([], [twin.node]))


def test_what_is_loaded_never_merges_with_what_lives() -> None:
    x, v = K.placeholder((2,), name="x"), K.variable([1.0, 2.0], name="v")
    y = x * v + K.random_uniform((2,))
    twin = loaded(y)
    names = ("placeholder", "variable", "stream", "random_uniform", "multiply", "add")
    ours, theirs = set(toposort([y.node])), set(toposort([twin.node]))
    assert not {node for node in ours & theirs if node.op.name in names}
    assert {node.op.name for node in ours} == {node.op.name for node in theirs}
    assert not set(toposort([loaded(y).node])) & {node for node in theirs if node.op.name in names}


def test_a_loaded_variable_keeps_its_value_of_then_and_lives_alone() -> None:
    v = K.variable([1.0, 2.0], name="v")
    data = pickle.dumps(v)
    K.set_value(v, [7, 7])
    twin = pickle.loads(data)
    np.testing.assert_array_equal(K.get_value(twin), [1, 2])
    K.set_value(twin, [3, 4])
    np.testing.assert_array_equal(K.get_value(v), [7, 7])
    assert twin.name == "v"


def test_two_tensors_in_one_pickle_share_their_variable(engine: str) -> None:
    v, x = K.variable(2.0, name="v"), K.placeholder((), name="x")
    f = K.function([x], [v * x], [K.update_add(v, 1)])
    tensors = loaded({"v": v, "double": v * 2, "x": x, "product": v * x, "f": f, "graph": f.graph})
    K.set_value(tensors["v"], 10)
    assert K.eval(tensors["double"]) == 20
    assert K.function([tensors["x"]], tensors["product"])([3]) == 30
    assert tensors["f"]([1]) == [10]
    assert K.get_value(tensors["v"]) == 11
    assert tensors["graph"].updates[0][0] is tensors["v"].node
    assert tensors["graph"].inputs == tensors["f"].graph.inputs
    assert K.get_value(v) == 2


def test_marks_of_a_tensor_are_kept() -> None:
    x = K.placeholder((None, 3), name="x")
    y = x * 2
    y._keras_history = ("layer", 0, [x])
    y._keras_shape = (None, 3)
    twin = loaded(y)
    assert twin._keras_shape == (None, 3)
    assert twin._keras_history[:2] == ("layer", 0)
    assert twin._keras_history[2][0].node is twin.node.inputs[0]
    assert not hasattr(loaded(x * 3), "_keras_shape")


def test_a_function_goes_on_in_a_pickle_as_it_would_have_here(engine: str) -> None:
    x, y = K.placeholder((None,), name="x"), K.placeholder((), name="y")
    v = K.variable(1.0)
    hidden = x * v
    out = K.in_train_phase(K.sum(hidden) + K.random_uniform(()), lambda: K.sum(hidden) - y)
    f = K.function([x, y, K.learning_phase()], out, [K.update_add(v, y)])
    f([[1, 2], 1, 1])
    twin = loaded(f)
    for args in (([1.0, 2.0, 3.0], 4, 0), ([1.0], 1, 1), ([2.0], 5)):
        np.testing.assert_array_equal(f(list(args)), twin(list(args)))
    np.testing.assert_array_equal(f(y=2, x=[3]), twin(y=2, x=[3]))
    np.testing.assert_array_equal(f([3], 2, training=True), twin([3], 2, training=True))
    assert twin([1], 0).ndim == 0  # one tensor gives one array

    cut = K.function([hidden], [K.exp(hidden)], optimize=False, engine=engine)
    again = loaded(cut)
    np.testing.assert_array_equal(again([[0, 1]]), cut([[0, 1]]))
    assert again.passes == cut.passes
    assert again.engine is cut.engine


def test_a_function_loads_in_another_process(tmp_path: Path) -> None:
    x, v = K.placeholder((None,), name="x"), K.variable([1.0, 2.0], name="v")
    f = K.function([x], [x * v, K.random_normal((2,), seed=3)], [(v, v * 2)])
    f([[1, 1]])
    (tmp_path / "f.pickle").write_bytes(pickle.dumps(f))
    expected = [repr(r.tolist()) for _ in range(2) for r in f([[3, 4]])]
    program = (
        "import pickle, sys\nf = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for _ in range(2):\n    for r in f([[3, 4]]): print(r.tolist())"
    )
    assert run_python(program, str(tmp_path / "f.pickle")).splitlines()[-4:] == expected


def test_the_phase_is_the_same_one_after_loading() -> None:
    assert loaded(K.learning_phase()).node is K.learning_phase().node
    f = loaded(K.function([], [K.in_train_phase(1.0, 2.0)]))
    assert f() == [2]
    K.set_learning_phase(1)
    assert f() == [1]


def test_errors_of_a_loaded_function_name_the_lines_where_it_was_built() -> None:
    i = K.placeholder((), dtype="int32", name="i")
    line = 1 + (y := K.gather(K.variable([1.0]), i)).node.origin.line
    f = loaded(K.function([i], [y + 1]))
    with pytest.raises(IndexOutOfRange, match=rf"indices: int32\[\]  placeholder 'i'\n  at .*test_pickle.py:{line - 1}"):
        f([5])


def test_a_pickled_graph_is_the_same_graph_anew() -> None:
    x, v = K.placeholder((None,), name="x"), K.variable([1.0], name="v")
    graph = K.function([x], [K.switch(K.sum(x) > 0, lambda: K.exp(x), x)], [(v, v * 2)]).graph
    for one in (graph, PIPELINE["sink"](graph, _record())):
        twin = loaded(one)
        verify(twin)
        assert twin != one
        assert str(twin) == str(one)
        assert len(twin) == len(one)
    assert loaded(x.node).op is o.placeholder


def _record() -> Any:
    from kgraph.ir.passes import Record

    return Record()


# ---------------------------------------------------------------------------------------------------- copies


def test_a_copy_of_a_tensor_is_a_new_handle_on_the_same_node() -> None:
    v = K.variable([1.0, 2.0])
    y = v * 2
    y._keras_history = ["mark"]
    for duplicate in (copy.copy, copy.deepcopy):
        twin = duplicate(y)
        assert twin is not y
        assert twin.node is y.node
        assert twin._keras_history == ["mark"]
        twin.other = 1
        assert not hasattr(y, "other")


def test_other_copies_are_the_thing_itself() -> None:
    x = K.placeholder((2,))
    f = K.function([x], [x * 2])
    for thing in (x.node, f.graph, f):
        assert copy.deepcopy(thing) is thing
        assert copy.copy(thing) is thing or thing is f
    held = {"layer": [f, x, {"again": x}]}
    twin = copy.deepcopy(held)
    assert twin["layer"][0] is f
    assert twin["layer"][1].node is x.node
    K.set_value(v := K.variable(1.0), 2.0)
    K.set_value(copy.deepcopy(v), 3.0)
    assert K.get_value(v) == 3


def test_a_shallow_copy_of_a_function_works() -> None:
    v = K.variable(1.0)
    f = K.function([], [v], [K.update_add(v, 1)])
    twin = copy.copy(f)
    assert [f(), twin(), f(), twin()] == [[1], [2], [3], [4]]


# ---------------------------------------------------------------------------------------------------- texts


def test_repr_of_tensors_and_nodes() -> None:
    images, w = K.placeholder((None, 3), name="images"), K.variable(np.zeros((3, 2)), name="w")
    line = 1 + (y := K.dot(images, w)).node.origin.line
    with K.name_scope("scope"):
        z = K.mean(y)
    assert repr(images) == "<Tensor float32[?, 3]  placeholder 'images'>"
    assert repr(images.node) == "<node float32[?, 3]  placeholder 'images'>"
    assert repr(w) == "<Tensor float32[3, 2]  variable 'w'>"
    assert repr(y) == f"<Tensor float32[?, 2]  dot (matmul) at tests/test_pickle.py:{line - 1}>"
    assert repr(z) == f"<Tensor float32[]  mean (divide) at tests/test_pickle.py:{line + 1}>"
    assert repr(z.node.origin) == f"<mean at tests/test_pickle.py:{line + 1} in scope, forward>"
    assert repr(y + 1 - y).startswith("<Tensor float32[?, 2]  subtract at ")
    assert repr(K.arange(3)) == "<Tensor int32[3]  constant [0, 1, 2]>"
    assert repr(K.arange(100)) == "<Tensor int32[100]  constant <400 bytes>>"
    assert repr(K.cast(True, "bool")) == "<Tensor bool[]  constant True>"


def test_repr_and_text_of_a_graph() -> None:
    x, v = K.placeholder((2,), name="x"), K.variable([1.0, 2.0], name="v")
    f = K.function([x], [K.switch(x[0] > 0, lambda: K.exp(x), lambda: x)], [(v, v * 2)])
    assert repr(f.graph) == f"<Graph: 1 inputs, 1 outputs, 1 updates, {len(f.graph)} nodes>"
    lines = [line.split("tests/")[0].split() for line in str(f.graph).splitlines()]
    assert lines[0] == ["%0", "float32[2]", "placeholder", "'x'"]
    assert ["%1", "float32[]", "index(%0,", "form=i,", "numbers=(0,))"] in lines
    assert lines[-2][0] == "return"
    assert lines[-1][0] == "update"
    assert lines[-1][2] == "<-"
    indented = str(f.optimized())
    assert "\n  then:" in indented
    assert "\n  orelse:" in indented


def test_the_text_of_a_long_graph_is_cut_in_the_middle() -> None:
    y = K.placeholder((), name="x")
    first = y
    for _ in range(1000):
        y = K.sin(y)
    lines = str(K.function([first], [y]).graph).splitlines()
    assert len(lines) < 250
    assert any("more" in line and "..." in line for line in lines)
    assert "placeholder" in lines[0]
    assert lines[-1].startswith("return")


def test_repr_of_a_function() -> None:
    x, v = K.placeholder((2,), name="x"), K.variable([1.0, 2.0], name="v")
    line = 1 + (y := x * v).node.origin.line
    f = K.function([x, v], [y, x], engine="numpy")
    assert repr(f) == f"<Function of 'x', 'v': 2 outputs, 0 updates, on numpy, made at tests/test_pickle.py:{line}>"
    assert repr(K.function([], [], engine="numpy")).startswith("<Function of nothing: 0 outputs, 0 updates, on numpy, made at ")


def test_what_is_loaded_and_dropped_leaves_no_node() -> None:
    data = pickle.dumps([EXPRESSIONS[name](K.variable(np.ones((2, 3)))) for name in EXPRESSIONS])
    before = len(NODES)
    held = pickle.loads(data)
    assert len(NODES) > before
    del held
    assert len(NODES) == before

"""What `save` writes and `load` gives back: kinds of things, variables, names, the file itself, its version."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import BodyError, FeedError, FileError, GraphError
from kgraph.function import Function
from kgraph.ir.body import trace
from kgraph.ir.node import Graph, Node
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import sources, toposort
from kgraph.ir.types import DTYPES, TensorType
from kgraph.lower.variable import Variable
from tests.files.parts import everything, saved
from tests.files.test_round_trip import again, assert_same, assert_same_values

DATA = Path(__file__).parent.parent / "data"


def test_the_same_kind_of_thing_comes_back(tmp_path: Path) -> None:
    x, v = K.placeholder((2,), name="x"), K.variable([1.0, 2.0], name="v")
    y = x * v
    assert type(again(tmp_path / "t", y)) is Tensor
    pair = again(tmp_path / "l", (y, v))
    assert [type(each) for each in pair] == [Tensor, Tensor]
    assert pair[0].node.inputs[1] is pair[1].node  # one file, one variable
    assert again(tmp_path / "l", []) == []
    graph = K.function([x], [y], [(v, v + 1)]).graph
    assert_same(graph, again(tmp_path / "g", graph))
    assert type(again(tmp_path / "f", K.function([x], y))) is Function


def test_a_function_keeps_what_it_has_besides_its_graph(tmp_path: Path) -> None:
    f = everything()
    f.options = {"level": 3, "rate": 0.1, "name": "fast", "none": None, "list": [1, (True, {"a": -np.inf})]}
    twin = again(tmp_path / "f", f)
    assert repr(twin) == repr(f)
    assert twin.options == f.options
    assert type(twin.options["list"][1]) is tuple
    assert twin.passes == f.passes
    assert twin.engine is f.engine
    assert_same(f.graph, twin.graph)
    f.options = twin.options = {}
    for values, training in (([np.ones((2, 3)), 0], None), ([-np.ones((1, 3))], True)):
        assert_same_values(f(*values, training=training), twin(*values, training=training))


def test_a_function_without_an_engine_has_none_when_it_is_loaded(tmp_path: Path) -> None:
    f = K.function([x := K.placeholder((), name="x")], x * 2, optimize=[], finite=True)
    twin = again(tmp_path / "f", f)
    assert twin._engine is None
    assert twin.passes == f.passes
    assert twin(3).shape == ()
    assert kgraph.load(tmp_path / "f", engine="numpy")._engine.name == "numpy"
    with pytest.raises(FileError, match="there is no engine 'os'"):
        kgraph.load(tmp_path / "f", engine="os")


def test_a_function_that_is_cut_at_a_tensor(tmp_path: Path) -> None:
    x, v = K.placeholder((None,), name="x"), K.variable([1.0], name="v")
    f = K.function([hidden := K.exp(x), v], [hidden * v], engine="numpy")
    twin = again(tmp_path / "f", f)
    assert_same_values(f([[2.0], [3.0]]), twin([[2.0], [3.0]]))
    for each in (f, twin):
        with pytest.raises(FeedError, match=r"1 value was fed, 2 expected; 'v' is not fed\n  input 0: float32\[\?\]  exp at"):
            each([[1.0]])


def test_a_draw_goes_on_where_it_was(tmp_path: Path) -> None:
    f = K.function([], [K.random_uniform((3,), seed=5), K.dropout(K.ones((4,)), 0.5, seed=6)], engine="numpy")
    f([])
    twin = again(tmp_path / "f", f)
    for _ in range(2):
        assert_same_values(f([]), twin([]))
    streams = {s.attr("uid").seed: s.attr("uid").count for s in sources(toposort(twin.graph.roots), "stream")}
    assert streams[5] == 3


def test_variables_are_fresh_and_of_the_moment_of_saving(tmp_path: Path) -> None:
    v = K.variable([1.0, 2.0], name="v")
    kgraph.save(tmp_path / "v", v)
    K.set_value(v, [7, 7])
    one, other = kgraph.load(tmp_path / "v"), kgraph.load(tmp_path / "v")
    assert len({one.node, other.node, v.node}) == 3
    K.set_value(one, [5, 5])
    np.testing.assert_array_equal(K.get_value(other), [1, 2])
    np.testing.assert_array_equal(K.get_value(v), [7, 7])
    K.function([], [], [(one, one * 2)], engine="numpy")([])
    np.testing.assert_array_equal(K.get_value(one), [10, 10])


def test_without_variables_the_file_has_no_values_and_load_gives_zeros(tmp_path: Path) -> None:
    v = K.variable(np.ones((300, 1000)), name="v")
    kgraph.save(tmp_path / "v", K.exp(v), variables=False)
    assert (tmp_path / "v").stat().st_size < 2000
    twin = Tensor(kgraph.load(tmp_path / "v").node.inputs[0])
    assert twin.name == "v"
    np.testing.assert_array_equal(K.get_value(twin), np.zeros((300, 1000)))
    f = K.function([], [K.sum(twin)], [(twin, twin + 1)], engine="numpy")
    assert [f([])[0], f([])[0]] == [0, 300_000]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout(dtype: str, tmp_path: Path) -> None:
    values = [np.arange(6).reshape(2, 3).T, np.zeros((0, 4)), np.array(1), np.arange(6000)[::2] % 100]
    tensors = [K.variable(np.asarray(value).astype(dtype), dtype=dtype, name="v") for value in values]
    constants = [Tensor(o.constant_of(np.asarray(value).astype(dtype))) for value in values]
    path = tmp_path / "v"
    twins = again(path, tensors + constants)
    assert_same_values([K.eval(x) for x in tensors + constants], [K.eval(x) for x in twins])
    found = load_file(path)
    names = ("v", "v#2", "v#3", "v#4")
    assert set(found) == {*names, "constant"}
    assert_same_values([found[name] for name in names], [K.get_value(tensor) for tensor in tensors])


def test_numbers_that_are_not_finite_keep_their_bits(tmp_path: Path) -> None:
    odd = np.array([0x7FF8000000000001, 0xFFF0000000000000, 1, 0x8000000000000000], np.uint64).view(np.float64)
    v, c = K.variable(odd, dtype="float64"), Tensor(o.constant_of(odd))
    v2, c2 = again(tmp_path / "v", [v, c])
    assert K.get_value(v2).tobytes() == odd.tobytes()
    assert c2.node is c.node


@pytest.mark.parametrize("writes", [1, 1000], ids=["one write", "a write at every read"])
def test_values_of_variables_are_of_one_moment(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v, w = K.variable(0.0, name="v"), K.variable(0.0, name="w")
    step = K.function([], [], [(v, v + 1), (w, w + 1)], engine="numpy")
    step([])
    left, saving = [writes], threading.get_ident()
    threads: list[threading.Thread] = []
    get = Variable.get

    def written_meanwhile(variable: Variable) -> np.ndarray[Any, Any]:
        value = get(variable)
        if variable.name == "v" and left[0] and threading.get_ident() == saving:
            left[0] -= 1
            threads.append(threading.Thread(target=step, args=([],)))
            threads[-1].start()
            threads[-1].join(0.2)  # while the locks are held it cannot write
        return value

    with monkeypatch.context() as patched:
        patched.setattr(Variable, "get", written_meanwhile)
        kgraph.save(tmp_path / "v", [v, w])
    for thread in threads:
        thread.join()
    found = load_file(tmp_path / "v")
    assert found["v"] == found["w"] >= 2
    assert K.get_value(v) == K.get_value(w) == 1 + len(threads)


# ---------------------------------------------------------------------------------------------------- the file


def test_other_tools_open_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    data = saved(path, f := everything())
    with safe_open(path, "np") as file:
        assert set(file.keys()) == {"w", "w#2", "count", "constant"}
        assert file.metadata()["kgraph_version"] == "1"
        assert json.loads(file.metadata()["kgraph_graph"])["kind"] == "function"
        np.testing.assert_array_equal(file.get_tensor("w"), np.ones((3, 2), "float32"))
        np.testing.assert_array_equal(file.get_tensor("constant"), np.arange(300.0) * np.pi)
    assert data == saved(path, f)  # nothing but the function is in it: no time, no chance


ODD = ["__metadata__", "", "ünïcode \n\t\0 \u2028", "\ud800 alone", 'quote"\\', "x" * 5000, "../../etc"]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_names_that_are_odd(name: str, tmp_path: Path) -> None:
    v = K.variable([1.0], name=name)
    x = K.placeholder((1,), name=name)
    twin = again(tmp_path / "v", v * x)
    assert [node.name for node in twin.node.inputs] == [v.name, x.name]
    assert [each.tolist() for each in load_file(tmp_path / "v").values()] == [[1.0]]
    assert os.listdir(tmp_path) == ["v"]


def test_a_name_without_end_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    v = K.variable([1.0], name="x" * 20_000)
    with pytest.raises(FileError, match="a name has 20,000 characters"):
        kgraph.save(tmp_path / "v", v)
    assert os.listdir(tmp_path) == []


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v"
    before = saved(path, K.variable([1.0]))
    path.chmod(0o640)

    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(FileError, match="No space left") as caught:
            kgraph.save(path, K.variable([2.0]))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["v"]
    kgraph.save(path, K.variable([3.0]))
    assert path.stat().st_mode & 0o777 == 0o640
    (tmp_path / "link").symlink_to(path)
    kgraph.save(tmp_path / "link", K.variable([4.0]))
    assert (tmp_path / "link").is_symlink()
    assert K.get_value(kgraph.load(path)) == [4]


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with pytest.raises(GraphError, match="no tensor can be made"):
        kgraph.save(path, ["a"])
    f = K.function([], [K.ones((2,))])
    f.options = {"session": object()}
    with pytest.raises(FileError, match="the option session is a object"):
        kgraph.save(path, f)
    kept: list[Node] = []

    def step(x: Node) -> list[Node]:
        kept.append(x)
        return [x]

    body = trace(step, [TensorType("float32", ())], "map_fn")
    assert body
    with pytest.raises(BodyError, match="used outside of it"):
        kgraph.save(path, Tensor(kept[0]))
    x: Any = K.placeholder(())
    with pytest.raises(GraphError, match="named twice"):
        kgraph.save(path, Graph([x.node, x.node], [x.node]))
    with pytest.raises(FileError, match="make the folder"):
        kgraph.save(tmp_path / "no" / "f", K.ones((2,)))
    assert os.listdir(tmp_path) == []


def test_a_file_of_version_1_loads() -> None:
    f = kgraph.load(DATA / "version_1.safetensors")
    loss, last, size, large = f([np.ones((2, 3)), 0])
    expected = json.loads((DATA / "version_1.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(last, expected["last"], rtol=1e-5)
    assert size.tolist() == [3]
    assert not large
    values = {variable.name: K.get_value(Tensor(variable)) for variable, _ in f.graph.updates}
    np.testing.assert_allclose(values["w"], expected["w"], rtol=1e-5)
    assert values["count"].tolist() == 4
    assert f.graph.outputs[0].origin.file == "model.py"
    assert "encoder" in {node.origin.scope for node in toposort(f.graph.roots)}

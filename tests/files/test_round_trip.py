"""What is saved is loaded as it was: structure, types, values, lines; of the tables, of random graphs, of models."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import kgraph
import kgraph.ir.ops as o
from benchmarks.models import MODELS
from kgraph import backend as K
from kgraph.function import Function
from kgraph.ir.listing import Listing
from kgraph.ir.node import NODES, Graph, Identity
from kgraph.ir.passes import PIPELINE, Record
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import sources, toposort
from kgraph.ir.types import TensorType, is_tuple
from kgraph.ir.verify import verify
from tests.cases import CASES
from tests.cases.base import Case
from tests.files.parts import everything, flat, lines
from tests.ir.strategies import Sample, graphs, quick
from tests.kcases import KCASES
from tests.kcases.base import KCase
from tests.process import run_python


def again(path: Path, x: Any) -> Any:
    kgraph.save(path, x)
    return kgraph.load(path)


def assert_same(one: Graph, other: Graph) -> None:
    """The same structure, types, names and lines, over other sources."""
    assert Listing.of(flat(other)).digest() == Listing.of(flat(one)).digest()
    ours, theirs = toposort(flat(one)), toposort(flat(other))
    assert [node.type for node in theirs] == [node.type for node in ours]
    assert [node.name for node in theirs] == [node.name for node in ours]
    assert lines(other) == lines(one)
    for part in ("inputs", "outputs", "updates"):
        assert len(getattr(other, part)) == len(getattr(one, part))
    for name in ("placeholder", "variable", "stream"):
        assert not set(sources(ours, name)) & set(sources(theirs, name))
    verify(other)


def assert_same_values(one: list[Any], other: list[Any]) -> None:
    for x, y in zip(one, other, strict=True):
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def assert_same_function(path: Path, f: Function, values: list[Any]) -> None:
    twin = again(path, f)
    assert_same(f.graph, twin.graph)
    assert_same_values(f(values), twin(values))


# ---------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_of_ops(case: Case, known: bool, tmp_path: Path) -> None:
    inputs = [
        o.placeholder(type=TensorType(x.dtype.name, shape), uid=Identity())
        for x, shape in zip(case.inputs, case.shapes(known), strict=True)
    ]
    node = case.node(*inputs)
    outputs = [o.item(node, index=i) for i in range(len(node.type.items))] if is_tuple(node.type) else [node]
    f = K.function([Tensor(x) for x in inputs], [Tensor(y) for y in outputs], engine="numpy")
    assert_same_function(tmp_path / "f", f, list(case.inputs))


@pytest.mark.parametrize("case", KCASES, ids=str)
def test_rows_of_k_functions(case: KCase, tmp_path: Path) -> None:
    inputs = [
        K.placeholder(shape, dtype=x.dtype.name, name=f"x{i}")
        for i, (x, shape) in enumerate(zip(case.inputs, case.shapes(False), strict=True))
    ]
    variables = [K.variable(x, dtype=x.dtype.name) for x in case.inputs]
    outputs = [case.tensor(*inputs), case.tensor(*variables)]
    assert_same_function(tmp_path / "f", K.function(inputs, outputs, engine="numpy"), list(case.inputs))


@quick
@given(graphs())
def test_random_graphs(sample: Sample) -> None:
    path = Path(os.environ["KERAS_HOME"]) / "graph.safetensors"
    assert_same(sample.graph, again(path, sample.graph))
    optimised = sample.graph
    for each in PIPELINE.values():
        optimised = each(optimised, Record())
    assert_same(optimised, again(path, optimised))


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    f = K.function(model.inputs, [model.loss], model.updates, engine="numpy")
    twin = again(tmp_path / "f", f)
    assert_same(f.graph, twin.graph)
    for _ in range(2):  # the second call is over what the first has written
        assert_same_values(f(model.values), twin(model.values))
    assert_same(f.optimized(), again(tmp_path / "g", f.optimized()))


# ---------------------------------------------------------------------------------------------------- depth, processes


def test_a_file_loads_in_another_process_with_the_lines_of_this_one(tmp_path: Path) -> None:
    f = everything()
    kgraph.save(tmp_path / "f", f)
    program = (
        "import sys, kgraph\nfrom tests.files.parts import lines\nf = kgraph.load(sys.argv[1])\nkgraph.save(sys.argv[2], f)\n"
        "print(*lines(f.graph), sep='\\n')\n"
        "import numpy as np\nprint(*[r.tolist() for r in f([np.ones((2, 3)), 1])], sep='\\n')"
    )
    found = run_python(program, str(tmp_path / "f"), str(tmp_path / "again")).splitlines()
    assert (tmp_path / "again").read_bytes() == (tmp_path / "f").read_bytes()
    expected = lines(f.graph)
    assert found[: len(expected)] == expected
    assert found[-4:] == [str(r.tolist()) for r in f([np.ones((2, 3)), 1])]  # before them is what the loop prints


def test_what_is_loaded_and_dropped_leaves_no_node(tmp_path: Path) -> None:
    kgraph.save(tmp_path / "f", everything())
    gc.collect()  # the count is of every test's nodes: what others left in cycles goes before, not between
    before = len(NODES)
    held = kgraph.load(tmp_path / "f")
    assert len(NODES) > before
    del held
    gc.collect()
    assert len(NODES) == before


def test_a_deep_graph(tmp_path: Path) -> None:
    y = K.placeholder((), name="x")
    for _ in range(20_000):
        y = K.sin(y)
    twin = again(tmp_path / "y", y)
    assert Listing.of([twin.node]).digest() == Listing.of([y.node]).digest()


def test_deep_bodies(tmp_path: Path) -> None:
    def nested(x: Any, depth: int) -> Any:
        return K.map_fn(lambda row: nested(row, depth - 1), x) if depth else K.sin(x)

    y = nested(K.placeholder((*[1] * 20, 3), name="x"), 20)
    twin = again(tmp_path / "y", y)
    assert Listing.of([twin.node]).digest() == Listing.of([y.node]).digest()
    few = kgraph.Limits(depth=10)
    with pytest.raises(kgraph.errors.FileError, match="within one another: 11, and the limit is 10"):
        kgraph.load(tmp_path / "y", limits=few)
    with pytest.raises(kgraph.errors.FileError, match="within one another: 11, and the limit is 10"):
        kgraph.save(tmp_path / "y", y, limits=few)

"""What a stranger sends: whatever the bytes are, `load` ends in one FileError or in a graph that verifies, soon and in little memory."""

from __future__ import annotations

import copy
import gc
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kgraph
from kgraph import backend as K
from kgraph.arguments import as_graph
from kgraph.errors import FileError, KGraphError
from kgraph.files import container
from kgraph.ir.op import OPS
from kgraph.ir.verify import verify
from tests.files.parts import everything, packed, saved, unpacked

SECONDS, BYTES = 1.0, 100_000_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return saved(tmp_path_factory.mktemp("files") / "f.safetensors", everything())


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Callable[[bytes], FileError | None]]:
    """Loads bytes within the time and memory that a sample has; gives the error."""
    path = tmp_path / "hostile.safetensors"
    gc.collect()
    gc.disable()  # going through what other tests have left is not what takes the time
    tracemalloc.start()

    def load(data: bytes) -> FileError | None:
        path.write_bytes(data)
        tracemalloc.reset_peak()
        began, error = time.process_time(), None
        try:
            verify(as_graph(kgraph.load(path)))
        except FileError as caught:
            error = caught
        took, most = time.process_time() - began, tracemalloc.get_traced_memory()[1]
        assert took < SECONDS
        assert most < BYTES
        if error is not None:
            assert str(path) in error.place
            assert error.call == "load"
            assert len(str(error)) < 2000
            assert "cannot be built" not in error.message, error  # nothing comes unforeseen
        return error

    yield load
    tracemalloc.stop()
    gc.enable()


# ---------------------------------------------------------------------------------------------------- at random


def test_bytes_that_are_changed_at_random(whole: bytes, attempt: Callable[[bytes], Any]) -> None:
    refused = 0
    for seed in range(400):
        random = Random(seed)
        data = bytearray(whole)
        for _ in range(random.choice([1, 1, 2, 8])):
            place = random.randrange(random.choice([16, len(data), len(data)]))
            change = random.randrange(4)
            if change == 0:
                data[place] ^= 1 << random.randrange(8)
            elif change == 1:
                data[place] = random.choice(b'0123456789[]{},:"\\n-e.\x00\xff')
            elif change == 2:
                del data[place : place + random.choice([1, 2, 50])]
            else:
                data[place:place] = data[place : place + random.choice([1, 2, 50])]
        refused += attempt(bytes(data)) is not None
    assert refused > 200  # a digit within a name changes nothing else


def test_files_that_are_cut(whole: bytes, attempt: Callable[[bytes], Any]) -> None:
    for length in [*range(64), *range(64, len(whole), 211), len(whole) - 1]:
        assert attempt(whole[:length]) is not None
    assert attempt(whole + b"\0") is not None
    assert attempt(whole) is None


#: What stands where something else should.
ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 7, 2**31, 2**53, 2**63 - 1, -(2**63), "", "x", "float32", "add", "scan", "__class__", "../../etc/passwd",
    [], [[]], [0], [-1], [2**62] * 3, ["float32", 2**62, 2**62], [None], {}, {"body": 0}, {"type": 0}, {"identity": 0}, {"value": [0, ""]},
    {"value": [1, "00000000"]}, {"x": 1, "y": 2}, "w", "constant", [["float32"], ["float32", 3]], ["variable", "w", 0, "w"],
    ["placeholder", "x"], ["stream", None, 1, 2**62], list(range(100)), "a" * 20_000, [0] * 3000, "bool",
]  # fmt: skip


def _spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a value of JSON: what holds it, and the key."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    for each in todo:
        pairs = each.items() if isinstance(each, dict) else enumerate(each)
        for key, part in pairs:
            found.append((each, key))
            if isinstance(part, (dict, list)):
                todo.append(part)
    return found


def _twisted(random: Random, value: Any) -> None:
    """One change of a value of JSON: to what is odd, or to another part of itself; a part gone, or twice."""
    spots = _spots(value)
    # Small tables are chosen as often as the long columns of numbers.
    holder, key = random.choice(spots if random.randrange(2) else [s for s in spots if not isinstance(s[0][s[1]], int)])
    change = random.randrange(6)
    if change <= 1:
        holder[key] = copy.deepcopy(random.choice(ODD))
    elif change == 2:
        other, at = random.choice(spots)
        holder[key] = copy.deepcopy(other[at])
    elif change == 3:
        del holder[key]
    elif change == 4 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif type(holder[key]) is int:
        holder[key] += random.choice([-1, 1, 2, 1000])
    elif isinstance(holder[key], str):
        holder[key] = random.choice([*OPS, "bool", "int8", "w#2"])


@pytest.mark.parametrize("part", ["graph", "header"])
def test_values_that_are_changed_at_random(part: str, whole: bytes, attempt: Callable[[bytes], Any]) -> None:
    header, graph, tensors = unpacked(whole)
    refused = 0
    for seed in range(300 if part == "graph" else 200):
        random = Random(seed)
        changed = copy.deepcopy(graph if part == "graph" else header)
        for _ in range(random.choice([1, 1, 1, 2, 5])):
            _twisted(random, changed)
        refused += attempt(packed(header, changed, tensors) if part == "graph" else packed(changed, None, tensors)) is not None
    assert refused > 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    value=JSON,
    key=st.sampled_from(["kind", "texts", "types", "identities", "places", "origins", "bodies", "graph", "function", None]),
)
def test_any_json_in_the_place_of_a_part(value: Any, key: str | None) -> None:
    path = Path(os.environ["KERAS_HOME"]) / "json.safetensors"
    header, graph, tensors = unpacked(saved(path, everything()))
    if key is None:
        graph = json.dumps(value)
    else:
        graph[key] = value
    path.write_bytes(packed(header, graph, tensors))
    with pytest.raises(FileError):
        kgraph.load(path)


# ---------------------------------------------------------------------------------------------------- on purpose

Change = Callable[[dict[str, Any], dict[str, Any]], Any]


def _set(*path: Any) -> Change:
    """Sets the last of a path of keys of the graph, whose last item is the value."""

    def change(header: dict[str, Any], graph: dict[str, Any]) -> None:
        *keys, last, value = path
        holder = graph
        for key in keys:
            holder = holder[key]
        holder[last] = value

    return change


def _head_of(graph: dict[str, Any], name: str) -> dict[str, Any]:
    return next(head[1] for head in graph["graph"]["heads"] if head[0] == name)  # type: ignore[no-any-return]


def _own_body(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["bodies"][0]["heads"][0] = _head_of(graph, "scan") and ["scan", {**_head_of(graph, "scan"), "body": {"body": 0}}]


def _outside(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["heads"][0] = ["param", {"index": 0, "type": {"type": 0}}]


def _outer(header: dict[str, Any], graph: dict[str, Any]) -> None:
    where = next(h for h in graph["bodies"][0]["heads"] if h[0] == "param" and h[1]["index"] == 1)
    kind = where[1]["type"]
    graph["identities"].append(["placeholder", "outer"])
    where[:] = ["placeholder", {"type": kind, "uid": {"identity": len(graph["identities"]) - 1}}]


def _one_tensor_twice(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["identities"].append(next(each for each in graph["identities"] if each[0] == "variable"))


def _overlap(header: dict[str, Any], graph: dict[str, Any]) -> None:
    begin, end = header["w"]["data_offsets"]
    header["w"]["data_offsets"] = [begin - 4, end - 4]


def _gap(header: dict[str, Any], graph: dict[str, Any]) -> None:
    del header["w"]


def _huge(header: dict[str, Any], graph: dict[str, Any]) -> None:
    header["w"] = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}


def _zero_and_huge(header: dict[str, Any], graph: dict[str, Any]) -> None:
    header["w"]["shape"] = [0, 2**62, 2**62]
    header["w"]["data_offsets"][1] = header["w"]["data_offsets"][0]


def _dtype(header: dict[str, Any], graph: dict[str, Any]) -> None:
    header["w"]["dtype"] = "I32"


def _bfloat(header: dict[str, Any], graph: dict[str, Any]) -> None:
    header["w"]["dtype"] = "BF16"


def _forward(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["operand"][0] = 99


def _itself(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["operand"][0] = 0


def _fewer(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["operand"].pop()


def _axis(header: dict[str, Any], graph: dict[str, Any]) -> None:
    _head_of(graph, "sum")["axis"] = [5]


def _message(header: dict[str, Any], graph: dict[str, Any]) -> None:
    _head_of(graph, "sum")["keepdims"] = "__import__('os').system('true')"


def _no_uid(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["heads"][0] = ["placeholder", {"type": {"type": 0}, "uid": {"identity": _first(graph, "variable")}}]


def _first(graph: dict[str, Any], sort: str) -> int:
    return next(i for i, each in enumerate(graph["identities"]) if each[0] == sort)


def _type(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["type"][-1] = 0


def _twice(header: dict[str, Any], graph: dict[str, Any]) -> None:
    graph["graph"]["roots"][-2:] = graph["graph"]["roots"][-4:-2]


PLANTED: dict[str, tuple[Change, str]] = {
    "an op of no table": (_set("graph", "heads", 0, "os.system"), r"graph, head 0.*|there is no op 'os.system'"),
    "an op that is dunder": (_set("graph", "heads", 0, "__class__"), "there is no op '__class__'"),
    "a body within itself": (_own_body, "body 0"),
    "a parameter outside": (_outside, "parameter of a body is outside of it"),
    "an outer value in a body": (_outer, "no input of it|not positional"),
    "a tensor for two": (_one_tensor_twice, "is the value of something else too"),
    "bytes of two tensors": (_overlap, "overlap|gap"),
    "bytes of none": (_gap, "gap|and the file has"),
    "a tensor beyond the file": (_huge, "takes|overlap|leave a gap"),
    "no elements and no end": (_zero_and_huge, "overlap|gap|takes"),
    "another dtype": (_dtype, "tensor 'w' is int32"),
    "a dtype that is none": (_bfloat, "no dtype 'BF16'"),
    "an operand to come": (_forward, "stands before the first node"),
    "an operand that is its user": (_itself, "the number 0 is not from 1"),
    "an operand too few": (_fewer, "more operands than are there"),
    "an axis that is none": (_axis, "sum does not take these operands and attrs|sum gives"),
    "code": (_message, "sum cannot have .* as keepdims"),
    "a variable that is fed": (_no_uid, "placeholder cannot have .* as uid"),
    "a type that is not so": (_type, "and the file says"),
    "a variable updated twice": (_twice, "a variable is updated twice"),
    "an engine to import": (_set("function", "engine", "os.path"), "there is no engine 'os.path'"),
    "a pass that is none": (_set("function", "passes", ["exec"]), "there is no pass 'exec'"),
    "a rule that is none": (_set("function", "exclude", ["exec"] * 9000), "there is no rule 'exec'"),
    "rules that are long": (_set("function", "exclude", [f"{i}" * 2000 for i in range(2000)]), "there is no rule '0"),
    "a phase beyond": (_set("function", "phase", 9), "9 is no number from 0"),
    "names of no inputs": (_set("function", "names", []), "0 names"),
    "a kind that is none": (_set("kind", "module"), "the kind 'module'"),
    "a key too many": (_set("graph", "hook", 1), "it is no object with"),
    "roots beyond": (_set("graph", "roots", [10**9]), "the number 1000000000 is not from"),
    "a rank without end": (_set("types", 0, ["float32", *[1] * 100]), "type 0"),
    "a size below zero": (_set("types", 0, ["float32", -1]), "type 0"),
    "a line that is a text": (_set("places", 4, "1"), "places"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted(name: str, whole: bytes, attempt: Callable[[bytes], Any]) -> None:
    change, message = PLANTED[name]
    header, graph, tensors = unpacked(whole)
    change(header, graph)
    error = attempt(packed(header, graph, tensors))
    assert error is not None
    with pytest.raises(FileError, match=message):
        raise error
    assert error.hint


def _text(graph: dict[str, Any], key: str, text: str) -> str:
    """The graph with a text of JSON for a part."""
    return json.dumps({**graph, key: "HERE"}).replace('"HERE"', text)


TEXTS = {
    "NaN": ("NaN", "NaN is no integer"), "infinity": ("[-Infinity]", "-Infinity is no integer"), "a fraction": ("1.5", "1.5 is no integer"),
    "an exponent": ("1e999", "1e999 is no integer"), "digits": ("9" * 100_000, "more than 64 bits"),
    "a number of 65 bits": ("9223372036854775808", "more than 64 bits"), "nesting": ("[" * 100_000 + "]" * 100_000, "deeper than"),
    "nesting in objects": ('{"a":' * 50_000 + "1" + "}" * 50_000, "deeper than"), "a key twice": ('{"a": 1, "a": 2}', "'?a'? is there twice"),
    "no end": ("[1, 2", "no JSON"), "a comma": ("[1,]", "no JSON"), "a control character": ('"\x00"', "no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_json_that_is_odd(name: str, whole: bytes, attempt: Callable[[bytes], Any]) -> None:
    text, message = TEXTS[name]
    header, graph, tensors = unpacked(whole)
    error = attempt(packed(header, _text(graph, "texts", text), tensors))
    with pytest.raises(FileError, match=message):
        raise error or AssertionError("it was loaded")
    spoiled = json.dumps({**header, "w": "HERE"}).replace('"HERE"', text)
    assert attempt(packed(spoiled, None, tensors)) is not None


def test_headers_that_lie(whole: bytes, attempt: Callable[[bytes], Any], tmp_path: Path) -> None:
    for length in (0, 1, len(whole), 2**40, 2**64 - 1):
        error = attempt(length.to_bytes(8, "little") + whole[8:])
        assert error is not None
    sparse = tmp_path / "sparse"  # ten gigabytes that take no room on the disk
    with open(sparse, "wb") as file:
        file.write((10**10).to_bytes(8, "little"))
        file.truncate(10**10 + 8)
    with pytest.raises(
        FileError, match=r"bytes of the header: 10,000,000,000, and the limit is 100,000,000(.|\n)*kgraph.Limits\(header="
    ):
        kgraph.load(sparse)
    with open(sparse, "r+b") as file:
        file.write((90_000_000).to_bytes(8, "little"))
    tracemalloc.reset_peak()
    with pytest.raises(FileError, match="no JSON object"):
        kgraph.load(sparse)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000


def test_bodies_that_double_at_every_depth(tmp_path: Path, whole: bytes, attempt: Callable[[bytes], Any]) -> None:
    """Sixty bodies, each of which has the one before it twice: a small file, and 2 ** 60 nodes for whoever goes over all."""
    kind = [["float32"], ["bool"], [["float32"]]]
    param = ["param", {"index": 0, "type": {"type": 0}}]
    condition = ["constant", {"value": {"value": [1, "01"]}}]
    leaf = {"heads": [param], "head": [0], "width": [0], "operand": [], "type": [0], "origin": [0]}
    bodies = [{**leaf, "inputs": 1, "outputs": 1, "roots": [0, 0]}]
    for number in range(60):
        both = {"then": {"body": number}, "orelse": {"body": number}}
        bodies.append({
            "heads": [param, condition, ["cond", both], ["item", {"index": 0}]], "head": [0, 1, 2, 3], "width": [0, 0, 2, 1],
            "operand": [1, 2, 1], "type": [0, 1, 2, 0], "origin": [0] * 4, "inputs": 1, "outputs": 1, "roots": [0, 3],
        })  # fmt: skip

    def graph(depth: int) -> dict[str, Any]:
        last = copy.deepcopy(bodies[depth])
        last["heads"][0] = ["placeholder", {"type": {"type": 0}, "uid": {"identity": 0}}]
        return {
            "kind": "graph", "texts": [""], "types": kind, "identities": [["placeholder", "x"]], "places": [0, 0, 0, 0, 1],
            "origins": [0], "bodies": bodies[:depth], "graph": last,
        }  # fmt: skip

    header = {"__metadata__": {"kgraph_version": "1"}}
    error = attempt(packed(header, graph(60), b""))
    with pytest.raises(FileError, match="as often as it is used: .* and the limit is"):
        raise error or AssertionError("it was loaded")
    assert attempt(packed(header, graph(12), b"")) is None


def test_limits_are_named_with_what_would_be_enough(tmp_path: Path) -> None:
    path = tmp_path / "f"
    kgraph.save(path, everything())
    size = path.stat().st_size
    for name, few in {"header": 100, "nodes": 20, "depth": 0, "tensors": 2, "bytes": 100, "text": 4}.items():
        with pytest.raises(FileError) as caught:
            kgraph.load(path, limits=kgraph.Limits(**{name: few}))
        assert f"limits=kgraph.Limits({name}=" in str(caught.value)
        assert kgraph.load(path, limits=kgraph.Limits(**{name: size * 10}))


def test_what_is_no_file_of_a_graph(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(
        FileError, match=r"load: the file cannot be read: No such file(.|\n)*at .*absent(.|\n)*hint: look at the path"
    ):
        kgraph.load(tmp_path / "absent")
    with pytest.raises(OSError, match="no file of bytes"):
        kgraph.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no file of bytes"):
        kgraph.load(tmp_path / "pipe")
    with pytest.raises(FileError, match="not a text or a Path"):
        kgraph.load(3)  # type: ignore[arg-type]
    for act in (kgraph.load, lambda path: kgraph.save(path, K.ones(()))):
        with pytest.raises(FileError, match="not a text or a Path that names a file"):
            act("a\0b")
    save_file({"w": np.ones(3)}, tmp_path / "w")
    with pytest.raises(FileError, match="it has 1 tensors and no graph"):
        kgraph.load(tmp_path / "w")
    save_file({"w": np.ones(3)}, tmp_path / "w", {"kgraph_version": "2", "kgraph_graph": "{}"})
    with pytest.raises(FileError, match="its format is version 2, and this kgraph knows version 1(.|\n)*hint: update kgraph"):
        kgraph.load(tmp_path / "w")


def test_what_was_not_foreseen_is_that_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kgraph.save(tmp_path / "v", K.ones((2,)))

    def broken(*args: Any) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(container, "_entries", broken)
    with pytest.raises(FileError, match="cannot be built: RecursionError") as caught:
        kgraph.load(tmp_path / "v")
    assert isinstance(caught.value, KGraphError)


def test_every_attr_of_every_op_has_a_kind() -> None:
    from kgraph.files.attrs import KINDS

    assert {name for op in OPS.values() for name in op.attr_names} <= set(KINDS)

"""The command ``kgraph``: each subcommand on files and programs, as text and as JSON; its errors and exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kgraph
from kgraph import backend as K
from kgraph.command.main import COMMANDS, plain
from kgraph.ir.node import Graph
from tests.commands import Run, data_of, running

PROGRAM = """\
import numpy as np
from kgraph import backend as K

x = K.placeholder((None, 4), name="x")
labels = K.placeholder((None, 3), name="labels")
w = K.variable(np.arange(12.0).reshape(4, 3) / 12, name="w")
scale = K.variable(np.ones(3), name="scale")
scores = K.softmax(K.dot(x, w))
loss = -K.mean(K.sum(labels * K.log(scores), axis=-1))
held = loss + K.sum(K.stop_gradient(scale))
cut = K.mean(K.cast(K.argmax(K.dot(x, w)), "float32"))
shares = K.mean(K.log(x - 2.0))
both = [loss, w]
number = 3
odd = [loss, 3]


def step():
    print("this is said while it is built")
    gradient, = K.gradients(loss, [w])
    return K.function([x, labels], [loss], [(w, w - 0.1 * gradient)])


def layer(size):
    return size


def fails():
    return K.dot(x, scale + missing)
"""

@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command in a folder with a program, model.py: (status, output, errors)."""
    with running(PROGRAM, tmp_path, monkeypatch, capsys) as found:
        yield found


# ---------------------------------------------------------------------------------------------------- questions


def test_what_did_the_optimiser_do_to_the_softmax(run: Run) -> None:
    status, text, _ = run("optimize", "model.py:loss", "--why", "softmax")
    assert status == 0
    assert "softmax at model.py:8" in text
    assert "stabilise.logarithm: log(softmax) -> log_softmax(matmul) at model.py:9" in text
    told = data_of(run("optimize", "model.py:loss", "--why", "softmax", "--json"))["told"]
    assert told == [text.rstrip("\n")]


def test_where_a_gradient_ends(run: Run) -> None:
    status, text, _ = run("gradients", "model.py:held")
    assert status == 1
    rows = [line.split("  ") for line in text.splitlines()]
    found = {row[0].strip(): "  ".join(row[1:]) for row in rows}
    assert "gets a gradient" in found["w"]
    assert "ends at stop_gradient(scale), which holds gradients back" in found["scale"]
    assert found["scale"].endswith("model.py:10")
    status, text, _ = run("gradients", "model.py:cut")
    assert status == 1
    assert "argmax(matmul, axis=1), which gives int64, and only floats have gradients" in text
    assert text.rstrip().endswith("model.py:11")
    assert run("gradients", "model.py:loss")[:1] == (0,)


def test_which_op_made_the_nan(run: Run) -> None:
    status, text, _ = run("nan", "model.py:shares")
    assert status == 1
    assert "log gives nan at [0, 0]" in text
    assert "log at model.py:12" in text
    found = data_of(run("nan", "model.py:shares", "--json"))
    assert found["found"]["op"] == "log"
    assert found["found"]["line"] == "model.py:12"
    assert found["found"]["operands"][0]["shape"] == [32, 4]
    status, text, _ = run("nan", "model.py:shares", "--range", "3", "4")
    assert status == 0
    assert text.endswith("\n\nevery number is finite\n")


def test_which_variable_holds_most_memory(run: Run) -> None:
    status, text, _ = run("show", "model.py:step", "--summary")
    assert status == 0
    table = text.split("\n\n")[-1].splitlines()
    assert table[0].split() == ["variable", "parameters", "bytes", "line"]
    assert table[1].split() == ["w", "12", "48", "model.py:6"]
    assert data_of(run("show", "model.py:step", "--summary", "--json"))["variables"][0]["bytes"] == 48


# ---------------------------------------------------------------------------------------------------- show


def test_show_is_what_kgraph_shows(run: Run) -> None:
    status, text, errors = run("show", "model.py:loss")
    assert (status, errors) == (0, "")
    assert "softmax(%3, axis=1)" in text
    assert "model.py:8" in text
    found = data_of(run("show", "model.py:loss", "--json"))
    labels = [line.split()[0] for line in text.splitlines() if line.startswith("%")]
    assert [node["key"] for node in found["nodes"] if node["key"].startswith("%")] == labels
    nodes = {node["key"]: node for node in found["nodes"]}
    assert nodes["%4"]["op"] == "softmax"
    assert nodes["%4"]["operands"] == ["%3"]
    assert nodes["%4"]["line"] == 8
    assert found["outputs"] == [labels[-1]]


def test_show_after_passes_and_differences(run: Run) -> None:
    _, built, _ = run("show", "model.py:loss")
    _, after, _ = run("show", "model.py:loss", "--passes", "all")
    assert " log_softmax(" not in built
    assert " log_softmax(" in after
    _, text, _ = run("show", "model.py:loss", "--passes", "all", "--diff")
    assert any(line.startswith("-") and "softmax" in line for line in text.splitlines())
    assert any(line.startswith("+") and "log_softmax" in line for line in text.splitlines())
    found = data_of(run("show", "model.py:loss", "--diff", "model.py:scores", "--json"))
    assert found["went"] == []
    assert "negative" in found["came"][-1]["call"]
    _, text, _ = run("show", "model.py:loss", "--lines", "3")
    assert len(text.splitlines()) == 4
    figures = data_of(run("show", "model.py:loss", "--size", "n=10", "--json"))
    assert figures["sizes"] == {"n": 10}
    assert next(node["flops"] for node in figures["nodes"] if node["op"] == "matmul") == 2 * 10 * 4 * 3


def test_lists_functions_graphs_and_files(run: Run, tmp_path: Path) -> None:
    assert run("show", "model.py:both")[1].splitlines()[-1].count("%") == 2
    x = K.placeholder((3,), name="x")
    kgraph.save(tmp_path / "exp.safetensors", K.exp(x))
    assert "exp(%0)" in run("show", "exp.safetensors")[1]
    kgraph.save(tmp_path / "graph.safetensors", Graph([x.node], [K.exp(x).node]))
    assert "exp(%0)" in run("show", str(tmp_path / "graph.safetensors"))[1]
    assert run("nan", "graph.safetensors")[0] == 0
    status, text, errors = run("show", "model.py:step", "--json")
    assert status == 0
    assert len(json.loads(text)["updates"]) == 1  # what the program prints is not in the output
    assert errors == "this is said while it is built\n"


def test_a_module_of_the_folder_that_one_is_in(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "net.py").write_text("from kgraph import backend as K\nclass Net:\n    out = K.exp(K.placeholder((2,)))\n")
    assert "exp(%0)" in run("show", "pack.net:Net.out")[1]
    status, _, errors = run("show", "pack.net:Net.uot")
    assert status == 2
    assert errors == "kgraph: pack.net:Net has no 'uot'\n  hint: did you mean out?\n"
    before = list(sys.path)
    assert run("show", "pack.nit:Net")[2].startswith("kgraph: there is no module 'pack.nit'\n")
    assert run("show", "pac.net:Net")[2].startswith("kgraph: there is no module 'pac'\n")
    assert sys.path == before


# ---------------------------------------------------------------------------------------------------- optimize


def test_optimize_and_explain(run: Run) -> None:
    status, text, _ = run("optimize", "model.py:loss")
    assert status == 0
    assert text.startswith("nodes: 10 -> 8; flops: ")
    assert "log_softmax" in text
    _, text, _ = run("optimize", "model.py:loss", "--explain")
    assert text.splitlines()[0].split() == ["pass", "rewrites", "nodes", "flops", "bytes", "peak", "bytes"]
    found = data_of(run("optimize", "model.py:loss", "--explain", "--json"))
    assert (found["before"]["nodes"], found["after"]["nodes"]) == (10, 8)
    assert "stabilise.logarithm" in [row["rule"] for row in found["rewrites"]]
    found = data_of(run("optimize", "model.py:loss", "--exclude", "stabilise.logarithm", "--json", "--explain"))
    assert "stabilise.logarithm" not in [row["rule"] for row in found["rewrites"]]
    found = data_of(run("optimize", "model.py:loss", "--passes", "fold", "--json", "--explain"))
    assert found["rewrites"] == []


def test_what_is_saved_is_of_the_same_sort_and_means_the_same(run: Run, tmp_path: Path) -> None:
    status, text, _ = run("optimize", "model.py:step", "--out", "step.safetensors")
    assert (status, text.splitlines()[-1]) == (0, "saved: step.safetensors")
    names: dict[str, Any] = {}
    exec(compile(PROGRAM, "model.py", "exec"), names)
    plain_step, loaded = names["step"](), kgraph.load(tmp_path / "step.safetensors")
    assert type(loaded) is type(plain_step)
    assert len(loaded.graph) < len(plain_step.graph)
    draw = np.random.default_rng(0)
    values = [draw.uniform(size=(5, 4)).astype("float32"), draw.uniform(size=(5, 3)).astype("float32")]
    for _ in range(3):
        np.testing.assert_allclose(loaded(values)[0], plain_step(values)[0], rtol=1e-5)
    run("optimize", "model.py:both", "--out", "both.safetensors")
    assert len(kgraph.load(tmp_path / "both.safetensors")) == 2
    found = data_of(run("optimize", "model.py:loss", "--out", "loss.safetensors", "--json"))
    assert found["out"] == "loss.safetensors"
    assert "log_softmax" in kgraph.to_text(kgraph.load(tmp_path / "loss.safetensors"))


@pytest.mark.parametrize("name", ["%4", "softmax", "model.py:8", ":8"])
def test_a_tensor_is_named_in_many_ways(run: Run, name: str) -> None:
    assert "softmax at model.py:8" in run("optimize", "model.py:loss", "--why", name)[1]


def test_why_not_and_names_that_are_none(run: Run) -> None:
    text = run("optimize", "model.py:loss", "--why-not", "logarithm", "--of", "log")[1]
    assert text == "stabilise.logarithm did apply: log(softmax) -> log_softmax(matmul)\n"
    text = run("optimize", "model.py:loss", "--why-not", "logarithm", "--of", "softmax")[1]
    assert "stabilise.logarithm" in text
    assert "does not apply to float32[?, 3]  softmax at model.py:8" in text
    _, _, errors = run("optimize", "model.py:loss", "--why", "sofmax")
    assert errors == "kgraph: the graph has no node called 'sofmax'\n  hint: did you mean softmax?\n"
    status, _, errors = run("optimize", "model.py:loss", "--why-not", "logarithm")
    assert status == 2
    assert "--why-not and --of go together" in errors
    assert "there is no pass 'fald'" in run("optimize", "model.py:loss", "--passes", "fald")[2]


# ---------------------------------------------------------------------------------------------------- what is fed


def test_values_of_a_file(run: Run, tmp_path: Path) -> None:
    good = np.full((2, 4), 3.0, "float32")
    bad = np.array([[3.0] * 4, [3.0, 3.0, 1.0, 3.0]], "float32")
    np.savez(tmp_path / "good.npz", x=good)
    np.savez(tmp_path / "bad.npz", bad)
    assert run("nan", "model.py:shares", "--inputs", "good.npz")[:2] == (
        0, "fed the values of good.npz: x float32[2, 4]\n\nevery number is finite\n",
    )  # fmt: skip
    status, text, _ = run("nan", "model.py:shares", "--inputs", "bad.npz")
    assert status == 1
    assert "log gives nan at [1, 2]\n" in text
    for arrays, said in (
        ({"y": good}, "has 'y', and nothing of that name is fed"),
        ({"arr_0": good, "arr_1": good}, "has 2 arrays, and 1 are fed\n  input 0: float32[?, 4]  placeholder 'x'"),
    ):
        np.savez(tmp_path / "other.npz", **arrays)
        status, _, errors = run("nan", "model.py:shares", "--inputs", "other.npz")
        assert status == 2
        assert said in errors
    np.savez(tmp_path / "other.npz", x=good)
    assert "other.npz has no 'labels', which is fed" in run("nan", "model.py:loss", "--inputs", "other.npz")[2]
    np.savez(tmp_path / "other.npz", x=good[:, :2])
    assert "shape [2, 2] was fed, [?, 4] is expected" in run("nan", "model.py:shares", "--inputs", "other.npz")[2]
    np.save(tmp_path / "one.npy", good)
    np.savez(tmp_path / "objects.npz", x=np.array([None]))
    (tmp_path / "text.npz").write_text("text")
    for file, said in (
        ("one.npy", "holds one array"), ("objects.npz", "no file of numbers"), ("text.npz", "no file of numbers"),
        ("none.npz", "cannot be read: No such file"),
    ):  # fmt: skip
        status, _, errors = run("nan", "model.py:shares", "--inputs", file)
        assert status == 2
        assert file in errors
        assert said in errors


def test_random_values_are_drawn_by_the_seed(run: Run) -> None:
    whole = [data_of(run("nan", "model.py:shares", "--json", *more))["found"]["operands"] for more in ((), (), ("--seed", "1"))]
    assert whole[0] == whole[1]
    assert whole[0] != whole[2]
    found = data_of(run("nan", "model.py:loss", "--json", "--size", "n=5"))
    assert {row["name"]: row["type"] for row in found["fed"]["values"]} == {"x": "float32[5, 4]", "labels": "float32[5, 3]"}
    _, _, errors = run("nan", "model.py:loss", "--size", "m=5")
    assert errors == "kgraph: there is no unknown size 'm'\n  hint: the unknown sizes are n\n"
    assert "is not NAME=SIZE" in run("nan", "model.py:loss", "--size", "n")[2]
    assert "has to be larger" in run("nan", "model.py:loss", "--range", "1", "0")[2]
    assert "--inputs has values" in run("nan", "model.py:loss", "--inputs", "a.npz", "--size", "n=3")[2]


def test_integers_are_drawn_too(run: Run, tmp_path: Path) -> None:
    table, ids = K.variable(np.ones((2, 3)), name="table"), K.placeholder((None, 5), dtype="int32", name="ids")
    kgraph.save(tmp_path / "ids.safetensors", K.log(K.gather(table, ids)))
    status, text, _ = run("nan", "ids.safetensors")
    assert status == 0
    assert text.startswith("fed random integers 0 and 1 (seed 0): ids int32[32, 5]\n")
    status, _, errors = run("nan", "ids.safetensors", "--range", "7", "9")
    assert status == 2
    assert "out of range" in errors or "out of bounds" in errors


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("model.py:los", "model.py has no 'los'\n  hint: did you mean loss?"),
        ("model.py", "model.py is a program: say which of its names\n  hint: it has x, labels, w, scale, scores, loss, "),
        ("model.py:number", "model.py:number is of the type int, not a tensor, a list of tensors, a graph or a function"),
        ("model.py:odd", "model.py:odd is a list that holds something of the type int, not a tensor"),
        ("model.py:layer", "model.py:layer takes (size), and can be called only without arguments"),
        ("model.py:fails", "model.py cannot be called as fails(): NameError: name 'missing' is not defined\n  model.py:29  return K.dot"),
        ("modle.py:loss", "there is no file 'modle.py'\n  hint: did you mean model.py?"),
        ("raises.py:x", "raises.py cannot be imported: ValueError: one\n  two\n  raises.py:2  deeper()\n  deep.py:2  raise ValueError"),
        ("syntax.py:x", "syntax.py cannot be imported: SyntaxError: invalid syntax\n  "),
        ("exits.py:x", "exits.py cannot be imported: it ended itself, by sys.exit('no')"),
        ("shapes.py:x", "shapes.py cannot be imported: ShapeError: dot: inner sizes differ"),
        ("imports.py:x", "imports.py cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'\n  imports.py:1  import"),
        ("nowhere_at_all:x", "there is no module 'nowhere_at_all'\n  hint: GRAPH is a file of kgraph.save, "),
        ("text.safetensors", "load: "),
        ("none.safetensors", "there is no file 'none.safetensors'\n  hint: did you mean text.safetensors?"),
        (":x", "there is no file ':x'\n  hint: GRAPH is a file"),
        (".", "'.' is a folder\n  hint: GRAPH is a file"),
    ],
)  # fmt: skip
def test_a_target_that_is_none(run: Run, tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "raises.py").write_text("from deep import deeper\ndeeper()\n")
    (tmp_path / "deep.py").write_text("def deeper():\n    raise ValueError('one\\ntwo')\n")
    (tmp_path / "syntax.py").write_text("x = = 3\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit('no')\n")
    (tmp_path / "imports.py").write_text("import nowhere_at_all\n")
    (tmp_path / "shapes.py").write_text("from kgraph import backend as K\nK.dot(K.ones((2, 3)), K.ones((2, 3)))\n")
    (tmp_path / "text.safetensors").write_text("this is no file of tensors")
    status, output, errors = run("show", target)
    assert (status, output) == (2, "")
    assert errors.removeprefix("this is said while it is built\n").startswith(f"kgraph: {said}")
    assert "Traceback" not in errors
    assert "importlib" not in errors
    found = run("show", target, "--json")
    assert data_of(found)["error"]["message"] in errors


def test_statuses_of_what_is_typed_wrongly(run: Run) -> None:
    status, output, _ = run()
    assert status == 2
    assert "exit status:" in output
    assert run("shwo")[0] == 2
    assert run("show")[0] == 2
    assert run("--version")[:2] == (0, f"kgraph {kgraph.__version__}\n")
    assert "asked for together" in run("show", "model.py:loss", "--diff", "--summary")[2]
    assert "--lines is 'x'" in run("show", "model.py:loss", "--lines", "x")[2]
    assert "and there are 1 outputs" in run("gradients", "model.py:loss", "--output", "2")[2]
    assert "did you mean scale?" in run("gradients", "model.py:held", "--of", "scal")[2]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_subcommand_has_help_with_examples_that_are_typed_rightly(run: Run, command: Any) -> None:
    status, text, _ = run(command.name, "--help")
    assert status == 0
    assert "exit status:" in text
    assert "--json" in text
    for example in command.examples:
        assert f"  {example}\n" in text
        words = example.partition(" | ")[0].split()
        assert words[:2] == ["kgraph", command.name]
        parsed = _parsed(words[1:])
        assert parsed.run is command.run


def _parsed(words: list[str]) -> Any:
    from kgraph.command.main import _parser

    return _parser().parse_args(words)


def test_what_happens_in_a_subcommand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> Callable[..., Any]:
        def show(*args: Any, **named: Any) -> None:
            raise error

        return show

    monkeypatch.setattr(kgraph, "show", raising(KeyboardInterrupt()))
    status, _, errors = run("show", "model.py:loss")
    assert (status, errors) == (130, "")
    monkeypatch.setattr(kgraph, "show", raising(ZeroDivisionError("unforeseen")))
    status, _, errors = run("show", "model.py:loss")
    assert status == 3
    assert "ZeroDivisionError: unforeseen\nkgraph: this should not have happened" in errors


def test_json_has_no_numbers_that_it_does_not_know() -> None:
    found = plain({"a": float("nan"), 2: [np.float32(-np.inf), np.arange(2), (True, None)], "p": Path("x")})
    assert found == {"a": "nan", "2": ["-inf", [0, 1], [True, None]], "p": "x"}

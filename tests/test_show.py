"""`kgraph.show` and `to_text`: what is printed where, folded and cut; summaries."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

import kgraph
from kgraph import backend as K
from kgraph.errors import ArgumentError, GraphError
from kgraph.ir import cost
from kgraph.ir.node import Graph
from kgraph.ir.text import listing
from kgraph.ir.traverse import toposort
from kgraph.summary import Summary
from kgraph.terminal import clean
from tests.ir.strategies import Sample, graphs, quick
from tests.process import run_python

CODES = re.compile("\x1b\\[[0-9;]*m")


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with colours, whatever the tests are run in."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def program() -> tuple[Any, Any, Any]:
    x, w = K.placeholder((None, 4), name="x"), K.variable(np.ones((4, 3), "float32"), name="w")
    with K.name_scope("head"):
        loss = K.sum(K.dot(K.in_train_phase(K.dropout(x, 0.5), x), w))
    return x, w, loss


def test_prints_by_default_and_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    x, _, loss = program()
    assert kgraph.show(loss) is None  # type: ignore[func-returns-value]
    text = capsys.readouterr().out
    assert text == kgraph.to_text(loss) + "\n"
    file = io.StringIO()
    kgraph.show(loss, file=file)
    assert file.getvalue() == text
    assert capsys.readouterr().out == ""
    for line, plain in zip(text.splitlines(), str(K.function([x], loss).graph).splitlines(), strict=True):
        assert line.split("  head")[0].split() == plain.split()[: 3 if "learning_phase" in line else None]
    assert text.count("  head\n") == text.count("head") > 5


def test_of_a_tensor_a_list_a_graph_a_function_and_what_is_none() -> None:
    x, w, loss = program()
    f = K.function([x], [loss, w], [(w, w * 2)])
    assert kgraph.to_text(f) == kgraph.to_text(f.graph)
    assert kgraph.to_text(f).splitlines()[-1].split()[0] == "update"
    assert kgraph.to_text([loss]) == kgraph.to_text(loss)
    with pytest.raises(GraphError, match="outputs is a int, not a list of tensors"):
        kgraph.show(3)


def test_after_passes() -> None:
    _, _, loss = program()
    for how in ({"training": False}, {"passes": ["fold"], "training": False}, {"passes": True}):
        after = kgraph.optimize(loss, **{"passes": False, **how})
        assert kgraph.to_text(loss, **how) == kgraph.to_text(after)
    assert "learning_phase" in kgraph.to_text(loss)
    assert "learning_phase" not in kgraph.to_text(loss, training=True)
    with pytest.raises(GraphError, match="there is no pass 'nothing'"):
        kgraph.show(loss, ["nothing"])


def test_colours_in_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, loss = program()
    for how in ({}, {"summary": True}, {"training": False, "diff": True}):
        plain = kgraph.to_text(loss, **how)
        assert "\x1b" not in plain
        terminal, pipe = Terminal(), io.StringIO()
        kgraph.show(loss, file=terminal, **how)
        kgraph.show(loss, file=pipe, **how)
        assert pipe.getvalue() == plain + "\n"
        assert CODES.search(terminal.getvalue())
        assert CODES.sub("", terminal.getvalue()) == plain + "\n"
        for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
            with monkeypatch.context() as change:
                change.setenv(name, value)
                silent = Terminal()
                kgraph.show(loss, file=silent, **how)
                assert silent.getvalue() == plain + "\n"


def test_lines_fit_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, loss = program()
    monkeypatch.setattr(sys.modules["kgraph.show"], "width_of", lambda file: 90)  # kgraph.show is the function
    terminal = Terminal()
    kgraph.show(loss, file=terminal)
    lines = CODES.sub("", terminal.getvalue()).splitlines()
    whole = kgraph.to_text(loss).splitlines()
    assert max(map(len, whole)) > 90
    assert max(map(len, lines)) <= 90
    assert len(lines) == len(whole)
    assert all(line.split()[0] == full.split()[0] for line, full in zip(lines, whole, strict=True))


def test_names_cannot_command_a_terminal_or_break_a_line() -> None:
    with K.name_scope("\x1b[2Jscope\n"):
        x = K.placeholder((2,), name="\x1b]0;title\x07\nx")
        y = K.exp(x)
    for how in ({}, {"summary": True}):
        text = kgraph.to_text(y, **how)
        assert not set(text) & set("\x1b\x07")
        terminal = Terminal()
        kgraph.show(y, file=terminal, **how)
        assert "\x1b" not in CODES.sub("", terminal.getvalue())
        assert "\\x1b[2Jscope\\n" in text
    assert len(kgraph.to_text(y).splitlines()) == 3
    assert clean("é \t") == "é \\t"


def test_names_that_a_file_cannot_hold() -> None:
    x = K.placeholder((2,), name="größe")
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "ascii")
    kgraph.show(x, file=file)
    file.flush()
    assert b"placeholder 'gr\\xf6\\xdfe'" in raw.getvalue()


def test_long_graphs_are_cut_and_repeats_shown_once() -> None:
    x = K.placeholder((4,), name="x")
    y = x
    for _ in range(10_000):
        y = K.tanh(y)
    text = kgraph.to_text(y)
    assert len(text.splitlines()) == 4
    assert [line.split("  ")[0] for line in text.splitlines()] == ["%0", "10,000 times:", "", "return"]
    cut = kgraph.to_text(y, fold=False, lines=10).splitlines()
    assert len(cut) == 11
    assert cut[5].split() == ["...", "9992", "more", "..."]
    assert len(kgraph.to_text(y, fold=False, lines=None).splitlines()) == 10_002
    with pytest.raises(ArgumentError, match="lines is 0"):
        kgraph.show(y, lines=0)


@quick
@given(graphs())
def test_unfolded_text_is_the_listing_with_scopes(sample: Sample) -> None:
    text = kgraph.to_text(sample.graph, fold=False, lines=None)
    for line, plain in zip(text.splitlines(), listing(sample.graph, 10**6).splitlines(), strict=True):
        words = plain.split()
        if "learning_phase()" in words:  # one node for all programs, whose line says nothing
            words = words[:-1]
        assert line.split()[: len(words)] == words


def test_what_looks_is_imported_when_it_is_used() -> None:
    program = """
import sys, kgraph
from kgraph import backend as K
x = K.exp(K.placeholder((2,)))
kgraph.show(x)
print({"rich", "networkx"} & set(sys.modules))
kgraph.to_networkx(x)
print({"rich", "networkx"} & set(sys.modules))
"""
    assert run_python(program).splitlines()[-2:] == ["set()", "{'networkx'}"]


# ---------------------------------------------------------------------------------------------------- summaries


def test_a_summary_worked_out_by_hand() -> None:
    x = K.placeholder((None, 4), name="x")
    with K.name_scope("encoder"):
        w = K.variable(np.ones((4, 3)), name="w")
        with K.name_scope("first"):
            h = K.dot(x, w)
        with K.name_scope("second"):
            y = K.exp(h) + 1.7182  # a constant of its own: others have scopes of other tests
    found = Summary(K.function([x], y).graph)
    by = {part.name: (part.nodes, part.parameters, str(part.flops), str(part.bytes)) for part in [*found.ops, *found.scopes]}
    assert by["matmul"] == (1, 0, "24*n", "28*n + 48")  # 4 products and additions for each of 3; reads 4 and w, writes 3
    assert by["exp"] == (1, 0, f"{3 * cost.DEAR}*n", "24*n")
    assert by["add"] == (1, 0, "3*n", "24*n + 4")
    assert by["encoder/first"] == by["matmul"]
    assert by["encoder/second"][:3] == (3, 0, "33*n")
    assert by["encoder"][:3] == (5, 12, "57*n")
    assert found.total[1:5] == (len(toposort([y.node])), 12, found.total.flops, found.total.bytes)
    assert [(part.name, part.bytes) for part in found.variables] == [("w", 48)]
    assert [part.name for part in found.scopes] == ["", "encoder", "encoder/first", "encoder/second"]
    assert found.as_data()["total"]["flops"] == "57*n"
    fixed = Summary(K.function([x], y).graph, {"n": 10})
    assert fixed.total.flops == 570
    assert "570" in kgraph.to_text(y, summary=True, sizes={"n": 10}).split()
    with pytest.raises(ArgumentError, match="the unknown sizes are n"):
        Summary(K.function([x], y).graph, {"m": 10})


def test_a_loop_counts_as_often_as_it_runs() -> None:
    x = K.placeholder((7, 3), name="x")
    with K.name_scope("loop"):
        y = K.foldl(lambda total, row: total + K.exp(row), x)
    found = Summary(Graph([x.node], [y.node]))
    ops = {part.name: part.flops for part in found.ops}
    assert ops["exp"] == 6 * 3 * cost.DEAR
    assert found.total.flops == cost.cost(Graph([x.node], [y.node])).flops


@quick
@given(graphs())
def test_the_parts_add_up_to_what_the_graph_costs(sample: Sample) -> None:
    try:
        whole = cost.cost(sample.graph, dict.fromkeys(cost.Unknowns(sample.graph).of, 5))
    except ArgumentError:
        assume(False)
    found = Summary(sample.graph, dict.fromkeys(cost.Unknowns(sample.graph).of, 5))
    assert (found.total.flops, found.total.bytes) == (whole.flops, whole.bytes)
    for name in ("nodes", "parameters", "flops", "bytes"):
        total = getattr(found.total, name)
        assert sum(getattr(part, name) for part in found.ops) == total
        assert sum(getattr(part, name) for part in found.scopes if "/" not in part.name) == total


def test_scopes_alike_are_one_row_and_many_variables_are_cut() -> None:
    h = K.placeholder((5, 8))
    for i in range(30):
        with K.name_scope(f"layer_{i}"):
            h = K.relu(K.dot(h, K.variable(np.eye(8), name=f"w{i}")))
    text = kgraph.to_text(h, summary=True)
    (row,) = [line for line in text.splitlines() if "layer_" in line]
    assert row.split()[:6] == ["layer_0", "to", "layer_29,", "each", "of", "30"]
    assert "20 more" in text
    with pytest.raises(ArgumentError, match="summary and diff were asked for together"):
        kgraph.show(h, summary=True, diff=h)

"""What Theano's profile says of the nodes of a function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.lower.theano.profile import TheanoProfiler, _programs


def rows(profile: Any) -> dict[str, Any]:
    return {row.op: row for row in profile.nodes() if row.node is not None}


def test_the_time_of_what_is_fused_belongs_to_the_lines_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = []
    measure = TheanoProfiler.measure

    def seen(self: TheanoProfiler, values: Any) -> Any:
        fused[:] = [str(apply.op) for program in _programs(self._program) for apply in program.function.fn.nodes]
        return measure(self, values)

    monkeypatch.setattr(TheanoProfiler, "measure", seen)
    x = K.placeholder((None, 300), name="x")
    first = K.exp(x)
    second = first + x
    third = K.sin(second)
    found = rows(K.function([x], third, engine="theano").profile([np.ones((300, 300))], runs=3))
    assert len(fused) == 1  # one operation
    assert "Composite" in fused[0]
    assert set(found) == {"exp", "add", "sin"}
    assert len({row.line for row in found.values()}) == 3
    assert all(row.calls == 1 for row in found.values())
    # Of the model: 10 operations for exp and sin, 1 for an addition.
    assert found["exp"].seconds == pytest.approx(found["sin"].seconds) == pytest.approx(10 * found["add"].seconds)
    assert found["add"].bytes == 3 * 300 * 300 * 4


def test_without_a_compiler() -> None:
    """The machine is a loop of ours, in Python."""
    x = K.placeholder((3,), name="x")
    y = K.switch(K.sum(x) > 0, lambda: K.exp(x) * 2, lambda: K.cos(x))
    f = K.function([x], K.map_fn(lambda part: K.sin(part), y), engine="theano", options={"c_code": False})
    for values, taken in ((np.ones(3), {"exp"}), (-np.ones(3), {"cos"})):
        profile = f.profile(values, runs=2)
        found = rows(profile)
        assert {"exp", "cos"} & set(found) == taken
        assert found["sin"].calls == 3
        assert found["scan"].calls == found["cond"].calls == 1
        assert sum(row.seconds for row in profile.nodes()) == pytest.approx(profile.seconds)


@pytest.mark.usefixtures("uncompiled")
def test_time_is_not_taken_from_what_a_rule_goes_past_on_its_way_to_an_operand() -> None:
    x, w = K.placeholder((None, 30), name="x"), K.variable(np.ones((30, 30)))
    e = K.exp(K.dot(x, w) * 0.01)
    loss = K.sum(K.square(e / K.sum(e, axis=1, keepdims=True)))
    f = K.function([x], K.gradients(loss, [w]), engine="theano", optimize=False)
    found = {(row.op, row.role) for row in f.profile([np.ones((4, 30))], runs=1).nodes()}
    assert {("matmul", "forward"), ("exp", "forward"), ("matmul", "gradient")} <= found

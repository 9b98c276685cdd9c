"""What TensorFlow's trace says of the nodes of a function."""

from __future__ import annotations

import numpy as np

from kgraph import backend as K
from kgraph.lower.tensorflow.profile import path_of
from kgraph.profile import REST


def test_ops_are_told_by_their_scopes() -> None:
    assert path_of("kgraph/function_1/at12/MatMul") == (("", 12),)
    assert path_of("kgraph/function/at5/while/body/_9/at5-body2/MatMul") == (("", 5), ("body", 2))
    inner = "Func/kgraph/function/at4/while/body/_1/at4-body10/cond/then/_3/at4-body10-then2/Sin"
    assert path_of(inner) == (("", 4), ("body", 10), ("then", 2))
    # What a loop makes of its operands has the names of these behind its own.
    assert path_of("kgraph/function/at5/while/kgraph/function/at0/Const_switch/_29") == (("", 5),)
    assert path_of("kgraph/function/ReadVariableOp") == ()
    assert path_of("_SOURCE") == ()
    assert path_of("kgraph/chat3/at/MatMul") == ()


def test_what_xla_has_made_one_of_belongs_to_no_node() -> None:
    x = K.placeholder((50,), name="x")
    f = K.function([x], K.exp(x) * K.sin(x), engine="tensorflow", options={"xla": True})
    profile = f.profile([np.ones(50)], runs=2)
    assert profile.nodes()[0].op == REST
    assert profile.seconds > 0
    assert {row.op for row in profile.nodes()} <= {REST, "exp", "sin", "multiply"}
    assert str(profile).splitlines()[3].startswith(f"{REST}  ")

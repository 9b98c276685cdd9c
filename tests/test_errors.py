"""What each error says: the K function, the operands as the user named them, the user's line, and what to do next.

The texts are in mistakes.txt. They are compared on the NumPy engine; on the others the class of the error is.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import kgraph.errors
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph import cache
from kgraph.errors import BodyError, GraphError, IndexOutOfRange, KGraphError, MissingRule, ShapeError
from kgraph.ir.body import trace
from kgraph.ir.origin import building
from kgraph.ir.passes import PIPELINE
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import TensorType
from kgraph.lower.emit import CHUNK
from kgraph.lower.engine import Engine, engine_names
from kgraph.lower.numpy import RULES

MISTAKES = Path(__file__).with_name("mistakes.txt")
NAMES = {"K": K, "np": np, "o": o, "Engine": Engine, "trace": trace, "Tensor": Tensor, "TensorType": TensorType}


def shown(file: str) -> str:
    """A file as messages show it: relative to where the tests run, if it is below."""
    return os.path.relpath(file) if file.startswith(os.getcwd() + os.sep) else file


class Mistake(NamedTuple):
    """A row of mistakes.txt: the code, the number of its first line, and what it prints."""

    code: str
    line: int
    text: str

    def __str__(self) -> str:
        return self.code.splitlines()[0]


def blocks(text: str) -> Iterator[Mistake]:
    """The rows; those without a text are the setup."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        start = at
        at += 1
        if lines[start].startswith(">>> "):
            code = [lines[start][4:]]
            while at < len(lines) and lines[at].startswith("... "):
                code.append(lines[at][4:])
                at += 1
            first = at
            while at < len(lines) and lines[at] and not lines[at].startswith(">>> "):
                at += 1
            yield Mistake("\n".join(code), start + 1, "\n".join(lines[first:at]))


ROWS = list(blocks(MISTAKES.read_text(encoding="utf-8")))
SETUP = [row for row in ROWS if not row.text]
ROWS = [row for row in ROWS if row.text]


def execute(row: Mistake, names: dict[str, Any]) -> None:
    exec(compile("\n" * (row.line - 1) + row.code, str(MISTAKES), "exec"), names)


def made(row: Mistake, setup: list[Mistake]) -> Exception:
    """The error of a mistake."""
    names = dict(NAMES)
    for one in setup:
        execute(one, names)
    with pytest.raises(Exception) as caught:  # whichever
        execute(row, names)
    return caught.value


def spelled(error: Exception, line: int) -> str:
    text = f"{type(error).__name__}: {error}"
    for what, name in (
        (rf"{re.escape(shown(str(MISTAKES)))}:{line}\b", "HERE"),
        (rf"{re.escape(shown(str(MISTAKES)))}:", "FILE:"),
        (", ".join(engine_names()), "ENGINES"),
        (r"engines that have it: .*", "engines that have it: ENGINES"),
        (", ".join(PIPELINE), "PASSES"),
    ):
        text = re.sub(what, name, text)
    return text


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_mistake_says_what_is_wrong_where_and_what_to_do(row: Mistake, engine: str) -> None:
    error = made(row, SETUP)
    assert isinstance(error, KGraphError)
    text = spelled(error, row.line)
    assert text == row.text if engine == "numpy" else text.split(":")[0] == row.text.split(":")[0]
    assert building.origin is None


BUILT_IN = {
    "ShapeError": (ValueError,), "DTypeError": (TypeError,), "AxisError": (ValueError, IndexError), "IndexOutOfRange": (IndexError,),
    "TensorUseError": (TypeError,), "GradientError": (ValueError,), "FeedError": (ValueError, TypeError),
    "UpdateError": (ValueError, TypeError), "BodyError": (ValueError,), "ArgumentError": (ValueError,), "EngineError": (ValueError,),
    "MissingRule": (NotImplementedError,), "GraphError": (ValueError,), "ConfigError": (ValueError,),
    "RuleError": (AssertionError,), "FileError": (ValueError, OSError),
}  # fmt: skip


def test_every_class_of_errors_is_one_of_pythons_too_and_has_a_row() -> None:
    classes = {n: c for n, c in vars(kgraph.errors).items() if inspect.isclass(c) and issubclass(c, KGraphError)}
    del classes["KGraphError"]
    assert set(classes) == set(BUILT_IN)
    for name, kinds in BUILT_IN.items():
        assert all(issubclass(classes[name], kind) for kind in kinds)
    told = {row.text.split(":")[0] for row in ROWS}
    assert told == set(classes) - {"ConfigError", "RuleError", "FileError"}  # test_config.py, test_check.py and files have these


def test_the_parts_of_an_error_can_be_read_apart() -> None:
    x, w = K.placeholder((None, 3), name="x"), K.variable(np.zeros((4, 2)), name="w")
    with pytest.raises(ShapeError) as caught:
        K.dot(x, w)
    error = caught.value
    assert error.call == "dot"
    assert error.message == "inner sizes differ: 3 (last axis of x) != 4 (second-to-last axis of y)"
    assert list(error.operands) == ["x: float32[?, 3]  placeholder 'x'", "y: float32[4, 2]  variable 'w'"]
    assert error.place == f"{shown(__file__)}:{caught.traceback[0].lineno + 1}"
    assert error.hint == "'w' expects inputs of size 4; the last axis of 'x' has size 3."


# ---------------------------------------------------------------------------------------------------- the user's line


def line_of(build: Callable[..., Any]) -> str:
    """A one-line function's own line, as messages show it."""
    return f"{shown(__file__)}:{build.__code__.co_firstlineno}"


def test_the_line_is_the_one_in_the_users_own_function() -> None:
    layer = lambda x, w: K.sigmoid(K.dot(x, w))  # noqa: E731
    with pytest.raises(ShapeError, match=re.escape(f"at {line_of(layer)}")):
        layer(K.placeholder((2, 3)), K.placeholder((4, 5)))


def test_the_line_is_the_one_in_the_callable_of_a_branch() -> None:
    x = K.placeholder((3,), name="x")
    side = lambda: x + np.zeros(4)  # noqa: E731
    with pytest.raises(ShapeError, match=re.escape(f"at {line_of(side)}")):
        K.switch(K.sum(x) > 0, side, x)


def test_the_line_is_that_of_the_part_of_a_long_expression() -> None:
    x, i = K.placeholder((3,), name="x"), K.placeholder((), dtype="int32", name="i")
    first = inspect.currentframe().f_lineno
    y = (
        K.sin(x)
        + K.cos(x)
        + K.gather(x, i)
        + K.exp(x)
    )  # fmt: skip
    with pytest.raises(IndexOutOfRange, match=re.escape(f"at {shown(__file__)}:{first + 4}")):
        K.function([x, i], [y])([[1, 2, 3], 5])


def test_another_code_object_in_the_place_of_one_that_is_gone_has_its_own_lines() -> None:
    for n in range(200):  # the memory of a code object is used again at once
        names: dict[str, Any] = {"K": K}
        exec(compile(f"{chr(10) * n}t = K.variable({n}.0) * 2", f"file_{n}.py", "exec"), names)
        assert str(names["t"].node.origin) == f"file_{n}.py:{n + 1}"


def test_an_operand_that_the_call_has_cast_is_shown_as_it_was_given_wherever_else_it_was_cast() -> None:
    x, y = K.placeholder((3,), dtype="int32", name="x"), K.variable(np.zeros(3), name="y")
    kept = [x + y, x - y, x * y, K.maximum(x, y), K.equal(x, y)]  # a node remembers a few of its lines only
    for build in (lambda w: x + w, lambda w: K.stack([x, w]), lambda w: K.pow(w, x), lambda w: K.clip(x, 0.0, w), lambda w: K.elu(x, w)):
        with pytest.raises(ShapeError) as caught:
            build(K.variable(np.zeros(4), name="w"))
        shown = sorted(line.partition(": ")[2].strip() for line in caught.value.operands)
        assert shown == ["float32[4]  variable 'w'", "int32[3]  placeholder 'x'"]
    assert len(kept) == 5


def test_an_operand_that_one_line_has_made_in_a_long_loop_is_shown_at_once() -> None:
    x = K.placeholder((3,), name="x")
    grow = lambda x, y: x + y  # noqa: E731
    for _ in range(20_000):
        x = grow(x, x)  # 2 ** 20_000 ways back
    with pytest.raises(ShapeError, match="x: float32.3.  placeholder 'x'\n  y: float32.4.  variable 'w'"):
        grow(x, K.variable(np.zeros(4), name="w"))


# ---------------------------------------------------------------------------------------------------- programs that are shared


def row_of(name: str, build: Callable[[Any, Any], Any], optimize: bool = True) -> Any:
    """A function of a placeholder of indices into a variable."""
    table, i = K.variable([[1.0, 2.0], [3.0, 4.0]], name=f"{name}_table"), K.placeholder((None,), dtype="int32", name=f"{name}_i")
    return K.function([i], [build(table, i)], optimize=optimize)


@pytest.mark.parametrize("optimize", [True, False])
def test_an_error_in_a_shared_program_names_lines_and_names_of_the_function_that_is_called(optimize: bool) -> None:
    cache.clear()
    builds = [lambda t, i: K.sum(K.gather(t, i) * 2)]
    builds.append(lambda t, i: K.sum(K.gather(t, i) * 2))  # the same, from another line
    functions = [row_of(f"f{n}", build, optimize) for n, build in enumerate(builds)]
    for _ in range(2):
        for n, (f, build) in enumerate(zip(functions, builds, strict=True)):
            assert f([[0, 1]]) == [20]
            with pytest.raises(IndexOutOfRange) as caught:
                f([[0, 2]])
            assert str(caught.value) == (
                "gather: index 2 is out of bounds for axis 0 with size 2\n"
                f"  x:       float32[2, 2]  variable 'f{n}_table'\n"
                f"  indices: int32[?]  placeholder 'f{n}_i'\n"
                f"  at {line_of(build)}\n"
                "  hint: the indices of an axis of size n go from -n to n - 1"
            )
    assert len(cache.as_optimised) == 1


BODIES = {
    "one side": "K.switch(K.sum(i) > 0, lambda: K.gather(t, i), lambda: K.gather(t, i) * 0)",
    "the other side": "K.switch(K.sum(i) < 0, lambda: K.sin(t), lambda: K.gather(t, i)[:2])",
    "two deep": "K.switch(K.sum(i) > 0, lambda: K.switch(K.sum(i) > 1, lambda: K.sum(K.gather(t, i)), 1.0), 0.0)",
    "before the call of switch": "K.switch(K.sum(i) > 0, K.exp(K.sum(K.gather(t, i))), 0.0)",
    "a phase": "K.in_test_phase(lambda: K.gather(t, i), lambda: K.tanh(t))",
    "the gradient": "K.gradients(K.switch(K.sum(i) > 0, lambda: K.sum(K.exp(K.gather(t, i))), 0.0), [t])[0]",
}


def built_at(line: int, body: str) -> Callable[[Any, Any], Any]:
    """The function of t and i, as if it stood at a line of body.py."""
    return eval(compile("\n" * (line - 1) + "lambda t, i: " + body, "body.py", "eval"), {"K": K})


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_an_error_in_a_branch_names_the_line_and_what_the_branch_was_given(name: str, optimize: bool) -> None:
    functions = [row_of(f"f{line}", built_at(line, BODIES[name]), optimize) for line in range(1, 7)]  # alike: they share bodies
    for f in functions:
        f([[0, 1]])
    for line, f in reversed(list(enumerate(functions, 1))):
        with pytest.raises(IndexOutOfRange) as caught:
            f([[1, 7]])
        assert str(caught.value).splitlines()[:4] == [
            "gather: index 7 is out of bounds for axis 0 with size 2",
            f"  x:       float32[2, 2]  variable 'f{line}_table'",
            f"  indices: int32[?]  placeholder 'f{line}_i'",
            f"  at body.py:{line}",
        ]


def test_an_error_in_a_branch_that_a_pass_has_changed_names_the_line() -> None:
    body = "K.switch(K.sum(i) > 0, lambda: K.gather(K.in_train_phase(K.sin(t), t), i), 0.0)"
    functions = [row_of("f", built_at(line, body)) for line in range(1, 7)]
    for f in functions:
        f([[0, 1]])
    for line, f in enumerate(functions, 1):
        for training in (0, 1):
            with pytest.raises(IndexOutOfRange) as caught:
                f([[1, 7]], training=training)
            assert caught.value.place == f"body.py:{line}"


@pytest.mark.parametrize("before", [0, CHUNK - 3, CHUNK, 2 * CHUNK + 500])
@pytest.mark.parametrize("behind", [0, CHUNK + 1])
def test_an_error_in_a_long_program_names_the_right_line(before: int, behind: int) -> None:
    def chain(y: Any, count: int) -> Any:
        for _ in range(count):
            y = K.sin(y)
        return y

    def program(t: Any, i: Any) -> Any:
        return chain(pick(chain(t, before), i), behind)

    pick = lambda t, i: K.gather(t, i)  # noqa: E731
    row_of("before", program)([[0]])
    with pytest.raises(IndexOutOfRange) as caught:
        row_of("f", program)([[5]])
    assert caught.value.place == line_of(pick)
    assert caught.value.call == "gather"
    assert caught.value.operands[1] == "indices: int32[?]  placeholder 'f_i'"

    inside = lambda t, i: K.switch(K.sum(i) > 0, lambda: chain(K.gather(chain(t, before), i), behind), 0.0)  # noqa: E731
    with pytest.raises(IndexOutOfRange) as caught:
        row_of("f", inside)([[5]])
    assert caught.value.place == line_of(inside)


def test_an_error_in_the_train_program_names_the_line() -> None:
    build = lambda t, i: K.in_train_phase(lambda: K.gather(t, i), lambda: t)  # noqa: E731
    f = row_of("f", build)
    f([[9, 9]])
    with pytest.raises(IndexOutOfRange) as caught:
        f([[9, 9]], training=True)
    assert caught.value.place == line_of(build)


def test_an_error_of_the_users_own_making_in_a_call_is_explained_too() -> None:
    rules = {**RULES, o.sin: lambda x: (_ for _ in ()).throw(ZeroDivisionError("by a rule"))}
    f = K.function([x := K.placeholder((), name="x")], [K.sin(x)], engine=Engine("throws", rules))
    with pytest.raises((ZeroDivisionError, GraphError), match="by a rule"):
        f([1])


# ---------------------------------------------------------------------------------------------------- bodies


def leak(of: str = "rnn") -> tuple[Tensor, Tensor, str]:
    """A parameter and a computed value of a body, out of it, and where the body is."""
    kept: list[Any] = []

    def step(x: Any, h: Any) -> list[Any]:
        kept.extend([Tensor(h), Tensor(o.tanh(x + h))])
        return [kept[1].node]

    place = f"{shown(__file__)}:{inspect.currentframe().f_lineno + 1}"
    trace(step, [TensorType("float32", (3,))] * 2, of, ["x", "state"])
    return kept[0], kept[1], place


@pytest.mark.parametrize(
    "use",
    [
        lambda p, v: K.function([], [v]),
        lambda p, v: K.function([], [K.sum(v) * 2]),
        lambda p, v: K.function([], [], [(K.variable(np.zeros(3)), p)]),
        lambda p, v: K.function([], K.gradients(K.sum(v * v), [p])),
        lambda p, v: K.eval(K.switch(K.variable(1.0), v, 0.0)),
        lambda p, v: K.function([v], [v * p]),
    ],
)
@pytest.mark.parametrize("of", ["rnn", "map_fn"])
def test_a_value_of_a_body_used_outside_names_the_body_and_where_it_is(use: Any, of: str) -> None:
    parameter, value, place = leak(of)
    with pytest.raises(BodyError) as caught:
        use(parameter, value)
    lines = str(caught.value).splitlines()
    assert re.fullmatch(f"(function|eval): a value of the body of {of} is used outside of it", lines[0])
    assert lines[1] in ("  value: float32[3]  param 'x'", "  value: float32[3]  param 'state'")
    assert lines[2] == f"  body:  {of} at {place}"
    assert lines[4] == f"  hint: return it from the function given to {of}, and use what {of} returns"


def test_a_body_value_may_stand_below_a_cut() -> None:
    _, value, _ = leak()
    np.testing.assert_array_equal(K.function([value], [value * 2])([[1, 2, 3]])[0], [2, 4, 6])


# ---------------------------------------------------------------------------------------------------- engines


def test_a_missing_rule_names_the_op_the_engine_the_call_and_who_has_it() -> None:
    x = K.placeholder((2,), name="x")
    rules = {op: rule for op, rule in RULES.items() if op not in (o.exp, o.expm1)}
    build = lambda: K.elu(x)  # noqa: E731
    with pytest.raises(MissingRule) as caught:
        K.function([x], [build()], engine=Engine("no exp", rules))([[1, 2]])
    text = str(caught.value)
    assert text.startswith("elu: the engine no exp has no rule for the op expm1")
    assert f"\n  at {line_of(build)}" in text
    assert "hint: engines that have it: numpy" in text


if __name__ == "__main__":
    text = MISTAKES.read_text(encoding="utf-8")
    rows = list(blocks(text))
    setup = [row for row in rows if row.line <= text[: text.index("\n# ")].count("\n")]
    lines = text.splitlines()
    for row in reversed([row for row in rows if row not in setup]):
        end = row.line - 1 + len(row.code.splitlines())
        lines[end : end + len(row.text.splitlines())] = spelled(made(row, setup), row.line).splitlines()
    MISTAKES.write_text("\n".join(lines) + "\n", encoding="utf-8")

"""Where nodes come from: the user's line through every kind of frame, the K function, name scopes, roles."""

from __future__ import annotations

import gc
import operator
import os
import pickle
import textwrap
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.errors import ShapeError
from kgraph.ir.node import Identity, Node
from kgraph.ir.origin import FORWARD, GRADIENT, Origin, building, name_scope
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from tests.process import run_python


def placeholder() -> Tensor:
    return K.placeholder((2,), name="x")


def run(program: str, file: str = "user.py", **names: Any) -> dict[str, Any]:
    names = {"K": K, "np": np, "x": placeholder(), **names}
    exec(compile(program, file, "exec"), names)
    return names


# ---------------------------------------------------------------------------------------------------- the user's line

#: Programs that make a tensor t on the line that is marked.
PROGRAMS = {
    "a call": "t = K.sin(x)  # <-",
    "an operator": "a = 1\nt = 2.0 - x  # <-",
    "an augmented operator": "t = x\nt += 1.0  # <-",
    "an index": "t = x[1:]  # <-",
    "a call of several lines": "t = K.dot(  # <-\n    K.ones((3, 2)),\n    K.reshape(x, (2, 1)),\n)",
    "a part of an expression": "t = [\n    K.sin(x),\n    K.cos(x),  # <-\n][1]",
    "a lambda": "f = lambda v: K.sin(v)  # <-\nt = f(x)",
    "a function": "def f(v):\n    v = v * 2\n    return K.sin(v)  # <-\n\nt = f(x)",
    "a function in a function": "def f():\n    def g():\n        return K.sin(x)  # <-\n    return g\nt = f()()",
    "a list": "t = [\n    K.sin(v)  # <-\n    for v in [x]\n][0]",
    "a dict": "t = {\n    0: K.sin(v)  # <-\n    for v in [x]\n}[0]",
    "a generator": "def f():\n    yield\n    yield K.sin(x)  # <-\n\nt = list(f())[1]",
    "a generator expression": "g = (\n    K.sin(v)  # <-\n    for v in [x]\n)\nt = next(g)",
    "a loop": "t = x\nfor _ in range(3):\n    t = K.sin(t)  # <-",
    "a function of Python's that calls ours": "t = list(map(K.sin, [x]))[0]  # <-",
    "a function of Python's that calls the user's": "f = lambda v: K.sin(v)  # <-\nt = list(map(f, [x]))[0]",
    "a sum": "t = sum([x, x])  # <-",
    "reduce": "import functools\nt = functools.reduce(K.dot, [K.ones((1, 2)), K.ones((2, 2))])  # <-",
    "partial": "import functools\nf = functools.partial(K.sum, axis=0)\nt = f(x)  # <-",
    "a decorator": """
        import functools
        def decorator(f):
            @functools.wraps(f)
            def inner(*args):
                return f(*args)
            return inner

        @decorator
        def f(v):
            return K.sin(v)  # <-
        t = f(x)
        """,
    "a decorator that builds": """
        def doubled(f):
            return lambda v: f(v) * 2  # <-

        @doubled
        def f(v):
            return K.sin(v)
        t = f(x)
        """,
    "a cache": "import functools\n@functools.lru_cache\ndef f():\n    return K.sin(x)  # <-\nf()\nt = f()",
    "a method": "class A:\n    def f(self):\n        return K.sin(x)  # <-\n\nt = A().f()",
    "a property": "class A:\n    @property\n    def f(self):\n        return K.sin(x)  # <-\n\nt = A().f",
    "the body of a class": "class A:\n    t = K.sin(x)  # <-\nt = A.t",
    "a default argument": "def f(\n    v=K.sin(x),  # <-\n):\n    return v\nt = f()",
    "a special method": "class A:\n    def __call__(self, v):\n        return K.sin(v)  # <-\n\nt = A()(x)",
    "a subclass of ours": """
        class Mine(type(x)):
            def __add__(self, other):
                return super().__add__(other)  # <-
        t = Mine(x.node) + 1.0
        """,
    "a scope": "with K.name_scope('a'):\n    t = K.sin(x)  # <-",
    "a handler of an error": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    t = K.sin(x)  # <-",
    "a callable given to ours": "t = K.in_train_phase(\n    lambda: K.sin(x),  # <-\n    x,\n).node.inputs[1]",
    "a function of NumPy": "t = np.sin(x)  # <-",
    "a function of NumPy of two": "t = np.add(np.ones(2), x)  # <-",
    "an array on the left": "t = np.ones(2) * x  # <-",
    "NumPy calling the user": "def f(i):\n    return K.sin(x)  # <-\n\nt = np.frompyfunc(f, 1, 1)(0)",
    "NumPy's own Python calling the user": "def f(i):\n    global t\n    t = K.sin(x)  # <-\n    return 0\n\nnp.vectorize(f)(0)",
    "a coroutine": "async def f():\n    return K.sin(x)  # <-\ntry:\n    f().send(None)\nexcept StopIteration as end:\n    t = end.value",
    "code in code": "a = 0\nexec(compile('\\n' * 4 + 't = K.sin(x)', 'user.py', 'exec'))\n\n\n#  # <-",
    "a thread": "import threading\ndef f():\n    global t\n    t = K.sin(x)  # <-\nthread = threading.Thread(target=f)\nthread.start()\nthread.join()",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_node_comes_from_the_line_that_built_it(name: str) -> None:
    program = textwrap.dedent(PROGRAMS[name])
    (line,) = [number for number, text in enumerate(program.splitlines(), 1) if text.endswith("# <-")]
    made = run(program)["t"]
    node: Node = made.node
    assert (node.origin.file, node.origin.line) == ("user.py", line)
    assert node.origin.role == FORWARD
    assert node.op.name in repr(node) and repr(node).endswith(f"at user.py:{line}>")


def test_code_without_a_file_has_a_line_all_the_same() -> None:
    made = run("\nexec('t = K.sin(x)')")["t"]
    assert (made.node.origin.file, made.node.origin.line) == ("<string>", 1)
    assert eval("K.sin(x)", {"K": K, "x": placeholder()}).node.origin.file == "<string>"


def test_every_line_of_a_long_program_is_told_from_the_others() -> None:
    made = run("\n".join(f"t{i} = x * {i}.0 + K.sin(x)" for i in range(1, 700)))
    for i in (1, 2, 255, 256, 257, 698, 699):
        assert made[f"t{i}"].node.origin.line == i


PACKAGE = os.path.dirname(os.path.abspath(kgraph.__file__))


@pytest.mark.parametrize(
    ("file", "users"),
    [
        (os.path.join(PACKAGE, "no_such_module.py"), False),
        (os.path.join(PACKAGE, "ir", "no_such_module.py"), False),
        (os.path.join(os.path.dirname(os.path.abspath(np.__file__)), "no_such_module.py"), False),
        (PACKAGE + "_models/layers.py", True),
        (PACKAGE + ".py", True),
        (os.path.join(os.path.dirname(PACKAGE), "layers.py"), True),
    ],
)
def test_what_is_in_the_package_or_in_numpy_is_not_the_users_and_what_is_beside_it_is(file: str, users: bool) -> None:
    f = run("def layer(v):\n    return K.sin(v)", file)["layer"]
    found = run("\n\nt = f(x)", f=f)["t"].node.origin
    assert (found.file, found.line) == ((file, 2) if users else ("user.py", 3))
    assert found.function == ("sin" if users else "layer")


# ---------------------------------------------------------------------------------------------------- the K function

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv, "floor_divide": operator.floordiv,
    "mod": operator.mod, "pow": operator.pow, "greater": operator.gt, "greater_equal": operator.ge, "lesser": operator.lt, "lesser_equal": operator.le,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_the_name_of_its_function_on_either_side(name: str) -> None:
    left, right = OPERATORS[name](placeholder(), 3.0), OPERATORS[name](3.0, placeholder())
    mirrored = {"greater": "lesser", "lesser": "greater", "greater_equal": "lesser_equal", "lesser_equal": "greater_equal"}
    assert left.node.origin.function == name
    assert right.node.origin.function == mirrored.get(name, name)


def test_names_of_other_special_methods() -> None:
    x, matrix = placeholder(), K.ones((2, 2))
    made = {"negative": -x, "abs": abs(x), "index": x[:1], "matmul": matrix @ matrix}
    assert {name: t.node.origin.function for name, t in made.items()} == {name: name for name in made}
    assert np.sin(x).node.origin.function == ""  # the op says it


def test_all_nodes_of_a_call_have_the_name_of_the_function_that_the_user_called() -> None:
    x = placeholder()
    p = K.sigmoid(x)
    for name, build in {
        "binary_crossentropy": lambda: K.binary_crossentropy(p, x),
        "l2_normalize": lambda: K.l2_normalize(x, 0),
        "dropout": lambda: K.dropout(x, 0.5),
        "std": lambda: K.std(x),
    }.items():
        built = toposort([build().node], stop=[p.node])
        made = [node for node in built if node.inputs and node is not p.node]  # constants are shared with other calls
        assert len(made) > 2
        assert {node.origin.function for node in made} == {name}
        assert len({node.origin.line for node in made}) == 1


# ---------------------------------------------------------------------------------------------------- one origin per place


def test_a_line_has_one_origin_however_often_it_runs() -> None:
    x = placeholder()
    made = [K.sin(x * float(i)) for i in range(5)]
    assert len({t.node.origin for t in made}) == 1
    assert len({t.node.inputs[0].origin for t in made} | {made[0].node.origin}) == 2  # two calls of one line
    other = K.sin(x * 9.0)
    assert other.node.origin is not made[0].node.origin


def test_origins_go_when_their_nodes_do() -> None:
    made = run("\n".join(f"t{i} = K.sin(x * {i}.0)" for i in range(50)))
    places = [weakref.ref(made[f"t{i}"].node.origin) for i in range(50)]
    gc.collect()
    assert len({place() for place in places}) == 50 and all(place() for place in places)
    made.clear()
    gc.collect()
    assert not any(place() for place in places)


def test_nothing_of_a_frame_is_kept() -> None:
    class Local:
        pass

    def layer() -> tuple[Tensor, weakref.ref[Local]]:
        local = Local()
        return K.sin(placeholder()), weakref.ref(local)

    made, local = layer()
    assert local() is None
    assert made.node.origin.line


def test_a_role_makes_another_origin_of_the_same_place() -> None:
    x = placeholder()
    y = K.sin(x)
    place = y.node.origin
    assert place.with_role(FORWARD) is place
    gradient = place.with_role(GRADIENT)
    assert gradient is place.with_role(GRADIENT) is not place.with_role("another")
    assert gradient.with_role(GRADIENT) is gradient
    assert (gradient.role, str(gradient), gradient.function, gradient.scope) == ("gradient", str(place), "sin", "")
    (slope,) = K.gradients(K.sum(y), [x])
    (cosine,) = [node for node in toposort([slope.node]) if node.op is o.cos]
    assert cosine.origin is gradient
    assert repr(gradient).endswith(", gradient>")


def test_a_saved_origin_says_the_same_and_is_one_again() -> None:
    with name_scope("scope"):
        place = K.sin(placeholder()).node.origin.with_role(GRADIENT)
    one, other = pickle.loads(pickle.dumps([place, place]))
    assert one is other is pickle.loads(pickle.dumps(place))
    for name in ("file", "line", "call", "function", "scope", "role"):
        assert getattr(one, name) == getattr(place, name)
    assert repr(one) == repr(place)
    assert one.with_role(FORWARD).line == place.line


# ---------------------------------------------------------------------------------------------------- as text


def test_a_file_below_the_working_folder_is_shown_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below, beside = str(tmp_path / "models" / "a.py"), str(tmp_path) + "_other/a.py"
    monkeypatch.chdir(tmp_path)
    shown = {file: str(run("\nt = K.sin(x)", file)["t"].node.origin) for file in (below, beside, "a.py")}
    assert shown == {below: f"{os.path.join('models', 'a.py')}:2", beside: f"{beside}:2", "a.py": "a.py:2"}
    monkeypatch.chdir(tmp_path.parent)
    assert str(run("t = K.sin(x)", below)["t"].node.origin) == f"{os.path.join(tmp_path.name, 'models', 'a.py')}:1"


def test_a_working_folder_that_is_gone_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    place = K.sin(placeholder()).node.origin
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert str(place) == f"{__file__}:{place.line}"


def test_repr_names_function_place_scope_and_role() -> None:
    with name_scope("encoder"):
        made = run("t = K.sin(x) * 2.0")["t"]
    assert repr(made.node.origin) == "<multiply at user.py:1 in encoder, forward>"
    assert repr(made.node.inputs[0].origin) == "<sin at user.py:1 in encoder, forward>"
    assert repr(Origin("user.py", "", "", line=4)) == "<built at user.py:4, forward>"


# ---------------------------------------------------------------------------------------------------- scopes


def scope_of(x: Tensor) -> str:
    return K.sin(x * float(np.random.default_rng().random())).node.origin.scope


def test_scopes_nest_and_end() -> None:
    x = placeholder()
    assert scope_of(x) == ""
    with K.name_scope("encoder"):
        assert scope_of(x) == "encoder"
        with K.name_scope("layer_1"):
            assert scope_of(x) == "encoder/layer_1"
            with K.name_scope("a/b"):
                assert scope_of(x) == "encoder/layer_1/a/b"
        with K.name_scope("layer_2"):
            assert scope_of(x) == "encoder/layer_2"
        assert scope_of(x) == "encoder"
    assert scope_of(x) == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, ShapeError("here"), GeneratorExit])
def test_a_scope_ends_with_an_error_too(error: Any) -> None:
    with K.name_scope("outer"):
        with pytest.raises(BaseException) as caught, K.name_scope("inner"):
            raise error
        assert caught.value is error or caught.type is error
        assert building.scope == "outer"
    assert building.scope == ""


def test_an_error_names_the_line_in_a_scope_and_leaves_the_scope() -> None:
    with pytest.raises(ShapeError, match=r"at user.py:2$|at user.py:2\n"):
        run("with K.name_scope('a'):\n    K.dot(x, K.ones((3, 3)))")
    assert building.scope == "" and building.origin is None


def test_one_line_in_two_scopes_has_two_origins_and_one_node_remembers_both() -> None:
    x = placeholder()
    made = []
    for scope in ("a", "b", "a"):
        with K.name_scope(scope):
            made.append(K.sin(x))
    node = made[0].node
    assert all(t.node is node for t in made)
    assert [place.scope for place in node.origins] == ["a", "b"]
    assert len({place.line for place in node.origins}) == 1


def test_a_scope_belongs_to_its_thread() -> None:
    x, inside, done = placeholder(), threading.Barrier(4), threading.Barrier(4)

    def work(name: str) -> list[str]:
        found = [scope_of(x)]
        with K.name_scope(name):
            inside.wait()  # all are in their scopes at once
            found.append(scope_of(x))
            done.wait()
        return [*found, scope_of(x)]

    with K.name_scope("main"), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, "abcd")) == [["", name, ""] for name in "abcd"]
        assert scope_of(x) == "main"


def test_a_generator_that_is_left_in_a_scope_does_not_end_it_for_others() -> None:
    x = placeholder()

    def layers() -> Any:
        with K.name_scope("layer"):
            yield scope_of(x)

    running = layers()
    assert next(running) == "layer"
    running.close()
    assert building.scope == ""


def test_an_origin_that_is_set_is_the_one_of_all_that_is_built() -> None:
    place = Origin("saved.py", "sin", "scope", line=8)
    building.origin = place
    try:
        with K.name_scope("other"):
            node = o.placeholder(type=TensorType("float32", ()), uid=Identity())
            assert node.origin is place
            assert K.sin(Tensor(node)).node.origin is place
    finally:
        building.origin = None
    assert o.cos(node).origin.file == __file__


def test_the_learning_phase_comes_from_the_line_that_asked_for_it_first() -> None:
    program = "import sys\nfrom kgraph import backend as K\n\nphase = K.learning_phase()\nassert K.learning_phase() is phase\nprint(repr(phase))"
    assert run_python(program) == "<Tensor uint8[]  learning_phase at <string>:4>\n"

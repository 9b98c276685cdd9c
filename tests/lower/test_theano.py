"""The Theano engine's own machinery: what runs the operations, whose memory values are in, updates, threads, its rewrites.
Collected where Theano is installed, see conftest.py.

What holds on every engine is in the tests that take the fixture `engine`. What Theano needs before it is used, and what needs a
process of its own, is in test_theano_setup.py.
"""

from __future__ import annotations

import gc
import itertools
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from kgraph import backend as K
from kgraph.config import changed
from kgraph.errors import EngineError, FeedError, IndexOutOfRange, ShapeError, UpdateError
from kgraph.lower.engine import get_engine

get_engine("theano")

import theano  # noqa: E402
import theano.tensor as T  # noqa: E402

from kgraph.lower.theano import machine, program  # noqa: E402
from kgraph.lower.theano.engine import _settings  # noqa: E402

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def on_theano() -> Iterator[None]:
    with changed(engine="theano"):
        yield


@pytest.fixture(params=["C", "Python"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What runs the operations: Theano's loop in C, or that in Python which deep programs get."""
    if request.param == "Python":
        monkeypatch.setattr(machine, "DEEPEST", 0)
    return request.param  # type: ignore[no-any-return]


def program_of(function: Any, phase: int = 0) -> Any:
    """Theano's function, of a function that has been called."""
    return function._programs[phase].function


def names_of(function: Any) -> list[str]:
    """The operations of a function that has been called."""
    return [type(node.op).__name__ for node in program_of(function).maker.fgraph.toposort()]


# ---------------------------------------------------------------------------------------------------- what runs the operations


def test_a_deep_program_runs_in_the_python_loop_and_any_other_one_in_theanos() -> None:
    x, w = K.placeholder((2, 2), dtype="float64"), K.variable(np.eye(2) * 1.001, dtype="float64")

    def power(n: int) -> Any:
        y = x
        for _ in range(n):
            y = K.dot(y, w)
        return K.function([x], y)

    for n, kind in ((10, "CVM"), (machine.DEEPEST + 10, "Loop")):
        f = power(n)
        np.testing.assert_allclose(f([np.ones((2, 2))]), np.full((2, 2), 1.001**n), rtol=1e-9)
        assert type(program_of(f).fn).__name__ == kind


@pytest.mark.parametrize("options", [{}, {"keep_memory": True}, {"c_code": False}], ids=str)
def test_every_way_to_run_gives_the_same_and_hands_out_memory_of_its_own(options: dict[str, bool], loop: str) -> None:
    x, v, total = K.placeholder((None, 3)), K.variable(np.ones(3)), K.variable(0.0)
    y = K.tanh(x) * v
    # Scalars: results, intermediate values and new values, some of them the same.
    outputs = [K.sum(y), K.sum(y) * 2, y, v, K.sum(y * (K.sum(x) * 2 + 1))]
    f = K.function([x], outputs, [(total, total + K.sum(y)), (v, v + 1)], options=options)
    held, expected, wanted = [], [], 0.0
    for i in range(4):
        value = np.linspace(-1, 2, 6, dtype="float32").reshape(2, 3) * i
        product = np.tanh(value) * (1 + i)
        wanted += product.sum(dtype="float64")
        held += f([value])
        expected += [product.sum(), product.sum() * 2, product, np.full(3, 1 + i), product.sum() * (value.sum() * 2 + 1)]
    for result, right in zip(held, expected, strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-5, atol=1e-6)
    for one, other in itertools.combinations(held, 2):
        assert not np.shares_memory(one, other)
    np.testing.assert_allclose(K.get_value(total), wanted, rtol=1e-5, atol=1e-6)


def test_only_the_side_of_a_branch_that_is_taken_runs(loop: str) -> None:
    x, i, v = K.placeholder((2, 2)), K.placeholder((1,), dtype="int32"), K.variable([1.0, 2.0])
    z = K.switch(K.sum(x) > 0, lambda: K.gather(v, i) + K.sum(K.dot(x, x)), lambda: K.gather(v, i + 1) * 2)
    f = K.function([x, i], [z, K.sum(x)], [(v, v + z)])
    one = np.ones((2, 2))
    assert [r.tolist() for r in f([one, [1]])] == [[10], 4]  # where i + 1 is out of range
    assert K.get_value(v).tolist() == [11, 12]
    assert [r.tolist() for r in f([-one, [-2]])] == [[24], -4]
    for value, index in ((one, 2), (-one, 1)):
        with pytest.raises(IndexOutOfRange, match=r"^gather: index 2 is out of bounds"):
            f([value, [index]])
    assert K.get_value(v).tolist() == [35, 36]


def test_an_error_names_the_node_that_raised_it(loop: str) -> None:
    x, i = K.placeholder((None,), name="x"), K.placeholder((None,), dtype="int32", name="i")
    y = K.tanh(x) + 1.0
    rows = K.gather(y, i)
    f = K.function([x, i], [K.sum(rows * 2.0), K.dot(K.reshape(y, (1, -1)), K.reshape(y, (-1, 1)))])
    with pytest.raises(IndexOutOfRange) as caught:
        f([[1, 2, 3], [0, 3]])
    assert str(caught.value).startswith("gather: index 3 is out of bounds for axis 0 with size 3\n  x: ")
    assert "Apply node" not in str(caught.value)
    assert "test_theano.py" in str(caught.value)


def test_what_is_fed_and_handed_out_is_held_no_longer_than_a_call(loop: str) -> None:
    x, v = K.placeholder((3,)), K.variable(np.ones(3))
    f = K.function([x], [x * v, K.gather(x, K.cast(x, "int32"))], [(v, v + x)])
    good, bad = np.zeros(3, "float32"), np.full(3, 7, "float32")
    counts = sys.getrefcount(good), sys.getrefcount(bad)
    results = f(good)
    assert [sys.getrefcount(result) for result in results] == [3, 3]  # the list, the loop, the argument
    with pytest.raises(IndexOutOfRange):
        f(bad)
    gc.collect()  # of the traceback
    assert (sys.getrefcount(good), sys.getrefcount(bad)) == counts


@pytest.mark.parametrize("keep", [False, True])
def test_the_memory_of_intermediate_values_is_kept_where_that_is_asked_for(keep: bool, loop: str) -> None:
    x = K.placeholder((3, 3))
    f = K.function([x], K.sum(K.dot(K.tanh(x), x)), options={"keep_memory": keep})
    f(np.ones((3, 3)))
    cells = program_of(f).fn.storage_map.items()
    held = [cell[0] for variable, cell in cells if variable.owner is not None and cell[0] is not None]
    assert len(held) == (2 if keep else 0)  # what is handed out is not among them


def test_what_reads_a_value_runs_before_what_works_in_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEEPEST", 0)
    x = K.placeholder((3, 3))
    y = K.dot(x, x)
    f = K.function([x], [K.tanh(y) + 1.0, K.sum(y)])
    f(np.ones((3, 3)))
    nodes, needs = program_of(f).fn.nodes, program_of(f).fn._needs
    (place,) = [i for i, node in enumerate(nodes) if getattr(node.op, "destroy_map", None)]
    (total,) = [i for i, node in enumerate(nodes) if type(node.op).__name__ == "Sum"]
    assert total in needs[place]


def test_a_value_that_is_not_aligned_is_taken() -> None:
    x, v = K.placeholder((4,)), K.variable(np.zeros(4))
    f = K.function([x], K.tanh(x), [(v, v + x)])
    raw = np.zeros(4 * 4 + 1, "uint8")
    value = raw[1:].view("float32")
    value[...] = np.arange(4)
    assert not value.flags.aligned
    for _ in range(2):
        np.testing.assert_allclose(f(value), np.tanh(np.arange(4)), rtol=1e-6)
    assert K.get_value(v).tolist() == [0, 2, 4, 6]


# ---------------------------------------------------------------------------------------------------- updates


def test_variables_are_shared_variables_of_theano_and_no_update_is_by_way_of_the_host() -> None:
    v = K.variable([1.0, 2.0])
    f = K.function([], [], [(v, v * 2)])
    for _ in range(3):
        f()
    (copy,) = v.node.attr("uid")._copies.values()
    assert isinstance(copy.storage, theano.compile.SharedVariable)
    assert v.node.attr("uid").host is None
    assert copy.storage.get_value().tolist() == K.get_value(v).tolist() == [8, 16]


def test_updates_swap_and_turn_variables(loop: str) -> None:
    start = [np.full((2, 2), i, "float32") for i in range(3)]
    a, b, c = map(K.variable, start)
    swap, turn = K.function([], [a, b], [(a, b), (b, a)]), K.function([], [], [(a, b), (b, c), (c, a)])
    assert [value[0, 0] for value in swap()] == [0, 1]
    for _ in range(3):
        swap()
    np.testing.assert_array_equal(K.batch_get_value([a, b, c]), start)
    turn()
    np.testing.assert_array_equal(K.batch_get_value([a, b, c]), [start[1], start[2], start[0]])
    K.set_value(a, start[0])
    turn()
    np.testing.assert_array_equal(K.batch_get_value([a, b, c]), [start[2], start[0], start[0]])


#: New values that Theano computes as views of other values, or in place of them.
VIEWS: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {
    "row": (lambda x: K.tanh(x)[1], lambda a: np.tanh(a)[1]),
    "rows": (lambda x: K.tanh(x)[1:], lambda a: np.tanh(a)[1:]),
    "transpose": (lambda x: K.transpose(K.tanh(x)), lambda a: np.tanh(a).T),
    "reshape": (lambda x: K.reshape(K.tanh(x), (-1,)), lambda a: np.tanh(a).reshape(-1)),
    "reverse": (lambda x: K.reverse(K.tanh(x), 0), lambda a: np.tanh(a)[::-1]),
    "new axis": (lambda x: K.expand_dims(K.tanh(x)), lambda a: np.tanh(a)[..., None]),
    "input": (lambda x: x, lambda a: a),
    "row of the input": (lambda x: x[2], lambda a: a[2]),
    "product": (lambda x: K.transpose(K.dot(x, x)), lambda a: (a @ a).T),
    "sum": (lambda x: K.dot(x, x) + K.dot(K.tanh(x), x), lambda a: a @ a + np.tanh(a) @ a),
    "chain": (lambda x: K.tanh(K.tanh(x) + 1.0), lambda a: np.tanh(np.tanh(a) + 1)),
    "constant": (lambda x: K.ones((4, 4)), lambda a: np.ones((4, 4))),
    "large constant": (lambda x: K.reverse(K.arange(400.0), 0), lambda a: np.arange(400.0)[::-1]),
}


@pytest.mark.parametrize("given_out", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_new_values_that_are_views_are_values_like_any_other(together: bool, given_out: bool, loop: str) -> None:
    x = K.placeholder((None, 4), dtype="float64")
    rng = np.random.default_rng(0)
    updates = []
    for view, right in VIEWS.values():
        variable = K.variable(np.zeros(right(np.zeros((4, 4))).shape), dtype="float64")
        updates.append((variable, K.cast(view(x), "float64")))
    groups = [updates] if together else [[pair] for pair in updates]
    functions = [K.function([x], [new for _, new in group] if given_out else [], group) for group in groups]
    read, held = K.function([], [v for v, _ in updates]), []
    for _ in range(4):
        value = rng.normal(size=(4, 4))
        held += [(result, result.copy()) for f in functions for result in f([value])]
        for name, (_, right), now in zip(VIEWS, VIEWS.values(), read(), strict=True):
            np.testing.assert_allclose(now, right(value), rtol=1e-12, err_msg=name)
    assert len(held) == (4 * len(VIEWS) if given_out else 0)
    for result, copy in held:
        np.testing.assert_array_equal(result, copy)


@pytest.mark.parametrize("number", range(4))
def test_a_call_that_fails_changes_nothing(number: int, loop: str) -> None:
    """The failing update is the first, the second ... of four, and all read all."""
    variables = [K.variable(np.arange(4.0) + i) for i in range(4)]
    i, x = K.placeholder((None,), dtype="int32"), K.placeholder((None,))
    total = variables[0] + variables[1] + variables[2] + variables[3]
    updates = [(v, K.tanh(total) + v) for v in variables]
    updates[number] = (variables[number], K.gather(total, i) + x)
    f = K.function([i, x], [total], updates)
    before = [K.get_value(v) for v in variables]
    good = [[0, 1, 2, 3], np.zeros(4)]
    for feeds, error in (
        ([[0, 1, 2, 4], np.zeros(4)], IndexOutOfRange),
        ([[0, 1, 2], np.zeros(3)], UpdateError),
        ([[0, 1, 2, 3], np.zeros(3)], ShapeError),
        ([[0, 1, 2, 3], np.zeros((4, 1))], FeedError),
        ([[0, 1, 2, 3], "text"], FeedError),
    ):
        with pytest.raises(error):
            f(feeds)
        np.testing.assert_array_equal([K.get_value(v) for v in variables], before)
    right = np.sum(before, axis=0)
    np.testing.assert_array_equal(f(good)[0], right)
    for position, (v, old) in enumerate(zip(variables, before, strict=True)):
        np.testing.assert_allclose(K.get_value(v), right if position == number else np.tanh(right) + old, rtol=1e-6)


def test_sizes_that_are_unknown_change_from_call_to_call() -> None:
    x, y = K.placeholder((None, None)), K.placeholder((None, None))
    f = K.function([x, y], [K.dot(x, K.transpose(y)), K.sum(x, axis=0), K.shape(x), x + 1.0])
    rng = np.random.default_rng(0)
    for rows, columns, others in ((2, 3, 4), (1, 1, 1), (0, 3, 2), (5, 1, 0), (1, 4, 1), (2, 3, 4)):
        a, b = rng.normal(size=(rows, columns)), rng.normal(size=(others, columns))
        product, total, shape, more = f([a, b])
        np.testing.assert_allclose(product, a @ b.T, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(total, a.sum(0), rtol=1e-4, atol=1e-6)
        assert shape.tolist() == [rows, columns]
        np.testing.assert_allclose(more, a + 1, rtol=1e-5)
    with pytest.raises(ShapeError):
        f([np.ones((2, 3)), np.ones((2, 4))])


def test_an_unfed_phase_is_test_and_each_phase_updates_its_own() -> None:
    x, v = K.placeholder((3,)), K.variable(0.0)
    f = K.function([x], K.in_train_phase(x * 2, x), [(v, v + K.in_train_phase(10.0, 1.0))])
    for arguments, factor, value in (({}, 1, 1), ({"training": True}, 2, 11), ({}, 1, 12)):
        assert f([[1, 2, 3]], **arguments).tolist() == [factor, 2 * factor, 3 * factor]
        assert K.get_value(v) == value


# ---------------------------------------------------------------------------------------------------- Theano's rewrites


def test_a_sum_of_many_products_is_accumulated_by_blas() -> None:
    """As the gradient of an unrolled loop is, where it is not merged into one product. Theano's own way takes minutes, and a new
    operation for each length."""
    steps = 60
    x, w = K.placeholder((2, 2), dtype="float64"), K.variable(np.eye(2) * 0.9, dtype="float64")
    y = x
    for _ in range(steps):
        y = K.dot(y, w)
    f = K.function([x], K.gradients(K.sum(y), [w]), exclude=["sum_of_products"])
    np.testing.assert_allclose(f([np.ones((2, 2))])[0], np.full((2, 2), 2 * steps * 0.9 ** (steps - 1)), rtol=1e-9)
    names = names_of(f)
    assert names.count("Gemm") == steps - 1
    assert "Elemwise" not in names


def test_products_that_are_added_and_subtracted_are_as_by_hand() -> None:
    x, y = K.placeholder((3, 3), dtype="float64"), K.placeholder((3, 3), dtype="float64")
    p, q = K.dot(x, y), K.dot(y, x)
    read = K.dot(x, x)
    outputs = [p + q, p - q, (p - q) - K.dot(y, y), K.dot(x, K.transpose(y)) - (q + p), read + p, read, p + p, 0.0 * p + q]
    a, b = np.random.default_rng(0).normal(size=(2, 3, 3))
    c, d = a @ b, b @ a
    expected = [c + d, c - d, (c - d) - b @ b, a @ b.T - (d + c), a @ a + c, a @ a, c + c, d]
    for output, right in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(K.function([x, y], output, options={"c_code": False})([a, b]), right, rtol=1e-12)
    f = K.function([x, y], outputs)
    for result, right in zip(f([a, b]), expected, strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-12)
    assert len([name for name in names_of(f) if name in ("Dot", "Dot22", "Gemm")]) == 5  # none is computed twice


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_divisions_by_numpys_rules_are_fused_with_what_follows(dtype: str) -> None:
    x, y = K.placeholder((None,), dtype=dtype), K.placeholder((None,), dtype=dtype)
    f = K.function([x, y], [x // y + 1, (x % y) * 2])
    a, b = np.array([7, 8, 9, 0, 5], dtype), np.array([2, 3, 3, 4, 0], dtype)
    if dtype != "uint8":
        a, b = np.concatenate([a, -a, a, -a]), np.concatenate([b, b, -b, -b])
    with np.errstate(all="ignore"):
        wanted = [a // b + 1, (a % b) * 2]
    for result, right in zip(f([a, b]), wanted, strict=True):
        np.testing.assert_array_equal(result, right.astype(dtype), strict=True)
    assert names_of(f).count("Elemwise") == 2


def test_nan_and_infinity_come_through() -> None:
    x, ones = K.placeholder((2, 2)), np.ones((2, 2), "float32")
    f = K.function([x], [x * 0.0, x - x, 0.0 * K.dot(x, ones) + K.dot(x * 0.0 + 1.0, ones), K.maximum(x, 0.0)])
    a = np.array([[np.nan, 1], [np.inf, 0]], "float32")
    with np.errstate(all="ignore"):
        expected = [a * 0, a - a, 0 * (a @ ones) + (a * 0 + 1) @ ones, np.maximum(a, 0)]
    for result, right in zip(f([a]), expected, strict=True):
        np.testing.assert_array_equal(result, right)


def test_what_legalising_makes_of_constants_is_computed_while_compiling() -> None:
    x, y = K.placeholder((None, 3)), K.placeholder((None, 3))
    f = K.function([x, y], [K.categorical_crossentropy(K.softmax(x), y), x * (K.square(K.sum(x)) + 1.0)])
    value, labels = np.array([[1.0, 2, 3], [1, 1, 1]]), np.eye(3)[:2]
    entropy, product = f([value, labels])
    expected = -(labels * np.log(np.exp(value) / np.exp(value).sum(1, keepdims=True))).sum(1)
    np.testing.assert_allclose(entropy, expected, rtol=1e-5)
    np.testing.assert_allclose(product, value * 82, rtol=1e-5)
    for node in program_of(f).maker.fgraph.toposort():
        assert not all(isinstance(i, theano.graph.basic.Constant) for i in node.inputs), node


def test_theanos_own_programs_are_compiled_as_ever() -> None:
    """Nothing of ours is left in Theano's settings or in its table of rewrites."""
    before = sys.getrecursionlimit(), theano.config.cycle_detection, theano.config.traceback__limit
    with _settings(10**6):
        assert theano.config.cycle_detection == "fast"
    assert (sys.getrecursionlimit(), theano.config.cycle_detection, theano.config.traceback__limit) == before
    x, w = T.dmatrix(), theano.shared(np.eye(2))
    f = theano.function([x], T.dot(x, w) * 0.5 + T.log(1 + x), updates=[(w, w + x)])
    np.testing.assert_allclose(f(np.ones((2, 2))), 0.5 + np.log(2) * np.ones((2, 2)))
    assert "Gemm" in [type(node.op).__name__ for node in f.maker.fgraph.toposort()]
    np.testing.assert_array_equal(w.get_value(), np.eye(2) + 1)


# ---------------------------------------------------------------------------------------------------- making programs


def test_the_source_is_theanos_graph() -> None:
    x = K.placeholder((3,))
    assert "tanh" in K.function([x], K.tanh(x)).source


def test_a_compiler_that_fails_is_an_error_of_a_line_and_the_function_can_be_called_once_it_works(
    capfd: pytest.CaptureFixture[str],
) -> None:
    x, v = K.placeholder((3,)), K.variable(np.ones(3))
    f = K.function([x], x * v, [(v, v + 1)])
    with (
        theano.config.change_flags(gcc__cxxflags="--no-such-flag"),
        pytest.raises(EngineError, match=r"Theano's compiler failed: .*--no-such-flag") as caught,
    ):
        f([[1, 2, 3]])
    assert "THEANO_FLAGS=gcc__cxxflags=" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert K.get_value(v).tolist() == [1, 1, 1]
    capfd.readouterr()  # Theano writes what it tried to compile
    assert f([[1, 2, 3]]).tolist() == [1, 2, 3]
    assert K.get_value(v).tolist() == [2, 2, 2]


def test_ctrl_c_while_compiling_leaves_everything_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    x, v = K.placeholder((3,)), K.variable(np.ones(3))
    f = K.function([x], x * v, [(v, v + 1)])
    limit = sys.getrecursionlimit()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(program, "orig_function", interrupted)
        f([[1, 2, 3]])
    assert sys.getrecursionlimit() == limit
    with ThreadPoolExecutor(1) as pool:  # no lock is held
        assert pool.submit(f, [[1, 2, 3]]).result(timeout=120).tolist() == [1, 2, 3]
    assert K.get_value(v).tolist() == [2, 2, 2]


def test_a_dropped_function_gives_up_its_variables() -> None:
    x, v = K.placeholder((3,)), K.variable(np.ones(3))
    f = K.function([x], x * v, [(v, v + 1)])
    f([[1, 2, 3]])
    marks = [weakref.ref(v.node.attr("uid")), weakref.ref(f._programs[0])]
    del f, v
    gc.collect()  # Theano's graphs are cycles
    assert [mark() for mark in marks] == [None, None]


def test_a_pickled_function_is_one_of_its_own() -> None:
    x, v = K.placeholder((None, 2), name="x"), K.variable([1.0, 2.0])
    f = K.function([x], K.in_train_phase(x * v, x + v), [(v, v + 1)], options={"keep_memory": True})
    f([[[1, 1]]])
    g = pickle.loads(pickle.dumps(f))
    assert g.engine is get_engine("theano")
    assert g.options == {"keep_memory": True}
    assert g([[[1, 1]]], training=True).tolist() == [[2, 3]]
    assert g(x=[[1, 1]]).tolist() == [[4, 5]]
    assert K.get_value(v).tolist() == [2, 3]
    assert f([[[1, 1]]], training=True).tolist() == [[2, 3]]


# ---------------------------------------------------------------------------------------------------- threads


def test_threads_compile_and_call_at_once() -> None:
    start = Barrier(4)

    def work(seed: int) -> None:
        start.wait()
        for i in range(6):
            x, w = K.placeholder((None, 3)), K.variable(np.full((3, 2), seed + 1.0))
            y = K.tanh(K.dot(x, w) * float(i % 3)) + float(seed % 2)
            f = K.function([x], [y, *K.gradients(K.sum(y), [w])], [(w, w + 1.0)], engine="theano")
            value, held = np.full((2, 3), 0.01 * (i + 1)), np.full((3, 2), seed + 1.0)
            for _ in range(3):
                out, slope = f([value])
                inner = np.tanh(value @ held * (i % 3))
                np.testing.assert_allclose(out, inner + seed % 2, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(slope, value.T @ ((1 - inner**2) * (i % 3)), rtol=1e-4, atol=1e-6)
                held = held + 1
            np.testing.assert_allclose(K.get_value(w), held)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_threads_that_call_one_function_get_each_their_own_results(loop: str) -> None:
    x = K.placeholder((10, 10))
    f = K.function([x], [K.dot(x, x), K.tanh(x) * 2.0])
    f([np.zeros((10, 10))])

    def work(seed: int) -> None:
        value = np.random.default_rng(seed).normal(size=(10, 10)).astype("float32")
        product, curve = value @ value, np.tanh(value) * 2
        for _ in range(200):
            first, second = f([value])
            np.testing.assert_allclose(first, product, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(second, curve, rtol=1e-5, atol=1e-6)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns wherever they can
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)


def test_threads_that_train_one_function_leave_what_some_serial_order_leaves() -> None:
    x, v, n = K.placeholder((), dtype="float64"), K.variable(0.0, dtype="float64"), K.variable(0.0, dtype="float64")
    f = K.function([x], [v, n], [(v, v + x), (n, n + 1.0)])
    read, torn = K.function([], [v, n]), []

    def train(step: float) -> None:
        for _ in range(1000):
            f([step])

    def look(_: float) -> None:
        for _ in range(1000):
            total, count = read()
            if not count <= total <= 2 * count:  # both are of one moment, or this breaks
                torn.append((total, count))

    with ThreadPoolExecutor(3) as pool:
        for job in (pool.submit(train, 1.0), pool.submit(train, 2.0), pool.submit(look, 0.0)):
            job.result()
    assert K.get_value(v) == 3000
    assert K.get_value(n) == 2000
    assert torn == []


@pytest.mark.usefixtures("uncompiled")
def test_what_is_stretched_stays_so_beside_more_axes_of_size_one() -> None:
    n, x, y = K.placeholder((), dtype="int32"), K.placeholder((2, 3)), K.placeholder((1, 1, 1), dtype="int32")
    stretched = K.equal(n + K.cast(K.zeros_like(x), "int32"), y)
    f = K.function([n, x, y], [stretched, K.cast(stretched, "int32") > K.cast(x, "int32")])
    equal, more = f([3, np.zeros((2, 3)), [[[3]]]])
    np.testing.assert_array_equal(equal, np.ones((1, 2, 3), bool))
    np.testing.assert_array_equal(more, np.ones((1, 2, 3), bool))

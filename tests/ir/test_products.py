"""Products that are merged: which ones, what they compute, where they are left alone, and what finding them costs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kgraph
import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.ir.listing import Listing
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.passes import Record, chosen, joining, products, run_pipeline
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from kgraph.ir.verify import verify
from tests.ir.steps import compute
from tests.ir.strategies import quick
from tests.ir.test_pipeline import again


def leaf(*shape: int | None, dtype: str = "float64") -> Node:
    return o.placeholder(type=TensorType(dtype, shape), uid=Identity())


def swapped(x: Node) -> Node:
    return joining.swapped(x)


def merged(*roots: Node, exclude: Sequence[str] = ()) -> tuple[list[Node], Record]:
    record = Record(steps=True)
    found = products(Graph((), roots), record, exclude)
    verify(found)
    return list(found.outputs), record


def ops(roots: Sequence[Node]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in toposort(roots):
        found[node.op.name] = found.get(node.op.name, 0) + 1
    return found


def feeds(roots: Sequence[Node], sizes: dict[Node, tuple[int, ...]] | None = None, unknown: int = 3) -> dict[Node, Any]:
    """Values for the placeholders of a graph, other ones for each."""
    generator = np.random.default_rng(0)
    found = {}
    for node in toposort(roots):
        if node.op is o.placeholder:
            shape = (sizes or {}).get(node) or tuple(unknown if size is None else size for size in node.type.shape)
            value = generator.normal(size=shape) if node.type.is_float else generator.integers(-9, 9, shape)
            found[node] = value.astype(node.dtype)
    return found


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever can be merged, is: a product costs a second, what is copied nothing."""
    monkeypatch.setattr(joining, "PRODUCT", 1e9)
    monkeypatch.setattr(joining, "JOINED", 0.0)
    monkeypatch.setattr(joining, "MULTIPLIED", 0.0)
    monkeypatch.setattr(joining, "PACKED", 0.0)


# ---------------------------------------------------------------------------------------------------- what is merged

N = None
x, y, z = leaf(4, 3), leaf(5, 3), leaf(2, 3)
v, w = leaf(3, 6), leaf(3, 7)
any_, other = leaf(N, 3), leaf(N, 3)
high, high_other = leaf(2, N, 4, 3), leaf(2, N, 4, 3)
deep, deep_other, deep_wide = leaf(2, N, 3, 5), leaf(2, N, 3, 6), leaf(2, N, 3, 6)
empty = leaf(0, 3)
inner = leaf(4, 0)
inner_right, none, square6, last = leaf(0, 3), leaf(3, 0), leaf(6, 6), leaf(3, 3)
v2, v2_left = leaf(3, 6), leaf(4, 3)
whole = [leaf(4, 3, dtype="int32"), leaf(3, 5, dtype="int32")]
half = [leaf(4, 3, dtype="float16"), leaf(3, 5, dtype="float16")]

#: Name -> roots, ops that are left of those that matter, rules.
MERGED: dict[str, tuple[list[Node], dict[str, int], set[str]]] = {
    "one right operand": ([x @ v, y @ v, z @ v], {"matmul": 1, "concatenate": 1, "index": 3}, {"same_right"}),
    "rows of one unknown size": ([any_ @ v, o.tanh(any_) @ v], {"matmul": 1, "reshape": 1, "index": 2}, {"same_right"}),
    "two right operands": ([x @ v, x @ w, y @ v, y @ w], {"matmul": 2, "concatenate": 1, "index": 4}, {"same_right"}),
    "a sum": ([x @ v + leaf(4, 2) @ leaf(2, 6)], {"matmul": 1, "concatenate": 2, "add": 0}, {"sum_of_products"}),
    "a sum with others": (
        [leaf(6) + (x @ v + leaf(4, 6)) + leaf(4, 2) @ leaf(2, 6)], {"matmul": 1, "concatenate": 2, "add": 2}, {"sum_of_products"},
    ),
    "gradients of weights": (
        [swapped(any_) @ o.tanh(any_) + swapped(o.exp(any_)) @ o.sin(any_)], {"matmul": 1, "transpose": 1}, {"sum_of_products"},
    ),
    "sums": (
        [x @ v + y[:4] @ v2, v2_left @ v2 + y[:4] @ v], {"matmul": 1, "concatenate": 4, "index": 3}, {"same_right"},
    ),
    "more axes, one right operand": ([high @ deep, high_other @ deep], {"matmul": 1, "index": 2}, {"same_right"}),
    "more axes, a sum": ([high @ deep_other + o.exp(high) @ deep_wide], {"matmul": 1, "concatenate": 2},
                         {"sum_of_products"}),
    "no rows": ([empty @ v, x @ v], {"matmul": 1}, {"same_right"}),
    "no columns": ([x @ none, y @ none], {"matmul": 1}, {"same_right"}),
    "nothing to sum": ([inner @ inner_right, leaf(2, 0) @ inner_right], {"matmul": 1}, {"same_right"}),
    "integers": ([whole[0] @ whole[1], (whole[0] * whole[0]) @ whole[1]], {"matmul": 1}, {"same_right"}),
    "float16": ([half[0] @ half[1], o.tanh(half[0]) @ half[1]], {"matmul": 1}, {"same_right"}),
    "one after the other": ([(h := o.tanh(x @ v)), h @ square6, o.exp(h) @ square6], {"matmul": 2}, {"same_right"}),
    "the last ones": ([x @ v, o.tanh(y @ last) @ v, y @ last], {"matmul": 2}, {"same_right"}),
}  # fmt: skip


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("name", MERGED)
def test_what_is_merged(name: str) -> None:
    roots, left, rules = MERGED[name]
    found, record = merged(*roots)
    counts = ops(found)
    assert {op: counts.get(op, 0) for op in left} == left
    assert {each.rule for each in record} == rules
    given = feeds(roots)
    for before, after, value, wanted in zip(roots, found, compute(found, given), compute(roots, given), strict=True):
        assert (after.dtype, after.type.shape) == (before.dtype, before.type.shape)
        assert value.dtype == wanted.dtype
        np.testing.assert_allclose(value, wanted, rtol=1e-2 if before.dtype == "float16" else 1e-12, atol=1e-2 if before.dtype == "float16" else 1e-12)


square = leaf(3, 3)
condition = leaf(dtype="bool")
in_loop = leaf(5, 3)

#: Name -> roots that stay as they are.
KEPT: dict[str, list[Node]] = {
    "one waits for the other": [o.tanh(x @ square) @ square],
    "a chain": [o.tanh(o.tanh(x @ square) @ square) @ square],
    "a ring, if both pairs were merged": [
        (a := x @ v), (c := leaf(4, 6) @ leaf(6, 6, dtype="float64")), o.exp(c[:, :3]) @ v, o.exp(a) @ c.inputs[1],
    ],
    "nothing shared": [x @ v, y @ w],
    "rows of unknown sizes that may differ": [any_ @ v, other @ v],
    "a left operand": [x @ v, x @ w],
    "a sum that may be stretched": [any_ @ v + other @ (v * 2.0)],
    "used by itself too": [(once := x @ v), once + y[:4] @ (v * 2.0)],
    "other dtypes": [o.cast(x, dtype="float32") @ o.cast(v, dtype="float32"), x @ v],
    "other sides of a branch": [o.switch(condition, x @ v, leaf(4, 3) @ v)],
    "one side and outside": [o.switch(condition, o.sum(x @ v, axis=(0, 1), keepdims=False), o.scalar(0.0, "float64")), y @ v],
}  # fmt: skip


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("name", [name for name in KEPT if "ring" not in name])
def test_what_is_left_alone(name: str) -> None:
    found, record = merged(*KEPT[name])
    assert found == KEPT[name]
    assert not record


@pytest.mark.usefixtures("cheap")
def test_what_is_merged_never_waits_for_itself() -> None:
    roots = KEPT["a ring, if both pairs were merged"]
    found, record = merged(*roots)
    assert len(record) in (0, 2)
    given = feeds(roots)
    for value, wanted in zip(compute(found, given), compute(roots, given), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-12)


@pytest.mark.usefixtures("cheap")
def test_products_of_one_side_stay_in_it() -> None:
    side = o.sum(x @ v, axis=(0, 1), keepdims=False) + o.sum(y @ v, axis=(0, 1), keepdims=False)
    root = o.switch(condition, side, o.scalar(0.0, "float64"))
    found = run_pipeline(Graph((), [root]), passes=chosen(["products"]))
    outside = [node.op for node in toposort(found.roots)]
    assert o.matmul not in outside
    assert o.concatenate not in outside
    (cond,) = [node for node in toposort(found.roots) if node.op is o.cond]
    assert ops(cond.attr("then").outputs)["matmul"] == 1


@pytest.mark.usefixtures("cheap")
def test_sums_that_could_hide_that_sizes_differ_are_not_merged() -> None:
    """Two rows by one and one by two would be three by three."""
    a, b, c, d = leaf(4, N), leaf(N, 5), leaf(4, N), leaf(N, 5)
    one = a @ b + c @ d
    assert merged(one)[0] == [one]
    rows, columns = leaf(N, 4), leaf(N, 5)
    two = swapped(rows) @ columns + swapped(o.exp(rows)) @ o.tanh(columns)
    (found,), _ = merged(two)
    assert ops([found])["matmul"] == 1  # as many rows twice as columns twice, or an error still
    with pytest.raises(ValueError):
        compute([found], feeds([two], {rows: (2, 4), columns: (3, 5)}))


@pytest.mark.usefixtures("cheap")
def test_bodies_of_loops() -> None:
    xs, u, t = K.placeholder((2, 5, 3)), K.variable(np.ones((3, 3))), K.variable(np.eye(3))

    def step(x: Any, states: Any) -> Any:
        h = K.tanh(K.dot(x * states[0], u) + K.dot(states[0], t))
        return h, [h]

    _, outputs, _ = K.rnn(step, xs, [K.zeros((2, 3))])
    graph = Graph([xs.node], [outputs.node])
    record = Record()
    verify(run_pipeline(graph, passes=chosen(["products"]), record=record))
    assert {each.rule for each in record if each.by == "products"} == {"sum_of_products"}
    f = K.function([xs], outputs, engine="numpy")
    value = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    h = np.zeros((2, 3))
    for t_, row in enumerate(np.swapaxes(value, 0, 1)):
        h = np.tanh((row * h) @ np.ones((3, 3)) + h)
        np.testing.assert_allclose(f([value])[:, t_], h, rtol=1e-5)


@pytest.mark.usefixtures("cheap")
def test_gradients_of_gradients_draws_and_updates() -> None:
    value = np.random.default_rng(0).normal(size=(4, 3))

    def results(exclude: Sequence[str]) -> tuple[list[Any], Any, dict[str, int]]:
        a, b = K.placeholder((4, 3), dtype="float64"), K.variable(np.arange(9.0).reshape(3, 3) / 9, "float64")
        noise = [K.random_normal((4, 3), seed=seed, dtype="float64") for seed in (1, 1)]
        total = K.sum(K.tanh(K.dot(a, b) + K.dot(K.tanh(a), b)) + K.dot(noise[0], b) * K.dot(noise[1], b))
        (slope,) = K.gradients(total, [b])
        (curve,) = K.gradients(K.sum(K.square(slope)), [b])
        f = K.function([a], [total, slope, curve], [(b, b - 0.1 * slope)], engine="numpy", exclude=exclude)
        return [f([value]) for _ in range(2)], K.get_value(b), ops(f.optimized().roots)

    found, after, counts = results([])
    wanted, wanted_after, all_counts = results([rule.name for rule in products.rules])
    assert counts["matmul"] < all_counts["matmul"]
    assert counts["random_normal"] == all_counts["random_normal"] == 2
    for call, other in zip(found, wanted, strict=True):
        for one, another in zip(call, other, strict=True):
            np.testing.assert_allclose(one, another, rtol=1e-9)
    np.testing.assert_allclose(after, wanted_after, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------- whether it pays


def test_an_unrolled_recurrence_has_fewer_products_and_no_model_more_work() -> None:
    from benchmarks.models import lstm

    counts, losses = [], []
    for exclude in ([], [rule.name for rule in products.rules]):
        model = lstm(steps=10)  # with the same weights each time
        f = K.function(model.inputs, [model.loss], model.updates, engine="numpy", exclude=exclude)
        counts.append(sum(node.op is o.matmul for node in toposort(f.optimized().roots)))
        losses.append([f(model.values)[0] for _ in range(3)])
    assert counts[0] < 130 < 190 < counts[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_large_operands_are_not_copied_to_save_a_call() -> None:
    large, weights = leaf(N, 1000), [leaf(1000, 1) for _ in range(3)]
    roots = [large @ weights[0] + o.tanh(large) @ weights[1], large @ weights[2], o.tanh(large) @ weights[2]]
    assert merged(*roots)[0] == roots


def test_what_is_joined_once_pays_for_many() -> None:
    """The joined weights of a step by itself cost more than they save, those of a hundred do not."""

    def products_a_step(count: int) -> int:
        weights = [(leaf(64, 64), leaf(64, 64)) for _ in range(2)]
        roots, h = [], leaf(1, 64)
        for _ in range(count):
            one, other = [h @ a + o.exp(h) @ b for a, b in weights]
            h = o.tanh(one * other)
            roots.append(h)
        return ops(merged(*roots)[0])["matmul"] // count

    assert [products_a_step(1), products_a_step(100)] == [4, 2]


# ---------------------------------------------------------------------------------------------------- names


@pytest.mark.usefixtures("cheap")
def test_rules_can_be_left_out() -> None:
    roots = MERGED["sums"][0]
    names = ["same_right", "sum_of_products"]
    assert merged(*roots, exclude=[f"products.{name}" for name in names])[0] == roots
    for name in names:
        _, record = merged(*roots, exclude=[name])
        assert {each.rule for each in record} == {*names} - {name}
    graph = kgraph.optimize([Tensor(root) for root in roots], ["products"], exclude=["sum_of_products"])
    assert ops(graph.outputs)["matmul"] == 2


@pytest.mark.usefixtures("cheap")
def test_it_is_explained() -> None:
    roots = [Tensor(x @ v), Tensor(y @ v)]
    explained = kgraph.explain(roots, ["products"])
    assert "products.same_right  matmul" in str(explained)
    assert "products.same_right: matmul" in explained.why(roots[0])
    assert "products.same_right did apply" in explained.why_not("same_right", roots[1])
    lonely = kgraph.explain(Tensor(x @ w), ["products"])
    assert "decided over the whole graph" in lonely.why_not("same_right", Tensor(x @ w))


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("most", range(6))
def test_so_many_rewrites_and_no_more(most: int) -> None:
    roots = [x @ v, y @ v, o.tanh(z @ w) @ leaf(7, 2) + z[:, :1] @ leaf(1, 2)]
    record = Record(most=most)
    found = products(Graph((), roots), record)
    verify(found)
    assert len(record) == record.by_rules == min(most, 3)
    whole_record = Record()
    products(Graph((), roots), whole_record)
    assert [each.before for each in record] == [each.before for each in whole_record][:most]
    given = feeds(roots)
    for value, wanted in zip(compute(found.outputs, given), compute(roots, given), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-12)


@pytest.mark.usefixtures("cheap")
def test_the_rewrite_that_makes_a_check_fail_is_found() -> None:
    a = K.placeholder((4, 3), dtype="float64")
    b = K.variable(np.ones((3, 2)), "float64")
    f = K.function([a], [K.dot(a, b), K.dot(K.tanh(a), b)], engine="numpy")

    def check(one: Any) -> bool:
        return not any(node.op is o.concatenate for node in toposort(one.optimized().roots))

    assert f.bisect(check).rule == "same_right"


# ---------------------------------------------------------------------------------------------------- random graphs


def tangle(seeds: Sequence[int]) -> list[Node]:
    """Products, sums of products and functions of them, of a few square matrices that they share; some sizes are unknown."""
    random = Random(seeds[0])
    size = random.choice((1, 2, 3))
    lead: tuple[int | None, ...] = random.choice(((), (), (2,), (None,)))
    rows = random.choice((size, None))
    pool = [leaf(*lead, rows, size) for _ in range(2)]
    pool += [o.tanh(pool[0]), leaf(*lead, size, size), leaf(*lead, size, size)]
    weights = [leaf(*lead, size, size) for _ in range(3)]
    weights.append(swapped(weights[0]))
    fresh = len(pool)
    for seed in seeds[1:]:
        random.seed(seed)
        kind, one = random.randrange(6), random.choice(pool[-4:])
        if kind < 3:
            pool.append(one @ random.choice(weights))
        elif kind == 3:
            pool.append(random.choice(pool) @ random.choice(weights) + one @ random.choice(weights))
        elif kind == 4:
            same = [each for each in pool if each.type is one.type]
            pool.append(one + random.choice(same))
        else:
            pool.append(o.tanh(one))
    return pool[fresh:] or pool


@pytest.mark.usefixtures("cheap")
@quick
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=30))
def test_random_products_keep_their_values(seeds: list[int]) -> None:
    roots = tangle(seeds)
    found, _ = merged(*roots)
    given_ = feeds(roots, unknown=roots[0].type.shape[-1])
    for before, after in zip(roots, found, strict=True):
        assert before.dtype == after.dtype
    wanted, values = compute(roots, given_), compute(found, given_)
    for value, want in zip(values, wanted, strict=True):
        assert value.shape == want.shape
        np.testing.assert_allclose(value, want, rtol=1e-9, atol=1e-9 * max(1.0, float(np.abs(want).max(initial=0))))
    assert ops(found).get("matmul", 0) <= ops(roots).get("matmul", 0)


@pytest.mark.usefixtures("cheap")
def test_random_products_are_merged_often() -> None:
    random = Random(0)
    counts = [len(merged(*tangle([random.getrandbits(32) for _ in range(20)]))[1]) for _ in range(40)]
    assert sum(count > 2 for count in counts) > 20


@pytest.mark.usefixtures("cheap")
def test_the_order_in_which_nodes_were_built_does_not_matter() -> None:
    random = Random(5)
    for _ in range(20):
        roots = tangle([random.getrandbits(32) for _ in range(25)])
        order = toposort(roots)
        digests = set()
        for seed in range(3):
            shuffled = Random(seed)
            made: dict[Node, Node] = {}
            waiting = list(order)
            while waiting:
                node = shuffled.choice([node for node in waiting if all(i in made for i in node.inputs)])
                waiting.remove(node)
                made[node] = again(node, tuple([made[i] for i in node.inputs]))
            digests.add(Listing.of(merged(*[made[root] for root in roots])[0]).digest(0))
        assert len(digests) == 1


# ---------------------------------------------------------------------------------------------------- what it costs


def many(kind: str, count: int) -> list[Node]:
    a, b = leaf(2, 8), leaf(8, 8)
    if kind == "one right operand":
        return [(a * float(i)) @ b for i in range(count)]
    if kind == "one left operand":
        return [a @ (b * float(i)) for i in range(count)]
    if kind == "nothing shared":
        return [(a * float(i)) @ (b * float(i)) for i in range(count)]
    if kind == "a sum":
        total = a @ b
        for i in range(count):
            total = total + (a * float(i)) @ (b * float(i + 1))
        return [total]
    for _ in range(count):
        a = o.tanh(a @ b)
    return [a]


@pytest.mark.parametrize("kind", ["one right operand", "one left operand", "nothing shared", "a sum", "a chain"])
def test_what_is_done_grows_with_the_graph(kind: str) -> None:
    def calls(count: int) -> int:
        graph = Graph((), many(kind, count))
        found = 0

        def count_one(frame: Any, event: str, arg: Any) -> None:
            nonlocal found
            found += 1

        sys.setprofile(count_one)
        try:
            products(graph, Record())
        finally:
            sys.setprofile(None)
        return found

    assert calls(4000) < 1.5 * 8 * calls(500)

"""The rules of simplify: what each makes of what, what it leaves alone and why, and that it keeps its promise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import kgraph.ir.ops as o
from kgraph import backend as K
from kgraph.check import check_rule
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.op import OPS
from kgraph.ir.passes import fold, simplify
from kgraph.ir.passes.fitting import settled, source, surely_alike
from kgraph.ir.passes.simplify.signs import never_negative
from kgraph.ir.record import Record
from kgraph.ir.rewrite import Rule, Rules, rewrite
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType
from tests.ir import simplify_layout_rows  # noqa: F401  (it adds its rows)
from tests.ir.simplify_rows import ROWS, Leaves, Row
from tests.ir.steps import compute

pytestmark = pytest.mark.filterwarnings("error::kgraph.errors.RewriteWarning")

RULES: dict[str, Rule] = {rule.name.partition(".")[2]: rule for rule in simplify}
#: f floats, h float16, w the wider floats, i integers, s those with a sign, u those without, b bools.
KINDS = {
    "f": ("float16", "float32", "float64"), "h": ("float16",), "w": ("float32", "float64"), "i": ("uint8", "int8", "int32", "int64"),
    "s": ("int8", "int32", "int64"), "u": ("uint8",), "b": ("bool",),
}  # fmt: skip
EACH = [pytest.param(row, dtype, id=f"{row.rule}-{n}-{dtype}") for n, row in enumerate(ROWS) for kind in row.kinds for dtype in KINDS[kind]]
each_row = pytest.mark.parametrize(("row", "dtype"), EACH)


def normal(root: Node, *rules: Rule) -> Node:
    (found,) = rewrite(Graph([], [root]), rules, Record()).outputs
    return found


def test_every_rule_has_a_row() -> None:
    assert {row.rule for row in ROWS if not isinstance(row.made(Leaves(KINDS[row.kinds[0]][0]))[1], str)} == set(RULES)


@each_row
def test_what_a_rule_makes(row: Row, dtype: str) -> None:
    before, after = row.made(Leaves(dtype))
    rule = RULES[row.rule]
    found = normal(before, rule)
    if isinstance(after, Node):
        assert found is after or found is normal(after, rule), f"\n{Graph((), [found, after])}"
    else:
        assert found is before
        reasons = [str(rule.apply(order, before, {})) for order in rule.orders]
        assert any(after in reason for reason in reasons), reasons


# ---------------------------------------------------------------------------------------------------- promises


def values_for(leaf: Node, random: np.random.Generator, moderate: bool) -> Any:
    """Random numbers, and those where rules go wrong."""
    shape, dtype = [4 if size is None else size for size in leaf.type.shape], np.dtype(leaf.dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        near = [bounds.min, bounds.min + 1, bounds.max, bounds.max - 1, 0, 1, 2, 3, 5]
        return np.where(random.random(shape) < 0.5, random.choice(near, shape), random.integers(bounds.min, bounds.max, shape)).astype(dtype)
    normal = random.normal(0, 2, shape).astype(dtype)
    if moderate:
        return np.abs(normal) + dtype.type(0.5)
    finite = np.finfo(dtype)
    special = [
        np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 0.5, 1000, -1000, finite.max, -finite.max, finite.tiny, -finite.tiny,
        finite.smallest_subnormal, finite.eps, 1 + finite.eps, finite.max / 2, 1e-3,
    ]  # fmt: skip
    return np.where(random.random(shape) < 0.6, random.choice(np.array(special, dtype), shape), normal)


@each_row
def test_a_rule_keeps_its_promise(row: Row, dtype: str) -> None:
    before, after = row.made(Leaves(dtype))
    if isinstance(after, str):
        return
    claim = RULES[row.rule].claim
    sources = [node for node in toposort([before, after]) if node.op is o.placeholder]
    for seed in range(12):
        random = np.random.default_rng(seed)
        feeds = {node: values_for(node, random, row.sums or claim == "finite") for node in sources}
        found, wanted = compute([after], feeds)[0], compute([before], feeds)[0]
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        if claim == "exact" or found.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted)
            if found.dtype.kind == "f":
                np.testing.assert_array_equal(np.signbit(found) & ~np.isnan(found), np.signbit(wanted) & ~np.isnan(wanted))
        else:
            within_promise(found, wanted, after if row.rule in LOST else before, feeds)


#: Rules for what loses digits, or overflows, in any precision. `test_what_was_lost` tells that both formulas mean the same.
LOST = ("log_of_exp", "terms", "exp_of_log", "expm1_of_log1p")


def widened(feeds: dict[Node, Any]) -> dict[Node, Any]:
    return {node: value.astype(np.longdouble) if value.dtype.kind == "f" else value for node, value in feeds.items()}


@pytest.mark.parametrize("row", [row for row in ROWS if row.rule in LOST], ids=str)
def test_what_was_lost(row: Row) -> None:
    before, after = row.made(Leaves("float64"))
    if isinstance(after, Node):
        feeds = {node: values_for(node, np.random.default_rng(0), True) for node in toposort([before]) if node.op is o.placeholder}
        found, wanted = compute([after, before], widened(feeds))
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def within_promise(found: Any, wanted: Any, exactly: Node, feeds: dict[Node, Any]) -> None:
    """Asserts that what was found is no more than twice as far from the exact value as what was before, or 4 last digits."""
    wide = widened(feeds)
    exact = np.asarray(compute([exactly], wide)[0])
    with np.errstate(all="ignore"):
        nan = np.isnan(exact)
        # inf - inf may be what it would be of numbers near by; but what is NaN of finite numbers, or of NaN, stays it.
        near = {node: np.where(np.isinf(value), 1, value) if value.dtype.kind == "f" else value for node, value in wide.items()}
        sure = nan & np.isnan(np.asarray(compute([exactly], near)[0]))
        np.testing.assert_array_equal(np.isnan(found) & sure, sure)
        infinite = np.isinf(exact)
        np.testing.assert_array_equal(found[infinite], exact[infinite].astype(found.dtype))
        rest = ~(nan | infinite)
        error, allowed = abs(found - exact)[rest], abs(wanted - exact)[rest]
        last = np.spacing(np.minimum(abs(exact), np.finfo(found.dtype).max).astype(found.dtype)).astype(np.longdouble)[rest]
        beyond = abs(exact[rest]) > np.finfo(found.dtype).max  # it rounds to infinity, or to the largest number
        good = (error <= np.maximum(2 * np.where(np.isnan(allowed), np.inf, allowed), 4 * last)) | beyond
    assert good.all(), (exact[rest][~good], wanted[rest][~good], found[rest][~good])


#: Values of attrs for which rules apply.
ATTRS = {
    "axis": ((), (0,), (1,), (0, 1), (2,), (0, 2)), "padding": (((0, 0),), ((1, 0),), ((0, 0), (0, 0)), ((1, 2), (0, 1))),
    "reps": ((1,), (1, 1), (2, 1)), "repeats": ((1,), (2,)),
}  # fmt: skip
#: What applies for unknown sizes alone has no graphs there; of powers of integers the plain formula raises.
NOT_TRIED = ("like_source", "size_of_source", "stretched_operand")


@pytest.mark.parametrize("name", [name for name in RULES if name not in NOT_TRIED])
def test_a_rule_keeps_its_promise_on_graphs_of_its_patterns(name: str) -> None:
    examples = [row.made(Leaves(KINDS[kind][-1])) for row in ROWS if row.rule == name for kind in row.kinds]
    given = [before for before, after in examples if not isinstance(after, str) and all(n.type.is_static for n in toposort([before]))]
    pattern = str(RULES[name].patterns)
    one = any(op in pattern for op in ("expand_dims", "squeeze", "concatenate", "softmax", "repeat")) and "rearranged" not in name
    attrs = {**ATTRS, "axis": (0, 1, 2)} if one else ATTRS
    (report,) = check_rule(RULES[name], attrs=attrs, tensors=given, graphs=40)  # type: ignore[arg-type]
    assert report.applied


# ---------------------------------------------------------------------------------------------------- the whole set


@each_row
def test_the_set_comes_to_an_end_and_what_it_leaves_is_left(row: Row, dtype: str) -> None:
    before, _ = row.made(Leaves(dtype))
    rules = [*fold, *simplify]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = normal(before, *rules)
        assert normal(found, *rules) is found


def test_no_more_is_computed_than_before() -> None:
    for row in ROWS:
        if row.rule in ("power", "power_of_integer", "transposed_later"):
            continue  # a power takes as long as many products; an operand that is written in another shape takes no time
        dtype = KINDS[row.kinds[0]][0]
        before, after = row.made(Leaves(dtype))
        if isinstance(after, Node) and all(node.type.is_static for node in toposort([before, after])):
            assert cost(after) <= cost(before), row.rule


def cost(root: Node) -> int:
    """The elements that are computed or read; what only rearranges or stretches counts little."""
    cheap = (o.constant, o.placeholder)
    moved = (o.broadcast_to, o.broadcast_like, o.reshape, o.expand_dims, o.squeeze, o.transpose, o.flip, o.index)
    nodes = [node for node in toposort([root]) if node.op not in cheap]
    sizes = [known(node) for node in nodes]
    read = [max([size, *[known(i) for i in node.inputs]]) for node, size in zip(nodes, sizes, strict=True)]
    return sum([1 if node.op in moved else 4 * size for node, size in zip(nodes, read, strict=True)])


def known(node: Node) -> int:
    return node.type.size or 0


def test_draws_prints_and_identities_stay() -> None:
    x = K.placeholder((3,))
    a, b = [K.random_normal((3,), seed=1) for _ in range(2)]
    printed = K.print_tensor(x, "x")
    copy = o.identity(x.node, uid=Identity())
    root = (a - b).node + (printed - x).node + (copy - x.node)
    found = normal(root, *simplify)
    kept = {node.op for node in toposort([found])}
    assert {o.random_normal, o.print_, o.identity} <= kept
    assert len([node for node in toposort([found]) if node.op is o.random_normal]) == 2


# ---------------------------------------------------------------------------------------------------- where sizes come from


def leaf(*shape: int | None, dtype: str = "float32") -> Node:
    return o.placeholder(type=TensorType(dtype, shape), uid=Identity())


def test_an_unknown_size_is_followed_to_where_it_comes_from() -> None:
    x, w, i = leaf(None, 5), leaf(5, 7), leaf(None, dtype="int32")
    h = o.relu(o.matmul(x, w) + leaf(7))
    n = o.size(x, axes=(0,))
    ways = [
        (h, 0), (o.transpose(h, perm=(1, 0)), 1), (o.sum(h, axis=(1,), keepdims=False), 0), (o.expand_dims(h, axis=0), 1),
        (o.squeeze(o.expand_dims(h, axis=0), axis=0), 0), (o.reshape(h, shape=(7, -1)), 1), (o.reshape(h, n, shape=(None, 7)), 0),
        (o.broadcast_to(o.scalar(1.0, "float32"), n, shape=(2, None)), 1), (h[:, 2:4], 0), (h[None], 1), (o.softmax(h, axis=1), 0),
        (o.concatenate(h, h, axis=1), 0), (o.broadcast_like(leaf(7), h), 0), (o.pad(h, padding=((0, 0), (1, 1))), 0),
        (o.where(o.less(h, h), h, o.scalar(0.0, "float32")), 0),
    ]  # fmt: skip
    for node, axis in ways:
        assert source(node, axis) == (x, 0), node
    rows = o.gather(leaf(9, 2), i)
    assert source(rows, 0) == (i, 0)
    ends = [(o.concatenate(h, h, axis=0), 0), (h[1:], 0), (o.reshape(h, shape=(-1,)), 0), (o.pad(h, padding=((1, 0), (0, 0))), 0)]
    for node, axis in ends:
        assert source(node, axis) == (node, axis)


def test_shapes_that_are_equal_for_sure() -> None:
    x, y = leaf(None, 3), leaf(None, 3)
    assert surely_alike(o.exp(x), o.square(x))
    assert not surely_alike(x, y)
    assert not surely_alike(leaf(3), leaf(1, 3))
    assert settled(x, [leaf(3), leaf(1, 3), o.exp(x), o.scalar(0.0, "float32")])
    assert not settled(x, [y])
    assert not settled(leaf(3), [x])


def test_what_is_never_negative() -> None:
    x = leaf(2, 3)
    some = o.square(x) * 2.0 + o.exp(x)
    for node in (some, o.sqrt(some), o.sum(some, axis=(0,), keepdims=False) / 3.0, o.softmax(x, axis=0), o.absolute(some)):
        assert never_negative(node)
    count = o.cast(o.size(leaf(None), axes=(0,)), dtype="float32")
    assert never_negative(o.sum(some, axis=(0,), keepdims=False) / count)
    for node in (x, some * x, some - 1.0, some * -0.0, o.relu(x), o.sqrt(x), o.square(leaf(3, dtype="int32"))):
        assert not never_negative(node)
    chain = some
    for _ in range(100):
        chain = chain + 1.0
    assert not never_negative(chain)  # it is not looked at for ever


def test_there_is_one_set_with_a_promise_for_each_rule() -> None:
    assert isinstance(simplify, Rules)
    assert {rule.of for rule in simplify} == {"simplify"}
    assert {rule.claim for rule in simplify} == {"exact", "rounding", "finite"}
    assert all(op in OPS.values() for op in (o.add, o.where))

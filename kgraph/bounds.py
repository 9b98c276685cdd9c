"""How far the results of two engines may be apart, and how far they are.

Engines promise one meaning, not the same bits: a sum may be added up in another order, an exponential be right to its last
place or the one before. What one op may differ by, over operands that are the same on both:

- nothing: integers and booleans; what moves, compares or selects elements (`EXACT`);
- two units in the last place: arithmetic of one operation (`ROUNDED`);
- sums over n terms (`SUMS`): ``(4 + 2 sqrt(n)) eps`` times the sum of the magnitudes of the terms, as roundings add up to that;
- whole algorithms (`WHOLE`): some units of the largest number that goes in or comes out, in addition;
- the rest: `RTOL` of the result, and twice what one unit in the last place of the operands moves it by.

Numbers below the smallest normal one may be taken for 0. Of several ops, the errors of the first go through those after it. How
far that may take a result is tried: the graph is computed with every result moved at random within its bound (`Jitter`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES
from kgraph.quiet import quietly

Array = np.ndarray[Any, Any]

#: dtype -> relative error of a function of one element: a few units in the last place.
RTOL = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}

#: Ops that give elements of their operands, or numbers that every float holds.
EXACT = frozenset((
    o.maximum, o.minimum, o.negative, o.absolute, o.sign, o.round, o.floor, o.relu, o.where, o.identity, o.stop_gradient,
    o.reshape, o.transpose, o.expand_dims, o.squeeze, o.flip, o.broadcast_to, o.broadcast_like, o.concatenate, o.repeat, o.tile,
    o.max, o.min, o.index, o.gather, o.pick, o.one_hot, o.pad, o.max_pool, o.max_pool_pick, o.switch,
    o.constant, o.absent, o.item,
))  # fmt: skip
ROUNDED = frozenset((o.add, o.subtract, o.multiply, o.divide, o.square, o.sqrt, o.cast, o.arange))
#: Linear in each operand that is named: the sum of the magnitudes of the terms is the op over magnitudes.
SUMS: Mapping[Op, tuple[int, ...]] = {
    o.sum: (0,), o.cumsum: (0,), o.matmul: (0, 1), o.conv: (0, 1), o.conv_input_grad: (0, 1), o.conv_kernel_grad: (0, 1),
    o.avg_pool: (0,), o.avg_pool_grad: (0,), o.max_pool_grad: (0,), o.scatter_add: (0,), o.scatter_index: (0,), o.unpick: (0,),
    o.linear_recurrence: (0, 1),
}  # fmt: skip

#: Whole algorithms, whose rounding is that of the largest numbers that go through them -> how many of its units.
WHOLE: Mapping[Op, int] = {
    o.ctc_loss: 16, o.ctc_posterior: 16, o.ctc_tangent: 16, o.ctc_beam_search: 16, o.log_softmax: 4, o.logsumexp: 4,
    o.softmax_crossentropy: 4, o.softmax_crossentropy_grad: 4, o.sigmoid_crossentropy: 4,
}  # fmt: skip

#: Draws differ from engine to engine, and are fed.
DRAWS = frozenset((o.random_uniform, o.random_normal))

#: How often a graph is computed with jitter, and how much further than that its results may be apart.
RUNS, MARGIN = 4, 4.0


def units(found: Array, wanted: Array) -> Array:
    """How far numbers are apart: floats in units in the last place, all else 0 or 1; infinity where one of them is no finite
    number, and the other is another. NaN is equal to NaN."""
    if wanted.dtype.kind != "f":
        return (found != wanted).astype("float64")
    x, y = _places(found), _places(wanted)
    apart = np.where(x > y, x.view("uint64") - y.view("uint64"), y.view("uint64") - x.view("uint64")).astype("float64")
    odd = ~(np.isfinite(found) & np.isfinite(wanted))
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    return np.where(same, 0.0, np.where(odd, np.inf, apart))


def _places(x: Array) -> Array:
    """The number of each float in the order of all of its dtype; 0 for both zeros."""
    bits = x.view({2: "int16", 4: "int32", 8: "int64"}[x.dtype.itemsize]).astype("int64")
    least = -(2 ** (8 * x.dtype.itemsize - 1))
    return np.where(bits < 0, least - bits, bits)


@quietly
def distance(found: Array, wanted: Array) -> Array:
    """The absolute differences, as float64, which is infinity where `units` is."""
    if wanted.dtype.kind != "f":
        return (found != wanted).astype("float64")
    apart = np.abs(found.astype("float64") - wanted.astype("float64"))
    unlike = units(found, wanted)
    return np.where(unlike == 0, 0.0, np.where(np.isinf(unlike), np.inf, apart))


def within(found: Array, wanted: Array, allowed: Any) -> bool:
    """Whether a result is what it should be: of one shape and dtype, and its elements no further off than is allowed."""
    return is_alike(found, wanted) and bool((distance(found, wanted) <= allowed).all())


def is_alike(found: Array, wanted: Array) -> bool:
    """Whether shape and dtype are the same."""
    return found.shape == wanted.shape and found.dtype == wanted.dtype


def plain(wanted: Array) -> Array:
    """What a function of one element may differ by."""
    if wanted.dtype.kind != "f":
        return np.zeros(wanted.shape)
    size = np.where(np.isfinite(wanted), np.abs(wanted.astype("float64")), 0)
    return np.asarray(RTOL[wanted.dtype.name] * size + float(np.finfo(wanted.dtype).tiny))


@quietly
def allowed(node: Node, operands: Sequence[Array], wanted: Array, output: int = 0) -> Array:
    """What a result may differ by if the operands are the same.

    Args:
      wanted: the result; of an op that has several, the one of number ``output``.
    """
    op = node.op
    if op is o.cast and operands[0].dtype.kind == "f" and wanted.dtype.kind in "iu":
        # What a float that no integer of the dtype is near becomes is nobody's promise.
        ends = np.iinfo(wanted.dtype)
        x = operands[0].astype("float64")
        return np.where((x > float(ends.min) - 1) & (x < float(ends.max) + 1), 0.0, np.inf)
    if op.bodies:
        return _spread(Graph((), [o.item(node, index=output)]), dict(zip(node.inputs, operands, strict=True)), wanted)
    if wanted.dtype.kind != "f" or op in EXACT:
        return np.zeros(wanted.shape)
    error = own_error(op, dict(node.attrs), operands, wanted)
    if op in ROUNDED or op in SUMS:
        return error
    eps, random = np.finfo(wanted.dtype).eps, np.random.default_rng(0)
    moved = np.zeros(wanted.shape)
    for _ in range(3):
        near = [_moved(x, float(eps), random) for x in operands]
        again = np.asarray(RULES[op](*near, **dict(node.attrs)))
        if again.shape == wanted.shape:
            moved = np.fmax(moved, np.abs(again.astype("float64") - wanted.astype("float64")))
    return error + 2 * moved


@quietly
def own_error(op: Op, attrs: Mapping[str, Any], operands: Sequence[Array], wanted: Array) -> Array:
    """What one op adds by rounding of its own."""
    if wanted.dtype.kind != "f" or op in EXACT or op in DRAWS:
        return np.zeros(wanted.shape)
    eps, tiny = float(np.finfo(wanted.dtype).eps), float(np.finfo(wanted.dtype).tiny)
    if op in ROUNDED:
        return np.where(np.isfinite(wanted), np.abs(wanted.astype("float64")), 0) * 2 * eps + tiny
    if op in WHOLE:
        largest = max(float(np.abs(x[np.isfinite(x)]).max(initial=0)) for x in (wanted, *operands) if x.dtype.kind == "f")
        return plain(wanted) + WHOLE[op] * eps * largest
    if op not in SUMS:
        return plain(wanted)
    places = SUMS[op]
    sizes = [np.abs(x).astype("float64") if i in places else x for i, x in enumerate(operands)]
    ones = [np.ones(x.shape) if i in places else x for i, x in enumerate(operands)]
    scale, terms = [np.asarray(RULES[op](*given, **attrs), "float64") for given in (sizes, ones)]
    return plain(wanted) + (4 + 2 * np.sqrt(terms)) * eps * np.where(np.isfinite(scale), scale, 0) + tiny


def _moved(x: Array, eps: float, random: Any) -> Array:
    if x.dtype.kind != "f":
        return x
    return np.asarray(x * (1 + eps * random.choice((-1.0, 1.0), x.shape)), x.dtype)


class Jitter:
    """The rules of NumPy with every result moved at random, as far as rounding on another engine may move it."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        self.rules = {op: rule if op.bodies or op in EXACT else self._moved(op, rule) for op, rule in RULES.items()}

    def _moved(self, op: Op, rule: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*operands: Any, **attrs: Any) -> Any:
            made = np.asarray(rule(*operands, **attrs))
            if made.dtype.kind != "f":
                return made
            error = own_error(op, attrs, [np.asarray(x) for x in operands], made)
            return np.asarray(made + self.random.uniform(-1, 1, made.shape) * error, made.dtype)

        return moved


@quietly
def jittered(graph: Graph, values: Mapping[Node, Any], wanted: Sequence[Array], runs: int = RUNS) -> list[Array]:
    """What the roots of a graph may differ by: infinity where one that is no float, or not finite, is not certain."""
    spread = [plain(x) for x in wanted]
    for seed in range(runs):
        program = evaluator(Graph(list(values), graph.roots), Jitter(seed).rules)
        for i, (again, first) in enumerate(zip(program(*values.values()), wanted, strict=True)):
            made = np.asarray(again, first.dtype)
            apart = distance(made, first) if made.shape == first.shape else np.full(first.shape, np.inf)
            if first.dtype.kind != "f":
                apart = np.where(apart > 0, np.inf, 0.0)
            spread[i] = np.maximum(spread[i], MARGIN * apart)
    return spread


def _spread(graph: Graph, values: Mapping[Node, Any], wanted: Array) -> Array:
    return jittered(graph, values, [wanted])[0]

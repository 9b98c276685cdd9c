"""The steps that random graphs are built of: a pool of values, and for each op what adds a value of it.

Each value is computed as it is built, by NumPy, so that the real sizes go together as well as the static ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.op import Op
from kgraph.ir.traverse import toposort
from kgraph.ir.types import DTYPES, INTEGERS, TensorType, is_tuple

Array = np.ndarray[Any, Any]
LARGEST, DEEPEST = 48, 2  # elements of a value; bodies within bodies


# ---------------------------------------------------------------------------------------------------- what a graph means


def compute(roots: Sequence[Node], bound: Mapping[Node, Any]) -> list[Any]:
    """The values of roots, op after op by NumPy. bound: node -> value, for every source but constants."""
    found: dict[Node, Any] = dict(bound)
    with np.errstate(all="ignore"):
        for node in toposort(roots, stop=bound):
            if node not in found:
                found[node] = _meaning(node, [found[i] for i in node.inputs])
    return [found[root] for root in roots]


def _meaning(node: Node, values: Sequence[Any]) -> Any:
    if node.op is o.constant:
        return node.attr("value").array
    if node.op is o.cond:
        body = node.attr("then" if values[0] else "orelse")
        return tuple(compute(body.outputs, dict(zip(body.inputs, values[1:], strict=True))))
    if node.op is o.print_:
        return values[0]
    if node.op is o.scan:
        return looped(node, values)
    assert node.op.numpy is not None
    made = node.op.numpy(*values, **dict(node.attrs))
    return made if is_tuple(node.type) else np.asarray(made)


def looped(node: Node, values: Sequence[Any]) -> Any:
    """The results of a scan."""
    body, sequences, states = node.attr("body"), node.attr("sequences"), node.attr("states")
    parts = values[1 : 1 + sequences]
    held, captures = list(values[1 + sequences : 1 + sequences + states]), values[1 + sequences + states :]
    found: dict[int, Any] = {}
    for i in sorted(range(int(values[0])), reverse=node.attr("reverse")):
        given = [np.array(i, "int32"), *[np.asarray(x[i]) for x in parts], *held, *captures]
        held[:], found[i] = (results := compute(body.outputs, dict(zip(body.inputs, given, strict=True))))[:states], results[states:]
    return (*held, *[np.stack(rows) for rows in zip(*[found[i] for i in sorted(found)], strict=True)])


# ---------------------------------------------------------------------------------------------------- the pool


class Pool:
    """The values that steps choose from and add to, with what they really are."""

    def __init__(self, random: Random, ops: Sequence[str], real: Mapping[Node, Any], keys: Sequence[Node], depth: int):
        self.random, self.ops, self.depth = random, ops, depth
        self.real = dict(real)
        self.keys = list(keys)
        self.nodes = [node for node in real if node not in keys]

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def one(self, of: Sequence[Any]) -> Any:
        """One of a few, often of the last."""
        return self.random.choice(of[-4:] if self.number(0, 1) else of)

    def some(self, of: Sequence[Any]) -> tuple[Any, ...]:
        """Some of them, in their order; perhaps none."""
        return tuple(x for x in of if self.number(0, 1))

    def value(self, node: Node) -> Any:
        if node not in self.real:
            (self.real[node],) = compute([node], self.real)
        return self.real[node]

    def shape(self, node: Node) -> tuple[int, ...]:
        return self.value(node).shape  # type: ignore[no-any-return]

    def add(self, node: Node | None) -> None:
        """A value more, unless it is too large."""
        if node is None or node in self.nodes or node.op is o.constant:
            return
        value = self.value(node)
        if value.size <= LARGEST and value.ndim <= 3:
            self.nodes.append(node)

    def step(self) -> None:
        self.add(STEPS[self.random.choice(self.ops)](self))

    # Choosing operands. A choice that nothing fits is None, and then there is no step; these three always find one.

    def any(self, where: Callable[[Node], bool] = lambda node: True) -> Node | None:
        found = [node for node in self.nodes if where(node)]
        return self.one(found) if found else None

    def floats(self, where: Callable[[Node], bool] = lambda node: True) -> Node | None:
        found = self.any(lambda node: node.type.is_float and where(node)) or self.any(where)
        return None if found is None else found if found.type.is_float else self.cast(found, "float32")

    def numbers(self, where: Callable[[Node], bool] = lambda node: True) -> Node | None:
        found = self.any(where)
        return found if found is None or found.dtype != "bool" else o.cast(found, dtype="int32")

    def bools(self, where: Callable[[Node], bool] = lambda node: True) -> Node | None:
        found = self.any(where)
        return None if found is None else self.cast(found, "bool")

    def cast(self, x: Node, dtype: str) -> Node:
        """x in a dtype; a float that no integer holds is asked whether it is above 0."""
        if x.dtype == dtype:
            return x
        if x.type.is_float and dtype in INTEGERS:
            value = self.value(x)
            if not (np.isfinite(value).all() and (abs(value) < 100).all() and (value > -1).all()):
                x = o.greater(x, o.scalar(0.0, x.dtype))
        return o.cast(x, dtype=dtype)

    def beside(self, *xs: Node) -> Node:
        """A value of the dtype of the last x that broadcasts with each of them: one of the pool, or a number."""
        x = xs[-1]
        found = self.any(lambda y: all(self.stretch(y, other) for other in xs))
        if found is None or not self.number(0, 5):
            return o.scalar(self.number(0, 3), x.dtype)
        return self.cast(found, x.dtype)

    def stretch(self, x: Node, y: Node) -> bool:
        """Whether two values broadcast: axes are equal, or static and of size 1."""
        a, b = x.type.shape[::-1], y.type.shape[::-1]
        sizes = zip(a, b, self.shape(x)[::-1], self.shape(y)[::-1], strict=False)
        return all(1 in (s, t) or m == n for s, t, m, n in sizes)

    def alike(self, x: Node, like: Node) -> Node:
        """x, or what is made of it, in the dtype and the shape of like."""
        if self.shape(x) == self.shape(like):
            return self.cast(x, like.dtype)
        axes = tuple(range(x.ndim))
        if like.dtype == "bool":
            total = o.any(self.cast(x, "bool"), axis=axes, keepdims=False)
        else:
            total = o.sum(self.cast(x, like.dtype), axis=axes, keepdims=False)
        return o.broadcast_like(total, like)

    def same(self, like: Node) -> Node:
        """A value of the dtype and shape of like."""
        return self.alike(self.one(self.nodes), like)

    def axis(self, x: Node, least: int = 0) -> int | None:
        """An axis of at least so many elements."""
        found = [i for i, size in enumerate(self.shape(x)) if size >= least]
        return self.one(found) if found else None

    def entry(self, size: int) -> int | Node:
        """A size as ops take it: an int, or a scalar that has this value when the program runs."""
        scalars = [n for n in self.nodes if not n.ndim and n.dtype in INTEGERS and self.value(n) == size]
        scalars += [o.size(n, axes=(i,)) for n in self.nodes for i, s in enumerate(n.type.shape) if s is None and self.shape(n)[i] == size]
        return self.one([*scalars, size]) if scalars else size

    def entries(self, sizes: Iterable[int]) -> tuple[tuple[int | None, ...], tuple[Node, ...]]:
        return o.entries_of([self.entry(size) for size in sizes])

    def indices(self, count: int, shape: Sequence[int]) -> Node:
        """Constant indices of an axis of count elements, from its start or its end."""
        found = [self.number(-count, count - 1) for _ in range(math.prod(shape))]
        return o.constant_of(np.array(found, self.one(["int64", "int32"])).reshape(shape))

    def condition(self) -> Node:
        x = self.bools(lambda node: not node.ndim)
        return self.cast(self.alike(self.one(self.nodes), o.scalar(0.0, "float32")), "bool") if x is None else x


# ---------------------------------------------------------------------------------------------------- a step per op

Step = Callable[[Pool], "Node | None"]


def _unary(op: Op, choose: Callable[[Pool], Node | None]) -> Step:
    def step(p: Pool) -> Node | None:
        x = choose(p)
        return None if x is None else op(x)

    return step


def _binary(op: Op, choose: Callable[[Pool], Node | None]) -> Step:
    def step(p: Pool) -> Node | None:
        x = choose(p)
        if x is None:
            return None
        y = p.beside(x)
        return op(x, y) if p.number(0, 1) else op(y, x)

    return step


def _reduction(op: Op, choose: Callable[[Pool], Node | None], least: int = 0) -> Step:
    def step(p: Pool) -> Node | None:
        x = choose(p)
        if x is None:
            return None
        axes = p.some([i for i, size in enumerate(p.shape(x)) if size >= least])
        return op(x, axis=axes, keepdims=bool(p.number(0, 1)))

    return step


def _along(op: Op, choose: Callable[[Pool], Node | None], least: int = 0) -> Step:
    def step(p: Pool) -> Node | None:
        x = choose(p)
        axis = None if x is None else p.axis(x, least)
        return None if x is None or axis is None else op(x, axis=axis)

    return step


def _where(p: Pool) -> Node:
    x = p.one(p.nodes)
    y = p.beside(x)
    return o.where(p.cast(p.beside(y, x), "bool"), x, y)


def _reshape(p: Pool) -> Node:
    x = p.one(p.nodes)
    sizes = list(p.shape(x))
    for _ in range(p.number(0, 2)):  # join two axes, or split one
        at = p.number(0, max(len(sizes) - 1, 0))
        if p.number(0, 1) and len(sizes) > at + 1:
            sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
        else:
            size = sizes[at] if sizes else 1
            divisor = p.one([d for d in range(1, size + 1) if not size % d] or [1])
            sizes[at : at + 1] = [divisor, size // divisor]
    entries, nodes = p.entries(sizes)
    free = [i for i, entry in enumerate(entries) if entry is not None and math.prod(sizes[:i] + sizes[i + 1 :])]
    if free and p.number(0, 1):
        at = p.one(free)
        entries = (*entries[:at], -1, *entries[at + 1 :])
    return o.reshape(x, *nodes, shape=entries)


def _transpose(p: Pool) -> Node:
    x = p.one(p.nodes)
    return o.transpose(x, perm=p.one(list(itertools.permutations(range(x.ndim)))))


def _expand_dims(p: Pool) -> Node:
    x = p.one(p.nodes)
    return o.expand_dims(x, axis=p.number(0, x.ndim))


def _squeeze(p: Pool) -> Node | None:
    x = p.any(lambda node: 1 in p.shape(node))
    return None if x is None else o.squeeze(x, axis=p.one([i for i, size in enumerate(p.shape(x)) if size == 1]))


def _flip(p: Pool) -> Node:
    x = p.one(p.nodes)
    return o.flip(x, axes=p.some(range(x.ndim)))


def _broadcast_to(p: Pool) -> Node:
    x = p.one(p.nodes)
    kept = [p.number(0, 3) if static == 1 else size for static, size in zip(x.type.shape, p.shape(x), strict=True)]
    sizes, nodes = p.entries([*[p.number(0, 3) for _ in range(p.number(0, 3 - x.ndim))], *kept])
    return o.broadcast_to(x, *nodes, shape=sizes)


def _broadcast_like(p: Pool) -> Node:
    like = p.one(p.nodes)
    stretches = lambda x: all(s in (1, size) for s, size in zip(x.type.shape[::-1], p.shape(like)[::-1], strict=False))  # noqa: E731
    x = p.any(lambda x: x.ndim <= like.ndim and stretches(x))
    return o.broadcast_like(o.scalar(1, like.dtype) if x is None else x, like)


def _concatenate(p: Pool) -> Node | None:
    x = p.any(lambda node: node.ndim > 0)
    if x is None:
        return None
    axis = p.number(0, x.ndim - 1)
    rest = lambda node: (*p.shape(node)[:axis], *p.shape(node)[axis + 1 :])  # noqa: E731
    others = [p.any(lambda node: node.ndim == x.ndim and rest(node) == rest(x)) or x for _ in range(p.number(0, 2))]
    return o.concatenate(x, *[p.cast(other, x.dtype) for other in others], axis=axis)


def _repeat(p: Pool) -> Node | None:
    x = p.any(lambda node: node.ndim > 0)
    if x is None:
        return None
    repeats, nodes = p.entries([p.number(0, 3)])
    return o.repeat(x, *nodes, axis=p.number(0, x.ndim - 1), repeats=repeats)


def _tile(p: Pool) -> Node:
    x = p.one(p.nodes)
    reps, nodes = p.entries([p.number(0, 2) for _ in range(x.ndim)])
    return o.tile(x, *nodes, reps=reps)


def _size(p: Pool) -> Node:
    x = p.one(p.nodes)
    return o.size(x, axes=p.some(range(x.ndim)))


def _arange(p: Pool) -> Node:
    start, stop = p.number(-2, 2), p.number(-2, 2)
    bounds, nodes = p.entries([start, stop])
    return o.arange(*nodes, bounds=(*bounds, p.one([-1, 2, 1])), dtype=p.one(["int32", "float32", "int64"]))


def _index(p: Pool) -> Node:
    x = p.one(p.nodes)
    spec: list[Any] = []
    for size in p.shape(x)[: p.number(0, x.ndim)]:
        kind = p.number(0, 3)
        if kind == 0:
            spec.append(None)
        if kind == 1 and size:
            spec.append(p.entry(p.number(-size, size - 1)))
        else:
            bounds = [None if not p.number(0, 2) else p.entry(p.number(-4, 4)) for _ in range(2)]
            spec.append(slice(*bounds, p.one([-1, 2, None])))
    return x[tuple(spec)]


def _rows(p: Pool) -> tuple[Node, Node] | None:
    x = p.any(lambda node: node.ndim > 0 and p.shape(node)[0] > 0)
    return None if x is None else (x, p.indices(p.shape(x)[0], p.one([(2, 2), (), (3,)])))


def _gather(p: Pool) -> Node | None:
    found = _rows(p)
    return None if found is None else o.gather(*found)


def _scatter_add(p: Pool) -> Node | None:
    found = _rows(p)
    return None if found is None else o.scatter_add(p.cast(o.gather(*found), "float32"), found[1], found[0])


def _classes(p: Pool) -> tuple[Node, Node] | None:
    x = p.floats(lambda node: node.ndim > 0 and p.shape(node)[-1] > 0)
    if x is None:
        return None
    return x, o.argmax(x, axis=x.ndim - 1) if p.number(0, 1) else p.indices(p.shape(x)[-1], p.shape(x)[:-1])


def _pick(p: Pool) -> Node | None:
    found = _classes(p)
    return None if found is None else o.pick(*found)


def _unpick(p: Pool) -> Node | None:
    found = _classes(p)
    return None if found is None else o.unpick(o.pick(*found), found[1], found[0])


def _scatter_index(p: Pool) -> Node | None:
    region = p.any(lambda node: node.op is o.index) or _index(p)
    return o.scatter_index(p.same(region), *region.inputs, **dict(region.attrs)) if region.op is o.index else None


def _in_top_k(p: Pool) -> Node | None:
    x = p.floats(lambda node: node.ndim == 2 and p.shape(node)[1] > 0)
    return None if x is None else o.in_top_k(x, o.argmin(x, axis=1), k=p.number(0, 3))


def _one_hot(p: Pool) -> Node:
    return o.one_hot(p.cast(p.one(p.nodes), "int32"), depth=p.number(0, 3), dtype=p.one(["uint8", "float32"]))


def _matmul(p: Pool) -> Node | None:
    x = p.numbers(lambda node: node.ndim >= 2)
    if x is None:
        return None
    shape = p.shape(x)
    fits = lambda y: y.ndim == x.ndim and p.shape(y)[:-2] == shape[:-2] and p.shape(y)[-2] == shape[-1]  # noqa: E731
    y = p.any(fits) or o.transpose(x, perm=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))
    return o.matmul(x, p.cast(y, x.dtype))


def _linear_recurrence(p: Pool) -> Node | None:
    x = p.floats(lambda node: node.ndim > 0)
    return None if x is None else o.linear_recurrence(x, p.same(x), axis=p.number(0, x.ndim - 1))


def _softmax_crossentropy(p: Pool) -> Node | None:
    x = p.floats(lambda node: node.ndim > 0 and p.shape(node)[-1] > 0)
    if x is None:
        return None
    target, epsilon = o.softmax(p.same(x), axis=x.ndim - 1), o.scalar(0.001, x.dtype)
    loss = o.softmax_crossentropy(x, target, epsilon)
    return o.softmax_crossentropy_grad(p.same(loss), x, target, epsilon) if p.number(0, 1) else loss


def _sigmoid_crossentropy(p: Pool) -> Node | None:
    x = p.floats()
    return None if x is None else o.sigmoid_crossentropy(x, o.sigmoid(p.same(x)))


def _line(p: Pool) -> Node | None:
    """A value as a line: one sample, a spatial axis, one channel."""
    x = p.floats(lambda node: p.value(node).size > 0)
    return None if x is None else o.reshape(x, shape=(1, -1, 1))


def _windows(p: Pool, x: Node) -> tuple[int, int, dict[str, Any]]:
    """The elements of a line, the taps of windows over it, and how they move."""
    n = p.shape(x)[1]
    border = p.one(["same", "full", "valid"])
    taps = p.number(1, min(n, 3) if border == "valid" else 3)
    return n, taps, {"strides": (p.number(1, 2),), "border": border}


def _conv(p: Pool) -> Node | None:
    x = _line(p)
    if x is None:
        return None
    n, taps, how = _windows(p, x)
    how.update(dilation=(1 if how["border"] == "valid" else p.number(1, 2),), groups=1)
    w = o.constant_of(np.array([p.number(1, 3) for _ in range(taps)], x.dtype).reshape(taps, 1, 1))
    out = o.conv(x, w, **how)
    way = p.number(0, 2)
    if way == 0:
        return out
    if way == 1:
        shape, sizes = p.entries([n])
        return o.conv_input_grad(p.same(out), w, *sizes, shape=shape, **how)
    # Of padding by an infinity some kernels make NaN, others nothing.
    how.update(border="valid", dilation=(1,))
    taps = min(taps, n)
    out = o.conv(x, w[:taps], **how)
    return o.conv_kernel_grad(x, p.same(out), shape=(taps,), **how)


def _pool(p: Pool) -> Node | None:
    x = _line(p)
    if x is None:
        return None
    n, taps, how = _windows(p, x)
    how["size"] = (taps,)
    way = p.number(0, 4)
    if way == 0:
        return o.max_pool_pick(p.same(x), x, **how)
    out = o.avg_pool(x, **how) if way < 3 else o.max_pool(x, **how)
    if way in (1, 3):
        return out
    if way == 4:
        return o.max_pool_grad(p.same(out), x, **how)
    shape, sizes = p.entries([n])
    return o.avg_pool_grad(p.same(out), *sizes, shape=shape, **how)
def _pad(p: Pool) -> Node:
    x = p.one(p.nodes)
    return o.pad(x, padding=tuple([(p.number(0, 1), p.number(0, 2)) for _ in range(x.ndim)]))


def _alignments(p: Pool) -> tuple[Node, Node, Node, Node] | None:
    """Scores, labels and lengths that are in range."""
    x = p.floats(lambda node: node.ndim > 0 and p.shape(node)[-1] > 0)
    if x is None:
        return None
    while x.ndim < 3:
        x = o.expand_dims(x, axis=0)
    batch, steps, classes = p.shape(x)
    most = p.number(0, 2) if classes > 1 else 0

    def constant(high: int, *shape: int) -> Node:
        return o.constant_of(np.array([p.number(0, high) for _ in range(math.prod(shape))], "int32").reshape(shape))

    return o.tanh(x), constant(max(classes - 2, 0), batch, most), constant(steps, batch), constant(most, batch)


def _ctc(op: Op) -> Step:
    def step(p: Pool) -> Node | None:
        found = _alignments(p)
        if found is None:
            return None
        if op is o.ctc_beam_search:
            return o.ctc_beam_search(found[0], found[2], beam_width=3, top_paths=p.number(1, 2))
        return op(*found) if op is not o.ctc_tangent else op(p.same(found[0]), *found)

    return step


def _draw(op: Op) -> Step:
    def step(p: Pool) -> Node | None:
        if not p.keys:
            return None
        sizes, nodes = p.entries([p.number(0, 3) for _ in range(p.number(0, 2))])
        return op(p.one(p.keys), *nodes, shape=sizes, dtype=p.one(["float64", "float32"]))

    return step


def _fold_in(p: Pool) -> None:
    if p.keys:
        step = p.any(lambda node: not node.ndim and node.dtype in INTEGERS)
        p.keys.append(o.fold_in(p.one(p.keys), o.scalar(p.number(0, 3), "int32") if step is None else step))


def _switch(p: Pool) -> Node:
    x = p.one(p.nodes)
    return o.switch(p.condition(), x, p.same(x))


def _cond(p: Pool) -> None:
    if p.depth == DEEPEST:
        return
    captures = list(dict.fromkeys(p.one(p.nodes) for _ in range(p.number(1, 3))))
    keys = [p.one(p.keys)] if p.keys else []
    given = [o.param(index=i, type=node.type) for i, node in enumerate([*captures, *keys])]
    real = dict(zip(given, [p.value(node) for node in (*captures, *keys)], strict=True))
    like = [p.one(given[: len(captures)]) for _ in range(p.number(1, 2))]
    bodies = []
    for _ in range(2):
        inner = Pool(p.random, p.ops, real, given[len(captures) :], p.depth + 1)
        for _ in range(p.number(0, 3)):
            inner.step()
        bodies.append(Graph(given, [inner.same(x) for x in like]))
    made = o.cond(p.condition(), *captures, *keys, then=bodies[0], orelse=bodies[1])
    for i in range(len(like)):
        p.add(o.item(made, index=i))


#: What bodies of loops are made of: a size that is read off the values of one step would be wrong in the next.
LOOPED = (
    "sin", "cos", "tanh", "sigmoid", "softplus", "negative", "add", "subtract", "multiply", "maximum", "minimum", "less", "where",
    "sum", "transpose", "matmul", "fold_in", "switch", "cond", "scan", "stop_gradient",
)  # fmt: skip


def _scan(p: Pool) -> None:
    x = p.any(lambda node: node.type.is_float and node.ndim > 0 and p.shape(node)[0] > 0)
    ops = [name for name in LOOPED if name in p.ops]
    if p.depth == DEEPEST or x is None or not ops:
        return
    floats = [node for node in p.nodes if node.type.is_float]
    states = [p.one(floats) for _ in range(p.number(0, 2))]
    captured = [p.one(floats) for _ in range(p.number(0, 2))]
    captured += [o.cast(node, dtype="float32") for node in p.nodes if node.op is o.learning_phase]
    captures = list(dict.fromkeys(captured))
    keys = [p.one(p.keys)] if p.keys else []
    types = [TensorType("int32", ()), x.type.with_shape(x.type.shape[1:]), *[node.type for node in (*states, *captures, *keys)]]
    given = [o.param(index=i, type=type) for i, type in enumerate(types)]
    first = [np.array(0, "int32"), np.asarray(p.value(x)[0]), *[p.value(node) for node in (*states, *captures, *keys)]]
    inner = Pool(p.random, ops, dict(zip(given, first, strict=True)), given[len(given) - len(keys) :], p.depth + 1)
    for _ in range(p.number(0, 4)):
        inner.step()
    outputs = [inner.one(inner.nodes) for _ in range(p.number(0 if states else 1, 2))]
    body = Graph(given, [*[inner.same(state) for state in given[2 : 2 + len(states)]], *outputs])
    known = x.type.shape[0]
    length = o.size(x, axes=(0,)) if known is None else o.scalar(known, "int32")
    made = o.looped(length, [x], states, [*captures, *keys], body, bool(p.number(0, 1)))
    for i in range(len(states) + len(outputs)):
        p.add(o.item(made, index=i))


#: Op name -> what adds a value of it to a pool.
STEPS: dict[str, Callable[[Pool], Any]] = {
    **{op.name: _unary(op, Pool.floats) for op in (
        o.round, o.floor, o.exp, o.expm1, o.log, o.log1p, o.sqrt, o.sin, o.cos, o.tanh, o.sigmoid, o.softplus)},
    **{op.name: _unary(op, Pool.numbers) for op in (o.negative, o.absolute, o.sign, o.square, o.relu)},
    **{op.name: _unary(op, Pool.any) for op in (o.stop_gradient, o.shape)},
    "logical_not": _unary(o.logical_not, Pool.bools),
    "identity": lambda p: o.identity(p.one(p.nodes), uid=Identity()),
    "print": lambda p: o.print_(p.one(p.nodes), uid=Identity(), message=""),
    "cast": lambda p: p.cast(p.one(p.nodes), p.one(DTYPES)),
    **{op.name: _binary(op, Pool.numbers) for op in (o.add, o.subtract, o.multiply, o.floor_divide, o.remainder)},
    **{op.name: _binary(op, Pool.floats) for op in (o.divide, o.power)},
    **{op.name: _binary(op, Pool.any) for op in (
        o.maximum, o.minimum, o.equal, o.not_equal, o.less, o.less_equal, o.greater, o.greater_equal)},
    **{op.name: _binary(op, Pool.bools) for op in (o.logical_and, o.logical_or)},
    "where": _where,
    "reshape": _reshape, "transpose": _transpose, "expand_dims": _expand_dims, "squeeze": _squeeze, "flip": _flip,
    "broadcast_to": _broadcast_to, "broadcast_like": _broadcast_like, "concatenate": _concatenate, "repeat": _repeat,
    "tile": _tile, "size": _size, "arange": _arange,
    **{op.name: _reduction(op, Pool.any) for op in (o.sum, o.prod)},
    **{op.name: _reduction(op, Pool.any, least=1) for op in (o.max, o.min)},
    **{op.name: _reduction(op, Pool.bools) for op in (o.any, o.all)},
    "logsumexp": _reduction(o.logsumexp, Pool.floats),
    **{op.name: _along(op, Pool.any, least=1) for op in (o.argmax, o.argmin)},
    **{op.name: _along(op, Pool.any) for op in (o.cumsum, o.cumprod)},
    **{op.name: _along(op, Pool.floats) for op in (o.softmax, o.log_softmax)},
    "linear_recurrence": _linear_recurrence, "matmul": _matmul,
    "index": _index, "scatter_index": _scatter_index, "gather": _gather, "scatter_add": _scatter_add, "pick": _pick,
    "unpick": _unpick, "one_hot": _one_hot, "in_top_k": _in_top_k,
    "softmax_crossentropy": _softmax_crossentropy, "sigmoid_crossentropy": _sigmoid_crossentropy,
    "conv": _conv, "pool": _pool,
    "random_uniform": _draw(o.random_uniform), "random_normal": _draw(o.random_normal), "fold_in": _fold_in,
    "switch": _switch, "cond": _cond, "scan": _scan, "pad": _pad,
    **{op.name: _ctc(op) for op in (o.ctc_loss, o.ctc_posterior, o.ctc_tangent, o.ctc_beam_search)},
}  # fmt: skip

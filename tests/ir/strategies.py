"""Random graphs that are well typed, with values to feed them, and what a graph means, told without any engine.

    @given(graphs())                                  # every op but print
    @given(graphs(PLAIN, updates=False))              # no branches, no draws, no updates
    @given(graphs(SMOOTH, dtypes=("float64",)))       # differentiable everywhere
    def test(sample): ...

    @given(twins())                                   # two of one structure, with other placeholders and variables
    def test(pair): ...

`graphs` gives a `Sample`: a `Graph` as a program builds it (its inputs are placeholders; variables, streams and the learning
phase are in it as they are), and the arrays that all of these stand for. ``sample.expected()`` are the values of the roots of
that graph; ``sample.compute(other)`` those of another graph over the same sources, such as what a pass made of it.
``sample.closed`` has every source among its inputs, and ``sample.values`` their arrays in order: what `evaluator` takes.
Variables and streams are real ones, so that a `K.function` may be made of a sample too.

A graph is built step by step over a pool of values; each step applies one op to values that fit it. Sizes may be unknown, but
each value is computed as it is built, so that the real sizes go together as well as the static ones; but only for the values
fed, the learning phase among them, because a size may be any integer. A step makes its choices from a seed: hypothesis is biased
to small numbers, which make small graphs, and shrinks an example by leaving out steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import kgraph.ir.ops as o
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.stream import Stream
from kgraph.ir.traverse import toposort
from kgraph.ir.types import FLOATS, TensorType
from kgraph.lower.variable import Variable
from tests.ir.steps import LARGEST, STEPS, Array, Pool, compute

#: Settings of a test of random graphs: the same graphs each time.
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

BRANCHES = ("switch", "cond", "scan")
DRAWS = ("random_uniform", "random_normal", "fold_in")
ALL = tuple(name for name in STEPS if name != "print")
PLAIN = tuple(name for name in ALL if name not in BRANCHES + DRAWS)
SMOOTH = (
    "sin", "cos", "tanh", "sigmoid", "softplus", "negative", "add", "subtract", "multiply", "reshape", "transpose", "expand_dims",
    "squeeze", "flip", "broadcast_to", "broadcast_like", "concatenate", "repeat", "tile", "pad", "sum", "prod", "logsumexp", "cumsum",
    "cumprod", "softmax", "log_softmax", "linear_recurrence", "matmul", "index", "scatter_index", "gather", "scatter_add", "pick", "scan",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sample:
    """A graph and the values of its sources."""

    graph: Graph
    feeds: Mapping[Node, Array]

    @property
    def closed(self) -> Graph:
        """The graph with every source among its inputs."""
        return Graph(self.feeds, self.graph.outputs, self.graph.updates)

    @property
    def phase(self) -> int:
        """The learning phase that is fed."""
        return int(self.feeds.get(o.learning_phase(), 0))

    @property
    def values(self) -> list[Array]:
        return list(self.feeds.values())

    def compute(self, graph: Graph) -> list[Any]:
        """The values of a graph's roots."""
        return compute(graph.roots, self.feeds)

    def expected(self) -> list[Any]:
        return self.compute(self.graph)

    def __repr__(self) -> str:
        feeds = "\n".join(f"  {node.op.name} {node.name}: {value.tolist()}" for node, value in self.feeds.items())
        return f"\n{self.graph}\n{feeds}\n"


# ---------------------------------------------------------------------------------------------------- samples

SPECIAL = (math.nan, math.inf, -math.inf, -0.0)


def _array(random: Random, dtype: str, shape: Sequence[int], special: bool) -> Array:
    """Small numbers, of which few are equal; NaN, infinities and -0.0 among them on demand."""
    lowest = 0 if dtype in ("bool", "uint8") else -3
    one = lambda: random.uniform(-2, 2) if dtype in FLOATS else random.randint(lowest, 3)  # noqa: E731
    found = [random.choice(SPECIAL) if special and dtype in FLOATS and random.random() < 0.3 else one() for _ in range(math.prod(shape))]
    return np.array(found).reshape(shape).astype(dtype)


def graphs(ops: Collection[str] = ALL, *, steps: int = 24, **options: Any) -> st.SearchStrategy[Sample]:
    """Random graphs with values for their sources.

    Args:
      ops: names of `STEPS`: ALL, PLAIN, SMOOTH or others. What makes operands fit uses a few more (cast, sum, greater,
        broadcast_like, size, constants).
      steps: at most so many ops are applied (and a few in each body of a branch).
      options: of `built`.
    """
    return seeds(steps).map(lambda found: built(found, ops, **options))


def twins(ops: Collection[str] = ALL, *, steps: int = 24, **options: Any) -> st.SearchStrategy[tuple[Sample, Sample]]:
    """Pairs of graphs of one structure whose sources have nothing in common, their names included."""
    return seeds(steps).map(lambda found: (built(found, ops, **options), built(found, ops, names="other ", **options)))


def seeds(steps: int) -> st.SearchStrategy[list[int]]:
    """What `built` builds from: a seed of the sources, and one for each step."""
    return st.lists(st.integers(0, 2**32 - 1), min_size=max(1, steps // 3) + 1, max_size=steps + 1)


def built(
    seeds: Sequence[int],
    ops: Collection[str] = ALL,
    *,
    dtypes: Sequence[str] = ("float32", "float64", "int32", "bool", "float16", "uint8", "int64"),
    unknown: bool = True,
    updates: bool = True,
    special: bool = False,
    names: str = "",
) -> Sample:
    """The same graph, of new placeholders and variables, for the same arguments.

    Args:
      dtypes: of placeholders and variables; there is an integer scalar besides, which serves as a size.
      unknown: whether placeholders have unknown sizes.
      updates: whether there are variables that are updated (variables there are anyhow).
      special: whether NaN, infinities and -0.0 are fed.
      names: what the names of placeholders and variables begin with.
    """
    random = Random(seeds[0])
    number, maybe = random.randint, lambda: random.random() < 0.5
    feeds: dict[Node, Array] = {}
    for i in range(number(1, 3)):
        dtype, shape = random.choice(dtypes), [number(0, 4) if number(0, 3) else 3 for _ in range(number(0, 3))]
        shape = shape if math.prod(shape) <= LARGEST else shape[:2]
        type = TensorType(dtype, tuple(None if unknown and maybe() else size for size in shape))
        feeds[o.placeholder(type=type, uid=Identity(f"{names}x{i}"))] = _array(random, dtype, shape, special)
    feeds[o.placeholder(type=TensorType("int32", ()), uid=Identity(f"{names}n"))] = np.array(number(0, 3), "int32")
    inputs = list(feeds)
    variables: list[Node] = []
    for i in range(number(0, 2)):
        type = TensorType(random.choice(dtypes), random.choice([(), (3,), (2, 3)]))
        value = _array(random, type.dtype, type.shape, special)
        variables.append(o.variable(type=type, uid=Variable(f"{names}v{i}", type, value)))
        feeds[variables[-1]] = value
    if set(ops) & set(BRANCHES) and maybe():
        feeds[o.learning_phase()] = np.array(number(0, 1), "uint8")
    keys: list[Node] = []
    if set(ops) & set(DRAWS):
        keys.append(o.stream(uid=Stream(seeds[0] % 100)))
        feeds[keys[0]] = np.array((seeds[0] % 100, 0), "int64")
    pool = Pool(random, [name for name in STEPS if name in ops], feeds, keys, 0)
    for one in seeds[1:]:
        random.seed(one)
        pool.step()
    used = {i for node in toposort(pool.nodes) for i in node.inputs}
    ends = [node for node in pool.nodes if node not in used] or pool.nodes
    outputs = [ends[-1], *[pool.one(ends) for _ in range(number(0, 5))]]
    changed = [(v, pool.same(v)) for v in variables if updates and number(0, 3)]
    return Sample(Graph(inputs, outputs, changed), feeds)

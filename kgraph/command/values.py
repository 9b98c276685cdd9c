"""What the command feeds a graph: the values of a file, or random ones."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kgraph.command.parts import SIZES, argument, near, wrong
from kgraph.errors import ArgumentError
from kgraph.function import Function
from kgraph.ir import cost
from kgraph.ir.node import Graph, Node, describe
from kgraph.ir.types import numpy_dtype, show_shape

SIZE = 32  # of axes that are not known

ARGUMENTS = (
    argument(
        "--inputs", metavar="FILE.npz",
        help="the values to feed, as numpy.savez writes them: by the names of the placeholders, or arr_0 ... in order; "
        "random values, if it is left out",
    ),
    argument("--seed", type=int, default=0, help="of random values (0)"),
    SIZES._replace(options={**SIZES.options, "help": f"{SIZES.options['help']}; {SIZE}, if it is left out"}),
    argument(
        "--range", nargs=2, type=float, default=(0.0, 1.0), metavar=("LOW", "HIGH"),
        help="of random floats, which are uniform (0 1); integers are 0 or 1, unless it is given",
    ),
)  # fmt: skip


class Fed(NamedTuple):
    """What a function is fed.

    Attributes:
      values: in the order of its inputs.
      how: where they come from.
      rows: name, type and sizes of each.
    """

    values: list[Any]
    how: str
    rows: list[tuple[str, str]]

    def __str__(self) -> str:
        if not self.values:
            return "nothing is fed: there are no placeholders"
        return f"fed {self.how}: " + ", ".join(f"{name} {kind}" for name, kind in self.rows)

    def as_data(self) -> dict[str, Any]:
        return {"how": self.how, "values": [{"name": name, "type": kind} for name, kind in self.rows]}


def fed(function: Function, asked: argparse.Namespace) -> Fed:
    """The values for a function. Raises ArgumentError."""
    nodes = function.graph.inputs
    if asked.inputs is not None:
        if asked.sizes:
            raise wrong("--sizes is for random values, and --inputs has values")
        values, how = _of_file(asked.inputs, nodes), f"the values of {asked.inputs}"
    else:
        values, how = _random(function.graph, asked)
    rows = [
        (node.name or f"input {number}", f"{node.dtype}{show_shape(np.shape(value))}")
        for number, (node, value) in enumerate(zip(nodes, values, strict=True))
    ]
    return Fed(values, how, rows)


def _of_file(file: str, nodes: Sequence[Node]) -> list[Any]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise wrong(f"{file} holds one array, and no names", hint="numpy.savez writes a file of several")
        with loaded as found:
            arrays = {name: found[name] for name in found.files}
    except OSError as error:
        raise wrong(f"{file} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ArgumentError):
            raise
        raise wrong(f"{file} is no file of numbers, as numpy.savez writes them") from None
    given = list(arrays)
    if given == [f"arr_{number}" for number in range(len(given))]:
        if len(given) != len(nodes):
            raise wrong(f"{file} has {len(given)} arrays, and {len(nodes)} are fed", *_inputs(nodes))
        return list(arrays.values())
    names = [node.name or f"arr_{number}" for number, node in enumerate(nodes)]
    if strange := [name for name in given if name not in names]:
        raise wrong(f"{file} has {strange[0]!r}, and nothing of that name is fed", hint=near(strange[0], names, "the names"))
    if missing := [name for name in names if name not in given]:
        raise wrong(f"{file} has no {missing[0]!r}, which is fed", *_inputs(nodes), hint=f"it has {', '.join(given)}")
    return [arrays[name] for name in names]


def _inputs(nodes: Sequence[Node]) -> list[str]:
    return [f"input {number}: {describe(node)}" for number, node in enumerate(nodes)]


def _random(graph: Graph, asked: argparse.Namespace) -> tuple[list[Any], str]:
    low, high = asked.range
    if not low < high:
        raise wrong(f"--range is {low:g} {high:g}; the second number has to be larger than the first")
    shapes = _shapes(graph, dict(asked.sizes))
    draw = np.random.default_rng(asked.seed)
    plain = (low, high) == (0.0, 1.0)
    values = []
    for node in graph.inputs:
        kind, shape = numpy_dtype(node.dtype), shapes[node]
        if kind.kind == "f":
            values.append(draw.uniform(low, high, shape).astype(kind))
        elif kind.kind == "b" or plain:
            values.append(draw.integers(0, 2, shape).astype(kind))
        else:
            values.append(draw.integers(int(np.ceil(low)), max(int(np.ceil(high)), int(np.ceil(low)) + 1), shape).astype(kind))
    kinds = {numpy_dtype(node.dtype).kind for node in graph.inputs}
    what = [f"floats from {low:g} to {high:g}"] if "f" in kinds else []
    what += ["integers 0 and 1" if plain else f"integers from {low:g} below {high:g}"] if kinds - {"f"} else []
    return values, f"random {' and '.join(what)} (seed {asked.seed})"


def _shapes(graph: Graph, given: Mapping[str, int]) -> dict[Node, tuple[int, ...]]:
    """The sizes of what is fed: those that have to be equal are. Raises ArgumentError."""
    if all(node.type.is_static for node in graph.inputs) and not given:
        return {node: _known(node.type.shape) for node in graph.inputs}
    try:
        unknown = cost.Unknowns(graph)
    except ArgumentError as error:
        raise wrong(f"{error.message}; what to feed is not clear", hint="give the values themselves with --inputs") from None
    for name in given:
        if name not in unknown.of:
            raise wrong(f"there is no unknown size {name!r}", hint=near(name, unknown.of, "the unknown sizes"))
    places = {place: given.get(name, SIZE) for name, found in unknown.of.items() for place in found} | unknown.settled
    found = {}
    for node in graph.inputs:
        found[node] = _known([places.get((node, axis), size) for axis, size in enumerate(node.type.shape)])
    return found


def _known(shape: Sequence[int | None]) -> tuple[int, ...]:
    return tuple([SIZE if size is None else size for size in shape])

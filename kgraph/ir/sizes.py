"""Sizes that are unknown while a graph is built, checked once for each set of sizes that it is called with.

The check runs the type rules again, with the sizes of the values given in the place of the unknown ones: what they would
have refused while the graph was built, they refuse now. Two unknown sizes that meet element by element have to be equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import KGraphError, ShapeError
from kgraph.ir.node import Graph, Node
from kgraph.ir.traverse import substitute, toposort
from kgraph.ir.types import Shape, TensorType, TupleType, is_tuple, numpy_dtype
from kgraph.quiet import quietly


class SizeCheck:
    """The check of one graph.

    Args:
      order: its nodes, inputs before users.
      owner: the loop, if the graph is the body of one.

    Attributes:
      needed: False if every size is known: then there is nothing to check.
    """

    def __init__(self, order: Sequence[Node], owner: Node | None = None):
        # Only what an unknown size can reach is gone through again.
        self.loose = [node for node in order if node.inputs and not _settled(node)]
        self.needed = bool(self.loose)
        self.order = order
        self._owner = owner
        self._loops = {node: SizeCheck(_inside(node.attr("body")), node) for node in self.loose if node.op is o.scan}

    @quietly
    def __call__(self, given: Mapping[Node, Shape]) -> None:
        """Raises ShapeError, naming operands and line, where the sizes given do not go together."""
        self._run({node: node.type.with_shape(shape) for node, shape in given.items()}, {})

    def _run(self, types: dict[Node, Any], values: dict[Node, Any]) -> None:
        """Fills in the types and, where they follow from sizes, the values of the nodes."""
        for node in self.loose:
            inputs = [types.get(i, i.type) for i in node.inputs]
            try:
                if node.op is o.scan:
                    types[node] = self._real_loop(node, inputs, values)
                    continue
                types[node] = found = real_type(node, inputs, values)
                if node.op.broadcasts:
                    _check_equal(node, inputs, found)
            except KGraphError as error:
                raise self._explained(error, node, types) from None
            note_value(node, inputs, values)

    def _explained(self, error: KGraphError, node: Node, types: Mapping[Node, Any]) -> KGraphError:
        """The error with the operands, those of a loop as they are outside of it."""
        inputs: Sequence[Node] = node.inputs
        origin = node.origin
        if self._owner is not None:
            origin = o.as_built(self._owner, node).origin
            outside = dict(zip(self._owner.attr("body").inputs, o.first_step(self._owner), strict=True))
            inputs = substitute(inputs, outside)
            types = {shown: types.get(i, i.type) for shown, i in zip(inputs, node.inputs, strict=True)}
        return node.op.explained(error, inputs, origin, types)

    def _real_loop(self, node: Node, inputs: Sequence[TensorType], values: Mapping[Node, Any]) -> TupleType:
        """The type of a loop over operands of real sizes. Its states keep theirs, so that one step stands for all."""
        attrs = dict(node.attrs)
        body, sequences, states = attrs["body"], attrs["sequences"], attrs["states"]
        given = dict(zip(body.inputs, node.op.given(*inputs, **attrs), strict=True))  # type: ignore[misc]
        first = 1 + sequences + states  # no value of a sequence or a state is the same in every step
        captured = zip(body.inputs[first:], node.inputs[first:], strict=True)
        known = {p: value for p, i in captured if (value := known_value(i, values)) is not None}
        steps = known_value(node.inputs[0], values)
        lengths = [x.shape[0] for x in inputs[1 : 1 + sequences]]
        if steps is not None:
            o.check_length(int(steps), *[size for size in lengths if size is not None])
        elif known_lengths := [size for size in lengths if size is not None]:
            o.check_length(*known_lengths)
        self._loops[node]._run(given, known)
        results = [given.get(root, root.type) for root in body.outputs]
        initial = inputs[1 + sequences : first]
        for number, (new, old) in enumerate(zip(results, initial, strict=False)):
            o.check_state(number, new, old)
        count = next((size for size in lengths if size is not None), None if steps is None else int(steps))
        return TupleType((*initial, *[y.with_shape((count, *y.shape)) for y in results[states:]]))


def _inside(body: Graph) -> list[Node]:
    return toposort(body.outputs, stop=body.inputs)


def _settled(node: Node) -> bool:
    return all(not is_tuple(i.type) and i.type.is_static for i in node.inputs) and node.op.sized is None


def _check_equal(node: Node, inputs: Sequence[TensorType], result: TensorType) -> None:
    """An operand has the sizes of the result, but for those that were 1 when the graph was built: only these are stretched."""
    for built, real in zip(node.inputs, inputs, strict=True):
        lead = len(result.shape) - len(real.shape)
        for axis, size in enumerate(real.shape):
            wanted = result.shape[axis + lead]
            if size != wanted and size is not None and wanted is not None and built.type.shape[axis] != 1:
                raise unequal(axis - len(real.shape), size, wanted)


def unequal(axis: int, *sizes: int) -> ShapeError:
    """The error for sizes that meet on an axis, counted from the end, and differ when the program runs."""
    hint = "a size that was unknown while the graph was built is never stretched; it has to be equal"
    return ShapeError(f"sizes differ at run time on axis {axis}: {' != '.join(map(str, sizes))}", hint=hint)


def real_type(node: Node, inputs: Sequence[TensorType], values: Mapping[Node, Any]) -> Any:
    """The type of a node over operands of real sizes, given what is known of values. Raises what the type rule raises."""
    if node.op.bodies:
        return node.type  # bodies were built for the sizes that were known then
    attrs = dict(node.attrs)
    holes: list[int] = []
    if node.op.sized is not None:
        entries = list(attrs[node.op.sized])
        holes = [i for i, entry in enumerate(entries) if entry is None]
        filled = node.inputs[len(node.inputs) - len(holes) :] if holes else ()
        for hole, size in zip(holes, filled, strict=True):
            value = known_value(size, values)
            if value is None:
                return node.type  # a size that is computed from values: the program itself finds out
            entries[hole] = int(value)
        attrs[node.op.sized] = tuple(entries)
    operands = inputs[: len(inputs) - len(holes)] if holes else inputs
    return node.op.type_rule(*operands, **attrs)


def known_value(node: Node, values: Mapping[Node, Any]) -> Any:
    if node.op is o.constant:
        return node.attrs[0][1].array
    if node in values:
        return values[node]
    known = None if is_tuple(node.type) else o.static_int(node)
    return None if known is None else np.array(known, numpy_dtype(node.type.dtype))


def note_value(node: Node, inputs: Sequence[TensorType], values: dict[Node, Any]) -> None:
    """Remember the value of what is computed from sizes alone."""
    if is_tuple(node.type) or node.type.dtype not in ("int32", "int64") or node.ndim > 1:
        return
    if node.op is o.shape or node.op is o.size:
        if inputs[0].is_static:
            shape = inputs[0].shape
            kept = shape if node.op is o.shape else [shape[axis] for axis in node.attr("axes")]
            values[node] = np.array(kept, "int32") if node.op is o.shape else np.int32(np.prod(np.array(kept, "int64")))
        return
    operands = [known_value(i, values) for i in node.inputs]
    if node.op.numpy is None or not operands or any(value is None for value in operands):
        return
    if node.op.effect:
        values[node] = operands[0]  # the program prints it
        return
    with suppress(ValueError, IndexError, ZeroDivisionError):  # the program raises it, where it is needed
        values[node] = node.op.numpy(*operands, **dict(node.attrs))


def sizes_meet(node: Node) -> bool:
    """Whether the sizes of its operands have to agree with one another."""
    op = node.op
    return len(node.inputs) > 1 and (op.broadcasts or (op.sized is None and not op.bodies))


def loose_parameters(node: Node, body: Graph, loose: Iterable[Node]) -> set[Node]:
    """The parameters of a body that the node with the body gives a value sized by values."""
    given = node.inputs[len(node.inputs) - len(body.inputs) :]
    return {p for p, i in zip(body.inputs, given, strict=True) if i in loose}


def sized_by_values(order: Sequence[Node], loose: Iterable[Node] = ()) -> set[Node]:
    """The nodes with a size that no `SizeCheck` knows: it is computed from values, not from sizes. The program checks these.

    Args:
      loose: nodes of which this is known.
    """
    from_sizes: set[Node] = set()  # nodes whose values follow from sizes alone
    found = set(loose)
    for node in order:
        if (
            node.op is o.constant
            or ((node.op is o.shape or node.op is o.size) and node.inputs[0] not in found)
            or (node.inputs and all(i in from_sizes for i in node.inputs))
        ):
            from_sizes.add(node)
        if not is_tuple(node.type) and node.type.is_static:
            continue
        holes = node.attr(node.op.sized).count(None) if node.op.sized else 0
        sizes = node.inputs[len(node.inputs) - holes :] if holes else ()
        bodies: list[Graph] = [node.attr(name) for name in node.op.bodies]
        if (
            any(i in found for i in node.inputs)
            or any(size not in from_sizes for size in sizes)
            or any(not inside.isdisjoint(body.outputs) for body in bodies for inside in [_sized_inside(node, body, found)])
        ):
            found.add(node)
    return found


def _sized_inside(node: Node, body: Graph, loose: Iterable[Node]) -> set[Node]:
    return sized_by_values(_inside(body), loose_parameters(node, body, loose))

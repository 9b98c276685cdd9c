"""Loops: a closed body, step after step. The gradient of a loop is another one, which goes the other way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.node import Graph, Node
from kgraph.ir.op import Op
from kgraph.ir.types import INTEGERS, Size, TensorType, TupleType, merge_size, numpy_dtype, same_size, show_shape

STEP = TensorType("int32", ())

#: Ops whose results in a body are kept for the way back, where a gradient reads them; what else it needs is computed again from
#: these. Each takes several times as long as reading what it gave, and most are the last of their gradient: what a tanh was of
#: need not be kept then.
SAVED = {
    "matmul", "conv", "conv_input_grad", "conv_kernel_grad", "max_pool", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh",
    "sigmoid", "softplus", "power", "softmax", "log_softmax", "logsumexp",
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------- type rule


def _given(
    length: TensorType, *operands: TensorType, body: Graph, sequences: int, states: int, reverse: bool
) -> tuple[TensorType, ...]:
    """The types of the parameters of the body: the step, a slice of each sequence, the states, the captures."""
    return (STEP, *[x.with_shape(x.shape[1:]) for x in operands[:sequences]], *operands[sequences:])


def _scan_type(length: TensorType, *operands: TensorType, body: Graph, sequences: int, states: int, reverse: bool) -> TupleType:
    if length.shape or length.dtype not in INTEGERS:
        raise DTypeError(f"the number of steps is {length}, not an integer scalar")
    if len(operands) < sequences + states:
        raise ShapeError(f"{len(operands)} operands are no {sequences} sequences and {states} states")
    count: Size = None
    for x in operands[:sequences]:
        if not x.shape:
            raise ShapeError("a scalar is no sequence: it has no axis to go along")
        if not same_size(count, x.shape[0]):
            raise ShapeError(f"sequences differ in length: {count} != {x.shape[0]}")
        count = merge_size(count, x.shape[0])
    if tuple([p.type for p in body.inputs]) != _given(
        length, *operands, body=body, sequences=sequences, states=states, reverse=reverse
    ):
        raise ShapeError("the parameters of the body of a loop do not fit the values that it is given")
    initial = operands[sequences : sequences + states]
    if len(body.outputs) < states:
        raise ShapeError(f"the body gives {len(body.outputs)} results, too few for {states} states")
    for number, (new, old) in enumerate(zip(body.outputs, initial, strict=False)):
        check_state(number, new.type, old)
    return TupleType((*initial, *[y.type.with_shape((count, *y.type.shape)) for y in body.outputs[states:]]))


def check_state(number: int, new: TensorType, old: TensorType) -> None:
    """Raises DTypeError or ShapeError if a step changes the dtype or the shape of a state."""
    if new.dtype != old.dtype:
        raise DTypeError(f"a step changes state {number} from {old.dtype} to {new.dtype}", hint="cast one of them with K.cast")
    if new.ndim != old.ndim or not all(map(same_size, new.shape, old.shape)):
        raise ShapeError(
            f"a step changes the shape of state {number}: from {show_shape(old.shape)} to {show_shape(new.shape)}",
            hint="a state keeps the shape of its initial value",
        )


# ---------------------------------------------------------------------------------------------------- meaning


def _scan(length: Any, *operands: Any, body: Any, sequences: int, states: int, reverse: bool) -> tuple[Any, ...]:
    """The loop in Python. The body is a function, with the types of its results as ``types``. All results are new arrays."""
    count = int(length)
    inputs, captures = operands[:sequences], operands[sequences + states :]
    check_length(count, *[x.shape[0] for x in inputs])
    types: Sequence[TensorType] = body.types
    initial = operands[sequences : sequences + states]
    places = range(count)[::-1] if reverse else range(count)
    stacks: list[Any] = [_stack(count, type.shape, type) if type.is_static or not count else None for type in types[states:]]
    # What a type tells is so; sizes that are unknown are compared, as NumPy would stretch a part to fit its place.
    loose_states = [i for i in range(states) if not types[i].is_static]
    loose_stacks = [i for i in range(len(stacks)) if stacks[i] is None]
    results: Sequence[Any] = initial
    steps = np.arange(count, dtype=np.int32)
    for place, row in zip(places, zip(*[x[::-1] if reverse else x for x in (steps, *inputs)], strict=True), strict=True):
        results = body(*row, *results[:states], *captures)
        for i in loose_states:
            if results[i].shape != initial[i].shape:
                check_state(i, types[i].with_shape(results[i].shape), types[i].with_shape(initial[i].shape))
        for i in loose_stacks:
            y = results[states + i]
            if stacks[i] is None:
                stacks[i] = _stack(count, y.shape, types[states + i])
            elif y.shape != stacks[i].shape[1:]:
                raise ShapeError(f"a step gives {show_shape(y.shape)}, one before it gave {show_shape(stacks[i].shape[1:])}")
        for stack, y in zip(stacks, results[states:], strict=False):
            stack[place] = y
    return (*[np.array(x) for x in results[:states]], *stacks)


def check_length(count: int, *sizes: int) -> None:
    """Raises ShapeError unless sequences have as many elements as there are steps."""
    if count < 0:
        raise ShapeError(f"the number of steps is {count}")
    for size in sizes:
        if size != count:
            raise ShapeError(f"a sequence has {size} elements, for {count} steps")


def _stack(count: int, shape: Sequence[Size], type: TensorType) -> Any:
    """Room for an element per step; of no steps the sizes that are not known are 0."""
    return np.empty((count, *[size or 0 for size in shape]), numpy_dtype(type.dtype))


# ---------------------------------------------------------------------------------------------------- gradient


def with_residuals(body: Graph, sequences: int, states: int) -> Graph:
    """The body with further outputs, which its gradient reads: the states as each step found them, and what is costly to
    compute again. A pass takes away those that nothing reads.

    Not what only one side of a branch computes, which then would be computed always; nor what may have another size in each
    step, and cannot be stacked.
    """
    from kgraph.ir.guards import guards
    from kgraph.ir.sizes import sized_by_values
    from kgraph.ir.traverse import toposort

    if not any(y.type.is_float for y in body.outputs):
        return body
    order = toposort(body.outputs, stop=body.inputs)
    read = set(order)
    known = set(body.outputs[states:])
    extra = [p for p in body.inputs[1 + sequences : 1 + sequences + states] if p in read and p not in known]
    costly = [node for node in order if node.op.name in SAVED and node not in known]
    if costly:
        sides = guards(order, body.outputs)
        loose = sized_by_values(order)
        extra += [node for node in costly if node not in loose and (not sides or (node in sides and sides[node] is None))]
    return Graph(body.inputs, [*body.outputs, *extra], built_as=body.built_as) if extra else body


def looped(
    length: Node,
    sequences: Sequence[Node],
    states: Sequence[Node],
    captures: Sequence[Node],
    body: Graph,
    reverse: bool = False,
) -> Node:
    """The scan of a body, with what its gradient will need as further results."""
    n, m = len(sequences), len(states)
    return o.scan(
        length, *sequences, *states, *captures, body=with_residuals(body, n, m), sequences=n, states=m, reverse=reverse
    )


def _scan_vjp(
    gs: tuple[Node | None, ...], out: Node, length: Node, *operands: Node,
    body: Graph, sequences: int, states: int, reverse: bool,
) -> tuple[Node | None, ...]:  # fmt: skip
    back = _WayBack(gs, out, length, operands, body, sequences, states, reverse)
    return None, *back.build()


class _WayBack:
    """The loop of cotangents. Its states are those of the forward states, and the sums of those of the captures; the cotangents
    of the sequences are stacked, in their places."""

    def __init__(
        self, gs: Sequence[Node | None], out: Node, length: Node, operands: Sequence[Node],
        body: Graph, sequences: int, states: int, reverse: bool,
    ):  # fmt: skip
        self.gs, self.out, self.length, self.operands = gs, out, length, operands
        self.body, self.sequences, self.states, self.reverse = body, sequences, states, reverse
        split = 1 + sequences
        self.slices, self.held = body.inputs[1:split], body.inputs[split : split + states]
        self.captured = body.inputs[split + states :]
        self._operands = dict(zip(body.inputs[1:], operands, strict=True))

    def build(self) -> list[Node | None]:
        """The cotangent of each operand."""
        from kgraph.ir.body import Parameter, close
        from kgraph.ir.summed import divided, product
        from kgraph.ir.traverse import substitute, toposort

        body, gs, states = self.body, self.gs, self.states
        # What stands for the cotangents of a step while the body is made.
        begins = {
            j: g if g is not None else o.zeros_like(self._initial(j)) for j, g in enumerate(gs[:states]) if self._flows(j)
        }
        carried = {j: o.param(index=Parameter(of="scan"), type=g.type) for j, g in begins.items()}
        stacked: dict[int, Node] = {}
        for q, g in enumerate(gs[states:], states):
            if g is not None:
                stacked[q] = o.param(index=Parameter(of="scan"), type=g.type.with_shape(g.type.shape[1:]))
        found, active = self._cotangents(carried, stacked)

        slices = [p for p in self.slices if found.get(p) is not None]
        captures = {p: found[p] for p in self.captured if found.get(p) is not None}
        within, after = divided(captures, set(self.captured))
        nothing = {p: o.zeros_like(self._operand(p)) for p in within}
        sums = {p: o.param(index=Parameter(of="scan"), type=zeros.type) for p, zeros in nothing.items()}

        kept = {node: q for q, node in enumerate(body.outputs) if q >= states}
        held = set(self.held)
        saved = {node: o.item(self.out, index=q) for node, q in kept.items() if node in held or node.op.name in SAVED}
        outside = {p: self._operand(p) for p in self.slices}
        outside.update(saved)
        outside.update({p: gs[q] for q, p in stacked.items()})  # type: ignore[misc]
        factors = list(dict.fromkeys(x for pairs in after.values() for pair in pairs for x in pair))
        parts = dict.fromkeys([found[p] for p in slices])
        parts.update(dict.fromkeys(x for x in factors if x not in outside and x not in held))
        outputs = [o.zeros_like(carried[j]) if found[self.held[j]] is None else found[self.held[j]] for j in active]
        outputs += [o.add(sums[p], part) for p, part in within.items()]
        outputs = _without_prints([*outputs, *parts])

        order = set(toposort([*outputs, *factors], stop=[*body.inputs, *saved, *stacked.values()]))
        if missing := [p for p in self.held if p in order and p not in saved]:
            more = o.scan(
                self.length, *self.operands, body=Graph(body.inputs, [*body.outputs, *missing]),
                sequences=self.sequences, states=states, reverse=self.reverse,
            )  # fmt: skip
            outside.update({p: o.item(more, index=len(body.outputs) + i) for i, p in enumerate(missing)})

        order = set(toposort(outputs, stop=[*body.inputs, *outside]))
        given = [(node, stack) for node, stack in outside.items() if node in order]
        initial = [(carried[j], begins[j]) for j in active]
        initial += [(p, nothing[c]) for c, p in sums.items()]
        captured = [(p, self._operand(p)) for p in self.captured if p in order]
        parameters = [body.inputs[0], *[p for p, _ in (*given, *initial, *captured)]]
        inside = [node for node in toposort(outputs, stop=parameters) if not node.op.source]
        made, strays = close(outputs, inside, parameters)
        assert not strays
        if body.built_as:  # what is computed again has the lines of the first time
            built = substitute(parameters, dict(zip(body.inputs, body.built_as, strict=False)))
            made = Graph(made.inputs, made.outputs, built_as=[*built, *body.built_as[len(body.inputs) :]])
        loop = looped(
            self.length, [x for _, x in given], [x for _, x in initial], [x for _, x in captured], made, not self.reverse
        )
        results = {self.held[j]: o.item(loop, index=i) for i, j in enumerate(active)}
        results.update({p: o.item(loop, index=i) for i, p in enumerate(within, len(active))})
        outside.update({x: o.item(loop, index=i) for i, x in enumerate(parts, len(initial)) if x not in outside})
        results.update({p: _shaped_as(outside[found[p]], self._operand(p)) for p in slices})
        for p, pairs in after.items():
            rest = o.shaped_like(product(pairs, outside.__getitem__), self._operand(p))
            results[p] = o.add(results[p], rest) if p in results else rest
        return [results.get(p) for p in body.inputs[1:]]

    def _operand(self, parameter: Node) -> Node:
        return self._operands[parameter]

    def _initial(self, state: int) -> Node:
        return self.operands[self.sequences + state]

    def _flows(self, state: int) -> bool:
        return self.held[state].type.is_float

    def _cotangents(self, carried: dict[int, Node], stacked: dict[int, Node]) -> tuple[dict[Node, Any], list[int]]:
        """The cotangent of each parameter in one step; which states have one that is carried from step to step."""
        from kgraph.ir.grad import cotangents
        from kgraph.ir.origin import building

        body = self.body
        wrt = [p for p in body.inputs if p.type.is_float]
        active = {j for j in carried if self.gs[j] is not None}
        before, building.origin = building.origin, None  # each node of the body has the line of what it is the gradient of
        try:
            while True:
                gs = [carried[q] if q in active else stacked.get(q) for q in range(len(body.outputs))]
                found = dict(zip(wrt, cotangents(body.outputs, gs, wrt), strict=True))
                more = {j for j in carried if found[self.held[j]] is not None} - active
                if not more:
                    return found, sorted(active)
                active |= more
        finally:
            building.origin = before


def first_step(node: Node) -> tuple[Node, ...]:
    """What the body of a scan is given in the first step, as nodes outside of it: for messages, which name those."""
    from kgraph.ir.origin import building

    split = 1 + node.attr("sequences")
    before, building.origin = building.origin, node.origins[0]
    try:
        slices = [
            o.index(x, form="i", numbers=(0,)) if x.type.shape[0] != 0 else o.absent(type=x.type.with_shape(x.type.shape[1:]))
            for x in node.inputs[1:split]
        ]
        return (o.scalar(0, STEP.dtype), *slices, *node.inputs[split:])
    finally:
        building.origin = before


def as_built(scan: Node, inside: Node) -> Node:
    """A node of the body of a scan over what the user has built it over: the one with the user's lines."""
    from kgraph.ir.traverse import substitute

    body: Graph = scan.attr("body")
    places = dict(zip(body.inputs, body.built_as, strict=False))
    return substitute([inside], places)[0] if places else inside


def _shaped_as(stack: Node, like: Node) -> Node:
    """A stack that has the shape of ``like`` when there are steps, in that shape also when there are none."""
    if None not in like.type.shape[1:]:
        return o.shaped_like(stack, like)
    return sized_as(stack, [o.size_of(like, axis) for axis in range(like.ndim)])


def sized_as(stack: Node, sizes: Sequence[int | Node]) -> Node:
    """A stack in its sizes: without steps, those of its inner axes are not in it."""
    entries, nodes = o.entries_of(sizes)
    return o.reshape(stack, *nodes, shape=entries) if nodes else stack


def _without_prints(outputs: Sequence[Node]) -> list[Node]:
    """What is computed again is not printed again."""
    from kgraph.ir.traverse import rebuilt, substitute

    def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op is o.print_:
            return inputs[0]
        if inputs == node.inputs and not node.op.bodies:
            return node
        return rebuilt(node, inputs, lambda body: Graph(body.inputs, _without_prints(body.outputs)))

    return substitute(outputs, {}, rebuild, every=True)


scan: Op = Op(
    "scan", _scan_type, numpy=_scan, vjp=_scan_vjp, bodies=("body",), given=_given,
    doc="The final states of a loop, then its outputs stacked: the body takes the step, slices of sequences, states, captures.",
)  # fmt: skip

__all__ = ["as_built", "check_length", "check_state", "first_step", "looped", "scan", "sized_as", "with_residuals"]

"""Loops over the time axis, or the first axis, of a tensor.

Each is one loop of the graph, whose body is what the step function builds: it is called once. What the step function uses
from outside of it is given to every step as it is, and has gradients like the rest. A draw made in it is drawn anew in each
step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.backend.operands import node_of, refuse
from kgraph.errors import ArgumentError, DTypeError, KGraphError, ShapeError
from kgraph.ir.body import trace
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import as_node
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import rebuilt, substitute, toposort
from kgraph.ir.types import TensorType, same_size, show_shape

STEP = TensorType("int32", ())


def rnn(
    step_function: Callable[[Tensor, list[Any]], Any],
    inputs: Any,
    initial_states: Sequence[Any],
    go_backwards: bool = False,
    mask: Any = None,
    constants: Sequence[Any] | None = None,
    unroll: bool = False,
    input_length: int | None = None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A recurrent network: a step function, applied along the time axis.

    output_t, states_t = step_function(inputs[:, t], states_{t-1} + constants)

    Args:
      step_function: ``(x, states) -> (output, new_states)``. x: [samples, ...], one step of inputs. states: a list of the
        states and then the constants. new_states: as many as there are states, of their dtypes and shapes.
      inputs: [samples, time, ...], rank 3 or more; time may be unknown.
      initial_states: list of tensors of any rank, whose first axis is samples where there is a mask; may be empty.
      go_backwards: go from the last step to the first. Outputs are in the order in which they are computed.
      mask: [samples, time] or [samples, time, 1], any dtype. Where it is 0, a sample keeps its output and states of the step
        before: before the first step that counts these are zeros, and the initial states.
      constants: list of tensors, numbers, or lists of those: handed to every step after the states.
      unroll: build the steps one after the other, in place of a loop: same numbers, larger graph. Time has to be known.
      input_length: the number of steps, where the shape of inputs does not tell it.
    Returns: (last_output, outputs, new_states): [samples, ...], [samples, time, ...], and the list of the final states. No
      steps: zeros, no outputs, the initial states.
    Raises: ShapeError, DTypeError, ArgumentError.
    Keras 1.x: its page has the mask the other way round from its code, which is as here; TensorFlow's version did not reverse
      the mask with the inputs, and took states and outputs of rank 2 alone; Theano's dropped axes of size 1.

    >>> step = lambda x, states: (x + states[0], [x + states[0]])
    >>> last, outputs, states = K.rnn(step, K.variable([[[1.], [2.], [3.]]]), [K.variable([[10.]])])
    >>> K.eval(outputs)
    array([[[11.],
            [13.],
            [16.]]], dtype=float32)
    """
    x = node_of(inputs)
    if x.ndim < 3:
        hint = "add an axis of features with K.expand_dims"
        message = f"inputs have rank {x.ndim}; they are [samples, time, ...], of rank 3 or more"
        raise refuse(ShapeError, message, hint=hint, inputs=x)
    states = [node_of(state) for state in _listed("initial_states", initial_states)]
    extra = _checked_constants(constants)
    x, steps = _with_length(x, input_length)
    keep = None if mask is None else _as_mask(mask, x, states)
    if unroll and not isinstance(steps, int):
        hint = "give input_length, or a placeholder whose time is known"
        raise refuse(ArgumentError, "the number of steps is unknown, and unroll needs it", hint=hint, inputs=x)

    body, captures = _traced_step(step_function, x, states, extra)
    if keep is not None and not (body.outputs[0].ndim and same_size(body.outputs[0].type.shape[0], x.type.shape[0])):
        message = f"the output has no axis of {_samples(x)}, which a mask could keep apart"
        raise refuse(ShapeError, message, output=body.outputs[0], mask=keep)
    time_first = _swapped(x)
    slices = [time_first] if keep is None else [time_first, _swapped(keep)]
    loop = _Recurrence(body, captures, slices, states, steps, bool(go_backwards))
    last, outputs, finals = loop.unrolled() if unroll else loop.looped()
    outputs = _swapped(outputs)
    if go_backwards:
        outputs = o.flip(outputs, axes=(1,))
    return Tensor(last), Tensor(outputs), [Tensor(state) for state in finals]


class _Recurrence:
    """What `rnn` builds of a step.

    Args:
      body: (step, x, states ..., captures ...) -> (output, new states ...).
      slices: [time, samples, ...] of inputs and, if there is one, of the mask.
      steps: how many there are, if that is known; else the node of it.
    """

    def __init__(
        self, body: Graph, captures: Sequence[Node], slices: Sequence[Node], states: Sequence[Node], steps: int | Node,
        reverse: bool,
    ):  # fmt: skip
        self.body, self.captures, self.slices, self.states, self.steps = body, captures, slices, states, steps
        self.reverse = reverse
        self.masked = len(slices) > 1
        # The sizes of an output, known outside of the loop: there may be no step to read them from.
        stands = outside(body.inputs, slices[:1], states, captures)
        self.sizes = sizes_outside(body.outputs[0], stands)

    @property
    def zeros(self) -> Node:
        entries, nodes = o.entries_of(self.sizes)
        zero = o.scalar(0, self.body.outputs[0].dtype)
        return o.broadcast_to(zero, *nodes, shape=entries) if entries else zero

    def looped(self) -> tuple[Node, Node, list[Node]]:
        body, states = self.body, list(self.states)
        state = next((j for j, new in enumerate(body.outputs[1:]) if new is body.outputs[0]), None)
        # Of a step whose output is a state, as it mostly is, the loop hands on nothing more.
        carried = [] if state is not None and not self.masked else [self.zeros]
        types = [STEP, *[s.type.with_shape(s.type.shape[1:]) for s in self.slices], *[c.type for c in (*carried, *states)]]
        types += [c.type for c in self.captures]
        given = [o.param(index=i, type=type) for i, type in enumerate(types)]
        first = 1 + len(self.slices)
        held = given[first : first + len(carried) + len(states)]
        rest = given[first + len(held) :]
        output, *news = self._step(given[0], given[1:first], held[len(carried) :], rest, held[0] if carried else None)
        built = body.built_as
        own = [*built[:2], *given[2:first], *held[: len(carried)], *built[2:]]  # the lines of the step, not of another like it
        made = Graph(given, [*([output] if carried else []), *news, output], built_as=own)
        length = self._length()
        loop = o.looped(length, self.slices, [*carried, *states], self.captures, made, self.reverse)
        finals = [o.item(loop, index=i) for i in range(len(held))]
        outputs = o.sized_as(o.item(loop, index=len(held)), [self.steps, *self.sizes])
        if carried:
            return finals[0], outputs, finals[1:]
        last = finals[state]  # type: ignore[index]
        if not isinstance(self.steps, int) or not self.steps:
            last = o.where(o.greater(length, o.scalar(0, length.dtype)), last, self.zeros)
        return last, outputs, finals

    def unrolled(self) -> tuple[Node, Node, list[Node]]:
        assert isinstance(self.steps, int)
        states, last = list(self.states), self.zeros
        found: dict[int, Node] = {}
        for place in range(self.steps)[::-1] if self.reverse else range(self.steps):
            parts = [o.index(s, form="i", numbers=(place,)) for s in self.slices]
            last, *states = self._step(o.scalar(place, STEP.dtype), parts, states, self.captures, last)
            found[place] = last
        if not found:
            return last, o.expand_dims(last, axis=0)[0:0], states
        return last, o.concatenate(*[o.expand_dims(found[i], axis=0) for i in range(self.steps)], axis=0), states

    def _step(
        self, step: Node, slices: Sequence[Node], states: Sequence[Node], captures: Sequence[Node], before: Node | None
    ) -> list[Node]:  # fmt: skip
        """The output and the new states of one step, with those of the step before where the mask is 0."""
        operands = (step, slices[0], *states, *captures)
        results = substitute(self.body.outputs, dict(zip(self.body.inputs, operands, strict=True)))
        if not self.masked:
            return results
        assert before is not None
        return [_where(slices[1], new, old) for new, old in zip(results, [before, *states], strict=True)]

    def _length(self) -> Node:
        return o.scalar(self.steps, STEP.dtype) if isinstance(self.steps, int) else self.steps


# ---------------------------------------------------------------------------------------------------- arguments


def _listed(name: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple)):
        raise refuse(ArgumentError, f"{name} is no list", **{name: values})
    return list(values)


def _checked_constants(constants: Any) -> list[Any]:
    found = [] if constants is None else _listed("constants", constants)
    for i, value in enumerate(found):
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(part, (Operators, np.ndarray, np.generic, int, float, bool)):
                hint = "a constant is a tensor, a number, an array, or a list of those"
                raise refuse(DTypeError, f"constant {i} holds {part!r:.60}", hint=hint)
    return found


def _with_length(x: Node, input_length: Any) -> tuple[Node, int | Node]:
    """Inputs, and how many steps they have: an int if that is known."""
    known = x.type.shape[1]
    if input_length is None:
        return x, o.size_of(x, 1)
    try:
        wanted = input_length.__index__()
    except AttributeError:
        raise refuse(ArgumentError, f"input_length is {input_length!r:.60}, not an int or None") from None
    if wanted < 0 or not same_size(known, wanted):
        raise refuse(ShapeError, f"input_length is {wanted}, but inputs have {known} steps", inputs=x)
    if known is None:
        entries, nodes = o.entries_of([wanted if axis == 1 else o.size_of(x, axis) for axis in range(x.ndim)])
        x = o.reshape(x, *nodes, shape=entries)
    return x, wanted


def _as_mask(mask: Any, x: Node, states: Sequence[Node]) -> Node:
    """bool[samples, time]."""
    keep = node_of(mask)
    shape = keep.type.shape
    if keep.ndim not in (2, 3) or (keep.ndim == 3 and not same_size(shape[2], 1)):
        message = f"the mask is {show_shape(shape)}; it is [samples, time] or [samples, time, 1]"
        raise refuse(ShapeError, message, mask=keep, inputs=x)
    for axis, name in enumerate(("samples", "steps")):
        if not same_size(shape[axis], x.type.shape[axis]):
            message = f"the mask has {shape[axis]} {name}, inputs have {x.type.shape[axis]}"
            raise refuse(ShapeError, message, mask=keep, inputs=x)
    for i, state in enumerate(states):
        if not state.ndim or not same_size(state.type.shape[0], x.type.shape[0]):
            message = f"state {i} has no axis of {_samples(x)}, which a mask could keep apart"
            raise refuse(ShapeError, message, state=state, mask=keep, inputs=x)
    if keep.dtype != "bool":
        keep = o.not_equal(keep, o.scalar(0, keep.dtype))
    return o.squeeze(keep, axis=2) if keep.ndim == 3 else keep


def _samples(x: Node) -> str:
    known = x.type.shape[0]
    return "samples" if known is None else _counted(known, "sample")


def _where(keep: Node, new: Node, old: Node) -> Node:
    for _ in range(new.ndim - 1):
        keep = o.expand_dims(keep, axis=keep.ndim)
    return o.where(keep, new, old)


def _swapped(x: Node) -> Node:
    """The first two axes change places."""
    return o.transpose(x, perm=(1, 0, *range(2, x.ndim)))


# ---------------------------------------------------------------------------------------------------- steps


def _traced_step(
    step_function: Callable[..., Any], x: Node, states: Sequence[Node], constants: Sequence[Any]
) -> tuple[Graph, tuple[Node, ...]]:
    """The body of rnn: (step, x, states ..., captures ...) -> (output, new states ...)."""

    def build(part: Node, *held: Node) -> list[Node]:
        found = step_function(Tensor(part), [*map(Tensor, held), *constants])
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            hint = "it returns (output, new_states)"
            raise refuse(ArgumentError, f"the step function returned {_said(found)}", hint=hint)
        output, news = found
        if not isinstance(news, (tuple, list)):
            raise refuse(ArgumentError, f"the step function returned {_said(news)} in the place of the list of new states")
        if len(news) != len(held):
            hint = "it returns (output, new_states), with a new state for each initial one"
            message = f"the step function returned {_counted(len(news), 'new state')}, for {_counted(len(held), 'state')}"
            raise refuse(ShapeError, message, hint=hint)
        made = [_result(output, "output")]
        made += [_result(new, f"state {i}", old.dtype) for i, (new, old) in enumerate(zip(news, held, strict=True))]
        return made

    part = x.type.with_shape((x.type.shape[0], *x.type.shape[2:]))
    return _traced("rnn", build, [part, *[s.type for s in states]], states, 1)


def _result(value: Any, what: str, like: str | None = None) -> Node:
    if isinstance(value, (list, tuple, str)) or value is None:
        raise refuse(ArgumentError, f"the {what} that the step function returned is {_said(value)}, not a tensor")
    return as_node(value, like=like)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _said(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else "a tensor" if isinstance(value, Operators) else f"{value!r:.60}"


def _traced(
    of: str, build: Callable[..., list[Node]], types: Sequence[TensorType], states: Sequence[Node], first: int
) -> tuple[Graph, tuple[Node, ...]]:
    """The body that a user's function makes of nodes: (step, nodes ..., captures ...) -> results.

    Args:
      build: takes nodes of the types, the last of which are states; returns the results.
      first: the number of the result that is the new value of the first state.
    Raises: ShapeError or DTypeError, if a state changes.
    """

    def step(number: Node, *given: Node) -> list[Node]:
        birth = Identity().number
        results = build(*given)
        for i, (new, old) in enumerate(zip(results[first:], states, strict=False)):
            try:
                o.check_state(i, new.type, old.type)
            except KGraphError as error:
                message = error.message if of == "rnn" else error.message.replace(f"state {i}", "the accumulator")
                raise refuse(type(error), message, hint=error.hint, initial=old, new=new) from None
        streams = [node for node in toposort(results) if node.op is o.stream and node.attr("uid").number > birth]
        return substitute(results, {stream: o.fold_in(stream, number) for stream in streams}) if streams else results

    names = ["step", *["x"] * (len(types) - len(states)), *[f"state {i}" for i in range(len(states))]]
    return trace(step, [STEP, *types], of, names)


# ---------------------------------------------------------------------------------------------------- sizes


def outside(
    parameters: Sequence[Node], sequences: Sequence[Node], states: Sequence[Node], captures: Sequence[Node]
) -> dict[Node, Node]:
    """Parameter of a body -> a node outside of it that has its shape. It is no part of a sequence, which may have none."""
    parts = []
    for x in sequences:
        entries, nodes = o.entries_of([o.size_of(x, axis) for axis in range(1, x.ndim)])
        zero = o.scalar(0, x.dtype)
        parts.append(o.broadcast_to(zero, *nodes, shape=entries) if entries else zero)
    operands = (o.scalar(0, STEP.dtype), *parts, *states, *captures)
    return dict(zip(parameters, operands, strict=True))


#: Ops whose result has the shape of their operand.
_SAME = {o.cast, o.relu, o.sigmoid, o.softplus, o.softmax, o.log_softmax, o.identity, o.stop_gradient, o.print_}


def sizes_outside(node: Node, stands: Mapping[Node, Node]) -> list[int | Node]:
    """The sizes of a result of a body as nodes outside of it."""
    return [_size_outside(node, axis, stands) for axis in range(node.ndim)]


def _size_outside(node: Node, axis: int, stands: Mapping[Node, Node]) -> int | Node:
    """One size: that of the operand which it comes from, without computing anything, where that is plain to see."""
    while node.type.shape[axis] is None and node not in stands:
        origin = _same_size(node, axis)
        if origin is None:
            (found,) = substitute([node], stands, _unprinted)
            return o.size_of(found, axis)
        node, axis = origin
    return o.size_of(stands.get(node, node), axis)


def _same_size(node: Node, axis: int) -> tuple[Node, int] | None:
    """An operand, and its axis that has the size of an axis of a node."""
    op, inputs = node.op, node.inputs
    if op is o.matmul:
        return (inputs[1] if axis == node.ndim - 1 else inputs[0]), axis
    if op is o.transpose:
        return inputs[0], node.attr("perm")[axis]
    if op is o.switch:
        return inputs[1], axis
    if op is o.concatenate and axis != node.attr("axis"):
        return inputs[0], axis
    if op in _SAME or (len(inputs) == 1 and isinstance(op.numpy, np.ufunc)):
        return inputs[0], axis
    if op.broadcasts and op.sized is None:
        for i in inputs:
            own = axis - (node.ndim - i.ndim)
            if own >= 0 and i.type.shape[own] is None:
                return i, own
    return None


def _unprinted(node: Node, inputs: tuple[Node, ...]) -> Node:
    return inputs[0] if node.op is o.print_ else rebuilt(node, inputs)


# ---------------------------------------------------------------------------------------------------- over the first axis


def map_fn(fn: Callable[[Tensor], Any], elems: Any, name: str | None = None) -> Tensor:
    """fn of each part of elems along the first axis, stacked along a new first axis.

    Args:
      fn: ``x -> tensor``; it is called once.
      elems: tensor or array, rank 1 or more; its first size may be unknown.
      name: is ignored.
    Raises: ShapeError, ArgumentError.

    >>> K.eval(K.map_fn(K.sum, K.variable([[1., 2.], [3., 4.]])))
    array([3., 7.], dtype=float32)
    """
    x = _elements(elems)
    part = x.type.with_shape(x.type.shape[1:])
    body, captures = _traced("map_fn", lambda part: [_value(fn(Tensor(part)))], [part], [], 1)
    steps = o.size_of(x, 0)
    sizes = sizes_outside(body.outputs[0], outside(body.inputs, [x], [], captures))
    loop = o.looped(_as_length(steps), [x], [], captures, body)
    return Tensor(o.sized_as(o.item(loop, index=0), [steps, *sizes]))


def foldl(fn: Callable[[Tensor, Tensor], Any], elems: Any, initializer: Any = None, name: str | None = None) -> Tensor:
    """fn over the parts of elems along the first axis, from the first: fn(... fn(fn(initializer, x0), x1) ..., xn).

    Args:
      fn: ``(accumulator, x) -> accumulator``, of one dtype and shape.
      elems: tensor or array, rank 1 or more; its first size may be unknown.
      initializer: the first accumulator; None is the first part of elems, which then is left out.
      name: is ignored.
    Returns: the last accumulator.
    Raises: ShapeError, DTypeError; IndexOutOfRange if there is no part, and no initializer.

    >>> K.eval(K.foldl(lambda acc, x: acc * 10. + x, K.variable([1., 2., 3.])))
    array(123., dtype=float32)
    """
    return _folded("foldl", fn, elems, initializer, reverse=False)


def foldr(fn: Callable[[Tensor, Tensor], Any], elems: Any, initializer: Any = None, name: str | None = None) -> Tensor:
    """fn over the parts of elems along the first axis, from the last; see `foldl`.

    >>> K.eval(K.foldr(lambda acc, x: acc * 10. + x, K.variable([1., 2., 3.])))
    array(321., dtype=float32)
    """
    return _folded("foldr", fn, elems, initializer, reverse=True)


def _folded(of: str, fn: Callable[[Tensor, Tensor], Any], elems: Any, initializer: Any, reverse: bool) -> Tensor:
    x = _elements(elems)
    if initializer is None:
        if x.type.shape[0] == 0:
            raise refuse(ShapeError, "elems has no parts, and there is no initializer", elems=x)
        first, x = (x[-1], x[:-1]) if reverse else (x[0], x[1:])
    else:
        first = as_node(initializer, like=x.dtype)
    types = [x.type.with_shape(x.type.shape[1:]), first.type]
    body, captures = _traced(of, lambda part, acc: [_value(fn(Tensor(acc), Tensor(part)), first.dtype)], types, [first], 0)
    return Tensor(o.item(o.looped(_as_length(o.size_of(x, 0)), [x], [first], captures, body, reverse), index=0))


def _elements(elems: Any) -> Node:
    x = node_of(elems)
    if not x.ndim:
        raise refuse(ShapeError, "elems is a scalar, which has no axis to go along", elems=x)
    return x


def _value(found: Any, like: str | None = None) -> Node:
    if isinstance(found, (list, tuple, str)) or found is None:
        raise refuse(ArgumentError, f"the function returned {_said(found)}, not a tensor")
    return as_node(found, like=like)


def _as_length(steps: int | Node) -> Node:
    return o.scalar(steps, STEP.dtype) if isinstance(steps, int) else steps

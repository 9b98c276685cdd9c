"""Branches by condition and by learning phase, gradients, functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import kgraph.ir.ops as o
from kgraph import phase
from kgraph.backend.operands import node_of, refuse
from kgraph.backend.state import learning_phase
from kgraph.errors import GradientError, ShapeError
from kgraph.function import Function, warn_of_foreign
from kgraph.ir import grad
from kgraph.ir.node import Node
from kgraph.ir.operators import Operators
from kgraph.ir.promote import promoted
from kgraph.ir.tensor import Tensor
from kgraph.ir.types import broadcast_shapes
from kgraph.lower.engine import Engine

Branch = Tensor | Callable[[], Any]


def switch(condition: Any, then_expression: Branch, else_expression: Branch) -> Tensor:
    """One of two values.

    A scalar condition is a branch: what only one side needs runs only when that side is taken, whether the sides are
    callables or tensors built before, forward and backward; sizes, though, are checked on both sides. A tensor condition
    chooses element by element, with broadcasting, and both sides are computed.

    Args:
      condition: a number, or a tensor of any dtype; what is not zero takes the first side.
      then_expression, else_expression: tensors, numbers, or functions without arguments that return them; they are taken to
        one dtype and shape.
    Raises: ShapeError, DTypeError.
    Keras 1.x: scalar or tensor, lazy or not, depended on the engine and the version.

    >>> K.eval(K.switch(K.variable(1.), K.variable([1.]), lambda: K.variable([2.])))
    array([1.], dtype=float32)
    """
    test = node_of(condition)
    if not isinstance(condition, Operators) and not test.ndim:
        return _built(then_expression if condition else else_expression)
    if test.dtype != "bool":
        test = o.not_equal(test, o.scalar(0, test.dtype))
    x, y = promoted(_built(then_expression), _built(else_expression))
    if test.ndim:
        return Tensor(o.where(test, x, y))
    x, y = _one_shape(x, y)
    return Tensor(o.switch(test, x, y))


def _built(side: Branch) -> Tensor:
    value = side() if callable(side) and not isinstance(side, Operators) else side
    return Tensor(node_of(value))


def _one_shape(x: Node, y: Node) -> tuple[Node, Node]:
    """Two nodes stretched to the shape that broadcasting gives them."""
    try:
        shape = broadcast_shapes((x.type.shape, y.type.shape))
    except ShapeError as error:
        raise refuse(ShapeError, error.message, hint=error.hint, then_expression=x, else_expression=y) from None
    return _stretched(x, y, shape), _stretched(y, x, shape)


def _stretched(x: Node, other: Node, shape: tuple[int | None, ...]) -> Node:
    if x.ndim == len(shape) and all(size != 1 or wanted == 1 for size, wanted in zip(x.type.shape, shape, strict=True)):
        return x
    extra = len(shape) - x.ndim
    sizes: list[Node] = []
    for axis, size in enumerate(shape):
        if size is None:
            # An axis of this node's own, unless it is missing here or of size 1: then it is the other one's.
            own = axis >= extra and x.type.shape[axis - extra] != 1
            source, at = (x, axis - extra) if own else (other, axis - (len(shape) - other.ndim))
            sizes.append(o.size(source, axes=(at,)))
    return o.broadcast_to(x, *sizes, shape=shape)


def in_train_phase(x: Branch, alt: Branch) -> Tensor:
    """x in the train phase, alt in the test phase; either may be a function without arguments that builds it.

    The program of a phase holds nothing of the other. While the phase is set, this is the side itself; else the result bears
    ``_uses_learning_phase = True``, as Keras asks.
    """
    if phase.fixed is not None:
        return _built(x if phase.fixed else alt)
    tensor: Any = switch(learning_phase(), x, alt)
    tensor._uses_learning_phase = True
    return tensor


def in_test_phase(x: Branch, alt: Branch) -> Tensor:
    """x in the test phase, alt in the train phase; see `in_train_phase`."""
    return in_train_phase(alt, x)


def gradients(loss: Any, variables: Any, disconnected: str = "raise") -> list[Any]:
    """The gradients of a loss, by reverse mode; they are tensors like any other, and have gradients themselves.

    Args:
      loss: float tensor; of a tensor that is no scalar, the gradient of its sum is taken.
      variables: list of tensors: variables, placeholders, or intermediate results.
      disconnected: what to do about a tensor that the loss does not depend on: 'raise' (an error naming it, and the op where
        the path ends), 'zeros' or 'none'. `stop_gradient` is a wanted end, and gives zeros.
    Returns: one tensor per variable, of its dtype and shape.
    Raises: GradientError.
    Keras 1.x: Theano raised for a disconnected variable, TensorFlow gave None.

    >>> w = K.variable(3.)
    >>> K.eval(K.gradients(w * w, [w])[0])
    array(6., dtype=float32)
    """
    if not isinstance(variables, Iterable):
        raise refuse(GradientError, "the variables are no list of tensors", variables=variables)
    targets = [variables] if isinstance(variables, Operators) else list(variables)
    for position, target in enumerate(targets):
        if not isinstance(target, Operators):
            raise refuse(GradientError, f"variable {position} is no tensor", variable=target)
    if not isinstance(loss, Operators):
        raise refuse(GradientError, "the loss is no tensor", loss=loss)
    found = grad.gradients(loss.node, [target.node for target in targets], disconnected)
    return [None if node is None else Tensor(node) for node in found]


def function(
    inputs: Sequence[Any],
    outputs: Any,
    updates: Iterable[Any] = (),
    engine: str | Engine | None = None,
    optimize: bool | Iterable[str] = True,
    options: Any = None,
    exclude: Iterable[str] = (),
    finite: bool = False,
    **kwargs: Any,
) -> Function:
    """A compiled function of a graph: see `kgraph.function.Function`, which it returns.

    Args:
      inputs, outputs, updates: see there.
      engine: the engine's name, or the engine itself; None for the configured one.
      optimize: True, False, or names of passes.
      options: dict of options of the engine.
      exclude: names of rules that the passes leave out.
      finite: whether rules may be used that hold for finite numbers alone, such as x * 0 -> 0.
      kwargs: what Theano's or TensorFlow's functions took is accepted, and ignored with one warning; anything else is a
        TypeError.

    >>> x = K.placeholder((None,))
    >>> double = K.function([x], [x * 2], [])
    >>> double([[1, 2]])
    [array([2., 4.], dtype=float32)]
    """
    warn_of_foreign(kwargs)
    if options is not None and not isinstance(options, dict):
        warn_of_foreign(["options"])
        options = None
    return Function(inputs, outputs, updates, engine, optimize, options, exclude, finite)

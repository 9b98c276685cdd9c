"""What an operation is, and the table of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kgraph.errors import KGraphError
from kgraph.ir.node import Node, as_given, describe, find, intern
from kgraph.ir.origin import Origin, here
from kgraph.ir.types import TensorType, TupleType, show_shape

#: Name -> op. Closed: what is read from a file is looked up here and nowhere else.
OPS: dict[str, Op] = {}

_types: dict[Any, Any] = {}  # (op, input types, attrs) -> type: most nodes of a graph look like one built before
_TYPES_KEPT = 20_000


class Op:
    """An operation: type rule, meaning, gradient, and the same in simpler ops.

    Args:
      name: NumPy's name where NumPy has the operation.
      type_rule: ``(*types, **attrs) -> TensorType`` (or TupleType). Raises ShapeError, DTypeError, AxisError. Its parameter
        names are what error messages call the operands (the rest, ``*sizes``, are "size 1", "size 2" ...); its keyword-only
        parameters are the attrs of the op.
      numpy: ``(*arrays, **attrs) -> array``: what the op means. The reference that every engine is compared with.
      vjp: ``(g, out, *inputs, **attrs) -> one cotangent per input``, nodes to nodes; None where there is none. An op
        without it ends the path of a gradient.
      expand: ``(*inputs, **attrs) -> node`` (a tuple of nodes, for a tuple type): the op in simpler ops, for engines without
        a rule for it.
      doc: a line.
      broadcasts: operands are stretched against one another, so that their unknown sizes have to agree at run time.
      sized: the attr whose None entries are filled in, in order, from the last inputs (integer scalars).
      effect: has an effect besides its result (printing): never folded away while its result is needed.
      bodies: the attrs that hold closed bodies.
      given: ``(*types, **attrs) -> types`` of the parameters of its bodies; None where these are its last inputs.
      source: has no inputs and no value of its own: it is bound when the program runs.
    """

    __slots__ = (
        "name", "type_rule", "numpy", "vjp", "expand", "doc", "broadcasts", "sized", "effect", "source", "bodies",
        "given", "attr_names", "input_names", "rest_name",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        type_rule: Callable[..., TensorType | TupleType],
        *,
        numpy: Callable[..., Any] | None = None,
        vjp: Callable[..., tuple[Node | None, ...]] | None = None,
        expand: Callable[..., Any] | None = None,
        doc: str = "",
        broadcasts: bool = False,
        sized: str | None = None,
        effect: bool = False,
        source: bool = False,
        bodies: tuple[str, ...] = (),
        given: Callable[..., tuple[TensorType, ...]] | None = None,
    ):
        self.name, self.type_rule, self.numpy, self.vjp, self.expand, self.doc = name, type_rule, numpy, vjp, expand, doc
        self.broadcasts, self.sized, self.effect, self.source, self.bodies = broadcasts, sized, effect, source, bodies
        self.given = given
        parameters = inspect.signature(type_rule).parameters.values()
        self.attr_names = tuple(sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY))
        self.input_names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.rest_name = next((p.name[:-1] for p in parameters if p.kind is p.VAR_POSITIONAL), "operand")
        if name in OPS:
            raise ValueError(f"there are two ops named {name!r}")
        OPS[name] = self

    def __call__(self, *inputs: Node, **attrs: Any) -> Node:
        """The node of this op over inputs. Raises what the type rule raises, with the operands and the user's line."""
        if attrs or self.attr_names:
            if len(attrs) != len(self.attr_names):
                raise TypeError(f"{self.name} takes the attrs {self.attr_names}, not {tuple(attrs)}")
            return self.apply(inputs, tuple([(name, attrs[name]) for name in self.attr_names]))
        return self.apply(inputs, ())

    def apply(self, inputs: tuple[Node, ...], attrs: tuple[tuple[str, Any], ...]) -> Node:
        """The node over inputs with attrs as a node keeps them: sorted pairs."""
        origin = here(2)
        return find(self, inputs, attrs, origin) or intern(self, inputs, attrs, self.infer(inputs, attrs), origin)

    def infer(self, inputs: tuple[Node, ...], attrs: tuple[tuple[str, Any], ...]) -> TensorType | TupleType:
        """The type of the node, by the type rule."""
        types = tuple([node.type for node in inputs])
        if self.source or self.bodies:
            return self._checked(inputs, types, attrs)  # these attrs are the node's own; remembering them would keep them alive
        key = (self, types, attrs)
        found: TensorType | TupleType | None = _types.get(key)
        if found is None:
            found = self._checked(inputs, types, attrs)
            if len(_types) >= _TYPES_KEPT:
                _types.clear()
            _types[key] = found
        return found

    def _checked(
        self, inputs: tuple[Node, ...], types: tuple[TensorType, ...], attrs: tuple[tuple[str, Any], ...]
    ) -> TensorType | TupleType:
        try:
            return self.type_rule(*types, **dict(attrs))
        except KGraphError as error:
            raise self.explained(error, inputs, here(4)) from None

    def explained(
        self, error: KGraphError, inputs: Sequence[Node], origin: Origin, types: Mapping[Node, TensorType] | None = None
    ) -> KGraphError:
        """An error with who raised it, at which line, and a line per operand: its name in the type rule, its type, and what the
        user calls it.

        Args:
          origin: where the op is applied.
          types: of nodes in one call of a function, with the sizes that were unknown.
        """
        rest = len(inputs) - len(self.input_names)
        names = [*self.input_names[: len(inputs)], *[f"{self.rest_name} {i + 1}" for i in range(rest)]]
        width = max(map(len, names), default=0) + 1
        operands = []
        for name, node in zip(names, inputs, strict=True):
            if name != "key":  # of a random draw; the user has made none
                node = as_given(node, origin)
                now = types[node] if types and node in types else node.type
                shown = "" if now is node.type else f"  (here {show_shape(now.shape)})"
                operands.append(f"{name + ':':<{width}} {describe(node)}{shown}")
        return error.at(origin.function or self.name, operands, str(origin))

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _op_named, (self.name,)


def _op_named(name: str) -> Op:
    return OPS[name]

"""What a rule looks for: patterns, spelled like the graphs that they match.

    X, AXIS = var("x"), attr("axis")
    p.log(p.softmax(X, axis=AXIS))     # every log of a softmax; binds x and axis
    1.0 - p.sigmoid(X)                 # numbers stand for constants all of whose elements are that number
    alone(p.exp(X)) * const("c")       # an exp that nobody else uses, times any constant
    p.sqrt(named("e", p.exp(X)))       # binds the node of exp to e too

The operands of an op that commutes are matched in both orders. Attrs that a pattern does not mention may be anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import kgraph.ir.ops as o
from kgraph.ir.node import Node, describe
from kgraph.ir.op import OPS, Op
from kgraph.ir.types import is_tuple, kind

Found = dict[str, Any]
#: Node -> how many nodes and results of the graph use it. One that is not there was made on the way, for one use.
Uses = Mapping[Node, int]

#: The ops around a node, which rules are looked up by: its own, and the like of its first operands; below these, ops alone.
Ops = Op | tuple[Any, ...]

COMMUTES = frozenset((o.add, o.multiply, o.maximum, o.minimum, o.equal, o.not_equal, o.logical_and, o.logical_or))

#: A number stretched to a shape is that number still.
_STRETCHES = frozenset((o.broadcast_to, o.broadcast_like))


#: Operands of a node that rules are looked up by.
MOST_OPERANDS = 3


def ops_around(node: Node) -> Ops:
    """What rules are looked up by."""
    return (node.op, *[(i.op, *[j.op for j in i.inputs[:MOST_OPERANDS]]) for i in node.inputs[:MOST_OPERANDS]])


def _first(ops: Ops) -> Op:
    return ops[0] if isinstance(ops, tuple) else ops


class Mismatch(NamedTuple):
    """Which part of a pattern does not fit, and why.

    Attributes:
      matched: how many ops of the pattern had fitted before.
      shared: whether others use what nothing else may use.
    """

    pattern: Pattern
    node: Node
    why: str
    matched: int
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.pattern} does not fit {describe(self.node)}: {self.why}"


class Pattern:
    """A part of a pattern. Operators build patterns, as they build nodes."""

    __slots__ = ()

    def mismatch(self, node: Node, found: Found, uses: Uses, matched: int = 0) -> Mismatch | None:
        """None if a node fits; then found has what the pattern binds."""
        raise NotImplementedError

    def orders(self) -> Iterator[Pattern]:
        """The pattern with the operands of ops that commute in every order."""
        yield self

    def may_fit(self, ops: Ops) -> bool:
        """Whether a node with such ops around it may fit: what is looked up, once for all nodes with the same ops."""
        return True

    def __add__(self, y: Any) -> Pattern:
        return p.add(self, y)

    def __radd__(self, x: Any) -> Pattern:
        return p.add(x, self)

    def __sub__(self, y: Any) -> Pattern:
        return p.subtract(self, y)

    def __rsub__(self, x: Any) -> Pattern:
        return p.subtract(x, self)

    def __mul__(self, y: Any) -> Pattern:
        return p.multiply(self, y)

    def __rmul__(self, x: Any) -> Pattern:
        return p.multiply(x, self)

    def __truediv__(self, y: Any) -> Pattern:
        return p.divide(self, y)

    def __rtruediv__(self, x: Any) -> Pattern:
        return p.divide(x, self)

    def __pow__(self, y: Any) -> Pattern:
        return p.power(self, y)

    def __neg__(self) -> Pattern:
        return p.negative(self)


class Var(Pattern):
    """Any node of one result; the same one wherever the name is used. Perhaps of one kind of dtype: "bool", "int", "float"."""

    __slots__ = ("name", "kind")

    def __init__(self, name: str, kind: str | None = None):
        self.name, self.kind = name, kind

    def mismatch(self, node: Node, found: Found, uses: Uses, matched: int = 0) -> Mismatch | None:
        held = found.get(self.name)
        if held is None:
            if is_tuple(node.type):
                return Mismatch(self, node, "it has several results", matched)
            if self.kind is not None and kind(node.type.dtype) != self.kind:
                return Mismatch(self, node, f"it is of another kind than {self.kind}", matched)
            found[self.name] = node
            return None
        return None if held is node else Mismatch(self, node, f"{self.name} is another node already", matched)

    def __repr__(self) -> str:
        return self.name


class Const(Pattern):
    """Any constant; binds the node."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def mismatch(self, node: Node, found: Found, uses: Uses, matched: int = 0) -> Mismatch | None:
        if node.op is not o.constant:
            return Mismatch(self, node, "it is no constant", matched)
        if found.setdefault(self.name, node) is not node:
            return Mismatch(self, node, f"{self.name} is another constant already", matched)
        return None

    def may_fit(self, ops: Ops) -> bool:
        return _first(ops) is o.constant

    def __repr__(self) -> str:
        return self.name


class Number(Pattern):
    """A constant whose elements are all one number, stretched or not; of floats, the sign of a zero counts."""

    __slots__ = ("value",)

    def __init__(self, value: float):
        self.value = value

    def mismatch(self, node: Node, found: Found, uses: Uses, matched: int = 0) -> Mismatch | None:
        value = number_of(node)
        if value is None or value != self.value or math.copysign(1, value) != math.copysign(1, self.value):
            return Mismatch(self, node, f"it is not {self.value}", matched)
        return None

    def may_fit(self, ops: Ops) -> bool:
        if isinstance(ops, tuple) and ops[0] in _STRETCHES:
            ops = ops[1]
        return _first(ops) is o.constant or ops in _STRETCHES

    def __repr__(self) -> str:
        return repr(self.value)


class Apply(Pattern):
    """An op over patterns.

    Attributes:
      alone: whether nothing else may use its result.
      name: what the node is bound to; None for nothing.
    """

    __slots__ = ("op", "inputs", "attrs", "alone", "name")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Pattern, ...],
        attrs: tuple[tuple[str, Any], ...],
        alone: bool = False,
        name: str | None = None,
    ):
        self.op, self.inputs, self.attrs, self.alone, self.name = op, inputs, attrs, alone, name

    def mismatch(self, node: Node, found: Found, uses: Uses, matched: int = 0) -> Mismatch | None:
        if node.op is not self.op:
            return Mismatch(self, node, f"it is no {self.op.name}", matched)
        if len(node.inputs) != len(self.inputs):
            return Mismatch(self, node, f"it has {len(node.inputs)} operands", matched)
        if self.alone and uses.get(node, 1) > 1:
            return Mismatch(self, node, f"it is used {uses[node]} times", matched, True)
        for name, wanted in self.attrs:
            value = node.attr(name)
            if wanted.__class__ is Attr:
                if found.setdefault(wanted.name, value) != value:
                    return Mismatch(self, node, f"{wanted.name} is {found[wanted.name]} already, not {value}", matched)
            elif value != wanted:
                return Mismatch(self, node, f"its {name} is {value}", matched)
        for pattern, i in zip(self.inputs, node.inputs, strict=True):
            matched += 1
            failed = pattern.mismatch(i, found, uses, matched)
            if failed is not None:
                return failed
        if self.name is not None and found.setdefault(self.name, node) is not node:
            return Mismatch(self, node, f"{self.name} is another node already", matched)
        return None

    def orders(self) -> Iterator[Pattern]:
        for inputs in itertools.product(*[list(i.orders()) for i in self.inputs]):
            yield Apply(self.op, inputs, self.attrs, self.alone, self.name)
            if self.op in COMMUTES and repr(inputs[0]) != repr(inputs[1]):
                yield Apply(self.op, inputs[::-1], self.attrs, self.alone, self.name)

    def may_fit(self, ops: Ops) -> bool:
        if not isinstance(ops, tuple) or ops[0] is not self.op:
            return ops is self.op
        below = ops[1:]
        if len(self.inputs) != len(below) and not len(self.inputs) > len(below) == MOST_OPERANDS:
            return False
        return all(pattern.may_fit(each) for pattern, each in zip(self.inputs, below, strict=False))

    def __repr__(self) -> str:
        operands = [*map(repr, self.inputs), *[f"{name}={value!r}" for name, value in self.attrs]]
        made = f"{self.op.name}({', '.join(operands)})"
        made = f"alone({made})" if self.alone else made
        return made if self.name is None else f"{self.name}={made}"


class Whole(Pattern):
    """Any application of an op, or of any op, perhaps to results of one op alone; binds nothing. The rule looks at the node."""

    __slots__ = ("op", "over")

    def __init__(self, op: Op | None = None, over: Op | None = None):
        self.op, self.over = op, over

    def mismatch(self, node: Node, found: Found, uses: Uses, matched: int = 0) -> Mismatch | None:
        if self.op is not None and node.op is not self.op:
            return Mismatch(self, node, f"it is no {self.op.name}", matched)
        if self.over is not None and not (node.inputs and all(i.op is self.over for i in node.inputs)):
            return Mismatch(self, node, f"not every operand is a {self.over.name}", matched)
        return None

    def may_fit(self, ops: Ops) -> bool:
        if self.op is not None and _first(ops) is not self.op:
            return False
        return self.over is None or not isinstance(ops, tuple) or all(_first(each) is self.over for each in ops[1:])

    def __repr__(self) -> str:
        what = "node" if self.op is None else self.op.name
        return f"any {what}" if self.over is None else f"any {what} over {self.over.name}s"


class Attr(NamedTuple):
    """The value of an attr, bound to a name; the same one wherever the name is used."""

    name: str

    def __repr__(self) -> str:
        return self.name


def var(name: str, kind: str | None = None) -> Pattern:
    return Var(name, kind)


def const(name: str) -> Pattern:
    return Const(name)


def attr(name: str) -> Attr:
    return Attr(name)


def whole(op: Op | None = None, over: Op | None = None) -> Pattern:
    return Whole(op, over)


def alone(pattern: Pattern) -> Pattern:
    """The same pattern for results that nothing else uses: what replaces them leaves nothing to be computed twice."""
    assert isinstance(pattern, Apply)
    return Apply(pattern.op, pattern.inputs, pattern.attrs, True, pattern.name)


def named(name: str, pattern: Pattern) -> Pattern:
    """The same pattern; the node that fits is bound to a name."""
    assert isinstance(pattern, Apply)
    return Apply(pattern.op, pattern.inputs, pattern.attrs, pattern.alone, name)


class _Ops:
    """The ops by name, as makers of patterns: ``p.log(X)``."""

    def __getattr__(self, name: str) -> Any:
        if name not in OPS:
            raise AttributeError(f"there is no op {name!r}")
        op = OPS[name]

        def made(*inputs: Any, **attrs: Any) -> Pattern:
            unknown = set(attrs) - set(op.attr_names)
            if unknown:
                raise TypeError(f"{name} has no attr {', '.join(sorted(unknown))}; it has {', '.join(op.attr_names) or 'none'}")
            return Apply(op, tuple([i if isinstance(i, Pattern) else Number(i) for i in inputs]), tuple(sorted(attrs.items())))

        return made


p = _Ops()


def number_of(node: Node) -> float | None:
    """The number that all elements of a constant are, stretched or not; None where there is no such."""
    if node.op in _STRETCHES:
        node = node.inputs[0]
    return node.attrs[0][1].uniform if node.op is o.constant else None

"""A graph as the text of a program that builds it.

A node is written with a K function or an operator where one of them makes that very node: nodes are interned, so each spelling
is tried over the operands, and taken if what it gives is the node itself. What no K function makes is written with its op.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Constant, Graph, Identity, Node
from kgraph.ir.origin import building
from kgraph.ir.tensor import Tensor
from kgraph.ir.traverse import toposort
from kgraph.ir.types import TensorType, is_tuple

Array = np.ndarray[Any, Any]

#: Op -> how users write it; {0} and {1} are operands, {axis} an attr. Besides, ``K.<op>(operands, attrs)`` is tried for all.
SPELLINGS: Mapping[str, Sequence[str]] = {
    "add": ("{0} + {1}",), "subtract": ("{0} - {1}",), "multiply": ("{0} * {1}",), "divide": ("{0} / {1}",),
    "floor_divide": ("{0} // {1}",), "remainder": ("{0} % {1}",), "power": ("{0} ** {1}",), "negative": ("-{0}",),
    "absolute": ("K.abs({0})",), "less": ("{0} < {1}",), "less_equal": ("{0} <= {1}",), "greater": ("{0} > {1}",),
    "greater_equal": ("{0} >= {1}",), "where": ("K.switch({0}, {1}, {2})",), "matmul": ("K.dot({0}, {1})", "{0} @ {1}"),
    "transpose": ("K.transpose({0})", "K.permute_dimensions({0}, {perm})"), "flip": ("K.reverse({0}, {axes})",),
    "concatenate": ("K.concatenate([{all}], axis={axis})",), "tile": ("K.tile({0}, {reps})",),
    "cast": ("K.cast({0}, {dtype})",),
    "reshape": ("K.reshape({0}, {shape})",), "sum": ("K.sum({0})",), "prod": ("K.prod({0})",), "max": ("K.max({0})",),
    "min": ("K.min({0})",), "any": ("K.any({0})",), "all": ("K.all({0})",), "logsumexp": ("K.logsumexp({0})",),
    "softmax": ("K.softmax({0})",), "one_hot": ("K.one_hot({0}, {depth})",), "in_top_k": ("K.in_top_k({0}, {1}, {k})",),
    "conv": (
        "K.conv2d({0}, {1}, border_mode={border}, strides={strides}, dim_ordering='tf')",
        "K.conv1d({0}, {1}, border_mode={border}, stride={strides}[0])",
    ),
    "max_pool": ("K.pool2d({0}, {size}, {strides}, {border}, 'tf', 'max')",),
    "avg_pool": ("K.pool2d({0}, {size}, {strides}, {border}, 'tf', 'avg')",),
}  # fmt: skip

#: Elements of an array that are written as numbers; a larger one is written as bytes.
MOST_NUMBERS = 2000


class ProgramText:
    """The text of a program that builds the outputs of a graph over placeholders."""

    def __init__(self, graph: Graph):
        from kgraph import backend as K

        self.lines: list[str] = []
        self.imports = {"import numpy as np", "from kgraph import backend as K"}
        self.names: dict[Node, str] = {}
        self.space: dict[str, Any] = {"K": K, "np": np, "o": o}
        self.inputs = [node for node in toposort(graph.roots) if node.op is o.placeholder]
        for node in self.inputs:
            name = self._name(node, node.name)
            called = f", name={node.name!r}" if node.name else ""
            self._bind(node, name, f"K.placeholder({_attr(node.type.shape)}, dtype={node.dtype!r}{called})")
        self._nodes(graph.roots)
        self.outputs = [self._operand(root, plain=root.op is o.constant) for root in graph.roots]

    # -------------------------------------------------------------------------------------------- names

    def _name(self, node: Node, wanted: str | None) -> str:
        base = re.sub(r"\W", "_", wanted or "", flags=re.ASCII).strip("_")
        if not base or base[0].isdigit() or keyword.iskeyword(base):
            base = {"placeholder": "x", "param": "p"}.get(node.op.name, "y")
        name, number = base, 1
        while name in self.space or name in ("values", "engine"):
            name, number = f"{base}{number}", number + 1
        return name

    def _bind(self, node: Node, name: str, text: str) -> None:
        self.names[node] = name
        self.space[name] = node if is_tuple(node.type) else Tensor(node)
        self.lines.append(f"{name} = {text}")

    # -------------------------------------------------------------------------------------------- nodes

    def _nodes(self, roots: Sequence[Node]) -> None:
        for node in toposort(roots):
            if node in self.names or node.op in (o.constant, o.placeholder):
                continue
            text = self._spelled(node)  # first: a body has lines of its own, and names
            self._bind(node, self._name(node, None), text)

    def _operand(self, node: Node, plain: bool = False) -> str:
        """An operand; in the place of a node where plain."""
        if node.op is o.constant:
            array = node.attr("value").array
            if not plain:
                return literal(array) if array.ndim else number(array)
            self.imports.add("from kgraph.ir import ops as o")
            return f"o.constant_of({literal(array)})"
        return f"{self.names[node]}.node" if plain else self.names[node]

    def _spelled(self, node: Node) -> str:
        for text in self._spellings(node):
            before, building.origin = building.origin, node.origins[0]
            try:
                # The text is made of names given here, numbers, and attrs of ops: nothing that anybody else has written.
                made = eval(text, self.space)
                if getattr(made, "node", None) is node:
                    return text
            except Exception:  # not so then
                continue
            finally:
                building.origin = before
        self.imports.add("from kgraph.ir import ops as o")
        attrs = [f"{name}={self._attr(value)}" for name, value in node.attrs]
        return f"o.{node.op.name}({', '.join([self._operand(i, plain=True) for i in node.inputs] + attrs)})"

    def _spellings(self, node: Node) -> Iterator[str]:
        if node.op.bodies or any(isinstance(value, (Identity, Graph)) for _, value in node.attrs):
            return
        operands = [self._operand(i) for i in node.inputs]
        fields = {name: _attr(value) for name, value in node.attrs if not isinstance(value, (Constant, TensorType))}
        for spelling in SPELLINGS.get(node.op.name, ()):
            yield spelling.format(*operands, all=", ".join(operands), **fields)
        if hasattr(self.space["K"], node.op.name):
            yield f"K.{node.op.name}({', '.join(operands + [f'{name}={value}' for name, value in fields.items()])})"

    def _attr(self, value: Any) -> str:
        if isinstance(value, Graph):
            return self._body(value)
        if isinstance(value, Identity):
            self.imports.add("from kgraph.ir.node import Identity")
            return "Identity()"
        if isinstance(value, TensorType):
            self.imports.add("from kgraph.ir.types import TensorType")
            return f"TensorType({value.dtype!r}, {_attr(value.shape)})"
        return _attr(value)

    def _body(self, body: Graph) -> str:
        """The text of the body of a loop or branch, whose nodes have lines of their own."""
        self.imports |= {"from kgraph.ir import ops as o", "from kgraph.ir.node import Graph"}
        for node in body.inputs:
            if node not in self.names:
                self._bind(node, self._name(node, None), f"o.param(index={node.attr('index')}, type={self._attr(node.type)})")
        self._nodes(body.outputs)
        lists = [", ".join(self._operand(node, plain=True) for node in nodes) for nodes in (body.inputs, body.outputs)]
        return f"Graph([{lists[0]}], [{lists[1]}])"

    # -------------------------------------------------------------------------------------------- the program

    def text(self, values: Mapping[Node, Array], engine: str, optimize: bool) -> str:
        """The program: it computes the outputs on NumPy, as built, and on the engine, and prints both."""
        fed = ", ".join(literal(values[node]) for node in self.inputs)
        kind = "" if optimize else ", optimize=False"
        given, results = ", ".join(self.names[node] for node in self.inputs), ", ".join(self.outputs)
        ends = [f"values = [{fed}]"]
        # What the ops mean is NumPy's table; its engine is no witness against itself.
        reference = f"K.function([{given}], [{results}], engine='numpy', optimize=False)(values)"
        if engine == "numpy" and not optimize:
            self.imports |= {"from kgraph.lower.engine import evaluator", "from kgraph.lower.numpy import RULES"}
            self.imports.add("from kgraph.ir.node import Graph")
            nodes = [", ".join(f"{name}.node" for name in names.split(", ") if name) for names in (given, results)]
            reference = f"evaluator(Graph([{nodes[0]}], [{nodes[1]}]), RULES)(*values)"
        ends.append(f"print('reference', *{reference})")
        ends.append(f"print({engine!r}, *K.function([{given}], [{results}], engine={engine!r}{kind})(values))")
        imports = sorted(self.imports, key=lambda line: (not line.startswith("import"), line))
        return "\n".join([*imports, "", *self.lines, *ends])


def _attr(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_attr, value))}{',' if len(value) == 1 else ''})"
    return number(np.asarray(value)) if isinstance(value, np.generic) else repr(value)


def number(value: Any) -> str:
    """A number, in the fewest digits that give it again in its dtype."""
    if value.dtype.kind != "f":
        return repr(value.item())
    if not np.isfinite(value):
        return "np.nan" if np.isnan(value) else "np.inf" if value > 0 else "-np.inf"
    text = str(value[()])
    return text if value.dtype.type(float(text)) == value else repr(float(value))


def literal(array: Array) -> str:
    """An array as Python text."""
    array = np.asarray(array)
    dtype = array.dtype.name
    value = Constant(array).uniform
    if array.size == 0 or (array.size > 8 and value is not None):
        return f"np.full({_attr(array.shape)}, {number(array.reshape(-1)[0]) if array.size else 0}, {dtype!r})"
    if array.size > MOST_NUMBERS:
        data = f"np.frombuffer(bytes.fromhex({array.tobytes().hex()!r}), {dtype!r})"
        return f"{data}.reshape({_attr(array.shape)})"
    return f"np.array({_nested(array)}, {dtype!r})"


def _nested(array: Array) -> str:
    return number(array) if not array.ndim else f"[{', '.join(_nested(np.asarray(part)) for part in array)}]"

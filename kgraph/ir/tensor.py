"""The handle of a node that a K function returns.

The node is shared and clean; the handle is the user's: every call returns a new one, and any attribute may be set on it
(Keras writes ``_keras_shape``, ``_keras_history`` and ``_uses_learning_phase``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kgraph.errors import TensorUseError
from kgraph.ir.listing import Listing
from kgraph.ir.node import Node, describe
from kgraph.ir.operators import Operators
from kgraph.ir.origin import here
from kgraph.ir.types import Shape


class Tensor(Operators):
    """A symbolic value: dtype and shape are known, the numbers are not. Compares and hashes by identity."""

    node: Node

    def __init__(self, node: Node):
        self.node = node

    @classmethod
    def wrap(cls, node: Node) -> Tensor:
        return cls(node)

    @property
    def dtype(self) -> str:
        """Name of the dtype, a plain str."""
        return self.node.type.dtype

    @property
    def shape(self) -> Shape:
        """Sizes, None where one is not known before the program runs."""
        return self.node.type.shape

    @property
    def ndim(self) -> int:
        return len(self.node.type.shape)

    @property
    def name(self) -> str:
        """The name of a placeholder or variable; what made it, for anything else."""
        return self.node.name or self.node.op.name

    def __bool__(self) -> bool:
        if self.node.op.name == "variable":
            return True  # Keras writes ``if b:`` for a bias or None
        raise _needs_value(self, "bool(x)", "compare with K.equal, branch with K.switch, or get the value with K.eval")

    def __float__(self) -> float:
        raise _needs_value(self, "float(x)", "get the value with K.eval, or stay symbolic with K.cast")

    def __int__(self) -> int:
        raise _needs_value(self, "int(x)", "get the value with K.eval, or stay symbolic with K.cast")

    def __index__(self) -> int:
        raise _needs_value(self, "use as an index", "a symbolic size goes into K.reshape, K.tile and slices as it is")

    def __complex__(self) -> complex:
        raise _needs_value(self, "complex(x)", "kgraph has no complex numbers")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise _needs_value(self, "use as a NumPy array", "get the value with K.eval, or use the K function of the same meaning")

    def __contains__(self, value: Any) -> bool:
        raise _needs_value(self, "value in x", "K.any(K.equal(x, value)) is the symbolic form")

    def __len__(self) -> int:
        size = self._first_size("len(x)")
        return size

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(self._first_size("iteration"))])

    def _first_size(self, use: str) -> int:
        shape = self.node.type.shape
        if not shape:
            raise _needs_value(self, use, "a scalar has no axis to go along")
        if shape[0] is None:
            raise _needs_value(self, use, "its first size is unknown while the graph is built; slice it up to a known size")
        return shape[0]

    def __copy__(self) -> Tensor:
        return self._twin(self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self._twin(self.node)

    def _twin(self, node: Node) -> Tensor:
        twin = type(self)(node)
        twin.__dict__.update({k: v for k, v in self.__dict__.items() if k != "node"})
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # The node's listing, not the node: a pickle of nodes would go down the graph by recursion.
        return _loaded, (type(self), Listing.of([self.node]), {k: v for k, v in self.__dict__.items() if k != "node"})

    def __repr__(self) -> str:
        return f"<Tensor {describe(self.node)}>"


def _loaded(kind: type[Tensor], listing: Listing, marks: dict[str, Any]) -> Tensor:
    tensor = kind(listing.build()[0])
    tensor.__dict__.update(marks)
    return tensor


def _needs_value(tensor: Tensor, use: str, hint: str) -> TensorUseError:
    error = TensorUseError(f"a symbolic tensor has no value while the graph is built, so {use} is not possible", hint=hint)
    error.at(use, [f"x: {describe(tensor.node)}"], str(here(3)))
    return error

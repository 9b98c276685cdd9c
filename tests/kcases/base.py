"""A row of the table of K functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cases.base import Row

FLOATX = "float32"


@dataclass(frozen=True, eq=False)
class KCase(Row):
    """A K function over tensors.

    Args:
      call: ``(*tensors) -> tensor`` in the place of ``function(*tensors, **attrs)``.
      arrays: whether the function takes arrays in the place of tensors, with the same result; a 0-d array has no dtype of its
        own, so that rows with scalars are left out anyway.
    """

    call: Callable[..., Any] | None = None
    arrays: bool = True

    def tensor(self, *operands: Any) -> Any:
        return self.of(*operands, **self.attrs) if self.call is None else self.call(*operands)

"""A small model with a variable, for tests of what happens to its value."""

from __future__ import annotations

from typing import Any

import numpy as np

from kgraph import backend as K


class Counter:
    """A function that adds what it is fed to a variable, and gives the sum before it."""

    def __init__(self, **options: Any) -> None:
        self.total, x = K.variable([0.0, 0.0], name="total"), K.placeholder((2,), name="x")
        self.add = K.function([x], self.total, [K.update_add(self.total, x)], **options)
        self.wanted = np.zeros(2)

    def check(self) -> None:
        """One step more."""
        np.testing.assert_array_equal(self.add([[1, 10]]), self.wanted)
        self.wanted += [1, 10]

    def check_value(self) -> None:
        np.testing.assert_array_equal(K.get_value(self.total), self.wanted)

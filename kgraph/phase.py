"""The learning phase that `K.set_learning_phase` fixes: read at each call of a function."""

from __future__ import annotations

#: 0 test, 1 train, None while it is not fixed.
fixed: int | None = None

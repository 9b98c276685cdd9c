"""NumPy without its warnings: NaN and infinity are values like any other here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def quietly(function: F) -> F:
    """The function without NumPy's warnings."""
    # Not ``with np.errstate``: its way out is a call of Python's, and Ctrl-C in the last operation would come before that.
    get, put = getattr(np, "geterrobj", None), getattr(np, "seterrobj", None)
    if get is None or put is None:  # from NumPy 2 on
        return np.errstate(all="ignore")(function)

    def quiet(*values: Any) -> Any:
        before = get()
        try:
            put([before[0], 0, before[2]])
            return function(*values)
        finally:
            put(before)

    return quiet  # type: ignore[return-value]

"""Loading TensorFlow without its chatter, unless its user asked for that."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    # 2 leaves errors; a session also logs each error that it raises, as a warning.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within TensorFlow and what it imports
        yield

"""Loading TensorFlow without its chatter, unless its user asked for that, and without what it leaves behind."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kgraph import settings_file
from kgraph.errors import ConfigError


@contextmanager
def quietly() -> Iterator[None]:
    """TensorFlow is imported in the block."""
    # 2 leaves errors; a session also logs each error that it raises, as a warning.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with warnings.catch_warnings(), _no_settings_left():
        warnings.simplefilter("ignore")  # deprecations within TensorFlow and what it imports
        yield


@contextmanager
def _no_settings_left() -> Iterator[None]:
    """TensorFlow 2.21 imports Keras, which writes its settings into a file where there is none. kgraph reads that file: having
    used TensorFlow once would make it the engine of every program."""
    file = settings_file.path()
    there = file.exists()
    yield
    if not there:
        with suppress(ConfigError, OSError):
            found = settings_file.read_file(file)
            if found.keys() == {"floatx", "epsilon", "backend", "image_data_format"} and found["backend"] == "tensorflow":
                file.unlink()

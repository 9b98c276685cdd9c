"""What tests of one engine begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kgraph import backend as K


@pytest.fixture
def on_tensorflow() -> Iterator[None]:
    """Each test begins with a session of its own, and leaves none of the user's behind."""
    K.set_backend("tensorflow")
    K.clear_session()
    yield
    K.clear_session()

"""What every test begins with: no settings file, the default settings, no learning phase, one state of NumPy's generator."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

# Before kgraph is imported: what it reads then, and processes that tests start, is not the file of whoever runs the tests.
# Keras, which tensorflow brings along, writes a file of its own there.
_home = tempfile.TemporaryDirectory(prefix="kgraph-tests-")
atexit.register(_home.cleanup)
os.environ["KERAS_HOME"] = _home.name
for _name in ("KGRAPH_BACKEND", "KERAS_BACKEND"):
    os.environ.pop(_name, None)
# Theano locks the folder of what it compiles while the compiler runs: of two workers with one folder, one would wait.
if _worker := os.environ.get("PYTEST_XDIST_WORKER"):
    _cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ["XDG_CACHE_HOME"] = os.path.join(_cache, f"kgraph-tests-{_worker}")
# A shell has what it starts in the background ignore Ctrl-C, and so do the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from kgraph import phase  # noqa: E402
from kgraph.config import Settings, changed, settings  # noqa: E402
from kgraph.lower.engine import engine_names  # noqa: E402
from tests import groups  # noqa: E402
from tests.engines import engines_installed, engines_tested  # noqa: E402


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Tests that share a program go to one worker."""
    return groups.scheduler(config, log)


def pytest_collection_finish() -> None:
    """What pytest knows of tens of thousands of tests is left out by the garbage collector, whom tests call often."""
    gc.collect()
    gc.freeze()


#: What tests that are about several engines need two of.
collect_ignore = ["test_engines_together.py"] if len(engines_installed()) < 2 else []

#: Tests of one engine's own machinery.
collect_ignore_glob = [f"lower/test_{name}*.py" for name in engine_names() if name not in engines_tested()]


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    """A test leaves no setting behind, and depends on none that another one left."""
    before = np.random.get_state()  # noqa: NPY002  # the generator that seeds of random functions come from
    np.random.seed(0)  # noqa: NPY002
    phase.fixed = None
    with changed(**vars(Settings())):
        assert settings == Settings()
        yield
    phase.fixed = None
    np.random.set_state(before)  # noqa: NPY002


@pytest.fixture(params=engines_tested())
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine that is tested here in turn, as the one that functions run on."""
    with changed(engine=request.param):
        yield request.param


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """For tests of very many programs: Theano, which takes a second to compile one, runs its Python code, as without a compiler."""
    if "theano" not in engines_tested():
        yield
        return
    import theano

    with theano.config.change_flags(cxx=""):
        yield

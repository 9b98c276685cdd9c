"""The engines that tests run on: those that can be loaded here, which have to be all of KGRAPH_TEST_ENGINES.

Tests of one engine at a time run on those of KGRAPH_TEST_EACH, if that is set: what an engine does alone is tested in one
environment, not in each that has it. Tests of several engines together run on all.
"""

from __future__ import annotations

import functools
import importlib.util
import os

from kgraph.errors import EngineError
from kgraph.lower.engine import engine_names, get_engine


@functools.cache
def engines_installed() -> list[str]:
    """The names of the engines whose libraries are installed. An engine that fails to load for another reason fails the tests."""
    found = [name for name in engine_names() if _loads(name)]
    missing = set(os.environ.get("KGRAPH_TEST_ENGINES", "").split()) - set(found)
    if missing:
        raise RuntimeError(f"engines that should be installed here are not: {', '.join(sorted(missing))}")
    return found


@functools.cache
def engines_tested() -> list[str]:
    """The names of the engines that tests of one engine at a time run on here."""
    wanted = os.environ.get("KGRAPH_TEST_EACH", "").split() or engines_installed()
    if unknown := set(wanted) - set(engines_installed()):
        raise RuntimeError(f"engines that should be tested here are not installed: {', '.join(sorted(unknown))}")
    return [name for name in engines_installed() if name in wanted]


def _loads(name: str) -> bool:
    try:
        get_engine(name)
    except EngineError:
        if importlib.util.find_spec(name) is None:
            return False
        raise  # its library is there
    except ModuleNotFoundError as error:
        if (error.name or "kgraph").partition(".")[0] == "kgraph":
            raise  # a module of ours that is not there
        return False
    return True

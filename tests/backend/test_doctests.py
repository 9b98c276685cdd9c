"""The examples in the docstrings of the K functions give what they say."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from importlib import import_module

import numpy as np
import pytest

import kgraph.backend
from kgraph import backend as K

MODULES = [import_module(f"kgraph.backend.{found.name}") for found in pkgutil.iter_modules(kgraph.backend.__path__)]


def examples() -> dict[str, doctest.DocTest]:
    """Name -> the examples of one docstring."""
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=False)
    found = {}
    for module in MODULES:
        for name, value in [("", module), *inspect.getmembers(module, lambda v: inspect.isfunction(v) or inspect.isclass(v))]:
            if name and (value.__module__ != module.__name__ or name.startswith("_")):
                continue
            for test in finder.find(value, f"{module.__name__}.{name}".rstrip("."), globs={}):
                if test.examples:
                    found[test.name] = test
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_give_what_they_say(name: str) -> None:
    K.clear_session()  # names and uids count from 1
    test = EXAMPLES[name]
    x, y = K.placeholder((None, 3), name="x"), K.placeholder((4, 10), name="y")
    test.globs = {"K": K, "np": np, "x": x, "y": y, **vars(import_module("kgraph.errors")), "refuse": K.control.refuse}
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(test, out=report.append)
    assert result.attempted
    assert not result.failed, "".join(report)


def test_most_functions_have_an_example() -> None:
    named = {name.rpartition(".")[2] for name in EXAMPLES}
    assert len(named & set(K.__all__)) > len(K.__all__) // 2

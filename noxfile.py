"""The checks, each in an environment of its own: ``python -m nox`` runs all, ``python -m nox -s tests`` the tests alone.

What follows ``--`` goes to pytest: ``python -m nox -s "tests(numpy2)" -- -k softmax``.
"""

from __future__ import annotations

from typing import NamedTuple

import nox

nox.needs_version = ">=2024.3.2"
nox.options.default_venv_backend = "uv|virtualenv"  # uv where it is installed, for speed
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "no"


class Environment(NamedTuple):
    """What is installed beside kgraph and its extra `test`; the engines that have to be there then; those on which the tests of
    one engine at a time run."""

    packages: list[str]
    engines: str
    each: str


#: One environment cannot hold every engine: some need NumPy 1. An engine that both hold is tested alone in one of them, but for
#: NumPy itself; beside other engines, in both.
ENVIRONMENTS = {
    "numpy1": Environment(["numpy==1.26.*", ".[tensorflow,theano]"], "numpy tensorflow theano", "numpy theano"),
    "numpy2": Environment(["numpy>=2", ".[tensorflow]"], "numpy tensorflow", "numpy tensorflow"),
}


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: likely mistakes, names, order of imports, length of lines."""
    session.install("ruff==0.17.*")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("mypy==2.4.*", "numpy>=2")
    session.run("mypy")


@nox.session
@nox.parametrize("environment", [nox.param(name, id=name) for name in ENVIRONMENTS])
def tests(session: nox.Session, environment: str) -> None:
    """The tests."""
    packages, engines, each = ENVIRONMENTS[environment]
    session.install(".[test]", *packages)
    session.env.update(KGRAPH_TEST_ENGINES=engines, KGRAPH_TEST_EACH=each)  # the tests fail if one of these cannot be loaded
    # Neither the user's own settings nor what was compiled before.
    folder = session.create_tmp()
    session.env.update(KERAS_HOME=folder, XDG_CACHE_HOME=folder, THEANO_FLAGS="", KGRAPH_BACKEND="", KERAS_BACKEND="")
    session.run("python", "-c", "import numpy, sys; print('Python', sys.version.split()[0], 'NumPy', numpy.__version__)")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "auto", "--durations", "20"]))

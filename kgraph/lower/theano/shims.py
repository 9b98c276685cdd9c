"""What genuine Theano needs before it is used: names that NumPy dropped, BLAS, a compiler, a place for what is compiled.

theano-pymc 1.1.2 is the last release, of 2021. It runs on Python 3.11 with NumPy 1.26 once this is done. What the user has set
(``THEANO_FLAGS``, ``.theanorc``) is never overridden.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kgraph.disk import compile_folder, flags_of_user
from kgraph.errors import EngineError

#: Names of Python types that NumPy had until 1.24, and that Theano reads.
_ALIASES = ("bool", "int", "float", "complex", "object", "str")

#: The routines of BLAS that Theano's C code calls, but for the letter of the dtype.
_ROUTINES = ("gemm", "gemv", "ger", "geru", "gerc", "dot", "axpy", "scal", "copy", "nrm2", "swap")

#: What Theano's C code includes: most of the time of compiling a module goes into reading it.
_HEADERS = ("Python.h", "iostream", "math.h", "numpy/arrayobject.h", "numpy/arrayscalars.h", "vector", "algorithm")


def load() -> Any:
    """The module theano, ready for use. Raises EngineError, saying what to install, and ModuleNotFoundError without it."""
    early = "theano" not in sys.modules
    if early:
        _check_installed()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise EngineError(
            f"Theano cannot run on NumPy {np.__version__}: the C code that it writes needs the C interface of NumPy 1",
            hint="python -m pip install 'numpy<2', in an environment for Theano",
        )
    flags = flags_of_user()
    _check_compiler(flags)
    _restore_aliases()
    # The C code of its loop does not compile on Python 3.11; without it theano.scan uses its loop in Python.
    sys.modules.setdefault("theano.scan.scan_perform_ext", None)  # type: ignore[arg-type]
    wanted = _wanted(flags)
    if early:
        with _environment(wanted), _quiet():
            theano = importlib.import_module("theano")
    else:
        theano = sys.modules["theano"]
        _set_late(theano, wanted)
    if theano.config.cxx:
        _prepare_headers(theano)
        with _quiet():
            importlib.import_module("theano.link.c.cvm")  # what runs the operations, compiled when it is first imported
    return theano


def _check_installed() -> None:
    if importlib.util.find_spec("theano") is None:
        if sys.version_info >= (3, 12):
            raise EngineError(
                f"Theano cannot be installed on Python {platform.python_version()}: its last release, theano-pymc 1.1.2, needs "
                "Python 3.11 or earlier",
                hint="make an environment with Python 3.11 for Theano",
            )
        raise ModuleNotFoundError("No module named 'theano'", name="theano")
    for name in [name for name in sys.modules if name.startswith("theano.")]:
        del sys.modules[name]  # what a failed ``import theano`` of the user's has left, with settings that it read


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of Theano's own: names on their way out, files left open, a BLAS missing, which we say ourselves."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def _restore_aliases() -> None:
    for name in _ALIASES:
        if name not in vars(np):
            setattr(np, name, getattr(builtins, name))


# ---------------------------------------------------------------------------------------------------- flags


def _wanted(flags: dict[str, str]) -> dict[str, Callable[[], str]]:
    """What we set, but for what the user has set: name -> what gives the value."""
    wanted: dict[str, Callable[[], str]] = {
        "blas__ldflags": blas_flags,
        "gcc__cxxflags": _compiler_flags,
        "base_compiledir": lambda: str(_made(compile_folder())),
    }
    if "compiledir" in flags:
        del wanted["base_compiledir"]
    return {name: value for name, value in wanted.items() if name not in flags}


@contextmanager
def _environment(wanted: dict[str, Callable[[], str]]) -> Iterator[None]:
    """THEANO_FLAGS with ours in front of the user's, while Theano is imported: processes started later see the user's own."""
    before = os.environ.get("THEANO_FLAGS")
    ours = [f'{name}="{value()}"' for name, value in wanted.items()]
    os.environ["THEANO_FLAGS"] = ",".join([*ours, *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["THEANO_FLAGS"]
        else:
            os.environ["THEANO_FLAGS"] = before


def _set_late(theano: Any, wanted: dict[str, Callable[[], str]]) -> None:
    """The same for a Theano that was imported before us."""
    config = theano.config
    for name in ("blas__ldflags", "gcc__cxxflags"):
        if name in wanted and not getattr(config, name):
            setattr(config, name, wanted[name]())
    if "base_compiledir" in wanted:
        warnings.warn(
            f"theano was imported before kgraph's engine, so what is compiled stays in {config.compiledir} and not in "
            f"{compile_folder()}; make a function on the engine theano before, or set THEANO_FLAGS=base_compiledir=...",
            stacklevel=2,
        )


def _made(folder: Path) -> Path:
    """The folder, made if it is not there. Raises EngineError where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "it is not ours to write to"
    except OSError as error:
        reason = str(error)
    if reason:
        raise EngineError(
            f"Theano cannot keep what it compiles in {folder}: {reason}",
            hint="set XDG_CACHE_HOME to a folder that can be written to, or THEANO_FLAGS=base_compiledir=...",
        )
    return folder


# ---------------------------------------------------------------------------------------------------- the compiler


def _check_compiler(flags: dict[str, str]) -> None:
    """Raises EngineError without a compiler. ``cxx=`` in THEANO_FLAGS asks for none: then Theano runs its Python code."""
    if flags.get("cxx") == "":
        return
    names = [flags["cxx"]] if "cxx" in flags else ["g++", "clang++"] if sys.platform == "darwin" else ["g++"]
    if not any(shutil.which(name) for name in names):
        raise EngineError(
            f"Theano compiles with {names[0]}, which is not installed",
            hint="on Debian and Ubuntu: apt-get install g++; or set THEANO_FLAGS=cxx= to run without, many times as slow",
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise EngineError(
            f"Theano compiles modules for Python, whose header Python.h is not in {sysconfig.get_path('include')}",
            hint=f"on Debian and Ubuntu: apt-get install python{version}-dev",
        )


def _compiler_flags() -> str:
    """No debug information; the processor named by itself, which saves Theano three runs of g++ a process; our headers."""
    flags = ["-march=native", "-g0"]
    header = str(compile_folder() / _header_name())
    if sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64") and len(header.split()) == 1:
        flags += ["-include", header]
    return " ".join(flags)


def _header_name() -> str:
    compiler = os.path.realpath(shutil.which("g++") or sys.executable)
    versions = f"{sys.version} {np.__version__} {np.__file__} {compiler} {os.stat(compiler).st_mtime_ns}"
    return f"headers-{hashlib.blake2b(versions.encode(), digest_size=4).hexdigest()}.h"


def _prepare_headers(theano: Any) -> None:
    """Make the file of headers that the flags name, and compile it: modules then take half the time. Safe to be run twice."""
    flags = theano.config.gcc__cxxflags.split()
    header = compile_folder() / _header_name()
    compiled = header.with_suffix(".h.gch")
    if str(header) not in flags or compiled.exists():
        return
    own = _made(header.parent) / f"{header.stem}-{os.getpid()}.h"
    own.write_text("".join(f"#include <{name}>\n" for name in _HEADERS))
    os.replace(own, header)
    own = own.with_suffix(".gch")
    from theano.link.c.cmodule import GCC_compiler, std_include_dirs

    arguments = ["-O3", "-fno-math-errno", *GCC_compiler.compile_args(), *[f"-I{folder}" for folder in std_include_dirs()]]
    at = arguments.index("-include")
    del arguments[at : at + 2]
    command = [theano.config.cxx, *arguments, "-fvisibility=hidden", "-x", "c++-header", str(header), "-o", str(own)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        own.unlink(missing_ok=True)  # modules are compiled from the headers themselves, as without us
    else:
        os.replace(own, compiled)


# ---------------------------------------------------------------------------------------------------- BLAS


def blas_flags() -> str:
    """What links C code with BLAS: the system's OpenBLAS, or the one that is part of SciPy, which Theano needs anyway.

    Empty, with a warning, where there is neither: then Theano takes NumPy's matrix product.
    """
    flags = _system_openblas() or _scipy_openblas()
    if not flags:
        # Measured on two cores, with OpenBLAS and without: training steps of 64-128-10 units 2 to 2.6 times, of 784-512-512-10
        # units 1.3 to 1.7 times, products of a matrix and a vector 2 to 5 times.
        warnings.warn(
            "Theano found no BLAS to link with, so products of matrices go through NumPy: a training step of a small network "
            "takes about 2.5 times as long, of a large one 1.5 times; install OpenBLAS (on Debian and Ubuntu: apt-get install "
            "libopenblas-dev), or set THEANO_FLAGS=blas__ldflags=...",
            stacklevel=2,
        )
    return flags


def _system_openblas() -> str:
    """``-lopenblas`` if the linker finds it."""
    compiler = shutil.which("g++")
    if compiler is None:
        return ""
    file = f"libopenblas.{'dylib' if sys.platform == 'darwin' else 'so'}"
    # g++ answers with the whole path of a library that it finds, and with the bare name otherwise.
    done = subprocess.run([compiler, f"-print-file-name={file}"], capture_output=True, text=True, check=False)
    return "-lopenblas" if os.path.isabs(done.stdout.strip()) else ""


def _scipy_openblas() -> str:
    """The OpenBLAS in SciPy's wheel. Its names begin with ``scipy_``, or in older wheels do not."""
    spec = importlib.util.find_spec("scipy")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return ""
    folder = Path(spec.origin).parent.parent / "scipy.libs"
    for pattern, prefix in (("libscipy_openblas-*.so", "scipy_"), ("libopenblasp-*.so", "")):
        for library in sorted(folder.glob(pattern)):
            # Not -L: for one Theano looks for a library of the name that follows -l, and warns.
            flags = [f"-Wl,-rpath,{folder},-L,{folder}", f"-l:{library.name}"]
            if prefix:
                flags += [f"-D{letter}{routine}_={prefix}{letter}{routine}_" for letter in "sdcz" for routine in _ROUTINES]
            return " ".join(flags)
    return ""

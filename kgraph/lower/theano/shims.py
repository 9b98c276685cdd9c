"""What genuine Theano needs before it is used: names that NumPy dropped, BLAS, a compiler, a place for what is compiled.

theano-pymc 1.1.2 is the last release, of 2021. It runs on Python 3.11 with NumPy 1.26 once this is done. What the user has set
(``THEANO_FLAGS``, ``.theanorc``) is never overridden.
"""

from __future__ import annotations

import builtins
import configparser
import hashlib
import importlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
    if early and importlib.util.find_spec("theano") is None:
        raise ModuleNotFoundError("No module named 'theano'", name="theano")
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise EngineError(
            f"Theano cannot run on NumPy {np.__version__}: the C code that it writes needs the C interface of NumPy 1",
            hint="python -m pip install 'numpy<2', in an environment for Theano",
        )
    _restore_aliases()
    # The C code of its loop does not compile on Python 3.11; without it theano.scan uses its loop in Python.
    sys.modules.setdefault("theano.scan.scan_perform_ext", None)  # type: ignore[arg-type]
    flags = _flags_of_user()
    wanted = _wanted(flags)
    if early:
        _check_compiler(flags)
        with _environment(wanted):
            return _imported()
    theano = _imported()
    _set_late(theano, wanted)
    return theano


def _imported() -> Any:
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names and modules on their way out of Python and NumPy
        logging.disable(logging.WARNING)  # a BLAS that is missing: we say it ourselves
        try:
            return importlib.import_module("theano")
        finally:
            logging.disable(before)


def _restore_aliases() -> None:
    for name in _ALIASES:
        if name not in vars(np):
            setattr(np, name, getattr(builtins, name))


# ---------------------------------------------------------------------------------------------------- flags


def _flags_of_user() -> dict[str, str]:
    """What THEANO_FLAGS and .theanorc set: name, with its section in front, -> value."""
    found: dict[str, str] = {}
    rc = configparser.RawConfigParser(strict=False)
    paths = os.environ.get("THEANORC", os.path.join("~", ".theanorc")).split(os.pathsep)
    rc.read([os.path.expanduser(path) for path in paths])
    for section in rc.sections():
        for name, value in rc.items(section):
            found[name if section == "global" else f"{section}__{name}"] = value
    entries = shlex.shlex(os.environ.get("THEANO_FLAGS", ""), posix=True)  # as Theano reads them
    entries.whitespace, entries.whitespace_split = ",", True
    for entry in entries:
        name, equals, value = entry.strip().partition("=")
        if equals:
            found[name.strip().replace(".", "__")] = value.strip()
    return found


def _wanted(flags: dict[str, str]) -> dict[str, Callable[[], str]]:
    """What we set, but for what the user has set: name -> what gives the value."""
    wanted: dict[str, Callable[[], str]] = {
        "blas__ldflags": blas_flags,
        "gcc__cxxflags": _compiler_flags,
        "base_compiledir": lambda: str(compile_folder()),
    }
    if "compiledir" in flags:
        del wanted["base_compiledir"]
    return {name: value for name, value in wanted.items() if name not in flags}


class _environment:  # noqa: N801  # used like a function
    """THEANO_FLAGS with ours in front of the user's, while Theano is imported: processes started later see the user's own."""

    def __init__(self, wanted: dict[str, Callable[[], str]]):
        self.before = os.environ.get("THEANO_FLAGS")
        ours = [f'{name}="{value()}"' for name, value in wanted.items()]
        self.during = ",".join([*ours, *([self.before] if self.before else [])])

    def __enter__(self) -> None:
        os.environ["THEANO_FLAGS"] = self.during

    def __exit__(self, *exception: object) -> None:
        if self.before is None:
            del os.environ["THEANO_FLAGS"]
        else:
            os.environ["THEANO_FLAGS"] = self.before


def _set_late(theano: Any, wanted: dict[str, Callable[[], str]]) -> None:
    """The same for a Theano that was imported before us."""
    config = theano.config
    if not config.blas__ldflags and "blas__ldflags" in wanted:
        config.blas__ldflags = wanted["blas__ldflags"]()
    if not config.gcc__cxxflags and "gcc__cxxflags" in wanted:
        config.gcc__cxxflags = wanted["gcc__cxxflags"]()
    if "base_compiledir" in wanted:
        warnings.warn(
            f"theano was imported before kgraph's engine, so what is compiled stays in {config.compiledir} and not in "
            f"{compile_folder()}; import kgraph and make a function first, or set THEANO_FLAGS=base_compiledir=...",
            stacklevel=2,
        )


def compile_folder() -> Path:
    """Where what Theano compiles stays for the next process: a folder of the user's, one for each sort of processor."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    # Code for this processor would not run on another one that has the same home folder.
    sort = hashlib.blake2b(_processor().encode(), digest_size=4).hexdigest()
    return Path(os.path.expanduser(cache)) / "kgraph" / "theano" / f"{platform.machine()}-{sort}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


# ---------------------------------------------------------------------------------------------------- the compiler


def _check_compiler(flags: dict[str, str]) -> None:
    """Raises EngineError without a compiler. ``cxx=`` in THEANO_FLAGS asks for none: then Theano runs its Python code."""
    if flags.get("cxx") == "":
        return
    names = [flags["cxx"]] if "cxx" in flags else ["g++", "clang++"] if sys.platform == "darwin" else ["g++"]
    if not any(shutil.which(name) for name in names):
        raise EngineError(
            f"Theano compiles with {names[0]}, which is not installed",
            hint="install it (on Debian and Ubuntu: apt-get install g++), or set THEANO_FLAGS=cxx= to run without, many times slower",
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise EngineError(
            f"Theano compiles modules for Python, whose header Python.h is not in {sysconfig.get_path('include')}",
            hint=f"install it (on Debian and Ubuntu: apt-get install python{version}-dev)",
        )


def _compiler_flags() -> str:
    """No debug information; the processor named by itself, which saves Theano three runs of g++ a process; our headers."""
    flags = ["-march=native", "-g0"]
    if sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64"):
        flags += ["-include", str(compile_folder() / _header_name())]
    return " ".join(flags)


def _header_name() -> str:
    versions = f"{sys.version} {np.__version__} {np.__file__} {shutil.which('g++')}"
    return f"headers-{hashlib.blake2b(versions.encode(), digest_size=4).hexdigest()}.h"


def prepare_headers(theano: Any) -> None:
    """Make the file of headers that the flags name, and compile it: modules then take half the time. Safe to be run twice."""
    flags = theano.config.gcc__cxxflags.split()
    if "-include" not in flags:
        return
    header = Path(flags[flags.index("-include") + 1])
    if header.parent != compile_folder():
        return
    compiled = header.with_suffix(".h.gch")
    if compiled.exists() or not theano.config.cxx:
        return
    header.parent.mkdir(parents=True, exist_ok=True)
    own = header.with_name(f"{header.stem}-{os.getpid()}.h")
    text = "".join(f"#include <{name}>\n" for name in _HEADERS)
    own.write_text(text)
    os.replace(own, header)
    own = compiled.with_name(f"{header.stem}-{os.getpid()}.gch")
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
    for find in (_system_openblas, _scipy_openblas, partial(_system_library, "blas")):
        flags = find()
        if flags:
            return flags
    warnings.warn(
        "Theano found no BLAS to link with, so matrix products take a way round through NumPy: {SLOWER}; "
        "install one (on Debian and Ubuntu: apt-get install libopenblas-dev), or set THEANO_FLAGS=blas__ldflags=...",
        stacklevel=2,
    )
    return ""


def _system_openblas() -> str:
    return _system_library("openblas")


def _system_library(name: str) -> str:
    """``-lname`` if the linker finds it."""
    compiler = shutil.which("g++")
    if compiler is None:
        return ""
    file = f"lib{name}.{'dylib' if sys.platform == 'darwin' else 'so'}"
    # g++ answers with the whole path of a library that it finds, and with the bare name otherwise.
    done = subprocess.run([compiler, f"-print-file-name={file}"], capture_output=True, text=True, check=False)
    return f"-l{name}" if os.path.isabs(done.stdout.strip()) else ""


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

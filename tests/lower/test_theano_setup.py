"""What Theano needs before it is used, and what takes a process of its own: imports in any order, a compiler, BLAS, the folder of
what is compiled, the line on a terminal, fork, memory. Collected where Theano is installed, see conftest.py.
"""

from __future__ import annotations

import importlib.util
import os
import pty
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kgraph.errors import EngineError
from kgraph.lower.theano import progress, shims
from tests.process import ROOT, run_python

USE = """
import numpy as np
from kgraph import backend as K

def use():
    x, v = K.placeholder((None, 3)), K.variable(np.ones((3, 2)))
    f = K.function([x], K.tanh(K.dot(x, v)), [(v, v * 2.0)], engine="theano")
    for scale in (1, 2):
        np.testing.assert_allclose(f(np.ones((2, 3))), np.tanh(np.full((2, 2), 3 * scale)), rtol=1e-6)
    assert (K.get_value(v) == 4).all()

use()
"""

# ---------------------------------------------------------------------------------------------------- imports

ALIASES = """
import builtins
import numpy as np
for name in ("bool", "int", "float", "complex", "object", "str"):
    if name not in vars(np):
        setattr(np, name, getattr(builtins, name))
"""

#: Libraries beside us, and a use of each. `pandas` and `tensorflow` take part where they are installed.
BESIDE = {
    "theano": """
import numpy as np, theano, theano.tensor as T
x = T.fvector()
assert theano.function([x], x * 2 + 1)(np.ones(3, "float32")).tolist() == [3, 3, 3]
""",
    "tensorflow": """
import tensorflow as tf
assert float(tf.reduce_sum(tf.constant([1.0, 2.0]) * 2)) == 6
""",
    "pandas": """
import pandas as pd
table = pd.DataFrame({"a": [1, 1, 2], "b": [1.0, 2.0, 3.0], "c": [True, False, True], "d": ["x", "y", "z"]})
assert table.groupby("a").b.sum().tolist() == [3, 3]
assert table.describe(include="all").shape[1] == 4
""",
}
INSTALLED = "".join([text for name, text in BESIDE.items() if importlib.util.find_spec(name) is not None])


def test_theano_is_imported_when_it_is_first_needed_and_not_before() -> None:
    run_python(
        """
import sys
import numpy as np
from kgraph import backend as K
x, v = K.placeholder((3,)), K.variable(np.ones(3))
f = K.function([x], K.gradients(K.sum(x * v), [v]), engine="numpy")
f([np.ones(3)])
assert not [name for name in sys.modules if "theano" in name], sys.modules
assert "bool" not in vars(np) or np.__version__ >= "2"
K.function([x], x * v, engine="theano")
assert "theano" in sys.modules
"""
    )


@pytest.mark.parametrize(
    "order", ["others after", "others before", "a failed import of theano before"], ids=lambda order: order.replace(" ", "-")
)
def test_theano_works_beside_other_libraries_whichever_is_imported_first(order: str) -> None:
    program = {
        "others after": USE + INSTALLED + "use()\n",
        # Theano by itself can be imported on this NumPy by one who knows what it lacks.
        "others before": ALIASES + INSTALLED + "import warnings; warnings.simplefilter('ignore')\n" + USE + INSTALLED,
        "a failed import of theano before": "try: import theano\nexcept AttributeError: pass\nelse: 1 / 0\n" + USE,
    }[order]
    # Theano by itself would compile its own part once more, in a folder of its own; and it would look for BLAS with a part of
    # NumPy that new versions of setuptools break.
    flags = f"base_compiledir={shims.compile_folder()},blas__ldflags="
    folder = {"THEANO_FLAGS": flags} if order == "others before" else {}
    run_python(program, **folder)


def test_one_who_imported_theano_first_is_told_what_cannot_be_changed() -> None:
    late = types.SimpleNamespace(blas__ldflags="", gcc__cxxflags="-O2", compiledir="/some/folder")
    wanted = {"blas__ldflags": lambda: "-lblas", "gcc__cxxflags": lambda: "-g0", "base_compiledir": lambda: "elsewhere"}
    with pytest.warns(UserWarning, match="theano was imported before .* stays in /some/folder and not in") as caught:
        shims._set_late(types.SimpleNamespace(config=late), wanted)
    assert (late.blas__ldflags, late.gcc__cxxflags) == ("-lblas", "-O2")
    assert str(caught[0].message).count("\n") == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one who chose the folder knows where it is
        shims._set_late(types.SimpleNamespace(config=late), {})


# ---------------------------------------------------------------------------------------------------- what is missing


def test_without_a_compiler_the_message_names_the_package(tmp_path: Path) -> None:
    program = """
import numpy as np
from kgraph import backend as K
x = K.placeholder((3,))
try:
    K.function([x], x * 2, engine="theano")
except Exception as error:
    print(type(error).__name__, error)
assert K.function([x], x * 2, engine="numpy")(np.ones(3)).tolist() == [2, 2, 2]
"""
    said = run_python(program, PATH=str(tmp_path), THEANO_FLAGS="").splitlines()
    assert said[0] == "EngineError function: Theano compiles with g++, which is not installed"
    assert said[-1] == (
        "  hint: on Debian and Ubuntu: apt-get install g++; or set THEANO_FLAGS=cxx= to run without, many times as slow"
    )


def test_who_asks_for_no_compiler_gets_theanos_python_code(tmp_path: Path) -> None:
    run_python(USE, PATH=str(tmp_path), THEANO_FLAGS="cxx=")


def test_without_pythons_headers_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(EngineError, match=r"header Python.h is not in (.|\n)*apt-get install python3\.\d+-dev"):
        shims._check_compiler({})
    shims._check_compiler({"cxx": ""})


def test_numpy_2_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.4.1")
    with pytest.raises(EngineError, match=r"cannot run on NumPy 2\.4\.1(.|\n)*hint: python -m pip install 'numpy<2'"):
        shims.load()


@pytest.mark.parametrize(
    ("version", "error", "message"),
    [
        ((3, 11, 9), ModuleNotFoundError, "No module named 'theano'"),  # the engine table says what to install
        ((3, 12, 1), EngineError, r"cannot be installed on Python (.|\n)*hint: make an environment with Python 3\.11"),
    ],
)
def test_where_theano_is_not_installed(
    version: Any, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(error, match=message):
        shims._check_installed()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"cannot keep what it compiles in .*file/theano: (.|\n)*hint: set XDG_CACHE_HOME"):
        shims._made(tmp_path / "file" / "theano")


def test_without_blas_a_warning_says_how_much_slower_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shims, "_system_openblas", lambda: "")
    monkeypatch.setattr(shims, "_scipy_openblas", lambda: "")
    with pytest.warns(UserWarning, match=r"found no BLAS .* 2\.5 times as long.*apt-get install libopenblas-dev") as caught:
        assert shims.blas_flags() == ""
    assert len(caught) == 1


def test_the_systems_openblas_comes_before_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shims, "_scipy_openblas", lambda: "-l:scipys")
    for answer, flags in (("/usr/lib/libopenblas.so\n", "-lopenblas"), ("libopenblas.so\n", "-l:scipys")):
        monkeypatch.setattr(subprocess, "run", lambda *a, answer=answer, **k: types.SimpleNamespace(stdout=answer))
        assert shims.blas_flags() == flags


# ---------------------------------------------------------------------------------------------------- settings of the user


def test_what_the_user_has_set_is_left_to_theano(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rc = tmp_path / "theanorc"
    rc.write_text("[global]\nfloatX = float32\n[blas]\nldflags = -lmkl_rt\n")
    monkeypatch.setenv("THEANORC", str(rc))
    monkeypatch.setenv("THEANO_FLAGS", 'device=cpu, gcc.cxxflags="-O1,-g" ,compiledir=/x')
    flags = shims.flags_of_user()
    assert flags == {
        "floatx": "float32", "blas__ldflags": "-lmkl_rt", "device": "cpu", "gcc__cxxflags": "-O1,-g", "compiledir": "/x",
    }  # fmt: skip
    assert shims._wanted(flags) == {}
    assert set(shims._wanted({})) == {"blas__ldflags", "gcc__cxxflags", "base_compiledir"}


@pytest.mark.parametrize("before", [None, "", "floatX=float32"])
def test_the_environment_is_as_it_was_once_theano_is_imported(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THEANO_FLAGS", raising=False)
    if before is not None:
        monkeypatch.setenv("THEANO_FLAGS", before)
    with shims._environment({"blas__ldflags": lambda: "-Wl,-x -ly"}):
        assert os.environ["THEANO_FLAGS"] == 'blas__ldflags="-Wl,-x -ly"' + (f",{before}" if before else "")
    assert os.environ.get("THEANO_FLAGS") == before


# ---------------------------------------------------------------------------------------------------- compiling, from nothing

FROM_NOTHING = textwrap.dedent(
    """
    import importlib.util, sys, warnings
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *package: None if name == "scipy" else find(name, *package)  # nor its BLAS
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from kgraph.lower.theano import progress
    print([str(w.message)[:33] for w in caught if w.category is UserWarning])
    progress.FIRST = progress.PAUSE = 0.02
    """
)


#: Of the terminal: less than the line is long.
COLUMNS = 64


def run_on_a_terminal(program: str, env: dict[str, str]) -> tuple[str, str]:
    """What a program prints, and what it writes to stderr, a terminal."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    written: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # nobody has the other end any more
                return
            written.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=ROOT, text=True, check=False)
    os.close(theirs)
    reader.join()
    os.close(ours)
    shown = b"".join(written).decode()
    assert not done.returncode, shown
    return done.stdout, shown


class Run:
    """A process with a folder for what is compiled, a terminal, a compiler that keeps a record, and no BLAS but NumPy's.

    Attributes:
      compiled: how often it ran the compiler.
      printed: what it printed.
      lines: what was seen on the terminal, one after the other in the same place.
    """

    def __init__(self, folder: Path):
        record = folder / "record"
        record.write_text("")
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(folder), "KERAS_HOME": str(folder), "KGRAPH_BACKEND": "numpy"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
        env.pop("THEANO_FLAGS", None)
        self.printed, shown = run_on_a_terminal(FROM_NOTHING + USE, env)
        greeting, _, shown = shown.partition("\n")
        assert greeting.strip() == "Using NumPy backend."
        self.lines = shown.split("\r\x1b[K")
        self.compiled = record.read_text().count("compiled")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    """The same program in two processes, one after the other; for the first one nothing has ever been compiled."""
    folder = tmp_path_factory.mktemp("theano")
    compiler = folder / "g++"
    compiler.write_text(
        f"""#!/bin/sh
case "$*" in
*-print-file-name=*) echo "${{1#*=}}"; exit ;;  # no library is found
*" -o "*) echo compiled >> {folder}/record ;;
esac
exec {shutil.which("g++")} "$@"
"""
    )
    compiler.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEANORC", str(folder / "none"))
        yield [Run(folder) for _ in range(2)]
    shutil.rmtree(folder)  # tens of megabytes


def test_what_was_compiled_stays_for_the_next_process(runs: list[Run]) -> None:
    first, second = (run.compiled for run in runs)
    assert first >= 4  # the loop, the product, the update, the headers of all of them
    assert second == 0


def test_on_a_terminal_a_line_says_what_takes_so_long_and_is_gone_afterwards(runs: list[Run]) -> None:
    before, *lines, after = runs[0].lines
    assert (before, after) == ("", "")
    assert all(line.startswith("Theano compiles ") for line in lines)
    assert re.match(r"Theano compiles \d+ nodes: \d+ s, [1-9]\d* new operations, kept", lines[-1])
    assert max(map(len, lines)) == COLUMNS - 1  # a longer one would begin another line on the terminal


def test_nothing_is_written_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "PAUSE", 0.001)
    before = threading.active_count()
    with progress.reported(10):
        assert threading.active_count() == before
    monkeypatch.setattr(sys, "stderr", None)
    with progress.reported(10):
        assert threading.active_count() == before
    assert capfd.readouterr().err == ""


def test_without_any_blas_it_works_after_one_warning(runs: list[Run]) -> None:
    for run in runs:
        assert run.printed == "['Theano found no BLAS to link with']\n"


# ---------------------------------------------------------------------------------------------------- fork

FORK = """
import os, signal, sys, threading
import numpy as np
from kgraph import backend as K

def make(message=None):
    x, v = K.placeholder((3,)), K.variable(np.ones(3))
    y = x * v if message is None else K.print_tensor(x * 2.0, message)
    return v, K.function([x], y, [] if message else [(v, v * 1.0)], engine="theano")

(v, f), (_, shown) = make(), make("shown")
value = np.arange(3.0)
f(value)
shown(value)

from kgraph.lower.theano import program

entered, go_on, go_on_compiling = threading.Barrier(3), threading.Event(), threading.Event()

class Halting:
    # Stands for sys.stdout: who writes is within a call.
    def write(self, text):
        if text.strip() and threading.current_thread() is caller:
            entered.wait()
            go_on.wait()
    flush = lambda self: None

def halting(*args, **kwargs):
    entered.wait()
    go_on_compiling.wait()
    return compile_(*args, **kwargs)

results = []
caller = threading.Thread(target=lambda: results.append(shown(value)))
compiler = threading.Thread(target=lambda: results.append(made(value)))
made, compile_ = make()[1], program.orig_function
program.orig_function, sys.stdout = halting, Halting()
caller.start()
compiler.start()
entered.wait()  # one thread is in a call, one compiles
program.orig_function = compile_
os.register_at_fork(before=go_on_compiling.set)  # before ours, which waits until nothing is compiled
child = os.fork()
if not child:
    signal.alarm(100)
    K.set_value(v, 2 * np.ones(3))
    right = (f(value) == 2 * value).all() and (shown(value) == 2 * value).all() and (make()[1](value) == value).all()
    os._exit(0 if right else 1)
go_on.set()
caller.join()
compiler.join()
sys.stdout = sys.__stdout__
assert sorted(r.tolist() for r in results) == [[0, 1, 2], [0, 2, 4]]
assert (f(value) == value).all()  # what a child sets is its own
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_process_forked_while_threads_call_and_compile_calls_and_compiles_itself() -> None:
    assert run_python(FORK).split()[-1] == "0"


# ---------------------------------------------------------------------------------------------------- memory

MEMORY = """
import itertools, os
import numpy as np
from kgraph import backend as K

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

OPS = [K.tanh, K.sigmoid, lambda y: y * y, lambda y: y + 1.0, lambda y: K.transpose(K.tanh(y))]

def one(ops):
    x, w = K.placeholder((8, 8)), K.variable(np.ones((8, 8)) / 8)
    y = x
    for op in ops:
        y = op(K.dot(y, w))
    loss = K.sum(y)
    K.function([x], loss, [(w, w - 0.1 * K.gradients(loss, [w])[0])], engine="theano")([np.ones((8, 8))])

programs = list(itertools.product(OPS, repeat=3))[:100]
for number, ops in enumerate(programs):
    if number == len(programs) // 2:
        half = resident()
    one(ops)
print((resident() - half) / 1e6)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident memory is read from Linux's /proc")
def test_a_hundred_functions_made_and_dropped_grow_by_less_than_20_megabytes_in_the_last_half() -> None:
    assert float(run_python(MEMORY)) < 20

"""Running Python programs in processes of their own, with the default settings."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_python(program: str, *args: str, **env: str) -> str:
    """What a program prints. Raises AssertionError, with what it wrote to stderr, if it fails."""
    with tempfile.TemporaryDirectory(prefix="kgraph-tests-") as home:  # Keras, which tensorflow brings along, writes there
        settings = {"KGRAPH_BACKEND": "numpy", "KERAS_HOME": home, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        # Theano reads through all that it has ever compiled when it begins: that of the tests themselves takes it ten seconds.
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        settings["XDG_CACHE_HOME"] = os.path.join(cache, "kgraph-tests-processes")
        done = subprocess.run(
            [sys.executable, "-c", program, *args], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **settings, **env},
        )  # fmt: skip
    assert not done.returncode, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout

"""What is known of NumPy and of the machine that it runs on."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def facts() -> dict[str, Any]:
    """What `Engine.facts` gives for NumPy."""
    built: Any = np.show_config(mode="dicts")  # type: ignore[call-overload, unused-ignore]
    blas = built.get("Build Dependencies", {}).get("blas", {})
    library = " ".join(filter(None, [blas.get("name"), blas.get("version")]))
    return {"version": np.__version__, "devices": [f"cpu, {os.cpu_count()} cores"], "blas": library or "none"}

"""floatx, epsilon, image_dim_ordering and the engine: the settings of the Keras backend page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Settings:
    """What holds now, for the whole process."""

    floatx: str = "float32"
    epsilon: float = 10e-8
    image_dim_ordering: str = "th"
    engine: str = "numpy"


settings = Settings()


@contextmanager
def changed(**values: Any) -> Iterator[Settings]:
    """Other settings inside the block: ``with changed(floatx="float64"): ...``. Raises TypeError for a name that is none."""
    names = {field.name for field in fields(Settings)}
    if unknown := sorted(set(values) - names):
        raise TypeError(f"there is no setting {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    before = {name: getattr(settings, name) for name in values}
    try:
        for name, value in values.items():
            setattr(settings, name, value)
        yield settings
    finally:
        for name, value in before.items():
            setattr(settings, name, value)

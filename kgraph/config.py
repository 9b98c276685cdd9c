"""floatx, epsilon, image_dim_ordering and the engine: the settings of the Keras backend page, as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from kgraph.errors import ConfigError
from kgraph.settings_file import Settings, load


class _Unread(Settings):
    """What there is where the file cannot be read: who asks for a setting is told why; ``import kgraph`` goes on, so that the
    command can mend the file."""

    def __init__(self, error: ConfigError):
        self.__dict__["error"] = error

    def __getattribute__(self, name: str) -> Any:
        if name in Settings.__dataclass_fields__ and name not in self.__dict__:
            raise self.error
        return super().__getattribute__(name)


def _read() -> Settings:
    try:
        return load()
    except ConfigError as error:
        return _Unread(error.with_traceback(None))


settings = _read()


@contextmanager
def changed(**values: Any) -> Iterator[Settings]:
    """Other settings inside the block: ``with changed(floatx="float64"): ...``. Raises TypeError for a name that is none."""
    names = {f.name for f in fields(Settings)}
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

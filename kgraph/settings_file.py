"""The settings file: reading, checking and writing it.

It is ``keras.json`` in ``$KERAS_HOME`` or ``~/.keras``; ``KGRAPH_BACKEND``, then ``KERAS_BACKEND``, name another engine. The
file belongs to Keras too: it is written only when that is asked for (`save`, ``kgraph config``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgraph.atomic import write_file
from kgraph.errors import ConfigError

FLOATX = ("float16", "float32", "float64")
ORDERINGS = ("th", "tf")
DEFAULT_ENGINE = "numpy"


@dataclass
class Settings:
    """What holds now, for the whole process.

    Attributes:
      sources: setting -> where its value comes from, for those that are not the default.
    """

    floatx: str = "float32"
    epsilon: float = 10e-8
    image_dim_ordering: str = "th"
    engine: str = DEFAULT_ENGINE
    sources: dict[str, str] = field(default_factory=dict)


def _one_of(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in allowed), " or ".join(repr(a) for a in allowed)


def _is_epsilon(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


#: Field of the file -> setting, what the value has to be, how that is said, and the value here of a value there.
_FIELDS: dict[str, tuple[str, Callable[[Any], bool], str, Mapping[Any, Any]]] = {
    "floatx": ("floatx", *_one_of(*FLOATX), {}),
    "epsilon": ("epsilon", _is_epsilon, "a number from 0 up to 1", {}),
    "backend": ("engine", lambda value: isinstance(value, str) and value != "", "the name of an engine", {}),
    "image_dim_ordering": ("image_dim_ordering", *_one_of(*ORDERINGS), {}),
    # What Keras 2 and 3 write instead. Their other fields mean nothing here and are passed over.
    "image_data_format": (
        "image_dim_ordering", *_one_of("channels_first", "channels_last"), {"channels_first": "th", "channels_last": "tf"},
    ),
}  # fmt: skip

#: What a field may be called on the command line, in the order in which they are shown.
NAMES = ("backend", "floatx", "epsilon", "image_dim_ordering")


def path() -> Path:
    """The file of the settings; it need not exist."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"


def read_file(file: Path) -> dict[str, Any]:
    """The fields of a settings file; none if there is no file. Raises ConfigError for a file that is no JSON object."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise ConfigError(f"{file} is no JSON: {error}", hint="mend it, or remove it") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds a {type(found).__name__}, not an object with fields", hint='{"backend": "numpy"}')
    return found


def check(name: str, value: Any, where: str) -> tuple[str, Any]:
    """The setting and the value that a field stands for. Raises ConfigError naming where, field, value and what is allowed."""
    setting, fits, allowed, meaning = _FIELDS[name]
    if not _fits(fits, value):
        raise ConfigError(f"{where}: {name} is {value!r}; it has to be {allowed}")
    return setting, meaning.get(value, value)


def _fits(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return fits(value)
    except TypeError:  # a list, say, which cannot be looked up
        return False


def load() -> Settings:
    """The settings of the file and the environment. Raises ConfigError."""
    settings, file = Settings(), path()
    # image_dim_ordering comes after image_data_format, and so wins where a file has both.
    for name, value in sorted(read_file(file).items()):
        if name in _FIELDS:
            setting, meant = check(name, value, str(file))
            setattr(settings, setting, float(meant) if setting == "epsilon" else meant)
            settings.sources[setting] = str(file)
    for variable in ("KERAS_BACKEND", "KGRAPH_BACKEND"):
        if os.environ.get(variable):
            settings.engine, settings.sources["engine"] = os.environ[variable], variable
    return settings


def save(values: Mapping[str, Any], file: Path | None = None) -> Path:
    """Write fields into the settings file, beside those that are there. Raises ConfigError, and then writes nothing."""
    file = path() if file is None else file
    found = read_file(file)
    for name, value in values.items():
        if name not in _FIELDS:
            raise ConfigError(f"there is no setting {name!r}", hint=f"there are {', '.join(NAMES)}")
        check(name, value, "kgraph config")
    found.update(values)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, lambda made: made.write((json.dumps(found, indent=4) + "\n").encode()))
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from None
    return file

"""What is kept on disk from one process to the next: what Theano has compiled, and nothing else.

kgraph has a folder of its own for it, which Theano is told to use, unless ``THEANO_FLAGS`` or ``.theanorc`` name another one.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import platform
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kgraph.errors import FileError

#: What is deleted of a folder that Theano's folders are in, and of one of those.
_IN_BASE = ("compiledir_*", "headers-*.h", "headers-*.gch")
_IN_COMPILED = ("tmp*", "*_ext", "lock_dir", ".lock", "__init__.py")


def compile_folder() -> Path:
    """Where what Theano compiles stays for the next process: a folder of the user's, one for each sort of processor."""
    # Code for this processor would not run on another one that has the same home folder.
    sort = hashlib.blake2b(_processor().encode(), digest_size=4).hexdigest()
    return _own_folder() / f"{platform.machine()}-{sort}"


def _own_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(os.path.expanduser(cache)) / "kgraph" / "theano"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def flags_of_user() -> dict[str, str]:
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


# ---------------------------------------------------------------------------------------------------- what is there


@dataclass(frozen=True)
class Store:
    """A folder with what Theano has compiled.

    Attributes:
      folder: it need not exist.
      whose: "kgraph", or who has set that it is there.
      bytes: of the files that `clear` deletes.
      operations: how many are compiled.
      entries: files and folders that `clear` deletes.
    """

    folder: Path
    whose: str
    bytes: int
    operations: int
    entries: tuple[Path, ...]


def stores() -> list[Store]:
    """The folders that there may be: those of kgraph first, the one that is in use among them."""
    here = compile_folder()
    others = sorted(each for each in _own_folder().glob("*") if each.is_dir() and each != here)
    found = [_store(folder, "kgraph", _IN_BASE) for folder in (here, *others)]
    flags = flags_of_user()
    wanted: list[tuple[str, str, tuple[str, ...]]] = []
    wanted += [(flags["base_compiledir"], "THEANO_FLAGS or .theanorc", _IN_BASE)] if "base_compiledir" in flags else []
    wanted += [(flags["compiledir"], "THEANO_FLAGS or .theanorc", _IN_COMPILED)] if "compiledir" in flags else []
    wanted.append((os.path.join("~", ".theano"), "Theano without kgraph", _IN_BASE))
    for text, whose, patterns in wanted:
        folder = Path(os.path.expanduser(text))
        if folder.is_dir() and all(folder.resolve() != each.folder.resolve() for each in found):
            found.append(_store(folder, whose, patterns))
    return found


def clear(store: Store, step: Callable[[Path], object] = lambda path: None) -> None:
    """Delete what Theano has compiled into a folder. What else is there stays. Raises FileError for what cannot be deleted.

    Args:
      step: called before each file or folder.
    """
    for entry in store.entries:
        step(entry)
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{error.filename or entry} cannot be deleted: {error.strerror or error}") from None


def _store(folder: Path, whose: str, patterns: tuple[str, ...]) -> Store:
    entries = tuple(sorted(entry for pattern in patterns for entry in folder.glob(pattern)))
    sizes = [size for entry in entries for _, size in _files(entry)]
    keys = [path for entry in entries for path, _ in _files(entry) if path.name == "key.pkl"]
    return Store(folder, whose, sum(sizes), len(keys), entries)


def _files(entry: Path) -> Iterator[tuple[Path, int]]:
    """The files of a folder, or a file itself, with their sizes; links are not followed."""
    if not entry.is_dir() or entry.is_symlink():
        yield entry, entry.lstat().st_size
        return
    for folder, _, files in os.walk(entry):
        for file in files:
            path = Path(folder, file)
            with suppress(OSError):  # another process has just deleted it
                yield path, path.lstat().st_size

"""Writing a file so that a reader sees the old one or the new one, whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_file(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside the one of that name, and rename it when it is on disk. If that fails, nothing has changed.

    Args:
      file: a link is followed; a file that is there keeps its permissions.
      write: is given the new file.
    Raises: OSError, and whatever write raises.
    """
    target = Path(os.path.realpath(file))
    made = target.parent / f".kgraph-{secrets.token_hex(8)}"
    try:
        # As `open` makes one, so that the permissions are those that the user's umask asks for; it must not be there.
        with open(made, "xb") as stream:
            if target.exists():
                os.chmod(made, target.stat().st_mode & 0o777)
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(made, target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise

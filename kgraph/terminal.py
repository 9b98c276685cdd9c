"""Text with colours, for terminals; the same without, for everything else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

#: A piece of a line, and its style in rich's words ("" for none).
Piece = tuple[str, str]
Line = Sequence[Piece]

#: Whether a bar is shown on standard error, so that nobody else writes a line of that sort there.
taken = False


def plain(lines: Iterable[Line]) -> str:
    """The text without colours. What a terminal might take for a command, in a name, is escaped."""
    return "\n".join("".join(clean(text) for text, _ in line).rstrip() for line in lines)


def clean(text: str) -> str:
    """The text with whatever does not print escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def is_coloured(file: Any) -> bool:
    """Whether a file is a terminal whose user wants colours (see no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):  # no file of Python's own, or a closed one
        return False


def width_of(file: Any) -> int | None:
    """The columns of a terminal; None for anything else, where lines are as long as they are."""
    try:
        return os.get_terminal_size(file.fileno()).columns if file.isatty() else None
    except (AttributeError, ValueError, OSError):
        return None


def write(lines: Sequence[Line], file: Any = None) -> None:
    """Print lines: coloured if it is to a terminal."""
    file = sys.stdout if file is None else file
    if not is_coloured(file):
        text = plain(lines)
        encoding = getattr(file, "encoding", None) or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=file)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False, soft_wrap=True, color_system="auto")
    for line in lines:
        text_ = Text()
        for piece, style in line:
            text_.append(clean(piece), style)
        text_.rstrip()
        console.print(text_)

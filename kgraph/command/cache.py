"""``kgraph cache``: what is kept on disk, and deleting it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kgraph import disk
from kgraph.command.parts import Answer, Command, argument, working, wrong
from kgraph.ir.text import aligned


def _cache(asked: argparse.Namespace) -> Answer:
    """Shows what is kept on disk for the next process: the operations that Theano has compiled. With clear, deletes it.
    What Theano keeps in folders that are not kgraph's own is deleted only with --yes. Nothing is lost but the time to
    compile; a program that is running now may fail.
    """
    with working("reading the caches"):
        stores = disk.stores()
    if asked.action == "show":
        if asked.yes:
            raise wrong("--yes is for kgraph cache clear")
        return Answer(lambda: _text(stores), lambda: {"caches": [_data(each) for each in stores]})
    chosen = [each for each in stores if each.entries and (asked.yes or each.whose == "kgraph")]
    kept = [each for each in stores if each.entries and each not in chosen]
    with working("deleting", sum(len(each.entries) for each in chosen)) as step:

        def show(entry: Path) -> None:
            step(entry.name)

        for each in chosen:
            disk.clear(each, show)

    def text() -> str:
        lines = [f"deleted {_size(each.bytes)}, {each.operations:,} operations: {each.folder}" for each in chosen]
        for each in kept:
            hint = "--yes deletes what is compiled there too"
            lines.append(f"kept    {_size(each.bytes)}: {each.folder} is of {each.whose}; {hint}")
        return "\n".join(lines or ["there is nothing to delete"])

    return Answer(text, lambda: {"deleted": [_data(each) for each in chosen], "kept": [_data(each) for each in kept]})


def _text(stores: list[disk.Store]) -> str:
    rows = [("folder", "of", "size", "compiled operations")]
    for each in stores:
        size = _size(each.bytes) if each.entries else "empty"
        rows.append((str(each.folder), each.whose, size, f"{each.operations:,}" if each.entries else ""))
    return f"{aligned(rows)}\n\nThese are operations of Theano, compiled to C. Programs of other engines are not kept on disk."


def _data(store: disk.Store) -> dict[str, Any]:
    return {
        "folder": str(store.folder), "of": store.whose, "bytes": store.bytes, "operations": store.operations,
    }  # fmt: skip


def _size(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        count /= 1000  # type: ignore[assignment]
    return f"{count:,.3g} GB"


COMMANDS = (
    Command(
        "cache", "show or clear what is kept on disk",
        ("kgraph cache", "kgraph cache clear", "kgraph cache clear --yes"),
        (
            argument("action", nargs="?", choices=("show", "clear"), default="show", help="show is meant if it is left out"),
            argument("--yes", action="store_true", help="clear those of THEANO_FLAGS too, and ~/.theano"),
        ),
        _cache,
    ),
)  # fmt: skip

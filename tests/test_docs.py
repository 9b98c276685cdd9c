"""The examples of README.md and docs/ print what the pages say. ``python tests/test_docs.py`` writes it into the pages.

Each block of ``python`` of a page is run, in order, in one namespace. What it prints is in the block of ``text`` below it; if
it raises, so is the error. One that begins with ``# name.py`` is a file of that name too. A block of ``sh`` with a block of
``text`` below it is run in the folder of these files: lines that begin with ``kgraph``. Blocks of any other sort are left alone
(``py`` is Python that is not run).
"""

from __future__ import annotations

import contextlib
import gc
import io
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kgraph import backend as K
from kgraph import errors
from kgraph.command import main
from kgraph.errors import KGraphError
from kgraph.lower.engine import engine_names, unregister

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(
    r"^```(?P<kind>python|sh(?=\n[^`]*^```\n\n```text))\n(?P<code>.*?)^```\n(\n```text\n(?P<text>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def printed(code: str, names: dict[str, Any]) -> str:
    """What an example prints, the error included if it is one of kgraph's own."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(code, "example.py", "exec"), names)
        except KGraphError as error:
            print(f"{type(error).__name__}: {error}")
    return re.sub("engines that have it: .*", "engines that have it: numpy", out.getvalue())  # those that are loaded by now


def commanded(code: str) -> str:
    """What commands print in a shell, messages included."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        for line in code.splitlines():
            name, *arguments = shlex.split(line)
            assert name == "kgraph"
            main(arguments)
    return out.getvalue()


def run(page: str) -> Iterator[tuple[re.Match[str], str]]:
    """The examples of a page with what they print."""
    K.clear_session()
    gc.collect()  # a constant that another test has left alive has a line of that test
    engines = set(engine_names())
    names: dict[str, Any] = {"__name__": "example"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for example in EXAMPLE.finditer(page):
                if file := re.match(r"# (\w+\.py)\n", example["code"]):
                    Path(folder, file[1]).write_text(example["code"], encoding="utf-8")
                if example["kind"] == "python":
                    yield example, printed(example["code"], names)
                else:
                    with contextlib.chdir(folder):
                        text = commanded(example["code"])
                    yield example, text
    finally:
        for name in set(engine_names()) - engines:
            unregister(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_the_page_says(page: Path) -> None:
    for example, text in run(page.read_text(encoding="utf-8")):
        assert text == (example["text"] or ""), example["code"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = [line.lower() for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    anchors = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_error_has_a_line_in_the_docs() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, KGraphError)}
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert classes - {"KGraphError"} == set(re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE))


def write(page: Path) -> None:
    """Put what the examples print below them."""
    text = page.read_text(encoding="utf-8")
    made, end = [], 0
    for example, out in run(text):
        made += [text[end : example.start()], f"```{example['kind']}\n{example['code']}```\n", f"\n```text\n{out}```\n" if out else ""]
        end = example.end()
    page.write_text("".join(made) + text[end:], encoding="utf-8")


if __name__ == "__main__":
    for one in PAGES:
        write(one)

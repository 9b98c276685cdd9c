"""What the command is asked about: a graph in a file, or one that a user's program has."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import kgraph
from kgraph.arguments import as_graph
from kgraph.command.parts import check_engines, hushed, near, working, wrong
from kgraph.errors import KGraphError
from kgraph.function import Function
from kgraph.ir.node import Graph
from kgraph.ir.operators import Operators
from kgraph.ir.origin import building
from kgraph.ir.tensor import Tensor

_FORMS = "GRAPH is a file of kgraph.save, path/to/file.py:NAME, or module:NAME"
_LINES = 3  # of a user's traceback


def load(text: str, engine: str | None = None) -> Any:
    """The tensor, list of tensors, graph or function that an argument names.

    Args:
      engine: for a function of a file, in the place of its own.
    Raises: ArgumentError, FileError, EngineError.
    """
    if os.path.isfile(text) and not text.endswith(".py"):
        check_engines([] if engine is None else [engine])
        with working(f"loading {text}"), hushed():
            return kgraph.load(text, engine=engine)
    where, _, name = text.rpartition(":") if not text.endswith(".py") else (text, "", "")
    if os.path.isdir(text):
        raise wrong(f"{text!r} is a folder", hint=_FORMS)
    if not where:
        raise wrong(f"there is no file {text!r}", hint=_near_file(text))
    return _from_program(where, name)


def as_function(x: Any, engine: str | None = None) -> Function:
    """The function that computes what `load` has given.

    Raises: GraphError, FeedError for what no function can be made of; EngineError.
    """
    if isinstance(x, Function):
        return x if engine is None else x.changed(engine=engine)
    graph = as_graph(x)
    before = building.origin
    try:
        # The line that messages name is the user's: there is none that calls this.
        building.origin = next((root.origin for root in graph.roots), before)
        updates = [(Tensor(variable), Tensor(value)) for variable, value in graph.updates]
        outputs: Any = [Tensor(node) for node in graph.outputs]
        return Function([Tensor(node) for node in graph.inputs], outputs, updates, engine)
    finally:
        building.origin = before


# ---------------------------------------------------------------------------------------------------- programs


def _from_program(where: str, name: str) -> Any:
    folder = os.path.dirname(os.path.abspath(where)) if where.endswith(".py") else os.getcwd()
    with _as_program(where, folder):
        module = _imported(where)
        found: Any = module
        if not name:
            raise wrong(f"{where} is a program: say which of its names", hint=_listed(where, module))
        for part in name.split("."):
            if not hasattr(found, part):
                known = _fitting(module) if found is module else [each for each in dir(found) if not each.startswith("_")]
                shown = where if found is module else f"{where}:{name.partition(f'.{part}')[0]}"
                raise wrong(f"{shown} has no {part!r}", hint=near(part, known, "its names"))
            found = getattr(found, part)
        if callable(found) and not _is_graph(found):
            found = _called(found, where, name)
    if not _is_graph(found):
        kind = f"of the type {type(found).__name__}"
        if isinstance(found, (list, tuple)):
            odd = next((type(each).__name__ for each in found if not isinstance(each, Operators)), "")
            kind = f"a list that holds something of the type {odd}" if odd else "an empty list"
        message = f"{where}:{name} is {kind}, not a tensor, a list of tensors, a graph or a function"
        raise wrong(message, hint=_listed(where, module))
    return list(found) if isinstance(found, tuple) else found


@contextmanager
def _as_program(where: str, folder: str) -> Iterator[None]:
    """Python as it would be for the user's own program. What it prints goes where messages go: the output is the command's."""
    path, arguments = list(sys.path), sys.argv
    sys.path.insert(0, folder)
    sys.argv = [where]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = path
        sys.argv = arguments


def _imported(where: str) -> ModuleType:
    is_file = where.endswith(".py")
    if is_file and not os.path.isfile(where):
        raise wrong(f"there is no file {where!r}", hint=_near_file(where))
    try:
        if not is_file:
            return importlib.import_module(where)
        name = Path(where).stem
        spec = importlib.util.spec_from_file_location(name, where)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(name, module)  # for what it imports, if that imports it
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else "" if where.strip(".") == where else where
        if not is_file and missing and (where == missing or where.startswith(f"{missing}.")):
            hint = f"{_FORMS}; modules are looked for in the folder that you are in, and among what is installed"
            raise wrong(f"there is no module {missing!r}", hint=hint) from None
        raise _raised(error, where, "imported") from None


def _called(function: Any, where: str, name: str) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError:
        takes = inspect.signature(function)
        raise wrong(f"{where}:{name} takes {takes}, and can be called only without arguments", hint=None) from None
    except ValueError:
        pass  # it has no signature: the call will say what it wants
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise _raised(error, where, f"called as {name}()") from None


def _raised(error: BaseException, where: str, how: str) -> KGraphError:
    """What a user's program has raised: the message, and the lines of the program that lead to it."""
    kind = type(error).__name__
    said = f"{kind}: {error}" if str(error) else kind
    lines = [f"{each.filename}:{each.lineno}  {each.line}" for each in _frames(error.__traceback__)[-_LINES:]]
    if isinstance(error, SyntaxError) and error.filename:
        said, lines = f"{kind}: {error.msg}", [f"{error.filename}:{error.lineno}  {(error.text or '').strip()}"]
    if isinstance(error, SystemExit):
        said = f"it ended itself, by sys.exit({'' if error.code is None else repr(error.code)})"
    found = wrong(f"{where} cannot be {how}: {said.partition(chr(10))[0]}")
    found.operands = [*said.split("\n")[1:], *lines] if not isinstance(error, KGraphError) else _own(error, lines)
    return found


def _own(error: KGraphError, lines: Sequence[str]) -> list[str]:
    """The rest of an error of kgraph, which says its line itself."""
    return [line.removeprefix("  ") for line in str(error).split("\n")[1:]] or list(lines)


def _frames(found: TracebackType | None) -> list[traceback.FrameSummary]:
    """The lines of a traceback that are the user's own, or of what these call elsewhere."""
    inside = os.path.dirname(os.path.abspath(kgraph.__file__)) + os.sep
    frames = traceback.extract_tb(found)
    mine = [each for each in frames if not each.filename.startswith((inside, "<frozen"))]
    mine = [each for each in mine if os.sep + "importlib" + os.sep not in each.filename]
    for each in mine:
        if os.path.abspath(each.filename).startswith(os.getcwd() + os.sep):
            each.filename = os.path.relpath(each.filename)
    return mine


# ---------------------------------------------------------------------------------------------------- names


def _is_graph(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return bool(x) and all(isinstance(each, Operators) for each in x)
    return isinstance(x, (Operators, Graph, Function))


def _fitting(module: ModuleType) -> list[str]:
    """The names of a program that the command can show."""
    found = []
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if _is_graph(value) or (inspect.isfunction(value) and value.__module__ == module.__name__ and _takes_nothing(value)):
            found.append(name)
    return found


def _takes_nothing(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def _listed(where: str, module: ModuleType) -> str | None:
    known = _fitting(module)
    if not known:
        return "it has no tensor, list of tensors, graph or function by a name of its own"
    return f"it has {', '.join(known[:12])}{' ...' if len(known) > 12 else ''}: {where}:{known[-1]}, say"


def _near_file(text: str) -> str:
    folder = Path(text).parent
    try:
        known = [str(each) if folder != Path() else each.name for each in folder.iterdir() if each.is_file()]
    except OSError:
        return f"there is no folder {str(folder)!r}; {_FORMS}"
    close = near(text, known, "", 0.75)
    return close if close and close.startswith("did") else _FORMS

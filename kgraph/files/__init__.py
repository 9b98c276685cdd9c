"""`save` and `load`: a graph and the values of its variables as one safetensors file, which other tools can open too.

The graph is a text of JSON in the metadata of the file: `kgraph.files.encode` has its form. A graph that is loaded is built
anew, over identities of its own, so that it never merges with one that lives.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kgraph.errors import FileError, KGraphError
from kgraph.files.container import DAMAGED, Container, Limits, bad, over, read_json, write_container

if TYPE_CHECKING:
    from kgraph.ir.node import Constant, Graph
    from kgraph.lower.variable import Variable

VERSION = 1
_VERSION, _GRAPH = "kgraph_version", "kgraph_graph"
_LONGEST = 500  # characters of a message, which may name what the file says
_DEEPEST = 32  # lists within lists: an attr of a body takes 9, the rest is for options of a function


def save(path: str | os.PathLike[str], x: Any, variables: bool = True, limits: Limits | None = None) -> None:
    """Write a tensor, a list of tensors, a graph or a function into a file, with the values of variables and constants.

    Args:
      path: a file that is there is replaced, whole or not at all.
      variables: whether the values of variables are written; without, `load` gives them zeros.
      limits: None for those that `load` has; what exceeds them is not written, as it would not be loaded.
    Raises: FileError if the file cannot be written, or x has what no file can have; GraphError if x is none of these, or not
      well-formed; BodyError for a value of a loop's body.
    """
    from kgraph.atomic import write_file
    from kgraph.files.encode import Encoder

    limits = limits or Limits()
    file = _path(path, "save")
    kind, graph, function = _kind(x)
    try:
        encoder = Encoder(variables, limits)
        text = json.dumps(encoder.encoded(kind, graph, function), separators=(",", ":"), allow_nan=False)
        arrays = list(zip(encoder.tensors, _values(list(encoder.tensors.values())), strict=True))
        for what, count, limit, most in (
            ("nodes", encoder.nodes, "nodes", limits.nodes),
            ("tensors", len(arrays), "tensors", limits.tensors),
            ("bytes of tensors", sum(array.nbytes for _, array in arrays), "bytes", limits.bytes),
        ):
            if count > most:
                raise over(what, count, limit, most)
        metadata = {_VERSION: str(VERSION), _GRAPH: text}
        write_file(file, lambda stream: write_container(stream, metadata, arrays, limits))
    except FileError as error:
        raise _of_file(error, "save", file) from None
    except OSError as error:
        raise _no_file(error, "save", file) from None


def load(path: str | os.PathLike[str], engine: str | None = None, limits: Limits | None = None) -> Any:
    """What `save` has written, built anew: a tensor, a list of tensors, a graph or a function, over fresh variables.

    The file need not be trusted: nothing in it is run or imported, and each size is compared with what is there.

    Args:
      engine: for a function, in the place of the one that it was saved with.
      limits: how large a file may be. None for those that any graph of a reasonable size keeps.
    Raises: FileError, with the file, the place in it, and what to do.
    """
    limits = limits or Limits()
    file = _path(path, "load")
    try:
        if not os.path.isfile(file) and os.path.exists(file):
            raise bad("it is no file of bytes on a disk", hint=None)  # opening a pipe may wait for ever
        with open(file, "rb") as stream:
            return _loaded(Container(stream, limits), engine, limits)
    except FileError as error:
        raise _of_file(error, "load", file) from error.__cause__
    except OSError as error:
        raise _no_file(error, "load", file) from None
    except (Exception, RecursionError) as error:  # whatever was not foreseen: a file ends in this one error
        said = error.message if isinstance(error, KGraphError) else f"{type(error).__name__}: {error!s:.200}"
        raise _of_file(bad(f"what it says cannot be built: {said}"), "load", file) from error


def _loaded(container: Container, engine: str | None, limits: Limits) -> Any:
    from kgraph.files.decode import Decoder
    from kgraph.files.functions import build_function
    from kgraph.ir.tensor import Tensor
    from kgraph.ir.verify import verify

    version, text = container.metadata.get(_VERSION), container.metadata.get(_GRAPH)
    if version is None or text is None:
        hint = "kgraph.save writes files that have one; the tensors alone are read by the package safetensors"
        raise bad(f"it has {len(container.tensors)} tensors and no graph", hint=hint)
    if version != str(VERSION):
        hint = f"update kgraph, or save it by the kgraph that loads version {VERSION}"
        raise bad(f"its format is version {version:.20}, and this kgraph knows version {VERSION}", hint=hint)
    found = read_json(text, "the graph", _DEEPEST, "nodes", limits.nodes)
    decoder = Decoder(container, limits)
    kind, graph, state = decoder.decoded(found)
    try:
        verify(graph)
    except KGraphError as error:
        raise bad(f"the graph is not well-formed: {error.message}", "the graph") from error
    if kind == "graph":
        return graph
    if kind == "function":
        return build_function(decoder, graph, state, engine)
    tensors = [Tensor(node) for node in graph.outputs]
    return tensors[0] if kind == "tensor" else tensors


def _kind(x: Any) -> tuple[str, Graph, Any]:
    """What x is, its graph, and the function if it is one."""
    from kgraph.arguments import as_outputs
    from kgraph.function import Function
    from kgraph.ir.body import check_no_strays
    from kgraph.ir.node import Graph
    from kgraph.ir.operators import Operators
    from kgraph.ir.origin import here
    from kgraph.ir.traverse import toposort
    from kgraph.ir.verify import verify

    if isinstance(x, Function):
        return "function", x.graph, x
    if isinstance(x, Graph):
        verify(x)  # or `load` would refuse it
        kind, graph = "graph", x
    else:
        kind = "tensor" if isinstance(x, Operators) else "list"
        graph = Graph([], as_outputs([x] if kind == "tensor" else x, here(2)))
    check_no_strays(toposort(graph.roots), "save")
    return kind, graph, None


def _values(holders: Sequence[Variable | Constant]) -> list[np.ndarray[Any, Any]]:
    """The values of variables, all of one moment, and of constants."""
    from kgraph.call import holding
    from kgraph.lower.variable import Variable, locks_of

    variables = [holder for holder in holders if isinstance(holder, Variable)]

    def read() -> list[np.ndarray[Any, Any]]:
        return [holder.get() if isinstance(holder, Variable) else holder.array for holder in holders]

    for _ in range(20):  # a call of a function holds the locks of what it writes, and counts each write
        before = [variable.version for variable in variables]
        values = read()
        if [variable.version for variable in variables] == before:
            return values
    return holding(locks_of(variables), read)


# ---------------------------------------------------------------------------------------------------- errors


def _path(path: Any, call: str) -> Path:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or "\0" in text:
        raise bad(f"the path is {path!r:.60}, not a text or a Path that names a file", hint=None).at(call)
    return Path(text)


def _of_file(error: FileError, call: str, file: Path) -> FileError:
    place = str(file) if error.place is None else f"{file}, {error.place}"
    error.place, error.call = place, call
    if len(error.message) > _LONGEST:
        error.message = error.message[: _LONGEST - 3] + "..."
    if call == "save" and error.hint == DAMAGED:
        error.hint = None
    return error


def _no_file(error: OSError, call: str, file: Path) -> FileError:
    verb = "written" if call == "save" else "read"
    hint = None
    if isinstance(error, FileNotFoundError):
        hint = (
            f"make the folder {file.parent} first" if call == "save" else "look at the path; it goes from the folder you are in"
        )
    return _of_file(bad(f"the file cannot be {verb}: {error.strerror or error}", hint=hint), call, file)


__all__ = ["Limits", "load", "save"]

"""The safetensors container: a header of JSON, then the bytes of tensors, end to end. Nothing here knows of graphs.

It is read as what a stranger has sent: each size is compared with what the file really holds before memory is taken for it, and
JSON is looked over for how deep and how wide it is before it is made into objects.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from kgraph.errors import FileError
from kgraph.ir.types import DTYPES, numpy_dtype

DTYPE_OF = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
CODE_OF = {dtype: code for code, dtype in DTYPE_OF.items()}
assert set(CODE_OF) == set(DTYPES)

METADATA = "__metadata__"
MOST_AXES = 64  # of NumPy, too
_LITTLE = sys.byteorder == "little"
DAMAGED = "the file is damaged, or kgraph.save has not written it; save it again, or take another copy"


@dataclass(frozen=True)
class Limits:
    """How much `load` takes from a file. A file that has more is refused before memory is taken for it.

    Attributes:
      header: bytes of JSON.
      nodes: of the graph with the bodies of its loops and branches, each as often as it is used.
      depth: of bodies within bodies.
      tensors: how many.
      bytes: of all tensors.
      text: characters of a name, a message, a path.
    """

    header: int = 100_000_000
    nodes: int = 5_000_000
    depth: int = 64
    tensors: int = 1_000_000
    bytes: int = 2**36
    text: int = 10_000


def bad(message: str, place: str | None = None, hint: str | None = DAMAGED) -> FileError:
    """The error for what a file says; `load` adds which file it is."""
    error = FileError(message, hint=hint)
    error.at(place=place)
    return error


def over(what: str, count: int, limit: str, most: int, place: str | None = None) -> FileError:
    """The error for more than a limit allows."""
    hint = f"if you trust it, give limits=kgraph.Limits({limit}={count})"
    return bad(f"{what}: {count:,}, and the limit is {most:,}", place, hint)


# ---------------------------------------------------------------------------------------------------- JSON

#: A text, or a bracket outside of texts. Possessive: a text of many escapes takes no memory to go back.
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[\]}]', re.DOTALL)


def read_json(text: str, place: str, depth: int, limit: str, most: int) -> Any:
    """The value of a JSON text, which has no fractions, no key twice, and is no deeper and wider than it may be.

    Args:
      limit: which of the limits says how many things it is about.
      most: how many that are.
    Raises: FileError.
    """
    nested, left = 0, 10_000 + 4 * most
    for found in _BRACKETS.finditer(text):
        letter = text[found.start()]
        if letter in "[{":
            nested, left = nested + 1, left - 1
            if nested > depth:
                raise bad(f"lists within lists, deeper than {depth}", place)
            if left < 0:
                raise over("lists and objects", text.count("[") + text.count("{"), limit, 10_000 + 4 * most, place)
        elif letter != '"':
            nested -= 1
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise bad(f"no JSON that belongs here: {error}", place) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for position, key in enumerate(keys) if key in keys[:position]) if len(keys) < 100 else "a key"
        raise ValueError(f"{twice:.60} is there twice")
    return found


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (number := int(text)) < 2**63:
        raise ValueError(f"the number {text:.30} has more than 64 bits")
    return number


def _no_number(text: str) -> Any:
    raise ValueError(f"{text:.30} is no integer")


# ---------------------------------------------------------------------------------------------------- reading


class Entry(NamedTuple):
    """A tensor of a file: dtype, sizes, and where its bytes begin and end, from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Container:
    """An open safetensors file: its metadata, and the tensors that it says it has, whose bytes are read on demand."""

    def __init__(self, stream: BinaryIO, limits: Limits):
        self._stream = stream
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise bad("it is no file of bytes on a disk", hint=None)
        size = status.st_size
        head = stream.read(8)
        if len(head) < 8:
            raise bad(f"it ends after {len(head)} bytes, before its header")
        length = int.from_bytes(head, "little")
        if length > size - 8:
            raise bad(f"it says that its header has {length:,} bytes, and has {size - 8:,} altogether", "byte 0")
        if length > limits.header:
            raise over("bytes of the header", length, "header", limits.header, "byte 0")
        begin = stream.read(1)  # a look before so much is read
        if begin != b"{":
            raise bad("the header is no JSON object", "byte 8")
        try:
            text = (begin + stream.read(length - 1)).decode()
        except UnicodeDecodeError as error:
            raise bad(f"the header is no UTF-8: {error.reason}", f"byte {8 + error.start}") from None
        found = read_json(text, "the header", 4, "tensors", limits.tensors)
        metadata = found.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise bad("it is no object of texts", METADATA)
        self.metadata: dict[str, str] = metadata
        self._start = 8 + length
        self.tensors = _entries(found, size - self._start, limits)

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """The array of a tensor. Raises FileError."""
        dtype, shape, begin, end = self.tensors[name]
        try:
            array = np.empty(shape, numpy_dtype(dtype))  # as many bytes as the file has for it
        except (ValueError, OverflowError, MemoryError) as error:
            raise bad(f"NumPy has no array of {dtype}{list(shape)}: {error}", _tensor(name)) from None
        self._stream.seek(self._start + begin)
        flat = array.reshape(-1).view(np.uint8)
        if self._stream.readinto(flat) != end - begin:  # type: ignore[attr-defined]
            raise bad("the file ends before its values do", _tensor(name))
        if dtype == "bool" and flat.size and flat.max() > 1:
            raise bad("a bool is neither 0 nor 1", _tensor(name))
        if _LITTLE:
            return array
        return array.byteswap()


def _tensor(name: str) -> str:
    return f"tensor {name!r:.100}"


def _entries(found: Mapping[str, Any], size: int, limits: Limits) -> dict[str, Entry]:
    """The tensors of a header, whose bytes have to be there, side by side, without a gap."""
    if len(found) > limits.tensors:
        raise over("tensors", len(found), "tensors", limits.tensors)
    if size > limits.bytes:
        raise over("bytes of tensors", size, "bytes", limits.bytes)
    entries = {name: _entry(name, value) for name, value in found.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != end:
            what = "overlap those of another" if entry.begin < end else "leave a gap behind those before"
            raise bad(f"its bytes {what}: they begin at {entry.begin:,}, not {end:,}", _tensor(name))
        end = entry.end
    if end != size:
        raise bad(f"the tensors have {end:,} bytes, and the file has {size:,} for them", "the header")
    return entries


def _entry(name: str, value: Any) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise bad("it has no dtype, shape and data_offsets, or has more", _tensor(name))
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in DTYPE_OF:
        raise bad(f"kgraph has no dtype {code!r:.30}", _tensor(name), f"kgraph has {', '.join(CODE_OF)}")
    if not _sizes(shape) or len(shape) > MOST_AXES:
        raise bad("its shape is no list of sizes", _tensor(name))
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise bad("data_offsets are not where its bytes begin and end", _tensor(name))
    dtype = DTYPE_OF[code]
    needed = math.prod(shape) * numpy_dtype(dtype).itemsize
    if offsets[1] - offsets[0] != needed:
        raise bad(f"{dtype}{shape} takes {needed:,} bytes, and it has {offsets[1] - offsets[0]:,}", _tensor(name))
    return Entry(dtype, tuple(shape), *offsets)


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


# ---------------------------------------------------------------------------------------------------- writing


def write_container(
    stream: BinaryIO, metadata: Mapping[str, str], tensors: Sequence[tuple[str, np.ndarray[Any, Any]]], limits: Limits
) -> None:
    """Write a safetensors file: the same bytes for the same values.

    Args:
      tensors: names, all different, and values.
    Raises: FileError for a header that no other tool would read.
    """
    # The widest first: each begins where its dtype asks for, as the header is a multiple of 8 bytes.
    ordered = sorted(tensors, key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {METADATA: dict(metadata)}
    begin = 0
    for name, array in ordered:
        end = begin + array.nbytes
        header[name] = {"dtype": CODE_OF[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > limits.header:
        raise bad(
            f"the header would have {len(text):,} bytes, and safetensors allows {limits.header:,}", hint="save it in parts"
        )
    stream.write(len(text).to_bytes(8, "little"))
    stream.write(text)
    for _, array in ordered:
        plain = np.ascontiguousarray(array)
        stream.write((plain if _LITTLE else plain.byteswap()).reshape(-1).view(np.uint8).data)

"""Random draws, as pure functions of a key: equal keys give equal numbers, in every process.

A key is int64[2], at first the seed of a stream and the number of the call. Loops make a new key of it for each step.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from kgraph.errors import DTypeError, ShapeError
from kgraph.ir.op import Op
from kgraph.ir.ops.shape import Entries, check_sizes, fill_sizes
from kgraph.ir.types import FLOATS, INTEGERS, TensorType, show_shape

_KEY = TensorType("int64", (2,))

# ---------------------------------------------------------------------------------------------------- type rules


def _check_key(key: TensorType) -> None:
    if key is not _KEY:
        raise DTypeError(f"the key is {key}, not {_KEY}")


def _draw_type(key: TensorType, *sizes: TensorType, shape: Entries, dtype: str) -> TensorType:
    _check_key(key)
    check_sizes(shape, sizes, "shape")
    if dtype not in FLOATS:
        raise DTypeError(f"{dtype} is no float dtype", hint="draw floats, then K.cast")
    if any(entry is not None and entry < 0 for entry in shape):
        raise ShapeError(f"shape {show_shape(shape)} has a negative size")
    return TensorType(dtype, shape)


def _fold_in_type(key: TensorType, step: TensorType) -> TensorType:
    _check_key(key)
    if step.shape or step.dtype not in INTEGERS:
        raise DTypeError(f"the step is {step}, not an integer scalar")
    return _KEY


# ---------------------------------------------------------------------------------------------------- meanings

_MASK = 2**64 - 1


def _mixed(x: int) -> int:
    """The finalizer of splitmix64, a bijection of 64 bits (Steele, Lea and Flood 2014; constants: variant 13 of Stafford)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _words(x: int, y: int) -> tuple[int, int]:
    """Two words of which every bit depends on every bit of both x and y; different pairs give different words."""
    # A Feistel network, which is a bijection of the pair, with a different round constant (splitmix64's gamma) each time.
    x ^= _mixed((y + 0x9E3779B97F4A7C15) & _MASK)
    y ^= _mixed((x + 0x3C6EF372FE94F82A) & _MASK)
    x ^= _mixed((y + 0xDAA66D2C7DDF743F) & _MASK)
    return x, y


class _Generators(threading.local):
    """A thread's generator. Making one takes 10 microseconds, setting the state of one less than 1."""

    def __init__(self) -> None:
        bits, words = np.random.SFC64(0), np.zeros(4, np.uint64)
        state = {"bit_generator": "SFC64", "state": {"state": words}, "has_uint32": 0, "uinteger": 0}
        words_as_ints = memoryview(words)  # type: ignore[arg-type]  # takes an int quicker than the array does
        self.parts: Any = words_as_ints, bits, state, np.random.Generator(bits)


_generators = _Generators()


def _generator(key: Any) -> Any:
    """The thread's generator at the start of what belongs to a key."""
    words, bits, state, generator = _generators.parts
    seed, count = key.tolist()
    x, y = _words(seed & _MASK, count & _MASK)
    # Three words of state from the key, and SFC64's counter, which starts at 1.
    words[0], words[1], words[2], words[3] = x, y, _mixed(x ^ ((y * 0x9E3779B97F4A7C15) & _MASK)), 1
    bits.state = state
    return generator


_FLOATS: dict[str, Any] = {name: np.dtype(name).type for name in FLOATS}  # a generator takes microseconds to read a name


def _random_uniform(key: Any, *sizes: Any, shape: Entries, dtype: str) -> Any:
    size = fill_sizes(shape, sizes)
    generator = _generator(key)
    if dtype == "float16":
        # float16 holds each multiple of 2 ** -11 below 1; a float32 just below 1 would be rounded up to 1.
        return np.asarray(np.floor(generator.random(size, np.float32) * np.float32(2048)) / np.float32(2048)).astype(dtype)
    return generator.random(size, _FLOATS[dtype])


def _random_normal(key: Any, *sizes: Any, shape: Entries, dtype: str) -> Any:
    size = fill_sizes(shape, sizes)
    generator = _generator(key)
    if dtype == "float16":
        return np.asarray(generator.standard_normal(size, np.float32)).astype(dtype)
    return generator.standard_normal(size, _FLOATS[dtype])


def _fold_in(key: Any, step: Any) -> Any:
    x, y = _words(*[word & _MASK for word in key.tolist()])
    x, y = _words(x ^ _mixed(int(step) & _MASK), y)
    return np.array((x, y), np.uint64).view(np.int64)


# ---------------------------------------------------------------------------------------------------- ops

random_uniform: Op = Op(
    "random_uniform", _draw_type, numpy=_random_uniform, sized="shape", doc="Floats from [0, 1): 0 may come, 1 never does."
)
random_normal: Op = Op(
    "random_normal", _draw_type, numpy=_random_normal, sized="shape", doc="Standard normal floats: mean 0, variance 1."
)
fold_in: Op = Op("fold_in", _fold_in_type, numpy=_fold_in, doc="The key of one step of a loop, from the key of the loop.")

__all__ = [
    "fold_in", "random_normal", "random_uniform",
]  # fmt: skip

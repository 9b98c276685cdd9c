"""Runs of equal structure in a list of nodes: an unrolled loop, layers one like the other. Found in linear time.

Two stretches of a list are equal if their nodes have the same ops, attrs and types, and each number in them (of an operand, or
an integer among the attrs) is as far from that of the stretch before as that one is from the one before it. So what reads the
stretch before it, what reads the same weight each time, what counts its steps, and what goes back through the layers repeat.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from kgraph.ir.listing import is_large
from kgraph.ir.node import Constant, Graph, Identity, Node

SAVED = 4  # lines; a run that saves fewer is not worth its own
_TRIES = 8  # distances to the next stretch that begins alike
_LEVELS = 4  # runs within runs
_WORK = 8  # comparisons a part so far that may come to nothing: the time is linear whatever the graph


class Run:
    """Stretches of equal structure, one after the other.

    Attributes:
      parts: the first of them: nodes, and runs.
      count: how many there are.
      size: nodes in each.
      first: number of the first node.
      lines: how many are shown.
    """

    __slots__ = ("parts", "count", "size", "first", "lines")

    def __init__(self, parts: list[Node | Run], count: int, size: int, first: int, lines: int):
        self.parts, self.count, self.size, self.first, self.lines = parts, count, size, first, lines


class _Part:
    """A node, or a run: what of it has to be equal, and its numbers, the first of which is that of its first node."""

    __slots__ = ("shown", "kind", "numbers", "lines")

    def __init__(self, shown: Node | Run, kind: int, numbers: tuple[int, ...], lines: int):
        self.shown, self.kind, self.numbers, self.lines = shown, kind, numbers, lines


def folded(nodes: Sequence[Node], given: Collection[Node] = ()) -> list[Node | Run]:
    """The nodes in order, each run of equal structure as one.

    Args:
      nodes: inputs before users; an operand that is not among them is a constant.
      given: nodes whose operands do not count.
    """
    return [part.shown for part in _Folding(nodes, given).parts]


class _Folding:
    def __init__(self, nodes: Sequence[Node], given: Collection[Node]):
        self.kinds: dict[Any, int] = {}
        self.wasted = 0
        number = {node: i for i, node in enumerate(nodes)}
        self.parts = []
        for i, node in enumerate(nodes):
            numbers = [i]
            kind: list[Any] = [node.op, node.type]
            for name, value in node.attrs:
                kind.append(value if name == "type" else _spelled(value, numbers))
            for operand in () if node in given else node.inputs:
                at = number.get(operand)
                if at is None:
                    kind.append(_constant(operand, numbers))
                else:
                    kind.append(None)
                    numbers.append(at)
            self.parts.append(_Part(node, self.kind(tuple(kind)), tuple(numbers), 1))
        for _ in range(_LEVELS):
            before = len(self.parts)
            self.parts = self.scanned(self.parts)
            if len(self.parts) == before:
                break

    def kind(self, key: Any) -> int:
        return self.kinds.setdefault(key, len(self.kinds))

    def scanned(self, parts: list[_Part]) -> list[_Part]:
        """The parts with runs of them made one."""
        count = len(parts)
        kinds = [part.kind for part in parts]
        # The next place where four parts of the same kinds stand: a repeat can only begin there.
        following = [-1] * count
        seen: dict[tuple[int, ...], int] = {}
        for i in range(count - 1, -1, -1):
            key = tuple(kinds[i : i + 4])
            following[i] = seen.get(key, -1)
            seen[key] = i
        found: list[_Part] = []
        self.wasted = i = 0
        while i < count:
            run, start, end = None, i, i + 1
            other = following[i]
            for _ in range(_TRIES):
                if other < 0 or self.wasted > _WORK * i + 1000:
                    break
                near = min(other - i, 64)
                if kinds[i : i + near] == kinds[other : other + near]:  # most fail here, at little cost
                    run, start, end = self.run_at(parts, i, other - i)
                    if run is not None:
                        break
                other = following[other]
            if run is None:
                found.append(parts[i])
                i += 1
            else:
                found += parts[i:start]
                found.append(run)
                self.wasted -= end - i  # this work came to something
                i = end
        return found

    def run_at(self, parts: list[_Part], i: int, period: int) -> tuple[_Part | None, int, int]:
        """The run of a period that begins at a place or a little later, with its begin and end; None if there is none."""
        steps: list[tuple[int, ...]] = []
        at = i + period
        while at < len(parts):
            one, other = parts[at - period], parts[at]
            if one.kind != other.kind or len(one.numbers) != len(other.numbers):
                break
            step = tuple([y - x for x, y in zip(one.numbers, other.numbers, strict=True)])
            if len(steps) < period:
                steps.append(step)
            elif step != steps[(at - i) % period]:
                break
            at += 1
        count = (at - i) // period
        size = steps[0][0] if steps else 0
        # Any two numbers are some step apart: of two stretches alone, more is asked.
        whole = count > 2 or (count == 2 and all(part <= {0, size} for part in map(set, steps)))
        self.wasted += at - i - period + 1
        if not whole:
            return None, i, i + 1
        start = i + _seam(parts[i : i + period], steps, size)
        count = (at - start) // period
        block = parts[start : start + period]
        lines = sum(part.lines for part in block)
        if count < 2 or (count - 1) * lines - 1 < SAVED:
            return None, i, i + 1
        shift = (start - i) % period
        steps = steps[shift:] + steps[:shift]
        shown = Run([part.shown for part in block], count, size, block[0].numbers[0], lines + 1)
        kind = self.kind((count, size, *[part.kind for part in block], *steps))
        numbers = tuple([number for part in block for number in part.numbers])
        return _Part(shown, kind, numbers, lines + 1), start, start + count * period


def _seam(block: Sequence[_Part], steps: Sequence[tuple[int, ...]], size: int) -> int:
    """How many parts further on to begin, so that the fewest values go from each stretch to the next: where a layer begins."""
    last: dict[int, int] = {}
    for part, step in zip(block, steps, strict=True):
        for number, moved in zip(part.numbers, step, strict=True):
            if moved == size:
                last[number] = max(last.get(number, number), part.numbers[0])
    origin = block[0].numbers[0]
    change = [0] * (size + 1)
    everywhere = 0
    for value, user in last.items():
        # The value crosses the seams between itself and its last user.
        if user - value >= size:
            everywhere += 1
            continue
        low, high = (value + 1 - origin) % size, (user - origin) % size
        if user > value:
            change[low] += 1
            change[high + 1] -= 1
            if low > high:
                change[0] += 1
                change[size] -= 1
    crossing, total = [], 0
    for step_ in change[:size]:
        total += step_
        crossing.append(total)
    places = [part.numbers[0] - origin for part in block]
    return min(range(len(block)), key=lambda place: crossing[places[place]])


def _spelled(value: Any, numbers: list[int]) -> Any:
    """What of an attr has to be equal; its integers go to the numbers."""
    if value.__class__ is int:
        numbers.append(value)
        return int
    if value.__class__ is tuple:
        return tuple([_spelled(part, numbers) for part in value])
    if isinstance(value, Identity):
        return type(value)
    if is_large(value):
        return value.array.dtype, value.array.shape
    return value if isinstance(value, (Constant, Graph)) else (type(value), value)


def _constant(node: Node, numbers: list[int]) -> Any:
    value = node.attrs[0][1]
    if isinstance(value, Constant) and value.array.size == 1 and value.array.dtype.kind in "iu":
        numbers.append(int(value.array.reshape(()).item()))
        return node.type
    return value

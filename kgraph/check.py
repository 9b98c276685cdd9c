"""Whether a rule keeps what it promises: tried on graphs that its patterns fit, with random and special values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

import kgraph.ir.ops as o
from kgraph.errors import RuleError
from kgraph.ir.node import Graph, Identity, Node
from kgraph.ir.op import Op
from kgraph.ir.passes import Record
from kgraph.ir.pattern import Apply, Attr, Const, Number, Pattern, Var, Whole
from kgraph.ir.rewrite import Rule, Rules, refines, rewrite
from kgraph.ir.text import listing
from kgraph.ir.traverse import toposort
from kgraph.ir.types import FLOATS, TensorType
from kgraph.lower.engine import evaluator
from kgraph.lower.numpy import RULES
from kgraph.quiet import quietly

Array = np.ndarray[Any, Any]

#: Shapes of the operands that are tried.
SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (3,), (2, 3), (1, 3), (2, 1), (3, 3), (3, 2), (2, 3, 3), (0, 3))
_DTYPES = ("float32", "float64", "float16", "int32", "int64", "uint8", "bool")

#: What sizes that are not known are taken for.
_UNKNOWN = 3

#: Values of attrs that are tried, by the name of the attr.
_AXES = ((), (0,), (1,), (0, 1), (2,), (0, 2))
ATTRS: dict[str, tuple[Any, ...]] = {
    "axis": (0, 1, 2, *_AXES), "axes": _AXES, "keepdims": (False, True), "perm": ((0,), (0, 1), (1, 0), (0, 2, 1), (2, 0, 1)),
    "dtype": _DTYPES, "shape": ((3,), (2, 3), (3, 2), (6,), (-1,), (1, 3), (2, 1, 3), (3, 3)), "index": (0, 1),
    "times": ((1,), (2, 1), (1, 2)), "repeats": (1, 2), "depth": (3,), "k": (1, 2),
    "form": ("i", "s", "ss", "si", "n", "ns"), "numbers": ((0,), (0, 2, 1), (1, 3, 1), (0, 2, 1, 0, 3, 1), (0, 2, 1, 1), ()),
}  # fmt: skip

_REDUCTIONS = frozenset((o.sum, o.prod, o.max, o.min, o.any, o.all, o.logsumexp))

#: How far a result may be from the right one, in units in the last place, however exact the plain formula is.
UNITS = 4

#: How often operands are moved by their last place, to see what that does to the result.
_MOVES = 3


@dataclass
class Report:
    """What the trials of one rule showed.

    Attributes:
      applied: graphs that it rewrote, and whose values were compared.
      declined: reasons that it gave for not rewriting one -> how often.
    """

    rule: str
    applied: int = 0
    declined: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons = "; ".join(f"{why} ({count} times)" for why, count in self.declined.items())
        return f"{self.rule}: kept its promise on {self.applied} graphs" + (f"; declined: {reasons}" if reasons else "")


def check_rule(
    rule: Rule | Rules,
    *,
    attrs: Mapping[str, Sequence[Any]] | None = None,
    tensors: Iterable[Any] = (),
    graphs: int = 100,
    seed: int = 0,
) -> list[Report]:
    """Tries a rule, or each of a set, on graphs made of its patterns, and compares what they compute before and after.

    Each class of rule is held to its promise (see `kgraph.ir.rewrite`): the same bits for every value, NaN, infinities and -0.0
    among them; or errors that are on average at most twice those of the plain formula, against the same in longer floats, or
    `UNITS` units in the last place, and NaN where there was NaN among the operands; or this for finite numbers alone. The type
    may get more precise and not otherwise change, and the rule has to come to an end.

    Args:
      attrs: name of an attr of an op -> values to try, in the place of those of `ATTRS`.
      tensors: of placeholders, to try first: for a rule that looks for more than its pattern says.
      graphs: how many graphs the rule has to rewrite.
      seed: of what is drawn; equal seeds try the same.
    Raises: RuleError for a rule that breaks its promise, with the graph and the values; for one that never applied.
    """
    tried = {**ATTRS, **(attrs or {})}
    rules = list(rule) if isinstance(rule, Rules) else [rule]
    given = [tensor.node for tensor in tensors]
    return [_check(each, tried, given, graphs, seed) for each in rules]


def _check(rule: Rule, attrs: Mapping[str, Sequence[Any]], given: Sequence[Node], graphs: int, seed: int) -> Report:
    report, errors = Report(rule.name), _Errors()
    for number in range(-len(given), 40 * graphs):
        if report.applied == graphs:
            break
        random = Random(f"{seed} {number}")
        sample = _sample(rule, attrs, random) if number >= 0 else _given(given[number], random)
        if sample is None:
            continue
        after = _rewritten(rule, sample, report)
        if after is not None:
            report.applied += 1
            for values in sample.values():
                was = _plain(sample, values)
                if was is not None:
                    _compare(rule, sample, after, values, was, errors)
    errors.judge()
    if not report.applied:
        reasons = "; ".join(report.declined) or "no graph that its patterns fit could be made"
        hint = "attrs={name: [values to try]} or tensors=[...] help to make graphs"
        raise RuleError(f"{rule.name} never applied: {reasons}", hint=hint)
    return report


# ---------------------------------------------------------------------------------------------------- graphs


@dataclass(frozen=True, eq=False)
class _Sample:
    """A graph that a pattern fits."""

    root: Node
    inputs: tuple[Node, ...]
    random: Random

    def values(self) -> Iterator[list[Array]]:
        """Values of its inputs: moderate ones, with NaN among them, with all that is special."""
        for special in ((), _NAN, _SPECIAL):
            shapes = [[_UNKNOWN if size is None else size for size in i.type.shape] for i in self.inputs]
            yield [_array(self.random, i.dtype, shape, special) for i, shape in zip(self.inputs, shapes, strict=True)]


def _given(root: Node, random: Random) -> _Sample:
    return _Sample(root, tuple([node for node in toposort([root]) if node.op is o.placeholder]), random)


def _sample(rule: Rule, attrs: Mapping[str, Sequence[Any]], random: Random) -> _Sample | None:
    maker = _Maker(attrs, random)
    try:
        sample = _Sample(maker.node(random.choice(rule.patterns)), tuple(maker.inputs), random)
        value = _computed(sample, sample.root, next(sample.values()))
    except Exception:  # shapes, dtypes and attrs are drawn, and need not go together
        return None
    return sample if value.shape == sample.root.type.shape else None


class _Maker:
    """Makes a graph that a pattern fits, of what is drawn."""

    def __init__(self, attrs: Mapping[str, Sequence[Any]], random: Random):
        self.attrs, self.random = attrs, random
        self.dtype = random.choice((*FLOATS, *FLOATS, *_DTYPES))
        self.shape = random.choice(SHAPES)
        self.inputs: list[Node] = []
        self.bound: dict[str, Any] = {}

    def node(self, pattern: Pattern) -> Node:
        if isinstance(pattern, Var):
            return self._once(pattern.name, lambda: self._operand(pattern.kind))
        if isinstance(pattern, Const):
            return self._once(pattern.name, self._constant)
        if isinstance(pattern, Number):
            shape = self.random.choice(((), (), (), self.shape))
            return o.constant_of(np.full(shape, pattern.value).astype(self.dtype))
        if isinstance(pattern, Whole):
            return self._whole(pattern)
        assert isinstance(pattern, Apply)
        inputs = [self.node(i) for i in pattern.inputs]
        wanted = dict(pattern.attrs)
        return pattern.op(*inputs, **{name: self._attr(pattern.op, name, wanted.get(name)) for name in pattern.op.attr_names})

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.bound:
            self.bound[name] = make()
        return self.bound[name]

    def _operand(self, kind: str | None) -> Node:
        dtype = self.dtype
        if kind is not None and not dtype.startswith(kind):
            dtype = {"bool": "bool", "int": "int32", "float": "float32"}[kind]
        shape = self.random.choice((self.shape, self.shape, self.random.choice(SHAPES)))
        made = o.placeholder(type=TensorType(dtype, shape), uid=Identity(f"x{len(self.inputs)}"))
        self.inputs.append(made)
        return made

    def _constant(self) -> Node:
        shape = self.random.choice(((), (), self.shape))
        return o.constant_of(_array(self.random, self.dtype, shape, _SPECIAL if self.random.random() < 0.2 else ()))

    def _whole(self, pattern: Whole) -> Node:
        op: Op = pattern.op or self.random.choice([op for op in o.OPS.values() if op.numpy and not op.source and not op.bodies])
        count = len(op.input_names) or 2
        inputs = [self._constant() if pattern.over is o.constant else self._operand(None) for _ in range(count)]
        return op(*inputs, **{name: self._attr(op, name, None) for name in op.attr_names})

    def _attr(self, op: Op, name: str, wanted: Any) -> Any:
        if wanted is not None and not isinstance(wanted, Attr):
            return wanted
        if name not in self.attrs:
            raise ValueError(f"there are no values to try for the attr {name}")
        values = self.attrs[name]
        if name == "axis":  # reductions take several axes, other ops one
            values = [value for value in values if isinstance(value, tuple) == (op in _REDUCTIONS)] or values
        if wanted is None:
            return self.random.choice(values)
        return self._once(wanted.name, lambda: self.random.choice(values))


def _rewritten(rule: Rule, sample: _Sample, report: Report) -> Node | None:
    """What the rule makes of a sample; None if it declines. Raises RuleError if it fails."""
    root = sample.root
    for order in rule.orders:
        try:
            after = rule.apply(order, root, {})
        except Exception as error:  # a rule may raise anything
            raise _broken(rule, sample, f"raised {type(error).__name__}: {error}") from error
        if isinstance(after, str):
            report.declined[after] = report.declined.get(after, 0) + 1
        elif isinstance(after, Node) and after is not root:
            if not refines(after.type, root.type):
                raise _broken(rule, sample, f"made {after.type} of {root.type}")
            record = Record()
            rewrite(Graph(sample.inputs, [root]), [rule], record)
            if record.left_out:
                raise _broken(rule, sample, record.left_out[rule.name])
            return after
    return None


# ---------------------------------------------------------------------------------------------------- values

_NAN = (math.nan, 0.0, -0.0, 1.0, -1.0)
_SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 1e-6, 6e4)


def _array(random: Random, dtype: str, shape: Sequence[Any], special: Sequence[float]) -> Array:
    count = math.prod(shape)
    if dtype in FLOATS:
        found = [random.choice(special) if special and random.random() < 0.5 else random.uniform(-4, 4) for _ in range(count)]
    elif dtype == "bool":
        found = [random.randint(0, 1) for _ in range(count)]
    else:
        ends = np.iinfo(dtype)
        low = 0 if dtype == "uint8" else -9
        found = [
            random.choice((int(ends.min), int(ends.max))) if special and random.random() < 0.3 else random.randint(low, 9)
            for _ in range(count)
        ]
    return np.array(found, dtype).reshape(shape)


@quietly
def _computed(sample: _Sample, root: Node, values: Sequence[Array]) -> Array:
    return np.asarray(evaluator(Graph(sample.inputs, [root]), RULES)(*values)[0])


def _plain(sample: _Sample, values: Sequence[Array]) -> Array | None:
    """What the plain formula gives; None where it refuses the values."""
    try:
        return _computed(sample, sample.root, values)
    except (ValueError, IndexError, ZeroDivisionError):
        return None


def _compare(
    rule: Rule, sample: _Sample, after: Node, values: Sequence[Array], was: Array, errors: _Errors
) -> None:  # fmt: skip
    now = _computed(sample, after, values)
    if was.dtype != now.dtype or was.shape != now.shape:
        raise _broken(rule, sample, f"gave {now.dtype}{list(now.shape)} in the place of {was.dtype}{list(was.shape)}", values)
    floats = [v for v in values if v.dtype.kind == "f"]
    if rule.claim == "finite" and not (all(np.isfinite(v).all() for v in floats) and np.isfinite(was).all()):
        return
    if rule.claim == "exact" or was.dtype.kind != "f":
        wrong = ~_same_bits(was, now)
    else:
        right = errors.look(rule, sample, values, was, now)
        # A NaN of an operand has to be one of the result; other ones are a matter of the formula.
        given = [np.where(np.isnan(v), 1, v).astype(np.longdouble) if v.dtype.kind == "f" else v for v in values]
        wrong = np.isnan(right) & ~np.isnan(_computed(sample, sample.root, given)) & ~np.isnan(now)
    if wrong.any():
        raise _gave(rule, sample, values, was, now, int(np.argmax(wrong)))


def _gave(rule: Rule, sample: _Sample, values: Sequence[Array], was: Array, now: Array, place: int) -> RuleError:
    at = f" at {[int(i) for i in np.unravel_index(place, was.shape)]}" if was.shape else ""
    gave, plain = now.flat[place].item(), was.flat[place].item()
    return _broken(rule, sample, f"gave {gave}{at} where the plain formula gives {plain}", values)


def _same_bits(x: Array, y: Array) -> Any:
    if x.dtype.kind != "f":
        return x == y
    return ((x == y) & (np.signbit(x) == np.signbit(y))) | (np.isnan(x) & np.isnan(y))


class _Errors:
    """The errors of all trials, in units in the last place, and their means: each of them is a matter of luck.

    Where the last place of an operand moves the right result by more than its own last place (because it takes apart what is
    nearly equal, say), that is the unit.
    """

    def __init__(self) -> None:
        self.was: dict[str, list[float]] = {}
        self.now: dict[str, list[float]] = {}
        self.worst: dict[str, RuleError] = {}

    @quietly
    def look(self, rule: Rule, sample: _Sample, values: Sequence[Array], was: Array, now: Array) -> Array:
        """Notes the errors. Returns the right result."""
        long = [v.astype(np.longdouble) if v.dtype.kind == "f" else v for v in values]
        right = _computed(sample, sample.root, long)
        dtype = was.dtype
        eps = np.finfo(dtype).eps
        unit = np.abs(np.spacing(right.astype(dtype)).astype(np.longdouble))
        for _ in range(_MOVES):
            signs = [np.array([self._sign(sample) for _ in range(v.size)]).reshape(v.shape) for v in long]
            moved = [v * (1 + eps * s) if v.dtype.kind == "f" else v for v, s in zip(long, signs, strict=True)]
            unit = np.fmax(unit, np.abs(_computed(sample, sample.root, moved) - right))
        judged = np.isfinite(right) & np.isfinite(was) & (unit > 0)
        if judged.any() and np.finfo(np.longdouble).eps < eps:  # else there is nothing more precise to compare with
            before, after = (np.where(judged, np.abs(x.astype(np.longdouble) - right) / unit, 0) for x in (was, now))
            largest = max(self.now.get(dtype.name, [0.0]))
            for known, found in ((self.was, before), (self.now, after)):
                known.setdefault(dtype.name, []).extend(float(error) for error in found[judged])
            if not float(after.max()) <= largest:
                self.worst[dtype.name] = _gave(rule, sample, values, was, now, int(np.argmax(np.nan_to_num(after, nan=np.inf))))
        return right

    @staticmethod
    def _sign(sample: _Sample) -> int:
        return sample.random.choice((-1, 1))

    def judge(self) -> None:
        """Raises RuleError if a rule is further off than its class may be."""
        for name, errors in self.now.items():
            now, was = float(np.mean(errors)), float(np.mean(self.was[name]))
            if not now <= max(UNITS, 2 * was):
                broken = self.worst[name]
                broken.message += f": {now:.3g} units in the last place off on average, and the plain formula {was:.3g}"
                raise broken


def _broken(rule: Rule, sample: _Sample, what: str, values: Sequence[Array] = ()) -> RuleError:
    lines = listing(Graph(sample.inputs, [sample.root])).splitlines()
    lines += [f"{i.name} = {value.tolist()}" for i, value in zip(sample.inputs, values, strict=False)]
    error = RuleError(f"{rule.name} ({rule.doc.partition(chr(10))[0]}), which is {rule.claim}, {what}")
    error.at("check_rule", lines)
    return error


__all__ = ["ATTRS", "SHAPES", "UNITS", "Report", "check_rule"]

"""Rows of the functions that loop: against loops in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kgraph import backend as K
from tests.cases.base import Array, array, bools, floats, ints
from tests.kcases.base import KCase


def recur(
    step: Callable[..., Any], x: Array, states: Sequence[Array], mask: Array | None = None, back: bool = False, units: Sequence[int] = ()
) -> tuple[Array, Array, list[Array]]:
    """What K.rnn does, step by step and sample by sample.

    Args:
      step: ``(x, states) -> (output, new states)`` over arrays.
      units: the sizes of an output, but for samples: there may be no step.
    """
    last = np.zeros((len(x), *units))
    states = list(states)
    outputs = []
    for t in sorted(range(x.shape[1]), reverse=back):
        output, news = step(x[:, t], states)
        before = [last, *states]
        now = [np.array(value) for value in (output, *news)]
        if mask is not None:
            for sample in range(len(x)):
                if not mask[sample, t]:
                    for new, old in zip(now, before, strict=True):
                        new[sample] = old[sample]
        last, *states = now
        outputs.append(last)
    return last, np.stack(outputs, 1) if outputs else np.zeros((len(x), 0, *units)), states


def picked(found: tuple[Any, Any, list[Any]], index: int) -> Any:
    """One of the results of rnn: the last output, the outputs, the states."""
    return [found[0], found[1], *found[2]][index]


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def lstm_of(sigmoid: Any, tanh: Any, dot: Any) -> Callable[..., Any]:
    """A step of an LSTM (Hochreiter and Schmidhuber 1997, with forget gates) over tensors or arrays."""

    def step(x: Any, states: Sequence[Any], w: Any, u: Any) -> Any:
        h, c = states
        z = dot(x, w) + dot(h, u)
        n = z.shape[1] // 4
        i, f, g, o = [z[:, k * n : (k + 1) * n] for k in range(4)]
        c = sigmoid(f + 1) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, [h, c]

    return step


LSTM, PLAIN_LSTM = lstm_of(K.sigmoid, K.tanh, K.dot), lstm_of(_sigmoid, np.tanh, np.dot)


def _cell(x: Any, states: Sequence[Any], tanh: Any = K.tanh) -> Any:
    """An output that is no state."""
    new = tanh(x * 0.5 + states[0])
    return new * 2 + x, [new]


def _plain_cell(x: Array, states: Sequence[Array]) -> Any:
    return _cell(x, states, np.tanh)


def _lstms() -> list[KCase]:
    rows = []
    weights = [floats(3, 16), floats(4, 16)]
    start = [floats(2, 4), floats(2, 4, seed=1)]
    masks: list[Array | None] = [None, bools(2, 5), ints(2, 5, 1, low=0, high=2), array([[0, 0, 1, 0, 1], [0, 0, 0, 0, 0]], "uint8")]
    for mask in masks:
        for back in (False, True):
            for index, unroll in ((0, False), (1, False), (2, True), (3, False)):
                extra = [] if mask is None else [mask]

                def call(
                    x: Any, h: Any, c: Any, w: Any, u: Any, m: Any = None, back: bool = back, index: int = index, unroll: bool = unroll
                ) -> Any:
                    step = lambda x, states: LSTM(x, states, w, u)  # noqa: E731
                    return picked(K.rnn(step, x, [h, c], go_backwards=back, mask=m, unroll=unroll), index)

                def oracle(
                    x: Any, h: Any, c: Any, w: Any, u: Any, m: Any = None, back: bool = back, index: int = index
                ) -> Any:
                    return picked(recur(lambda x, states: PLAIN_LSTM(x, states, w, u), x, [h, c], m, back, (4,)), index)

                note = f"LSTM result {index}{' back' if back else ''}{' unrolled' if unroll else ''}"
                inputs = [floats(2, 5, 3), *start, *weights, *extra]
                # In the form of unknown sizes the units would be unknown too, which cannot be cut into four.
                rows.append(KCase(K.rnn, inputs, {}, oracle, call=call, note=note, rtol=1e-5, fixed=True, second=index == 0 and not back))
    return rows


def _row(
    name: str, inputs: Sequence[Array], step: Callable[..., Any], plain: Callable[..., Any] | None, states: int, units: Sequence[int],
    mask: Array | None = None, indices: Sequence[int] = (0, 1), **keywords: Any,
) -> list[KCase]:  # fmt: skip
    rows = []
    arguments = keywords.pop("arguments", {})
    rtol = keywords.pop("rtol", 4e-6)
    for index in indices:
        for back in (False, True):

            def call(x: Any, *rest: Any, index: int = index, back: bool = back) -> Any:
                found = K.rnn(step, x, list(rest[:states]), go_backwards=back, mask=rest[states] if mask is not None else None, **arguments)
                return picked(found, index)

            def oracle(x: Any, *rest: Any, index: int = index, back: bool = back) -> Any:
                m = rest[states] if mask is not None else None
                return picked(recur(plain or step, x, rest[:states], m, back, units), index)

            operands = [*inputs, *([] if mask is None else [mask])]
            note = f"{name} result {index}{' back' if back else ''}"
            rows.append(KCase(K.rnn, operands, {}, oracle, call=call, note=note, rtol=rtol, **keywords))
    return rows


def _add(x: Any, states: Sequence[Any]) -> Any:
    return x + states[0], [x + states[0]]


def _many(x: Any, states: Sequence[Any]) -> Any:
    """States of ranks 0, 1 and 3, and one of integers."""
    count, total, cube, steps = states
    return cube[:, 0] * count, [count * 0.5, total + x[:, 0], cube * 1.5, steps + 1]


def _folds() -> list[KCase]:
    rows = []
    for shape in ((4,), (4, 2), (1, 3), (4, 0)):
        x = floats(*shape)
        left = lambda x: _folded(x, lambda a, y: a * 0.5 + y)  # noqa: E731
        right = lambda x: _folded(x[::-1], lambda a, y: a * 0.5 + y)  # noqa: E731
        rows += [
            KCase(K.foldl, [x], {}, left, call=lambda x: K.foldl(lambda a, y: a * 0.5 + y, x), stretches=False),
            KCase(K.foldr, [x], {}, right, call=lambda x: K.foldr(lambda a, y: a * 0.5 + y, x), stretches=False),
        ]
    for steps in (0, 3):
        x, start = floats(steps, 2), floats(2)
        rows += [
            KCase(K.foldl, [x, start], {}, lambda x, s: _folded([s, *x], lambda a, y: a - y * a), call=lambda x, s: K.foldl(lambda a, y: a - y * a, x, s)),
            KCase(K.foldr, [x, start], {}, lambda x, s: _folded([s, *x[::-1]], lambda a, y: a - y * a), call=lambda x, s: K.foldr(lambda a, y: a - y * a, x, initializer=s)),
        ]  # fmt: skip
    rows += [
        KCase(K.foldl, [ints(5)], {}, lambda x: _folded(x, lambda a, y: a * 10 + y), call=lambda x: K.foldl(lambda a, y: a * 10 + y, x)),
        KCase(K.foldl, [floats(3)], {}, lambda x: 7 + x.sum(), call=lambda x: K.foldl(lambda a, y: a + y, x, 7), note="from a number"),
        KCase(K.map_fn, [floats(3, 4)], {}, lambda x: x.sum(1), call=lambda x: K.map_fn(K.sum, x)),
        KCase(K.map_fn, [floats(3, 2, 4)], {}, lambda x: [a @ a.T for a in x], call=lambda x: K.map_fn(lambda a: K.dot(a, K.transpose(a)), x), rtol=4e-6),
        KCase(K.map_fn, [floats(0, 4)], {}, lambda x: np.zeros((0, 4)), call=lambda x: K.map_fn(K.exp, x)),
        KCase(K.map_fn, [ints(4)], {}, lambda x: x > 0, dtype="bool", call=lambda x: K.map_fn(lambda a: a > 0, x)),
        KCase(K.map_fn, [floats(3, 4), floats(4)], {}, lambda x, y: x * y, call=lambda x, y: K.map_fn(lambda a: a * y, x), note="of what is outside"),
        KCase(K.map_fn, [floats(3)], {}, lambda x: np.ones((3, 2)), call=lambda x: K.map_fn(lambda a: np.ones(2, "float32"), x), grad=False, note="constant"),
    ]  # fmt: skip
    return rows


def _folded(parts: Sequence[Any], f: Callable[[Any, Any], Any]) -> Any:
    found = parts[0]
    for part in parts[1:]:
        found = f(found, part)
    return found


ROWS = [
    *_lstms(),
    *_row("output apart", [floats(2, 4, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,), indices=(0, 1, 2)),
    *_row("output apart, mask", [floats(2, 4, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,), mask=bools(2, 4), indices=(0, 1, 2)),
    *_row("output apart, unrolled", [floats(2, 4, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,), mask=ints(2, 4, low=0, high=2), indices=(0, 1, 2),
          arguments={"unroll": True}, fixed=True),
    *_row("no steps", [floats(2, 0, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,), indices=(0, 1, 2)),
    *_row("no steps, the output a state", [floats(2, 0, 3), floats(2, 3)], _add, None, 1, (3,), indices=(0, 1, 2)),
    *_row("no steps, mask", [floats(2, 0, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,), mask=bools(2, 0), indices=(0, 1, 2)),
    *_row("no steps, unrolled", [floats(2, 0, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,), indices=(0, 1, 2), arguments={"unroll": True}, fixed=True,
          second=False),
    *_row("one step", [floats(2, 1, 3), floats(2, 3)], _cell, _plain_cell, 1, (3,)),
    *_row("one sample", [floats(1, 3, 1), floats(1, 1)], _cell, _plain_cell, 1, (1,), mask=bools(1, 3), stretches=False),
    *_row("no sample", [floats(0, 3, 2), floats(0, 2)], _cell, _plain_cell, 1, (2,), mask=bools(0, 3)),
    *_row("no state", [floats(2, 4, 3)], lambda x, states: (x * x, []), None, 0, (3,)),
    *_row("no state, mask", [floats(2, 4, 3)], lambda x, states: (x * x, []), None, 0, (3,), mask=bools(2, 4)),
    *_row("of rank 4", [floats(2, 4, 3, 2), floats(2, 3, 2)], _cell, _plain_cell, 1, (3, 2), mask=bools(2, 4)),
    *_row("of rank 5", [floats(2, 2, 3, 1, 2), floats(2, 3, 1, 2)], _add, None, 1, (3, 1, 2)),
    *_row("many states", [floats(2, 4, 3), floats(), floats(2), floats(2, 2, 3), ints()], _many, None, 4, (3,), indices=range(4), dtype="float32"),
    *_row("many states", [floats(2, 4, 3), floats(), floats(2), floats(2, 2, 3), ints()], _many, None, 4, (3,), indices=(5,), dtype="int32"),
    *_row("float16", [floats(2, 4, 3, dtype="float16"), floats(2, 3, dtype="float16")], _add, None, 1, (3,), indices=(0,), rtol=4e-3),
    *_row("integers", [ints(2, 4, 3), ints(2, 3)], _add, None, 1, (3,)),
    *_folds(),
]  # fmt: skip

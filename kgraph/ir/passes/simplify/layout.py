"""What rearranges elements, one op after the other; casts."""

from __future__ import annotations

import numpy as np

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.passes.fitting import source, surely_alike
from kgraph.ir.passes.simplify.broadcasts import shape_source
from kgraph.ir.pattern import alone, attr, p, var, whole
from kgraph.ir.rewrite import Rules, refines
from kgraph.ir.types import kind, numpy_dtype

X = var("x")
FULL = (0, 2**63 - 1, 1)  # a slice that takes the whole axis

layout = Rules("simplify")
rule = layout.rule

# ---------------------------------------------------------------------------------------------------- casts


@rule(whole(o.cast))
def cast_to_itself(out: Node) -> Node | str:
    """cast(x), in the dtype that x has -> x"""
    (x,) = out.inputs
    return x if x.type is out.type else "it is another dtype"


@rule(p.cast(whole(o.cast)))
def casts(out: Node) -> Node | str:
    """cast(cast(x, a), b) -> cast(x, b), where a holds every value of x"""
    (middle,) = out.inputs
    (x,) = middle.inputs
    given, between, wanted = x.type.dtype, middle.type.dtype, out.type.dtype
    if not _holds(given, between):
        return f"{between} does not hold every {given}"
    if kind(wanted) == "int" and kind(between) == "float" and not _holds(given, wanted):
        return f"what {wanted} does not hold becomes another number"
    return o.cast(x, dtype=wanted)


def _holds(x: str, y: str) -> bool:
    return bool(np.can_cast(numpy_dtype(x), numpy_dtype(y), "safe"))


# ---------------------------------------------------------------------------------------------------- transposes, flips


@rule(p.transpose(p.transpose(X, perm=attr("inner")), perm=attr("outer")))
def transposes(x: Node, inner: tuple[int, ...], outer: tuple[int, ...]) -> Node:
    """transpose(transpose(x)) -> transpose(x)"""
    return o.transpose(x, perm=tuple([inner[axis] for axis in outer]))


@rule(p.transpose(X, perm=attr("perm")))
def transpose_to_itself(x: Node, perm: tuple[int, ...]) -> Node | str:
    """transpose(x), of no axes -> x"""
    return x if perm == tuple(range(len(perm))) else "axes move"


@rule(p.flip(p.flip(X, axes=attr("inner")), axes=attr("outer")))
def flips(x: Node, inner: tuple[int, ...], outer: tuple[int, ...]) -> Node:
    """flip(flip(x)) -> flip(x), along the axes that are in one of them"""
    return o.flip(x, axes=tuple(sorted(set(inner) ^ set(outer))))


@rule(p.flip(X, axes=attr("axes")))
def flip_of_ones(x: Node, axes: tuple[int, ...]) -> Node | str:
    """flip(x) -> x, along axes of size 1; the others are left"""
    left = tuple([axis for axis in axes if x.type.shape[axis] not in (0, 1)])
    if left == axes:
        return "along each axis there are elements to exchange"
    return o.flip(x, axes=left) if left else x


# ---------------------------------------------------------------------------------------------------- reshapes


@rule(p.reshape(X, shape=attr("shape")), p.reshape(X, var("n"), shape=attr("shape")))
def reshape_to_itself(x: Node, out: Node) -> Node | str:
    """reshape(x), to the shape of x -> x"""
    shape = x.type.shape
    if shape != out.type.shape:
        return "it is another shape"
    unknown = [axis for axis, size in enumerate(shape) if size is None]
    if not unknown or (len(unknown) == 1 and 0 not in shape):
        return x
    return x if surely_alike(x, out) else "of the unknown sizes it is not known that they are those of x"


@rule(p.reshape(whole(o.reshape)), p.reshape(whole(o.reshape), var("n")),
      p.reshape(whole(o.expand_dims)), p.reshape(whole(o.expand_dims), var("n")),
      p.reshape(whole(o.squeeze)), p.reshape(whole(o.squeeze), var("n")))  # fmt: skip
def reshapes(out: Node) -> Node | str:
    """reshape(reshape(x)), reshape(expand_dims(x)), reshape(squeeze(x)) -> reshape(x)"""
    inner, *sizes = out.inputs
    if inner.op is o.squeeze and inner.inputs[0].type.shape[inner.attr("axis")] != 1:
        return "whether the axis has size 1 is seen when the program runs"
    if any(size.op is not o.size for size in inner.inputs[1:]):
        return "whether it is such a shape is seen when the program runs"
    made = o.reshape(inner.inputs[0], *sizes, shape=out.attr("shape"))
    return made if refines(made.type, out.type) else f"it would be {made.type}"


@rule(p.expand_dims(whole(o.reshape)))
def expanded_reshape(out: Node) -> Node:
    """expand_dims(reshape(x)) -> reshape(x)"""
    (inner,) = out.inputs
    shape, axis = inner.attr("shape"), out.attr("axis")
    return o.reshape(*inner.inputs, shape=(*shape[:axis], 1, *shape[axis:]))


@rule(p.squeeze(whole(o.reshape)))
def squeezed_reshape(out: Node) -> Node | str:
    """squeeze(reshape(x)) -> reshape(x)"""
    (inner,) = out.inputs
    shape, axis = inner.attr("shape"), out.attr("axis")
    if shape[axis] != 1:
        return "whether the axis has size 1 is seen when the program runs"
    made = o.reshape(*inner.inputs, shape=(*shape[:axis], *shape[axis + 1 :]))
    return made if refines(made.type, out.type) else f"it would be {made.type}"


@rule(p.squeeze(p.expand_dims(X, axis=attr("axis")), axis=attr("axis")))
def squeezed_expansion(x: Node) -> Node:
    """squeeze(expand_dims(x)) -> x, where it is the same axis"""
    return x


@rule(p.expand_dims(p.squeeze(X, axis=attr("axis")), axis=attr("axis")))
def expanded_squeeze(x: Node, axis: int) -> Node | str:
    """expand_dims(squeeze(x)) -> x, where it is the same axis"""
    return x if x.type.shape[axis] == 1 else "whether the axis has size 1 is seen when the program runs"


@rule(*[outer(alone(inner(X))) for outer in (p.expand_dims, p.squeeze) for inner in (p.expand_dims, p.squeeze)])
def reshaped_once(x: Node, out: Node) -> Node | str:
    """expand_dims(expand_dims(x)) -> reshape(x); so squeeze, and one of each; where the shape is known"""
    shape = out.type.shape
    return "a size is not known" if None in (*x.type.shape, *shape) else o.reshape(x, shape=shape)


# ---------------------------------------------------------------------------------------------------- joining, repeating


@rule(whole(o.concatenate))
def concatenations(out: Node) -> Node | str:
    """concatenate(x) -> x; concatenate(concatenate(x, y), z) -> concatenate(x, y, z); parts without elements go"""
    axis = out.attr("axis")
    parts: list[Node] = []
    for i in out.inputs:
        parts += i.inputs if i.op is o.concatenate and i.attr("axis") == axis else (i,)
    kept = [i for i in parts if i.type.shape[axis] != 0] or parts[:1]
    if len(kept) == len(out.inputs) > 1:
        return "there is nothing to join, and nothing to leave out"
    made = kept[0] if len(kept) == 1 else o.concatenate(*kept, axis=axis)
    return made if refines(made.type, out.type) else f"it would be {made.type}"


@rule(p.repeat(X, repeats=(1,)))
def repeated_once(x: Node) -> Node:
    """repeat(x), once -> x"""
    return x


@rule(p.tile(X, reps=attr("reps")))
def tiled_once(x: Node, reps: tuple[int, ...]) -> Node | str:
    """tile(x), once -> x"""
    return x if set(reps) <= {1} else "there are more of it"


@rule(p.pad(X, padding=attr("padding")))
def padded_by_nothing(x: Node, padding: tuple[tuple[int, int], ...]) -> Node | str:
    """pad(x), by nothing -> x"""
    return x if set(padding) <= {(0, 0)} else "there are zeros around it"


@rule(p.pad(alone(p.pad(X, padding=attr("inner"))), padding=attr("outer")))
def pads(x: Node, inner: tuple[tuple[int, int], ...], outer: tuple[tuple[int, int], ...]) -> Node:
    """pad(pad(x)) -> pad(x)"""
    return o.pad(x, padding=tuple([(a + c, b + d) for (a, b), (c, d) in zip(inner, outer, strict=True)]))


# ---------------------------------------------------------------------------------------------------- indices


@rule(p.index(X, form=attr("form"), numbers=attr("numbers")))
def index_of_all(x: Node, out: Node, form: str, numbers: tuple[int, ...]) -> Node | str:
    """x[:] -> x"""
    if form.strip("s"):
        return "an axis comes, or goes"
    for axis in range(len(form)):
        start, stop, step = numbers[3 * axis : 3 * axis + 3]
        size = x.type.shape[axis]
        if (start, stop, step) != FULL and (size is None or range(*slice(start, stop, step).indices(size)) != range(size)):
            return "not every element is taken, or in another order"
    return x


@rule(p.index(p.index(X, form=attr("inner"), numbers=attr("m")), form=attr("outer"), numbers=attr("n")))
def indices(x: Node, out: Node, inner: str, m: tuple[int, ...], outer: str, n: tuple[int, ...]) -> Node | str:
    """x[a][b] -> x[c], where sizes are known and no axes are new"""
    if "n" in inner or "n" in outer:
        return "there are new axes"
    shape = x.type.shape
    first, second = _entries(inner, m), _entries(outer, n)
    first += [slice(*FULL)] * (len(shape) - len(first))
    second += [slice(*FULL)] * (out.inputs[0].ndim - len(second))
    rest = iter(second)
    form = ""
    numbers: list[int] = []
    for size, entry in zip(shape, first, strict=True):
        if isinstance(entry, int):
            form, numbers = form + "i", [*numbers, entry]
            continue
        then = next(rest)
        whole_first = (entry.start, entry.stop, entry.step) == FULL
        if isinstance(then, slice) and (then.start, then.stop, then.step) == FULL:
            then, size = entry, 0  # of the first alone
        elif whole_first:
            size = 0  # of the second alone
        elif size is None:
            return "a size is not known"
        else:
            taken = range(*entry.indices(size))[then]
            then = taken if isinstance(taken, int) else _slice_of(taken)
        form += "i" if isinstance(then, int) else "s"
        numbers += [then] if isinstance(then, int) else [then.start, then.stop, then.step]
    while form.endswith("s") and tuple(numbers[-3:]) == FULL:
        form, numbers = form[:-1], numbers[:-3]
    made = o.index(x, form=form, numbers=tuple(numbers)) if form else x
    return made if refines(made.type, out.type) else f"it would be {made.type}"


def _entries(form: str, numbers: tuple[int, ...]) -> list[int | slice]:
    rest = iter(numbers)
    return [next(rest) if letter == "i" else slice(next(rest), next(rest), next(rest)) for letter in form]


def _slice_of(taken: range) -> slice:
    if not taken:
        return slice(0, 0, 1)
    stop = taken[-1] + (1 if taken.step > 0 else -1)
    return slice(taken[0], stop if stop >= 0 else -(2**63), taken.step)


@rule(p.index(whole(o.concatenate), form=attr("form"), numbers=attr("numbers")))
def index_of_part(out: Node, form: str, numbers: tuple[int, ...]) -> Node | str:
    """concatenate(x, y)[a] -> x[b] or y[b], where all of it is in one part"""
    (joined,) = out.inputs
    axis = joined.attr("axis")
    if "n" in form or len(form) <= axis:
        return "axes are new, or all parts are taken"
    entries = _entries(form, numbers)
    entry = entries[axis]
    start, stop, step = (entry, entry + 1, 1) if isinstance(entry, int) else (entry.start, entry.stop, entry.step)
    if start < 0 or step != 1 or stop <= start:
        return "it counts from the end, or in steps"
    for part in joined.inputs:
        size = part.type.shape[axis]
        if size is None:
            return "the size of a part is not known"
        if start < size:
            break
        start, stop = start - size, stop - size
    else:
        return "it is behind the last part"
    if stop > size and part is not joined.inputs[-1]:
        return "it is in several parts"
    at = sum([1 if letter == "i" else 3 for letter in form[:axis]])
    moved = (start,) if isinstance(entry, int) else (start, min(stop, size), 1)
    made = o.index(part, form=form, numbers=(*numbers[:at], *moved, *numbers[at + len(moved) :]))
    return made if refines(made.type, out.type) else f"it would be {made.type}"


# ---------------------------------------------------------------------------------------------------- sizes


@rule(p.size(X, axes=attr("axes")))
def size_of_source(x: Node, axes: tuple[int, ...]) -> Node | str:
    """size(f(x)) -> size(x), where the sizes come from there: f(x) need not be kept for them"""
    if any(x.type.shape[axis] is not None for axis in axes):
        found = shape_source(x)
        return "some of its sizes are known" if found is x else o.size(found, axes=axes)
    places = [source(x, axis) for axis in axes]
    node = places[0][0] if places else x
    if node is x or any(each is not node for each, _ in places):
        return "the sizes come from nowhere else, or from several places"
    return o.size(node, axes=tuple(sorted([axis for _, axis in places])))


__all__ = ["layout"]

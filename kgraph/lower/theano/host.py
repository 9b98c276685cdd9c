"""Ops of ours for Theano: one that calls NumPy, and scalar ops that Theano's own differ from NumPy's in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import theano.tensor as T
from theano.compile.ops import Rebroadcast
from theano.graph.basic import Apply
from theano.graph.op import Op as TheanoOp
from theano.scalar import basic as scalar
from theano.tensor.elemwise import Elemwise
from theano.tensor.nnet import nnet

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.op import OPS, Op
from kgraph.ir.types import TensorType
from kgraph.lower.runtime import fitting, same_sizes

#: They make no NumPy warnings, and entering `np.errstate` takes as long as a small draw.
_QUIET = {o.random_uniform, o.random_normal, o.fold_in, o.print_, o.arange}


def pattern(type: TensorType) -> tuple[bool, ...]:
    """Which axes broadcast: those of size 1, known while the graph is built."""
    return tuple([size == 1 for size in type.shape])


def broadcasting(x: Any, axes: Sequence[bool]) -> Any:
    """x, of which some axes broadcast and the others do not.

    ``T.patternbroadcast`` and ``T.addbroadcast`` of Theano 1.1.2 simplify what they make at once, by an optimisation that looks
    for a graph; they fail where x is a function of one operand, because there is none yet.
    """
    changed = [(axis, wanted) for axis, (wanted, has) in enumerate(zip(axes, x.broadcastable, strict=True)) if wanted != has]
    return Rebroadcast(*changed)(x) if changed else x


def of_size_one(x: Any, *axes: int) -> Any:
    """x, with these axes known to have size 1; that is looked at when the program runs."""
    return broadcasting(x, [own or axis in axes for axis, own in enumerate(x.broadcastable)])


class NumpyOp(TheanoOp):  # type: ignore[misc]
    """An op of the graph by its meaning in NumPy.

    Args:
      node: whose op and attrs these are.
      check: the sizes of operands are compared when the program runs, because no check before it knows them.
    """

    __props__ = ("name", "attrs", "dtype", "broadcastable", "shapes")

    def __init__(self, node: Node, check: bool = False):
        self.name, self.attrs, self.dtype, self.broadcastable = node.op.name, node.attrs, node.type.dtype, pattern(node.type)
        self.shapes = tuple([i.type.shape for i in node.inputs]) if check else None
        self.op: Op = OPS[self.name]
        self.keywords = dict(node.attrs)
        self.quiet = self.op in _QUIET
        if self.op is o.print_:
            self.view_map = {0: [0]}

    def make_node(self, *inputs: Any) -> Any:
        return Apply(self, inputs, [T.TensorType(self.dtype, self.broadcastable)()])

    def perform(self, node: Any, inputs: Sequence[Any], outputs: Any, params: Any = None) -> None:
        if self.shapes is not None and self.op.broadcasts:
            same_sizes(self.shapes, *inputs)
        elif self.shapes is not None:
            fitting((self.op.type_rule, self.attrs), *inputs)
        assert self.op.numpy is not None
        if self.quiet:
            result = self.op.numpy(*inputs, **self.keywords)
        else:
            with np.errstate(all="ignore"):
                result = self.op.numpy(*inputs, **self.keywords)
        result = np.asarray(result)
        if (result.base is not None or any(result is i for i in inputs)) and self.op is not o.print_:
            result = result.copy()  # a view: Theano has not been told of it
        outputs[0][0] = result

    def __str__(self) -> str:
        return f"NumPy{{{self.name}}}"


# ---------------------------------------------------------------------------------------------------- softmax


class _Softmax(nnet.Softmax):  # type: ignore[misc]
    """Theano's Python code, unlike its C code, refuses rows without elements."""

    def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
        _of_rows(super().perform, node, inputs, outputs)


class _LogSoftmax(nnet.LogSoftmax):  # type: ignore[misc]
    def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
        _of_rows(super().perform, node, inputs, outputs)


def _of_rows(perform: Any, node: Any, inputs: Any, outputs: Any) -> None:
    if inputs[0].size:
        perform(node, inputs, outputs)
    else:
        outputs[0][0] = inputs[0].copy()


softmax, log_softmax = _Softmax(), _LogSoftmax()

# ---------------------------------------------------------------------------------------------------- scalar ops


class _Rint(scalar.UnaryScalarOp):  # type: ignore[misc]
    nfunc_spec = ("rint", 1, 1)

    def impl(self, x: Any) -> Any:
        return np.rint(x)

    def c_code(self, node: Any, name: str, inputs: Any, outputs: Any, sub: Any) -> str:
        return f"{outputs[0]} = rint({inputs[0]});"  # Theano's own is a dozen branches, which are not vectorised

    def c_code_cache_version(self) -> tuple[int, ...]:
        return (1,)


class _Division(scalar.BinaryScalarOp):  # type: ignore[misc]
    """What both halves of a division by NumPy's rules share. Theano's raise for an integer 0, and round floats otherwise.

    The text has no percent sign: Theano formats it again where the op is fused with others.
    """

    unsigned: str
    signed: str
    floating: str

    def c_code(self, node: Any, name: str, inputs: Any, outputs: Any, sub: Any) -> str:
        dtype = node.outputs[0].type.dtype
        text = self.floating if dtype.startswith("float") else self.unsigned if dtype.startswith("u") else self.signed
        kind = node.outputs[0].type.dtype_specs()[1]
        (x, y), (z,) = inputs, outputs
        return text.replace("TYPE", kind).replace("$x", x).replace("$y", y).replace("$z", z)

    def c_code_cache_version(self) -> tuple[int, ...]:
        return (2,)


class _FloorDivide(_Division):
    nfunc_spec = ("floor_divide", 2, 1)
    unsigned = "$z = $y == 0 ? 0 : $x / $y;"
    # The least number by -1 is a trap of the processor.
    signed = (
        "if ($y == 0) $z = 0; else if ($y == -1) $z = 0 - (TYPE)$x; "
        "else $z = $x / $y - ($x / $y * $y != $x && ($x < 0) != ($y < 0));"
    )
    # As npy_floor_divide does it.
    floating = """{
        TYPE a = $x, b = $y;
        if (b == 0) { $z = a / b; }
        else {
            TYPE m = fmod(a, b), d = (a - m) / b;
            if (m != 0 && (b < 0) != (m < 0)) d -= 1;
            if (d != 0) { TYPE f = floor(d); if (d - f > (TYPE)0.5) f += 1; $z = f; }
            else $z = copysign((TYPE)0, a / b);
        }
    }"""

    def impl(self, x: Any, y: Any) -> Any:
        return np.floor_divide(x, y)


class _Remainder(_Division):
    nfunc_spec = ("remainder", 2, 1)
    unsigned = "$z = $y == 0 ? 0 : $x - $x / $y * $y;"
    signed = (
        "if ($y == 0 || $y == -1) $z = 0; "
        "else { TYPE m = $x - $x / $y * $y; $z = m != 0 && (m < 0) != ($y < 0) ? m + $y : m; }"
    )
    floating = """{
        TYPE a = $x, b = $y, m = fmod(a, b);
        if (b != 0) { if (m != 0) { if ((b < 0) != (m < 0)) m += b; } else m = copysign((TYPE)0, b); }
        $z = m;
    }"""

    def impl(self, x: Any, y: Any) -> Any:
        return np.remainder(x, y)


class _Counted(scalar.UnaryScalarOp):  # type: ignore[misc]
    """A size, which is not negative. Raises ValueError."""

    def impl(self, x: Any) -> Any:
        if x < 0:
            raise ValueError(_NEGATIVE)
        return x

    def c_code(self, node: Any, name: str, inputs: Any, outputs: Any, sub: Any) -> str:
        text = f'if ({inputs[0]} < 0) {{ PyErr_SetString(PyExc_ValueError, "{_NEGATIVE}"); {sub["fail"]} }}'
        return f"{text} {outputs[0]} = {inputs[0]};"

    def c_code_cache_version(self) -> tuple[int, ...]:
        return (1,)


_NEGATIVE = "negative dimensions are not allowed"


class _Lowest(float):
    """-infinity, in the C code of Theano's reductions too, which write it down with ``str``."""

    def __str__(self) -> str:
        return "-INFINITY"


class _Top(scalar.ScalarMaximum):  # type: ignore[misc]
    """The maximum of floats, for reductions; of no elements it is -infinity, where Theano's is an error."""

    identity = _Lowest(-np.inf)


class _All(scalar.AND):  # type: ignore[misc]
    """The conjunction of bools, for reductions; of none it is 1, where Theano's is -1: a byte of 255."""

    identity = 1


top = _Top(scalar.upcast_out, name="top")
every = _All(name="every")
counted = Elemwise(_Counted(scalar.same_out, name="counted"))
rint = Elemwise(_Rint(scalar.same_out, name="rint"))
floor_divide = Elemwise(_FloorDivide(scalar.upcast_out, name="floor_divide"))
remainder = Elemwise(_Remainder(scalar.upcast_out, name="remainder"))

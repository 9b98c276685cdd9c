"""Which rewrites Theano applies to a program: those of its own that pay, and two of ours.

The graph has been improved before it comes here, so most of Theano's are left out. Without them 0 * NaN stays NaN, and
`local_greedy_distributor` cannot run away, as it does on the gradient of a padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import theano.tensor as T
from theano.graph.opt import copy_stack_trace, in2out, local_optimizer
from theano.graph.optdb import Query
from theano.tensor.basic import Dot
from theano.tensor.blas import Gemm, gemm_no_inplace
from theano.tensor.elemwise import DimShuffle, Elemwise

from kgraph.lower.theano.rules import constant

#: Of Theano's rewrites those that do not pay. `gemm_optimizer` takes minutes for a sum of hundreds of products, which the
#: gradient of an unrolled loop is; `local_dot22_to_dot22scalar` computes a product again that is also read without its factor.
_LEFT_OUT = (
    "inline_ofg_expansion", "scan_eqopt1", "scan_eqopt2", "scanOp_save_mem", "scanOp_make_inplace", "ShapeOpt", "UnShapeOpt",
    "useless", "pre_local_IncSubtensor_serialize", "canonicalize", "stabilize", "specialize", "uncanonicalize",
    "specialize_device", "local_fill_to_alloc", "local_elemwise_alloc", "local_log_sum_exp", "AbstractConvCheck",
    "crossentropy_to_crossentropy_with_softmax", "random_make_inplace", "local_greedy_distributor", "gemm_optimizer",
    "local_dot22_to_dot22scalar",
)  # fmt: skip

#: Elements of a constant that is computed while the program is made.
_MOST_FOLDED = 256


def rewrites(lazy: bool, c_code: bool, first: Sequence[Any] = ()) -> Any:
    """The query for Theano's optimiser.

    Args:
      lazy: the program has branches.
      c_code: operations run in C where they can. In Python each that is fused runs number by number.
      first: more of them, to be done first.
    """
    # In place of a value that both sides of a branch read, one side would have to wait for the other one to run.
    exclude = [*_LEFT_OUT, *(["inplace"] if lazy else []), *([] if c_code else ["fusion"])]
    # The numbers are places in Theano's sequence: before all but a merge; before BLAS; after it, which moves axes about.
    ours = [
        *[(each, 0.001) for each in first],
        (in2out(_fold, name="kgraph_fold"), 0.01),
        (in2out(_accumulate, name="kgraph_accumulate"), 1.69),
        (in2out(_fold, name="kgraph_fold_again"), 1.71),
    ]
    return Query(include=["fast_run"], exclude=exclude, extra_optimizations=ours)


@local_optimizer(None)  # type: ignore[untyped-decorator]
def _fold(fgraph: Any, node: Any) -> Any:
    """What legalising has made of constants is computed now. Theano's own way compiles C code for it."""
    if not isinstance(node.op, (Elemwise, DimShuffle)) or not all(isinstance(i, T.TensorConstant) for i in node.inputs):
        return False
    if any(i.data.size > _MOST_FOLDED for i in node.inputs):
        return False
    cells = {i: [i.data] for i in node.inputs} | {node.outputs[0]: [None]}
    done = {variable: [variable in node.inputs] for variable in cells}
    with np.errstate(all="ignore"):
        node.op.make_thunk(node, cells, done, no_recycling=[], impl="py")()
    return [T.TensorConstant(node.outputs[0].type, cells[node.outputs[0]][0])]


@local_optimizer([T.add, T.sub])  # type: ignore[untyped-decorator]
def _accumulate(fgraph: Any, node: Any) -> Any:
    """A product of matrices that is added to another one, or to a sum of such, is computed by BLAS onto what is there."""
    if len(node.inputs) != 2 or any(len(fgraph.clients[i]) > 1 for i in node.inputs):
        return False
    first, second = node.inputs
    sign = 1 if node.op == T.add else -1
    for total, b, product, a in ((first, 1, second, sign), (second, sign, first, 1)):
        if _is(total, (Dot, Gemm)) and _is(product, Dot) and total.type == product.type:
            factors = [constant(np.array(factor, total.dtype)) for factor in (a, b)]
            made = gemm_no_inplace(total, factors[0], *product.owner.inputs, factors[1])
            copy_stack_trace([node.outputs[0], product], made)
            return [made]
    return False


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is the matrix that an operation of one of some kinds gives."""
    return value.owner is not None and isinstance(value.owner.op, kind) and value.ndim == 2 and not any(value.broadcastable)

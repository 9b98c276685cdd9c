"""Products of matrices without elements, which Theano's C code refuses.

NumPy 1.26 gives the strides of an array without elements as 0, and theano-pymc 1.1.2 takes a matrix with such strides for
one that BLAS cannot read. A size of 0 is treated here as a size of 1 is: its stride does not matter.
"""

from __future__ import annotations

from theano.tensor.blas import GemmRelated

_STRIDES = GemmRelated.encode_strides_in_unit.replace("==1", "<=1")
#: BLAS refuses a stride of 0, although it reads nothing.
_NONE_EMPTY = "".join(
    f"s{m}_{axis} = (N{m}[0] > 0 && N{m}[1] > 0) ? s{m}_{axis} : N{m}[{1 - axis}] + 1;\n" for m in "xyz" for axis in (0, 1)
)


def allow_empty() -> None:
    """Change the C code of Theano's products, and the version under which it is kept."""
    if GemmRelated.encode_strides_in_unit != _STRIDES:
        GemmRelated.encode_strides_in_unit = _STRIDES
        GemmRelated.compute_strides += _NONE_EMPTY
        version = GemmRelated.build_gemm_version
        GemmRelated.build_gemm_version = lambda self: (*version(self), "empty")

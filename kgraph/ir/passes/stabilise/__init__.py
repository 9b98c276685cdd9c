"""Formulas that overflow, or lose their digits, in a form that does not; and their gradients, made of the same parts.

Each rule is of the class "rounding": right wherever the plain formula is, and where that one overflows or underflows.
"""

from __future__ import annotations

from kgraph.ir.passes.stabilise import cancelling, crossentropy, logarithms, quotients, roots, steps  # noqa: F401  # each adds its rules
from kgraph.ir.passes.stabilise.rules import stabilise

__all__ = ["stabilise"]

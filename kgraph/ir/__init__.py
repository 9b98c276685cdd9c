"""The engine-neutral graph: types, nodes, ops, gradients and passes. Imports NumPy and no engine."""

import kgraph.ir.ops  # noqa: F401  # first of all: the ops, nodes and operators import one another, and this order works

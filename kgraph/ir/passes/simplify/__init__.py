"""Expressions in fewer or cheaper ops that mean the same.

`arithmetic`, `constants`, `choices`, `broadcasts`, `layout`, `orders` and `reductions` hold the rules, by subject; here they
are one set. The order matters within one node alone: what makes more of the graph go comes first.
"""

from __future__ import annotations

from kgraph.ir.passes.simplify.arithmetic import arithmetic
from kgraph.ir.passes.simplify.broadcasts import broadcasts
from kgraph.ir.passes.simplify.choices import choices
from kgraph.ir.passes.simplify.constants import constants
from kgraph.ir.passes.simplify.layout import layout
from kgraph.ir.passes.simplify.orders import orders
from kgraph.ir.passes.simplify.reductions import reductions
from kgraph.ir.rewrite import Rules

simplify = Rules("simplify", [*arithmetic, *choices, *broadcasts, *constants, *layout, *reductions, *orders])

__all__ = ["simplify"]

"""What a loop sums over its steps, and one product of matrices can sum after it: the gradients of the weights of a step.

The gradient of a matrix w in ``dot(x, w)`` is, in each step, the product of x transposed and a cotangent. A loop would make the
product of few rows in every step, and add it to what may be a large matrix. The product of all the rows of all steps is one,
and takes half the time; what it costs is to keep the cotangents of all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import kgraph.ir.ops as o
from kgraph.ir.node import Node
from kgraph.ir.sizes import sized_by_values
from kgraph.ir.traverse import toposort

#: The rows of two matrices; the sum of their products, row by row, is wanted.
Rows = tuple[Node, Node]


def divided(sums: Mapping[Node, Node], constant: Collection[Node]) -> tuple[dict[Node, Node], dict[Node, list[Rows]]]:
    """What is to be summed over the steps of a loop, within the loop and after it.

    Args:
      sums: name -> what each step adds.
      constant: nodes that are the same in all steps.
    Returns: name -> what is left to add in each step; name -> pairs of matrices of which `product` makes the rest.
    """
    within: dict[Node, Node] = {}
    after: dict[Node, list[Rows]] = {}
    loose = sized_by_values(toposort(sums.values()))
    for name, total in sums.items():
        left: list[Node] = []
        for term in _terms(total):
            rows = _rows(term)
            if rows and not any(x in constant or x in loose or not x.type.shape[1] for x in rows):
                after.setdefault(name, []).append(rows)
            else:
                left.append(term)
        if name not in after:
            within[name] = total
        elif left:
            within[name] = _sum(left)
    return within, after


def product(pairs: Iterable[Rows], stack: Callable[[Node], Node]) -> Node:
    """The sum over all steps.

    Args:
      stack: matrix of a step -> those of all steps, stacked.
    """

    def rows(x: Node) -> Node:
        return o.reshape(stack(x), shape=(-1, x.type.shape[1]))

    return _sum([o.matmul(o.transpose(rows(x), perm=(1, 0)), rows(y)) for x, y in pairs])


def _sum(terms: Sequence[Node]) -> Node:
    total = terms[0]
    for term in terms[1:]:
        total = o.add(total, term)
    return total


def _terms(total: Node) -> list[Node]:
    """The terms of a sum, from left to right. A sum that is a term twice is taken apart once: doubled again and again, it would
    have more terms than can be counted."""
    found: list[Node] = []
    apart: set[Node] = set()
    waiting = [total]
    while waiting:
        node = waiting.pop()
        if node.op is o.add and node not in apart and all(i.type is total.type for i in node.inputs):
            apart.add(node)
            waiting += reversed(node.inputs)
        else:
            found.append(node)
    return found


def _rows(term: Node) -> Rows | None:
    if term.op is not o.matmul or term.ndim != 2:
        return None
    x, y = term.inputs
    return (x.inputs[0] if x.op is o.transpose else o.transpose(x, perm=(1, 0))), y

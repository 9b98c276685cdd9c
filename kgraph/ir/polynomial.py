"""Polynomials with rational coefficients, found from their values: what a cost is of sizes that are not known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

#: Exponents, one for each unknown.
Monomial = tuple[int, ...]


class Polynomial:
    """A polynomial in named unknowns.

    Args:
      names: of the unknowns.
      terms: exponents -> coefficient.
    """

    __slots__ = ("names", "terms")

    def __init__(self, names: Sequence[str], terms: Mapping[Monomial, Fraction]):
        self.names = tuple(names)
        self.terms = {powers: c for powers, c in sorted(terms.items(), key=lambda term: (-sum(term[0]), term[0])) if c}

    def __call__(self, **values: int) -> int:
        """The value, rounded up, for values of the unknowns by name."""
        point = [values[name] for name in self.names]
        return math.ceil(sum(coefficient * _power(point, powers) for powers, coefficient in self.terms.items()))

    @property
    def is_number(self) -> bool:
        return not any(map(sum, self.terms))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Polynomial):
            return (self.names, self.terms) == (other.names, other.terms)
        return self.is_number and sum(self.terms.values()) == other

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        text = ""
        for powers, coefficient in self.terms.items():
            sign = (" - " if text else "-") if coefficient < 0 else " + " if text else ""
            text += sign + _shown(abs(coefficient), powers, self.names)
        return text or "0"

    def __repr__(self) -> str:
        return f"<{self}>"


def _power(point: Sequence[int], powers: Monomial) -> Fraction:
    return Fraction(math.prod(x**power for x, power in zip(point, powers, strict=True)))


def _shown(coefficient: Fraction, powers: Monomial, names: Sequence[str]) -> str:
    factors = [name if power == 1 else f"{name}**{power}" for name, power in zip(names, powers, strict=True) if power]
    if coefficient.denominator != 1:
        factors = [f"{float(coefficient):,.6g}", *factors]
    elif coefficient != 1 or not factors:
        factors = [f"{int(coefficient):,}", *factors]
    return "*".join(factors)


def interpolated(
    names: Sequence[str], values_at: Callable[[Mapping[str, int]], Sequence[int]], degree: int, step: int
) -> list[Polynomial]:
    """The polynomials of a total degree that have some values.

    Args:
      values_at: values of the unknowns -> the value of each polynomial. It is asked at multiples of step, where what is divided
        and rounded has no rest.
    """
    monomials = [powers for powers in itertools.product(range(degree + 1), repeat=len(names)) if sum(powers) <= degree]
    # The points of a simplex: as many as there are monomials, and no polynomial of the degree is zero in all but the zero one.
    points = [[step * (power + 1) for power in powers] for powers in monomials]
    rows = [values_at(dict(zip(names, point, strict=True))) for point in points]
    matrix = [[_power(point, powers) for powers in monomials] for point in points]
    solved = _solved(matrix, [[Fraction(value) for value in row] for row in rows])
    return [Polynomial(names, dict(zip(monomials, column, strict=True))) for column in zip(*solved, strict=True)]


def _solved(matrix: list[list[Fraction]], right: list[list[Fraction]]) -> list[list[Fraction]]:
    """The solutions of a system of equations, by elimination, exact."""
    rows = [[*left, *values] for left, values in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = next(r for r in range(column, size) if rows[r][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        top = rows[column]
        rows[column] = top = [value / top[column] for value in top]
        for r in range(size):
            factor = rows[r][column]
            if r != column and factor:
                rows[r] = [value - factor * first for value, first in zip(rows[r], top, strict=True)]
    return [row[size:] for row in rows]

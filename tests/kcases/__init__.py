"""The table of K functions: a row per function and per behaviour worth keeping, against NumPy or plain Python."""

from tests.kcases import linalg, math, nn, reduce, rnn, shape
from tests.kcases.base import KCase

KCASES: list[KCase] = [row for family in (math, reduce, linalg, shape, nn, rnn) for row in family.ROWS]

#: (engine, id of a row) -> why it is known to differ. Run as strict xfails, so that a gap that is closed announces itself.
KNOWN_GAPS: dict[tuple[str, str], str] = {}

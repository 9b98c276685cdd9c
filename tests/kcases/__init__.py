"""The table of K functions: a row per function and per behaviour worth keeping, against NumPy or plain Python."""

from tests.kcases import conv, ctc, image, linalg, math, nn, normalization, reduce, rnn, shape
from tests.kcases.base import KCase

FAMILIES = (math, reduce, linalg, shape, nn, image, normalization, conv, ctc, rnn)
KCASES: list[KCase] = [row for family in FAMILIES for row in family.ROWS]

#: (engine, id of a row) -> why it is known to differ. Run as strict xfails, so that a gap that is closed announces itself.
KNOWN_GAPS: dict[tuple[str, str], str] = {}

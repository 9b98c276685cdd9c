"""The table of ops: a row per op and per behaviour worth keeping. Every engine runs every row."""

from tests.cases import control, conv, ctc, elementwise, index, linalg, nn, pad, random, reduce, scan, shape
from tests.cases.base import Case

CASES: list[Case] = [
    row
    for family in (elementwise, reduce, shape, pad, index, linalg, nn, conv, ctc, random, control, scan)
    for row in family.ROWS
]  # fmt: skip

#: Sources have no operands and no value of their own; the test that binds each, in tests/lower/test_ops.py.
SOURCES = {
    "placeholder": "test_value",
    "constant": "test_constant_operands",
    "variable": "test_a_variable_has_the_value_set_last",
    "stream": "test_a_stream_gives_its_seed_and_counts_the_calls",
    "learning_phase": "test_the_learning_phase_is_0_in_test_and_1_in_train_programs",
    "param": "test_value",  # the rows of cond
    "absent": "test_value",  # a row of cond
}

#: (engine, id of a row) -> why it is known to differ. Run as strict xfails, so that a gap that is closed announces itself.
KNOWN_GAPS: dict[tuple[str, str], str] = {}

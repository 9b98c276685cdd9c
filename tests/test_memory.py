"""What is dropped is gone: the resident memory of a process that makes a thousand functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process import run_python

PROGRAM = """
import os
import numpy as np
from kgraph import backend as K

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def one(i):
    x, w = K.placeholder((None, 8)), K.variable(np.ones((8, 8)))
    y = x
    for j in range(10):
        y = K.tanh(K.dot(y, w) * (1.0 + i) + float(j)) if (i >> j) & 1 else K.sigmoid(K.dot(y, w) - float(i))
    loss = K.mean(y)
    K.function([x], [loss], [(w, w - K.gradients(loss, [w])[0])])([np.ones((4, 8))])

for i in range(500):
    one(i)
half = resident()
for i in range(500, 1000):
    one(i)
print((resident() - half) / 1e6)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident memory is read from Linux's /proc")
def test_a_thousand_functions_made_and_dropped_grow_by_less_than_20_megabytes_in_the_last_half() -> None:
    assert float(run_python(PROGRAM)) < 20

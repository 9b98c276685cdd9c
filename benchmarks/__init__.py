"""Benchmarks: kgraph beside what it is compared with, both in one run. See docs/benchmarks.md."""

import os

# The matrices are small: threads of BLAS would gain little, and wait for one another on a machine that others use too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

"""Benchmarks: kgraph beside what it is compared with, both in one run. See docs/benchmarks.md."""

"""Readers of the benchmarks' own data, one module each: `rows(source)` gives rows of the form in `vrx/benchmarks.py`.

Each takes the official download and the data set of the hub that its module names; what a row lacks is refused by
benchmark, sample and column.
"""

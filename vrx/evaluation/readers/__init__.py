"""Readers of official benchmark files and Hub data sets: one module per data set, a `rows` function each."""

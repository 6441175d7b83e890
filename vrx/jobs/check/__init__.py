"""Checks weights, data, disk and cost before GPU-hours are spent."""

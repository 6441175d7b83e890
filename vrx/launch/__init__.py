"""Processes: workers, ranks, devices, several machines, the sweep runner."""

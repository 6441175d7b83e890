"""Several runs by one command: Hydra's multirun, with each run in a process of its own."""

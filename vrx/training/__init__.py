"""The training loop, its loss, engines, checkpoints, the fast path and FLOPs."""

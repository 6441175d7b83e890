"""Benchmarks, dataset readers, generation, log-likelihood and scoring."""

"""Benchmarks of backprop beside its peers; see bench/README.md."""

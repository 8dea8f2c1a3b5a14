"""Measurements: `make bench` runs them all and writes experiments/results/bench.md."""

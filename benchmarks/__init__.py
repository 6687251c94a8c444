"""Slow measurements: accuracy over seeds.  Results are JSON files in ``benchmarks/results``."""

"""Slow measurements: accuracy over seeds, speed beside PyTorch.

Results are JSON files in ``benchmarks/results``.
"""

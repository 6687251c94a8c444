"""Mutated files for every reader: ``python -m tests.fuzz READER --inputs=20000``."""

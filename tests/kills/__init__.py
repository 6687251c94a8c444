"""Runs killed at any moment and started again: ``python -m tests.kills --kills=500``."""

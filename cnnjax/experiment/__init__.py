"""One experiment: its record, its trained trial, its run directory, its answers.

Here, and in ``experiments/``, data, models and training meet; everything below knows only its own.
"""

"""Sweeps: many configurations of one experiment, from their description to rows of results."""

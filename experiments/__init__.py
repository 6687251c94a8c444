"""One file = one experiment: its Config, its Task, its ablations, its published numbers."""

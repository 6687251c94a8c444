"""The command line: the only place that speaks of flags."""

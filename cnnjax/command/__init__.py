"""The command line: the only place that speaks of flags."""

from cnnjax.command.line import main

__all__ = ["main"]

"""The command ``cnnjax`` that an installation of the package brings: its experiments, anywhere."""

import importlib
import sys

from cnnjax.command.line import main


def run() -> int:
    """Run the command line of this process; return the exit status."""
    # In a checkout these are the modules of the folder experiments/ (pyproject.toml, package-dir).
    experiments = importlib.import_module("cnnjax.experiments")
    return main(experiments, sys.argv[1:])

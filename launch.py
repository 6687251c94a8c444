"""Run an experiment: ``python launch.py --experiment=NAME``.  Without flags: what there is."""

import sys

import experiments
from cnnjax.command import main

if __name__ == "__main__":
    sys.exit(main(experiments, sys.argv[1:]))

"""Sweeps: many configurations, from their description as data to rows of results and a report.

In research code ``grid`` says what to vary and ``run`` trains a task of one's own once for each;
``launch.py --sweep`` does the same for an experiment, in several processes or on a cluster.
"""

from cnnjax.sweeps.axes import Sweep, axis, chain, grid, product, subsample, zipped
from cnnjax.sweeps.research import run

__all__ = ["Sweep", "axis", "chain", "grid", "product", "run", "subsample", "zipped"]

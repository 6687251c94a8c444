"""Transfer learning: what a network learned from much data, used where there is little.

Backbones with their inputs, the stages that are frozen or trained, heads, features computed once.
"""

from cnnjax.transfer.heads import Head, Transferred
from cnnjax.transfer.stages import features_of, stages

__all__ = ["Head", "Transferred", "features_of", "stages"]

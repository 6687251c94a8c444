"""Linen modules that Flax does not have: parameters around :mod:`cnnjax.ops`.

Every layer also says how many connections it makes, ``links(inputs, outputs)``, counted as the
primary sources count them: one for each input of each unit, and one for its bias.
"""

from cnnjax.layers.batch_norm import BatchNorm, WholeBatch
from cnnjax.layers.conv_pool import ConvPool
from cnnjax.layers.convolution import Conv, LocalConv
from cnnjax.layers.initializers import fan_in_uniform, symmetric_uniform
from cnnjax.layers.radial_basis import RadialBasis
from cnnjax.layers.subsample import Subsample

__all__ = [
    "BatchNorm", "Conv", "ConvPool", "LocalConv", "RadialBasis", "Subsample", "WholeBatch",
    "fan_in_uniform", "symmetric_uniform",
]  # fmt: skip

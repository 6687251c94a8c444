"""SqueezeNet 1.1, with the arithmetic and the parameter names of torchvision's weights."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax import ops
from cnnjax.layers import Conv
from cnnjax.models.interface import Dropout, Features


class Fire(nn.Module):
    """1x1 convolution to few maps; of these 1x1 and 3x3 convolutions, side by side; ReLU.

    float[N, H, W, C] -> float[N, H, W, 2 expanded].

    Attributes:
        squeezed: maps of the first convolution.
        expanded: maps of each of the two others.
        dtype: of the computation.
    """

    squeezed: int
    expanded: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        arguments = {"kernel_init": nn.initializers.he_uniform(), "dtype": self.dtype}
        x = nn.relu(Conv(self.squeezed, 1, **arguments, name="squeeze")(x))
        narrow = Conv(self.expanded, 1, **arguments, name="expand1x1")(x)
        wide = Conv(self.expanded, 3, padding=1, **arguments, name="expand3x3")(x)
        return nn.relu(jnp.concatenate([narrow, wide], axis=-1))


_FIRES = {  # place in torchvision's sequence -> (squeezed, expanded)
    3: (16, 64), 4: (16, 64), 6: (32, 128), 7: (32, 128),
    9: (48, 192), 10: (48, 192), 11: (64, 256), 12: (64, 256),
}  # fmt: skip
_POOLED = (3, 6, 9)  # places with max-pooling before them


class SqueezeNet(nn.Module):
    """float[N, H, W, 3] -> float32[N, classes], for images of 17x17 and more.

    3x3 convolution and max-pooling, each with strides 2 (``stem``), the fire modules ``fire2`` to
    ``fire9``, and a 1x1 convolution to the classes whose maps, after a ReLU, are averaged.
    ``pooled`` is the mean of ``fire9`` over space.  1,235,496 parameters with 1000 classes.

    Attributes:
        classes: K, the number of outputs.
        dtype: of the computation; parameters and logits are float32.

    Source: Iandola et al. 2016, "SqueezeNet", release 1.1: as 1.0 with less arithmetic.
    """

    classes: int = 1000
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        if inputs.ndim != 4 or min(inputs.shape[1:3]) < 17:
            raise ValueError(
                f"SqueezeNet takes images [N, H, W, C] of at least 17x17; "
                f"the inputs are {inputs.shape}"
            )
        he = nn.initializers.he_uniform()
        x = nn.relu(Conv(64, 3, 2, kernel_init=he, dtype=self.dtype, name="features.0")(inputs))
        features: Features = {}
        for fire, (place, sizes) in enumerate(_FIRES.items(), start=2):
            if place in _POOLED:
                x = _pool(x)
            if not features:
                features["stem"] = x
            x = features[f"fire{fire}"] = Fire(*sizes, self.dtype, name=f"features.{place}")(x)
        features["pooled"] = x.mean((1, 2))
        kept = x if dropout is None else dropout(x)
        last = nn.initializers.normal(0.01)
        maps = Conv(self.classes, 1, kernel_init=last, dtype=self.dtype, name="classifier.1")(kept)
        features["logits"] = logits = nn.relu(maps).mean((1, 2)).astype(jnp.float32)
        return logits, features


def _pool(x: jax.Array) -> jax.Array:
    """3x3 max-pooling with strides 2; a last window may reach over the edge by one."""
    over = [(0, (n - 3) % 2) for n in x.shape[1:3]]
    return ops.max_pool(x, 3, strides=2, padding=over)

"""Residual networks with the arithmetic and the parameter names of their published weights.

Convolutions pad explicitly on both sides.  Batch normalisation (:class:`cnnjax.layers.BatchNorm`)
uses the statistics of the batch in training, or with ``frozen_norms`` always those that come with
the weights.  Modules have the names of the PyTorch files: the parameter ``layer1.0.conv1.weight``
there is ``layer1.0/conv1/kernel`` here.

Source: He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition".
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax import ops
from cnnjax.layers import BatchNorm, Conv, fan_in_uniform
from cnnjax.models.interface import Dropout, Features

# Of ImageNet's pixels in 0..1: torchvision's networks take (pixel - mean) / deviation.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
_classifier_init = fan_in_uniform(1.0, exponent=0.5)


def _conv(maps: int, window: int, strides: int, dtype: Any, name: str) -> Conv:
    """Padded so that strides 1 keep the size."""
    return Conv(
        maps, window, strides, window // 2, bias="none", kernel_init=_he_fan_out, dtype=dtype,
        name=name,
    )  # fmt: skip


class BasicBlock(nn.Module):
    """relu(x + two 3x3 convolutions of x), float[N, H, W, C] -> float[N, H', W', maps].

    Attributes:
        maps: of every convolution.
        strides: of the first convolution; H' = ceil(H / strides).
        frozen: as of :class:`~cnnjax.layers.BatchNorm`.
        projection: where the shape changes, x goes through a 1x1 convolution (the paper's option
            B); otherwise it is subsampled, and the new maps, half of them before and half behind,
            are zero (option A, without parameters).
        dtype: of the computation.
    """

    maps: int
    strides: int = 1
    projection: bool = True
    frozen: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = functools.partial(BatchNorm, self.frozen, dtype=self.dtype)
        y = nn.relu(norm(name="bn1")(_conv(self.maps, 3, self.strides, self.dtype, "conv1")(x)))
        y = norm(name="bn2")(_conv(self.maps, 3, 1, self.dtype, "conv2")(y))
        if self.projection:
            shortcut = _shortcut(x, self.maps, self.strides, norm, self.dtype)
        else:
            new = self.maps - x.shape[-1]
            subsampled = x[:, :: self.strides, :: self.strides]
            shortcut = jnp.pad(subsampled, ((0, 0),) * 3 + ((new // 2, new - new // 2),))
        return nn.relu(y + shortcut)


class Bottleneck(nn.Module):
    """relu(x + 1x1, 3x3 and 1x1 convolutions of x), float[N, H, W, C] -> [N, H', W', 4 maps].

    Attributes:
        maps: of the first two convolutions.
        strides: of the 3x3 convolution, as torchvision has it (the paper: of the first 1x1).
        frozen: as of :class:`~cnnjax.layers.BatchNorm`.
        dtype: of the computation.
    """

    maps: int
    strides: int = 1
    frozen: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = functools.partial(BatchNorm, self.frozen, dtype=self.dtype)
        y = nn.relu(norm(name="bn1")(_conv(self.maps, 1, 1, self.dtype, "conv1")(x)))
        y = nn.relu(norm(name="bn2")(_conv(self.maps, 3, self.strides, self.dtype, "conv2")(y)))
        y = norm(name="bn3")(_conv(4 * self.maps, 1, 1, self.dtype, "conv3")(y))
        return nn.relu(y + _shortcut(x, 4 * self.maps, self.strides, norm, self.dtype))


def _shortcut(
    x: jax.Array, maps: int, strides: int, norm: Callable[..., BatchNorm], dtype: Any
) -> jax.Array:
    """x, through a 1x1 convolution where its shape differs; inside a compact module."""
    if strides == 1 and x.shape[-1] == maps:
        return x
    projected = _conv(maps, 1, strides, dtype, "downsample.0")(x)
    return norm(name="downsample.1")(projected)


_IMAGENET = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """ResNet-18, 34 or 50 of ImageNet: float[N, H, W, 3] -> float32[N, classes].

    7x7 convolution and 3x3 max-pooling, each with strides 2 (``stem``), four stages of blocks
    (``layer1`` to ``layer4``, all but the first halving the size and doubling the maps), the mean
    over space (``pooled``) and a classifier.  With 1000 classes 11,689,512, 21,797,672 and
    25,557,032 parameters, beside the running averages.

    Attributes:
        depth: 18, 34 or 50.
        classes: K, the number of outputs.
        frozen_norms: batch normalisation uses the running averages in training, too.
        dtype: of the computation; parameters and logits are float32.
    """

    depth: int = 18
    classes: int = 1000
    frozen_norms: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        _check(inputs, self.depth, _IMAGENET)
        block, counts = _IMAGENET[self.depth]
        x = _conv(64, 7, 2, self.dtype, "conv1")(inputs)
        x = nn.relu(BatchNorm(self.frozen_norms, dtype=self.dtype, name="bn1")(x))
        features = {"stem": ops.max_pool(x, 3, strides=2, padding=1)}
        block = functools.partial(block, frozen=self.frozen_norms, dtype=self.dtype)
        return _stages(features, counts, 64, block, self.classes, "fc", dropout, self.dtype)


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44 or 56 of CIFAR-10: float[N, H, W, 3] -> float32[N, classes].

    3x3 convolution (``stem``), three stages of (depth - 2) / 6 blocks with 16, 32 and 64 maps
    (``layer1`` to ``layer3``) whose shortcuts have no parameters, the mean over space (``pooled``)
    and a classifier.  269,722 parameters at depth 20, beside the running averages.

    Attributes:
        depth: 20, 32, 44 or 56.
        classes: K, the number of outputs.
        frozen_norms: batch normalisation uses the running averages in training, too.
        dtype: of the computation; parameters and logits are float32.

    Source: He et al. 2015, section 4.2.
    """

    depth: int = 20
    classes: int = 10
    frozen_norms: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        _check(inputs, self.depth, (20, 32, 44, 56))
        x = _conv(16, 3, 1, self.dtype, "conv1")(inputs)
        stem = BatchNorm(self.frozen_norms, dtype=self.dtype, name="bn1")(x)
        features = {"stem": nn.relu(stem)}
        counts = ((self.depth - 2) // 6,) * 3
        block = functools.partial(
            BasicBlock, projection=False, frozen=self.frozen_norms, dtype=self.dtype
        )
        return _stages(features, counts, 16, block, self.classes, "linear", dropout, self.dtype)


def _stages(
    features: Features, counts, maps: int, block, classes: int, classifier: str, dropout, dtype
) -> tuple[jax.Array, Features]:
    """From the stem to the logits; inside a compact module."""
    x = features["stem"]
    for stage, count in enumerate(counts, start=1):
        for i in range(count):
            strides = 2 if stage > 1 and i == 0 else 1
            x = block(maps << (stage - 1), strides, name=f"layer{stage}.{i}")(x)
        features[f"layer{stage}"] = x
    features["pooled"] = pooled = x.mean((1, 2))
    kept = pooled if dropout is None else dropout(pooled)
    dense = nn.Dense(classes, kernel_init=_classifier_init, dtype=dtype, name=classifier)
    features["logits"] = logits = dense(kept).astype(jnp.float32)
    return logits, features


def _check(inputs: jax.Array, depth: int, depths) -> None:
    if depth not in depths:
        raise ValueError(f"depth is {depth}; it must be one of {', '.join(map(str, depths))}")
    if inputs.ndim != 4:
        raise ValueError(f"a ResNet takes images [N, H, W, C]; the inputs are {inputs.shape}")

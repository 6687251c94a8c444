"""A small task and data set on which training is tested: fast, with dropout, learnable."""

import jax
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from cnnjax import ops
from cnnjax.layers import Conv
from cnnjax.training import Task


@struct.dataclass
class Hparams:
    """Hyperparameters of the small task."""

    learning_rate: float = 0.05
    dropout: float = 0.3


class SmallNet(nn.Module):
    """8x8x1 -> 4@6x6 -> 4@3x3 -> 16 -> 3, with two places that drop."""

    @nn.compact
    def __call__(self, inputs, *, dropout=None):
        x = ops.max_pool(nn.relu(Conv(4, 3)(inputs)), 2)
        if dropout:
            x = dropout(x)
        x = nn.relu(nn.Dense(16)(x.reshape(x.shape[0], -1)))
        if dropout:
            x = dropout(x, site=1)
        logits = nn.Dense(3)(x)
        return logits, {"logits": logits}


def small_task() -> Task:
    """SGD with momentum on :class:`SmallNet`."""
    return Task(
        model=SmallNet(),
        optimizer=lambda hparams: optax.sgd(hparams.learning_rate, momentum=0.9),
        prepare=lambda inputs: inputs.astype("float32") / 255,
    )


def small_splits(count: int = 90, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Three classes of noisy 8x8 images, each bright in a region of its own."""
    random = np.random.RandomState(seed)
    splits = {}
    for split, size in (("train", count), ("validation", 30)):
        labels = random.randint(0, 3, size).astype(np.int32)
        inputs = random.randint(0, 100, (size, 8, 8, 1))
        for image, label in zip(inputs, labels, strict=True):
            image[2 * label : 2 * label + 3] += 100
        splits[split] = {"inputs": inputs.astype(np.uint8), "labels": labels}
    return splits


def traced(hparams: Hparams) -> Hparams:
    """The hyperparameters as arrays."""
    return jax.tree.map(np.float32, hparams)

"""Networks whose features are used elsewhere: by name, with the inputs they were trained on."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax import ops
from cnnjax.errors import UserError
from cnnjax.models import CifarResNet, LeNet1, LeNet4, LeNet5, ModernLeNet, ResNet, SqueezeNet
from cnnjax.models.lenet import lenet_inputs
from cnnjax.models.resnet import IMAGENET_DEVIATION, IMAGENET_MEAN
from cnnjax.pretrained import weights
from cnnjax.pretrained.merge import merge
from cnnjax.training.variables import nested
from cnnjax.transfer.heads import Reading, Transferred
from cnnjax.transfer.stages import collections, dependencies, shapes, stages

_PREFIX = "backbone/"  # of the parameters in a Transferred


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network to be transferred.

    Attributes:
        network: returns ``(logits, features)``.
        last: the feature before its classifier.
        prepare: stored images [N, h, w, c] -> its inputs float32[N, H, W, C].
        reading: how a classifier reads its features.
        largest: side of the largest images that it takes, if there is one.
    """

    network: nn.Module
    last: str
    prepare: Callable[[jax.Array], jax.Array]
    reading: Reading
    largest: int | None = None

    def inputs(self, images: Sequence[int]) -> tuple[int, ...]:
        """The shape of the network's input for a stored image of shape (h, w, c)."""
        image = jax.ShapeDtypeStruct((1, *images), np.uint8)
        return jax.eval_shape(self.prepare, image).shape[1:]

    def model(self, feature: str, classes: int) -> Transferred:
        """The network up to ``feature``, and a classifier on it."""
        return Transferred(self.network, feature, classes, self.reading)

    def stages(self, images: Sequence[int], feature: str) -> dict[str, tuple[str, ...]]:
        """Stage -> paths of its parameters in :meth:`model`, from the input up to ``feature``."""
        found = stages(self.network, self.inputs(images), feature)
        return {stage: tuple(_PREFIX + path for path in paths) for stage, paths in found.items()}

    def features(self, images: Sequence[int]) -> tuple[str, ...]:
        """The names of its features, from the input on; the logits are none."""
        known = dependencies(self.network, self.inputs(images))
        return tuple(name for name in known if name != "logits")

    def variables(
        self, initial: Mapping[str, jax.Array], inputs: tuple[int, ...]
    ) -> dict[str, Any]:
        """The network's collections, of the values in ``initial`` by their paths in :meth:`model`.

        Args:
            initial: path -> array; those of other modules are left out.
            inputs: shape of one of the network's inputs.
        """
        own = {p.removeprefix(_PREFIX): a for p, a in initial.items() if p.startswith(_PREFIX)}
        return nested(own, collections(self.network, inputs))

    def merged(
        self, arrays: Mapping[str, np.ndarray], source: object, images: Sequence[int], feature: str
    ) -> dict[str, np.ndarray]:
        """Path of each variable of :meth:`model`'s backbone -> its value in ``arrays``.

        Parameters of the network that ``feature`` does not depend on may be there or not.

        Raises:
            UserError: as :func:`cnnjax.pretrained.merge.merge`.
        """
        if any(name.startswith(_PREFIX) for name in arrays):  # a Transferred's own
            arrays = {
                name.removeprefix(_PREFIX): array
                for name, array in arrays.items()
                if name.startswith(_PREFIX)
            }
        inputs = self.inputs(images)
        whole, needed = shapes(self.network, inputs), dependencies(self.network, inputs)[feature]
        keep = sorted(whole.keys() - needed)
        tree = unflatten_dict(dict(whole), sep="/")
        found: Any = flatten_dict(merge(tree, arrays, source, keep=keep), sep="/")
        return {_PREFIX + path: found[path] for path in sorted(needed)}

    def read(
        self,
        path: str | Path,
        images: Sequence[int],
        feature: str,
        data_dir: Path | None = None,
    ) -> dict[str, np.ndarray]:
        """:meth:`merged` of weights as :func:`cnnjax.pretrained.weights.read` finds them.

        Raises:
            UserError: a file that cannot be read, or does not fit the network.
        """
        return self.merged(weights.read(path, data_dir), path, images, feature)


def _lenet(network: nn.Module, last: str, size: int = 28) -> Backbone:
    return Backbone(network, last, functools.partial(lenet_inputs, size), "flat", size)


def _of_colours(network: nn.Module) -> Backbone:
    prepare = functools.partial(ops.standardize, mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)
    return Backbone(network, "pooled", prepare, "mean")


LENETS = ("lenet1", "lenet4", "lenet5", "modern")
BACKBONES: dict[str, Backbone] = {
    "lenet1": _lenet(LeNet1(), "S4"),
    "lenet4": _lenet(LeNet4(), "F5", 32),
    "lenet5": _lenet(LeNet5(init_exponent=0.5), "F6", 32),
    "modern": _lenet(ModernLeNet(), "F5"),
    **{f"resnet{depth}": _of_colours(ResNet(depth, frozen_norms=True)) for depth in (18, 34, 50)},
    **{
        f"resnet{depth}": _of_colours(CifarResNet(depth, frozen_norms=True))
        for depth in (20, 32, 44, 56)
    },
    "squeezenet": _of_colours(SqueezeNet()),
}
"""Name -> network, its last features and its inputs."""


def backbone(name: str, images: Sequence[int], dataset: str) -> Backbone:
    """The backbone called ``name``, for images of shape (h, w, c) of ``dataset``.

    Raises:
        UserError: images that it cannot take.
    """
    found = BACKBONES[name]
    if found.largest and max(images[:2]) > found.largest:
        raise UserError(
            f"config.backbone={name} takes images of up to {found.largest}x{found.largest}; those "
            f"of {dataset} are {images[0]}x{images[1]}"
        )
    if not found.largest and images[2] not in (1, 3):
        raise UserError(
            f"config.backbone={name} takes grey images or three colours; those of {dataset} have "
            f"{images[2]} channels"
        )
    try:
        found.features(images)
    except ValueError as error:  # too small
        raise UserError(f"config.backbone={name}: {error}") from None
    return found

"""``tfds:NAME``: any image classification set that TFDS has prepared, or can without TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.dataset import DataSet, Split, stratified_parts, take
from cnnjax.data.preparation import prepare, quiet, read, require_reachable
from cnnjax.errors import UserError, reason

_SPLIT_SEED = 2012
_TEST_FRACTION, _VALIDATION_FRACTION = 0.2, 0.1


@quiet()
def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """The data set behind ``tfds:NAME[/CONFIG][:VERSION]``.

    It needs an image (uint8[H, W, C]) and a class label feature, images of one size, and labels
    in every split.  The splits "train", "validation" and "test" are taken as published; where
    there is no test split, 20 % of every class of the training split become one, where there is
    no validation split 10 %, drawn once and for all with seed 2012.

    Raises:
        UserError: no such data set, one without images and labels, one that only TensorFlow can
            prepare, one whose files must be put into ``manual_dir``, or images of unequal sizes.
    """
    try:
        builder = _builder(name, data_dir)
        image, label = _features(builder, name)
        if not builder.is_prepared():
            _prepare(builder, name, manual_dir)
    except ImportError as error:
        raise UserError(
            f"{name} cannot be read or prepared without TensorFlow or another library of its own "
            f"({reason(error)}): install it, prepare {name} once with file_format='array_record', "
            f"and uninstall it if you like"
        ) from None
    available = {"train", "validation", "test"} & set(builder.info.splits)
    if "train" not in available:
        raise UserError(f"{name} has no train split, only {', '.join(builder.info.splits)}")
    splits: dict[str, Split] = {
        split: dict(
            zip(("inputs", "labels"), _read(builder, name, split, image, label), strict=True)
        )
        for split in sorted(available)
    }
    drawn = []
    for split, fraction in (("test", _TEST_FRACTION), ("validation", _VALIDATION_FRACTION)):
        if split not in available:
            inputs, labels = splits["train"]["inputs"], splits["train"]["labels"]
            part, rest = stratified_parts(labels, (fraction,), _SPLIT_SEED)
            splits |= {split: take(inputs, labels, part), "train": take(inputs, labels, rest)}
            drawn.append(f"{split}: {fraction:.0%} of train, stratified, seed {_SPLIT_SEED}")
    features: Any = builder.info.features
    return DataSet(
        name=name,
        splits={split: splits[split] for split in ("train", "validation", "test")},
        classes=tuple(features[label].names),
        provenance={
            "source": f"TFDS {builder.info.full_name}",
            "split": "; ".join(drawn) or "as published",
            "prepared": str(builder.data_path),
        },
    )


def _builder(name: str, data_dir: Path | None) -> tfds.core.DatasetBuilder:
    """The builder; one not prepared yet prepares array_record, which needs no TensorFlow."""
    stock = name.removeprefix("tfds:")
    try:
        builder = tfds.builder(stock, data_dir=data_dir)
        if builder.is_prepared():
            return builder
        return tfds.builder(stock, data_dir=data_dir, file_format="array_record")
    except (ValueError, AssertionError) as error:  # an unknown name, configuration or version
        found = (str(error).strip() or "not found").splitlines()[0]
        raise UserError(f"{name}: {found} (written tfds:NAME[/CONFIG][:VERSION])") from None


def _prepare(builder: tfds.core.DatasetBuilder, name: str, manual_dir: Path | None) -> None:
    for address in builder.url_infos or ():
        require_reachable(address, f"{name} is not prepared in {builder.data_path}")
    try:
        prepare(builder, manual_dir)
    except (AssertionError, ValueError) as error:
        instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        if isinstance(error, UserError) or not instructions:
            raise
        raise UserError(
            f"{name}: TFDS cannot download its files; put them into a folder and name it with "
            f"manual_dir (now {manual_dir or 'absent'}): {' '.join(instructions.split())}"
        ) from None


def _features(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, str]:
    """The names of the image and the label feature."""
    keys = builder.info.supervised_keys
    features: Any = builder.info.features
    match keys:
        case (str(image), str(label)) if isinstance(features[label], tfds.features.ClassLabel):
            feature = features[image]
        case _:
            raise UserError(
                f"{name} has no image and class label to learn: its supervised_keys are {keys}, "
                f"its features {', '.join(features)}"
            )
    if feature.np_dtype != np.uint8 or len(feature.shape) != 3:
        raise UserError(
            f"{name}: its feature {image!r} is {' '.join(repr(feature).split())}; it must be an "
            f"image, uint8[H, W, C]"
        )
    return image, label


def _read(
    builder: tfds.core.DatasetBuilder, name: str, split: str, image: str, label: str
) -> tuple[np.ndarray, np.ndarray]:
    try:
        images, labels = read(builder, split, image, label)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{name}: its images cannot be stacked into one array ({error})") from None
    hidden = np.flatnonzero(labels < 0)
    if len(hidden):
        raise UserError(
            f"{name}: its {split} split has hidden labels (example {hidden[0]:,} has "
            f"{labels[hidden[0]]}); every split that is published must have its labels"
        )
    return images, labels

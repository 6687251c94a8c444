"""``tfds:NAME``: any image classification set that TFDS has prepared, or can without TensorFlow."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.dataset import DataSet, Split, stratified_parts, take
from cnnjax.data.preparation import prepare, read, require_reachable
from cnnjax.errors import UserError

_SPLIT_SEED = 2012
_TEST_FRACTION, _VALIDATION_FRACTION = 0.2, 0.1


def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """The data set behind ``tfds:NAME[/CONFIG][:VERSION]``.

    It needs an image and a label feature and images of one size.  The splits "train",
    "validation" and "test" are taken as published; where there is no test split, 20 % of every
    class of the training split become one, where there is no validation split 10 %, drawn
    once and for all with seed 2012.

    Raises:
        UserError: no such data set, one without images and labels, one that only TensorFlow can
            prepare, or images of unequal sizes.
    """
    builder = _builder(name, data_dir, manual_dir)
    image, label = _features(builder, name)
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
    return DataSet(
        name=name,
        splits={split: splits[split] for split in ("train", "validation", "test")},
        classes=tuple(builder.info.features[label].names),
        provenance={
            "source": f"TFDS {builder.info.full_name}",
            "split": "; ".join(drawn) or "as published",
            "prepared": str(builder.data_path),
        },
    )


def _builder(name: str, data_dir: Path | None, manual_dir: Path | None):
    """The prepared builder; stock ones are prepared as array_record, which needs no TensorFlow."""
    try:
        builder = tfds.builder(name.removeprefix("tfds:"), data_dir=data_dir)
        if builder.is_prepared():
            return builder
        builder = tfds.builder(
            name.removeprefix("tfds:"), data_dir=data_dir, file_format="array_record"
        )
    except (ValueError, AssertionError) as error:  # an unknown name, configuration or version
        reason = (str(error).splitlines() or ["not found"])[0]
        raise UserError(f"{name}: {reason} (written tfds:NAME[/CONFIG][:VERSION])") from None
    for address in builder.url_infos or ():
        require_reachable(address, f"{name} is not prepared in {builder.data_path}")
    try:
        prepare(builder, manual_dir)
    except ImportError as error:
        raise UserError(
            f"{name} is not prepared in {builder.data_path}, and TFDS prepares it with "
            f"TensorFlow only: pip install tensorflow, prepare it once, and uninstall it if you "
            f"like ({error})"
        ) from None
    return builder


def _features(builder, name: str) -> tuple[str, str]:
    keys = builder.info.supervised_keys
    features = builder.info.features
    if not keys or not isinstance(features[keys[1]], tfds.features.ClassLabel):
        raise UserError(
            f"{name} has no image and class label to learn; its features: {', '.join(features)}"
        )
    return keys[0], keys[1]


def _read(builder, name: str, split: str, image: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        return read(builder, split, image, label)
    except ValueError as error:
        raise UserError(f"{name}: its images cannot be stacked into one array ({error})") from None

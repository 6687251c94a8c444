"""``usps``: the zip-code digits, prepared by a TensorFlow-free TFDS builder from two text files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data import zip_text
from cnnjax.data.dataset import DataSet, stratified_parts, take
from cnnjax.data.preparation import prepare, quiet, read
from cnnjax.errors import UserError
from cnnjax.files.durable import digest, sha256
from cnnjax.files.foreign import find

_STEMS = {"train": "zip.train", "test": "zip.test"}
_ADDRESS = "https://hastie.su.domains/ElemStatLearn/data.html"
_CITATION = "Hastie, Tibshirani and Friedman, The Elements of Statistical Learning: ZIP code"
_CLASSES = tuple(map(str, range(zip_text.CLASSES)))
_VALIDATION_FRACTION = 1 / 12  # as of MNIST's
_SPLIT_SEED = 1990


class ZipDigits(tfds.core.GeneratorBasedBuilder):
    """Images and labels of zip.train and zip.test as array_record, in the order of the files.

    Grey levels are kept as published, in -1..1: three decimals, which 8 bits would round.

    Args:
        files: the file of each split.
        **kwargs: those of every TFDS builder.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, files: Mapping[str, Path], **kwargs):
        self.files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_CITATION,
            homepage=_ADDRESS,
            supervised_keys=("image", "label"),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(zip_text.SIZE, zip_text.SIZE, 1),
                        dtype=np.float32,
                        encoding=tfds.features.Encoding.BYTES,
                    ),
                    "label": tfds.features.ClassLabel(names=_CLASSES),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        # Both files are read before either is written: a defect leaves nothing half-prepared.
        splits = {split: zip_text.read(path) for split, path in self.files.items()}
        return {split: self._generate_examples(*pair) for split, pair in splits.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray):
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield row, {"image": image[..., None], "label": int(label)}


@quiet()
def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """``usps``: the digits of the US Postal Service, 6,683 / 608 / 2,007 images of 16x16.

    zip.train and zip.test, plain or gzipped, are looked for in ``manual_dir`` and in its subfolder
    ``usps``, and prepared once in ``data_dir``.  The inputs are float32 in 0..1, background to ink.
    The validation split is 1/12 of every class of the 7,291 training images, drawn once and for
    all with seed 1990.

    Raises:
        UserError: files missing or defective.
    """
    if manual_dir is None:
        raise UserError(
            f"{name}: put zip.train.gz and zip.test.gz ({_ADDRESS}, ZIP code) into a folder and "
            f"name it as manual_dir"
        )
    files = {split: find(name, stem, manual_dir) for split, stem in _STEMS.items()}
    variant = f"{name}-{digest(map(sha256, files.values()))}"
    builder = ZipDigits(
        files=files,
        data_dir=data_dir,
        config=tfds.core.BuilderConfig(name=variant),
        file_format="array_record",
    )
    prepare(builder)
    inputs, labels = _read(builder, "train")
    validation, train = stratified_parts(labels, (_VALIDATION_FRACTION,), _SPLIT_SEED)
    return DataSet(
        name=name,
        splits={
            "train": take(inputs, labels, train),
            "validation": take(inputs, labels, validation),
            "test": dict(zip(("inputs", "labels"), _read(builder, "test"), strict=True)),
        },
        classes=_CLASSES,
        provenance={
            "source": f"{_CITATION}; {manual_dir} ({variant})",
            "split": f"validation: 1/12 of the training split, stratified, seed {_SPLIT_SEED}",
            "prepared": str(builder.data_path),
        },
    )


def _read(builder: tfds.core.DatasetBuilder, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images in 0..1 and labels of a prepared split."""
    images, labels = read(builder, split, "image", "label")
    return (images + 1) / 2, labels

"""``mnist`` and ``fashion_mnist``: prepared by a TensorFlow-free TFDS builder from IDX files."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data import idx
from cnnjax.data.dataset import DataSet, stratified_parts, take
from cnnjax.data.preparation import prepare, quiet, read, require_reachable
from cnnjax.errors import UserError
from cnnjax.files.durable import digest, sha256
from cnnjax.files.foreign import find

_FILES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
_VALIDATION_FRACTION = 1 / 12  # 5,000 of the 60,000 training images
_SPLIT_SEED = 1998


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a data set of four IDX files is published, and what its labels mean."""

    address: str
    classes: tuple[str, ...]
    citation: str


SOURCES = {
    "mnist": Source(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        tuple(map(str, range(10))),
        "LeCun, Cortes and Burges: the MNIST database of handwritten digits",
    ),
    "fashion_mnist": Source(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            *("T-shirt", "trouser", "pullover", "dress", "coat"),
            *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
        ),
        "Xiao, Rasul and Vollgraf 2017: Fashion-MNIST",
    ),
}


@dataclasses.dataclass
class IdxConfig(tfds.core.BuilderConfig):
    """A data set of four IDX files, as published by ``source`` unless the name says otherwise."""

    source: Source | None = None


class IdxImages(tfds.core.GeneratorBasedBuilder):
    """Images and labels of four IDX files as array_record, in the order of the files.

    Args:
        files: the files by (split, kind); by default they are downloaded from the source.
        **kwargs: those of every TFDS builder.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        IdxConfig(name=name, source=source) for name, source in SOURCES.items()
    ]

    def __init__(self, *, files: Mapping[tuple[str, str], Path] | None = None, **kwargs):
        self.files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config: Any = self.builder_config
        source = config.source
        return self.dataset_info_from_configs(
            description=source.citation,
            homepage=source.address,
            supervised_keys=("image", "label"),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(28, 28, 1), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
                    ),
                    "label": tfds.features.ClassLabel(names=source.classes),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config: Any = self.builder_config
        files: Any = self.files or dl_manager.download(
            {part: f"{config.source.address}{n}.gz" for part, n in _FILES.items()}
        )
        classes = len(config.source.classes)
        # Both splits are read before either is written: a defect leaves nothing half-prepared.
        splits = {
            split: idx.read_pair(
                Path(files[split, "images"]), Path(files[split, "labels"]), classes
            )
            for split in ("train", "test")
        }
        for split, (images, _) in splits.items():
            if images.shape[1:] != (28, 28):
                raise UserError(
                    f"{files[split, 'images']}: its images are {images.shape[1:]} instead of "
                    f"(28, 28)"
                )
        return {split: self._generate_examples(*pair) for split, pair in splits.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray):
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield row, {"image": image[..., None], "label": int(label)}


@quiet()
def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """``mnist`` or ``fashion_mnist``: 55,000 / 5,000 / 10,000 images of 28x28.

    The four files are looked for in ``manual_dir`` and in its subfolder ``name``, plain or
    gzipped; without ``manual_dir`` they are downloaded (TFDS verifies their checksums).  They
    are prepared once in ``data_dir``.  The validation split is 1/12 of every class of the
    published training split, drawn once and for all with seed 1998.

    Raises:
        UserError: files missing, defective or impossible to download.
    """
    source = SOURCES[name]
    files = find_files(name, manual_dir) if manual_dir else None
    # Other files than the published ones are prepared beside them, never mixed up.
    variant = name if files is None else _config_name(name, files)
    config = variant if variant == name else IdxConfig(name=variant, source=source)
    builder = IdxImages(files=files, data_dir=data_dir, config=config, file_format="array_record")
    if files is None and not builder.is_prepared():
        _require_source(name, source)
    prepare(builder)
    inputs, labels = read(builder, "train", "image", "label")
    validation, train = stratified_parts(labels, (_VALIDATION_FRACTION,), _SPLIT_SEED)
    return DataSet(
        name=name,
        splits={
            "train": take(inputs, labels, train),
            "validation": take(inputs, labels, validation),
            "test": dict(
                zip(("inputs", "labels"), read(builder, "test", "image", "label"), strict=True)
            ),
        },
        classes=source.classes,
        provenance={
            "source": source.citation if variant == name else f"{manual_dir} ({variant})",
            "split": f"validation: 1/12 of the training split, stratified, seed {_SPLIT_SEED}",
            "prepared": str(builder.data_path),
        },
    )


def find_files(name: str, manual_dir: Path) -> dict[tuple[str, str], Path]:
    """The four IDX files in ``manual_dir`` or its subfolder ``name``, by (split, kind).

    Raises:
        UserError: naming the first file that is missing and where it was looked for.
    """
    return {part: find(name, stem, manual_dir) for part, stem in _FILES.items()}


def _config_name(name: str, files: Mapping[tuple[str, str], Path]) -> str:
    """``name`` for the published files, recognised by checksum; else with a digest appended."""
    infos = IdxImages.url_infos or {}
    published = {address: info.checksum for address, info in infos.items()}
    addresses = [f"{SOURCES[name].address}{_FILES[part]}.gz" for part in files]
    digests = [sha256(path) for path in files.values()]
    if digests == [published.get(address) for address in addresses]:
        return name
    return f"{name}-{digest(digests)}"


def _require_source(name: str, source: Source) -> None:
    files = ", ".join(f"{stem}.gz" for stem in _FILES.values())
    require_reachable(
        source.address,
        f"{name} is not prepared yet: put {files} into a folder and name it as manual_dir",
    )

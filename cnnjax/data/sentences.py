"""The data sets of Kim 2014: prepared by a TensorFlow-free TFDS builder from their files."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data.dataset import DataSet
from cnnjax.data.preparation import prepare, quiet, records, require_reachable
from cnnjax.data.sentence_sources import SOURCES, Form, Source
from cnnjax.data.text import text_dataset, three_splits
from cnnjax.errors import UserError
from cnnjax.files.durable import digest, sha256

Files = Mapping[str, tuple[Path, ...]]
"""split -> its files."""


@dataclasses.dataclass
class SentencesConfig(tfds.core.BuilderConfig):
    """A data set of ``source`` in ``form``, as published there unless the name says otherwise."""

    source: Source | None = None
    form: Form | None = None


class Sentences(tfds.core.GeneratorBasedBuilder):
    """Sentences and labels as array_record, in the order of the files.

    Args:
        files: the files of each split; by default they are downloaded from the form's address.
        **kwargs: those of every TFDS builder.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        SentencesConfig(name=name, source=source, form=form)
        for name, source in SOURCES.items()
        for form in source.forms
        if form.address
    ]

    def __init__(self, *, files: Files | None = None, **kwargs):
        self.files = files
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config: Any = self.builder_config
        return self.dataset_info_from_configs(
            description=config.source.citation,
            homepage=config.form.address,
            supervised_keys=("sentence", "label"),
            features=tfds.features.FeaturesDict(
                {
                    "sentence": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=config.source.classes),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config: Any = self.builder_config
        download: Any = dl_manager.download  # of a list it gives a list
        files = self.files or {
            split: tuple(map(Path, download([config.form.address + n for n in names])))
            for split, names in config.form.parts.items()
        }
        # All splits are read before one is written: a defect leaves nothing half-prepared.
        splits = {
            split: config.form.read(paths, config.source.encoding) for split, paths in files.items()
        }
        for split, size in config.source.sizes.items():
            if len(splits[split]) != size:
                raise UserError(
                    f"{', '.join(map(str, files[split]))}: hold {len(splits[split]):,} sentences; "
                    f"the data set that Kim 2014 used has {size:,} (data of your own has the names "
                    f"text:FOLDER and table:FILE:TEXT:LABEL)"
                )
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples: list[tuple[str, int]]):
        for row, (sentence, label) in enumerate(examples):
            yield row, {"sentence": sentence, "label": label}


@quiet()
def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """One of :data:`~cnnjax.data.sentence_sources.SOURCES`, cleaned as Kim's code does it.

    Its files are looked for in ``manual_dir`` and in its subfolder ``name``; without ``manual_dir``
    they are downloaded where they are published with a checksum.  They are prepared once in
    ``data_dir``.  Where the source has no splits, 10 % of every class are the test split and 10 %
    of the others the validation split, drawn once and for all with seed 2014; where it has no
    validation split, it is 10 % of the training split.

    Raises:
        UserError: files missing, defective, of another size than the paper's, or impossible to
            download.
    """
    source = SOURCES[name]
    builder = _builder(name, source, data_dir, manual_dir)
    prepare(builder)
    found = {split: _read(builder, split) for split in builder.info.splits}
    splits, how = three_splits(found)
    config: Any = builder.builder_config
    variant = config.name
    return text_dataset(
        name,
        splits,
        source.classes,
        source.cleaning,
        {
            "source": source.citation if variant == name else f"{manual_dir} ({variant})",
            "split": how,
            "prepared": str(builder.data_path),
        },
    )


def _builder(
    name: str, source: Source, data_dir: Path | None, manual_dir: Path | None
) -> Sentences:
    options = {"data_dir": data_dir, "file_format": "array_record"}
    if manual_dir:
        form, files = find_files(name, source, manual_dir)
        variant = _config_name(name, form, files)
        # Other files than the published ones are prepared beside them, never mixed up.
        config = (
            name if variant == name else SentencesConfig(name=variant, source=source, form=form)
        )
        return Sentences(files=files, config=config, **options)
    published = [form.address for form in source.forms if form.address]
    otherwise = f"put {_wanted(source)} into a folder and name it as manual_dir"
    if not published:
        raise UserError(f"{name} is not published at an address that is known here: {otherwise}")
    builder = Sentences(config=name, **options)
    if not builder.is_prepared():
        require_reachable(published[0], f"{name} is not prepared yet: {otherwise}")
    return builder


def find_files(name: str, source: Source, manual_dir: Path) -> tuple[Form, Files]:
    """The first of the source's forms that is in ``manual_dir`` or its subfolder ``name``.

    Raises:
        UserError: there is none.
    """
    own = manual_dir / name.removesuffix("_phrases")
    for folder in (manual_dir, own, manual_dir / "trees", own / "trees"):
        for form in source.forms:
            files = {
                split: tuple(folder / file for file in names) for split, names in form.parts.items()
            }
            if all(path.is_file() for paths in files.values() for path in paths):
                return form, files
    raise UserError(f"{name}: neither {manual_dir} nor {own} holds {_wanted(source)}")


def _wanted(source: Source) -> str:
    return ", or ".join(
        ", ".join(file for names in form.parts.values() for file in names) for form in source.forms
    )


def _config_name(name: str, form: Form, files: Files) -> str:
    """``name`` for the published files, recognised by checksum; else with a digest appended."""
    paths = [path for split in files.values() for path in split]
    digests = [sha256(path) for path in paths]
    if form.address:
        infos = Sentences.url_infos or {}
        published = {address: info.checksum for address, info in infos.items()}
        if digests == [published.get(form.address + path.name) for path in paths]:
            return name
    return f"{name}-{digest(digests)}"


def _read(builder: Sentences, split: str) -> tuple[list[str], np.ndarray]:
    found, labels = records(builder, split, "label")
    return [record["sentence"].decode() for record in found], labels

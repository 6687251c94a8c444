"""``folder:PATH[:SIZE]``: images in folders, one folder a class."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import DataSet, stratified_parts, take
from cnnjax.data.images.decoding import ENDINGS
from cnnjax.data.images.image_files import ImageFiles
from cnnjax.data.images.inspection import inspected
from cnnjax.errors import UserError
from cnnjax.files.folders import expanded

_SIZE = 224
_SMALLEST = 8
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_TEST_FRACTION, _VALIDATION_FRACTION = 0.2, 0.1
_SPLIT_SEED = 2017
_HIDDEN = (".", "__")  # folders as .git and __MACOSX
_SHOWN = 3  # names in a message


def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """The images under PATH, in RGB, each as its central square of SIZE pixels (by default 224).

    PATH has folders ``train`` and ``val`` (or ``validation``) or ``test`` or both, each with the
    same classes as folders, or it has these itself.  Images are the files in a class's folder and
    the folders below it whose names end as images do (as for torchvision's ``ImageFolder``); each
    of them must be one that can be decoded.  All others are skipped, which is reported.
    Transparent ones lie on white (for torchvision they have the colours that nobody sees).

    The splits: where there is no ``test``, ``val`` is the test split, as in reports of data sets
    that have only this one.  Where there is no validation split then, 10 % of every class of
    ``train`` become one; where there are no splits at all, 20 % become the test and 10 % the
    validation split.  Both are drawn once and for all with seed 2017.

    They are not decoded yet (:class:`~cnnjax.data.images.ImageFiles`).  ``manual_dir`` is not used.

    Raises:
        UserError: no folder, no classes or one only, a class without images, classes that are not
            the same in all splits, or damaged images.
    """
    root, size = _place(name)
    folders = _split_folders(name, root)
    paths: list[Path] = []
    labels: list[int] = []
    skipped: list[str] = []
    rows: dict[str, np.ndarray] = {}
    classes: tuple[str, ...] = ()
    for split, folder in folders.items():
        found = _classes(name, folder)
        classes = classes or tuple(found)
        _require_same(name, classes, tuple(found), folder)
        first = len(paths)
        for label, members in enumerate(found.values()):
            images, others = images_of(members)
            if not images:
                raise UserError(
                    f"{name}: its class {folder / classes[label]} holds no image; names of images "
                    f"end in {', '.join(ENDINGS)}"
                )
            skipped += [str(path.relative_to(root)) for path in others]
            paths += images
            labels += [label] * len(images)
        rows[split] = np.arange(first, len(paths))
    inputs = ImageFiles(paths, inspected(name, paths, data_dir), size)
    all_labels = np.array(labels, np.int32)
    rows, how = _three_splits(rows, all_labels)
    source = f"{root} ({listed('skipped, as no image by its name', skipped)})" if skipped else root
    return DataSet(
        name=name,
        splits={split: take(inputs, all_labels, chosen) for split, chosen in rows.items()},
        classes=classes,
        provenance={
            "source": str(source),
            "split": how,
            "view": "centre",
            "files": len(paths),
            "skipped": skipped,
        },
    )


def _place(name: str) -> tuple[Path, int]:
    """The folder, and the size of images."""
    written = name.partition(":")[2]
    sized = re.fullmatch(r"(.+):(\d+)", written)
    place, size = (sized[1], int(sized[2])) if sized else (written, _SIZE)
    root = expanded("config.dataset", place)
    if not place or not root.is_dir():
        raise UserError(f"{name}: there is no folder {place!r}; written folder:PATH[:SIZE]")
    if size < _SMALLEST:
        raise UserError(f"{name}: images of {size} pixels; SIZE must be at least {_SMALLEST}")
    return root, size


def _split_folders(name: str, root: Path) -> dict[str, Path]:
    """Split -> its folder; "undivided" -> the root, where the classes are there."""
    inside = _folders(root)
    folders: dict[str, Path] = {}
    for folder in inside:
        if split := _SPLITS.get(folder.name.lower()):
            if split in folders:
                raise UserError(f"{name}: has both {folders[split].name} and {folder.name}")
            folders[split] = folder
    if not folders:
        return {"undivided": root}
    others = [folder.name for folder in inside if folder not in folders.values()]
    if "train" not in folders or len(folders) == 1 or others:
        raise UserError(
            f"{name}: has {listed('the folders', [f.name for f in inside])}; expected are train "
            f"and val or test, each with one folder a class, or one folder a class"
        )
    return {split: folders[split] for split in ("train", "validation", "test") if split in folders}


def _classes(name: str, folder: Path) -> dict[str, list[Path]]:
    """Class -> all its files, in order."""
    classes = _folders(folder)
    if len(classes) < 2:
        found = f"the one class {classes[0].name!r}" if classes else "no folder that is a class"
        raise UserError(f"{name}: {folder} has {found}; at least two are expected, a folder each")
    return {one.name: files_in(one) for one in classes}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(_HIDDEN))


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and below it but hidden ones and those in hidden folders, in order.

    Raises:
        OSError: a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [one for one in folders if not one.startswith(_HIDDEN)]
        found += [Path(place, file) for file in files if not file.startswith(".")]
    return sorted(found)


def images_of(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that are images by their names, and the others."""
    images = [path for path in paths if path.name.lower().endswith(ENDINGS)]
    return images, [path for path in paths if not path.name.lower().endswith(ENDINGS)]


def _require_same(name: str, classes: Sequence[str], others: Sequence[str], folder: Path) -> None:
    if tuple(classes) == tuple(others):
        return
    new, missing = sorted({*others} - {*classes}), sorted({*classes} - {*others})
    parts = [listed("lacks", missing)] * bool(missing) + [listed("has", new)] * bool(new)
    raise UserError(
        f"{name}: {folder} has other classes than train: it {' and '.join(parts)}; every split "
        f"must have the same"
    )


def _three_splits(
    rows: Mapping[str, np.ndarray], labels: np.ndarray
) -> tuple[dict[str, np.ndarray], str]:
    """The rows of train, validation and test, and how they came about."""
    if "undivided" in rows:
        parts = stratified_parts(labels, (_TEST_FRACTION, _VALIDATION_FRACTION), _SPLIT_SEED)
        test, validation, train = parts
        how = f"stratified 70 / 10 / 20 %, seed {_SPLIT_SEED}"
        return {"train": train, "validation": validation, "test": test}, how
    if len(rows) == 3:
        return dict(rows), "as the folders"
    train, held_out = rows["train"], next(part for split, part in rows.items() if split != "train")
    validation, rest = stratified_parts(labels[train], (_VALIDATION_FRACTION,), _SPLIT_SEED)
    how = (
        f"test: the folder {'val' if 'validation' in rows else 'test'}; validation: "
        f"{_VALIDATION_FRACTION:.0%} of train, stratified, seed {_SPLIT_SEED}"
    )
    return {"train": train[rest], "validation": train[validation], "test": held_out}, how


def listed(what: str, names: Sequence[object]) -> str:
    """``what: a, b, c and 3 more``."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(map(str, names[:_SHOWN]))}{more}" if names else f"{what}: none"

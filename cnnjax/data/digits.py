"""``digits``: 1,797 real handwritten digits that come with scikit-learn.  No network needed."""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import DataSet, stratified_parts, take

_SPLIT_SEED = 1989


def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """The test part of UCI's optical recognition of handwritten digits (E. Alpaydin, C. Kaynak).

    8x8 images with 17 grey levels, rescaled from 0..16 to 0..255 (white ink on black).  Of every
    class 20 % are the test split and 10 % the validation split, drawn once and for all with
    seed 1989.  The two directories are not used: the data is part of the package.
    """
    version = importlib.metadata.version("scikit-learn")
    # The file itself: importing scikit-learn takes longer than a whole epoch.
    folder = Path(importlib.util.find_spec("sklearn").origin).parent
    table = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    inputs = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int32)
    test, validation, train = stratified_parts(labels, (0.2, 0.1), _SPLIT_SEED)
    return DataSet(
        name=name,
        splits={
            "train": take(inputs, labels, train),
            "validation": take(inputs, labels, validation),
            "test": take(inputs, labels, test),
        },
        classes=tuple(map(str, range(10))),
        provenance={
            "source": f"scikit-learn {version}, load_digits (UCI optdigits, test part)",
            "split": f"stratified 70 / 10 / 20 %, seed {_SPLIT_SEED}",
        },
    )

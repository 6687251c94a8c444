"""``digits``: 1,797 real handwritten digits that come with scikit-learn.  No network needed.

``digits:56789`` are only those of these classes.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import DataSet, stratified_parts, take
from cnnjax.errors import UserError

_SPLIT_SEED = 1989
_DIGITS = frozenset("0123456789")


def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """The test part of UCI's optical recognition of handwritten digits (E. Alpaydin, C. Kaynak).

    8x8 images with 17 grey levels, rescaled from 0..16 to 0..255 (white ink on black).  Of every
    class 20 % are the test split and 10 % the validation split, drawn once and for all with
    seed 1989.  The two directories are not used: the data is part of the package.

    Raises:
        UserError: a name with something else than different digits behind its colon.
    """
    chosen = _chosen(name)
    version = importlib.metadata.version("scikit-learn")
    # The file itself: importing scikit-learn takes longer than a whole epoch.
    spec = importlib.util.find_spec("sklearn")
    assert spec and spec.origin
    folder = Path(spec.origin).parent
    table = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    inputs = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int32)
    test, validation, train = stratified_parts(labels, (0.2, 0.1), _SPLIT_SEED)
    place = np.full(10, -1, np.int32)
    place[chosen] = range(len(chosen))
    of_chosen = lambda rows: take(inputs, place[labels], rows[place[labels[rows]] >= 0])
    return DataSet(
        name=name,
        splits={
            "train": of_chosen(train),
            "validation": of_chosen(validation),
            "test": of_chosen(test),
        },
        classes=tuple(map(str, chosen)),
        provenance={
            "source": f"scikit-learn {version}, load_digits (UCI optdigits, test part)",
            "split": f"stratified 70 / 10 / 20 %, seed {_SPLIT_SEED}",
        },
    )


def _chosen(name: str) -> list[int]:
    """The digits behind the colon, by default all ten."""
    digits = name.partition(":")[2] if ":" in name else "0123456789"
    if len(set(digits)) < 2 or len(set(digits)) < len(digits) or not set(digits) <= _DIGITS:
        raise UserError(
            f"data set {name}: behind the colon there must be two or more different digits, as in "
            f"digits:56789"
        )
    return sorted(map(int, digits))

"""Cross-validation: folds by property, their errors, and the digits divided anew."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax import data
from cnnjax.data.dataset import checksum
from cnnjax.data.folds import fold_rows, pool, stratified_folds
from tests.data_files import in_order, refused

properties = settings(database=None, derandomize=True, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def divisions(draw, fewest=2):
    """Labels of up to six classes, and a number of folds that fits them."""
    labels = draw(st.lists(st.integers(0, 5), min_size=fewest, max_size=150))
    return np.array(labels), draw(st.integers(2, min(len(labels), 12)))


@properties
@given(divisions(), seeds)
def test_folds_partition_the_examples_evenly_in_every_class(division, seed):
    labels, folds = division
    parts = stratified_folds(labels, folds, seed)
    assert len(parts) == folds
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for members in (np.ones(len(labels), bool), *(labels == label for label in set(labels))):
        counts = [members[part].sum() for part in parts]
        assert max(counts) - min(counts) <= 1
    assert all((np.diff(part) > 0).all() for part in parts)
    assert all(map(np.array_equal, parts, stratified_folds(labels, folds, seed)))


@properties
@given(divisions(fewest=4), seeds)
def test_the_splits_of_every_fold_partition_the_examples(division, seed):
    labels, folds = division
    parts = stratified_folds(labels, folds, seed)
    sizes = set()
    for fold in range(folds):
        rows = fold_rows(labels, fold, folds, seed)
        assert list(rows) == ["train", "validation", "test"]
        assert sorted(np.concatenate(list(rows.values()))) == list(range(len(labels)))
        assert np.array_equal(rows["test"], parts[fold])
        assert all((np.diff(split) > 0).all() for split in rows.values())
        sizes.add(len(rows["train"]))
        others = len(labels) - len(parts[fold])
        for label in set(labels):  # nine tenths of what the fold leaves of a class
            left = (labels == label).sum() - (labels[parts[fold]] == label).sum()
            share = (labels[rows["train"]] == label).sum()
            assert abs(share - left * len(rows["train"]) / others) <= 1 + 1e-9
    assert sizes == {int(0.9 * (len(labels) - max(map(len, parts))))}


def test_another_seed_draws_other_folds():
    labels = np.arange(200) % 7
    draws = {np.concatenate(stratified_folds(labels, 5, seed)).tobytes() for seed in range(20)}
    assert len(draws) == 20


def test_as_many_folds_as_examples_leave_one_out():
    assert sorted(map(list, stratified_folds(np.int32([1, 0, 1]), 3, 0))) == [[0], [1], [2]]


@pytest.mark.parametrize("folds", [-1, 0, 1, 8])
def test_a_number_of_folds_that_does_not_fit_is_refused(folds):
    words = (f"folds is {folds};", "at least 2 and at most 7")
    refused(lambda: stratified_folds(np.zeros(7), folds, 0), *words)
    refused(lambda: fold_rows(np.zeros(7), 0, folds, 0), *words)


@pytest.mark.parametrize("fold", [-1, 3, 10])
def test_a_fold_that_does_not_exist_is_refused(fold):
    refused(lambda: fold_rows(np.zeros(7), fold, 3, 0), f"fold is {fold};", "of 3 folds", "0 .. 2")


def test_the_pool_keeps_every_splits_examples():
    splits = {
        name: {"inputs": np.full((size, 1, 1, 1), value, np.uint8), "labels": np.arange(size)}
        for name, size, value in (("test", 2, 7), ("train", 3, 5))
    }
    everything, rows = pool(splits)
    assert everything["inputs"].ravel().tolist() == [5, 5, 5, 7, 7]
    assert everything["labels"].tolist() == [0, 1, 2, 0, 1]
    assert {name: chosen.tolist() for name, chosen in rows.items()} == {
        "train": [0, 1, 2],
        "test": [3, 4],
    }


def test_digits_divided_anew():
    """1,797 digits: seven folds of 180 and three of 179; nine tenths of the other 1,617 train."""
    digits = data.load("digits")

    def fold_of(fold, folds, fold_seed):
        return data.divide(digits, SimpleNamespace(fold=fold, folds=folds, fold_seed=fold_seed))

    folds = [fold_of(fold, 10, 0) for fold in range(10)]
    sizes = [len(dataset.splits["test"]["labels"]) for dataset in folds]
    assert sorted(sizes) == [179] * 3 + [180] * 7
    assert {dataset.spec.examples for dataset in folds} == {1455}
    tested = [image.tobytes() for dataset in folds for image in dataset.splits["test"]["inputs"]]
    assert sorted(tested) == sorted(
        image.tobytes() for split in digits.splits.values() for image in split["inputs"]
    )
    for dataset in folds:
        assert dataset.provenance["sha256"] == checksum(*in_order(dataset))
    sums = [dataset.provenance["sha256"] for dataset in (digits, *folds)]
    sums.append(fold_of(0, 10, 1).provenance["sha256"])
    assert len(set(sums)) == 12
    assert folds[3].provenance["split"].endswith("cnnjax.data.folds.cross_validation")
    assert folds[3].provenance["source"] == digits.provenance["source"]

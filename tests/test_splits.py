"""Drawn splits, the embedded digits, and the order of the examples."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax import data
from cnnjax.data.dataset import checksum, stratified_parts
from cnnjax.data.order import epoch_rows
from tests.data_files import in_order, refused


@settings(database=None, derandomize=True, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_a_drawn_part_has_its_size_and_every_classs_share(labels, fraction, seed):
    labels = np.array(labels)
    part, rest = stratified_parts(labels, (fraction,), seed)
    assert sorted([*part, *rest]) == list(range(len(labels)))
    assert len(part) == round(fraction * len(labels))
    for label in np.unique(labels):
        share = fraction * (labels == label).sum()
        assert abs((labels[part] == label).sum() - share) <= 1 + 1e-9
    assert all((np.diff(rows) > 0).all() for rows in (part, rest))
    again = stratified_parts(labels, [fraction], seed)
    assert all(map(np.array_equal, (part, rest), again))


@pytest.mark.parametrize("fractions", [(0.2, 0.1), (0.1, 0.2, 0.3), (1 / 3, 1 / 3)])
@pytest.mark.parametrize("seed", range(3))
def test_several_drawn_parts_are_disjoint_and_complete(fractions, seed):
    labels = np.random.RandomState(seed).randint(0, 4, 501)
    parts = stratified_parts(labels, fractions, seed)
    assert len(parts) == len(fractions) + 1
    assert sorted(np.concatenate(parts)) == list(range(501))
    for part, fraction in zip(parts, fractions, strict=False):
        assert abs(len(part) - fraction * 501) <= 1
        for label in range(4):
            assert abs((labels[part] == label).sum() - fraction * (labels == label).sum()) < 2


def test_several_drawn_parts_are_disjoint_in_tiny_classes():
    parts = stratified_parts(np.arange(3), (0.2, 0.1), 0)
    assert sorted(np.concatenate(parts)) == [0, 1, 2]


def test_every_drawn_part_has_its_rounded_size():
    test, validation, _ = stratified_parts(np.zeros(5), (0.2, 0.1), 0)
    assert (len(test), len(validation)) == (round(0.2 * 5), round(0.1 * 5))


def test_another_seed_draws_another_part():
    labels = np.arange(1000) % 7
    draws = {stratified_parts(labels, (0.2,), seed)[0].tobytes() for seed in range(20)}
    assert len(draws) == 20


def test_the_draw_never_changes():
    parts = stratified_parts(np.arange(1000) % 7, (0.2, 0.1), 1989)
    assert checksum(*parts) == "a138cdfb04c295604f0818a9d1bfa902c772c1c16d0b9ba89bad480f7d173014"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize(
    ("split", "count", "content"),
    [
        ("train", 1258, "22cb568048136be06de23dc6bbea6140566bd35accc57408495bab67f39c32c4"),
        ("validation", 180, "c3947b62eeafb93de6690dff59bb0b83f2f76cb77f5afefe755fc624dc573e2b"),
        ("test", 359, "4ae0ff67d1022b5bf71090f8b67eae0fa8905a5a406f49eced200e1a7ab56bd2"),
    ],
)
def test_digits_splits(digits, split, count, content):
    inputs, labels = digits.splits[split]["inputs"], digits.splits[split]["labels"]
    assert (inputs.shape, inputs.dtype) == ((count, 8, 8, 1), np.uint8)
    assert (labels.shape, labels.dtype) == ((count,), np.int32)
    assert (inputs.min(), inputs.max()) == (0, 255)
    assert set(labels) == set(range(10))
    assert checksum(inputs, labels) == content


def test_digits_as_a_whole(digits):
    everything = [image.tobytes() for s in digits.splits.values() for image in s["inputs"]]
    assert len(everything) == len(set(everything)) == 1797  # none is in two splits
    assert list(digits.splits) == ["train", "validation", "test"]
    assert digits.classes == tuple("0123456789")
    assert digits.spec == data.Spec((8, 8, 1), digits.classes, 1258)
    assert digits.provenance["sha256"] == checksum(*in_order(digits))
    assert digits.provenance["sha256"] == (
        "b7e498e7b9a9a3e0188882eef4dad946c0b84510fdbdc187e37faaa5d7313726"
    )
    for words in ("digits", "1,258 train", "8x8x1", "10 classes", "scikit-learn"):
        assert words in digits.describe()


def test_an_unknown_data_set_gets_the_valid_names():
    refused(lambda: data.load("minst"), "'minst'", *data.names())


def test_a_missing_manual_dir_is_named(tmp_path):
    folder = tmp_path / "none"
    refused(lambda: data.load("mnist", tmp_path, folder), f"manual_dir={folder}: there is no")


@pytest.mark.parametrize("argument", ["data_dir", "manual_dir"])
def test_folders_that_the_system_refuses_are_named(argument):
    long, home = "x" * 300, "~no such user/x"
    refused(lambda: data.load("digits", **{argument: long}), f"digits: {long}: File name too long")
    refused(lambda: data.load("digits", **{argument: home}), f"{argument}={home}: ", "home")


SHAPES = [(10, 5, None), (10, 4, None), (10, 4, 6), (3, 8, 8), (1, 1, 2), (97, 32, 40)]


@pytest.mark.parametrize(("count", "batch_size", "width"), SHAPES)
def test_every_example_occurs_once_an_epoch(count, batch_size, width):
    key = jax.random.key(0)
    shuffled = epoch_rows(key, 0, count=count, batch_size=batch_size, width=width)
    rows, weights = map(np.asarray, shuffled)
    steps = -(-count // batch_size)
    assert rows.shape == weights.shape == (steps, width or batch_size)
    assert (rows.dtype, weights.dtype) == (np.int32, np.float32)
    assert set(np.unique(weights)) <= {0, 1}
    assert sorted(rows[weights == 1]) == list(range(count))
    assert ((rows >= 0) & (rows < count)).all()
    assert weights.sum(1).tolist() == [
        min(batch_size, count - start) for start in range(0, count, batch_size)
    ]


def test_the_order_is_a_function_of_key_and_epoch_alone():
    def order(seed, epoch, batch_size=16, width=None):
        key = jax.random.key(seed)
        rows, weights = epoch_rows(key, epoch, count=50, batch_size=batch_size, width=width)
        return tuple(np.asarray(rows)[np.asarray(weights) == 1])

    assert order(0, 0) == order(0, 0) == order(0, 0, width=24) == order(0, 0, batch_size=7)
    assert len({order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6

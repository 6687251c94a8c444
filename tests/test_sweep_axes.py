"""Sweeps as data: which trials they have, in which order, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from cnnjax.errors import UserError
from cnnjax.sweeps import axes
from cnnjax.sweeps.axes import axis, chain, grid, product, subsample, zipped

quick = effort(database=None, derandomize=True, deadline=None, max_examples=50)
numbers = st.lists(st.integers(-99, 99), min_size=1, max_size=6, unique=True)


def sweeps_over(*paths):
    """One axis for each path."""
    return st.tuples(*(numbers.map(lambda values, p=path: axis(p, values)) for path in paths))


def test_an_axis_has_one_trial_for_each_value():
    assert axis("hparams.rate", (0.1, "x", None)) == (
        {"hparams.rate": 0.1},
        {"hparams.rate": "x"},
        {"hparams.rate": None},
    )
    assert axis("seed", range(2)) == axis("seed", iter([0, 1])) == ({"seed": 0}, {"seed": 1})


@pytest.mark.parametrize(
    "values",
    [np.array([0.25, 0.5]), np.array([0.25, 0.5], np.float32), list(np.float32([0.25, 0.5]))],
)
def test_values_from_arrays_become_plain_numbers(values):
    sweep = axis("rate", values)
    assert sweep == ({"rate": 0.25}, {"rate": 0.5})
    assert [type(changes["rate"]) for changes in sweep] == [float, float]


def test_a_row_of_an_array_becomes_a_list():
    assert axis("widths", np.arange(4).reshape(2, 2)) == ({"widths": [0, 1]}, {"widths": [2, 3]})


def test_the_last_factor_of_a_product_varies_fastest():
    assert product(axis("a", [1, 2]), axis("b", [3, 4, 5])) == (
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 1, "b": 5},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
        {"a": 2, "b": 5},
    )


def test_the_product_of_nothing_is_one_trial_without_changes():
    assert product() == grid() == grid({}) == ({},)


def test_zipped_sweeps_advance_together():
    pairs = product(axis("b", [3, 4]), axis("c", [5]))
    assert zipped(axis("a", [1, 2]), pairs) == ({"a": 1, "b": 3, "c": 5}, {"a": 2, "b": 4, "c": 5})


def test_chained_sweeps_follow_each_other():
    assert chain(axis("a", [1, 2]), axis("b", [1])) == ({"a": 1}, {"a": 2}, {"b": 1})


def test_a_baseline_without_changes_can_be_chained():
    assert chain(product(), axis("a", [1])) == ({}, {"a": 1})


def test_a_grid_is_the_product_of_its_axes():
    assert grid(rate=(0.01, 0.1), seed=range(2)) == (
        {"rate": 0.01, "seed": 0},
        {"rate": 0.01, "seed": 1},
        {"rate": 0.1, "seed": 0},
        {"rate": 0.1, "seed": 1},
    )
    assert grid({"hparams.rate": (1, 2)}, seed=[7]) == (
        {"hparams.rate": 1, "seed": 7},
        {"hparams.rate": 2, "seed": 7},
    )


def test_a_subsample_is_the_same_for_the_same_seed():
    sweep = axis("seed", range(10))
    drawn = subsample(sweep, 4, seed=3)
    order = np.random.RandomState(3).permutation(10)  # what choice without replacement draws from
    assert [changes["seed"] for changes in drawn] == sorted(order[:4])
    assert drawn == subsample(sweep, 4, seed=3) != subsample(sweep, 4, seed=4)
    assert subsample(sweep, 4) == subsample(sweep, 4, seed=0)


def test_no_function_changes_or_shares_the_trials_of_a_product():
    a = axis("a", [1])
    product(a)[0]["a"] = 2
    product(a, axis("b", [1]))
    assert a == ({"a": 1},)


@quick
@given(sweeps_over("a", "b", "c"))
def test_the_size_of_a_product_is_the_product_of_the_sizes(sweeps):
    a, b, c = sweeps
    assert len(product(a, b, c)) == len(a) * len(b) * len(c)
    assert product(a, product(b, c)) == product(product(a, b), c) == product(a, b, c)
    assert product(a, product()) == product(product(), a) == a


@quick
@given(sweeps_over("a", "b", "c"))
def test_the_size_of_a_chain_is_the_sum_of_the_sizes(sweeps):
    a, b, c = sweeps
    assert len(chain(a, b, c)) == len(a) + len(b) + len(c)
    # A product distributes over the chain on its left, whose trials vary slowest.
    assert product(chain(a, b), c) == chain(product(a, c), product(b, c))


@quick
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.data())
def test_a_subsample_keeps_the_order_and_repeats_nothing(size, seed, data):
    count = data.draw(st.integers(1, size))
    positions = [c["seed"] for c in subsample(axis("seed", range(size)), count, seed)]
    assert len(positions) == count
    assert positions == sorted(set(positions) & set(range(size)))


a, b = axis("a", [1, 2]), axis("b", [1, 2, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: axis("a", []), "a has no values; an axis needs at least one"),
        (lambda: axis("a", "12"), "the values of a are '12'; they must be a list or a range"),
        (lambda: axis("a", 3), "the values of a are 3; they must be"),
        (lambda: axis("a", {1, 2}), "the values of a are {1, 2}; they must be"),
        (lambda: axis("a", [1, 2, 1]), "the trial a=1 is in the sweep twice"),
        (lambda: axis("a", [2, "2"]), "the trial a=2 is in the sweep twice"),
        (lambda: axis("a", itertools.count()), "more than 1,000,000 trials; take fewer"),
        (lambda: axis("a", range(10**30)), "more than 1,000,000 trials; take fewer"),
        (lambda: grid(a=[1], b=()), "b has no values"),
        (lambda: grid({"a": [1]}, a=[2]), "a is set by 2 of the sweeps"),
        (lambda: product(a, b, axis("a", [3])), "a is set by 2 of the sweeps"),
        (lambda: product(a, chain(b, a)), "a is set by 2 of the sweeps"),
        (lambda: product(a, ()), "a sweep without trials"),
        (lambda: product(({"a": 1}, {"a": 1}), b), "the trial a=1 is in the sweep twice"),
        (lambda: zipped(a, b), "sweeps of 2 and 3 trials cannot be zipped; they must be equally"),
        (lambda: zipped(a, axis("a", [3, 4])), "a is set by 2 of the sweeps"),
        (lambda: zipped(), "a sweep without trials"),
        (lambda: chain(), "a sweep without trials"),
        (lambda: chain(a, axis("a", [3, 2])), "the trial a=2 is in the sweep twice"),
        (lambda: chain(product(), a, product()), "the trial without changes is in the sweep twice"),
        (lambda: chain(product(a, b), product(b, a)), "the trial b=1, a=1 is in the sweep twice"),
        (lambda: subsample(b, 4), "4 trials cannot be drawn from 3; the count must be from 1 to 3"),
        (lambda: subsample(b, 0), "0 trials cannot be drawn from 3"),
        (lambda: subsample(b, 1, seed=-1), "the seed of a subsample is -1; it must be from 0 to"),
        (lambda: subsample(b, 1, seed=2**32), "it must be from 0 to 4294967295"),
    ],
)
def test_a_mistake_is_told_in_one_line(make, message):
    with pytest.raises(UserError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_product_too_large_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(axes, "MOST_TRIALS", 6)
    assert len(product(a, b)) == 6
    with pytest.raises(UserError, match="more than 6 trials"):
        product(a, b, axis("c", [1, 2]))

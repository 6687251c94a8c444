"""Steps on the rows of a batch, and batches of their own length, against the plain ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data.order import bucketed_rows
from cnnjax.training import (
    Devices,
    Interrupted,
    Observer,
    Plan,
    TrainState,
    fit,
    init_state,
    predict,
    stream,
    train_step,
)
from cnnjax.training.batches import Batches
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.sparse import lookup
from cnnjax.training.sparse.buckets import Bucket, buckets_of, length_buckets
from cnnjax.training.trials import fit_trials
from experiments.sentence import assemble, plan
from tests.agreement import quickly
from tests.child_process import rows_of_module
from tests.sentence_task import SPEC, small_config, small_task, splits
from tests.training_task import traced

pytestmark = pytest.mark.usefixtures("kept_programs")

VARIANTS = ("rand", "static", "multichannel")
BY_LENGTH = Plan(epochs=1, batch_size=8, batches="by_length")
FIXED = {"static": "table", "multichannel": "static"}


def task_of(variant, **changes):
    """As the experiment's, with vectors drawn instead of read."""
    return assemble(small_config(variant=variant, **changes), SPEC)


def begin(task, seed=3):
    """The state before the first step."""
    start = jax.jit(functools.partial(init_state, task))
    return start(np.uint32(seed), splits()["train"]["inputs"][:1], traced(small_config().hparams))


def plainly(task):
    return dataclasses.replace(task, lookup=None)


def epoch(task, hparams, steps=12, seed=3):
    """The state after every step of an epoch on the plain order of batches."""
    train = splits()["train"]
    state = begin(task, seed)
    step = jax.jit(functools.partial(train_step, task))
    order = np.asarray(bucketed_rows(stream(seed, "order"), 0, jnp.zeros(90, int), batch_size=8)[0])
    for rows in order[:steps]:
        batch = {name: train[name][rows] for name in train} | {"weights": jnp.ones(8)}
        state, metrics = step(state, batch, hparams)
        yield state, metrics


def close(a, b, tolerance=2e-5):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


# --- the rows of a batch ------------------------------------------------------------------------


def test_distinct_by_hand():
    used, place = lookup.distinct(jnp.array([[7, 3, 7], [0, 9, 3]]), 10, 6)
    assert used.tolist() == [0, 7, 3, 9, 14, 15]  # the last two are beyond the table
    assert [int(place[i]) for i in (0, 7, 3, 9)] == [0, 1, 2, 3]


def test_zero_is_first_also_where_it_does_not_occur():
    used, _ = lookup.distinct(jnp.array([4, 2]), 5, 3)
    assert used.tolist() == [0, 4, 2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_lazy_rows_equal_the_dense_optimiser_over_an_epoch(variant):
    """Also rows that come again after several steps, and their averages once caught up with."""
    task, hparams = task_of(variant), traced(small_config().hparams)
    pairs = zip(epoch(task, hparams), epoch(plainly(task), hparams), strict=True)
    for (lazy, metrics), (dense, expected) in pairs:
        close(lazy.params, dense.params)
        close(metrics, expected)
        assert not np.any(lazy.params["embedding"]["table"][0]), "the padding row"
    if variant != "static":
        kept, expected = map(averages, (lazy.opt_state.optimizer, dense.opt_state))
        idle = (lazy.step - lazy.opt_state.touched)[:, None]
        assert len(np.unique(idle)) > 3, "some rows are behind"
        for ours, theirs in ((kept.e_g, expected.e_g), (kept.e_x, expected.e_x)):
            found = ours["embedding"]["table"] * hparams.rho**idle
            np.testing.assert_allclose(found, theirs["embedding"]["table"], rtol=1e-3, atol=1e-12)


def averages(opt_state):
    """Adadelta's, of all but a fixed table; before it the softmax's gradient is scaled."""
    return getattr(opt_state, "inner_state", opt_state)[1]


@pytest.mark.parametrize("variant", FIXED)
def test_a_fixed_table_stays(variant):
    task, hparams = task_of(variant), traced(small_config().hparams)
    *_, (state, _) = epoch(task, hparams, steps=4)
    before = begin(task).params["embedding"]
    for name, table in state.params["embedding"].items():
        assert np.array_equal(table, before[name]) == (name == FIXED[variant])


def test_parts_of_a_batch_work_on_the_rows_of_the_whole():
    """Otherwise the gradients of devices that share a batch could not be added up."""
    table = jnp.arange(20.0).reshape(10, 2)
    state = TrainState(jnp.int32(0), jnp.uint32(0), {"t": table}, ())

    def plain(small, batch):
        return small, {"rows": small.params["t"], "ids": batch["inputs"]}

    def run(ids):
        fixed = lookup.Lookup(fixed=("t",))
        return lookup.step(plain, fixed, state, {"inputs": ids}, None, rows=5, axis_name="d")[1]

    found = jax.vmap(run, axis_name="d")(jnp.array([[[3, 5, 0]], [[7, 3, 0]]]))
    for rows in found["rows"]:
        np.testing.assert_array_equal(rows[:4], table[np.array([0, 3, 5, 7])])
    np.testing.assert_array_equal(found["ids"], [[[1, 2, 0]], [[3, 1, 0]]])


# --- batches by length --------------------------------------------------------------------------


def test_alike_rows_have_every_example_once_and_mostly_one_kind():
    kinds = np.repeat([0, 1, 2], [20, 30, 13])
    key = stream(0, "order")
    rows, weights = bucketed_rows(key, 0, jnp.asarray(kinds), batch_size=10)
    present = np.asarray(rows)[np.asarray(weights) > 0]
    assert sorted(present) == list(range(63))
    mixed = sum(
        len(set(kinds[r[w > 0]])) > 1
        for r, w in zip(*map(np.asarray, (rows, weights)), strict=True)
    )
    assert mixed == 0  # 20 and 30 are whole batches
    again, _ = bucketed_rows(key, 0, jnp.asarray(kinds), batch_size=10)
    other, _ = bucketed_rows(key, 1, jnp.asarray(kinds), batch_size=10)
    assert np.array_equal(rows, again) and not np.array_equal(rows, other)


def groups(rows, weights):
    return {
        frozenset(r[w > 0].tolist()) for r, w in zip(*map(np.asarray, (rows, weights)), strict=True)
    }


@pytest.mark.parametrize("regroup", [False, True])
def test_batches_are_composed_anew_unless_told_not_to(regroup):
    key, kinds = stream(0, "order"), jnp.zeros(63, jnp.int32)
    first, second = (bucketed_rows(key, e, kinds, batch_size=10, regroup=regroup) for e in (0, 1))
    assert (groups(*first) == groups(*second)) == (not regroup)
    assert not np.array_equal(first[0], second[0]), "their order changes in either case"


def test_ladder_by_hand():
    """Two lengths; all sentences of a length are of the same words."""
    inputs = np.zeros((40, 64), np.int32)
    inputs[:20, :10], inputs[20:, :30] = np.arange(1, 11), np.arange(1, 31)
    needed = np.repeat([10, 30], 20)
    steps = length_buckets(inputs, needed, 5)
    assert steps == (
        Bucket(16, 31),
        Bucket(32, 31),
        Bucket(64, 31),
    )  # 64 rows would be more than all
    batches = [(np.arange(5), np.ones(5)), (np.array([1, 30]), np.array([1.0, 0.0]))]
    assert buckets_of(inputs, needed, batches, steps) == [steps[0], steps[0]]
    assert buckets_of(inputs, needed, [(np.array([1, 30]), np.ones(2))], steps) == [steps[1]]


def test_a_batch_with_more_words_than_its_class_expects_has_not_the_largest_size():
    inputs = np.random.RandomState(0).randint(1, 1000, (400, 30)).astype(np.int32)
    steps = length_buckets(inputs, np.full(400, 30), 50)
    expected, ample, largest = (size.rows for size in steps)
    assert [size.columns for size in steps] == [30, 30, 30]
    # Some 774 of the 999 words are in 50 sentences of 30, give or take 13.
    assert 774 + 2 * 13 <= expected < 850 < ample < largest == 1000


def test_every_batch_fits_its_size():
    task, train = small_task(), splits()["train"]
    order = Batches(task, train["inputs"], BY_LENGTH, Devices("single"))
    needed = lookup.columns(task.lookup, train["inputs"])
    seen = set()
    for number in range(3):
        rows, weights, sizes = order.epoch(number)
        for r, w, size in zip(np.asarray(rows), np.asarray(weights), sizes, strict=True):
            assert size.columns >= needed[r[w > 0]].max()
            assert size.rows >= len(set(train["inputs"][r, : size.columns].ravel()) | {0})
            seen.add(size)
    assert len({size.columns for size in seen}) > 1, "short batches are not cut"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"windows": (1, 6)},
        {"pooling": "k_max", "k": 3},
        {"pooling": "local_max"},
        {"pooling": "mean"},
    ],
    ids=["1-max", "other windows", "k-max", "local max", "mean"],
)
def test_logits_do_not_depend_on_the_columns_that_are_cut(changes):
    """A window wholly in padding takes part as before; biases let it win."""
    task, inputs = small_task(**changes), splits()["validation"]["inputs"]
    params = jax.device_get(begin(task).params)
    params = jax.tree.map(lambda p: p + 0.1 * np.cos(np.arange(p.size)).reshape(p.shape), params)
    params, logits = jax.tree.map(np.float32, params), quickly(task.logits)
    variables = {"params": params}
    whole = logits(variables, inputs)
    needed = lookup.columns(task.lookup, inputs)
    for columns in sorted(set(needed.tolist()))[::6]:
        rows = needed == columns
        cut = logits(variables, inputs[rows, :columns])
        np.testing.assert_allclose(cut, whole[rows], rtol=1e-5, atol=1e-6)
    by_length = predict(task, Devices("single"))(variables, inputs)
    np.testing.assert_allclose(by_length, whole, rtol=1e-5, atol=1e-6)


def test_training_in_short_batches_equals_training_in_whole_length():
    """The same batches, cut and not, on the rows of each and on all rows: over an epoch."""
    task, hparams = small_task(), traced(small_config().hparams)
    train = splits()["train"]
    plan = dataclasses.replace(BY_LENGTH, seed=1)
    order = Batches(task, train["inputs"], plan, Devices("single"))
    rows, weights, sizes = order.epoch(0)
    short, whole = begin(task, 1), begin(plainly(task), 1)
    step = jax.jit(functools.partial(train_step, task), static_argnames="rows")
    plain = jax.jit(functools.partial(train_step, plainly(task)))
    for r, w, size in zip(np.asarray(rows), np.asarray(weights), sizes, strict=True):
        batch = {"inputs": train["inputs"][r], "labels": train["labels"][r], "weights": w}
        whole, expected = plain(whole, batch, hparams)
        batch["inputs"] = batch["inputs"][:, : size.columns]
        short, metrics = step(short, batch, hparams, rows=size.rows)
        close(metrics, expected)
    close(short.params, whole.params)


# --- the loop -----------------------------------------------------------------------------------


def run(config, task=None, way="single", **more):
    task = task or small_task()
    return fit(task, splits(), config.hparams, plan(config), devices=Devices(way), **more)


class Stop(Observer):
    """Asks to stop at the second look."""

    looks = 0

    def should_stop(self):
        self.looks += 1
        return self.looks > 1


def test_it_learns_and_resumes_to_the_same_bits(tmp_path):
    config = small_config(epochs=10, batch_size=4)
    reference = run(config)
    with pytest.raises(Interrupted) as stop:
        run(config, observer=Stop(), checkpoints=Checkpoints(tmp_path))
    assert stop.value.step == 16, "inside an epoch of 23 steps"
    resumed = run(config, checkpoints=Checkpoints(tmp_path))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves(resumed.params), jax.tree.leaves(reference.params), strict=True
        )
    )
    validation = splits()["validation"]
    logits = predict(small_task(), Devices("single"))(resumed.variables, validation["inputs"])
    assert np.mean(logits.argmax(1) == validation["labels"]) > 0.75


@pytest.mark.parametrize("way", ["sharded", "shard_map", "pmap"])
def test_devices_that_share_a_batch_agree_with_one(rows_of_ways, way):
    (row,) = [row for row in rows_of_ways if row["way"] == way]
    assert row["difference"] < 1e-5


@pytest.fixture(scope="module")
def rows_of_ways():
    return rows_of_module("tests.lookup_child")


def test_trials_together_equal_trials_alone():
    """Alone, steps are one program, or calls on what a batch needs; all draw the same batches."""
    task, config = small_task(), small_config(epochs=2)
    data = splits()["train"]
    rows = {"train": np.arange(70), "validation": np.arange(70, 90)}
    alone_splits = {name: {k: v[chosen] for k, v in data.items()} for name, chosen in rows.items()}
    hparams = [config.hparams, config.hparams.replace(norm=np.inf, dropout=0.2)]
    found = fit_trials(task, data, [rows] * 2, hparams, [1, 2], plan(config))
    for seed, h, together in zip((1, 2), hparams, found, strict=True):
        one = dataclasses.replace(plan(config), seed=seed)
        for one_program in (False, True):
            devices = Devices("single", one_program=one_program)
            alone = fit(task, alone_splits, h, one, devices=devices)
            close(together.params, alone.params, 1e-4)
            assert together.selected_epoch == alone.selected_epoch

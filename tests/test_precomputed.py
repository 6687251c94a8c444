"""Features of a fixed backbone and learned weights: computed once, kept by what matters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cnnjax import data
from cnnjax.cache import cached
from cnnjax.data.folds import pool
from cnnjax.training import Devices, Plan, fit
from cnnjax.transfer import pretraining as pretraining_module
from cnnjax.transfer.precomputed import precompute
from cnnjax.transfer.pretraining import pretrained
from tests.training_task import Hparams as SmallHparams
from tests.training_task import small_splits, small_task, traced
from tests.transfer_task import SINGLE, config_of, moved, precomputed, task_of

pytestmark = pytest.mark.usefixtures("kept_programs")


def split_off(digits, count):
    return {
        name: {key: array[:count] for key, array in digits[name].items()}
        for name in ("train", "validation")
    }


def test_features_computed_once_give_the_same_training(lenet, digits, tmp_path):
    """To the last bit, here; the backbone in batches of the step's size and in those of 64."""
    config = config_of(lenet, strategy="linear", features="S2", epochs=3)
    task = task_of(config)
    splits, plan = split_off(digits, 45), Plan(3, 10, seed=1, select="last")
    every_step = fit(task, splits, config.hparams, plan, devices=SINGLE())
    once, seen = precomputed(task, splits, tmp_path)
    assert seen["train"]["inputs"].shape == (45, 1, 12 * 12 * 4)
    cached = fit(once.task, seen, config.hparams, plan, devices=SINGLE())
    whole = once.whole(cached.variables)
    assert flatten_dict(whole).keys() == flatten_dict(every_step.variables).keys()
    assert moved(every_step.variables, whole) == set()
    assert np.any(np.asarray(whole["params"]["head"]["kernel"])), "it was trained"


def test_features_are_kept_by_what_they_depend_on(lenet, digits, tmp_path, monkeypatch):
    splits = split_off(digits, 20)
    task = task_of(config_of(lenet, strategy="linear"))
    _, first = precomputed(task, splits, tmp_path)
    files = lambda: sorted((tmp_path / "features").iterdir())
    (own,) = files()  # no temporary file is left

    def never(*arguments):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(Devices, "apply", lambda self, function: never)
        _, again = precomputed(task, splits, tmp_path)
        for name in splits:
            np.testing.assert_array_equal(again[name]["inputs"], first[name]["inputs"])
            np.testing.assert_array_equal(again[name]["labels"], splits[name]["labels"])
        assert files() == [own]

    nothing = lambda self, function: lambda initial, inputs, size: np.zeros((len(inputs), 1, 1))
    monkeypatch.setattr(Devices, "apply", nothing)
    inputs = pool(splits)[0]["inputs"]
    precompute(task, inputs.copy(), SINGLE(), tmp_path)
    assert files() == [own]
    other_inputs, other_values = inputs.copy(), {p: a.copy() for p, a in task.initial.items()}
    other_inputs[3, 4, 4] += 1
    other_values["backbone/C1/bias"][0] += 1e-3
    others = [
        (task, other_inputs),
        (dataclasses.replace(task, initial=other_values), inputs),
        (task_of(config_of(lenet, strategy="linear", features="C3")), inputs),
        (task_of(config_of(lenet, strategy="linear", pixels="inverted")), inputs),
    ]
    for count, other in enumerate(others, start=2):
        precompute(*other, SINGLE(), tmp_path)
        assert len(files()) == count


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: _flip(b)])
def test_a_damaged_file_is_computed_again(tmp_path, damage):
    path, calls = tmp_path / "new" / "a.npz", []

    def compute():
        calls.append(1)
        return {"C1/kernel": np.arange(1000.0)}

    cached(path, compute)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cached(path, compute)["C1/kernel"], np.arange(1000.0))
    assert len(calls) == 2
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]


def _flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = cached(tmp_path / "file" / "a.npz", lambda: {"x": np.ones(2)})
    np.testing.assert_array_equal(found["x"], np.ones(2))


def test_views_are_of_the_image_wherever_it_stands(lenet, digits):
    task = task_of(config_of(lenet, strategy="linear", distortions=True, views=3))
    initial, images = dict(task.initial), digits["train"]["inputs"][:4]
    run = jax.jit(lambda initial, images: task.frozen.features(initial, images))
    found, turned = run(initial, images), run(initial, images[::-1])
    assert found.shape == (4, 3, 192)
    np.testing.assert_array_equal(found[::-1], turned)
    plain = task_of(config_of(lenet, strategy="linear")).frozen.features
    np.testing.assert_allclose(found[:, :1], jax.jit(plain)(initial, images), atol=1e-6)
    assert len(np.unique(np.asarray(found[0]), axis=0)) == 3


def test_training_takes_any_view_and_evaluation_the_first(lenet):
    head = task_of(config_of(lenet, strategy="linear", distortions=True, views=3)).frozen.head
    rows = jnp.broadcast_to(jnp.arange(3.0)[None, :, None], (300, 3, 1))
    keys = jax.random.split(jax.random.key(0), 300)
    drawn = np.asarray(head.augment(keys, rows, None))
    assert drawn.shape == (300, 1, 1) and np.bincount(drawn.ravel().astype(int)).min() > 70
    params = {"head": {"kernel": jnp.ones((1, 5)), "bias": jnp.zeros(5)}}
    np.testing.assert_array_equal(head.logits({"params": params}, rows), np.zeros((300, 5)))


# --- weights learned once ---------------------------------------------------------------------


def small_dataset(**changes):
    splits = {**small_splits(), "test": small_splits(seed=1)["validation"]}
    splits |= changes
    return data.DataSet("small", splits, ("a", "b", "c"), {"source": "drawn"}).with_checksum()


def learn(folder, dataset=None, task=None, hparams=None, plan=None):
    return pretrained(
        "small",
        task or small_task(),
        dataset or small_dataset(),
        hparams or SmallHparams(),
        plan or Plan(1, 30, select="last"),
        folder,
    )


def test_weights_are_learned_once(tmp_path, monkeypatch, capsys):
    first = learn(tmp_path)
    (path,) = (tmp_path / "pretrained").iterdir()
    assert path.name.startswith("small-") and path.suffix == ".npz"
    assert "pretraining small on small (once)" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(pretraining_module, "fit", None)
        again = learn(tmp_path)
    assert first.keys() == again.keys() and "Dense_0/kernel" in first
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert capsys.readouterr().err == ""
    # Learned anew, they are the same to the bit.
    path.write_bytes(b"damaged")
    anew = learn(tmp_path)
    assert all(np.array_equal(first[name], anew[name]) for name in first)


def test_weights_are_kept_by_all_that_they_depend_on():
    task, dataset, hparams = small_task(), small_dataset(), traced(SmallHparams())
    plan, train = Plan(1, 30), small_splits()["train"]
    key = pretraining_module._key
    other = small_dataset(train={"inputs": train["inputs"] // 2, "labels": train["labels"]})
    others = [
        key(task, other, hparams, plan),
        key(task, dataset, traced(SmallHparams(dropout=0.2)), plan),
        key(task, dataset, hparams, Plan(2, 30)),
        key(task, dataset, hparams, Plan(1, 30, seed=1)),
        key(dataclasses.replace(task, prepare=lambda x: x / 200.0), dataset, hparams, plan),
    ]
    assert key(small_task(), small_dataset(), hparams, plan) == key(task, dataset, hparams, plan)
    assert len({key(task, dataset, hparams, plan), *others}) == 6

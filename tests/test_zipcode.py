"""The zip-code network: the paper's counts, its connection table, its draws, and its ladder."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from benchmarks import papers
from cnnjax import ops
from cnnjax.command import main
from cnnjax.config import override, to_dict
from cnnjax.data import Spec, idx
from cnnjax.errors import UserError
from cnnjax.experiment import record
from cnnjax.experiment.places import Places
from cnnjax.experiment.run import load_data
from cnnjax.models import ZipCodeNet, summarize
from cnnjax.models.zipcode import H2_CONNECTIONS
from experiments import zipcode
from experiments.zipcode import Config
from tests.data_files import write_files

DIGITS = tuple("0123456789")


def images(count, side=16):
    return np.random.default_rng(1).uniform(-1, 1, (count, side, side, 1)).astype(np.float32)


@functools.cache
def compiled(net):
    """``params = init(x)`` and ``logits, features = apply(params, x)``."""
    apply = jax.jit(lambda params, x: net.apply({"params": params}, x))
    return jax.jit(lambda x: net.init(jax.random.key(0), x)["params"]), apply


# --- the network ------------------------------------------------------------------------------


def test_parameters_and_connections_of_the_paper():
    layers = summarize(ZipCodeNet(), (16, 16, 1))
    assert {layer.name: (layer.parameters, layer.connections) for layer in layers} == {
        "H1": (1_068, 19_968),
        "H2": (2_592, 38_592),
        "H3": (5_790, 5_790),
        "output": (310, 310),
    }
    assert sum(layer.parameters for layer in layers) == 9_760
    assert sum(layer.connections for layer in layers) == 64_660


def test_sizes_of_layers():
    init, apply = compiled(ZipCodeNet())
    logits, features = apply(init(images(2)), images(2))
    shapes = {name: feature.shape[1:] for name, feature in features.items()}
    assert shapes == {"H1": (8, 8, 12), "H2": (4, 4, 12), "H3": (30,), "logits": (10,)}
    # 768 + 192 + 30 + 10 units and 256 inputs are the paper's 1,256.
    assert sum(map(np.prod, shapes.values())) + 256 == 1_256
    np.testing.assert_array_equal(features["logits"], logits)
    assert np.abs(np.concatenate([f.ravel() for f in features.values()])).max() < 1.7159


def test_every_map_of_h2_sees_eight_of_twelve_evenly():
    assert len(set(H2_CONNECTIONS)) == 12
    assert {len(set(row)) for row in H2_CONNECTIONS} == {8}
    feeds = np.bincount(np.concatenate(H2_CONNECTIONS), minlength=12)
    assert feeds.tolist() == [8] * 12
    for j, k in itertools.combinations(range(12), 2):
        common = len(set(H2_CONNECTIONS[j]) & set(H2_CONNECTIONS[k]))
        assert common == (6 if k - j == 6 else 5)


def test_h2_is_connected_by_the_table():
    x, (init, apply) = images(2), compiled(ZipCodeNet())
    params = init(x)
    before = apply(params, x)[1]["H2"]
    for i in range(12):
        bias = params["H1"]["bias"].at[:, :, i].add(0.5)
        other = params | {"H1": params["H1"] | {"bias": bias}}
        after = apply(other, x)[1]["H2"]
        reached = np.flatnonzero(np.any(after != before, axis=(0, 1, 2)))
        assert reached.tolist() == [j for j in range(12) if i in H2_CONNECTIONS[j]]


def test_kernels_are_shared_and_biases_are_not():
    x, (init, apply) = images(2), compiled(ZipCodeNet())
    params = init(x)
    before = apply(params, x)[1]["H1"]

    def changed(name, index):
        one = params["H1"][name].at[index].add(0.5)
        other = params | {"H1": params["H1"] | {name: one}}
        after = apply(other, x)[1]["H1"]
        return np.argwhere(jnp.any(after != before, axis=0))

    assert {(unit[2]) for unit in changed("kernel", (1, 1, 0, 5)).tolist()} == {5}
    assert len(changed("kernel", (2, 2, 0, 5))) == 64
    assert changed("bias", (2, 3, 5)).tolist() == [[2, 3, 5]]


def test_windows_over_the_edge_see_minus_one():
    """On an empty image all units of a map of H1 are equal; H2's edges see -1 beyond H1, too."""
    x, (init, apply) = np.full((2, 16, 16, 1), -1, np.float32), compiled(ZipCodeNet())
    params = init(x)
    h1 = np.asarray(apply(params, x)[1]["H1"])
    np.testing.assert_allclose(h1, np.broadcast_to(h1[:, :1, :1], h1.shape), rtol=1e-6)
    # With weights of H1 that make it -1 everywhere, nothing tells H2's edges from its middle.
    minus_one = {"kernel": jnp.zeros((5, 5, 1, 12)), "bias": jnp.full((8, 8, 12), -1.0)}
    h2 = np.asarray(apply(params | {"H1": minus_one}, x)[1]["H2"])
    np.testing.assert_allclose(h2, np.broadcast_to(h2[:, :1, :1], h2.shape), atol=1e-6)


def test_initial_weights_fill_the_papers_range():
    params = compiled(ZipCodeNet())[0](images(2))
    for layer, fan_in in (("H1", 25), ("H2", 200), ("H3", 192), ("output", 30)):
        largest = np.abs(params[layer]["kernel"]).max() * fan_in
        assert 2.3 < largest <= 2.4
        assert not np.any(params[layer]["bias"])


def test_relu_and_linear_outputs():
    x = images(2)
    for net in (ZipCodeNet(), ZipCodeNet(activation="relu", squashed=False)):
        init, apply = compiled(net)
        params = init(x)
        logits, features = apply(params, x)
        kernel, bias = params["output"]["kernel"], params["output"]["bias"]
        linear = features["H3"] @ kernel + bias[None]
        expected = ops.scaled_tanh(linear) if net.squashed else linear
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    for name in ("H1", "H2", "H3"):  # of the latter
        assert features[name].min() == 0 < features[name].max()


def test_dropout_is_of_h2():
    x, net, seen = images(2), ZipCodeNet(), []
    params = compiled(net)[0](x)
    net.apply({"params": params}, x, dropout=lambda h: seen.append(h.shape) or jnp.zeros_like(h))
    assert seen == [(2, 4, 4, 12)]


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\[N, 16, 16, C\]; the inputs are \(1, 28, 28, 1\)"):
        ZipCodeNet().init(jax.random.key(0), images(1, 28))


# --- its images -------------------------------------------------------------------------------


def test_only_training_sees_shifts():
    spec = Spec((16, 16, 1), DIGITS, 100)
    assert zipcode.task(Config(), spec).augment is None
    task = zipcode.task(Config(shift=2), spec)
    keys = jax.random.split(jax.random.key(0), 3)
    assert task.augment(keys, images(3), None).shape == (3, 16, 16, 1)
    init, apply = compiled(ZipCodeNet())
    params = init(images(2))
    found = jax.jit(task.logits)({"params": params}, (images(2) + 1) / 2)
    np.testing.assert_allclose(found, apply(params, images(2))[0], atol=1e-5)


LABELS = np.random.default_rng(0).integers(0, 10, 1000).astype(np.int32)
SPLITS = {
    "train": np.arange(700), "validation": np.arange(700, 800), "test": np.arange(800, 1000),
}  # fmt: skip


def test_test_images_are_drawn_from_the_test_split_others_never():
    config = Config(train=300, test=90, validation=60)
    drawn = zipcode.rows(config, LABELS, SPLITS)
    assert {name: len(np.unique(rows)) for name, rows in drawn.items()} == {
        "train": 300, "validation": 60, "test": 90,
    }  # fmt: skip
    assert drawn["test"].min() >= 800
    learned = np.concatenate([drawn["train"], drawn["validation"]])
    assert len(np.unique(learned)) == 360
    assert learned.max() < 800
    for name, own in (("train", LABELS[:800]), ("test", LABELS[800:])):
        shares = np.bincount(own) / len(own)
        assert np.abs(np.bincount(LABELS[drawn[name]]) - shares * len(drawn[name])).max() < 1.5
    again = zipcode.rows(dataclasses.replace(config, loss="cross_entropy"), LABELS, SPLITS)
    other = zipcode.rows(dataclasses.replace(config, seed=1), LABELS, SPLITS)
    for name in drawn:
        np.testing.assert_array_equal(drawn[name], again[name])
        assert len(np.setdiff1d(drawn[name], other[name])) > len(drawn[name]) / 3


def test_sizes_are_at_most_what_there_is():
    drawn = zipcode.rows(Config(validation=100), LABELS, SPLITS)
    assert sorted(np.concatenate(list(drawn.values()))) == list(range(1000))
    assert len(drawn["train"]) == 700
    with pytest.raises(UserError, match=r"config.validation=800: leaves nothing .* the 800 images"):
        zipcode.rows(Config(validation=800), LABELS, SPLITS)


def test_mnist_at_the_papers_size(real_data):
    folder = real_data / "mnist"
    files = ("train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    labels = np.concatenate([idx.read(folder / name, 1) for name in files])
    own = dict(zip(SPLITS, np.split(np.arange(70_000), [55_000, 60_000]), strict=True))
    drawn = zipcode.rows(Config(), labels, own)
    assert {name: len(np.unique(rows)) for name, rows in drawn.items()} == {
        "train": 7_291, "validation": 291, "test": 2_007,
    }  # fmt: skip
    assert drawn["test"].min() >= 60_000


def test_a_run_has_the_draw_of_its_seed():
    config = Config(dataset="digits", test=100, seed=3)
    digits = load_data(record.load(experiments, "zipcode"), config, Places("unused"))
    assert digits.spec.examples == 1_438 - 291  # 359 are the data set's own test split
    assert len(digits.splits["test"]["labels"]) == 100
    assert digits.provenance["split"] == "divided anew by experiments.zipcode.rows"


def test_colours_are_refused():
    with pytest.raises(UserError, match="takes grey images; cifar has 3 channels"):
        zipcode.task(Config(dataset="cifar"), Spec((32, 32, 3), DIGITS, 9))


# --- the ladder -------------------------------------------------------------------------------


def test_rungs_add_up():
    first, *_, last = zipcode._ladder().values()
    assert override(Config(), first) == Config()
    config = override(Config(), last)
    assert config.loss == "cross_entropy"
    assert config.optimizer == "adamw"
    assert config.shift == 1
    assert config.activation == "relu"
    assert config.hparams.dropout == 0.25


def test_ladder_is_25_trials_in_5_programs(capsys):
    assert main(experiments, ["--experiment=zipcode", "--sweep=ladder", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("25 trials in 5 compiled programs")
    assert "loss=squared_error seed=4" in out


def row(rung, seed, test, train=1.0, **changes):
    changes = zipcode._ladder()[rung] | {"seed": seed} | changes
    finished = test is not None
    measured = lambda error, count: {"accuracy": 1 - error / 100, "count": count}
    return {
        "changes": changes,
        "config": to_dict(override(Config(), changes)),
        "status": "finished" if finished else "diverged",
        "test": measured(test, 2007) if finished else None,
        "train": measured(train, 7291) if finished else None,
    }


def test_table_of_fake_rows(tmp_path):
    trials = [row("as published", 0, 4.0), row("as published", 1, 4.4)]
    trials += [row("softmax cross-entropy", seed, 3.5 + seed, 0.0) for seed in range(3)]
    trials += [row("shifts", 0, None)]
    files = zipcode.report(trials, tmp_path)
    assert [file.name for file in files] == ["ladder.md", "ladder.png"]
    lines = files[0].read_text().splitlines()
    assert lines[0] == "# The zip-code network on mnist: 7,291 training and 2,007 test images"
    assert lines[4] == "| as published | 23 | 1.00 | 4.20 ± 0.28 | 1.66 – 6.74 | 2 | – | 5 | 4.09 |"
    assert lines[5].startswith("| softmax cross-entropy | 23 | 0.00 | 4.50 ± 1.00 | 2.02 – 6.98 |")
    assert lines[5].endswith("| 3 | -0.20 (p = 0.626) | – | 4.38 |")
    assert lines[6] == "| shifts | 80 | – | – | – | 0 | – | – | 2.19 |"
    assert files[1].read_bytes().startswith(b"\x89PNG")
    table = papers.table("ladder", {"rows": trials})
    assert table.splitlines() == lines[2:7]


def test_no_table_of_another_sweep(tmp_path):
    assert zipcode.report([row("as published", 0, 4.0, shift=2)], tmp_path) == []
    assert zipcode.report([row("as published", 0, None)], tmp_path) == []
    assert zipcode.report([], tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_last_rung_by_the_command_line(tmp_path, capsys):
    """It learns where a square of ink is, in files like MNIST's: two rows of five places."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 240), ("test", 60)):
        labels = np.arange(count, dtype=np.uint8) % 10
        inked = random.integers(0, 60, (count, 28, 28), np.uint8)
        for image, label in zip(inked, labels, strict=True):
            down, right = 14 * (label // 5) + 5, 5 * (label % 5) + 2
            image[down : down + 4, right : right + 4] = 255
        arrays[split] = inked, labels
    files = write_files(tmp_path / "files", arrays)
    base = ["--experiment=zipcode", f"--workdir={tmp_path / 'sweep'}", f"--manual_dir={files}"]
    base += [f"--data_dir={tmp_path / 'data'}", "--config.validation=40", "--trials_in=in_turn"]
    rung = list(zipcode._ladder().values())[-1] | {"epochs": 12, "batch_size": 8}
    assert main(experiments, [*base, *(f"--sweep={path}={v}" for path, v in rung.items())]) == 0
    (error,) = re.findall(r"1/1\].*: ([\d.]+) % test error", capsys.readouterr().out)
    assert float(error) < 20

"""Net-1 to Net-5: the paper's counts, the draws of its protocol, and its table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from cnnjax import data
from cnnjax.command import main
from cnnjax.config import to_dict
from cnnjax.data import Spec
from cnnjax.errors import UserError
from cnnjax.experiment import record
from cnnjax.experiment.places import Places
from cnnjax.experiment.run import load_data
from cnnjax.models import Net1, Net2, Net3, Net4, Net5, summarize
from cnnjax.training import squared_error
from experiments import strategies
from experiments.strategies import Config

LABELS = np.random.default_rng(0).integers(0, 10, 1797).astype(np.int32)


def images(count, side=16):
    return np.random.default_rng(1).uniform(-1, 1, (count, side, side, 1)).astype(np.float32)


# --- the networks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, expected",
    [
        # layer: links, free parameters
        (Net1, {"output": (2_570, 2_570)}),
        (Net2, {"H1": (3_084, 3_084), "output": (130, 130)}),
        (Net3, {"H1": (640, 640), "H2": (416, 416), "output": (170, 170)}),
        (Net4, {"H1": (1_280, 146), "H2": (816, 816), "output": (170, 170)}),
        (Net5, {"H1": (1_280, 146), "H2": (3_264, 264), "output": (650, 650)}),
    ],
)
def test_links_and_free_parameters(model, expected):
    layers = summarize(model(), (16, 16, 1))
    assert {layer.name: (layer.connections, layer.parameters) for layer in layers} == expected


@pytest.mark.parametrize(
    "model, links, parameters",
    [(Net1, 2_570, 2_570), (Net2, 3_214, 3_214), (Net3, 1_226, 1_226), (Net4, 2_266, 1_132),
     (Net5, 5_194, 1_060)],
)  # fmt: skip
def test_totals_of_the_paper(model, links, parameters):
    layers = summarize(model(), (16, 16, 1))
    assert sum(layer.connections for layer in layers) == links
    assert sum(layer.parameters for layer in layers) == parameters


@pytest.mark.parametrize(
    "model, expected",
    [
        (Net1, {}),
        (Net2, {"H1": (12,)}),
        (Net3, {"H1": (8, 8, 1), "H2": (4, 4, 1)}),
        (Net4, {"H1": (8, 8, 2), "H2": (4, 4, 1)}),
        (Net5, {"H1": (8, 8, 2), "H2": (4, 4, 4)}),
    ],
)
def test_sizes_of_layers(model, expected):
    (logits, features), _ = model().init_with_output(jax.random.key(0), images(3))
    assert {k: f.shape[1:] for k, f in features.items()} == expected | {"logits": (10,)}
    np.testing.assert_array_equal(features["logits"], logits)
    assert np.abs(np.concatenate([f.ravel() for f in features.values()])).max() < 1.7159


def test_initial_weights_fill_the_papers_range():
    params = Net5().init(jax.random.key(0), images(1))["params"]
    for layer, fan_in in (("H1", 9), ("H2", 50), ("output", 64)):
        largest = np.abs(params[layer]["kernel"]).max() * fan_in
        assert 2.0 < largest <= 2.4


def test_kernels_are_shared_and_biases_are_not():
    x, net = images(2), Net5()
    params = net.init(jax.random.key(0), x)["params"]
    before = net.apply({"params": params}, x)[1]["H1"]

    def changed(name, index):
        one = params["H1"][name].at[index].add(0.5)
        other = params | {"H1": params["H1"] | {name: one}}
        after = net.apply({"params": other}, x)[1]["H1"]
        return np.asarray(jnp.any(after != before, axis=0))

    one_map = np.zeros((8, 8, 2), bool)
    one_map[..., 1] = True
    np.testing.assert_array_equal(changed("kernel", (1, 1, 0, 1)), one_map)
    one_unit = np.zeros((8, 8, 2), bool)
    one_unit[2, 3, 1] = True
    np.testing.assert_array_equal(changed("bias", (2, 3, 1)), one_unit)


def test_no_kernel_of_net3_is_shared():
    x, net = images(2), Net3()
    params = net.init(jax.random.key(0), x)["params"]
    kernel = params["H1"]["kernel"].at[2, 3, 1, 1].add(0.5)
    after = net.apply({"params": params | {"H1": params["H1"] | {"kernel": kernel}}}, x)[1]["H1"]
    differs = jnp.any(after != net.apply({"params": params}, x)[1]["H1"], axis=0)
    assert np.argwhere(differs).tolist() == [[2, 3, 0]]


def test_windows_over_the_edge_see_background():
    """On an empty image all units of a map are equal, those at the edges too."""
    (_, features), _ = Net5().init_with_output(jax.random.key(0), np.full((1, 16, 16, 1), -1.0))
    h1 = np.asarray(features["H1"])
    np.testing.assert_allclose(h1, np.broadcast_to(h1[:, :1, :1], h1.shape), rtol=1e-6)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\[N, 16, 16, C\]; the inputs are \(1, 28, 28, 1\)"):
        Net5().init(jax.random.key(0), images(1, 28))


# --- the protocol -----------------------------------------------------------------------------


def test_loss_by_hand():
    logits = jnp.array([[1.0, -1.0, -1.0], [0.5, 0.0, -2.0]])
    found = squared_error(logits, jnp.array([0, 1]), None)
    # (0.5 + 1)^2 + (0 - 1)^2 + (-2 + 1)^2 = 2.25 + 1 + 1
    np.testing.assert_allclose(found, [0.0, 4.25 / 2])


def test_digits_are_doubled_and_mnist_is_averaged():
    small = np.zeros((1, 8, 8, 1), np.uint8)
    small[0, 2, 5] = 255
    large = np.full((1, 16, 16, 1), -1.0)
    large[0, 4:6, 10:12] = 1
    np.testing.assert_allclose(strategies._prepare(small), large, atol=1e-6)
    whole = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.uint8)
    # 7 sources are 4 outputs: repeat each source 4 times, and average over 7.
    fine = whole.repeat(4, 1).repeat(4, 2).reshape(2, 16, 7, 16, 7)
    expected = fine.mean((2, 4))[..., None] / 127.5 - 1
    np.testing.assert_allclose(strategies._prepare(whole), expected, atol=1e-5)


def test_draws_are_disjoint_stratified_and_differ_by_seed():
    config = Config()
    drawn = strategies.rows(config, LABELS, {})
    assert {name: len(rows) for name, rows in drawn.items()} == {
        "train": 320, "validation": 160, "test": 160,
    }  # fmt: skip
    assert len(np.unique(np.concatenate(list(drawn.values())))) == 640
    shares = np.bincount(LABELS) / len(LABELS)
    for rows in drawn.values():
        assert np.abs(np.bincount(LABELS[rows]) - shares * len(rows)).max() < 1.5
    again = strategies.rows(dataclasses.replace(config, model="net1"), LABELS, {})
    other = strategies.rows(dataclasses.replace(config, seed=1), LABELS, {})
    for name in drawn:
        np.testing.assert_array_equal(drawn[name], again[name])
        assert len(np.setdiff1d(drawn[name], other[name])) > len(drawn[name]) / 2


def test_draw_of_all_examples_and_of_more():
    config = Config(train=1000, test=500, validation=297)
    assert sum(map(len, strategies.rows(config, LABELS, {}).values())) == 1797
    with pytest.raises(UserError, match=r"config.test=500: cannot all be drawn from the 1,797"):
        strategies.rows(dataclasses.replace(config, validation=298), LABELS, {})


def test_a_run_has_the_draw_of_its_seed():
    config, everything = Config(seed=7), data.load("digits")
    dataset = load_data(record.load(experiments, "strategies"), config, Places("unused"))
    assert dataset.spec.examples == 320
    labels = np.concatenate([everything.splits[s]["labels"] for s in dataset.splits])
    inputs = np.concatenate([everything.splits[s]["inputs"] for s in dataset.splits])
    for name, rows in strategies.rows(config, labels, {}).items():
        np.testing.assert_array_equal(dataset.splits[name]["inputs"], inputs[rows])
    assert dataset.provenance["split"].endswith("experiments.strategies.rows")
    assert dataset.provenance["sha256"] != everything.provenance["sha256"]


@pytest.mark.parametrize("spec", [Spec((32, 32, 3), ("a",) * 10, 9), Spec((8, 8, 1), ("a",), 9)])
def test_colours_and_other_classes_are_refused(spec):
    with pytest.raises(UserError, match="takes grey images of 10 classes; digits has"):
        strategies.task(Config(), spec)


# --- the table --------------------------------------------------------------------------------


def row(model, seed, accuracy, **changes):
    config = to_dict(Config(model=model, seed=seed))
    changes = {"model": model, "seed": seed} | changes
    test = None if accuracy is None else {"accuracy": accuracy}
    status = "diverged" if accuracy is None else "finished"
    return {"changes": changes, "config": config, "status": status, "test": test}


def test_table_of_fake_rows(tmp_path):
    trials = [row("net1", 0, 0.80), row("net1", 1, 0.82), row("net1", 2, None)]
    trials += [row("net5", seed, 0.95 + seed / 100) for seed in range(3)] + [row("net4", 0, 0.9)]
    files = strategies.report(trials, tmp_path)
    assert [file.name for file in files] == ["networks.md", "networks.png"]
    lines = files[0].read_text().splitlines()
    assert lines[0] == "# Net-1 to Net-5 on digits: 320 training and 160 test images, 30 passes"
    assert lines[4] == "| Net-1 | 2,570 | 2,570 | 81.0 ± 1.4 | 68.3 – 93.7 | 2 | – | 80.0 |"
    assert lines[5] == "| Net-2 | 3,214 | 3,214 | – | – | 0 | – | 87.0 |"
    assert lines[7] == "| Net-4 | 2,266 | 1,132 | 90.0 | – | 1 | – | 94.0 |"
    assert lines[8] == "| Net-5 | 5,194 | 1,060 | 96.0 ± 1.0 | 93.5 – 98.5 | 3 | +5.0 | 98.4 |"
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_no_table_of_another_sweep(tmp_path):
    assert strategies.report([row("net5", 0, 0.9, epochs=3)], tmp_path) == []
    assert strategies.report([], tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_table_has_150_trials():
    assert len(strategies.SWEEPS["table"]) == 150


def test_two_trials_by_the_command_line(tmp_path, capsys):
    workdir = f"--workdir={tmp_path}"
    base = ["--experiment=strategies", workdir]
    flags = ["--config.epochs=2", "--sweep=model=net1,net5", "--trials_in=in_turn"]
    assert main(experiments, [*base, *flags]) == 0
    first = (tmp_path / "networks.md").read_text()
    assert "| Net-5 | 5,194 | 1,060 |" in first
    (tmp_path / "networks.md").unlink()
    assert main(experiments, [*base, "--mode=report"]) == 0
    assert (tmp_path / "networks.md").read_text() == first
    assert "networks.png" in capsys.readouterr().out
    assert main(experiments, ["--experiment=lenet", workdir, "--mode=report"]) == 2
    assert "holds a sweep of --experiment=strategies" in capsys.readouterr().err

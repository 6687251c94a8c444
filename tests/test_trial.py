"""One training, two callers: a run is a sweep's trial with a folder; what trials share."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

import experiments
from cnnjax.config import override
from cnnjax.experiment import record, run
from cnnjax.experiment.places import Places
from cnnjax.experiment.trial import Outcome, Trainer, train_trial
from cnnjax.sweeps import engines, grid
from cnnjax.sweeps.request import Request, run_sweep
from cnnjax.sweeps.trials import trials_of
from cnnjax.training import Devices, Plan, Task
from cnnjax.training.task import FrozenPart
from cnnjax.transfer import Head

pytestmark = pytest.mark.usefixtures("kept_programs")

FIGURES = [field.name for field in dataclasses.fields(Outcome) if field.name != "seconds"]


def test_a_run_is_a_trial_with_a_folder(tmp_path):
    """The same figures, field by field, and one schema."""
    experiment = record.load(experiments, "strategies")
    config = override(experiment.config(), {"model": "net1", "epochs": 2, "train": 40})
    quiet = lambda line: None
    result = run.train(experiment, config, Places(tmp_path / "run"), say=quiet)
    trials = trials_of(config, grid(seed=(0, 1)))
    request = Request(experiment, config, trials)
    rows = run_sweep(request, Places(tmp_path / "sweep"), engines.here, say=quiet)
    assert [row["status"] for row in rows] == ["finished", "finished"]
    assert {name: result[name] for name in FIGURES} == {name: rows[0][name] for name in FIGURES}
    assert result["test"] != rows[1]["test"]
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert written == json.loads(json.dumps(result))


@struct.dataclass
class Hparams:
    """Of the head."""

    learning_rate: float = 0.1


@dataclasses.dataclass(frozen=True)
class Config:
    """What a trainer reads, and which rows are trained on."""

    first: int
    seed: int = 0
    hparams: Hparams = dataclasses.field(default_factory=Hparams)


def test_only_what_is_trained_on_is_seen_in_several_views():
    """Photographs that are held out in all trials are not cropped at random."""
    seen = []

    def views(inputs, seed, view):
        seen.append((view, sorted(inputs[:, 0].tolist())))
        return inputs + 100 * view

    def division(config, labels, splits):
        return {**splits, "train": np.array([config.first, config.first + 1])}

    inputs = np.arange(10, dtype=np.float32)[:, None]
    labels = (np.arange(10) % 2).astype(np.int32)
    parts = {"train": slice(0, 6), "validation": slice(6, 8), "test": slice(8, 10)}
    splits = {n: {"inputs": inputs[s], "labels": labels[s]} for n, s in parts.items()}
    head = Task(Head(2), lambda h: optax.sgd(h.learning_rate))
    task = Task(
        Head(2), lambda h: optax.sgd(h.learning_rate), views=views,
        prepare=lambda x: x[:, None],
        frozen=FrozenPart(lambda initial, x: jnp.asarray(x)[:, None], head, stored_views=3),
    )  # fmt: skip
    configs = [Config(0), Config(3)]
    plan = Plan(epochs=1, batch_size=2, select="last")
    trainer = Trainer(task, splits, plan, Devices("single"), division=division, configs=configs)
    assert seen == [(1, [0, 1, 3, 4]), (2, [0, 1, 3, 4])]
    assert trainer.trained_rows == (0, 1, 3, 4)
    found = trainer.splits(configs[1])
    np.testing.assert_array_equal(found["train"]["inputs"][..., 0], [[3, 103, 203], [4, 104, 204]])
    np.testing.assert_array_equal(found["test"]["inputs"][..., 0], [[8], [9]])
    everything = trainer.data()["inputs"][..., 0]
    np.testing.assert_array_equal(everything[3], [3, 103, 203])
    np.testing.assert_array_equal(everything[9], [9, 9, 9])
    assert train_trial(trainer, configs[1]).outcome.train["count"] == 2

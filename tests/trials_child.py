"""Run in a child process with 8 simulated devices: trials together and alone, as JSON lines."""

import dataclasses
import json
import sys

import jax
import numpy as np

from cnnjax.training import Devices, Diverged, Plan, Programs, fit
from cnnjax.training.trials import fit_trials
from tests.devices_child import difference
from tests.training_task import Hparams, small_splits, small_task

PLAN = Plan(epochs=2, batch_size=32)


def compare(programs: Programs, width: int, rates) -> None:
    """Print how far trials on ``width`` devices, one for each rate, are from each alone on one."""
    splits = small_splits()
    data = {
        key: np.concatenate([splits[name][key] for name in ("train", "validation")])
        for key in ("inputs", "labels")
    }
    rows = {"train": np.arange(90), "validation": np.arange(90, 120)}
    hparams = [Hparams(learning_rate=rate, dropout=0.1 * i) for i, rate in enumerate(rates)]
    seeds = range(len(rates))
    devices = Devices("sharded", jax.local_devices()[:width])
    found = fit_trials(
        small_task(), data, [rows] * len(rates), hparams, seeds, PLAN, devices=devices
    )
    trials = []
    for seed, fitted in enumerate(found):
        plan = dataclasses.replace(PLAN, seed=seed)
        try:
            alone = fit(small_task(), splits, hparams[seed], plan, programs=programs)
        except Diverged:
            trials.append({"diverged": isinstance(fitted, Diverged)})
            continue
        epochs = (alone.selected_epoch, fitted.selected_epoch)
        trials.append({"params": difference(alone.params, fitted.params), "epochs": epochs})
    print(json.dumps({"width": width, "trials": trials}))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    assert len(jax.local_devices()) == 8
    alone = Programs(small_task(), Devices("single"))
    compare(alone, 2, (0.05, 0.1, 0.02))
    compare(alone, 8, (0.05, float("inf"), 0.02))
    sys.exit(0)

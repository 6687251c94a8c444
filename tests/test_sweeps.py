"""Sweeps of a task of one's own: rows, programs shared, folders that go on, failing trials."""

import concurrent.futures
import dataclasses
import functools
import json
import shlex

import jax
import numpy as np
import pytest
from flax import struct

from cnnjax import config as configuration
from cnnjax.config import override, setting
from cnnjax.errors import UserError
from cnnjax.experiment import trial as trial_module
from cnnjax.experiment.places import Places
from cnnjax.sweeps import chain, chunks, engines, grid, run, zipped
from cnnjax.sweeps.jobs import Job, command_of
from cnnjax.sweeps.trials import groups, shared, trials_of
from cnnjax.training import Devices, Plan, Programs, fit
from experiments import lenet
from tests.training_task import Hparams, small_splits, small_task

pytestmark = pytest.mark.usefixtures("kept_programs")

PLAN = Plan(epochs=2, batch_size=45, seed=5)
SPLITS = small_splits()
TESTED = SPLITS | {"test": small_splits(seed=1)["validation"]}


@pytest.fixture
def trained(monkeypatch):
    """The seeds that are trained, in order; those of ``broken`` raise."""

    class Trained(list):
        broken = frozenset()

    seeds = Trained()

    def counted(task, splits, hparams, plan, **options):
        seeds.append(plan.seed)
        if plan.seed in seeds.broken:
            raise ArithmeticError("no such\nluck")
        return fit(task, splits, hparams, plan, **options)

    monkeypatch.setattr(trial_module, "fit", counted)
    return seeds


@functools.cache
def alone(rate, seed):
    """What a trial comes to by itself: its epoch, and the means of every split."""
    programs = Programs(small_task(), Devices("single"))
    hparams, plan = Hparams(rate), dataclasses.replace(PLAN, seed=seed)
    fitted = fit(small_task(), SPLITS, hparams, plan, programs=programs)
    measured = programs.evaluate(fitted.variables, hparams, TESTED)
    return fitted.selected_epoch, {name: means for name, (_, means) in measured.items()}


def sweep(trials, splits=SPLITS, **options):
    return run(small_task(), splits, Hparams(), PLAN, trials, **options)


@pytest.mark.parametrize("together", [False, True])
def test_a_row_for_every_trial_in_order(together):
    rows = sweep(grid(learning_rate=(0.05, 0.1), seed=(1, 0)), TESTED, together=together)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert [row["changes"] for row in rows] == [
        {"hparams.learning_rate": rate, "seed": seed} for rate in (0.05, 0.1) for seed in (1, 0)
    ]
    assert len({row["id"] for row in rows}) == 4
    for row in rows:
        rate, seed = row["changes"].values()
        epoch, means = alone(rate, seed)
        assert (row["status"], row["message"]) == ("finished", None)
        assert (row["epochs"], row["selected_epoch"]) == (2, epoch)
        # 4 kernels of 3x3 with biases, 36 -> 16 -> 3
        assert row["parameters"] == 4 * 10 + 16 * 37 + 3 * 17
        for name in TESTED:
            assert row[name] == pytest.approx(means[name], rel=1e-4)
        assert row["config"] == {
            "dataset": "", "hparams": {"learning_rate": rate, "dropout": 0.3},
            "seed": seed, "fold": None, "folds": 10, "fold_seed": 0,
        }  # fmt: skip
    json.dumps(rows)


def test_without_changes_there_is_one_trial_with_the_plans_seed(trained):
    (row,) = sweep(grid())
    assert (row["changes"], row["status"], row["test"], trained) == ({}, "finished", None, [5])


@pytest.mark.parametrize("together", [False, True])
def test_folds_test_every_example_once(together):
    """150 examples, the test split's too: 4 folds of 37 or 38, 100 of the others train."""
    rows = sweep(grid(fold=range(4)), TESTED, folds=4, together=together)
    assert sorted(row["test"]["count"] for row in rows) == [37, 37, 38, 38]
    for row in rows:
        assert row["status"] == "finished", row["message"]
        assert row["train"]["count"] == 100  # int(0.9 * (150 - 38))
        assert sum(row[name]["count"] for name in TESTED) == 150
    assert len({row["train"]["loss"] for row in rows}) == 4


def test_a_folder_goes_on_where_it_was(tmp_path, trained):
    trials = grid(seed=range(3))
    lines = []
    rows = sweep(trials, folder=tmp_path / "sweep", say=lines.append)
    assert trained == [0, 1, 2]
    assert [line.split("]")[0] for line in lines] == ["[1/3", "[2/3", "[3/3"]
    kept = tmp_path / "sweep" / "trials.jsonl"
    assert [json.loads(line) for line in kept.read_text().splitlines()] == rows
    summary = (tmp_path / "sweep" / "summary.md").read_bytes()
    assert b"3 trials: 3 finished" in summary

    whole = kept.read_text().splitlines(keepends=True)
    kept.write_text(whole[2] + whole[0] + whole[1][:40])  # out of order, one cut short
    trained.clear()
    again = sweep(trials, folder=tmp_path / "sweep")
    assert trained == [1]
    assert (again[0], again[2]) == (rows[0], rows[2])
    assert again[1] | {"seconds": 0} == rows[1] | {"seconds": 0}
    assert kept.read_text().count("\n") == 3
    assert (tmp_path / "sweep" / "summary.md").read_bytes() == summary

    trained.clear()
    assert sweep(trials, folder=tmp_path / "sweep") == again
    assert trained == []


def test_a_folder_of_something_else_is_refused(tmp_path, trained):
    folder = tmp_path / "sweep"
    sweep(grid(seed=(0, 1)), folder=folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    trained.clear()
    other = small_splits(seed=2)
    for call, words in (
        (lambda: sweep(grid(seed=(0, 2)), folder=folder), "another list of trials"),
        (lambda: sweep(grid(seed=(0, 1)), folder=folder, folds=5), "another configuration"),
        (lambda: sweep(grid(seed=(0, 1)), other, folder=folder), "a sweep on other data"),
        (lambda: sweep(grid(seed=(0, 1)), folder=folder / "sweep.json"), "is a file"),
    ):
        with pytest.raises(UserError, match=words):
            call()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"holds files but no sweep .*notes\.txt"):
        sweep(grid(seed=(0, 1)), folder=tmp_path / "mine")
    assert trained == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_one_that_fails_leaves_the_others_and_is_run_again(tmp_path, trained):
    trained.broken = {1}
    trials = grid(seed=range(3))
    rows = sweep(trials, folder=tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["finished", "failed", "finished"]
    assert rows[1]["message"] == "no such luck"
    assert rows[1]["validation"] is None
    trained.clear()
    trained.broken = frozenset()
    again = sweep(trials, folder=tmp_path / "sweep")
    assert trained == [1]
    assert [row["status"] for row in again] == ["finished"] * 3
    assert (again[0], again[2]) == (rows[0], rows[2])


@pytest.mark.parametrize("together", [False, True])
def test_one_that_diverges_says_so_and_is_not_run_again(tmp_path, together):
    trials = grid(learning_rate=(0.05, float("inf"), 0.1))
    options = {"together": together, "folder": tmp_path / "sweep"}
    rows = sweep(trials, **options)
    assert [row["status"] for row in rows] == ["finished", "diverged", "finished"]
    assert "learning_rate (now inf)" in rows[1]["message"]
    assert rows[1]["validation"] is None
    assert sweep(trials, **options) == rows


def test_out_of_memory_halves_the_trials_in_a_program(monkeypatch):
    sizes, real = [], chunks.fit_trials

    def small(task, data, rows, *arguments, **options):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return real(task, data, rows, *arguments, **options)

    monkeypatch.setattr(chunks, "fit_trials", small)
    rows = sweep(grid(seed=range(4)), together=True, at_once=4)
    assert sizes == [4, 2, 2]
    assert [row["changes"]["seed"] for row in rows] == [0, 1, 2, 3]
    assert {row["status"] for row in rows} == {"finished"}


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (grid(learning_rat=(1, 2)), "did you mean config.hparams.learning_rate"),
        (grid(folds=(3, 4)), "config.hparams.folds is not a field"),
        (grid(seed=(0, -1)), "config.seed is -1"),
        (grid(fold=(0, 10)), "fold is 10; of 10 folds"),
        # Alike to the configuration, not to the sweep.
        (grid(dropout=(0.5, "0.50")), "trials 0 and 1 of the sweep are the same"),
        (chain(grid(seed=(4, 5)), grid()), "trials 1 and 2 of the sweep are the same"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(tmp_path, trained, trials, words):
    with pytest.raises(UserError, match=words):
        sweep(trials, folder=tmp_path / "sweep")
    assert trained == []
    assert not (tmp_path / "sweep").exists()


def test_trials_in_turn_share_their_programs():
    """Counted where JAX traces: more trials trace no more, whatever their numbers."""
    traces = []

    def prepare(inputs):
        traces.append(inputs.shape)
        return small_task().prepare(inputs)

    def traces_of(trials):
        traces.clear()
        task = dataclasses.replace(small_task(), prepare=prepare)
        rows = run(task, TESTED, Hparams(), PLAN, trials, together=False, folds=3)
        assert {row["status"] for row in rows} == {"finished"}
        return len(traces)

    one = traces_of(grid(seed=(0,)))
    assert one > 0
    assert traces_of(grid({"learning_rate": (0.01, 0.05), "dropout": (0.0, 0.4)})) <= one
    assert traces_of(grid(seed=range(4))) <= one
    assert traces_of(grid(fold=(1,), seed=range(3))) <= traces_of(grid(fold=(1,), seed=(0,)))


def lenet_trials(*sweeps, **changes):
    return trials_of(lenet.Config(**changes), chain(*sweeps))


def numbers(trials):
    return [[trial.number for trial in group] for group in groups(trials)]


def test_numbers_of_hparams_seeds_and_folds_share_a_program():
    rates = {"hparams.learning_rate": (0.1, 0.2), "hparams.dropout": (0, 0.5)}
    assert numbers(lenet_trials(grid(rates, seed=(0, 7)))) == [list(range(8))]
    assert numbers(lenet_trials(grid(fold=range(3), fold_seed=(0, 1)))) == [list(range(6))]


def test_what_changes_the_program_does_not_share_it():
    for path, values in {
        "model": ("lenet1", "lenet5"), "epochs": (1, 2), "batch_size": (16, 32),
        "patience": (None, 3), "select": ("best", "last"), "precision": ("float32", "bfloat16"),
        "folds": (3, 4), "dataset": ("digits", "mnist"), "fold": (None, 0),
    }.items():  # fmt: skip
        # The groups keep the order of their first trials.
        changes = {"fold": 0} if path == "folds" else {}
        trials = lenet_trials(grid({"seed": (0, 1), path: values}), **changes)
        assert numbers(trials) == [[0, 2], [1, 3]], path


def test_hparams_that_are_no_numbers_are_part_of_the_program():
    @struct.dataclass
    class Own:
        rate: float = setting(0.1, "")
        nesterov: bool = setting(False, "")
        norm: float | None = setting(None, "")

    @dataclasses.dataclass(frozen=True)
    class Config(configuration.Config):
        width: int = setting(8, "")
        hparams: Own = setting(Own(), "")

    for path, values, programs in (
        ("hparams.rate", (0.1, 0.2), [[0, 1]]),
        ("hparams.nesterov", (False, True), [[0], [1]]),
        ("hparams.norm", (None, 1.0), [[0], [1]]),
        ("width", (8, 16), [[0], [1]]),
    ):
        assert numbers(trials_of(Config(), grid({path: values}))) == programs, path


def test_shared_is_the_same_for_any_of_its_trials():
    sweep = grid({"hparams.rejection": (0.5, 2), "fold": (2, 4)}, seed=(3,))
    trials = lenet_trials(sweep, model="lenet5")
    assert {shared(trial.config) for trial in trials} == {lenet.Config(model="lenet5", fold=0)}
    assert shared(lenet.Config()) == lenet.Config()


@dataclasses.dataclass(frozen=True)
class Everything(configuration.Config):
    """A setting of every kind."""

    name: str = setting("digits", "")
    widths: tuple[int, ...] = setting((32, 64), "")
    scale: tuple[float, float] = setting((0.5, 1.0), "")
    patience: int | None = setting(3, "")
    fold: int | None = setting(None, "")
    augment: bool = setting(True, "")
    hparams: Hparams = setting(Hparams(), "")


@pytest.mark.parametrize(
    "config",
    [
        Everything(),
        Everything(widths=(8,), scale=(1e-30, 0.1 + 0.2), patience=None, augment=False),
        Everything(widths=(), fold=0, name="tfds:it's odd", hparams=Hparams(float("inf"), 1 / 3)),
        lenet.Config(),
        lenet.Config(model="lenet1", fold=9, patience=2, hparams=lenet.Hparams(1e-5, 1 / 3)),
    ],
)
def test_the_command_of_a_row_gives_its_configuration_back(config):
    places = Places(workdir="unused", data_dir="a b", manual_dir=None)
    words = shlex.split(command_of("experiments.lenet", config, places))
    flags = [word for word in words if word.startswith("--")]
    assert flags[0] == "--experiment=lenet"
    assert flags[-1] == "--data_dir=a b"
    changes = dict(flag.removeprefix("--config.").split("=", 1) for flag in flags[1:-1])
    default = type(config)()
    assert override(default, changes) == config
    leaves = configuration.settings(default)
    given = configuration.settings(config)
    assert set(changes) == {path for path in leaves if leaves[path].value != given[path].value}


@pytest.mark.parametrize(
    ("batch_size", "named"),
    [(16, set()), (64, {"--config.batch_size=64"}), (1, {"--config.batch_size=1"})],
)
def test_the_command_of_a_row_leaves_out_what_follows_a_choice(batch_size, named):
    chosen = {"--config.model=lenet5", "--config.optimizer=levenberg_marquardt"}
    config = lenet.Config(
        model="lenet5", optimizer="levenberg_marquardt", batch_size=batch_size,
        hparams=lenet.Hparams(learning_rate=0.0005),
    )  # fmt: skip
    _, _, *flags = shlex.split(command_of("experiments.lenet", config, Places("unused")))
    assert set(flags) == {"--experiment=lenet", *chosen, *named}
    changes = dict(flag.removeprefix("--config.").split("=") for flag in chosen | set(named))
    assert override(lenet.Config(), changes) == config


def test_zipped_axes_reach_the_task(trained):
    trials = zipped(grid({"hparams.learning_rate": (0.1, 0.2)}), grid(seed=(8, 9)))
    rows = sweep(trials)
    assert trained == [8, 9]
    assert [row["config"]["hparams"]["learning_rate"] for row in rows] == [0.1, 0.2]


def test_values_of_arrays_are_plain_numbers_in_the_row():
    (row,) = sweep(grid(learning_rate=np.float32([0.5]), seed=jax.numpy.arange(1)))
    assert row["changes"] == {"hparams.learning_rate": 0.5, "seed": 0}
    assert [type(value) for value in row["changes"].values()] == [float, int]


def test_folds_and_no_fold_in_one_sweep_are_trained_together():
    """They train on unequally many examples, which one program cannot."""
    rows = sweep(chain(grid(seed=(0, 1)), grid(fold=(0, 1))), TESTED, together=True)
    assert [row["status"] for row in rows] == ["finished"] * 4, rows[0]["message"]


def test_a_process_goes_on_with_its_program(monkeypatch):
    """Two processes, three programs: the third is begun when one of the first two has no trials."""
    given = []

    class Pool:
        def __init__(self, *arguments, **options):
            pass

        def submit(self, function, job):
            given.append(job.trials[0].config.model)
            future = concurrent.futures.Future()
            future.set_result([job.trials[0].number])
            return future

        def shutdown(self, **options):
            pass

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", Pool)
    trials = lenet_trials(grid(model=("lenet1", "lenet5", "modern"), seed=range(4)))
    jobs = [Job("experiments.lenet", (trial,), Places(".")) for trial in trials]
    rows = list(engines.processes(2, lambda: None)(jobs))
    assert sorted(rows) == list(range(12))
    assert given[:8].count("lenet1") == given[:8].count("lenet5") == 4
    assert {given[0], given[1]} == {"lenet1", "lenet5"}
    assert given[8:] == ["modern"] * 4

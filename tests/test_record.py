"""Experiments as typed records: unfinished files, settings without effect, following defaults."""

import dataclasses
import importlib
import sys

import pytest

from cnnjax.command import main
from cnnjax.config import (
    Config,
    Replication,
    defaults,
    override,
    problem_of,
    require_effect,
    setting,
    settings,
)
from cnnjax.errors import UserError
from cnnjax.experiment import record
from cnnjax.experiment.record import Experiment
from cnnjax.sweeps import grid
from cnnjax.sweeps.jobs import command_of
from cnnjax.sweeps.trials import trials_of
from experiments import lenet, transfer
from tests.mistakes import refused

WHOLE = """
\"\"\"A whole experiment.\"\"\"
import dataclasses
from flax import struct
from cnnjax.config import Config as Base, setting
from cnnjax.experiment.record import Experiment

@struct.dataclass
class Hparams:
    rate: float = setting(0.1, "of learning")

@dataclasses.dataclass(frozen=True)
class Config(Base):
    hparams: Hparams = setting(Hparams(), "traced")

EXPERIMENT = Experiment("one line", Config, plan=print, task=print)
"""
UNFINISHED = {
    "syntax": ("def f(:", "syntax.py, line 1: cannot be imported (SyntaxError"),
    "missing_import": ("import nothing_of_that_name", "cannot be imported (ModuleNotFoundError"),
    "empty": ("", "has none; it must end in EXPERIMENT = Experiment("),
    "no_task": (
        WHOLE.replace(", task=print", ""), "missing 1 required positional argument: 'task'",
    ),
    "no_function": (WHOLE.replace("task=print", "task='a'"), "task is 'a'; it must be a function"),
    "no_config": (
        WHOLE.replace('line", Config', 'line", dict'), "must be a class on cnnjax.config.Config",
    ),
    "no_dataclass": (
        WHOLE.replace("@dataclasses.dataclass(frozen=True)\n", ""), "is no frozen dataclass",
    ),
    "no_setting": (
        WHOLE.replace('    hparams: H', '    size: int = 3\n    hparams: H'),
        "size is not made by cnnjax.config.setting",
    ),
    "no_hparams": (
        WHOLE.replace('Hparams(), "traced"', 'None, "traced"'), "hparams is no dataclass",
    ),
}  # fmt: skip


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes files into a new package of experiments, and imports it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(files):
        name = f"own_{tmp_path.name.replace('-', '_')}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for file, content in files.items():
            (folder / f"{file}.py").write_text(content)
        return importlib.import_module(name)

    yield write
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_file_is_said_in_one_line(name, package, capsys):
    content, message = UNFINISHED[name]
    experiments = package({name: content})
    assert main(experiments, [f"--experiment={name}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert name in said
    assert message in said


def test_it_does_not_keep_the_others_from_running(package, capsys):
    experiments = package({"broken": "1 / 0", "whole": WHOLE})
    assert main(experiments, []) == 0
    said = capsys.readouterr().out
    assert "cannot be used: broken.py: cannot be imported (ZeroDivisionError" in said
    assert "whole        one line" in said
    assert "--experiment=whole" in said
    assert main(experiments, ["--experiment=whole", "--help"]) == 0
    assert "A whole experiment." in capsys.readouterr().out


def test_every_experiment_of_ours_is_sound():
    import experiments

    for name in record.names(experiments):
        experiment = record.load(experiments, name)
        assert isinstance(experiment, Experiment)
        assert problem_of(experiment.config) is None
        for sweep, trials in experiment.sweeps.items():
            assert trials_of(experiment.config(), trials), sweep  # refuses what has no effect


# --- settings without effect ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--config.model=lenet1", "--config.hparams.dropout=0.3"],
            "config.hparams.dropout has no effect with config.model=lenet1; it has one where that "
            "is modern",
        ),
        (["--config.hparams.shift=1"], "no effect with config.distortions=False"),
        (["--config.folds=5"], "no effect with config.fold=None; it has one where that is given"),
        (["--config.hparams.damping=0.1"], "where that is levenberg_marquardt"),
        (["--config.model=lenet1", "--sweep=dropout"], "config.hparams.dropout has no effect"),
        (["--config.hparams.damping=0.1", "--sweep=seed=0:2"], "config.hparams.damping has no"),
    ],
)
def test_a_setting_without_effect_is_refused(capsys, flags, message):
    assert message in refused(capsys, "--experiment=lenet", *flags)


def test_with_the_choice_that_it_needs_it_is_taken():
    config = override(lenet.Config(), {"model": "modern", "hparams.dropout": 0.1})
    require_effect(config, ["model", "hparams.dropout"])
    config = override(transfer.Config(), {"strategy": "gradual", "hparams.pace": 0.1})
    require_effect(config, ["hparams.pace", "hparams.decay", "weights"])
    with pytest.raises(UserError, match="strategy=scratch; it has one where that is linear"):
        require_effect(override(config, {"strategy": "scratch"}), ["weights"])


def test_a_flag_may_have_its_effect_in_some_trials_of_a_sweep(capsys):
    flags = ["--config.hparams.dropout=0.3", "--sweep=model=lenet1,modern", "--dry_run"]
    import experiments

    assert main(experiments, ["--experiment=lenet", *flags]) == 0
    assert "2 trials" in capsys.readouterr().out


# --- defaults that follow a choice ---------------------------------------------------------------

LEVENBERG_MARQUARDT = {"model": "lenet5", "optimizer": "levenberg_marquardt"}


def test_a_default_follows_a_choice():
    config = override(lenet.Config(), LEVENBERG_MARQUARDT)
    assert (config.hparams.learning_rate, config.batch_size) == (0.0005, 16)
    back = override(config, {"optimizer": "adamw"})
    assert (back.hparams.learning_rate, back.batch_size) == (0.002, 64)


def test_what_was_given_does_not():
    both = {**LEVENBERG_MARQUARDT, "batch_size": 64}
    assert override(lenet.Config(), both).batch_size == 64
    other = override(lenet.Config(), {"batch_size": 32})
    assert override(other, LEVENBERG_MARQUARDT).batch_size == 32
    given = override(lenet.Config(), {"batch_size": 64})
    (trial,) = trials_of(given, grid(optimizer=("levenberg_marquardt",)), given=["batch_size"])
    assert (trial.config.batch_size, trial.config.hparams.learning_rate) == (64, 0.0005)


@pytest.mark.parametrize(
    "changes", [{}, LEVENBERG_MARQUARDT, {**LEVENBERG_MARQUARDT, "batch_size": 64}]
)
def test_a_trials_command_gives_its_configuration(changes):
    """Also where a value is the default without the choice, and not with it."""
    from cnnjax.command import options
    from cnnjax.experiment.places import Places

    config = override(lenet.Config(), changes)
    text = command_of("experiments.lenet", config, Places(workdir="unused"))
    values = options.define(lenet.Config())
    options.parse(values, text.split()[2:])
    assert override(lenet.Config(), options.changes(values)) == config
    assert defaults(config)["batch_size"] == (16 if changes else 64)


def test_a_condition_on_nothing_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Odd(Replication):
        size: int = setting(1, "of it", only={"shape": (2,)})
        hparams: lenet.Hparams = setting(lenet.Hparams(), "traced")

    assert "depends on" in problem_of(Odd)
    assert problem_of(Config) == "Config.hparams is no dataclass of numbers"
    assert "fold" in settings(Odd())

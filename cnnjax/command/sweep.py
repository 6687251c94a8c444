"""The command line's ``--sweep``: flags -> sweep -> engine."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from cnnjax import config as configuration
from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.experiment.places import Execution, Places
from cnnjax.experiment.record import Experiment
from cnnjax.runtime.cores import cores
from cnnjax.sweeps import engines, language
from cnnjax.sweeps.axes import Sweep
from cnnjax.sweeps.chunks import Together
from cnnjax.sweeps.directory import DESCRIPTION, SweepDirectory
from cnnjax.sweeps.request import Request, plan_text, run_sweep
from cnnjax.sweeps.rows import Row, counted, report
from cnnjax.sweeps.trials import Trial, label_of, trials_of

ENGINES = ("local", "ray")
WAYS = ("auto", "processes", "one_program", "in_turn")
_LIST = "list"


def define_flags(values: flags.FlagValues) -> None:
    """The flags that only sweeps have."""
    own: Any = {"flag_values": values}
    flags.DEFINE_multi_string(
        "sweep", [], "PATH=V1,V2,... or an ablation's name; several flags are their product; "
        "'list' shows the ablations and how else a sweep can be written", **own
    )  # fmt: skip
    flags.DEFINE_multi_string(
        "baseline", [], "PATH=VALUE: with which setting of the sweep the others are compared "
        "(default: the configuration without the sweep, else its first)", **own
    )  # fmt: skip
    flags.DEFINE_bool("dry_run", False, "sweep: show its trials and programs, run nothing", **own)
    flags.DEFINE_enum("engine", "local", ENGINES, "sweep: this machine, or a Ray cluster", **own)
    flags.DEFINE_enum(
        "trials_in", "auto", WAYS, "sweep: one process a core (auto on CPU), many trials in one "
        "vmapped program (auto on accelerators), or one trial after the other", **own
    )  # fmt: skip
    flags.DEFINE_integer(
        "trials_at_once", None, "sweep: processes on CPU (default: cores), trials in a program on "
        "accelerators (default: what fits into memory)", lower_bound=1, **own
    )  # fmt: skip


def is_sweep(workdir: str | None) -> bool:
    """Whether a folder holds a sweep."""
    return workdir is not None and (Path(workdir) / DESCRIPTION).exists()


def report_again(
    workdir: Path, experiment: Experiment, baseline: Mapping[str, Any] | None = None
) -> int:
    """``--mode=report``: tables and pictures from the rows; the exit status.

    Raises:
        UserError: a folder without a sweep, or with one of another experiment.
    """
    directory = SweepDirectory(workdir)
    if (stored := directory.read(DESCRIPTION)["experiment"]) != experiment.name:
        raise directory.refused(f"holds a sweep of --experiment={stored}")
    files = report(directory, baseline, experiment.report)
    print("\n".join(map(str, files)))
    return 0


def baseline_of(
    config: Any, trials: Sequence[Trial], texts: Sequence[str]
) -> Mapping[str, Any] | None:
    """The values that ``--baseline`` flags name, or None where there are none.

    Raises:
        UserError: not one value for each path, or values that no trial has.
    """
    if not texts:
        return None
    flag = " ".join(f"--baseline={text}" for text in texts)
    named = language.parse(texts, {}, flag="baseline")
    if len(named) > 1:
        raise UserError(f"{flag}: names {len(named)} settings; it must be one value for each path")
    (only,) = trials_of(config, named)
    if not any(only.changes.items() <= trial.changes.items() for trial in trials):
        raise UserError(
            f"{flag}: no trial of the sweep has it; its first is {label_of(trials[0].changes)}"
        )
    return only.changes


def run(
    values: flags.FlagValues,
    experiment: Experiment,
    config: Config,
    given: Mapping[str, Any],
    places: Places,
    argv: Sequence[str],
    prepare: Callable[[Places], None],
) -> int:
    """Do what the flags of a sweep say; the exit status.

    Args:
        values: the flags.
        experiment: what is trained.
        config: the configuration that trials start from.
        given: what the flags change of it.
        places: where; its workdir counts only if the flag was given.
        argv: recorded in sweep.json.
        prepare: sets up a process, as ``prepare(places)``.
    """
    if _LIST in values.sweep:
        print(_listing(experiment.name, experiment.sweeps))
        return 0
    trials = trials_of(config, language.parse(values.sweep, experiment.sweeps), given)
    _require_some_effect(trials, given)
    baseline = baseline_of(config, trials, values.baseline)
    if values.dry_run:
        print(plan_text(trials))
        return 0
    request = Request(experiment, config, trials, baseline, values.sweep, argv)
    if not values.workdir:
        places = dataclasses.replace(places, workdir=request.default_path())
    if values.mode == "report":
        return report_again(places.workdir, experiment, baseline)
    prepare(places)
    options = _engine(values, len(trials), functools.partial(prepare, places))
    say = functools.partial(print, flush=True)
    try:
        execution = Execution(values.parallel)
        rows = run_sweep(request, places, execution=execution, **options, say=say)
    except KeyboardInterrupt:
        print(
            f"interrupted; the finished trials are in {places.workdir}, and the same command goes "
            f"on from there",
            file=sys.stderr,
        )
        return 130
    print(f"\n{(places.workdir / 'summary.md').read_text(encoding='utf-8')}\nin {places.workdir}")
    return _status(rows)


def _engine(values: flags.FlagValues, trials: int, prepare: Callable[[], None]) -> dict[str, Any]:
    """The arguments of ``run_sweep`` that say who trains, and how many trials at once."""
    way, at_once = values.trials_in, values.trials_at_once
    together = Together({"auto": None, "one_program": True}.get(way, False), at_once)
    if values.engine == "ray":
        jax.config.update("jax_platforms", "cpu")  # accelerators are the workers'
        engine = engines.on_ray(prepare)
        return {"engine": engine, "job_size": at_once or 1, "together": together}
    if way == "auto" and jax.default_backend() == "cpu":
        way = "processes"
    if way == "processes":
        workers = min(at_once or cores(), trials)
        engine = engines.processes(workers, prepare) if workers > 1 else engines.here
        return {"engine": engine, "job_size": 1, "together": Together(False)}
    return {"engine": engines.here, "together": together}


def _require_some_effect(trials: Sequence[Trial], paths: Iterable[str]) -> None:
    """Check that every setting that was given has an effect in some trial.

    Raises:
        UserError: one has none.
    """
    for path in paths:
        problems = []
        for trial in trials:
            try:
                configuration.require_effect(trial.config, [path])
                break
            except UserError as error:
                problems.append(error)
        else:
            raise problems[0]


def _status(rows: Sequence[Row]) -> int:
    failed = [row for row in rows if row["status"] == "failed"]
    for row in failed[:3]:
        print(f"failed: {label_of(row['changes'])}: {row['message']}", file=sys.stderr)
    if failed:
        print(
            f"error: {counted(len(failed), 'trial')} of {len(rows)} failed; the same command runs "
            f"them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _listing(name: str, ablations: Mapping[str, Sweep]) -> str:
    """The ablations of an experiment: what each varies, and how many trials it has."""
    lines = [f"ablations of {name} (--sweep=NAME):"] if ablations else [f"{name} names no ablation"]
    for ablation, sweep in ablations.items():
        values: dict[str, list[Any]] = {}
        for changes in sweep:
            for path, value in changes.items():
                if value not in values.setdefault(path, []):
                    values[path].append(value)
        varied = "; ".join(label_of({path: tuple(found)}) for path, found in values.items())
        lines.append(f"  {ablation:16} {counted(len(sweep), 'trial'):>10}: {varied}")
    grammar = (language.__doc__ or "").split("\n\n")[1]
    return "\n".join([*lines, "", "or any of:", grammar])

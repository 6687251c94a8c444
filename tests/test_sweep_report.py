"""The report of a sweep: its numbers against hand computation, its tables and pictures."""

import csv
import math
import random

import pytest
from scipy import stats

from cnnjax import config
from cnnjax.reports.statistics import SweepResults, compare, summary_of
from cnnjax.reports.sweep_figures import axis_figure
from cnnjax.reports.sweep_report import write_sweep_report
from cnnjax.reports.sweep_tables import csv_table, escape, markdown_table

BASE = {
    "model": "lenet5",
    "widths": [6, 16],
    "augment": False,
    "seed": 0,
    "fold": None,
    "hparams": {"learning_rate": 0.01, "max_norm": None},
}
LEARNING_RATE = "hparams.learning_rate"


def nested(changes):
    """The base configuration with typed changes."""
    flat = config.flatten(BASE) | changes
    hparams = {path.removeprefix("hparams."): v for path, v in flat.items() if "hparams" in path}
    return {path: v for path, v in flat.items() if "." not in path} | {"hparams": hparams}


def sweep_of(errors, lost=(), baseline=None, written=lambda value: value):
    """Rows and sweep.json of trials ``[(changes, test error in %)]``.

    An error of None is a trial without a row; ``lost`` has (trial, status, message).
    """
    trials = [{path: written(value) for path, value in c.items()} for c, _ in errors]
    rows = []
    for trial, (changes, error) in enumerate(errors):
        if error is None:
            continue
        means = {"accuracy": 1 - error / 100, "loss": error / 10, "count": 1000}
        row = {"trial": trial, "changes": trials[trial], "config": nested(changes)}
        row |= {"status": "finished", "message": None, "test": means, "validation": means}
        rows.append(row)
    for trial, status, message in lost:
        row = next(row for row in rows if row["trial"] == trial)
        row |= {"status": status, "message": message, "test": None, "validation": None}
    sweep = {"experiment": "lenet", "trials": trials, "config": BASE, "baseline": baseline}
    return rows, sweep


def seeds(changes, errors):
    return [(changes | {"seed": seed}, error) for seed, error in enumerate(errors)]


def line_of(markdown, *cells):
    (line,) = [s for s in markdown.splitlines() if s.startswith(f"| {' | '.join(cells)} |")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_summary_by_hand():
    summary = summary_of([1.0, 2.0, 3.0, 6.0])
    assert summary.mean == 3.0
    assert summary.sd == pytest.approx(math.sqrt(14 / 3))  # (4 + 1 + 0 + 9) / 3
    assert (summary.minimum, summary.maximum, summary.count) == (1.0, 6.0, 4)
    half = 3.182446305284263 * math.sqrt(14 / 3) / 2  # t of 3 degrees of freedom, 97.5 %
    assert summary.low == pytest.approx(3 - half)
    assert summary.high == pytest.approx(3 + half)


def test_summary_of_few_values():
    assert summary_of([]).mean is None
    one = summary_of([2.5])
    assert (one.mean, one.sd, one.low, one.high) == (2.5, None, None, None)
    same = summary_of([0.1, 0.1, 0.1])
    assert (same.sd, same.high - same.low) == (0.0, 0.0)


def test_paired_t_test_pairs_by_key():
    ours = {0: 3.0, 1: 4.0, 2: 7.0, 9: 100.0}
    theirs = {2: 4.0, 1: 2.0, 0: 2.0, 8: -5.0}
    found = compare(ours, theirs)
    # Differences 1, 2, 3: mean 2, sd 1, t = 2 sqrt(3), and p = 1 - t / sqrt(2 + t^2) for 2 degrees.
    assert (found.pairs, found.difference) == (3, 2.0)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.p == pytest.approx(stats.ttest_rel([3, 4, 7], [2, 2, 4]).pvalue)


@pytest.mark.filterwarnings("error")
def test_paired_t_test_without_variance():
    base = {seed: 2.0 + 0.1 * seed for seed in range(5)}
    assert compare(base, base).p == 1.0
    assert compare({k: v + 0.7 for k, v in base.items()}, base).p == 0.0  # equal up to rounding
    assert compare({0: 1.0}, {0: 3.0}).p is None
    assert compare({0: 1.0}, {1: 1.0}) is None


def test_markdown():
    rows, sweep = sweep_of(
        seeds({"model": "lenet5"}, [2.0, 3.0, 4.0]) + seeds({"model": "lenet1"}, [1.0, 1.0, 1.0])
        + seeds({"model": "modern"}, [5.0, 5.0]) + [({"model": "modern", "seed": 7}, 5.0)],
        lost=[(6, "diverged", "loss is nan|inf at step 3"), (7, "failed", "no memory")],
    )  # fmt: skip
    text = markdown_table(SweepResults(rows, sweep))
    assert text.startswith("# Sweep of lenet over model (3 values), seed (4 values)\n")
    assert line_of(text, "lenet5")[1:] == [
        "3.00 ± 1.00", "0.52 – 5.48", "2.00 – 4.00", "3", "baseline",
    ]  # fmt: skip
    p = stats.ttest_rel([1, 1, 1], [2, 3, 4]).pvalue
    best = line_of(text, "lenet1")
    assert best[1:3] == ["**1.00 ± 0.00**", "1.00 – 1.00"]
    assert best[-1] == f"-2.00 (p = {p:.3f})"
    assert text.count("**") == 2
    assert line_of(text, "modern")[1:] == ["5.00", "–", "5.00 – 5.00", "1", "n/a"]
    assert "- 9 trials: 7 finished, 1 diverged, 1 failed, 0 missing." in text
    assert "- Trial 6 (model = modern, seed = 0) diverged: loss is nan\\|inf at step 3" in text
    assert "- Trial 7 (model = modern, seed = 1) failed: no memory" in text
    assert "two-sided paired t-test" in text
    assert "(pairs: 3); not corrected for the number of settings (2 compared)" in text
    assert "independent" not in text


def test_folds_are_called_dependent():
    rows, sweep = sweep_of([({"fold": fold}, 2.0 + fold) for fold in range(3)])
    text = markdown_table(SweepResults(rows, sweep))
    assert "Folds of one data set" in text
    assert line_of(text, "3.00 ± 1.00")[-1] == "baseline"
    assert "**" not in text  # one setting is no choice


def test_many_lost_trials_are_cut_short():
    rows, sweep = sweep_of(
        seeds({"model": "lenet1"}, [1.0] * 14), lost=[(i, "diverged", "nan") for i in range(13)]
    )
    text = markdown_table(SweepResults(rows, sweep))
    assert text.count("diverged: nan") == 10
    assert "- and 3 more diverged or failed." in text


def names_of_baseline(results):
    return [dict(s.values) for s in results.settings if results.is_baseline(s)]


def test_baseline_is_the_base_configuration_or_else_the_first_setting():
    errors = [({LEARNING_RATE: rate}, 1.0) for rate in (0.1, 0.01, 0.001)]
    for written in (str, float):
        results = SweepResults(*sweep_of(errors, written=written))
        assert names_of_baseline(results) == [{LEARNING_RATE: 0.01}]
    results = SweepResults(*sweep_of([errors[2], errors[0]]))
    assert names_of_baseline(results) == [{LEARNING_RATE: 0.001}]
    results = SweepResults(*sweep_of(errors, baseline={LEARNING_RATE: "0.1"}))
    assert names_of_baseline(results) == [{LEARNING_RATE: 0.1}]


def test_baseline_of_some_axes_agrees_on_the_others():
    rows, sweep = sweep_of(
        [({"model": model, LEARNING_RATE: rate}, 100 * rate + (model == "lenet1"))
         for model in ("lenet1", "lenet5") for rate in (0.01, 0.1)],
        baseline={"model": "lenet5"},
    )  # fmt: skip
    results = SweepResults(rows, sweep)
    text = markdown_table(results)
    assert [results.is_baseline(s) for s in results.settings] == [False, False, True, True]
    assert line_of(text, "lenet1", "0.1")[-1] == "+1.00 (1 pair)"


def test_baseline_that_is_not_there():
    rows, sweep = sweep_of([({"model": "lenet1"}, 1.0), ({"model": "lenet5"}, 2.0)],
                           baseline={"model": "modern"})  # fmt: skip
    text = markdown_table(SweepResults(rows, sweep))
    assert text.count("n/a") == 2
    assert "no setting has the baseline's model = modern" in text


def test_csv_reads_back():
    errors = seeds({LEARNING_RATE: 0.1}, [2.0, 3.0, 7.0, None]) + seeds({LEARNING_RATE: 1.0}, [9.0])
    rows, sweep = sweep_of(errors, lost=[(2, "diverged", None)], written=str)
    first, second = csv.DictReader(csv_table(SweepResults(rows, sweep)).splitlines())
    assert float(first[LEARNING_RATE]) == 0.1
    assert float(first["test_accuracy_mean"]) == pytest.approx(0.975)
    assert float(first["test_loss_sd"]) == pytest.approx(0.1 * math.sqrt(0.5))
    assert float(first["validation_accuracy_ci95_low"]) == pytest.approx(
        0.975 - 12.706204736 * 0.005
    )
    counts = [first[name] for name in ("n", "diverged", "failed", "missing")]
    assert counts == ["2", "1", "0", "1"]
    assert (second["test_accuracy_min"], second["test_accuracy_sd"]) == ("0.91", "")


def test_missing_trials_join_their_setting_whatever_is_written():
    errors = seeds({LEARNING_RATE: 0.001, "widths": [8, 16]}, [1.0, None])
    errors += seeds({LEARNING_RATE: 1e-05, "augment": True}, [None, None])
    (one, two) = SweepResults(*sweep_of(errors, written=str)).settings
    assert one.values == {LEARNING_RATE: 0.001, "widths": (8, 16), "augment": False}
    assert two.values == {LEARNING_RATE: 1e-05, "widths": (6, 16), "augment": True}
    assert (one.count("finished"), one.count("missing"), two.count("missing")) == (1, 1, 2)


def test_a_repeated_configuration_counts_once():
    rows, sweep = sweep_of([({"model": "lenet5"}, 1.0), ({"seed": 0}, 1.0), ({"seed": 1}, 3.0)])
    results = SweepResults(rows, sweep)
    assert (len(results.settings), results.settings[0].error.count) == (1, 2)
    assert "1 more repeat" in markdown_table(results)


def test_markdown_is_escaped():
    assert escape("a|b\n*c* <d>") == "a\\|b \\*c\\* \\<d>"
    rows, sweep = sweep_of([({"model": "x|y"}, 1.0), ({"model": "z"}, 2.0)])
    assert "| x\\|y |" in markdown_table(SweepResults(rows, sweep))


def test_order_of_rows_does_not_matter():
    draw = random.Random(0)
    errors = [({LEARNING_RATE: rate, "seed": seed}, draw.uniform(1, 5))
              for seed in range(7) for rate in (0.1, 0.01, 0.001)]  # fmt: skip
    rows, sweep = sweep_of(errors, lost=[(4, "diverged", "nan")])
    shuffled = draw.sample(rows, len(rows))
    for table in (csv_table, markdown_table):
        assert table(SweepResults(rows, sweep)) == table(SweepResults(shuffled, sweep))


GRIDS = {
    "numeric": [
        ({LEARNING_RATE: rate, "model": model, "seed": seed}, 1 + 10 * rate + seed / 9)
        for rate in (0.001, 0.01, 0.1) for model in ("lenet1", "lenet5") for seed in range(3)
    ],
    "categories": [
        ({"hparams.max_norm": bound, "widths": widths, "augment": augment}, 2.0 + augment)
        for bound in (None, 0.0, 3.0) for widths in ([6, 16], [8]) for augment in (True, False)
    ],
    "zero": [({LEARNING_RATE: rate}, 0.0) for rate in (0.0, 1e-4, 1.0)],
    "seeds": seeds({}, [1.0 + i % 7 for i in range(300)]),
    "one": seeds({}, [1.0]),
    "nothing changed": [({}, 2.0)],
    "random": [({LEARNING_RATE: 10 ** -(1 + i / 9), "hparams.max_norm": i / 7}, 1.0 + i)
               for i in range(40)],
}  # fmt: skip
PICTURES = {
    "numeric": ["axis_hparams_learning_rate.png", "axis_model.png"],
    "categories": ["axis_hparams_max_norm.png", "axis_widths.png", "axis_augment.png"],
    "zero": ["axis_hparams_learning_rate.png"],
    "random": ["axis_hparams_learning_rate.png", "axis_hparams_max_norm.png"],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("state", ["finished", "some diverged", "all diverged", "missing"])
@pytest.mark.parametrize("name", GRIDS)
def test_files(tmp_path, name, state):
    errors = GRIDS[name]
    lost = {"some diverged": range(0, len(errors), 3), "all diverged": range(len(errors))}
    rows, sweep = sweep_of(errors, [(i, "diverged", "nan") for i in lost.get(state, [])])
    if state == "missing":
        rows = []
    written = write_sweep_report(tmp_path / "report", rows, sweep)
    pictures = PICTURES.get(name, ["trials.png"])
    assert [path.name for path in written] == ["summary.csv", "summary.md", *pictures]
    for path in written[2:]:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000
    assert sorted(written) == sorted((tmp_path / "report").iterdir())


def test_axes_of_pictures():
    results = SweepResults(*sweep_of(GRIDS["numeric"], lost=[(0, "diverged", "nan")]))
    figure = axis_figure(results, LEARNING_RATE)
    assert figure.axes[0].get_xscale() == "log"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["lenet1", "lenet5", "diverged (1)"]
    ticks = axis_figure(results, "model").axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["lenet1", "lenet5"]
    figure = axis_figure(SweepResults(*sweep_of(GRIDS["zero"])), LEARNING_RATE)
    assert figure.axes[0].get_xscale() == "symlog"  # which has a place for zero


def test_many_combinations_are_averaged():
    errors = [({LEARNING_RATE: rate, "hparams.max_norm": bound}, 100 * rate + bound / 11)
              for rate in (0.01, 0.02) for bound in range(12)]  # fmt: skip
    figure = axis_figure(SweepResults(*sweep_of(errors)), LEARNING_RATE)
    ax = figure.axes[0]
    assert "averaged over 12 combinations of hparams.max_norm" in ax.get_title().replace("\n", " ")
    (means,) = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert means.get_ydata() == pytest.approx([1.5, 2.5])
    assert not figure.legends

"""The command line: what a newcomer sees, every mistake in one line, and one real run."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import experiments
from cnnjax import data
from cnnjax.command import main
from cnnjax.config import settings
from experiments.lenet import Config
from tests.mistakes import refused

pytestmark = pytest.mark.usefixtures("elsewhere")

ROOT = Path(__file__).parent.parent
RUN = ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A real run of two epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    assert main(experiments, [*RUN, f"--workdir={workdir}"]) == 0
    return workdir


def test_without_flags_there_is_an_overview(capsys):
    assert main(experiments, []) == 0
    printed = capsys.readouterr().out
    assert "lenet " in printed
    assert "launch.py --experiment=lenet" in printed


def test_help_explains_every_field(capsys):
    assert main(experiments, ["--experiment=lenet", "--help"]) == 0
    printed = capsys.readouterr().out
    for path, setting in settings(Config()).items():
        assert f"--config.{path} " in printed
        assert setting.metadata["help"].split()[0] in printed
    assert "Known deviations" in printed


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--experiment=lent"], ["--experiment=lent: there is none; valid: lenet"]),
        (["--epochs=3"], ["no flag --epochs", "--experiment"]),
        (["--config.epochs=3"], ["--experiment is missing"]),
        (["--experiment=lenet", "--wrkdir=x"], ["no flag --wrkdir", "--workdir"]),
        (["--experiment=lenet", "train"], ["'train' is no flag"]),
        (["--experiment=lenet", "--mode=test"], ["train|evaluate|predict"]),
        (["--experiment=lenet", "--parallel=ddp"], ["--parallel=ddp", "shard_map"]),
        (["--experiment=lenet", "--checkpoint_seconds=-1"], ["checkpoint_seconds"]),
        (["--experiment=lenet", "--config.epoch=3"], ["did you mean config.epochs?"]),
        (["--experiment=lenet", "--config.hparams=3"], ["is not a field", "hparams.dropout"]),
        (["--experiment=lenet", "--config.epochs=three"], ["'three'", "an integer of at least 1"]),
        (["--experiment=lenet", "--config.batch_size=0"], ["'0'", "an integer of at least 1"]),
        (["--experiment=lenet", "--config.seed=4294967296"], ["below 4294967296"]),
        (["--experiment=lenet", "--config.hparams.dropout=1"], ["'1'", "below 1"]),
        (["--experiment=lenet", "--config.optimizer=adamw", "--config.hparams.damping=1"],
         ["config.hparams.damping has no effect with config.optimizer=adamw"]),
        (["--experiment=lenet", "--config.model=lenet9"], ["one of linear,", "lenet5, modern"]),
        (["--experiment=lenet", "--config.dataset=digit"], ["'digit'", "valid: digits, mnist"]),
        (["--experiment=lenet", "--config.dataset=mnist", "--manual_dir=none"], ["--manual_dir"]),
        (["--experiment=lenet", "--config.dataset=mnist", "--manual_dir=."], ["train-images"]),
        (["--experiment=lenet", "--data_dir=~nosuchuser/x"], ["--data_dir", "no such home folder"]),
        (["--experiment=lenet", "--mode=predict"], ["--inputs"]),
        (["--experiment=lenet", "--mode=predict", "--inputs=a.png"], ["no finished run"]),
        (["--experiment=lenet", "--mode=evaluate", "--workdir=none"], ["config.json"]),
        (["--experiment=lenet", "--workdir=/proc/none"], ["cannot be written"]),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_leaves_nothing(capsys, elsewhere, argv, words):
    message = refused(capsys, *argv)
    assert [word for word in words if word not in message] == []
    assert list(elsewhere.iterdir()) == []


def test_a_workdir_that_is_a_file_or_holds_other_files(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is a file" in refused(capsys, *RUN, f"--workdir={tmp_path / 'notes.txt'}")
    assert "there is here" in refused(capsys, *RUN, f"--workdir={tmp_path}")
    assert not (tmp_path / "config.json").exists()


def test_a_workdir_of_another_run_is_refused_field_by_field(capsys, finished):
    message = refused(capsys, *RUN, f"--workdir={finished}", "--config.seed=3")
    assert "config.seed is 3 now and 0 there" in message
    assert "epochs" not in message
    message = refused(
        capsys, "--experiment=lenet", f"--workdir={finished}", "--mode=evaluate", "--config.seed=3"
    )
    assert "config.seed is 3 now and 0 there" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("{}", "'experiment' is missing"),
        ('{"experiment": "lenet", "config": []}', "'config' is missing or of another type"),
        ("[]", "is damaged"),
    ],
)
def test_a_damaged_config_is_refused(capsys, tmp_path, content, words):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text(content)
    assert words in refused(capsys, *RUN, f"--workdir={workdir}")
    assert words in refused(capsys, *RUN, "--mode=evaluate", f"--workdir={workdir}")


def test_a_foreign_config_is_refused(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"experiment": "other", "config": {}}')
    workdir = f"--workdir={tmp_path / 'run'}"
    assert "a run of the experiment other, not of lenet;" in refused(capsys, *RUN, workdir)
    assert "a run of --experiment=other\n" in refused(capsys, *RUN, "--mode=evaluate", workdir)


def test_damaged_checkpoints_only_are_refused(capsys, finished, tmp_path):
    workdir = tmp_path / "run"
    (workdir / "checkpoints" / "40").mkdir(parents=True)
    (workdir / "config.json").write_bytes((finished / "config.json").read_bytes())
    (workdir / "checkpoints" / "40" / "tree").write_text("")
    (workdir / "checkpoints" / "40.sha256").write_text("0  40/tree\n")
    shutil.copy(finished / "metrics.jsonl", workdir)
    events = Path(shutil.copy(next(finished.glob("events.out.*")), workdir))
    assert main(experiments, [*RUN, f"--workdir={workdir}"]) == 2
    assert "no checkpoint is undamaged" in capsys.readouterr().err
    assert (workdir / "metrics.jsonl").read_text().count("\n") == 2, "its rows are still there"
    assert events.exists()


def unfinished(finished, tmp_path, **changes):
    """A folder with the finished run's config.json, changed, and nothing else."""
    (tmp_path / "run").mkdir()
    stored = json.loads((finished / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored | changes))
    return tmp_path / "run"


def test_a_run_is_not_continued_on_other_data(capsys, finished, tmp_path):
    workdir = unfinished(finished, tmp_path, data={"sha256": "0123456789abcdef"})
    assert main(experiments, [*RUN, f"--workdir={workdir}"]) == 2
    assert "holds a run on other data (SHA-256" in capsys.readouterr().err


def test_other_versions_are_warned_of(capsys, finished, tmp_path):
    workdir = unfinished(finished, tmp_path, versions={"jax": "0.0.1"}, devices="8 tpu devices")
    assert main(experiments, [*RUN, f"--workdir={workdir}"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("warning: ")]
    assert f"versions.jax is {jax.__version__} now and was 0.0.1" in line
    assert "was 8 tpu devices" in line


def test_the_folder_is_free_again_after_an_error_in_the_same_process(tmp_path, monkeypatch, capsys):
    argv = [*RUN, f"--workdir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        patch.setattr("cnnjax.experiment.trial.fit", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(experiments, argv)
    assert main(experiments, argv) == 0


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), 2, "error: x/y: No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_full_disk_and_ctrl_c_need_no_traceback(capsys, monkeypatch, error, status, message):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("cnnjax.experiment.trial.fit", fail)
    assert main(experiments, RUN) == status
    assert capsys.readouterr().err.startswith(message)


def test_a_damaged_result_is_refused(capsys, finished, tmp_path):
    workdir = unfinished(finished, tmp_path)
    result = json.loads((finished / "result.json").read_text())
    shutil.copy(finished / "model.safetensors", workdir)
    evaluate = ["--experiment=lenet", "--mode=evaluate", f"--workdir={workdir}"]
    (workdir / "result.json").write_text(json.dumps(result | {"data": {}}))
    assert "is damaged in 'data'" in refused(capsys, *evaluate)
    (workdir / "result.json").write_text(json.dumps(result | {"model_sha256": 3}))
    assert "'model_sha256' is missing or of another type" in refused(capsys, *evaluate)


def test_a_run_has_its_files(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["test"]["count"] == 359 and result["test"]["accuracy"] > 0.5
    assert set(result["test"]) == set(result["validation"]) == {"accuracy", "loss", "count"}
    assert result["train"]["count"] == 1258
    assert (result["status"], result["message"]) == ("finished", None)
    assert (result["parameters"], result["epochs"]) == (3246, 2)
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["model"] == "lenet1"
    assert config["argv"][:3] == RUN
    assert load_file(finished / "model.safetensors")["C1/kernel"].shape == (5, 5, 1, 4)
    assert list(finished.glob("events.out.*"))
    for name in ("learning_curves", "confusion_matrix", "kernels"):
        with Image.open(finished / "report" / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors()) > 10


def test_a_finished_run_is_shown_not_repeated(capsys, finished):
    before = (finished / "result.json").read_bytes()
    assert main(experiments, [*RUN, f"--workdir={finished}"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert (finished / "result.json").read_bytes() == before


def test_evaluate_measures_the_same(capsys, finished):
    argv = ["--experiment=lenet", "--mode=evaluate", f"--workdir={finished}"]
    assert main(experiments, argv) == 0
    result = json.loads((finished / "result.json").read_text())
    assert f"test       accuracy {result['test']['accuracy']:.4f}" in capsys.readouterr().out


def test_predict_labels_arrays_and_images(capsys, finished, tmp_path):
    test = data.load("digits").splits["test"]
    np.save(tmp_path / "five.npy", test["inputs"][:5])
    picture = Image.fromarray(test["inputs"][0, ..., 0]).resize((80, 80), Image.Resampling.BOX)
    picture.save(tmp_path / "one.png")
    inputs = f"{tmp_path / 'five.npy'},{tmp_path / 'one.png'}"
    argv = ["--experiment=lenet", "--mode=predict", f"--workdir={finished}", f"--inputs={inputs}"]
    assert main(experiments, argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    predicted = np.load(finished / "predictions.npz")["logits"].argmax(-1)
    assert [line.split(": ")[1].split()[0] for line in lines[:5]] == list(map(str, predicted[:5]))
    assert lines[5].split(": ")[1] == lines[0].split(": ")[1], "the enlarged picture of the first"


def test_a_damaged_model_is_refused(capsys, finished):
    path = finished / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    argv = ["--experiment=lenet", "--mode=evaluate", f"--workdir={finished}"]
    try:
        assert "missing or damaged" in refused(capsys, *argv)
    finally:
        path.write_bytes(content)


def test_the_script_itself_exits_with_the_status():
    child = subprocess.run(
        [sys.executable, ROOT / "launch.py", "--experiment=nope"], capture_output=True, text=True
    )
    assert child.returncode == 2
    assert child.stderr.startswith("error: --experiment=nope: there is none; valid: lenet, ")
    assert child.stderr.count("\n") == 1

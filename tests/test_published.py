"""Known names of weights: downloaded once, with a checksum; and what is said without a network."""

import hashlib
import re

import numpy as np
import pytest

from cnnjax.pretrained import published, weights
from cnnjax.training import Devices, Interrupted, Plan, fit
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.progress import init_progress
from tests import torch_format
from tests.data_files import refused
from tests.test_loop import Recorder
from tests.training_task import Hparams, small_splits, small_task

pytestmark = pytest.mark.usefixtures("kept_programs")

ARRAYS = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
CONTENT = torch_format.zip_bytes({"fc.weight": torch_format.plain(ARRAYS["fc.weight"], "0")})
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Where the file of the name "resnet18" is published."""
    folder = tmp_path / "site"
    folder.mkdir()
    file = folder / f"resnet18-{DIGITS}.pth"
    file.write_bytes(CONTENT)
    monkeypatch.setitem(published.ADDRESSES, "resnet18", file.as_uri())
    return file


def test_it_is_downloaded_once(site, tmp_path, capsys):
    for _ in range(2):
        read = weights.read("resnet18", tmp_path / "data")
        assert np.array_equal(read["fc.weight"], ARRAYS["fc.weight"])
        site.unlink(missing_ok=True)
    assert [p.name for p in (tmp_path / "data" / "weights").iterdir()] == [site.name]
    assert capsys.readouterr().err.count("downloading") == 1


def test_a_file_put_there_by_hand_is_taken(tmp_path, monkeypatch):
    address = f"https://download.pytorch.org/models/resnet18-{DIGITS}.pth"
    monkeypatch.setitem(published.ADDRESSES, "resnet18", address)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / f"resnet18-{DIGITS}.pth").write_bytes(CONTENT)
    assert "fc.weight" in weights.read("resnet18", tmp_path)


def test_other_content_is_refused_and_not_kept(site, tmp_path):
    site.write_bytes(CONTENT[:-1])
    message = refused(lambda: weights.read("resnet18", tmp_path), site, DIGITS, "put resnet18-")
    assert hashlib.sha256(CONTENT[:-1]).hexdigest()[:8] in message
    assert not any((tmp_path / "weights").iterdir())


def test_a_damaged_file_in_the_folder_is_named(site, tmp_path):
    kept = tmp_path / "weights" / site.name
    kept.parent.mkdir()
    kept.write_bytes(CONTENT + b"x")
    refused(lambda: weights.read("resnet18", tmp_path), kept, "damaged or another file", DIGITS)
    assert kept.exists()


@pytest.mark.parametrize("name", published.ADDRESSES)
def test_without_a_network_the_message_says_what_to_do(name, tmp_path):
    file = published.ADDRESSES[name].rpartition("/")[2]
    refused(
        lambda: weights.read(name, tmp_path), f"{name}: cannot be downloaded", f"put {file} (from",
        published.ADDRESSES[name], f"into {tmp_path / 'weights'}",
    )  # fmt: skip
    assert not any((tmp_path / "weights").iterdir())


def test_the_default_is_the_data_directory(site, data_dir):
    assert "fc.weight" in weights.read("resnet18")


def test_the_name_has_the_checksum(real_data):
    name = published.ADDRESSES["resnet20"].rpartition("/")[2]
    content = (real_data / "weights" / "resnet_cifar10" / name).read_bytes()
    digits = re.search(r"-(\w{8})\.", name)[1]
    assert hashlib.sha256(content).hexdigest().startswith(digits)


def fit_some(folder, observer, batch_size=16):
    """The training in ``folder``, or the step at which the observer stopped it."""
    plan = Plan(epochs=2, batch_size=batch_size, seed=3)
    saved = Checkpoints(folder, every_seconds=0)
    try:
        return fit(
            small_task(), small_splits(), Hparams(), plan, devices=Devices("single"),
            checkpoints=saved, observer=observer,
        )  # fmt: skip
    except Interrupted as stop:
        return stop.step


def test_checkpoints_are_read_wherever_they_are_named(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    fitted = fit_some(folder, Recorder())
    for place in (folder.parent, folder, folder / "12"):
        read = weights.read(place)
        assert set(read) == {
            f"{layer}_{i}/{kind}" for layer, i in (("Conv", 0), ("Dense", 0), ("Dense", 1))
            for kind in ("kernel", "bias")
        }  # fmt: skip
        for name, array in read.items():
            layer, kind = name.split("/")
            assert np.array_equal(array, fitted.params[layer][kind])


def test_before_the_first_epoch_has_ended_the_latest_are_read(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    assert fit_some(folder, Recorder(1), batch_size=2) == 16  # of 45
    splits = small_splits()
    start = init_progress(small_task(), splits["train"]["inputs"][:1], Hparams(), np.uint32(3))
    progress, _ = Checkpoints(folder).restore(start)
    for name, array in weights.read(folder.parent).items():
        layer, kind = name.split("/")
        assert np.array_equal(array, progress.state.params[layer][kind])
        if kind == "kernel":
            assert not np.array_equal(array, progress.best.variables["params"][layer][kind])


def test_a_damaged_checkpoint_is_refused(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    fit_some(folder, Recorder())
    file = max((folder / "12").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    refused(lambda: weights.read(folder), folder / "12", "damaged", "checksums")
    (folder / "12.sha256").unlink()
    refused(lambda: weights.read(folder), folder / "12", "not finished")

"""Checkpoints: every flipped byte is noticed, and the newest good one is used."""

import random
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.errors import UserError
from cnnjax.training.checkpoints import Checkpoints


def tree_at(step: int):
    """A tree of every kind of leaf that a run has, its values a function of ``step``."""
    params = {"C1": {"kernel": jnp.full((3, 3, 1, 4), step, jnp.float32)}}
    return {
        "params": params,
        "opt_state": optax.adam(0.1).init(params),
        "half": jnp.full((5,), step, jnp.bfloat16),
        "step": jnp.asarray(step, jnp.int32),
        "seed": jnp.asarray(2**32 - 1, jnp.uint32),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with the steps 10 and 20."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(directory)
    for step in (10, 20):
        checkpoints.save(step, tree_at(step), {"seconds": step / 10, "at": {"epoch": 1}})
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoints")


def restored_step(directory, warnings=None):
    warn = (warnings if warnings is not None else []).append
    tree, _ = Checkpoints(directory, warn=warn).restore(tree_at(0))
    return int(tree["step"])


def test_round_trip_keeps_values_types_and_structure(saved):
    tree, meta = Checkpoints(saved).restore(tree_at(0))
    expected = tree_at(20)
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for found, wanted in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    assert meta == {"seconds": 2.0, "at": {"epoch": 1}}


def test_nothing_saved_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none").restore(tree_at(0)) is None
    assert not (tmp_path / "none").exists(), "looking must not create anything"


def test_only_the_latest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, tree_at(step), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "2.sha256", "3", "3.sha256"]


def test_one_flipped_byte_is_noticed_wherever_it_is(copy):
    """50 random places in the files of the newest step, its checksums among them."""
    draw = random.Random(0)
    step = copy / "20"
    files = [path for path in step.rglob("*") if path.is_file() and path.stat().st_size]
    files.append(copy / "20.sha256")
    sizes = [path.stat().st_size for path in files]
    assert Checkpoints(copy).latest() == 20
    for _ in range(50):
        (path,) = draw.choices(files, sizes)
        undamaged = path.read_bytes()
        place = draw.randrange(len(undamaged))
        damaged = bytearray(undamaged)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert Checkpoints(copy).latest() == 10, f"{path} byte {place}"
        path.write_bytes(undamaged)
    assert Checkpoints(copy).latest() == 20


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove a file", "add a file"])
def test_a_damaged_step_is_reported_and_set_aside(copy, damage):
    files = [path for path in (copy / "20" / "tree").rglob("*") if path.is_file()]
    victim = max(files, key=lambda path: path.stat().st_size)
    content = victim.read_bytes()
    if damage == "flip":
        victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "truncate":
        victim.write_bytes(content[:-1])
    elif damage == "remove a file":
        victim.unlink()
    else:
        (copy / "20" / "stray").write_text("x")
    warnings = []
    assert restored_step(copy, warnings) == 10
    assert len(warnings) == 1 and "20 is damaged" in warnings[0]
    assert (copy / "damaged-20").is_dir(), "what is damaged is kept for the user to look at"
    checkpoints = Checkpoints(copy)
    checkpoints.save(20, tree_at(20), {})  # the resumed run comes there again
    assert restored_step(copy) == 20


def test_all_damaged_is_refused_not_started_over(copy):
    for step in ("10", "20"):
        (copy / step / "stray").write_text("x")
    with pytest.raises(UserError, match="no checkpoint is undamaged"):
        restored_step(copy)
    assert (copy / "10").is_dir() and (copy / "20").is_dir()


def test_a_save_killed_before_its_checksums_is_no_checkpoint(copy):
    (copy / "20.sha256").unlink()
    warnings = []
    assert restored_step(copy, warnings) == 10
    assert len(warnings) == 1 and "20 is damaged or was not finished" in warnings[0]
    assert "it is now damaged-20, and training goes on from step 10" in warnings[0]
    assert not (copy / "20").exists() and (copy / "damaged-20").is_dir()


def test_a_first_save_killed_before_its_checksums_means_a_start(copy):
    shutil.rmtree(copy / "10")
    for manifest in copy.glob("*.sha256"):
        manifest.unlink()
    warnings = []
    assert Checkpoints(copy, warn=warnings.append).restore(tree_at(0)) is None
    assert len(warnings) == 1 and "from the start" in warnings[0]


def test_lost_checksums_are_refused_and_nothing_is_deleted(copy):
    """Only the newest save can be an unfinished one."""
    for manifest in copy.glob("*.sha256"):
        manifest.unlink()
    with pytest.raises(UserError, match="no checkpoint is undamaged"):
        restored_step(copy)
    assert (copy / "10").is_dir() and (copy / "20").is_dir()


def test_the_checksums_are_those_of_sha256sum(saved):
    check = subprocess.run(["sha256sum", "-c", "20.sha256"], cwd=saved, capture_output=True)
    assert check.returncode == 0, check.stderr


def test_due_follows_the_clock(tmp_path):
    assert not Checkpoints(tmp_path, every_seconds=1000).due()
    assert Checkpoints(tmp_path, every_seconds=0).due()


def test_a_state_of_another_structure_is_said_in_one_line(tmp_path):
    """As another version saved it: Orbax would print every array."""
    Checkpoints(tmp_path).save(1, {"a": jnp.ones(2)}, {})
    with pytest.raises(UserError, match="holds a state of another structure") as caught:
        Checkpoints(tmp_path).restore({"a": jnp.ones(2), "b": jnp.ones(3)})
    assert "\n" not in str(caught.value)

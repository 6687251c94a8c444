"""The short campaigns: ``python -m tests.fuzz`` and ``python -m tests.kills`` are the long ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnjax.errors import UserError
from tests.fuzz import readers
from tests.fuzz.campaign import campaign
from tests.fuzz.reader import Reader

ROOT = Path(__file__).parent.parent.parent


def run(module, *arguments):
    """A campaign in a process of its own: it forks, and JAX's threads must not be there."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.parametrize("name", readers.ALL)
def test_mutated_files_are_read_or_refused(name, tmp_path):
    finished = run("tests.fuzz", name, "--inputs=60", f"--keep={tmp_path}")
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("name", ["lenet", "sweep", "two"])
def test_killed_and_gone_on_with_it_ends_in_the_same_bits(name):
    finished = run("tests.kills", name, "--kills=2", "--jobs=1")
    assert finished.returncode == 0, finished.stdout + finished.stderr


class Clumsy:
    """Readers that end badly, each in a way of its own."""

    @staticmethod
    def raises(path):
        raise IndexError(path)

    @staticmethod
    def hangs(path):
        while True:
            pass

    @staticmethod
    def dies(path):
        os._exit(3)

    @staticmethod
    def asks_for_memory(path):
        return (b"1" * (200 << 20))[:0]

    @staticmethod
    def changes_its_mind(path):
        return path.read_bytes()

    @staticmethod
    def talks(path):
        raise UserError("two\nlines")


def first_bad_end(name):
    """Of a reader that ends badly on all but its one valid file."""
    valid = b"0123456789"
    read = lambda path: b"" if path.read_bytes() == valid else getattr(Clumsy, name)(path)
    _, bad = campaign(Reader(lambda: [valid], read, checked=True), inputs=3, seed=0)
    return bad[0].why


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", "IndexError"),
        ("hangs", "too long"),
        ("dies", "ended the process"),
        ("asks_for_memory", "MB of memory"),
        ("changes_its_mind", "other values"),
        ("talks", "not one line"),
    ],
)
def test_the_campaign_sees_a_bad_end(name, said):
    code = f"from tests.hostile.test_campaigns import first_bad_end as f; print(f({name!r}))"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert said in finished.stdout, finished.stdout + finished.stderr

"""docstrings: what is found in source files, what is kept, and which split it goes to."""

import collections
import json
import sys

import numpy as np
import pytest

from cnnjax import data
from cnnjax.data import docstrings
from cnnjax.data.docstrings import Found, distinct, first_sentence, split_by_module
from cnnjax.data.text import tokens

SOURCE = '''
"""About the module."""
import nothing.that.exists

def public(x):
    """Of a function."""
    def inner():
        """Not public: inside a function."""

def _private():
    """Not public."""

class Public:
    """Of a class."""
    def method(self):
        """Of a method."""
    async def later(self):
        """Of a coroutine."""
    def _hidden(self):
        """Not public."""
    class Nested:
        """Of a nested class."""

class _Private:
    def method(self):
        """Not public: its class is not."""

if public:
    def conditional():
        """Under a condition."""
else:
    class Otherwise:
        """Under its contrary."""
try:
    pass
except ImportError:
    def fallback():
        """In a handler."""

def without():
    return "no docstring"
'''


def test_public_docstrings_are_found_without_importing():
    assert list(docstrings.docstrings(SOURCE.encode())) == [
        "About the module.",
        "Of a function.",
        "Of a class.",
        "Of a method.",
        "Of a coroutine.",
        "Of a nested class.",
        "Under a condition.",
        "Under its contrary.",
        "In a handler.",
    ]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the sum of x.  It is fast.", "Return the sum of x."),
        ("\n    Over two\n    lines without end\n\n    More.", "Over two lines without end"),
        ("See e.g. the others in it.", "See e.g. the others in it."),
        ("Is :py:func:`foo` of ``x`` true? Yes.", "Is foo of x true?"),
        ("fft(a, n=None) -> the transform\n\nTransforms.", None),
        ("Too short.", None),
        ("word " * 51, None),
        ("", None),
    ],
)
def test_the_first_sentence(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_a_sentence_is_kept_once_and_only_of_one_package():
    found = [
        Found("numpy", "a.py", "Return the sum."),
        Found("numpy", "b.py", "return the Sum"),
        Found("jax", "c.py", "Return the mean."),
        Found("scipy", "d.py", "Return the mean!"),
        Found("scipy", "d.py", "Return the mean."),
        Found("jax", "c.py", "JAX version of the sum."),
        Found("jax", "c.py", "Return the Python object."),
        Found("python", "e.py", "Return the jaxpr of it."),
    ]
    assert distinct(found) == [found[0], found[3], found[7]]


def test_modules_stay_together():
    random = np.random.RandomState(3)
    found = [
        Found(package, f"{package}{module}.py", f"sentence {package} {module} {i}")
        for package in docstrings.PACKAGES
        for module in range(30)
        for i in range(random.randint(1, 40))
    ]
    rows = split_by_module(found)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(found)))
    modules = {split: {found[row].module for row in members} for split, members in rows.items()}
    assert not modules["train"] & modules["test"]
    assert not modules["train"] & modules["validation"]
    assert not modules["validation"] & modules["test"]
    for package in docstrings.PACKAGES:
        counts = {
            split: sum(found[row].package == package for row in members)
            for split, members in rows.items()
        }
        total = sum(counts.values())
        assert 0.07 * total < counts["test"] <= round(0.1 * total)
        assert 0.06 * total < counts["validation"] <= round(0.09 * total) + 1
    again = split_by_module(found)
    assert all(np.array_equal(rows[split], again[split]) for split in rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def loaded(folder):
    return data.load("docstrings", folder)


def test_the_installed_packages(loaded):
    assert loaded.classes == ("python", "numpy", "scipy", "jax")
    sizes = {split: len(part["labels"]) for split, part in loaded.splits.items()}
    total = sum(sizes.values())
    assert total > 5000
    assert abs(sizes["test"] / total - 0.1) < 0.01
    assert abs(sizes["validation"] / total - 0.09) < 0.01
    for part in loaded.splits.values():
        assert set(part["labels"]) == {0, 1, 2, 3}
    source = loaded.provenance["source"]
    assert f"python {sys.version.split()[0]} (" in source
    assert f"numpy {np.__version__} (" in source
    rows = collections.Counter(
        row.tobytes() for part in loaded.splits.values() for row in part["inputs"]
    )
    assert max(rows.values()) == 1  # no two sentences are equal, in whatever classes or splits
    assert not {"python", "numpy", "scipy", "jax"} & set(loaded.vocabulary)
    assert {"array", "return", "the"} < set(loaded.vocabulary[:40])


def test_what_was_read_is_kept_and_read_again_when_damaged(loaded, folder, monkeypatch):
    (cache,) = (folder / "docstrings").iterdir()
    whole = json.loads(cache.read_text())
    assert all(3 <= len(tokens(sentence)) <= 50 for _, _, sentence in whole)
    monkeypatch.setattr(docstrings, "_sentences", lambda path: [f"Read the module again {path}."])
    assert data.load("docstrings", folder).provenance["sha256"] == loaded.provenance["sha256"]
    cache.write_text("[[")
    again = data.load("docstrings", folder)
    assert again.provenance["sha256"] != loaded.provenance["sha256"]
    cache.write_text(json.dumps(whole))


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr(
        docstrings, "_sentences", lambda path: [f"The module {path.stem} does something."]
    )
    (tmp_path / "docstrings").write_text("a file in the way")
    assert data.load("docstrings", tmp_path).classes == docstrings.PACKAGES

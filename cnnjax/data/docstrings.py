"""``docstrings``: real English sentences that are installed already.  No network needed."""

import ast
import collections
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import platform
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.data.dataset import DataSet
from cnnjax.data.text import text_dataset, tokens
from cnnjax.files.durable import write_text
from cnnjax.files.folders import data_folder

PACKAGES = ("python", "numpy", "scipy", "jax")
"""The classes: the standard library and three packages."""

_NOT_THEIRS = {"site-packages", "dist-packages"}  # below the standard library
_TESTS = {"test", "tests", "testing", "idle_test"}
_FEWEST, _MOST = 3, 50  # words; longer "sentences" are tables and listings
_FRACTION = 0.1
_SPLIT_SEED = 2014
_RULES = 1  # counts up when a sentence is found in another way, so that no older cache is read


class Found(NamedTuple):
    """A sentence and where it stands."""

    package: str
    module: str
    sentence: str


def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """First sentences of public docstrings; the label is the package that they document.

    Read from the source files of the standard library, NumPy, SciPy and JAX, which are not
    imported.  A sentence that occurs in several packages, or names one of them, is left out; one
    that occurs several times in one is taken once.  10 % of every package's sentences are the test
    split and 10 % of the others the validation split, drawn with seed 2014 by whole modules: what
    was copied from one function to the next lies in one split.  The same versions give the same
    data set.

    What was found is kept in ``data_dir``, since reading takes some seconds; ``manual_dir`` is not
    used.
    """
    found = distinct(_kept(data_folder(data_dir) / "docstrings"))
    labels = np.array([PACKAGES.index(one.package) for one in found])
    splits = split_by_module(found)
    counts = np.bincount(labels, minlength=len(PACKAGES))
    contents = ", ".join(
        f"{package} {_version(package)} ({count:,})"
        for package, count in zip(PACKAGES, counts, strict=True)
    )
    return text_dataset(
        name,
        {
            split: ([found[row].sentence for row in rows], labels[rows])
            for split, rows in splits.items()
        },
        PACKAGES,
        "kim",
        {
            "source": f"first sentences of the docstrings of {contents}",
            "split": f"80 / 10 / 10 % of every class, by whole modules, seed {_SPLIT_SEED}",
        },
    )


def distinct(found: Iterable[Found]) -> list[Found]:
    """Each sentence once, as words; none that is found in several packages or names one."""
    first: dict[tuple[str, ...], Found] = {}
    packages = collections.defaultdict(set)
    for one in found:
        words = tuple(tokens(one.sentence))
        first.setdefault(words, one)
        packages[words].add(one.package)
    return [
        one
        for words, one in first.items()
        if len(packages[words]) == 1 and set(words).isdisjoint(PACKAGES)
    ]


def split_by_module(found: list[Found]) -> dict[str, np.ndarray]:
    """Rows of each split: split -> sorted int64[n].

    In an order that is drawn, a package's modules fill its share of the test split, then that of
    the validation split; one that does not fit in goes to the training split.
    """
    random = np.random.RandomState(_SPLIT_SEED)
    rows = {"train": [], "validation": [], "test": []}
    for package in PACKAGES:
        modules = collections.defaultdict(list)
        for row, one in enumerate(found):
            if one.package == package:
                modules[one.module].append(row)
        size = sum(map(len, modules.values()))
        test = round(_FRACTION * size)
        room = {"test": test, "validation": round(_FRACTION * (size - test))}
        names = sorted(modules)
        for i in random.permutation(len(names)):
            members = modules[names[i]]
            split = next((s for s in room if len(members) <= room[s]), "train")
            rows[split] += members
            if split in room:
                room[split] -= len(members)
    return {split: np.sort(np.array(members, np.int64)) for split, members in rows.items()}


def first_sentence(docstring: str) -> str | None:
    """The first sentence, without markup; None if it is a signature, too short or too long."""
    paragraph = " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())
    paragraph = re.sub(r":[\w:]+:(?=`)", "", paragraph).replace("`", "")
    if re.match(r"[\w.]+\(", paragraph):
        return None
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph, maxsplit=1)[0]
    return sentence if _FEWEST <= len(tokens(sentence)) <= _MOST else None


def docstrings(source: bytes) -> Iterator[str]:
    """The docstrings of a module, and of its public classes, methods and functions.

    Raises:
        SyntaxError, ValueError: it is no Python of this version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' escape sequences
        stack: list[ast.AST] = [ast.parse(source)]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if getattr(node, "name", "").startswith("_"):
                continue
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield docstring
        if isinstance(node, ast.Module | ast.ClassDef | ast.If | ast.Try | ast.ExceptHandler):
            stack += reversed(list(ast.iter_child_nodes(node)))


def _kept(folder: Path) -> list[Found]:
    """What the installed packages hold, from ``folder`` if it was read before."""
    files = [(package, path) for package in PACKAGES for path in _files(package)]
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for _, path in files]
    digest = hashlib.sha256(json.dumps([_RULES, state]).encode()).hexdigest()
    cache = folder / f"{digest[:16]}.json"
    try:
        return [Found(*row) for row in json.loads(cache.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        print(f"reading the docstrings of {', '.join(PACKAGES)} (once)", file=sys.stderr)
        found = [
            Found(package, str(path.relative_to(_root(package))), sentence)
            for package, path in files
            for sentence in _sentences(path)
        ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(found))
    except OSError:
        pass  # it is read again next time
    return found


def _sentences(path: Path) -> Iterator[str]:
    try:
        for docstring in docstrings(path.read_bytes()):
            sentence = first_sentence(docstring)
            if sentence:
                yield sentence
    except (SyntaxError, ValueError):
        return  # a template, or a file of another Python


def _files(package: str) -> list[Path]:
    root = _root(package)
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not (_NOT_THEIRS | _TESTS) & set(path.relative_to(root).parts)
    ]


def _root(package: str) -> Path:
    if package == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin
    return Path(spec.origin).parent


def _version(package: str) -> str:
    if package == "python":
        return platform.python_version()
    return importlib.metadata.version(package)

"""Word vectors: every format gives the same table; every defect is named with its place."""

import gzip
import itertools
import mmap
import subprocess
import sys

import numpy as np
import pytest

from cnnjax import data
from cnnjax.data.text import PADDING, UNKNOWN
from cnnjax.pretrained import vectors
from tests.data_files import refused

WORDS = ("the", "café", "n't", "(", "rare")
SIZE = 5
VOCABULARY = (PADDING, UNKNOWN, "absent", "(", "café", "the")


def numbers():
    """Vectors that are exact in six digits, so that text and binary say the same."""
    random = np.random.RandomState(0)
    return (random.randint(-999, 1000, (len(WORDS), SIZE)) / 256).astype(np.float32)


def binary(words=WORDS, end=b"\n"):
    table = numbers()
    records = [w.encode() + b" " + v.astype("<f4").tobytes() for w, v in zip(words, table)]  # noqa: B905
    return f"{len(words)} {SIZE}\n".encode() + b"".join(record + end for record in records)


def text_lines(words=WORDS):
    return [" ".join([word, *map(str, v)]) for word, v in zip(words, numbers().tolist())]  # noqa: B905


def glove(lines=None):
    return "".join(line + "\n" for line in (lines or text_lines())).encode()


def word2vec_text(lines=None):
    return f"{len(WORDS)} {SIZE}\n".encode() + glove(lines)


FORMATS = {
    "binary": binary(),
    "binary without line ends": binary(end=b""),
    "word2vec text": word2vec_text(),
    "word2vec text with spaces at the ends": word2vec_text([line + " " for line in text_lines()]),
    "GloVe": glove(),
    "GloVe without a last line end": glove().removesuffix(b"\n"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_table(tmp_path, form, zipped):
    content = FORMATS[form]
    (tmp_path / "file").write_bytes(gzip.compress(content) if zipped else content)
    read = vectors.read(tmp_path / "file", VOCABULARY)
    expected = np.zeros((6, SIZE), np.float32)
    expected[3:] = numbers()[[3, 1, 0]]
    assert np.array_equal(read.table, expected)
    assert read.table.dtype == np.float32
    assert read.found.tolist() == [False, False, False, True, True, True]
    kind = (
        "GloVe, text" if "GloVe" in form else f"word2vec, {'text' if 'text' in form else form[:6]}"
    )
    assert f"(5 vectors; {kind}{', gzip' * zipped})" in read.source


@pytest.mark.parametrize("zipped", [False, True])
def test_a_long_binary_file_is_read_over_many_chunks(tmp_path, zipped, monkeypatch):
    monkeypatch.setattr(vectors, "_CHUNK", 1 << 12)
    monkeypatch.setattr(vectors, "_KEEP", 1 << 14)
    random = np.random.RandomState(1)
    words = [f"word{'x' * (i % 90)}{i}" for i in range(3000)]
    table = random.randn(3000, 8).astype("<f4")
    content = b"3000 8\n" + b"".join(
        word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(words, table, strict=True)
    )
    (tmp_path / "file").write_bytes(gzip.compress(content, 1) if zipped else content)
    assert len(content) > 2 * mmap.PAGESIZE
    read = vectors.read(tmp_path / "file", [PADDING, UNKNOWN, *words])
    assert np.array_equal(read.table[2:], table)
    assert read.found.tolist() == [False] * 2 + [True] * 3000


MEMORY = """
import resource, sys
from cnnjax.pretrained import vectors
vectors.read(sys.argv[1], ["w0"])  # imports and first calls
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
vectors.read(sys.argv[2], ["<padding>", "<unknown>", "w5", "w199999"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_a_binary_file_is_never_in_memory_as_a_whole(tmp_path):
    """240 MB, of which at most some 64 MB stay mapped."""
    record = np.ones(300, "<f4").tobytes()
    for name, count in (("small", 1), ("large", 200_000)):
        with open(tmp_path / name, "wb") as file:
            file.write(f"{count} 300\n".encode())
            for i in range(count):
                file.write(b"w%d " % i + record)
    child = [sys.executable, "-c", MEMORY, tmp_path / "small", tmp_path / "large"]
    grown = int(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    assert grown < 100_000


def test_the_first_of_two_vectors_counts_and_marks_have_none(tmp_path):
    lines = ["a 1 2", "a 3 4", f"{UNKNOWN} 5 6", f"{PADDING} 7 8"]
    (tmp_path / "file").write_bytes(glove(lines))
    read = vectors.read(tmp_path / "file", (PADDING, UNKNOWN, "a"))
    assert read.table.tolist() == [[0, 0], [0, 0], [1, 2]]
    assert read.found.tolist() == [False, False, True]


def test_words_with_spaces_inside_are_passed_over(tmp_path):
    (tmp_path / "file").write_bytes(glove(["a 1 2", ". . . 3 4", "b c 5 6", "b 7 8"]))
    read = vectors.read(tmp_path / "file", (PADDING, UNKNOWN, "a", "b", "."))
    assert read.table[2:].tolist() == [[1, 2], [7, 8], [0, 0]]


def changed_line(lines, number, line):
    return [*lines[:number], line, *lines[number + 1 :]]


DEFECTS = {
    "an empty file": (b"", ["is empty"]),
    "no vectors": (b"hello\n", ["line 1", "COUNT SIZE"]),
    "a binary file cut in the last vector": (binary()[:-3], ["truncated", "vector 5 of the 5"]),
    "a binary file with less than announced": (
        binary().replace(b"5 5", b"9 5", 1),
        ["byte", "vector 6 of the 9"],
    ),
    "a binary file with more than announced": (binary() + b"more", ["goes on after byte"]),
    "a binary file of another size": (binary().replace(b"5 5", b"5 6", 1), ["byte"]),
    "a short last line": (glove(text_lines())[:-12], ["line 5 has 4 numbers", "instead of 5"]),
    "a short line of a word that is not asked for": (
        glove(changed_line(text_lines(), 2, "n't 1 2 3")),
        ["line 3 has 3 numbers", "instead of 5"],
    ),
    "a long line": (
        glove(changed_line(text_lines(), 2, "n't 1 2 3 4 5 6")),
        ["line 3 has 6 numbers", "instead of 5"],
    ),
    "a word without numbers": (
        glove(changed_line(text_lines(), 1, "alone")),
        ["line 2 has 0 numbers"],
    ),
    "no number": (
        word2vec_text(changed_line(text_lines(), 0, "the 1 2 x 4 5")),
        ["line 2", "'the'", "5 finite numbers"],
    ),
    "no finite number": (
        glove(changed_line(text_lines(), 0, "the 1 2 nan 4 5")),
        ["line 1", "finite"],
    ),
    "lines missing at the end": (
        word2vec_text(text_lines()[:-1]),
        ["ends after line 5 with 4 vectors", "announces 5"],
    ),
    "text of another size than its header's": (
        b"5 4\n" + glove(),
        ["line 2 has 5 numbers", "instead of 4"],
    ),
    "not one of the words": (binary(words=("a", "b", "c")), ["none of the 4 words"]),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_named_with_its_place(tmp_path, defect):
    content, words = DEFECTS[defect]
    (tmp_path / "file").write_bytes(content)
    refused(lambda: vectors.read(tmp_path / "file", VOCABULARY), tmp_path / "file", *words)


def test_a_binary_defect_is_named_with_its_byte(tmp_path):
    content = binary(end=b"")
    (tmp_path / "file").write_bytes(content[:-1])
    start = len(content) - len(b"rare ") - 4 * SIZE
    refused(lambda: vectors.read(tmp_path / "file", VOCABULARY), f"at byte {start:,},")


@pytest.mark.parametrize("content", [binary(), word2vec_text(), glove()])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_gzip_file_is_named(tmp_path, content, kept):
    whole = gzip.compress(content)
    (tmp_path / "file").write_bytes(whole[: int(kept * len(whole))])
    refused(lambda: vectors.read(tmp_path / "file", VOCABULARY), tmp_path / "file", "truncated")


def test_a_damaged_gzip_file_is_named(tmp_path):
    whole = bytearray(gzip.compress(b"".join(b"word%d 1 2\n" % i for i in range(5000))))
    whole[-8] ^= 1  # of the checksum
    (tmp_path / "file").write_bytes(whole)
    refused(lambda: vectors.read(tmp_path / "file", ("word1",)), tmp_path / "file", "damaged")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    refused(lambda: vectors.read(tmp_path / "no", VOCABULARY), tmp_path / "no", "No such file")
    refused(lambda: vectors.read(tmp_path, VOCABULARY), tmp_path, "directory")


def known():
    table = np.zeros((6, 200), np.float32)
    table[3:] = np.random.RandomState(0).normal(0, 0.8, (3, 200))
    return vectors.Vectors(table, np.array([False] * 3 + [True] * 3), "file")


@pytest.mark.parametrize(
    ("given", "unknown", "limit"),
    [(False, "uniform", 0.25), (True, "uniform", 0.25), (True, "variance", None)],
)
def test_the_initial_table(given, unknown, limit):
    some = known() if given else None
    table = vectors.initial_table(some, VOCABULARY, 200, 3, unknown)
    assert table.shape == (6, 200)
    assert table.dtype == np.float32
    assert not table[0].any()
    if given:
        assert np.array_equal(table[3:], some.table[3:])
    # Uniform in ±a has variance a²/3.
    limit = limit or np.sqrt(3 * known().table[3:].var())
    drawn = table[1:3] if given else table[1:]
    assert np.abs(drawn).max() <= limit
    assert np.abs(drawn).max() > 0.98 * limit
    assert abs(drawn.std() / (limit / np.sqrt(3)) - 1) < 0.1
    assert np.array_equal(table, vectors.initial_table(some, VOCABULARY, 200, 3, unknown))
    other = vectors.initial_table(some, VOCABULARY, 200, 4, unknown)
    assert not np.array_equal(table[1], other[1])


def test_vectors_of_another_size_than_the_models_are_refused():
    refused(
        lambda: vectors.initial_table(known(), VOCABULARY, 300, 0),
        "200 dimensions",
        "embeddings have 300",
    )


def test_coverage_counts_types_and_tokens_but_no_padding():
    found = np.array([False, False, True, False, True])
    some = vectors.Vectors(np.zeros((5, 2), np.float32), found, "file")
    rows = itertools.starmap(np.array, [([[0, 2, 2, 3, 0]],), ([[0, 4, 1, 1, 0]],)])
    splits = {name: {"inputs": row} for name, row in zip(("train", "test"), rows, strict=True)}
    counted = vectors.coverage(some, splits)
    assert counted == vectors.Coverage(types=4, types_found=2, tokens=6, tokens_found=3)
    assert str(counted) == "2 of 4 word types (50.0%), 3 of 6 tokens (50.0%)"


def test_the_real_vectors_cover_what_they_are_said_to(real_data, tmp_path):
    """../shared/data/README.md: 5,125 of MR's types, 64 % of its tokens."""
    mr = data.load("mr", tmp_path, real_data / "sentences")
    (file,) = (real_data / "vectors").glob("*.gz")
    read = vectors.read(file, mr.vocabulary)
    assert read.table.shape == (18767, 300)
    counted = vectors.coverage(read, mr.splits)
    assert (counted.types_found, counted.types) == (5125, 18765)
    assert round(counted.tokens_found / counted.tokens, 2) == 0.64

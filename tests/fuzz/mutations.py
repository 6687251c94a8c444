"""Valid files, damaged in the ways in which files are damaged, or made to hurt."""

import random
import re
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 1 << 20, 10**9, 10**18, -1, 5 * 10**4)
_FORMATS = ("<H", ">H", "<I", ">I", "<Q", ">Q")
_DIGITS = re.compile(rb"\d+")


def mutated(seeds: Sequence[bytes], tokens: Sequence[bytes], draw: random.Random) -> bytes:
    """One of ``seeds`` after one to four mutations, most often one."""
    content = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        draw.choice(_MUTATIONS)(content, seeds, tokens, draw)
    return bytes(content)


def _place(content: bytearray, draw: random.Random) -> int:
    """Anywhere, but often near the beginning or the end, where headers and directories are."""
    end = len(content)
    near = min(end, 200)
    place = draw.choice((draw.randrange(end + 1), draw.randrange(near + 1), end - near))
    return max(0, min(place + draw.choice((0, 0, draw.randrange(near + 1))), end))


def _flip(content, seeds, tokens, draw):
    if content:
        place = min(_place(content, draw), len(content) - 1)
        content[place] ^= 1 << draw.randrange(8)


def _set(content, seeds, tokens, draw):
    if content:
        content[min(_place(content, draw), len(content) - 1)] = draw.choice(
            (0, 1, 0x7F, 0x80, 0xFF, 10, draw.randrange(256))
        )


def _cut(content, seeds, tokens, draw):
    del content[_place(content, draw) :]


def _drop(content, seeds, tokens, draw):
    start = _place(content, draw)
    del content[start : start + draw.choice((1, 2, 4, 8, draw.randrange(1, 400)))]


def _repeat(content, seeds, tokens, draw):
    start = _place(content, draw)
    piece = content[start : start + draw.choice((1, 4, 16, 100))]
    content[start:start] = piece * draw.choice((1, 2, 50))


def _insert(content, seeds, tokens, draw):
    start = _place(content, draw)
    piece = draw.choice((*tokens, draw.randbytes(draw.randrange(1, 20)), b"\0" * 9, b"(" * 2000))
    content[start:start] = piece


def _number(content, seeds, tokens, draw):
    """A binary number that means a size, an offset or a count, perhaps."""
    form = draw.choice(_FORMATS)
    size = struct.calcsize(form)
    if len(content) >= size:
        start = min(_place(content, draw), len(content) - size)
        value = draw.choice(_NUMBERS) & ((1 << 8 * size) - 1)
        content[start : start + size] = struct.pack(form, value)


def _digits(content, seeds, tokens, draw):
    """A printed number."""
    if found := list(_DIGITS.finditer(content)):
        start, end = draw.choice(found).span()
        content[start:end] = draw.choice((str(draw.choice(_NUMBERS)), "9" * 5000, "1e999")).encode()


def _splice(content, seeds, tokens, draw):
    other = draw.choice(seeds)
    content[_place(content, draw) :] = other[draw.randrange(len(other) + 1) :]


Mutation = Callable[[bytearray, Sequence[bytes], Sequence[bytes], random.Random], None]
_MUTATIONS: tuple[Mutation, ...] = (
    _flip, _flip, _flip, _set, _cut, _drop, _repeat, _insert, _number, _number, _digits, _splice,
)  # fmt: skip

"""Labels of a user's pictures: a table of all, and a sheet of the pictures themselves."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnjax.files.durable import write_text

if TYPE_CHECKING:
    from cnnjax.experiment.prediction import Labelled

MOST = 96
"""Pictures on a sheet; the table has all."""

_COLUMNS, _SIDE, _GAP, _TEXT, _MARGIN = 8, 144, 14, 44, 20
_FONT, _SMALL, _TITLE = 14, 11, 17
_INK, _PALE, _BAR = (30, 30, 30), (120, 120, 120), (31, 119, 180)


def write(folder: Path, classes: Sequence[str], labelled: Sequence["Labelled"]) -> list[Path]:
    """Write ``predictions.csv`` and ``predictions.png``, each whole or not at all.

    Args:
        folder: made where it is missing.
        classes: K names.
        labelled: N >= 1 pictures with their probabilities; the first :data:`MOST` with what was
            seen of them.

    Returns:
        The two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "predictions.csv", folder / "predictions.png"
    write_text(table, _table(classes, labelled))
    temporary = folder / "predictions.tmp.png"
    sheet(classes, labelled).save(temporary)
    temporary.replace(picture)
    return [table, picture]


def _table(classes: Sequence[str], labelled: Sequence["Labelled"]) -> str:
    """A row a picture: file, label, its probability, and that of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "probability", *classes])
    for one in labelled:
        shares = [f"{share:.6f}" for share in one.probabilities]
        best = int(one.probabilities.argmax())
        writer.writerow([one.name, classes[best], shares[best], *shares])
    return text.getvalue()


def sheet(classes: Sequence[str], labelled: Sequence["Labelled"]) -> Image.Image:
    """The pictures as the network sees them, each above its label and probability."""
    shown = labelled[:MOST]
    columns = min(_COLUMNS, max(len(shown), 3))
    width = 2 * _MARGIN + columns * (_SIDE + _GAP) - _GAP
    top = _MARGIN + 2 * _TITLE
    rows = -(-len(shown) // columns)
    page = Image.new("RGB", (width, top + rows * (_SIDE + _TEXT + _GAP) + _MARGIN), "white")
    draw = ImageDraw.Draw(page)
    of = f"the first {len(shown):,} of " if len(shown) < len(labelled) else ""
    count = f"{of}{len(labelled):,} picture{'s' * (len(labelled) > 1)}, as the network sees them"
    draw.text((_MARGIN, _MARGIN), count, _INK, ImageFont.load_default(_TITLE))
    for place, one in enumerate(shown):
        row, column = divmod(place, columns)
        left, upper = _MARGIN + column * (_SIDE + _GAP), top + row * (_SIDE + _TEXT + _GAP)
        assert one.seen is not None  # of the first ones it is kept
        page.paste(_thumbnail(one.seen), (left, upper))
        _caption(draw, (left, upper + _SIDE), classes, one)
    return page


def _caption(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], classes: Sequence[str], one: "Labelled"
) -> None:
    """The probability as a bar and as a number after its label, above the file's name."""
    left, upper = at
    best = int(one.probabilities.argmax())
    share = float(one.probabilities[best])
    draw.rectangle((left, upper + 2, left + _SIDE - 1, upper + 4), (225, 225, 225))
    draw.rectangle((left, upper + 2, left + max(round(share * _SIDE) - 1, 0), upper + 4), _BAR)
    font, small = ImageFont.load_default(_FONT), ImageFont.load_default(_SMALL)
    percent = f" {share:.1%}"
    label = _cut(classes[best], font, _SIDE - font.getlength(percent))
    draw.text((left, upper + 7), label + percent, _INK, font)
    draw.text((left, upper + 26), _cut(Path(one.name).name, small, _SIDE), _PALE, small)


def _thumbnail(seen: np.ndarray) -> Image.Image:
    """uint8 or float in 0..1, [H, W, C], on a square; enlarged pixel by pixel, reduced smoothly."""
    levels = seen if seen.dtype == np.uint8 else np.round(np.clip(seen, 0, 1) * 255)
    levels = levels.astype(np.uint8)
    picture = Image.fromarray(levels[..., 0] if seen.shape[-1] == 1 else levels)
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    square = Image.new("RGB", (_SIDE, _SIDE), (240, 240, 240))
    square.paste(
        picture.convert("RGB").resize((width, height), how),
        ((_SIDE - width) // 2, (_SIDE - height) // 2),
    )
    return square


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """As much of the text as fits, with an ellipsis in its middle where it does not."""
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept > 1:
        kept -= 1
        shorter = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(shorter) <= width:
            return shorter
    return "…"

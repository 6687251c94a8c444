"""Folders of small pictures of coloured shapes, as JPEG."""

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (210, 50, 40)}


def picture(colour, width=48, height=40, seed=0):
    """Noise around a colour, with a bright part: no two are alike."""
    random = np.random.RandomState(seed)
    levels = np.array(colour) + random.randint(-30, 30, (height, width, 3))
    levels[random.randint(height - 8) :][:8, random.randint(width - 8) :][:, :8] += 60
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def write(folder, counts, classes=COLOURS, seed=0):
    """``counts`` pictures a class in ``folder/SPLIT/CLASS`` (for "" in ``folder/CLASS``)."""
    for split, count in counts.items():
        for label, colour in classes.items():
            place = folder / split / label
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                seed += 1
                size = {"width": 40 + seed % 17, "height": 34 + seed % 23}
                image = picture(COLOURS.get(colour, colour), **size, seed=seed)
                image.save(place / f"{number:02}.jpg", quality=90)
    return folder

"""Images in files: how they are read, what is seen of them, and arrays of them."""

from cnnjax.data.images.image_files import KEPT_BYTES, ImageFiles, random_crops

__all__ = ["KEPT_BYTES", "ImageFiles", "random_crops"]

"""Weights that are published: where, and how to have them in the data directory."""

import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from cnnjax.errors import UserError, reason
from cnnjax.files.durable import sha256
from cnnjax.files.folders import data_folder

_TORCHVISION = "https://download.pytorch.org/models/"
_IDELBAYEV = (
    "https://raw.githubusercontent.com/akamaster/pytorch_resnet_cifar10/master/pretrained_models/"
)
ADDRESSES = {
    "resnet18": f"{_TORCHVISION}resnet18-f37072fd.pth",
    "resnet34": f"{_TORCHVISION}resnet34-b627a593.pth",
    "resnet50": f"{_TORCHVISION}resnet50-0676ba61.pth",
    "squeezenet": f"{_TORCHVISION}squeezenet1_1-b8a52dc0.pth",
    "resnet20": f"{_IDELBAYEV}resnet20-12fca82f.th",
    "resnet32": f"{_IDELBAYEV}resnet32-d509ac18.th",
    "resnet44": f"{_IDELBAYEV}resnet44-014dd654.th",
    "resnet56": f"{_IDELBAYEV}resnet56-4bfd9763.th",
}
"""Known name -> where its file is: torchvision's first weights of ImageNet, and Y. Idelbayev's of
CIFAR-10 (BSD licence).  A file's name has the first eight digits of its SHA-256."""

_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
)
_SECONDS = 20
_PIECE = 1 << 20


def fetch(name: str, data_dir: Path | None = None) -> Path:
    """The file of the known name, in the folder ``weights`` of the data directory.

    Where it is not there it is downloaded, once; its checksum is compared either way.

    Args:
        name: one of :data:`ADDRESSES`.
        data_dir: by default as of :func:`cnnjax.data.load`.

    Raises:
        UserError: it cannot be downloaded (the message says which file to put where), or has
            another checksum.
        OSError: the folder cannot be written.
    """
    address = ADDRESSES[name]
    path = data_folder(data_dir) / "weights" / address.rpartition("/")[2]
    (digits,) = re.findall(r"-([0-9a-f]{8})\.", path.name)
    if path.exists():
        found = sha256(path)
        if not found.startswith(digits):
            raise UserError(
                f"{path}: is damaged or another file (its SHA-256 starts with {found[:8]}, not "
                f"with {digits}); remove it to have it downloaded again"
            )
        return path
    print(f"downloading {address} to {path} (once)", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    by_hand = f"put {path.name} (from {address}) into {path.parent}"
    try:
        found = _download(address, temporary)
        if not found.startswith(digits):
            raise UserError(
                f"{address}: what was downloaded has a SHA-256 that starts with {found[:8]}, not "
                f"with {digits}; try again, or {by_hand}"
            )
        temporary.replace(path)
    except _NETWORK_ERRORS as error:
        why = reason(getattr(error, "reason", None) or error)
        raise UserError(f"{name}: cannot be downloaded ({why}): {by_hand}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _download(address: str, path: Path) -> str:
    """Write what is at ``address``; its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(address, timeout=_SECONDS) as answer, open(path, "wb") as file:
        while piece := answer.read(_PIECE):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()

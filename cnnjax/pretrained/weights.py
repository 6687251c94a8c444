"""Files of weights -> arrays by name.

A file's format is recognised by its content, not by its name.
"""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError, deserialize

from cnnjax.errors import UserError, reason, system_reason
from cnnjax.files.durable import checksums
from cnnjax.files.folders import expanded
from cnnjax.pretrained import keras_files, torch_files
from cnnjax.pretrained.published import ADDRESSES, fetch

_FORMATS = (
    "PyTorch's .pth (a state_dict), Keras's .h5, .safetensors, .npz, a folder of .npy, or a run"
)
_NESTED = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_MODEL = "model.safetensors"
_HDF5 = b"\x89HDF\r\n\x1a\n"

# safetensors.numpy has no bfloat16.
_SAFETENSORS = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "C64": np.complex64,
}  # fmt: skip


def read(path: str | Path, data_dir: str | Path | None = None) -> dict[str, np.ndarray]:
    """The arrays of a file or a folder of weights, by the names it gives them.

    Of a PyTorch file with more in it than weights, those under ``state_dict``,
    ``model_state_dict`` or ``model`` count, the first that is there.  Nested names are joined with
    dots, what is no tensor is left out, and a prefix ``module.`` or ``_orig_mod.`` that all names
    have is removed.  No pickle is ever run.

    Args:
        path: of a ``.pth`` in either format of PyTorch's, Keras's ``.h5``, ``.safetensors`` or
            ``.npz``; of a folder: one of our runs (of one that has not ended, its best parameters
            so far; of a classifier on fixed features, that alone), its checkpoints or one of them,
            or one with an ``.npy`` file for every name; or, where there is no such file, a name
            that :mod:`cnnjax.pretrained.published` knows.
        data_dir: where published weights are kept; by default as of :func:`cnnjax.data.load`.

    Raises:
        UserError: the path is missing, of another format, damaged, or holds no arrays; published
            weights that cannot be downloaded.
    """
    try:
        if str(path) in ADDRESSES and not Path(path).exists():
            path = fetch(str(path), expanded("data_dir", data_dir) if data_dir else None)
        path = Path(path).expanduser()
        arrays = _read_folder(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise UserError(f"weights: {system_reason(error, path)}") from None
    except RuntimeError as error:  # no such home
        raise UserError(f"weights {path}: {reason(error)}") from None
    if not arrays:
        raise UserError(f"{path}: holds no weights")
    return arrays


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    if (folder / _MODEL).exists():
        return _read_file(folder / _MODEL)
    if (step := _checkpoint(folder)) is not None:
        return _load_checkpoint(step)
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise UserError(
            f"{folder}: holds neither {_MODEL} of a finished run, nor checkpoints of ours, nor "
            f".npy files"
        )
    return {file.stem: _whole(file, lambda file=file: _load_npy(file)) for file in files}


def _checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run, of its folder of checkpoints, or itself."""
    if (folder / "tree").is_dir() and folder.name.isdigit():
        return folder
    places = (folder, folder / "checkpoints")
    steps = [step for place in places if place.is_dir() for step in place.iterdir()]
    steps = [step for step in steps if step.name.isdigit() and (step / "tree").is_dir()]
    return max(steps, key=lambda step: int(step.name), default=None)


def _load_checkpoint(step: Path) -> dict[str, np.ndarray]:
    """The best parameters so far, or the latest before the first epoch has ended."""
    manifest = step.with_name(f"{step.name}.sha256")
    if not manifest.is_file() or manifest.read_bytes() != checksums(step):
        raise UserError(
            f"{step}: is damaged or not finished (its checksums do not match); name another "
            f"checkpoint"
        )
    import orbax.checkpoint as ocp  # takes long

    tree = ocp.StandardCheckpointer().restore(step.absolute() / "tree")
    state = tree["state"]
    variables = {"params": state["params"], **(state.get("collections") or {})}
    if tree["best"]["epoch"]:
        variables = tree["best"]["variables"]
    parameters: Any = {}
    for collection in variables.values():
        parameters |= flatten_dict(collection, sep="/")
    return parameters


def _read_file(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"{path}: is empty")
    if start.startswith(_HDF5):
        return keras_files.read(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return _whole(path, lambda: _load_safetensors(path))
    if start.startswith(b"PK") and _is_npz(path):
        return _whole(path, lambda: _load_npz(path))
    if torch_files.is_torch(start):
        return _state(torch_files.read(path))
    raise UserError(f"{path}: {_what_else(start)}")


def _what_else(start: bytes) -> str:
    """What a file that cannot be read is, by its beginning, and what would be right."""
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; fetch them with git lfs pull"
    if start.startswith(b"\x93NUMPY"):
        return "is one array; name the folder that holds all of them"
    if b"ustar" in start[257:265]:
        return "is a tar archive; unpack it, or save it again with PyTorch 0.1.10 or later"
    return f"starts with {start[:8]!r}: no format of weights; {_FORMATS} can be read"


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: is truncated or damaged ({reason(error)})") from None
    return bool(names) and all(name.endswith(".npy") for name in names)


def _load_safetensors(path: Path) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(found["data"], _SAFETENSORS[found["dtype"]]).reshape(found["shape"])
        for name, found in deserialize(path.read_bytes())
    }


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _load_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _whole(path: Path, call: Callable[[], Any]) -> Any:
    """What ``call`` reads from ``path``, where nothing is missing or damaged."""
    try:
        return call()
    except (ValueError, EOFError, zipfile.BadZipFile, SafetensorError, KeyError) as error:
        raise UserError(
            f"{path}: is truncated, damaged or no plain array ({reason(error)})"
        ) from None


def _state(tree: Any) -> dict[str, np.ndarray]:
    """The named tensors of what ``torch.save`` saved, by the rules of :func:`read`."""
    if not isinstance(tree, Mapping):
        return {}
    nested = [tree[key] for key in _NESTED if isinstance(tree.get(key), Mapping)]
    arrays = dict(_named(nested[0] if nested else tree))
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _named(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        if isinstance(value, np.ndarray):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _named(value, f"{prefix}{key}.")

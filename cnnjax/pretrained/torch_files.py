"""PyTorch's files, read without PyTorch and without running what is in their pickles.

``torch.save`` writes a pickle and the tensors' bytes beside it: since PyTorch 1.6 in a ZIP archive
(``data.pkl``, ``data/KEY``), before that one after the other (a magic number, a protocol number,
the system's sizes, the object, the keys of its storages, and their bytes).  A pickle is a program
that may call whatever it can name.  Here it can name the few things that a file of tensors needs,
all of which only make records; anything else ends the reading.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cnnjax.errors import UserError, reason

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_DTYPES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_, "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    # Types that came after the typed storages name themselves, over a storage of bytes.
    "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2": ml_dtypes.float8_e5m2, "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip


# A pickle can set attributes of what it was given (BUILD); of tuples without a __dict__ it cannot.
class _DType(NamedTuple):
    dtype: Any


class _Storage(NamedTuple):
    key: str
    dtype: Any
    size: int  # in elements
    view: tuple[int, int] | None = None  # (start, size) in it


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    dtype: Any


class _Function(NamedTuple):
    call: Callable

    def __call__(self, *arguments):
        return self.call(*arguments)


def _tensor(storage, offset, shape, strides, *_) -> _Tensor:
    return _Tensor(storage, offset, shape, strides, storage.dtype)


def _tensor_of_type(storage, offset, shape, strides, gradient, hooks, dtype, *_) -> _Tensor:
    return _Tensor(storage, offset, shape, strides, dtype.dtype)


_GLOBALS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Function(_tensor_of_type),
    ("torch._utils", "_rebuild_parameter"): _Function(lambda data, *_: data),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(lambda data, *_: data),
    ("torch.storage", "UntypedStorage"): _DType(np.uint8),
    **{("torch", name): _DType(dtype) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Makes records of tensors; ``storages`` maps the keys it met to their first record."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise UserError(
                f"its pickle asks for {f'{module}.{name}'!r}, which tensors do not need: refused "
                f"before anything was run; save model.state_dict() alone, or as .safetensors"
            )
        return _GLOBALS[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        kind, marker, key, _, size, *view = saved
        if kind not in ("storage", b"storage"):
            raise ValueError(f"{kind!r} instead of a storage")
        storage = _Storage(str(key), np.dtype(marker.dtype), int(size))
        self.storages.setdefault(storage.key, storage)
        if view and view[0] is not None:
            _, start, length = view[0]
            storage = storage._replace(view=(int(start), int(length)))
        return storage


def read(path: Path) -> Any:
    """What ``torch.save`` saved, with an array for every tensor that is in it or in its dicts.

    Arrays share memory where the tensors did, and cannot be written to.

    Args:
        path: of a file that :func:`is_torch` recognises.

    Raises:
        UserError: a pickle that names anything but tensors (nothing of it is run), a truncated or
            damaged file, or another program's pickle or archive.
        OSError: a file that cannot be read.
    """
    content = path.read_bytes()
    try:
        return (_read_zip if content.startswith(b"PK") else _read_legacy)(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: is truncated or damaged ({reason(error)})") from None
    except Exception as error:  # bytes from elsewhere can raise anything
        raise UserError(
            f"{path}: is no file of PyTorch's, or is truncated or damaged ({reason(error)})"
        ) from None


def is_torch(start: bytes) -> bool:
    """Whether a file with this beginning is a ZIP archive or a binary pickle."""
    return start.startswith((b"PK\x03\x04", b"\x80"))


def _read_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        folders = [n.removesuffix("data.pkl") for n in names if n.split("/")[1:] == ["data.pkl"]]
        if len(folders) != 1:
            raise UserError("is a ZIP archive without the data.pkl of PyTorch or arrays of NumPy")
        (folder,) = folders
        if f"{folder}constants.pkl" in names:
            raise UserError("is a TorchScript program; save model.state_dict() instead")
        has_order = f"{folder}byteorder" in names
        big = has_order and archive.read(f"{folder}byteorder").strip() == b"big"
        unpickler = _Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl")))
        tree = unpickler.load()
        loaded = {
            key: _elements(archive.read(f"{folder}data/{key}"), storage, big)
            for key, storage in unpickler.storages.items()
        }
    return _with_arrays(tree, loaded)


def _read_legacy(content: bytes) -> Any:
    stream = io.BytesIO(content)
    magic = _Unpickler(stream).load()
    if magic != _MAGIC or type(magic) is not int:
        raise UserError(
            f"is a pickle, but not of PyTorch's: it starts with {_short(magic)}, "
            f"not with the magic number {_MAGIC:#x}"
        )
    if (protocol := _Unpickler(stream).load()) != _PROTOCOL:
        raise UserError(f"has PyTorch's protocol {_short(protocol)}; {_PROTOCOL} can be read")
    _Unpickler(stream).load()  # sizes of the system's types; the bytes are little-endian always
    unpickler = _Unpickler(stream)
    tree = unpickler.load()
    loaded = {}
    for key in _Unpickler(stream).load():
        storage = unpickler.storages[str(key)]
        head = stream.read(8)
        size = int.from_bytes(head, "little", signed=True)
        if len(head) < 8 or size != storage.size:
            raise ValueError(f"storage {key} has {size} elements instead of {storage.size}")
        loaded[storage.key] = _elements(stream.read(size * storage.dtype.itemsize), storage)
    return _with_arrays(tree, loaded)


def _elements(content: bytes, storage: _Storage, big_endian: bool = False) -> np.ndarray:
    if len(content) != storage.size * storage.dtype.itemsize:
        raise ValueError(
            f"storage {storage.key} has {len(content):,} bytes instead of "
            f"{storage.size * storage.dtype.itemsize:,}"
        )
    elements = np.frombuffer(content, storage.dtype)
    return elements.byteswap() if big_endian else elements


def _with_arrays(tree: Any, loaded: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, _Tensor):
        return _array(tree, loaded[tree.storage.key])
    if isinstance(tree, dict):
        return {key: _with_arrays(value, loaded) for key, value in tree.items()}
    return tree


def _array(tensor: _Tensor, elements: np.ndarray) -> np.ndarray:
    """The tensor's elements in its storage, which is checked to hold all of them."""
    elements = elements.view(tensor.storage.dtype)
    if tensor.storage.view is not None:
        start, length = tensor.storage.view
        if not 0 <= start <= start + length <= len(elements):
            raise ValueError("a view reaches outside its storage")
        elements = elements[start : start + length]
    elements = elements.view(tensor.dtype)
    shape, strides = tuple(map(int, tensor.shape)), tuple(map(int, tensor.strides))
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    inside = last < len(elements) or not math.prod(shape)
    if min(tensor.offset, *shape, *strides, 0) < 0 or not inside:
        raise ValueError(
            f"a tensor {shape} with strides {strides} from {tensor.offset} reaches outside its "
            f"storage of {len(elements):,}"
        )
    if not math.prod(shape):
        return np.empty(shape, tensor.dtype)
    steps = [s * elements.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(elements[tensor.offset :], shape, steps, writeable=False)


def _short(value: Any) -> str:
    """``value`` in at most 40 characters."""
    shown = repr(value) if isinstance(value, int | float | str | bytes) else type(value).__name__
    return shown if len(shown) <= 40 else f"{shown[:37]}..."

"""PyTorch's two file formats, written by hand: byte for byte what matters of ``torch.save``."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """Pickled as the global MODULE.NAME, which need not exist."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a global."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Built:
    """Pickled as a value whose state is set: BUILD."""

    def __init__(self, value, state):
        self.value, self.state = value, state


class Storage:
    """A storage: pickled as a persistent id; its content is written beside the pickle."""

    def __init__(self, key, kind, array, view=None):
        self.key, self.kind, self.array, self.view = key, kind, array, view


class Pickler(pickle._Pickler):  # the one in Python: it can be taught how to save globals
    def __init__(self, file, legacy, protocol=2):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        saved = "storage", Global("torch", value.kind), value.key, "cpu", value.array.size
        return (*saved, value.view) if self.legacy else saved

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(value, Built):
            self.save(value.value)
            self.save(value.state)
            self.write(pickle.BUILD)
        else:
            super().save(value, save_persistent_id)


def tensor(storage, shape, strides, offset=0):
    hooks = OrderedDict()
    function = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(function, storage, offset, shape, strides, False, hooks)


def parameter(data):
    return Call(Global("torch._utils", "_rebuild_parameter"), data, True, OrderedDict())


def plain(array, key, kind="FloatStorage"):
    """A contiguous tensor with a storage of its own."""
    strides = tuple(s // array.itemsize for s in array.strides)
    return tensor(Storage(key, kind, array.ravel()), array.shape, strides)


def zip_bytes(tree, folder="archive", byteorder="little"):
    stream = io.BytesIO()
    pickler = Pickler(stream, legacy=False)
    pickler.dump(tree)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{folder}/data.pkl", stream.getvalue())
        file.writestr(f"{folder}/byteorder", byteorder)
        for key, storage in pickler.storages.items():
            array = storage.array.byteswap() if byteorder == "big" else storage.array
            file.writestr(f"{folder}/data/{key}", array.tobytes())
        file.writestr(f"{folder}/version", "3\n")
    return archive.getvalue()


def legacy_bytes(tree, magic=MAGIC):
    stream = io.BytesIO()
    for value in (magic, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(value, stream, protocol=2)
    pickler = Pickler(stream, legacy=True)
    pickler.dump(tree)
    pickle.dump(sorted(pickler.storages), stream, protocol=2)
    for _, storage in sorted(pickler.storages.items()):
        stream.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())
    return stream.getvalue()

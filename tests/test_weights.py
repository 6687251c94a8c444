"""Files of weights: every format gives the same arrays, and nothing foreign is ever run."""

import io
import json
import os
import pickle

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from cnnjax.pretrained import weights
from tests import torch_format as torch_file
from tests.data_files import refused

FORMATS = {"zip": torch_file.zip_bytes, "legacy": torch_file.legacy_bytes}
both_formats = pytest.mark.parametrize("form", FORMATS)


def written(tmp_path, form, tree, **options):
    path = tmp_path / "file.pth"
    path.write_bytes(FORMATS[form](tree, **options))
    return path


def numbers(*shape, dtype=np.float32):
    return np.random.RandomState(0).randint(-9, 9, shape).astype(dtype)


ARRAYS = {"conv1.weight": numbers(2, 3, 2, 2), "fc.bias": numbers(5) / 4}


def as_tensors(arrays, prefix=""):
    named = enumerate(arrays.items())
    return {f"{prefix}{name}": torch_file.plain(a, str(i)) for i, (name, a) in named}


def same(read, expected):
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()
    return True


@both_formats
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_a_state_dict_is_read_however_it_is_wrapped(tmp_path, form, prefix, nested):
    tree = as_tensors(ARRAYS, prefix)
    if nested:
        # Of what is beside the state dict, tensors too, nothing counts.
        tree = {"epoch": 3, "loss": torch_file.plain(numbers(2), "9"), nested: tree}
    assert same(weights.read(written(tmp_path, form, tree)), ARRAYS)


@both_formats
def test_names_are_joined_and_only_a_prefix_of_all_is_removed(tmp_path, form):
    a, b = numbers(3), numbers(2)
    tree = {"module": {"a": torch_file.plain(a, "0")}, "b": torch_file.plain(b, "1"), "n": 1}
    assert same(weights.read(written(tmp_path, form, tree)), {"module.a": a, "b": b})


@both_formats
def test_every_type_of_storage(tmp_path, form):
    kinds = {
        "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": ml_dtypes.bfloat16, "Long": "i8",
        "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?", "ComplexFloat": "c8",
        "ComplexDouble": "c16",
    }  # fmt: skip
    arrays = {kind: numbers(7, dtype=dtype) for kind, dtype in kinds.items()}
    tree = {kind: torch_file.plain(a, kind, f"{kind}Storage") for kind, a in arrays.items()}
    assert same(weights.read(written(tmp_path, form, tree)), arrays)


@both_formats
def test_strides_offsets_shared_storages_and_parameters(tmp_path, form):
    values = np.arange(24, dtype=np.float32)
    storage = torch_file.Storage("0", "FloatStorage", values)
    tree = {
        "rows": torch_file.tensor(storage, (4, 6), (6, 1)),
        "transposed": torch_file.tensor(storage, (6, 4), (1, 6)),
        "part": torch_file.parameter(torch_file.tensor(storage, (2, 3), (6, 2), 7)),
        "repeated": torch_file.tensor(storage, (3, 2), (0, 1), 5),
        "scalar": torch_file.tensor(storage, (), (), 23),
        "nothing": torch_file.tensor(storage, (0, 3), (3, 1), 24),
    }
    read = weights.read(written(tmp_path, form, tree))
    grid = values.reshape(4, 6)
    expected = {
        "rows": grid,
        "transposed": grid.T,
        "part": grid[1:3, 1::2],
        "repeated": np.tile(values[5:7], (3, 1)),
        "scalar": values[23],
        "nothing": np.empty((0, 3)),
    }
    for name, array in expected.items():
        assert np.array_equal(read[name], array), name
    assert np.shares_memory(read["rows"], read["part"])


def test_a_legacy_view_of_a_storage(tmp_path):
    storage = torch_file.Storage("0", "FloatStorage", numbers(10), view=("1", 4, 3))
    tree = {"a": torch_file.tensor(storage, (3,), (1,))}
    assert np.array_equal(weights.read(written(tmp_path, "legacy", tree))["a"], numbers(10)[4:7])


def test_big_endian_archives(tmp_path):
    assert same(weights.read(written(tmp_path, "zip", as_tensors(ARRAYS), byteorder="big")), ARRAYS)


HOSTILE = {
    "a command": ("posix", "system"),
    "an evaluation": ("builtins", "eval"),
    "an import": ("builtins", "__import__"),
    "attributes": ("builtins", "getattr"),
    "a module of ours": ("os.path", "exists"),
}


@both_formats
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, form, attack):
    module, name = HOSTILE[attack]
    mark = tmp_path / "ran"
    argument = f"touch {mark}" if name == "system" else f"open({str(mark)!r}, 'w')"
    call = torch_file.Call(torch_file.Global(module, name), argument)
    path = written(tmp_path, form, as_tensors(ARRAYS) | {"x": call})
    refused(lambda: weights.read(path), path, f"'{module}.{name}'", "refused")
    assert not mark.exists()
    if attack in ("a command", "an evaluation"):
        stream = io.BytesIO()
        torch_file.Pickler(stream, legacy=False).dump(call)
        pickle.loads(stream.getvalue())  # it would have
        assert mark.exists()


class Touch:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_first_pickle_of_a_legacy_file_is_no_way_in_either(tmp_path, protocol):
    """By every opcode that names a global: GLOBAL before protocol 4, STACK_GLOBAL since."""
    content = pickle.dumps(Touch(tmp_path / "ran"), protocol)
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    refused(lambda: weights.read(path), path, "mkdir", "refused")
    assert not (tmp_path / "ran").exists()
    pickle.loads(content)  # it would have
    assert (tmp_path / "ran").exists()


@both_formats
@pytest.mark.parametrize("state", [{"call": 1}, (None, {"call": 1}), (None, {"__call__": 1})])
@pytest.mark.parametrize("name", ["torch._utils._rebuild_parameter", "collections.OrderedDict"])
def test_a_pickle_cannot_change_what_it_is_given(tmp_path, form, state, name):
    """The functions that make tensors serve the files to come, too."""
    given = torch_file.Global(*name.rsplit(".", 1))
    path = written(tmp_path, form, {"x": torch_file.Built(given, state)})
    refused(lambda: weights.read(path), path)
    assert same(weights.read(written(tmp_path, form, as_tensors(ARRAYS))), ARRAYS)


@both_formats
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(tmp_path, form, kept):
    path = written(tmp_path, form, {"a": torch_file.plain(numbers(500), "0")})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refused(lambda: weights.read(path), path, "truncated")


@both_formats
@pytest.mark.parametrize(
    "tensor",
    [((11,), (1,), 0), ((5,), (3,), 0), ((2,), (1,), 9), ((2,), (-1,), 5), ((2,), (1,), -1)],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, form, tensor):
    storage = torch_file.Storage("0", "FloatStorage", numbers(10))
    path = written(tmp_path, form, {"a": torch_file.tensor(storage, *tensor)})
    refused(lambda: weights.read(path), path, "outside its storage")


DEFECTS = {
    "empty": (b"", "is empty"),
    "a web page": (b"\n<!DOCTYPE html><html>Not found", "is a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "text": (b"hello", "no format of weights"),
    "another pickle": (pickle.dumps({"a": 1}), "magic number"),
    "another magic number": (torch_file.legacy_bytes({}, magic=7), "starts with 7"),
    "no tensors": (torch_file.legacy_bytes({"epoch": 3}), "holds no weights"),
    "no dict": (torch_file.zip_bytes([1, 2]), "holds no weights"),
    "broken safetensors": (b"\x08" + bytes(7) + b"{}      more", "truncated, damaged"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_is_no_file_of_weights_is_told_what_it_is(tmp_path, defect):
    content, words = DEFECTS[defect]
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    refused(lambda: weights.read(path), path, words)


def test_other_formats(tmp_path):
    save_file(ARRAYS, tmp_path / "file.safetensors")
    np.savez(tmp_path / "file.npz", **ARRAYS)
    run, folder, empty = (tmp_path / name for name in ("run", "folder", "empty"))
    for path in (run, folder, empty):
        path.mkdir()
    save_file(ARRAYS, run / "model.safetensors")
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)
    for path in (tmp_path / "file.safetensors", tmp_path / "file.npz", run, folder):
        read = weights.read(path)
        assert same({name: read[name] for name in ARRAYS}, ARRAYS)
        assert len(read) == len(ARRAYS)
    refused(lambda: weights.read(empty), empty, "neither")
    refused(lambda: weights.read(tmp_path / "no"), tmp_path / "no", "No such file")
    content = (folder / "fc.bias.npy").read_bytes()
    (folder / "fc.bias.npy").write_bytes(content[:-3])
    refused(lambda: weights.read(folder), "fc.bias.npy", "truncated")
    np.save(folder / "fc.bias.npy", np.array([{}]), allow_pickle=True)
    refused(lambda: weights.read(folder), "fc.bias.npy", "pickle")


def test_bfloat16_in_safetensors(tmp_path):
    values = numbers(6).astype(ml_dtypes.bfloat16)
    head = json.dumps({"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
    content = len(head).to_bytes(8, "little") + head + values.tobytes()
    (tmp_path / "file").write_bytes(content)
    assert same(weights.read(tmp_path / "file"), {"a": values.reshape(2, 3)})
    (tmp_path / "file").write_bytes(content[:-1])
    refused(lambda: weights.read(tmp_path / "file"), "truncated")


def test_files_that_torch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    a = torch.arange(24.0).reshape(4, 6)
    tree = {
        "a": a, "t": a.t(), "part": a[1:, 2:], "half": a.half(), "bfloat16": a.bfloat16(),
        "parameter": torch.nn.Parameter(a), "float8": a.to(torch.float8_e4m3fn),
        "uint16": a.to(torch.uint16), "bool": a > 3, "scalar": torch.tensor(7), "none": a[:0],
    }  # fmt: skip
    for new in (True, False):
        torch.save(tree, tmp_path / "file", _use_new_zipfile_serialization=new)
        read = weights.read(tmp_path / "file")
        for name, tensor in tree.items():
            expected = tensor.detach().to(torch.float64).numpy()
            assert np.array_equal(read[name].astype(np.float64), expected), name
        assert read["bfloat16"].dtype == ml_dtypes.bfloat16
        torch.save(torch.nn.Linear(2, 3), tmp_path / "file", _use_new_zipfile_serialization=new)
        refused(lambda: weights.read(tmp_path / "file"), "torch.nn.modules.linear.Linear")


def test_the_real_files(real_data):
    partial = real_data / "weights" / "resnet18_imagenet_partial"
    assert len(weights.read(partial)) == 38
    unfolded = weights.read(partial / "resnet18-5c106cde.first16tensors.npz")
    assert unfolded["conv1.weight"].shape == (64, 3, 7, 7)

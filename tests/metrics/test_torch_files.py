"""Files made by hand, byte for byte as PyTorch lays them out; pickles that try more are refused."""

import collections
import io
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.metrics.features import torch_files
from diffc_jax.metrics.features.torch_files import read_torch_state_dict

MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """Pickled as a reference to a name, whether or not it can be imported here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickled as the call of a global."""

    def __init__(self, function, *args):
        self.function, self.args = function, args


class Stored:
    """Pickled as a persistent reference to a storage."""

    def __init__(self, *pid):
        self.pid = ("storage", *pid)


class Pickler(pickle._Pickler):
    """The pure Python pickler, which can be told to write any reference."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Stored) else None

    def save_reference(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())

    def save_call(self, obj):
        self.save(obj.function)
        self.save(obj.args)
        self.write(pickle.REDUCE)

    dispatch[Global] = save_reference
    dispatch[Call] = save_call


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def pickled(content, protocol=2):
    stream = io.BytesIO()
    Pickler(stream, protocol).dump(content)
    return stream.getvalue()


def tensor(key, type_name, numel, size, strides, offset=0, location="cpu"):
    storage = Stored(Global("torch", type_name), key, location, numel)
    return Call(REBUILD, storage, offset, size, strides, False, collections.OrderedDict())


def in_legacy_storage(*arguments, **options):
    """Before PyTorch 1.6 a reference to a storage has one more entry, for views."""
    made = tensor(*arguments, **options)
    made.args[0].pid += (None,)
    return made


def write_zip(path, content, storages, byteorder=b"little"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled(content))
        archive.writestr("model/byteorder", byteorder)
        for key, array in storages.items():
            archive.writestr(f"model/data/{key}", array.tobytes())
        archive.writestr("model/version", b"3\n")
    return path


def write_legacy(path, content, storages, little_endian=True):
    info = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {}}
    with path.open("wb") as stream:
        for part in (MAGIC, 1001, info, content, list(storages)):
            stream.write(pickled(part))
        for array in storages.values():
            stream.write(array.size.to_bytes(8, "little") + array.tobytes())
    return path


def refusal(path):
    with pytest.raises(InputError) as error:
        read_torch_state_dict(path)
    return str(error.value).replace(str(path), "FILE")


TYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


@pytest.mark.parametrize(
    ("write", "make"), [(write_zip, tensor), (write_legacy, in_legacy_storage)]
)
def test_every_type(tmp_path, write, make):
    assert TYPES.keys() == torch_files._STORAGE_TYPES.keys()
    storages = {
        str(i): np.array([1, 0, 1, 1, 0, 1]).astype(t) for i, t in enumerate(TYPES.values())
    }
    content = {name: make(str(i), name, 6, (2, 3), (3, 1)) for i, name in enumerate(TYPES)}
    read = read_torch_state_dict(write(tmp_path / "a.pth", content, storages))
    assert list(read) == list(TYPES)
    for name, dtype in TYPES.items():
        assert read[name].dtype == dtype
        np.testing.assert_array_equal(read[name].astype(int), [[1, 0, 1], [1, 0, 1]])


@pytest.mark.parametrize(
    ("write", "make"), [(write_zip, tensor), (write_legacy, in_legacy_storage)]
)
def test_views_of_a_shared_storage(tmp_path, write, make):
    values = np.arange(24, dtype=np.float32)
    content = collections.OrderedDict(
        transposed=make("0", "FloatStorage", 24, (3, 2), (1, 3), location="cuda:0"),
        part=make("0", "FloatStorage", 24, (2, 2), (12, 2), offset=5),
        scalar=make("0", "FloatStorage", 24, (), (), offset=23),
        empty=make("0", "FloatStorage", 24, (0, 3), (3, 1)),
        parameter=Call(
            Global("torch._utils", "_rebuild_parameter"),
            make("0", "FloatStorage", 24, (24,), (1,)),
            True,
            collections.OrderedDict(),
        ),
    )
    read = read_torch_state_dict(write(tmp_path / "a.pth", content, {"0": values}))
    np.testing.assert_array_equal(read["transposed"], values[:6].reshape(2, 3).T)
    np.testing.assert_array_equal(read["part"], [[5, 7], [17, 19]])
    assert read["scalar"].shape == ()
    assert read["scalar"] == 23
    assert read["empty"].shape == (0, 3)
    np.testing.assert_array_equal(read["parameter"], values)
    assert all(array.flags.c_contiguous for array in read.values())


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "namedtuple"),
    ],
)
@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_anything_else_is_refused_uncalled(tmp_path, write, module, name):
    marker = tmp_path / "executed"
    content = {"weight": Call(Global(module, name), f"touch {marker}")}
    assert refusal(write(tmp_path / "a.pth", content, {})) == (
        f"FILE: refers to {module}.{name}, which no plain state dict needs; refused without calling it"
    )
    assert not marker.exists()


def test_a_pickle_in_place_of_the_magic_number_is_refused_too(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(pickled(Call(Global("os", "system"), f"touch {tmp_path / 'executed'}")))
    assert refusal(path) == (
        "FILE: refers to os.system, which no plain state dict needs; refused without calling it"
    )
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "target", [REBUILD, Global("torch", "FloatStorage"), Global("collections", "OrderedDict")]
)
def test_a_pickle_cannot_change_what_it_gets(tmp_path, target):
    """BUILD sets attributes of whatever is on the stack."""
    attack = pickled(target)[:-1] + pickled((None, {"itemsize": 1, "__call__": 1}))[2:-1]
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", attack + pickle.BUILD + pickle.STOP)
    before = dict(torch_files._STORAGE_TYPES)
    refusal(path)
    assert before == torch_files._STORAGE_TYPES
    test_views_of_a_shared_storage(tmp_path, write_zip, tensor)


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path):
    for size, strides, offset in [((7,), (1,), 0), ((2, 2), (4, 2), 0), ((2,), (1,), 5)]:
        content = {"w": tensor("0", "FloatStorage", 6, size, strides, offset)}
        path = write_zip(tmp_path / "a.pth", content, {"0": np.zeros(6, np.float32)})
        assert "a tensor reaches beyond its storage" in refusal(path)
    for size, strides, offset in [((2,), (-1,), 3), ((-2,), (1,), 0), ((2, 2), (1,), 0)]:
        content = {"w": tensor("0", "FloatStorage", 6, size, strides, offset)}
        path = write_zip(tmp_path / "a.pth", content, {"0": np.zeros(6, np.float32)})
        assert "malformed tensor" in refusal(path)


@pytest.mark.parametrize(
    ("write", "make"), [(write_zip, tensor), (write_legacy, in_legacy_storage)]
)
@pytest.mark.parametrize(
    ("size", "strides"), [((10**9,), (0,)), ((900, 100), (1, 1)), ((10**6, 10**6), (0, 0))]
)
def test_tensors_do_not_take_more_than_their_file(tmp_path, write, make, size, strides):
    content = {"w": make("0", "FloatStorage", 1000, size, strides)}
    path = write(tmp_path / "a.pth", content, {"0": np.zeros(1000, np.float32)})
    n_bytes = 4 * size[0] * (size[1] if len(size) > 1 else 1)
    assert refusal(path) == (
        f"FILE: describes {n_bytes} bytes of tensors and has {path.stat().st_size} bytes"
    )


def test_tied_weights_count_once(tmp_path):
    tied = {f"w{number}": tensor("0", "FloatStorage", 1000, (1000,), (1,)) for number in range(9)}
    path = write_zip(tmp_path / "a.pth", tied, {"0": np.arange(1000, dtype=np.float32)})
    for array in read_torch_state_dict(path).values():
        np.testing.assert_array_equal(array, np.arange(1000))


def test_compressed_members_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.pth", {}, {"0": np.zeros(10**6, np.float32)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "(model/data.pkl is compressed)" in refusal(path)


@pytest.mark.parametrize(
    ("write", "make"), [(write_zip, tensor), (write_legacy, in_legacy_storage)]
)
def test_cut_short_anywhere(tmp_path, write, make):
    content = {"w": make("0", "FloatStorage", 100, (100,), (1,))}
    whole = write(tmp_path / "a.pth", content, {"0": np.ones(100, np.float32)}).read_bytes()
    path = tmp_path / "cut.pth"
    for length in (*range(0, len(whole) - 1, 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert message.startswith("FILE: is not a PyTorch state dict, or is truncated or damaged (")
        assert message.endswith("); download it again")
        assert "\n" not in message


def test_wrong_lengths_and_byte_orders(tmp_path):
    path = tmp_path / "a.pth"
    values = {"0": np.ones(5, np.float32)}
    content = {"w": tensor("0", "FloatStorage", 6, (6,), (1,))}
    assert "storage 0 has 20 bytes" in refusal(write_zip(path, content, values))
    content = {"w": in_legacy_storage("0", "FloatStorage", 6, (6,), (1,))}
    assert "storage 0 is cut short" in refusal(write_legacy(path, content, values))
    assert "it is big-endian" in refusal(write_zip(path, {}, {}, b"big"))
    assert "it is big-endian" in refusal(write_legacy(path, {}, {}, False))


def test_other_files(tmp_path):
    assert refusal(tmp_path / "none.pth") == "FILE: cannot be read (No such file or directory)"
    path = tmp_path / "a.pth"
    path.write_bytes(pickled({"w": 1}))
    assert refusal(path) == (
        "FILE: is not a PyTorch state dict, or is truncated or damaged "
        "(it starts like no PyTorch file); download it again"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", b"x")
    assert "(no data.pkl in the archive)" in refusal(path)
    assert refusal(write_zip(path, [1], {})) == (
        "FILE: holds a list, not a state dict; save model.state_dict()"
    )
    assert refusal(write_zip(path, {"epoch": 3}, {})) == (
        "FILE: 'epoch' is a int, not a tensor; save model.state_dict() alone"
    )
    wrapped = {"epoch": 3, "state_dict": {}, "ema": {}}
    assert refusal(write_zip(path, wrapped, {})) == (
        "FILE: is wrapped, with dictionaries below 'state_dict', 'ema'; save the state dict of the model"
        " alone"
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_pytorch_itself(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="reading PyTorch's own files needs torch")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(4, 6, generator=generator) * 9).to(dtype)
        for name, dtype in [
            ("double", torch.float64),
            ("half", torch.float16),
            ("brain", torch.bfloat16),
            ("long", torch.int64),
            ("byte", torch.uint8),
            ("bool", torch.bool),
        ]
    }
    weights["transposed"] = weights["double"].T
    weights["part"] = weights["double"][1:3, 2:5:2]
    weights["parameter"] = torch.nn.Parameter(weights["double"])
    weights["norm"] = torch.nn.BatchNorm2d(3).state_dict()["num_batches_tracked"]
    torch.save(weights, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    read = read_torch_state_dict(tmp_path / "a.pth")
    assert read.keys() == weights.keys()
    for name, value in weights.items():
        expected = value.detach()
        if name == "brain":
            assert read[name].dtype == ml_dtypes.bfloat16
            read[name], expected = read[name].astype(np.float32), expected.float()
        assert read[name].dtype == expected.numpy().dtype
        np.testing.assert_array_equal(read[name], expected.numpy())

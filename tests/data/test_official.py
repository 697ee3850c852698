"""ImageNet 64x64 as its authors distribute it: npz files and pickles, never executed."""

import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest

from diffc_jax.data import SourceSpec, open_source
from diffc_jax.data.prepare import prepare
from diffc_jax.errors import InputError, UsageError
from tests.support.image_files import opened, pixels
from tests.support.refusals import fails


def rows(numbers) -> np.ndarray:
    return np.stack([pixels(n).transpose(2, 0, 1).reshape(-1) for n in numbers])


def official_content(numbers) -> dict:
    return {"data": rows(numbers), "labels": list(numbers), "mean": np.zeros(192)}


def dump(path, content, protocol=3):
    path.write_bytes(pickle.dumps(content, protocol))


def python2_pickle(data: np.ndarray) -> bytes:
    """Protocol 2 as Python 2 wrote it: byte strings where Python 3 has text and bytes."""

    def string(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    dtype = b"cnumpy\ndtype\n(" + string(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + string(b"|") + b"NNN" + number(-1) * 2 + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t"
    array += string(b"b") + b"tR(" + number(1) + b"(" + number(len(data)) + number(data.shape[1])
    array += b"t" + dtype + b"\x89" + string(data.tobytes()) + b"tb"
    return b"\x80\x02}" + string(b"data") + array + b"s."


@pytest.mark.parametrize("source", ["npz", "pickle"])
def test_official_folder(source, tmp_path):
    for name, numbers in (("train_data_batch_2", (3, 4)), ("train_data_batch_10", (5,))):
        if source == "npz":
            np.savez(tmp_path / f"{name}.npz", **official_content(numbers))
        else:
            dump(tmp_path / name, official_content(numbers))
    if source == "npz":
        np.savez_compressed(tmp_path / "val_data.npz", **official_content((6, 7)))
    else:
        (tmp_path / "val_data").write_bytes(python2_pickle(rows((6, 7))))
    train = opened(source=source, path=str(tmp_path))
    assert (train.name, len(train)) == ("imagenet8-chrabaszcz", 3)
    for index, number in enumerate((3, 4, 5)):
        np.testing.assert_array_equal(train[index], pixels(number))
    validation = opened(source=source, path=str(tmp_path), split="validation")
    np.testing.assert_array_equal(validation[1], pixels(7))
    fails(
        UsageError,
        "split: unknown 'test' for a folder of official files; choose train or validation",
        lambda: opened(source=source, path=str(tmp_path), split="test"),
    )


@pytest.mark.parametrize(
    ("size", "resize", "message"),
    [
        (4, "refuse", "is 8x8, not 4x4; set resize=squash or resize=crop to scale it"),
        (16, "squash", "is 8x8, smaller than image_size=16; images are never enlarged"),
    ],
)
def test_official_images_of_another_size_are_refused(tmp_path, size, resize, message):
    path = tmp_path / "f.npz"
    np.savez(path, **official_content((1,)))
    spec = SourceSpec(source="npz", path=str(path), image_size=size, resize=resize)
    with pytest.raises(InputError, match=f"{path}, row 0: {message}"):
        open_source(spec)


def test_official_files_of_different_size_are_not_mixed(tmp_path):
    np.savez(tmp_path / "train_data_batch_1.npz", data=rows((1,)))
    np.savez(tmp_path / "train_data_batch_2.npz", data=np.zeros((1, 48), np.uint8))
    fails(
        InputError,
        f"{tmp_path}: mixes images of sides [4, 8]; open them separately",
        lambda: opened(source="npz", path=str(tmp_path)),
    )


@pytest.mark.parametrize("source", ["npz", "pickle"])
def test_large_official_files_are_mapped_not_loaded(source, tmp_path):
    path = tmp_path / "train"
    numbers = range(1500)  # pixels beyond the size of what pickles frame
    if source == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **official_content(numbers))
    else:
        dump(path, official_content(numbers), protocol=4)
    source = opened(source=source, path=str(path))
    np.testing.assert_array_equal(source[1499], pixels(1499))
    mapped = source._store._rows[0]._rows
    assert isinstance(mapped, np.memmap)
    assert mapped.filename == path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels", [[1, 2], list(np.arange(2)), np.arange(2), [np.float32(1)]])
def test_pickles_of_every_protocol(tmp_path, protocol, labels):
    path = tmp_path / "val_data"
    content = {"data": rows((1, 2)), "labels": labels, "mean": np.zeros(192), "note": b""}
    dump(path, content, protocol)
    source = opened(source="pickle", path=str(path))
    np.testing.assert_array_equal([source[0], source[1]], [pixels(1), pixels(2)])


@pytest.mark.parametrize("protocol", [3, 5])
def test_rows_are_not_mistaken_for_other_data_of_their_size(tmp_path, protocol):
    path = tmp_path / "val_data"
    numbers = range(1500)
    data = rows(numbers)
    dump(
        path, {"x": np.zeros(data.size // 8), "data": data, "y": np.zeros(data.size // 8)}, protocol
    )
    source = opened(source="pickle", path=str(path))
    np.testing.assert_array_equal(source[1499], pixels(1499))


def array_of_shape(shape):
    """A pickle whose array has a shape that NumPy would not write."""
    return pickle.dumps({"data": rows((1,))}, 3).replace(
        pickle.dumps((1, 192), 3)[2:-3], pickle.dumps(shape, 3)[2:-1].removesuffix(b"q\x00")
    )


@pytest.mark.parametrize("shape", [None, 192.0, (-1, -192), (1.0, 192.0), (2, 192)])
def test_impossible_shapes_are_named(tmp_path, shape):
    path = tmp_path / "val_data"
    path.write_bytes(array_of_shape(shape))
    fails(
        InputError,
        f"{path}: data has shape {shape} but 192 bytes",
        lambda: opened(source="pickle", path=str(path)),
    )


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("train_data_batch_1", "train_data_batch_10"), "imagenet8-chrabaszcz"),
        (("val_data",), "imagenet8-chrabaszcz"),
        (("cifar",), "cifar"),
        (("cifar_1", "cifar_2"), "cifar"),
        (("train_data_batch_1", "mine"), "train_data_batch+mine"),
        (("train_data_mine",), "train_data_mine"),
    ],
)
@pytest.mark.parametrize("source", ["npz", "pickle"])
def test_only_official_names_name_the_data_set(tmp_path, source, files, name):
    paths = []
    for number, file in enumerate(files):
        paths.append(tmp_path / (f"{file}.npz" if source == "npz" else file))
        if source == "npz":
            np.savez(paths[-1], data=rows((number,)))
        else:
            dump(paths[-1], {"data": rows((number,))})
    path = ",".join(map(str, paths))
    assert opened(source=source, path=path).name == name
    assert opened(source=source, path=path, name="own").name == "own"
    manifest = prepare(
        SourceSpec(source=source, path=path, name="v1", image_size=8), tmp_path / "out"
    )
    official = name == "imagenet8-chrabaszcz"
    assert manifest["resampling"].startswith("official files") == official


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_pickles_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train_data_batch_1"
    dump(path, {"data": rows((1,)), "x": Malicious()})
    fails(
        InputError,
        f"{path}: is not a pickled ImageNet file (it asks to run {os.system.__module__}.system, "
        "which image files have no need of)",
        lambda: opened(source="pickle", path=str(path)),
    )
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("call", "refused"),
    [
        (b"c_codecs\nencode\n(X\x01\0\0\0aX\x05\0\0\0rot13tR", "it encodes text as 'rot13'"),
        (b"c_codecs\ndecode\n(X\x01\0\0\0aX\x05\0\0\0rot13tR", "it asks to run _codecs.decode"),
        (b"c__builtin__\neval\n(X\x01\0\0\x001tR", "it asks to run __builtin__.eval"),
        (
            b"cnumpy._core.multiarray\nfromfile\n(tR",
            "it asks to run numpy._core.multiarray.fromfile",
        ),
    ],
)
def test_only_what_arrays_need_is_called(tmp_path, call, refused):
    path = tmp_path / "val_data"
    path.write_bytes(b"\x80\x02" + call + b".")
    with pytest.raises(InputError, match=re.escape(refused)):
        opened(source="pickle", path=str(path))


def test_a_member_that_is_larger_than_its_array_is_not_unpacked(tmp_path):
    path = tmp_path / "f.npz"
    np.savez_compressed(path, data=rows((1,)))
    with zipfile.ZipFile(path) as archive:
        member = archive.read("data.npy")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", member + bytes(10**6))
    fails(
        InputError,
        f"{path}: is not a whole npz file (shape (1, 192) of uint8 needs 192 bytes and has 1000192)",
        lambda: opened(source="npz", path=str(path)),
    )


def test_wrong_official_files_are_named(tmp_path):
    path = tmp_path / "f.npz"

    def message(**arrays):
        np.savez(path, **arrays)
        with pytest.raises(InputError) as caught:
            opened(source="npz", path=str(path))
        return str(caught.value)

    assert message(x=rows((1,))) == (
        f"{path}: has no member 'data'; is it an official ImageNet file?"
    )
    assert message(data=rows((1,)).astype(float)) == (
        f"{path}: data is float64, not uint8 in C order"
    )
    assert message(data=np.asfortranarray(rows((1, 2)))) == (
        f"{path}: data is uint8, not uint8 in C order"
    )
    assert message(data=np.zeros((2, 100), np.uint8)) == (
        f"{path}: data has shape (2, 100), not (images, 3*side*side)"
    )
    np.savez(path, data=rows((1, 2)))
    path.write_bytes(path.read_bytes()[:-60])
    fails(
        InputError,
        f"{path}: is not a whole npz file (File is not a zip file)",
        lambda: opened(source="npz", path=str(path)),
    )
    for change, flaw in (
        (
            (b"(1, 192), }", b"(2, 192), }"),
            "shape (2, 192) of uint8 needs 384 bytes and has 192",
        ),
        ((b"(1, 192), }", b"(-1,192), }"), "shape (-1, 192)"),
        ((b"'|u1'", b"'|O' "), "Object arrays cannot be read"),
    ):
        buffer = io.BytesIO()
        np.save(buffer, rows((1,)))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.npy", buffer.getvalue().replace(*change))
        fails(
            InputError,
            f"{path}: is not a whole npz file ({flaw})",
            lambda: opened(source="npz", path=str(path)),
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("data.npy", buffer.getvalue())
    fails(
        InputError,
        f"{path}: is not a whole npz file (data.npy is compressed or encrypted in a way that is not read)",
        lambda: opened(source="npz", path=str(path)),
    )
    for content, text in (
        ({"x": 1}, "has no array 'data'; is it an official ImageNet file?"),
        ({"data": rows((1,)).astype(float)}, "data is not uint8 in C order"),
        ({"data": np.asfortranarray(rows((1, 2)))}, "data is not uint8 in C order"),
    ):
        dump(path, content)
        fails(InputError, f"{path}: {text}", lambda: opened(source="pickle", path=str(path)))
    # Shapes that are no shapes, or not those of the data.
    whole = pickle.dumps({"data": rows((1,))}, 2)
    for shape in (
        b"N",
        b"K\x01G" + b"\0" * 8 + b"\x86",
        b"K\x01J\xff\xff\xff\xff\x86",
        b"K\x02K\xc0\x86",
    ):
        damaged = whole.replace(b"K\x01K\xc0\x86", shape)
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{path}: data has shape .* but 192 bytes$"):
            opened(source="pickle", path=str(path))
    path.write_bytes(pickle.dumps(official_content((1, 2)), 3)[:300])
    with pytest.raises(InputError, match=f"{path}: is not a pickled ImageNet file"):
        opened(source="pickle", path=str(path))

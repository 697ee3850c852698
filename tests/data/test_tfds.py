"""Data sets of TensorFlow Datasets, read without TensorFlow."""

import dataclasses
import io
import resource
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from diffc_jax.data import SourceSpec, open_source, tfds_store
from diffc_jax.data.files import allow_open_files
from diffc_jax.errors import InputError, UsageError

PREPARE = (
    "prepare it once where TensorFlow is installed, with "
    "`tfds.builder({name!r}, data_dir=DIR, file_format='array_record').download_and_prepare()`, "
    "then set path=DIR"
)


def pixels(number: int) -> np.ndarray:
    return np.full((64, 64, 3), number, np.uint8)


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Five images; TFDS writes ArrayRecord without TensorFlow if the images come encoded."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {"label": tfds.features.ClassLabel(num_classes=2)}
        features["picture"] = tfds.features.Image(shape=(64, 64, 3))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(range(5)), "test": self._generate_examples([9])}

    def _generate_examples(self, numbers):
        for number in numbers:
            buffer = io.BytesIO()
            Image.fromarray(pixels(number)).save(buffer, "PNG")
            buffer.seek(0)
            yield number, {"picture": buffer, "label": number % 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    builder = TinyShapes(data_dir=path, file_format="array_record")
    builder.download_and_prepare()
    return path


def fails(error, message, **fields):
    with pytest.raises(error) as caught:
        open_source(SourceSpec(source="tfds", **fields))
    assert str(caught.value) == message


@pytest.mark.parametrize("by", ["data_dir", "directory"])
def test_reads_a_prepared_data_set_without_tensorflow(data_dir, by):
    if by == "data_dir":
        spec = SourceSpec(source="tfds", name="tiny_shapes", path=str(data_dir))
    else:
        spec = SourceSpec(source="tfds", path=str(data_dir / "tiny_shapes" / "1.2.0"))
    source = open_source(spec)
    assert source.name == ("tiny_shapes" if by == "data_dir" else "tiny_shapes/1.2.0")
    values = {int(source[index][0, 0, 0]) for index in range(len(source))}
    assert values == {0, 1, 2, 3, 4}
    assert source[0].shape == (64, 64, 3)
    assert "tensorflow" not in sys.modules


def test_split_and_size(data_dir):
    fields = {"name": "tiny_shapes", "path": str(data_dir)}
    source = open_source(
        SourceSpec(source="tfds", split="test", resize="squash", image_size=8, **fields)
    )
    assert (source.name, len(source), source[0].shape) == ("tiny_shapes-squash8", 1, (8, 8, 3))
    fails(
        UsageError,
        "split: unknown 'validation' for tiny_shapes; choose one of test, train",
        split="validation",
        **fields,
    )
    with pytest.raises(InputError) as caught:
        open_source(SourceSpec(source="tfds", image_size=32, **fields))
    assert str(caught.value) == (
        "tiny_shapes, train example 0: is 64x64, not 32x32; "
        "set resize=squash or resize=crop to scale it, or change image_size"
    )


def test_bad_names(tmp_path):
    fails(UsageError, "name: is empty; source=tfds needs a builder such as imagenet_resized/64x64")
    fails(
        UsageError,
        f"name: 'no_such_set' is not a data set known to TFDS or prepared in {tmp_path}",
        name="no_such_set",
        path=str(tmp_path),
    )
    with pytest.raises(UsageError) as caught:
        open_source(SourceSpec(source="tfds", name="imagenet_resized/65x65", path=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith("name: 'imagenet_resized/65x65' cannot be opened (")
    assert "64x64" in message
    assert "\n" not in message


def test_the_name_has_to_be_that_of_a_prepared_folder(data_dir):
    path = str(data_dir / "tiny_shapes" / "1.2.0")
    for name in ("tiny_shapes", "tiny_shapes/1.2.0", "tiny_shapes:1.2.0"):
        assert open_source(SourceSpec(source="tfds", name=name, path=path)).name == name
    for name in ("tiny", "cifar10", "tiny_shapes/1.2"):
        fails(
            UsageError,
            f"name: {name!r} is not what {path} holds, which is tiny_shapes/1.2.0; name that or"
            " nothing",
            name=name,
            path=path,
        )


def test_the_limit_of_open_files_has_to_allow_all_shards(data_dir, monkeypatch):
    asked = []
    monkeypatch.setattr(tfds_store, "allow_open_files", lambda *shards: asked.append(shards))
    open_source(SourceSpec(source="tfds", name="tiny_shapes", path=str(data_dir)))
    assert asked == [(1, "tiny_shapes")]


def test_limit_of_open_files(monkeypatch):
    limits = [(300, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    allow_open_files(44, "set")
    assert limits == [(300, 4096)]
    allow_open_files(1024, "set")
    assert limits == [(300, 4096), (1280, 4096)]
    with pytest.raises(InputError) as caught:
        allow_open_files(5000, "set")
    assert str(caught.value) == (
        "set: 5000 files have to be open at once, and `ulimit -H -n` is 4096"
    )


def test_missing_shards_are_one_line(tmp_path, data_dir):
    folder = tmp_path / "tiny_shapes" / "1.2.0"
    shutil.copytree(data_dir / "tiny_shapes" / "1.2.0", folder)
    (shard,) = folder.glob("*train*")
    shard.unlink()
    tiny = {"name": "tiny_shapes", "path": str(tmp_path)}
    for skip in (False, True):  # no example is corrupt
        fails(InputError, f"{shard}: is missing; prepare it again", skip_corrupt=skip, **tiny)
    shard.write_bytes((next(folder.glob("*test*"))).read_bytes())
    text = f"{shard}: holds 1 readable examples, dataset_info.json says 5; prepare it again"
    fails(InputError, text, **tiny)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"splits": 3, "type": 3}', "[" * 9999])
def test_damaged_metadata_are_one_line(tmp_path, data_dir, file, content):
    folder = tmp_path / "tiny_shapes" / "1.2.0"
    shutil.copytree(data_dir / "tiny_shapes" / "1.2.0", folder)
    (folder / file).write_text(content)
    cases = [(InputError, folder, f"{folder}: is not a whole data set of TFDS (")]
    if file == "dataset_info.json":  # the class of the builder has its features
        cases.append((UsageError, tmp_path, "name: 'tiny_shapes' cannot be opened ("))
    for error, path, begin in cases:
        with pytest.raises(error) as caught:
            open_source(SourceSpec(source="tfds", name="tiny_shapes", path=str(path)))
        assert str(caught.value).startswith(begin)


def test_unprepared_or_prepared_in_a_sequential_format(tmp_path, data_dir):
    name = "imagenet_resized/64x64"
    fails(
        InputError,
        f"{name}: is not prepared in {tmp_path}/imagenet_resized/64x64/0.1.0; "
        + PREPARE.format(name=name),
        name=name,
        path=str(tmp_path),
    )
    copy = tmp_path / "tiny_shapes" / "1.2.0"
    copy.mkdir(parents=True)
    for file in (data_dir / "tiny_shapes" / "1.2.0").iterdir():
        content = file.read_bytes().replace(b"array_record", b"tfrecord")
        (copy / file.name.replace("array_record", "tfrecord")).write_bytes(content)
    fails(
        InputError,
        "tiny_shapes: is prepared as tfrecord, which has no random access; "
        + PREPARE.format(name="tiny_shapes"),
        name="tiny_shapes",
        path=str(tmp_path),
    )


def test_damaged_examples_are_named_or_left_out_on_request(tmp_path, data_dir):
    folder = tmp_path / "tiny_shapes" / "1.2.0"
    shutil.copytree(data_dir / "tiny_shapes" / "1.2.0", folder)
    (shard,) = folder.glob("*train*")
    content = bytearray(shard.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 255
    shard.write_bytes(content)
    spec = SourceSpec(source="tfds", name="tiny_shapes", path=str(tmp_path))
    with pytest.raises(InputError, match=r"example 0: cannot be read .* set skip_corrupt=True"):
        tfds_store.TfdsStore(spec).read(0)
    assert len(open_source(dataclasses.replace(spec, skip_corrupt=True))) == 4

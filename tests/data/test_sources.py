"""Sources of images: photographs, folders, tars and the official files, and what is refused."""

import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from diffc_jax.config.sources import SOURCES
from diffc_jax.data import SourceSpec, open_source, sources
from diffc_jax.errors import InputError, UsageError
from tests.support.image_files import encoded, opened, pixels, write_tar
from tests.support.refusals import fails

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# The specification


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "source",
            "foo",
            "source: unknown 'foo'; choose one of "
            "photos, tfds, npz, pickle, folder, tar, array_record, packed",
        ),
        ("resize", "zoom", "resize: unknown 'zoom'; choose one of refuse, squash, crop"),
        ("resize_filter", "lanczos", "resize_filter: unknown 'lanczos'; choose one of box, area"),
        ("non_rgb", "keep", "non_rgb: unknown 'keep'; choose one of refuse, convert"),
        ("image_size", 0, "image_size: must be positive, not 0"),
        ("max_images", -1, "max_images: must be 0 (all) or positive, not -1"),
        ("split", "test", "split: unknown 'test' for photos; choose train or eval"),
        (
            "image_size",
            1024,
            "image_size: 1024 is larger than the built-in photographs; use 256 or less",
        ),
    ],
)
def test_bad_field_is_named(field, value, message):
    fails(UsageError, message, lambda: open_source(SourceSpec(**{field: value})))


def test_every_source_has_a_store():
    assert tuple(sources._STORES) == SOURCES


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("folder", "a folder"),
        *((source, "a file, a folder or a glob") for source in ("tar", "npz", "pickle")),
        *((source, "a prepared folder") for source in ("array_record", "packed")),
    ],
)
def test_missing_path_is_named(source, needed, tmp_path):
    fails(
        UsageError,
        f"path: is empty; source={source} needs {needed}",
        lambda: opened(source=source),
    )
    with pytest.raises(InputError, match=str(tmp_path / "none")):
        opened(source=source, path=str(tmp_path / "none"))


# Built-in photographs


def test_photos_are_many_deterministic_and_split_by_photograph():
    train, validation = (open_source(SourceSpec(split=split)) for split in ("train", "eval"))
    assert (train.name, train.split, validation.split) == ("photos", "train", "eval")
    assert (len(train), len(validation)) == (7563, 136)
    assert train[5].shape == (64, 64, 3)
    assert train[5].dtype == np.uint8
    np.testing.assert_array_equal(validation[7], open_source(SourceSpec(split="eval"))[7])

    images = np.stack([validation[i] for i in range(len(validation))]).astype(np.float32)
    flat = images.reshape(len(images), -1)[:, ::8]
    distances = np.square(flat[:, None] - flat[None]).mean(-1)
    assert distances[~np.eye(len(flat), dtype=bool)].min() > 100, "near-duplicates"


def test_first_photo_crops_are_spread_over_photographs():
    store = open_source(SourceSpec(split="eval", max_images=16))
    labels = [store._store.label(index) for index in range(len(store))]
    assert {label.split()[0] for label in labels} == {"chelsea.png", "china.jpg"}
    assert len({label.split(",")[0] for label in labels}) >= 6


def test_photos_need_neither_package_imported_nor_tensorflow():
    code = (
        "import sys; from diffc_jax.data import *; open_source(SourceSpec());"
        "heavy = {'skimage', 'sklearn', 'tensorflow', 'tensorflow_datasets'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


# Folders and tar archives


def test_folder_is_recursive_and_sorted(tmp_path):
    images = {"b/2.png": pixels(2), "a/1.webp": pixels(1), "c.PNG": pixels(3)}
    for name, image in images.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if name.endswith("webp") else {}
        path.write_bytes(encoded(image, path.suffix[1:].upper(), **options))
    (tmp_path / "set" / "notes.txt").write_text("not an image")
    (tmp_path / "set" / ".hidden.png").write_text("not an image")
    source = opened(source="folder", path=str(tmp_path / "set"))
    assert (source.name, len(source)) == ("set", 3)
    for index, name in enumerate(["a/1.webp", "b/2.png", "c.PNG"]):
        np.testing.assert_array_equal(source[index], images[name])
    for count in (2, 99):
        some = opened(source="folder", path=str(tmp_path / "set"), max_images=count)
        assert len(some) == min(count, 3)
    for index in (3, -1):
        with pytest.raises(IndexError, match=f"^image {index} of 3$"):
            source[index]


def test_empty_folder_and_tar(tmp_path):
    kinds = (
        ".apng, .avif, .avifs, .bmp, .gif, .j2c, .j2k, .jfif, .jp2, .jpc, .jpe, .jpeg, .jpf, .jpg, .jpx,"
        " .mpo, .pbm, .pfm, .pgm, .png, .pnm, .ppm, .tif, .tiff, .webp"
    )
    (tmp_path / "empty").mkdir()
    tar = write_tar(tmp_path / "empty.tar", {"readme.txt": b"x"})
    for source, path in (("folder", tmp_path / "empty"), ("tar", tar)):
        fails(
            InputError,
            f"{path}: holds no images ({kinds})",
            lambda source=source, path=path: opened(source=source, path=str(path)),
        )
    fails(
        InputError,
        f"{tmp_path / 'empty'}: holds no tar files",
        lambda: opened(source="tar", path=str(tmp_path / "empty")),
    )


def test_tar_shards_in_natural_order(tmp_path):
    for shard in (2, 10, 1):
        write_tar(
            tmp_path / f"set_{shard}.tar",
            {f"n{shard}/{i}.png": encoded(pixels(10 * shard + i)) for i in range(3)},
        )
    expected = [10 * shard + i for shard in (1, 2, 10) for i in range(3)]
    listed = ",".join(str(tmp_path / f"set_{shard}.tar") for shard in (1, 2, 10))
    for path in (str(tmp_path), str(tmp_path / "set_*.tar"), listed):
        source = opened(source="tar", path=path)
        assert source.name == "set"
        assert len(source) == 9
        for index, number in enumerate(expected):
            np.testing.assert_array_equal(source[index], pixels(number))


def test_damaged_tars_are_named(tmp_path):
    whole = write_tar(
        tmp_path / "whole.tar", {f"{i}.png": encoded(pixels(i)) for i in range(4)}
    ).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as archive:
        last = archive.getmembers()[-1]
    path = tmp_path / "bad.tar"

    def message(content):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            opened(source="tar", path=str(path))
        return str(caught.value)

    no_mark = f"{path}: is truncated: the end mark of the archive is missing"
    assert message(whole[: last.offset]) == no_mark
    assert message(whole[: last.offset + 100]) == no_mark
    assert message(whole[: last.offset_data + 100]).startswith(f"{path}: is truncated")
    assert message(whole + whole) == (
        f"{path}: goes on after its end mark, like archives joined with cat; "
        "split it or pack the images anew"
    )
    assert message(b"junk" * 1000).startswith(f"{path}: is truncated or not a plain tar file (")


# Decoding


def one(tmp_path, content: bytes, name="one.png", **fields):
    tar = write_tar(tmp_path / "one.tar", {"0.png": encoded(pixels(0)), name: content})
    return tar, lambda: opened(source="tar", path=str(tar), **fields)[1]


def test_corrupt_image_is_named_or_left_out_on_request(tmp_path, caplog):
    tar, load = one(tmp_path, encoded(pixels(1))[:80], "sub/broken.png")
    with pytest.raises(InputError) as caught:
        load()
    assert str(caught.value).startswith(f"{tar}, member sub/broken.png: cannot be decoded (")
    assert str(caught.value).endswith("); set skip_corrupt=True to leave it out")
    with caplog.at_level("WARNING", logger="absl"):
        source = opened(source="tar", path=str(tar), skip_corrupt=True)
    assert len(source) == 1
    assert source.skipped == (f"{tar}, member sub/broken.png",)
    assert "broken.png: cannot be decoded" in caplog.text
    assert "one: 1 of 2 images left out" in caplog.text
    first = write_tar(tmp_path / "first.tar", {"0.png": b"junk", "1.png": encoded(pixels(1))})
    kept = opened(source="tar", path=str(first), skip_corrupt=True)
    np.testing.assert_array_equal(kept[0], pixels(1))
    assert kept.label(0) == f"{first}, member 1.png"

    only = write_tar(tmp_path / "only.tar", {"x.png": b"junk"})
    fails(
        InputError,
        "only: has no readable image in split 'train'",
        lambda: opened(source="tar", path=str(only), skip_corrupt=True),
    )
    fails(
        InputError,
        f"{only}, member x.png: cannot be decoded (unknown image format or kind of pixels); "
        "set skip_corrupt=True to leave it out",
        lambda: opened(source="tar", path=str(only)),
    )


def test_sizes(tmp_path):
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 16:24] = 200
    tar, refuse = one(tmp_path, encoded(wide))
    fails(
        InputError,
        f"{tar}, member one.png: is 32x16, not 8x8; "
        "set resize=squash or resize=crop to scale it, or change image_size",
        refuse,
    )
    squashed = opened(source="tar", path=str(tar), resize="squash")
    assert squashed.name == "one-squash8"
    np.testing.assert_array_equal(squashed[1][0, :, 0], [0, 0, 0, 0, 200, 200, 0, 0])
    cropped = opened(source="tar", path=str(tar), resize="crop", name="mine")
    assert cropped.name == "mine"
    np.testing.assert_array_equal(cropped[1][0, :, 0], [0, 0, 0, 0, 200, 200, 200, 200])
    tar, small = one(tmp_path, encoded(pixels(1, side=7)), resize="squash")
    fails(
        InputError,
        f"{tar}, member one.png: is 7x7, smaller than image_size=8; images are never enlarged",
        small,
    )

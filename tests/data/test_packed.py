"""Reading packed images: one by one, all at once, and what is wrong with them."""

import hashlib
import json

import numpy as np
import pytest

from diffc_jax.data import open_source, packed
from diffc_jax.data.manifest import verify_hashes
from diffc_jax.data.prepare import prepare
from diffc_jax.data.spec import PixelStore
from diffc_jax.data.stored_images import StoredImages
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.subsets import select_images
from tests.support.packed_images import (
    COUNT,
    IMAGES,
    SIDE,
    npy,
    spec,
    write_broken_folder,
)
from tests.support.refusals import fails


def read(path, **fields) -> StoredImages:
    return open_source(spec(path, source="packed", **{"name": "", **fields}))


def mapped_file(array: np.ndarray) -> str | None:
    """The file that an array is a view of."""
    while not isinstance(array, np.memmap) and array is not None:
        array = array.base
    return None if array is None else str(array.filename)


def test_images_and_labels(whole):
    source = read(whole)
    assert (source.name, source.split, len(source)) == ("v1", "train", COUNT)
    for index in range(COUNT):
        np.testing.assert_array_equal(source[index], IMAGES[index])
    file = whole / "train.npy"
    assert source.label(99) == f"{file}, row 99 (hq64_0.tar, member sub/99.png)"
    assert source.label(100) == f"{file}, row 100 (ref_0.tar, member sub/100.png)"
    assert source.label(299) == rf"{file}, row 299 (ref_0.tar, member new\nline \udc80.png)"


def test_names_are_found_across_chunks(whole, monkeypatch):
    monkeypatch.setattr(packed, "_CHUNK", 100)
    source = read(whole)
    names = (whole / "train.names.txt").read_text().splitlines()
    for index, name in enumerate(names):
        assert source.label(index).endswith(f"row {index} ({name})")


def test_a_read_image_is_no_view_of_the_file(whole):
    image = read(whole)[3]
    assert mapped_file(image) is None
    image[:] = 0
    np.testing.assert_array_equal(read(whole)[3], IMAGES[3])


def test_numpy_alone_opens_the_pixels(whole):
    np.testing.assert_array_equal(np.load(whole / "train.npy", mmap_mode="r"), IMAGES)


def test_subsets_outlive_packing(whole):
    selection = select_images(read(whole), subsets=("ref", "hq64"))
    assert dict(selection.subsets) == {"ref": range(200), "hq64": range(200, 300)}
    np.testing.assert_array_equal(selection[200], IMAGES[0])


# Reading many at once


def test_as_array_of_packed_images_is_the_file(whole):
    source = read(whole)
    images = source.as_array()
    assert mapped_file(images) == str(whole / "train.npy")
    np.testing.assert_array_equal(images, [source[index] for index in range(COUNT)])
    assert not images.flags.writeable
    assert type(images) is np.ndarray
    first = read(whole, max_images=7)
    assert (len(first), first.skipped) == (7, ())
    np.testing.assert_array_equal(first.as_array(), IMAGES[:7])
    assert mapped_file(first.as_array()) == str(whole / "train.npy")


def test_images_are_compared_with_their_digests_group_by_group(whole, monkeypatch):
    monkeypatch.setattr(packed, "_CHECKED_AT_ONCE", 7)
    np.testing.assert_array_equal(read(whole).as_array(), IMAGES)


def test_as_array_of_other_images_is_decoded(whole, tars, tmp_path, caplog):
    source = open_source(spec(tars, max_images=COUNT - 1))
    with caplog.at_level("INFO", logger="absl"):
        images = source.as_array()
    assert "decode v1: 299/299 images (100 %)" in caplog.text
    assert (images.dtype, images.shape) == (np.uint8, (COUNT - 1, SIDE, SIDE, 3))
    np.testing.assert_array_equal(images, IMAGES[:-1])

    scaled = read(whole, image_size=4, resize="squash")
    images = scaled.as_array()
    assert images.shape == (COUNT, 4, 4, 3)
    np.testing.assert_array_equal(images, [scaled[index] for index in range(COUNT)])

    broken = write_broken_folder(tmp_path / "in")
    with pytest.raises(InputError, match=r"1\.png: cannot be decoded"):
        open_source(spec(broken, source="folder")).as_array()
    kept = open_source(spec(broken, source="folder", skip_corrupt=True))
    np.testing.assert_array_equal(kept.as_array(), IMAGES[:2])


def test_several_folders_are_one_source(whole, tars, tmp_path):
    more = tmp_path / "more"
    prepare(spec(tars / "hq64_0.tar", name="v2"), more, layout="packed")
    source = read(f"{whole},{more / 'manifest.json'}")
    expected = np.concatenate([IMAGES, IMAGES[:100]])
    assert (source.name, len(source)) == ("v1+v2", 400)
    for index in (0, 299, 300, 399):
        np.testing.assert_array_equal(source[index], expected[index])
    assert source.label(300) == f"{more / 'train.npy'}, row 0 (hq64_0.tar, member sub/0.png)"
    np.testing.assert_array_equal(source.as_array(), expected)
    np.testing.assert_array_equal(
        read(f"{whole},{more}", max_images=301).as_array(), expected[:301]
    )

    file = more / "train.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    damaged = read(f"{whole},{more}")
    with pytest.raises(InputError, match=rf"^{file}, row 99 \(hq64_0"):
        damaged[399]
    file.write_bytes(content)

    store = source._store
    assert isinstance(store, PixelStore)
    for start, stop in ((0, 0), (5, 9), (299, 301), (300, 400), (300, 300), (400, 400)):
        np.testing.assert_array_equal(store.rows(start, stop), expected[start:stop])
    assert mapped_file(store.rows(300, 400)) == str(more / "train.npy")
    for start, stop in ((-1, 3), (3, 2), (0, 401)):
        fails(
            IndexError,
            f"images {start} to {stop} of 400",
            lambda start=start, stop=stop: store.rows(start, stop),
        )


# Wrong input


def rewritten(output, content, name="train.npy", key="shards"):
    """Changes a file and what the manifest says of its size and its hash."""
    (output / name).write_bytes(content)
    manifest = json.loads((output / "manifest.json").read_text())
    entry = manifest[key][0] if key == "shards" else manifest[key]
    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (output / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["train.npy", "train.names.txt"])
def test_missing_and_cut_files_are_named(output, name):
    file = output / name
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    fails(
        InputError,
        f"{file}: has {len(content) - 100} bytes, manifest.json says {len(content)}; "
        "copy or prepare it again",
        lambda: read(output),
    )
    file.unlink()
    missing = f"{file}: is missing, but manifest.json lists it"
    fails(InputError, missing, lambda: read(output))
    fails(InputError, missing, lambda: verify_hashes(output))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (IMAGES.astype(np.float32), "float32 (300, 8, 8, 3) in C order"),
        (IMAGES[:299], "uint8 (299, 8, 8, 3) in C order"),
        (IMAGES.transpose(0, 3, 1, 2).copy(), "uint8 (300, 3, 8, 8) in C order"),
        (np.asfortranarray(IMAGES), "uint8 (300, 8, 8, 3) in Fortran order"),
    ],
)
def test_other_arrays_are_refused(output, images, found):
    rewritten(output, npy(images))
    fails(
        InputError,
        f"{output / 'train.npy'}: is {found}, not uint8 (300, 8, 8, 3) in C order; "
        "prepare it again",
        lambda: read(output),
    )


def test_damaged_headers_and_names_are_named(output):
    file, content = output / "train.npy", (output / "train.npy").read_bytes()
    for damaged, reason in (
        (b"junk" * 100, "the magic string is not correct"),
        (content[:-1], "mmap length is greater than file size"),
        (npy(np.array([{}, {}])), "Array can't be memory-mapped: Python objects in dtype"),
    ):
        rewritten(output, damaged)
        with pytest.raises(InputError) as caught:
            read(output)
        assert str(caught.value).startswith(f"{file}: is not a NumPy file of pixels ({reason}")
        assert "\n" not in str(caught.value)
    rewritten(output, content)
    rewritten(output, b"one\ntwo\n", "train.names.txt", "names")
    fails(
        InputError,
        f"{output / 'train.names.txt'}: has 2 lines, manifest.json says 300 images; "
        "prepare it again",
        lambda: read(output),
    )
    rewritten(output, b"", "train.names.txt", "names")
    with pytest.raises(InputError, match=r"train\.names\.txt: cannot be read \("):
        read(output)


def test_a_changed_pixel_is_found_where_it_is_read(output, caplog):
    file = output / "train.npy"
    content = file.read_bytes()
    place = len(content) - 1 - 5 * SIDE * SIDE * 3  # the last value of image 294
    file.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    source = read(output)
    np.testing.assert_array_equal(source[293], IMAGES[293])
    message = (
        f"{file}, row 294 (ref_0.tar, member sub/294.png): is damaged (its contents do not fit their digest);"
        " copy or prepare the file again"
    )
    fails(InputError, message, lambda: source[294])
    fails(InputError, message, source.as_array)
    # Folders of older versions have no digests; the manifest says that somebody changed it.
    manifest = json.loads((output / "manifest.json").read_text())
    del manifest["digests"]
    (output / "manifest.json").write_text(json.dumps(manifest))
    assert len(read(output).as_array()) == COUNT
    assert "manifest.json: was edited or is damaged; it is not as it was written" in caplog.text
    del manifest["digest"]
    (output / "manifest.json").write_text(json.dumps(manifest))
    caplog.clear()
    read(output)
    assert not caplog.text


def test_changed_bytes_are_found_by_their_hash(output):
    verify_hashes(output)
    for name in ("train.npy", "train.names.txt", "train.digests.npy"):
        file = output / name
        content = file.read_bytes()
        file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        fails(
            InputError,
            f"{file}: differs from the SHA-256 in manifest.json; remove it and prepare it again",
            lambda: verify_hashes(output),
        )
        if name != "train.npy":  # which is long, and known by the digests of its images
            with pytest.raises(InputError, match="differs from the SHA-256"):
                read(output)
        file.write_bytes(content)
    verify_hashes(output)


def test_manifests_of_other_images_are_refused(tars, output, tmp_path):
    manifest = output / "manifest.json"
    fails(
        UsageError,
        f"split: {manifest} is 'train', not 'validation'",
        lambda: read(output, split="validation"),
    )
    fails(
        UsageError,
        f"source: {manifest} is packed, not array_record; set source=packed",
        lambda: open_source(spec(output, source="array_record")),
    )
    shards = tmp_path / "shards"
    prepare(spec(tars), shards)
    fails(
        UsageError,
        f"source: {shards}/manifest.json is array_record, not packed; set source=array_record",
        lambda: read(shards),
    )
    fails(
        InputError,
        f"{output}/train.npy: is not a manifest; name the manifest.json beside it",
        lambda: read(output / "train.npy"),
    )
    content = json.loads(manifest.read_text())
    del content["names"]
    manifest.write_text(json.dumps(content))
    fails(
        InputError,
        f"{manifest}: lacks names; prepare the images again",
        lambda: read(output),
    )


def test_folders_of_different_size(tars, whole, tmp_path):
    small = tmp_path / "small"
    prepare(spec(tars, image_size=4, resize="squash"), small, layout="packed")
    fails(
        UsageError,
        f"image_size: 8 is larger than the images of {small}/manifest.json, 4x4; "
        "images are never enlarged",
        lambda: read(f"{whole},{small}"),
    )
    fails(
        InputError,
        f"{whole},{small}: mixes images of sides [4, 8]; open them separately",
        lambda: read(f"{whole},{small}", image_size=4, resize="squash"),
    )

"""Sets of images are known by their pixels, wherever they lie and whatever they are called."""

import os
import shutil

import numpy as np
import PIL.Image
import pytest

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data import identity, open_source

COUNT, SIDE = 12, 8


def write(folder, count=COUNT, suffix="png", seed=0):
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng((seed, number)).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:03}.{suffix}")
    return folder


def opened(folder, **fields):
    return open_source(SourceSpec(source="folder", path=str(folder), image_size=SIDE, **fields))


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "images")


def test_names_of_files_need_not_be_utf8(folder):
    known = identity.files_signature(opened(folder))
    os.rename(folder / "003.png", os.fsencode(folder) + b"/\xe9t\xe9.png")
    changed = identity.files_signature(opened(folder))
    assert changed not in (None, known)
    assert identity.files_signature(opened(folder)) == changed


def test_digests_are_of_the_pixels(folder, tmp_path):
    digests = identity.digests_of(opened(folder))
    assert digests.shape == (COUNT, identity.DIGEST_BYTES)
    assert len(np.unique(digests, axis=0)) == COUNT
    elsewhere = write(tmp_path / "elsewhere", suffix="bmp")
    np.testing.assert_array_equal(identity.digests_of(opened(elsewhere, name="other")), digests)
    pixels = np.stack([opened(folder)[i] for i in range(COUNT)])
    np.testing.assert_array_equal(identity.image_digests(pixels), digests)
    np.testing.assert_array_equal(identity.digests_of(opened(folder), [7, 2]), digests[[7, 2]])


def test_the_shape_counts():
    flat, tall = np.zeros((1, 2, 8, 3), np.uint8), np.zeros((1, 8, 2, 3), np.uint8)
    assert (identity.image_digests(flat) != identity.image_digests(tall)).any()


def test_sets_differ_by_one_pixel_their_order_and_their_number(folder):
    digests = identity.digests_of(opened(folder))
    known = {identity.set_digest(digests), identity.set_digest(digests[::-1])}
    known |= {identity.set_digest(digests[:-1]), identity.set_digest(digests[:0])}
    pixels = np.array(PIL.Image.open(folder / "003.png"))
    pixels[0, 0, 0] ^= 1
    PIL.Image.fromarray(pixels).save(folder / "003.png")
    known.add(identity.set_digest(identity.digests_of(opened(folder))))
    assert len(known) == 5


def test_large_sets_are_known_by_a_part_of_them(folder, monkeypatch):
    monkeypatch.setattr(identity, "_MOST_SAMPLED", 4)
    read = []
    source = opened(folder)
    decode = type(source).__getitem__
    monkeypatch.setattr(
        type(source), "__getitem__", lambda self, i: read.append(i) or decode(self, i)
    )
    sampled = identity.sampled_digest(source)
    assert sorted(read) == [0, 4, 7, 11]
    assert identity.sampled_digest(opened(folder, max_images=11)) != sampled
    write(folder, seed=1)
    assert identity.sampled_digest(opened(folder)) != sampled


def test_files_are_known_by_path_size_and_date(folder, tmp_path):
    first = identity.files_signature(opened(folder))
    assert first == identity.files_signature(opened(folder))
    others = {first, identity.files_signature(opened(folder, resize="crop"))}
    others.add(identity.files_signature(opened(folder, max_images=3)))
    others.add(identity.files_signature(opened(shutil.copytree(folder, tmp_path / "copy"))))
    status = os.stat(folder / "005.png")
    os.utime(folder / "005.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    others.add(identity.files_signature(opened(folder)))
    assert len(others) == 5
    assert identity.files_signature(open_source(SourceSpec(image_size=SIDE))) is None


def test_files_of_one_size_and_date_are_known_by_their_names(tmp_path):
    """Other names are another order."""
    folder = write(tmp_path / "set", suffix="bmp")
    assert len({path.stat().st_size for path in folder.iterdir()}) == 1
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))
    before = identity.files_signature(opened(folder))
    (folder / "005.bmp").rename(folder / "105.bmp")
    assert identity.files_signature(opened(folder)) != before
    (folder / "105.bmp").rename(folder / "005.bmp")
    assert identity.files_signature(opened(folder)) == before

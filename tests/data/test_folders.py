"""Which files of a folder are images of the set: every real one once, and one line about the rest."""

import os
import random

import numpy as np
import pytest
from PIL import Image

from diffc_jax.data import files
from diffc_jax.errors import InputError
from tests.support.image_files import encoded, opened, pixels
from tests.support.refusals import fails


def fill(folder, *names):
    """Puts image number n into the n-th file, whatever its suffix."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels(number)))
    return folder


def labels(*folders, **fields):
    """Paths of the images of a set, from the folder of all of them on."""
    source = opened(source="folder", path=",".join(map(str, folders)), **fields)
    return [os.path.relpath(source.label(i), folders[0].parent) for i in range(len(source))]


def left_out(caplog):
    return [record.getMessage() for record in caplog.records if "left out:" in record.getMessage()]


@pytest.fixture
def folder(tmp_path, caplog):
    caplog.set_level("INFO", logger="absl")
    return fill(tmp_path / "set", "0.png", "1.png", "2.png")


def test_ordinary_folders_keep_their_order_and_labels(tmp_path):
    names = [
        f"{a}{b}/{c}.png" for a in ("n", "n-", "N") for b in (1, 10, 2) for c in ("x", "X", "x-1")
    ]
    random.Random(0).shuffle(names)
    root = fill(tmp_path / "set", *names, "top.png", "deep/er/1.PNG")
    source = opened(source="folder", path=f"{root}/")
    expected = sorted(
        os.path.join(folder, name) for folder, _, found in os.walk(root) for name in found
    )
    assert [source.label(index) for index in range(len(source))] == expected
    numbers = {str(root / name): number for number, name in enumerate(names)}
    for index, path in enumerate(expected):
        if path in numbers:
            np.testing.assert_array_equal(source[index], pixels(numbers[path]))


def test_nothing_is_said_where_nothing_is_left_out(folder, caplog):
    assert len(labels(folder)) == 3
    assert left_out(caplog) == []


def test_hidden_entries_and_other_files_are_left_out_and_counted(folder, caplog):
    fill(
        folder, ".ipynb_checkpoints/0-checkpoint.png", ".Trash-0/files/1.png", "._0.png", "a/.b.png"
    )
    for name in ("notes.txt", "a/labels.json", "a/more.txt", "LICENSE", "old.heic"):
        (folder / name).write_text("")
    assert labels(folder) == ["set/0.png", "set/1.png", "set/2.png"]
    (line,) = left_out(caplog)
    assert line == "set: left out: other files (.txt, .heic, .json, none) 5, hidden 4"
    assert caplog.records[0].levelname == "INFO"


def test_a_hidden_folder_can_be_the_set_itself(tmp_path):
    assert labels(fill(tmp_path / ".cache" / "set", "0.png")) == ["set/0.png"]


def test_links_that_loop_add_nothing(folder, caplog):
    (folder / "latest").symlink_to(".")
    (folder / "up").symlink_to("..")
    assert labels(folder) == ["set/0.png", "set/1.png", "set/2.png"]
    assert left_out(caplog) == ["set: left out: links to what is there already 2"]
    assert caplog.records[0].levelname == "WARNING"


def test_what_links_lead_to_counts_once(folder, tmp_path, caplog):
    other = fill(tmp_path / "other", "a.png", "b.png", "deep/c.png", "blob")
    (folder / "again.png").symlink_to("0.png")
    (folder / "all").symlink_to(other)
    (folder / "part").symlink_to(other / "deep")
    (folder / "x.png").symlink_to(other / "blob")
    (folder / "y.png").symlink_to(other / "blob")
    (folder / "z.png").symlink_to(other / "a.png")
    expected = ["0.png", "1.png", "2.png", "all/a.png", "all/b.png", "all/deep/c.png", "x.png"]
    assert labels(folder) == [f"set/{name}" for name in expected]
    assert left_out(caplog) == [
        "set: left out: links to what is there already 4, other files (none) 1"
    ]


def test_a_link_to_a_hidden_image_is_an_image(folder, caplog):
    (folder / "0.png").rename(folder / ".0.png")
    (folder / "shown.png").symlink_to(".0.png")
    assert labels(folder) == ["set/1.png", "set/2.png", "set/shown.png"]
    assert left_out(caplog) == ["set: left out: hidden 1"]


def test_hard_links_are_files(folder):
    os.link(folder / "0.png", folder / "3.png")
    assert len(labels(folder)) == 4


def test_folders_named_twice_count_once(folder, tmp_path, caplog):
    other = fill(tmp_path / "other", "0.png")
    fill(folder, "sub/0.png")
    link = tmp_path / "link"
    link.symlink_to(folder)
    once = labels(folder, other)
    for number, parts in enumerate(
        ((folder, other, folder), (folder, other, link), (folder, folder / "sub", other))
    ):
        caplog.clear()
        assert labels(*parts) == once, number
        assert left_out(caplog)[0].endswith(": left out: named twice 1")
        assert caplog.records[0].levelname == "WARNING"
    assert labels(folder / "sub", folder) == ["sub/0.png", "0.png", "1.png", "2.png"]


def test_same_folder_twice_has_one_name(folder):
    assert opened(source="folder", path=f"{folder},{folder}/").name == "set"


def test_broken_links_are_refused_or_left_out(folder, caplog):
    (folder / "class").symlink_to("/nowhere/class")
    message = (
        f"{folder}/class: is a broken link to /nowhere/class; mend or remove it, or set"
        " skip_corrupt=True to leave it out"
    )
    fails(InputError, message, lambda: labels(folder))
    (folder / "class").unlink()
    (folder / "3.png").symlink_to("3.png")
    fails(
        InputError,
        message.replace("/nowhere/class", "3.png").replace("class", "3.png"),
        lambda: labels(folder),
    )
    assert len(labels(folder, skip_corrupt=True)) == 3
    assert left_out(caplog) == ["set: left out: broken links 1"]


def test_pipes_are_no_images(folder, caplog):
    os.mkfifo(folder / "p.png")
    (folder / "q.png").symlink_to("p.png")
    assert labels(folder) == ["set/0.png", "set/1.png", "set/2.png"]
    assert left_out(caplog) == ["set: left out: no regular files 2"]


def test_folders_that_cannot_be_read_are_an_error(folder, monkeypatch):
    fill(folder, "secret/3.png")
    original = os.scandir

    def scandir(path):
        if path.endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    fails(
        InputError,
        f"{folder}/secret: cannot be read (Permission denied)",
        lambda: labels(folder),
    )


@pytest.mark.parametrize("name", ["0.png", "none"])
def test_only_folders_have_images(folder, name):
    fails(InputError, f"{folder}/{name}: no such folder", lambda: labels(folder / name))


def test_all_suffixes_of_the_formats_are_known():
    Image.init()
    formats = {*("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")}
    registered = {suffix for suffix, name in Image.EXTENSION.items() if name in formats}
    assert registered == files.IMAGE_SUFFIXES


def test_images_of_all_suffixes_are_found(tmp_path):
    names = [f"{number}{suffix}" for number, suffix in enumerate(sorted(files.IMAGE_SUFFIXES))]
    assert len(labels(fill(tmp_path / "set", *names))) == len(names) == 25


def test_images_that_are_refused_are_skipped_on_request(folder, caplog):
    (folder / "3.png").write_bytes(encoded(pixels(3, side=9)))
    (folder / "4.png").write_bytes(encoded(pixels(4)[..., 0]))
    (folder / "5.png").write_bytes(b"junk")
    whole = opened(source="folder", path=str(folder))
    with pytest.raises(InputError, match=r"3\.png: is 9x9, not 8x8"):
        whole[3]
    source = opened(source="folder", path=str(folder), skip_corrupt=True)
    assert len(source) == 3
    assert source.skipped == tuple(str(folder / f"{number}.png") for number in (3, 4, 5))
    assert "set: 3 of 6 images left out" in caplog.text
    assert "3.png: is 9x9, not 8x8" in caplog.text


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_an_image_that_is_too_small_on_one_side_is_not_enlarged(resize, tmp_path):
    (tmp_path / "0.png").write_bytes(encoded(pixels(0, side=12, height=7)))
    fails(
        InputError,
        f"{tmp_path}/0.png: is 12x7, smaller than image_size=8; images are never enlarged",
        lambda: opened(source="folder", path=str(tmp_path), resize=resize),
    )


def test_files_that_cannot_be_read_are_never_skipped(folder, monkeypatch):
    original = type(folder).read_bytes

    def read_bytes(path):
        if path.name == "1.png":
            raise OSError(5, "Input/output error")
        return original(path)

    monkeypatch.setattr(type(folder), "read_bytes", read_bytes)
    fails(
        InputError,
        f"{folder}/1.png: cannot be read (Input/output error)",
        lambda: opened(source="folder", path=str(folder), skip_corrupt=True),
    )

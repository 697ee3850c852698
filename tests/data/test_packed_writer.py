"""Preparing packed images: the same pixels and names, interrupted and resumed."""

import json
import os
import pathlib
import shutil
from types import SimpleNamespace

import pytest

import diffc_jax.data.packed as writing
from diffc_jax.data import open_source
from diffc_jax.data.decoding import encode
from diffc_jax.data.manifest import read_manifest, verify_hashes, write_manifest
from diffc_jax.data.prepare import prepare
from diffc_jax.data.stored_images import StoredImages
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.files import file_sha256
from tests.support.packed_images import (
    ARCHIVES,
    COUNT,
    IMAGES,
    NAMES,
    SIDE,
    npy,
    spec,
    write_broken_folder,
)
from tests.support.processes import run_program
from tests.support.refusals import fails


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_pixels_names_and_manifest(tars, whole):
    files = contents(whole)
    assert files.keys() == {*("manifest.json", "train.digests.npy", "train.names.txt", "train.npy")}
    assert files["train.npy"] == npy(IMAGES)
    assert files["train.names.txt"].decode().split("\n") == [
        *(f"hq64_0.tar, member {NAMES[number]}" for number in range(100)),
        *(f"ref_0.tar, member {NAMES[number]}" for number in range(100, COUNT - 1)),
        r"ref_0.tar, member new\nline \udc80.png",
        "",
    ]

    def described(file):
        return {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)}

    assert read_manifest(whole / "manifest.json") == {
        "format": "diffc_jax images",
        "format_version": 1,
        "layout": "packed",
        "variant": "v1",
        "split": "train",
        "image_size": SIDE,
        "resampling": "none",
        "count": COUNT,
        "inputs": [described(tars / f"{archive}.tar") for archive in ARCHIVES],
        "skipped": [],
        "names": described(whole / "train.names.txt"),
        "digests": described(whole / "train.digests.npy"),
        "shards": [{"images": COUNT, **described(whole / "train.npy")}],
    }


def test_names_of_a_folder_begin_where_its_files_part(tmp_path):
    for name in ("photos/a/1.png", "photos/b/2.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(IMAGES[0], "png"))
    prepare(spec(tmp_path / "photos", source="folder"), tmp_path / "out", layout="packed")
    assert (tmp_path / "out" / "train.names.txt").read_text() == "a/1.png\nb/2.png\n"


def test_names_that_a_failed_preparation_left_are_replaced(tmp_path):
    """They are as long as those that are needed, and there is no manifest yet that says whose they are."""
    write_broken_folder(tmp_path / "broken")
    with pytest.raises(InputError):
        prepare(spec(tmp_path / "broken", source="folder"), tmp_path / "out", layout="packed")
    (tmp_path / "whole").mkdir()
    for name in ("3.png", "4.png", "5.png"):
        (tmp_path / "whole" / name).write_bytes(encode(IMAGES[0], "png"))
    prepare(spec(tmp_path / "whole", source="folder"), tmp_path / "out", layout="packed")
    assert (tmp_path / "out" / "train.names.txt").read_text() == "3.png\n4.png\n5.png\n"
    verify_hashes(tmp_path / "out")


@pytest.mark.parametrize("layout", ["packed", "array_record"])
def test_prepared_images_are_packed_again(whole, tars, tmp_path, layout):
    first, second = tmp_path / "first", tmp_path / "second"
    prepare(spec(tars), first, layout=layout)
    manifest = prepare(spec(first, source=layout), second, layout="packed")
    assert (second / "train.npy").read_bytes() == (whole / "train.npy").read_bytes()
    assert manifest["resampling"] == "none"
    (entry,) = manifest["inputs"]
    assert entry["sha256"] == file_sha256(first / entry["file"])
    scaled = prepare(
        spec(first, source=layout, image_size=4, resize="squash"), tmp_path / "4", layout="packed"
    )
    assert scaled["resampling"] == "none, then box filter to 4x4, aspect not kept"
    shards = prepare(spec(second, source="packed"), tmp_path / "shards", shard_size=200)
    assert [shard["images"] for shard in shards["shards"]] == [200, 100]


def test_lost_digests_are_written_again(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "0.png").write_bytes(encode(IMAGES[0], "png"))
    inputs = spec(folder, source="folder")
    prepare(inputs, output, layout="packed")
    before = (output / "train.digests.npy").read_bytes()
    (output / "train.digests.npy").unlink()
    prepare(inputs, output, layout="packed")
    assert (output / "train.digests.npy").read_bytes() == before


def test_inputs_are_the_images_that_are_prepared(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encode(IMAGES[number], "png"))
    inputs = spec(folder, source="folder", max_images=2)
    (entry,) = prepare(inputs, tmp_path / "out", layout="packed")["inputs"]
    assert entry["images"] == 2
    assert entry["bytes"] == sum((folder / f"{number}.png").stat().st_size for number in (0, 1))
    (folder / "2.png").write_bytes(encode(IMAGES[3], "png"))
    assert prepare(inputs, tmp_path / "out", layout="packed")["inputs"] == [entry]


def test_left_out_images_are_neither_packed_nor_named(tmp_path):
    broken = write_broken_folder(tmp_path / "in")
    inputs = spec(broken, source="folder", skip_corrupt=True)
    manifest = prepare(inputs, tmp_path / "out", layout="packed")
    assert manifest["skipped"] == [str(broken / "1.png")]
    assert (tmp_path / "out" / "train.names.txt").read_text() == "0.png\n2.png\n"
    assert (tmp_path / "out" / "train.npy").read_bytes() == npy(IMAGES[:2])


@pytest.mark.parametrize("layout", ["packed", "array_record"])
def test_left_out_images_whose_names_are_not_utf8(tmp_path, layout, caplog):
    caplog.set_level("CRITICAL", logger="absl")  # workers of pytest cannot pass such names on
    broken = write_broken_folder(tmp_path / "in")
    (broken / "1.png").rename(broken / os.fsdecode(b"\xe9t\xe9.png"))
    inputs = spec(broken, source="folder", skip_corrupt=True)
    for _ in range(2):  # the second keeps what the first wrote
        prepare(inputs, tmp_path / "out", layout=layout)
    manifest = read_manifest(tmp_path / "out" / "manifest.json")
    assert manifest["skipped"] == [rf"{broken}/\udce9t\udce9.png"]


# Interruption


@pytest.fixture
def small_steps(monkeypatch):
    """Windows of 64 images, saved after every second one."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(writing, "_SAVE_BYTES", 100 * SIDE * SIDE * 3)


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """Indices of the images that were read; opening a source reads its first."""
    indices: list[int] = []
    original = StoredImages.__getitem__

    def getitem(self, index):
        indices.append(index)
        return original(self, index)

    monkeypatch.setattr(StoredImages, "__getitem__", getitem)
    return indices


def interrupt(tars, output, at):
    """Prepares until image `at` is to be read, as if Ctrl-C came then."""
    original = StoredImages.__getitem__

    def getitem(self, index):
        if index == at:
            raise KeyboardInterrupt
        return original(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoredImages, "__getitem__", getitem)
        with pytest.raises(KeyboardInterrupt):
            prepare(spec(tars), output, layout="packed")


@pytest.mark.parametrize(("at", "saved"), [(100, 0), (200, 128), (260, 256)])
@pytest.mark.usefixtures("small_steps")
def test_interrupted_preparation_goes_on(tars, whole, tmp_path, opened, at, saved):
    output = tmp_path / "out"
    interrupt(tars, output, at)
    assert not (output / "train.npy").exists()
    if saved:
        assert json.loads((output / "manifest.json").read_text())["partial"] == {
            "file": "train.npy.partial",
            "images": saved,
        }
        reading = spec(output, source="packed")
        for call in (lambda: open_source(reading), lambda: verify_hashes(output)):
            fails(
                InputError,
                f"{output}/manifest.json: only {saved} of 300 images are written; "
                "run the preparation again to finish it",
                call,
            )
        fails(
            UsageError,
            f"output: {output}/manifest.json belongs to a preparation that differs in variant; "
            "use another folder or remove this one",
            lambda: prepare(spec(tars, name="v2"), output, layout="packed"),
        )
    opened.clear()
    prepare(spec(tars), output, layout="packed")
    # Threads read them, in nearly this order.
    assert sorted(opened) == sorted([0, *range(saved, COUNT)])
    assert contents(output) == contents(whole)


@pytest.mark.usefixtures("small_steps")
def test_what_was_not_saved_is_not_trusted(tars, whole, tmp_path):
    output = tmp_path / "out"
    interrupt(tars, output, 200)
    partial = output / "train.npy.partial"
    saved = len(npy(IMAGES[:0])) + 128 * SIDE * SIDE * 3
    content = partial.read_bytes()
    partial.write_bytes(content[:saved] + b"?" * (2 * len(npy(IMAGES))))
    prepare(spec(tars), output, layout="packed")
    assert contents(output) == contents(whole)


@pytest.mark.parametrize("left", [0, 1000])
@pytest.mark.usefixtures("small_steps")
def test_lost_partial_file_is_written_anew(tars, whole, tmp_path, left):
    output = tmp_path / "out"
    interrupt(tars, output, 200)
    partial = output / "train.npy.partial"
    partial.write_bytes(partial.read_bytes()[:left])
    if not left:
        partial.unlink()
    prepare(spec(tars), output, layout="packed")
    assert contents(output) == contents(whole)


@pytest.mark.parametrize(
    ("done", "renamed"), [(3, False), (4, False), (4, True)], ids=["written", "listed", "renamed"]
)
@pytest.mark.usefixtures("small_steps")
def test_interruption_before_the_last_record(tars, whole, tmp_path, opened, done, renamed):
    output = tmp_path / "out"
    calls = []

    def write_some(folder, manifest):
        """Writes `done` states of the manifest, then ends after the last or before the next."""
        calls.append(folder)
        if len(calls) <= done:
            write_manifest(folder, manifest)
        if len(calls) == done + renamed:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "write_manifest", write_some)
        with pytest.raises(KeyboardInterrupt):
            prepare(spec(tars), output, layout="packed")
    assert (output / "train.npy").exists() == renamed
    opened.clear()
    prepare(spec(tars), output, layout="packed")
    assert opened == [0]
    assert contents(output) == contents(whole)


def test_finished_preparation_is_kept_and_a_lost_file_replaced(tars, whole, output, opened):
    before = (output / "train.npy").stat().st_mtime_ns
    prepare(spec(tars), output, layout="packed")
    assert opened == [0]
    assert (output / "train.npy").stat().st_mtime_ns == before
    (output / "train.npy").unlink()
    (output / "train.names.txt").write_text("gone\n")
    prepare(spec(tars), output, layout="packed")
    assert contents(output) == contents(whole)


def test_a_file_that_was_cut_is_written_anew(tars, whole, output):
    (output / "train.npy").write_bytes((output / "train.npy").read_bytes()[:-1])
    prepare(spec(tars), output, layout="packed")
    assert contents(output) == contents(whole)


def test_a_folder_of_the_other_layout_is_kept(tars, output):
    fails(
        UsageError,
        f"output: {output}/manifest.json belongs to a preparation that differs in "
        "layout, encoding, shard_size; use another folder or remove this one",
        lambda: prepare(spec(tars), output),
    )


def test_disk_without_space_is_named_before_any_work(tars, tmp_path, monkeypatch, opened):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    fails(
        InputError,
        f"{tmp_path}: has 1e-05 GB free, the images need 5.77e-05 GB",
        lambda: prepare(spec(tars), tmp_path, layout="packed"),
    )
    assert opened == [0]


@pytest.mark.usefixtures("small_steps")
def test_what_is_written_needs_no_space_again(tars, whole, tmp_path, monkeypatch):
    output = tmp_path / "out"
    interrupt(tars, output, 200)
    needed = len(npy(IMAGES)) - (output / "train.npy.partial").stat().st_size
    space = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: space)
    with pytest.raises(InputError, match=" GB free, the images need "):
        prepare(spec(tars), output, layout="packed")
    space.free = needed
    prepare(spec(tars), output, layout="packed")
    assert contents(output) == contents(whole)


def test_failure_to_write_is_named(tars, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    fails(
        InputError,
        f"{tmp_path / 'train.npy.partial'}: cannot be written (No space left on device; 1.0 MB are left"
        " there)",
        lambda: prepare(spec(tars), tmp_path, layout="packed"),
    )


# The script


def test_script(tars, whole, tmp_path):
    output = tmp_path / "out"

    def run(*flags):
        return run_program("scripts/prepare_imagenet64.py", f"--output={output}", *flags)

    done = run(
        f"--image_size={SIDE}", "--source=tar", f"--path={tars}", "--name=v1", "--format=packed"
    )
    assert done.returncode == 0, done.stderr
    assert "300/300 images (100 %)" in done.stderr
    assert contents(output) == contents(whole)

    (output / "train.npy").write_bytes(npy(IMAGES[::-1]))
    damaged = run("--verify")
    assert (damaged.returncode, damaged.stderr) == (
        1,
        f"prepare_imagenet64.py: error: {output}/train.npy: differs from the SHA-256 in "
        "manifest.json; remove it and prepare it again\n",
    )
    misspelt = run("--format=packeddd")
    assert (misspelt.returncode, misspelt.stderr) == (
        2,
        "prepare_imagenet64.py: error: flag --format=packeddd: value should be one of "
        "<array_record|packed>\n",
    )

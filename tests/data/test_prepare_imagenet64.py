"""Preparing ImageNet 64x64: shards and manifest, interruption, damage, and the script."""

import concurrent.futures
import json
import os
import pathlib

import numpy as np
import PIL.Image
import pytest
from array_record.python.array_record_module import ArrayRecordReader

import diffc_jax.data.array_record as writing
from diffc_jax.data import SourceSpec, open_source
from diffc_jax.data.manifest import read_manifest, verify_hashes
from diffc_jax.data.prepare import prepare
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.files import file_sha256
from tests.support.processes import run_program
from tests.support.refusals import fails

SIDE, COUNT = 8, 11


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def official(tmp_path) -> pathlib.Path:
    path = tmp_path / "official" / "train_data_batch_1.npz"
    path.parent.mkdir()
    images = [pixels(number).transpose(2, 0, 1).reshape(-1) for number in range(COUNT)]
    np.savez(path, data=np.stack(images), labels=np.arange(COUNT), mean=np.zeros(3))
    return path


def spec(path, **fields) -> SourceSpec:
    return SourceSpec(
        **{"source": "npz", "path": str(path), "name": "v1", "image_size": SIDE, **fields}
    )


def read(output, source="array_record", **fields):
    return open_source(SourceSpec(source=source, path=str(output), image_size=SIDE, **fields))


@pytest.mark.parametrize("encoding", ["webp", "png"])
def test_prepared_images_are_the_same_and_described(official, tmp_path, encoding):
    output = tmp_path / "out"
    manifest = prepare(spec(official), output, encoding=encoding, shard_size=4)
    source = read(output)
    assert (source.name, source.split, len(source)) == ("v1", "train", COUNT)
    for index in range(COUNT):
        np.testing.assert_array_equal(source[index], pixels(index))

    assert read_manifest(output / "manifest.json") == manifest
    names = [f"train-0000{number}-of-00003.array_record" for number in range(3)]
    assert sorted(file.name for file in output.iterdir()) == ["manifest.json", *names]
    assert [(shard["file"], shard["images"]) for shard in manifest["shards"]] == [
        *((name, 4) for name in names[:2]),
        (names[2], 3),
    ]
    assert all(
        shard["sha256"] == file_sha256(output / shard["file"]) for shard in manifest["shards"]
    )
    assert manifest["inputs"] == [
        {"file": official.name, "bytes": official.stat().st_size, "sha256": file_sha256(official)}
    ]
    assert manifest.keys() == {
        *("format", "format_version", "layout", "variant", "split", "image_size", "resampling"),
        *("encoding", "count", "shard_size", "skipped", "inputs", "shards"),
    }
    described = (
        *("format", "format_version", "layout", "variant", "split", "count", "encoding"),
        "resampling",
    )
    assert {key: manifest[key] for key in described} == {
        "format": "diffc_jax images",
        "format_version": 1,
        "layout": "array_record",
        "variant": "v1",
        "split": "train",
        "count": COUNT,
        "encoding": encoding,
        "resampling": "official files (box filter, aspect not kept), then none",
    }
    assert "group_size:1," in ArrayRecordReader(str(output / names[0])).writer_options_string()


def test_interrupted_preparation_keeps_finished_shards(official, tmp_path, monkeypatch, caplog):
    output = tmp_path / "out"
    whole = prepare(spec(official), tmp_path / "whole", shard_size=4)
    original = writing.encode
    calls = iter(range(100))

    def interrupted(image, encoding):
        if next(calls) == 6:
            raise KeyboardInterrupt
        return original(image, encoding)

    monkeypatch.setattr(writing, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(spec(official), output, shard_size=4)
    monkeypatch.setattr(writing, "encode", original)
    first = output / "train-00000-of-00003.array_record"
    assert sorted(file.name for file in output.iterdir()) == ["manifest.json", first.name]
    fails(
        InputError,
        f"{output}/manifest.json: only 4 of 11 images are written; "
        "run the preparation again to finish it",
        lambda: read(output),
    )
    before = first.stat().st_mtime_ns
    caplog.set_level("INFO", logger="absl")
    assert prepare(spec(official), output, shard_size=4) == whole
    assert "prepare: 11/11 images (100 %), " in caplog.text
    assert first.stat().st_mtime_ns == before
    fails(
        UsageError,
        f"output: {output}/manifest.json belongs to a preparation that differs in "
        "variant, shard_size; use another folder or remove this one",
        lambda: prepare(spec(official, name="v2"), output, shard_size=5),
    )


def test_manifests_without_a_layout_are_of_shards(official, tmp_path):
    output = tmp_path / "out"
    whole = prepare(spec(official), output, shard_size=6)
    manifest = output / "manifest.json"
    older = {key: value for key, value in whole.items() if key != "layout"}
    manifest.write_text(json.dumps(older))
    assert len(read(output)) == COUNT
    (output / "train-00001-of-00002.array_record").unlink()
    assert prepare(spec(official), output, shard_size=6) == whole
    manifest.write_text(json.dumps({**whole, "layout": "cubes"}))
    fails(
        InputError,
        f"{manifest}: has the unknown layout 'cubes'; update diffc_jax",
        lambda: read(output),
    )


@pytest.mark.parametrize("layout", ["array_record", "packed"])
def test_sizes_are_compared_with_the_manifest(official, tmp_path, layout):
    output = tmp_path / "out"
    prepare(spec(official), output, layout=layout)

    def read_as(**fields):
        return open_source(SourceSpec(source=layout, path=str(output), **fields))

    manifest = output / "manifest.json"
    fails(
        UsageError,
        f"image_size: 16 is larger than the images of {manifest}, 8x8; images are never enlarged",
        lambda: read_as(image_size=16, resize="crop"),
    )
    fails(
        UsageError,
        f"image_size: the images of {manifest} are 8x8, not 4x4; "
        "set resize=squash to scale them, or change image_size",
        lambda: read_as(image_size=4),
    )
    small = read_as(image_size=4, resize="squash")
    assert small.name == "v1-squash4"
    means = pixels(3).reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(small[3] - means).max() <= 1


def test_damaged_shards_are_named(official, tmp_path):
    output = tmp_path / "out"
    prepare(spec(official), output, shard_size=6)
    verify_hashes(output)
    shard = output / "train-00001-of-00002.array_record"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    fails(
        InputError,
        f"{shard}: differs from the SHA-256 in manifest.json; remove it and prepare it again",
        lambda: verify_hashes(output),
    )
    middle = content.index(b"WEBP")
    shard.write_bytes(content[:middle] + b"XXXX" + content[middle + 4 :])
    with pytest.raises(InputError, match=f"{shard}, record [0-4]: is damaged .* skip_corrupt=True"):
        [read(output)[index] for index in range(COUNT)]
    kept = read(output, skip_corrupt=True)
    (skipped,) = kept.skipped
    assert skipped.startswith(f"{shard}, record ")
    assert len([kept[index] for index in range(len(kept))]) == COUNT - 1
    shard.write_bytes(content[: len(content) // 2])
    fails(
        InputError,
        f"{shard}: has {len(content) // 2} bytes, manifest.json says {len(content)}; copy or prepare it"
        " again",
        lambda: read(output),
    )
    shard.write_bytes(bytes(len(content)))
    fails(
        InputError,
        f"{shard}: holds 0 readable images, manifest.json says 5; prepare it again",
        lambda: read(output),
    )
    shard.unlink()
    missing = f"{shard}: is missing, but manifest.json lists it"
    fails(InputError, missing, lambda: read(output))
    fails(InputError, missing, lambda: verify_hashes(output))


@pytest.mark.parametrize("layout", ["array_record", "packed"])
def test_shards_listed_twice_are_refused(official, tmp_path, layout):
    output = tmp_path / "out"
    whole = prepare(spec(official), output, layout=layout)
    (shard,) = whole["shards"]
    again = {**shard, "file": f"./{shard['file']}"}
    twice = {**whole, "count": 2 * COUNT, "shards": [shard, again]}
    (output / "manifest.json").write_text(json.dumps(twice))
    message = (
        f"{output}/manifest.json: lists {shard['file']} more than once; prepare the images again"
    )
    fails(InputError, message, lambda: read(output, source=layout))
    fails(InputError, message, lambda: verify_hashes(output))


@pytest.mark.parametrize("layout", ["array_record", "packed"])
def test_folders_named_twice_count_once(official, tmp_path, layout, caplog):
    output, link = tmp_path / "out", tmp_path / "link"
    prepare(spec(official), output, layout=layout)
    link.symlink_to(output)
    with caplog.at_level("WARNING", logger="absl"):
        source = read(f"{output},{output}/manifest.json,{link}", source=layout)
    assert (source.name, len(source)) == ("v1", COUNT)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}/manifest.json: is named twice and used once" for path in (output, link)
    ]


def test_more_shards_than_open_files(official, tmp_path, monkeypatch):
    output = tmp_path / "out"
    prepare(spec(official), output, shard_size=1)
    monkeypatch.setattr(writing, "files_to_keep_open", lambda count: count // 4)
    before = len(os.listdir("/proc/self/fd"))
    source = read(output)
    order = np.random.default_rng(0).integers(COUNT, size=100)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda index: source[int(index)], order))
    np.testing.assert_array_equal(images, [pixels(index) for index in order])
    assert len(os.listdir("/proc/self/fd")) <= before + COUNT // 4
    assert source.label(COUNT - 1) == f"{output}/train-00010-of-00011.array_record, record 0"


def test_other_splits_and_formats_are_refused(official, tmp_path):
    output = tmp_path / "out"
    prepare(spec(official), output)
    manifest = output / "manifest.json"
    fails(
        UsageError,
        f"split: {manifest} is 'train', not 'validation'",
        lambda: read(output, split="validation"),
    )
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    fails(
        InputError,
        f"{manifest}: has format version 2, this program reads 1; update diffc_jax",
        lambda: read(output),
    )
    manifest.write_text('{"format": "diffc_jax images", "format_version": 1, "split": "train"}')
    fails(
        InputError,
        f"{manifest}: lacks variant, image_size, count, resampling, shards; "
        "prepare the images again",
        lambda: read(output),
    )
    manifest.write_text("{}")
    fails(InputError, f"{manifest}: is not a manifest of diffc_jax images", lambda: read(output))


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        (
            {"name": ""},
            {},
            "name: '' does not name the variant; use letters, digits and ._+/-, "
            "for example imagenet64-chrabaszcz",
        ),
        (
            {"source": "photos"},
            {},
            "source: cannot prepare 'photos'; choose one of "
            "npz, pickle, folder, tar, array_record, packed",
        ),
        ({}, {"encoding": "jpeg"}, "encoding: unknown 'jpeg'; choose one of webp, png"),
        ({}, {"shard_size": 0}, "shard_size: must be positive, not 0"),
        (
            {},
            {"layout": "packeddd"},
            "format: unknown 'packeddd'; choose one of array_record, packed",
        ),
        (
            {},
            {"layout": "packed", "encoding": "png"},
            "encoding: format=packed has none; leave it out",
        ),
        (
            {},
            {"layout": "packed", "shard_size": 5},
            "shard_size: format=packed has none; leave it out",
        ),
    ],
)
def test_bad_fields_are_named(official, tmp_path, fields, options, message):
    fails(
        UsageError, message, lambda: prepare(spec(official, **fields), tmp_path / "out", **options)
    )
    assert not (tmp_path / "out").exists()


def test_script(official, tmp_path):
    def run(*arguments):
        return run_program("scripts/prepare_imagenet64.py", f"--image_size={SIDE}", *arguments)

    output = tmp_path / "out"
    done = run(f"--path={official.parent}", "--name=v1", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert "11/11 images (100 %)" in done.stderr
    assert len(read(output)) == COUNT

    unnamed = run(f"--path={official.parent}", f"--output={output}")
    assert unnamed.returncode == 2
    assert unnamed.stderr.startswith("prepare_imagenet64.py: error: name: '' does not name")
    PIL.Image.new("RGB", (9, 9)).save(tmp_path / "large.png")
    large = (
        "--source=folder",
        f"--path={tmp_path}",
        "--name=v1",
        "--resize=crop",
        "--max_pixels=80",
    )
    refused = run(*large, f"--output={tmp_path / 'other'}")
    assert refused.returncode == 1
    assert "is 9x9, and no image of more than 80 pixels is decoded" in refused.stderr
    missing = run("--path=nowhere.npz", "--name=v1", f"--output={output}")
    assert missing.returncode == 1
    assert missing.stderr == ("prepare_imagenet64.py: error: nowhere.npz: no such file or folder\n")


def test_script_passes_all_flags_on(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(6):
        PIL.Image.new("RGB", (12, 11), (number, 0, 0)).save(photos / f"{number}.png")
    PIL.Image.new("L", (12, 11)).save(photos / "1.png")
    (photos / "2.png").write_bytes(b"no image")
    done = run_program(
        "scripts/prepare_imagenet64.py",
        *("--source=folder", f"--path={photos}", "--name=v1", f"--output={output}"),
        *("--split=validation", f"--image_size={SIDE}", "--resize=squash", "--resize_filter=area"),
        *("--non_rgb=convert", "--skip_corrupt", "--max_images=5", "--shard_size=3"),
        "--encoding=png",
    )
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(output / "manifest.json")
    shown = ("split", "image_size", "resampling", "count", "encoding", "shard_size")
    expected = ("validation", SIDE, f"area average to {SIDE}x{SIDE}, aspect not kept", 4, "png", 3)
    assert tuple(manifest[name] for name in shown) == expected
    assert manifest["skipped"] == [str(photos / "2.png")]

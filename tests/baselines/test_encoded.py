"""Files that codecs made before a run was stopped are not made again."""

import dataclasses

import numpy as np
import pytest

from diffc_jax.baselines import classical, codecs
from diffc_jax.baselines.encoded import EncodedFiles
from diffc_jax.errors import InputError

LADDER = (30, 60, 90)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


class StoppedError(Exception):
    """What ends a run in a test."""


@pytest.fixture
def made(monkeypatch):
    """Qualities that a codec is asked for; where it stops, if it shall."""
    codec, asked = codecs.CODECS["jpeg_444"], []

    def encoder(image, quality, **settings):
        if quality == asked_until.get("stop"):
            raise StoppedError
        asked.append(quality)
        return codec.encoder(image, quality, **settings)

    asked_until: dict[str, int] = {}
    replaced = dataclasses.replace(codec, encoder=encoder)
    monkeypatch.setitem(codecs.CODECS, "jpeg_444", replaced)
    return asked, asked_until


def run(folder, images=IMAGES):
    points = classical.evaluate_codecs(
        images,
        "random",
        None,
        codecs=("jpeg_444",),
        qualities={"jpeg_444": LADDER},
        max_workers=1,
        kept=EncodedFiles(folder, images),
    )
    return [(list(point.rows), point.decoded.tobytes()) for point in points]


def test_a_stopped_run_goes_on_with_what_is_finished(tmp_path, made):
    asked, until = made
    whole = run(tmp_path / "whole")
    assert asked == [quality for quality in LADDER for _ in IMAGES]
    asked.clear()
    until["stop"] = LADDER[2]
    with pytest.raises(StoppedError):
        run(tmp_path / "codecs")
    assert len(asked) == 2 * len(IMAGES)
    asked.clear()
    until.clear()
    assert run(tmp_path / "codecs") == whole
    assert asked == [LADDER[2]] * len(IMAGES)
    asked.clear()
    assert run(tmp_path / "codecs") == whole
    assert not asked


def test_other_images_and_other_settings_are_not_taken_for_these(tmp_path, made, monkeypatch):
    asked, _ = made
    run(tmp_path)
    asked.clear()
    reversed_images = np.ascontiguousarray(IMAGES[::-1])
    assert run(tmp_path, reversed_images) != run(tmp_path)
    assert len(asked) == len(LADDER) * len(IMAGES)
    asked.clear()
    codec = codecs.CODECS["jpeg_444"]
    other = dataclasses.replace(codec, settings={**codec.settings, "progressive": True})
    monkeypatch.setitem(codecs.CODECS, "jpeg_444", other)
    run(tmp_path)
    assert len(asked) == len(LADDER) * len(IMAGES)


def test_a_damaged_file_is_named(tmp_path):
    run(tmp_path)
    path = min(tmp_path.iterdir())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=rf"{path.name}.*delete it and run again"):
        run(tmp_path)
    assert np.load(max(tmp_path.iterdir()))["sizes"].shape == (len(IMAGES),)


def test_sizes_that_are_not_those_of_the_bytes_are_refused(tmp_path):
    run(tmp_path)
    path = min(tmp_path.iterdir())
    content = dict(np.load(path))
    np.savez(path, **content | {"sizes": content["sizes"] + 1})
    with pytest.raises(InputError, match="holds no files of these sizes"):
        run(tmp_path)


def test_the_folder_is_removed_with_what_is_in_it(tmp_path):
    folder = tmp_path / "codecs"
    run(folder)
    files = EncodedFiles(folder, IMAGES)
    files.remove()
    assert not folder.exists()
    files.remove()

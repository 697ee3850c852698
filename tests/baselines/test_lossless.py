"""Lossless codecs: bits per dimension of whole files, and a library that loses something."""

import io
import math

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from diffc_jax.baselines import lossless
from diffc_jax.errors import InputError


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """A flat image, a smooth one and noise."""
    y, x = np.mgrid[0:32, 0:32]
    smooth = np.stack([4 * x, 4 * y, 2 * (x + y)], axis=-1)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    return np.stack([np.full((32, 32, 3), 77), smooth, noise]).astype(np.uint8)


def test_marks_are_bits_of_whole_files(images):
    files = {"png": [], "webp": [], "jpegxl": []}
    for image in images:
        for name, settings in {
            "png": {"optimize": True},
            "webp": {"lossless": True, "quality": 100, "method": 6},
        }.items():
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, name.upper(), **settings)
            files[name].append(stream.getvalue())
        files["jpegxl"].append(
            imagecodecs.jpegxl_encode(image, lossless=True, effort=9, usecontainer=False)
        )
    measured = lossless.measure_lossless(images)
    marks = lossless.lossless_marks(measured)
    assert set(marks) == set(files)
    for name, mark in marks.items():
        bits = np.array([8 * len(data) for data in files[name]]) / (32 * 32 * 3)
        assert measured[name] == pytest.approx(bits, rel=1e-12)
        assert mark["bits_per_dim"] == pytest.approx(bits.mean(), rel=1e-12)
        assert mark["bits_per_dim_stderr"] == pytest.approx(bits.std(ddof=1) / math.sqrt(3))
        assert bits[0] < 0.3
        assert bits[0] < bits[1] < 3
        # Noise cannot be compressed.
        assert 8 <= bits[2] < 9.5


def test_single_image_has_no_standard_error(images):
    marks = lossless.lossless_marks(lossless.measure_lossless(images[:1]))
    assert marks["png"]["bits_per_dim_stderr"] is None


def test_lossy_library_is_noticed(images, monkeypatch):
    encode, _ = lossless.LOSSLESS["webp"]
    monkeypatch.setitem(
        lossless.LOSSLESS, "webp", (encode, lambda data: np.zeros((32, 32, 3), np.uint8))
    )
    with pytest.raises(InputError, match="webp: the installed library does not give back"):
        lossless.measure_lossless(images)

"""Lossless codecs: bits per dimension of whole files, and a library that loses something."""

import functools
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


def test_marks_are_bits_of_the_smallest_whole_files(images):
    def pillow(image, container, **settings):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, container, **settings)
        return stream.getvalue()

    webp = {"container": "WEBP", "lossless": True, "quality": 100}
    encoders = {
        "png": {
            "Pillow, optimize": lambda image: pillow(image, "PNG", optimize=True),
            **{
                f"libpng, strategy {name}": functools.partial(
                    imagecodecs.png_encode, level=9, **settings
                )
                for name, settings in {
                    "filtered": {"strategy": 1},
                    "rle": {"strategy": 3},
                    "rle, filter paeth": {"strategy": 3, "filter": 128},
                }.items()
            },
        },
        "webp": {f"method {m}": functools.partial(pillow, method=m, **webp) for m in (4, 5, 6)},
        "jpegxl": {
            f"effort {effort}": functools.partial(
                imagecodecs.jpegxl_encode, lossless=True, effort=effort, usecontainer=False
            )
            for effort in (8, 9, 10)
        },
    }
    measured = lossless.measure_lossless(images)
    marks = lossless.lossless_marks(measured)
    assert list(marks) == list(encoders)
    for name, mark in marks.items():
        settings = encoders[name]
        sizes = [[len(encode(image)) for encode in settings.values()] for image in images]
        every = 8 * np.array(sizes) / (32 * 32 * 3)
        bits = every.min(axis=1)
        assert measured[name] == pytest.approx(every, rel=1e-12)
        assert mark["bits_per_dim"] == pytest.approx(bits.mean(), rel=1e-12)
        assert mark["bits_per_dim_stderr"] == pytest.approx(bits.std(ddof=1) / math.sqrt(3))
        assert list(mark["settings"]) == list(settings)
        for column, found in enumerate(mark["settings"].values()):
            assert found["bits_per_dim"] == pytest.approx(every[:, column].mean())
            assert found["bits_per_dim"] >= mark["bits_per_dim"]
        assert sum(found["smallest"] for found in mark["settings"].values()) == len(images)
        assert bits[0] < 0.3
        assert bits[0] < bits[1] < 3
        # Noise cannot be compressed.
        assert 8 <= bits[2] < 9.5


def test_each_image_takes_its_own_setting():
    """The first of equal sizes counts."""
    png = [[3.0, 2.0, 4.0, 4.0], [1.0, 2.0, 1.0, 5.0], [4.0, 4.0, 3.0, 2.0]]
    mark = lossless.lossless_marks({"png": np.array(png)})["png"]
    assert mark["bits_per_dim"] == pytest.approx((2 + 1 + 2) / 3)
    assert [one["smallest"] for one in mark["settings"].values()] == [1, 1, 0, 1]


def test_single_image_has_no_standard_error(images):
    marks = lossless.lossless_marks(lossless.measure_lossless(images[:1]))
    assert marks["png"]["bits_per_dim_stderr"] is None


def test_lossy_library_is_noticed(images, monkeypatch):
    lossy = lossless.LOSSLESS["webp"]._replace(decode=lambda data: np.zeros((32, 32, 3), np.uint8))
    monkeypatch.setitem(lossless.LOSSLESS, "webp", lossy)
    with pytest.raises(InputError, match="webp: the installed library does not give back"):
        lossless.measure_lossless(images)

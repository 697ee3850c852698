"""The codec from Python: `load_codec`, `Codec.encode`, `Codec.decode`."""

import inspect

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import diffc_jax as dj
from diffc_jax.codec import loading
from diffc_jax.codec.container import parse
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.codec.image_decoder import check_decodable, decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.targets import Target, round_up
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.diffusion.decoders import parse_decoder
from tests.support.gaussian_run import export_model
from tests.support.processes import run_program

MEMORY = 8


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return dj.load_codec(str(export_model(tmp_path_factory.mktemp("model"), 0.0)), batch_size=2)


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[:8, :12][..., np.newaxis] / 4.0
    return (128 + 100 * np.sin(y + np.arange(3)) * np.cos(x)).astype(np.uint8)


@pytest.fixture(scope="module")
def data(codec, image):
    return codec.encode(image, lossless=True, memory=MEMORY)


def fails(kind, job):
    with pytest.raises(kind) as caught:
        job()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "target", [{"bpp": 14.0}, {"psnr": 25.0}, {"packets": 3}, {"gamma": 0.0}, {"lossless": True}]
)
def test_encode_is_what_the_program_writes(codec, image, target):
    expected = encode_image(codec.programs, image, Target(**target), memory=MEMORY, seed=3)
    assert codec.encode(image, **target, memory=MEMORY, seed=3) == expected


def test_there_and_back(codec, image, data):
    np.testing.assert_array_equal(codec.decode(data), image)
    half = codec.decode(data, decoder="mean", bpp=20, n_steps=2)
    assert half.shape == image.shape
    assert (half != image).any()
    assert (codec.decode(data, "flow", bpp=20) != half).any()


@pytest.mark.parametrize("name", ["flow", "ancestral", "kappa=2"])
def test_steps_follow_the_noise(name):
    """Without a number, a decoder takes as many as a sweep does at the level of each image."""
    low, high = -13.3, 5.0
    gammas = np.array([2.0, -2.0])
    z = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    steps = [parse_decoder(name).default_steps(gamma, low, high) for gamma in gammas]
    assert steps[0] > steps[1]

    def decode(n_steps, some):
        # Not of any images, so that errors of the solver do not cancel.
        denoiser = Reconstructor(lambda _, z, gamma: jnp.sin(2 * z), (low, high), name, n_steps)
        return denoiser({}, z[some], np.exp(-gammas[some]), tile_keys(0, 2)[some], 2).astype(int)

    found = decode(None, slice(None))
    for i, n_steps in enumerate(steps):
        one = slice(i, i + 1)
        assert np.count_nonzero(decode(n_steps, one) - found[one]) <= 1
        for other in (n_steps - 1, n_steps + 1):
            assert np.count_nonzero(decode(other, one) - found[one]) > 3, other


def test_arrays_of_jax_and_grey_images(codec, image):
    assert codec.encode(jnp.asarray(image), packets=2) == codec.encode(image, packets=2)
    grey = codec.encode(image[..., 0], packets=2)
    assert grey == codec.encode(image[..., :1], packets=2)
    assert codec.decode(grey).shape == (8, 12, 1)


def test_images_that_are_refused(codec, image):
    message = (
        "image: has shape {} and type {}; it must be uint8 of (height, width, 3), or (height, width) if it "
        "is grey"
    )
    assert fails(
        dj.UsageError, lambda: codec.encode(image.astype(np.float32), bpp=14.0)
    ) == message.format((8, 12, 3), "float32")
    assert fails(dj.UsageError, lambda: codec.encode(image[None], bpp=14.0)) == message.format(
        (1, 8, 12, 3), "uint8"
    )
    assert fails(dj.InputError, lambda: codec.encode(image[:0], bpp=14.0)) == (
        "height of 0 pixels; 1 to 65535 can be coded"
    )
    assert fails(dj.UsageError, lambda: codec.encode(image)) == (
        "choose one of bpp, psnr, packets, gamma and lossless"
    )
    assert fails(dj.UsageError, lambda: Target(packets=2.5)) == "packets: 2.5 is not a whole number"


def test_one_image_is_no_list(codec, image):
    message = "images: is one image of shape (8, 12, 3); encode takes one"
    assert fails(dj.UsageError, lambda: codec.encode_many(image, bpp=14.0)) == message
    both = codec.encode_many(np.stack([image, image]), bpp=14.0)
    assert both == [codec.encode(image, bpp=14.0)] * 2
    greys = codec.encode_many(np.stack([image[..., 0]] * 2), packets=2)
    assert greys == [codec.encode(image[..., 0], packets=2)] * 2


def test_what_is_no_number_is_refused(codec, data):
    # Without the checks of the tests, which come before.
    check = inspect.unwrap(check_decodable)
    assert fails(dj.UsageError, lambda: check(codec.programs, parse(data), 2.5)) == (
        "n_steps: 2.5 is not a whole number"
    )
    target = object.__new__(Target)
    object.__setattr__(target, "bpp", "1")
    assert fails(dj.UsageError, target.__post_init__) == "bpp: '1' is not a number"


def test_data_that_are_refused(codec, data):
    assert fails(dj.InputError, lambda: codec.decode(b"GIF89a")) == "data: is not a .diffc file"
    least = 8 * parse(data).cuts[0].n_bytes / 96
    assert fails(dj.UsageError, lambda: codec.decode(data, bpp=0.1)) == (
        f"bpp: 0.1 bits per pixel are too few; this stream begins at {round_up(least)}"
    )
    assert fails(dj.UsageError, lambda: codec.decode(data, "foo")).startswith("decoder: 'foo' is")
    for n_steps in (0, -1):
        assert fails(dj.UsageError, lambda n=n_steps: codec.decode(data, n_steps=n)) == (
            f"n_steps: {n_steps} must be at least 1"
        )


def test_one_stream_is_no_list(codec, data):
    # Without the checks of the tests, which come before.
    decode_many = inspect.unwrap(dj.Codec.decode_many)
    assert fails(dj.UsageError, lambda: decode_many(codec, data)) == (
        "data[0]: is int, not bytes; decode takes one stream, decode_many a list"
    )


def test_missing_data_are_a_warning_and_damage_is_an_error(codec, data):
    with pytest.warns(UserWarning, match=r"^packet \d+ is cut off or damaged$"):
        found = codec.decode(data[:-1])
    np.testing.assert_array_equal(found, decode_stream(codec.programs, parse(data[:-1])).image)
    damaged = bytearray(data)
    damaged[parse(data).cuts[1].n_bytes + 9] ^= 4
    message = fails(dj.InputError, lambda: codec.decode(bytes(damaged)))
    assert message.startswith("data: packet 3 is damaged (")
    assert message.endswith("); salvage=True decodes what comes before it")
    with pytest.warns(UserWarning, match=r"^packet 3 is damaged "):
        found = codec.decode(bytes(damaged), salvage=True)
    stream = parse(bytes(damaged))
    np.testing.assert_array_equal(found, decode_stream(codec.programs, stream).image)


def test_the_weights_of_the_repository_are_the_default(codec, monkeypatch, tmp_path):
    assert loading.SHIPPED_WEIGHTS.exists()
    run = export_model(tmp_path, 0.0)
    monkeypatch.setattr(loading, "SHIPPED_WEIGHTS", run / "params.safetensors")
    assert dj.load_codec().programs.fingerprint == codec.programs.fingerprint
    monkeypatch.setattr(loading, "SHIPPED_WEIGHTS", tmp_path / "weights" / "no.safetensors")
    assert fails(dj.InputError, dj.load_codec) == (
        f"{tmp_path}/weights/no.safetensors: is not there, as only the repository has it; name "
        "params.safetensors or the folder of a run"
    )
    assert fails(dj.InputError, lambda: dj.load_codec(tmp_path / "no")) == (
        f"{tmp_path}/no: there is no no"
    )


def test_programs_take_the_weights_of_the_repository(tmp_path):
    image = np.full((4, 4), 100, np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    names = f"--input={tmp_path}/a.png", f"--output={tmp_path}/a.diffc"
    done = run_program("experiments/compress.py", *names, "--packets=1", "--dry_run")
    assert (done.returncode, done.stdout) == (
        0,
        f"{tmp_path}/a.png (4x4, grey; about 0.1 GB, and 1 s at 1 bit per pixel with the shipped model"
        f" on 2 CPU cores) -> {tmp_path}/a.diffc\n",
    ), done.stderr


def test_all_decoders_but_the_mean_take_steps(codec, image):
    """As docs/api.md and docs/usage.md say."""
    data = codec.encode(image, packets=1, memory=8)
    for name in ("flow", "ancestral", "kappa=1.5", "mean"):
        one, four = (codec.decode(data, name, n_steps=n_steps) for n_steps in (1, 4))
        assert (one != four).any() == (name != "mean")

"""What the receiver does alone: its noise, latents noisier than the network knows, groups, messages."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.codec.chain import message_keys, receiver_keys
from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import parse
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.codec.image_decoder import decode_stream, decoded_together
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.picture_targets import encode_picture
from diffc_jax.codec.stream import Header
from diffc_jax.codec.targets import Target, round_up
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.models.gaussian import gaussian_model
from tests.codec.test_images import (
    GAMMA_RANGE,
    MEMORY,
    SIDE,
    make_codec,
    make_image,
    psnr,
    statistics,
)
from tests.support.refusals import message


@pytest.fixture(scope="module")
def codec():
    return make_codec(batch_size=4)


def test_files_have_noise_of_their_own(codec):
    """Samples of DiffC-A are independent between files, and of what both sides share."""
    image = make_image(SIDE, SIDE)
    noise = []
    for seed in range(12):
        data = encode_image(codec, image, Target(gamma=-1.0), memory=MEMORY, seed=seed)
        sample, mean = (
            decode_stream(codec, parse(data), one).image for one in ("ancestral", "mean")
        )
        noise.append((sample.astype(float) - mean).ravel())
    correlations = np.corrcoef(noise)[np.triu_indices(12, 1)]
    # Of 66 pairs of about 192 values, fewer as the noise is smooth.
    assert abs(correlations.mean()) < 0.1
    assert correlations.max() < 0.8
    keys = tile_keys(0, 3)
    own = jax.random.key_data(receiver_keys(jnp.asarray(keys)))
    shared = [message_keys(jnp.asarray(keys), jnp.full(3, step)) for step in range(40)]
    assert not {*map(bytes, np.asarray(own))} & {bytes(k) for k in np.concatenate(shared)}


@pytest.mark.parametrize(("decoder", "most"), [("flow", 0.7), ("kappa=2", 0.5)])
def test_more_noise_than_the_network_knows(decoder, most):
    """Pixels are about those of a network that knows it; decoded as the most that it knows they are not."""
    eps_hat, variables = gaussian_model((SIDE, SIDE, 3)).eps_hat, {"fixed": statistics()}
    x = process.pixels_to_unit(jnp.asarray(np.stack([make_image(SIDE, SIDE)] * 16)))
    noise = jax.random.normal(jax.random.key(0), x.shape)
    z, snr = np.asarray(process.diffuse(x, noise, jnp.float32(7.0))), np.full(16, np.exp(-7.0))

    def pixels(highest, snr=snr):
        reconstruct = Reconstructor(eps_hat, (GAMMA_RANGE[0], highest), decoder, 16)
        return reconstruct(variables, z, snr, tile_keys(0, 16), 16).astype(float)

    def difference(first, second):
        return np.sqrt(np.mean((first - second) ** 2))

    exact = pixels(10.0)
    assert difference(pixels(5.0), exact) < most < difference(pixels(5.0, snr * np.exp(2)), exact)


def test_a_picture_of_one_tile_is_no_tile(codec):
    """Other encoders may write one (docs/format.md)."""
    images = [make_image(SIDE, SIDE), make_image(SIDE, SIDE)[::-1]]
    header = Header(SIDE, SIDE, SIDE, MEMORY, 7, codec.fingerprint[:2])
    picture = encode_picture(codec, images[0], header, Target(gamma=-6.0), lambda fraction: None)
    tile = encode_image(codec, images[1], Target(gamma=-6.0), memory=MEMORY)
    streams = [parse(data) for data in (picture, tile, tile, picture, picture)]
    assert [len(group) for group in decoded_together(streams, 4)] == [1, 2, 1, 1]
    decoded = Codec(codec).decode_many([picture, tile])
    assert all(psnr(one, image) > 30 for one, image in zip(decoded, images, strict=True))


def test_warnings_about_many_streams_say_which(codec):
    data = encode_image(codec, make_image(SIDE, SIDE), Target(gamma=-6.0), memory=MEMORY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        Codec(codec).decode_many([data, data[:-3], data, data[:-4]], "mean")
        Codec(codec).decode(data[:-3], "mean")
    about = [str(warning.message).partition(": ")[0] for warning in caught]
    assert about[:2] == ["data[1]", "data[3]"]
    assert len(about) == 3
    assert not about[2].startswith("data")


def test_rates_that_are_advised_suffice(codec):
    for height, width in itertools.product((5, 7, 8), (6, 8)):
        data = encode_image(codec, make_image(height, width), Target(gamma=-6.0), memory=MEMORY)
        said = message(lambda data=data: Codec(codec).decode(data, bpp=0.01), UsageError)
        Codec(codec).decode(data, bpp=float(said.rpartition(" ")[2]))
    assert [round_up(bpp) for bpp in (2.75, 0.2101, 0.0219999)] == ["2.750", "0.211", "0.022"]

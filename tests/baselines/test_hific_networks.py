"""HiFiC's networks: shapes and sizes of the paper, their layers, and what cannot be built."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.baselines.hific.config import HificArchitecture
from diffc_jax.baselines.hific.model import Hific
from diffc_jax.baselines.hific.networks import ChannelNorm, Discriminator, Doubling, SpectralConv
from diffc_jax.errors import UsageError

PAPER = HificArchitecture()


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def paper_autoencoder():
    return jax.eval_shape(Hific(PAPER).init_autoencoder, jax.random.key(0))


@pytest.fixture(scope="module")
def paper_discriminator():
    return jax.eval_shape(Hific(PAPER).init_discriminator, jax.random.key(0))


def test_parameters_of_the_paper(paper_autoencoder, paper_discriminator):
    # Written out layer by layer from models/hific/archs.py of tensorflow/compression.
    assert {name: count(part) for name, part in paper_autoencoder.items()} == {
        "encoder": 7_423_420,
        "generator": 156_774_683,
        "hyper_analysis": 5_754_560,
        "hyper_mean": 5_754_460,
        "hyper_scale": 5_754_460,
        "prior": 320 * 43,
    }
    params, _ = paper_discriminator
    assert count(params) == 2_800_797
    # "around 737 MB", says the PyTorch reimplementation by Justin Tan of its original architecture.
    assert 4 * (count(paper_autoencoder) + count(params)) == pytest.approx(737e6, rel=1e-3)


@pytest.mark.parametrize(
    ("size", "downsamplings", "latent", "hyper"),
    [
        ((64, 64), 4, (4, 4, 220), (1, 1, 320)),
        ((64, 64), 3, (8, 8, 220), (2, 2, 320)),
        ((256, 192), 4, (16, 12, 220), (4, 3, 320)),
        ((80, 16), 4, (5, 1, 220), (2, 1, 320)),
    ],
)
def test_shapes_of_the_paper(size, downsamplings, latent, hyper):
    architecture = HificArchitecture(downsamplings=downsamplings)
    assert architecture.latent_shape(size) == latent
    assert architecture.hyper_shape(size) == hyper
    model = Hific(architecture)

    def outputs(images, key):
        params = model.init_autoencoder(key)
        symbols, bits = model.quantise(params, images)
        decoded = model.reconstruct(params, symbols)
        # The classes themselves hold arrays only, not shapes.
        return vars(model.forward(params, images, key)), vars(symbols), bits, decoded

    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    abstract = jax.eval_shape(outputs, images, jax.random.key(0))
    forward, symbols, bits, decoded = jax.tree.map(lambda leaf: leaf.shape, abstract)
    assert forward == {
        "reconstructions": images.shape,
        "latents": (2, *latent),
        "bits": (2,),
        "quantised_bits": (2,),
    }
    assert symbols == {"latent": (2, *latent), "hyper": (2, *hyper)}
    assert bits == (2,)
    assert decoded == images.shape


def test_discriminator_judges_patches_of_eight_pixels(paper_discriminator):
    params, spectral = paper_discriminator
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    latents = jax.ShapeDtypeStruct((2, 4, 4, 220), jnp.float32)
    logits, moved = jax.eval_shape(Hific(PAPER).discriminate, params, spectral, images, latents)
    assert logits.shape == (2, 8, 8)
    assert jax.tree.structure(moved) == jax.tree.structure(spectral)


def test_width_scales_every_network():
    assert HificArchitecture.scaled(1.0) == PAPER
    small = HificArchitecture.scaled(0.25, downsamplings=3)
    assert small == HificArchitecture(
        downsamplings=3,
        base_channels=15,
        latent_channels=55,
        hyper_channels=80,
        discriminator_channels=16,
    )
    assert HificArchitecture.scaled(1e-3).base_channels == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HificArchitecture(downsamplings=5), "downsamplings: 5; choose 3 or 4"),
        (lambda: HificArchitecture(base_channels=1), "base_channels: 1 must be at least 2"),
        (lambda: HificArchitecture(residual_blocks=0), "residual_blocks: 0 must be at least 1"),
        (lambda: HificArchitecture.scaled(0.0), "width: 0.0 must be positive"),
        (
            lambda: PAPER.latent_shape((64, 72)),
            "image size: 64x72; sides must be multiples of 16",
        ),
    ],
)
def test_what_cannot_be_built(make, message):
    with pytest.raises(UsageError) as error:
        make()
    assert str(error.value) == message


def test_highest_rate_is_that_of_gaussians_of_the_largest_scale():
    bits_each = 0.5 * np.log2(2 * np.pi * np.e * 256.0**2)
    assert PAPER.highest_bpp((64, 64)) == pytest.approx(4 * 4 * 220 * bits_each / 4096)
    more = HificArchitecture(downsamplings=3)
    assert more.highest_bpp((64, 64)) == pytest.approx(4 * PAPER.highest_bpp((64, 64)))


def test_channel_norm():
    x = np.random.default_rng(0).normal(1.0, 3.0, (2, 3, 4, 5)).astype(np.float32)
    scale, shift = np.arange(1.0, 6.0, dtype=np.float32), np.full(5, 0.5, np.float32)
    result = ChannelNorm().apply({"params": {"scale": scale, "shift": shift}}, jnp.asarray(x))
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).sum(-1, keepdims=True) / 4
    np.testing.assert_allclose(
        result, centred / np.sqrt(variance + 1e-3) * scale + shift, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_doubling_is_the_transposed_convolution(kernel):
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 2))
    reference = nn.ConvTranspose(3, (kernel, kernel), strides=(2, 2))
    variables = jax.jit(reference.init)(jax.random.key(1), x)
    variables["params"]["bias"] = jnp.arange(3.0)
    expected = jax.jit(reference.apply)(variables, x)
    assert expected.shape == (2, 8, 6, 3)
    result = jax.jit(Doubling(3, kernel).apply)(variables, x)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_spectral_norm_finds_the_largest_singular_value():
    layer = SpectralConv(5, stride=2)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    variables = jax.jit(functools.partial(layer.init, update_stats=False))(jax.random.key(1), x)
    kernel = variables["params"]["Conv_0"]["kernel"] * 7.0
    variables["params"]["Conv_0"]["kernel"] = kernel

    @jax.jit
    def iterate(stats):
        inputs = {"params": variables["params"], "batch_stats": stats}
        return layer.apply(inputs, x, update_stats=True, mutable=["batch_stats"])

    stats = variables["batch_stats"]
    for _ in range(60):
        result, updated = iterate(stats)
        stats = updated["batch_stats"]
    largest = np.linalg.svd(np.reshape(kernel, (-1, 5)), compute_uv=False)[0]
    plain = nn.Conv(5, (4, 4), strides=(2, 2)).apply(
        {"params": {"kernel": kernel / largest, "bias": np.zeros(5)}}, x
    )
    np.testing.assert_allclose(result, plain, atol=1e-4)


def test_discriminator_looks_at_both_image_and_latent():
    tiny = HificArchitecture(
        base_channels=2, latent_channels=4, hyper_channels=2, discriminator_channels=2
    )
    network = Discriminator(tiny)
    rng = np.random.default_rng(0)
    images, others = rng.uniform(size=(2, 1, 32, 32, 3)).astype(np.float32)
    latents, other_latents = rng.normal(size=(2, 1, 2, 2, 4)).astype(np.float32)
    init = jax.jit(functools.partial(network.init, update_stats=False))
    variables = init(jax.random.key(0, impl="rbg"), images, latents)
    apply = jax.jit(lambda x, y: network.apply(variables, x, y, update_stats=False))
    logits = apply(images, latents)
    assert logits.shape == (1, 4, 4)
    assert not np.allclose(logits, apply(others, latents), atol=1e-4)
    assert not np.allclose(logits, apply(images, other_latents), atol=1e-4)

"""Encoder and decoder of DiffC by hand, for one tile and a few steps."""

# %% [markdown]
# # DiffC by hand: an image to bytes and back
#
# DiffC (Theis et al., arXiv 2206.08889) sends an image x as a noisy latent z_s, and lets a diffusion
# model make an image of it. The sender moves from pure noise towards x in steps. In each one both sides
# know p(z_s | z_t), the sender also knows q(z_s | z_t, x), and a *channel* communicates a sample of q to
# whoever knows p, for about KL[q || p] bits.
#
# This script writes both sides with the parts of the library, for one tile and one packet, and checks
# that `Codec.encode` writes the same bytes and `Codec.decode` makes the same image, in a minute of CPU:
#
#     python examples/encode_decode.py

# %% The denoiser, an image, and what both sides know.
import jax.numpy as jnp
import numpy as np

import diffc_jax as dj
from diffc_jax.codec.chain import message_keys, standardised_mean
from diffc_jax.codec.container import CodedStep, StreamWriter, parse
from diffc_jax.codec.step_sizes import StepSizes
from diffc_jax.codec.stream import Header, snr_to_float
from diffc_jax.data import SourceSpec, open_source
from diffc_jax.diffusion import process

SIDE, MEMORY, SEED = 64, 14, 7
codec = dj.load_codec()
programs = codec.programs
chain = programs.chain(MEMORY)
tile_keys = np.array([[SEED, 0]], np.uint32)  # shared randomness: the seed, the number of the tile
image = open_source(SourceSpec(split="eval", image_size=SIDE))[0]


# %% The sender. Both sides have predicted how far s is from t; how far the sample goes decides its bits.
def encode(image):
    x = process.pixels_to_unit(jnp.asarray(image[None]))
    z, sizes = chain.start(tile_keys), StepSizes((SEED, 0), 3 * SIDE**2, MEMORY)
    writer = StreamWriter(Header(SIDE, SIDE, SIDE, MEMORY, SEED, programs.fingerprint[:2]))
    while writer.n_packets < 1:
        snr_t, offer = np.array([snr_to_float(sizes.snr)]), sizes.offer()
        x_hat = chain.predict(programs.variables, z, snr_t)  # p(z_s | z_t) is q(z_s | z_t, x_hat)
        delta = np.array([snr_to_float(offer.delta)])  # SNR(s) - SNR(t)
        # Relative to p = N(0, I), q is N(mu, I) with KL[q || p] = |mu|^2 / 2 nats.
        mu = standardised_mean(x, x_hat, delta.astype(np.float32))
        length = np.sqrt(delta[0] * float(process.squared_norm(x - x_hat)[0]))
        cell = offer.cell(length)  # with shared randomness: the length of the sample along mu
        path_bits = offer.path_bits(cell)
        keys = message_keys(tile_keys, np.array([sizes.n_steps]))
        (path,) = chain.codebook.search(keys, mu, [path_bits])
        sample = chain.codebook.decode(keys, [(path, path_bits)])
        z, check = chain.step(keys, z, x_hat, sample, snr_t, delta)
        print(f"step {sizes.n_steps}: {dj.ideal_rate(mu)[0]:.1f} bits ideal, {path_bits} sent")
        writer.append(CodedStep((), cell, path, int(check[0]) % 16))
        sizes.advance(offer, cell)
    return writer.to_bytes()


# %% The receiver walks the same chain, then follows the probability flow to an image (DiffC-F).
def decode(data):
    z, snr = chain.start(tile_keys), 0
    for number, step in enumerate(parse(data).steps()[0]):
        snr_t, delta = np.array([snr_to_float(snr)]), np.array([snr_to_float(step.delta)])
        x_hat = chain.predict(programs.variables, z, snr_t)
        keys = message_keys(tile_keys, np.array([number]))
        sample = chain.codebook.decode(keys, [(step.path, step.path_bits)])
        z, check = chain.step(keys, z, x_hat, sample, snr_t, delta)
        snr += step.delta
    assert int(check[0]) % 16 == step.check, "the latents of sender and receiver differ"
    gamma, end = -np.log(snr_to_float(snr)), programs.gamma_range[0]
    grid = jnp.asarray(np.linspace(gamma, end, 17), jnp.float32)
    x = dj.flow(lambda *at: programs.denoiser(programs.variables, *at), z, grid, 16)
    return np.asarray(process.unit_to_pixels(x)[0])


# %% The codec does the same, for images of any size.
data = encode(image)
decoded = decode(data)
assert data == codec.encode(image, packets=1, memory=MEMORY, seed=SEED)
assert np.abs(codec.decode(data, n_steps=16).astype(int) - decoded).max() <= 1
psnr = 10 * np.log10(255**2 / np.mean((decoded.astype(float) - image) ** 2))
print(f"{len(data)} bytes, {8 * len(data) / SIDE**2:.3f} bpp, {psnr:.2f} dB: as the codec")

"""Encoder and decoder of DiffC by hand, for one tile and one packet."""

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
from diffc_jax.codec import container, noise_levels
from diffc_jax.codec.chain import message_keys, standardised_mean
from diffc_jax.codec.container import Header, Packet
from diffc_jax.data import SourceSpec, open_source
from diffc_jax.diffusion import process

SIDE, MEMORY, SEED, PATH_BITS, STEPS = 64, 12, 0, 64, 8
codec = dj.load_codec()
programs = codec.programs
chain = programs.chain(MEMORY)
channel = dj.TrellisChannel(3 * SIDE**2, PATH_BITS, MEMORY)
tile_keys = np.array([[SEED, 0]], np.uint32)  # shared randomness: the seed, the number of the tile
image = open_source(SourceSpec(split="eval", image_size=SIDE))[0]


# %% The sender. It chooses each s so that the step carries exactly what a message of 64 bits can carry.
def encode(image):
    x = process.pixels_to_unit(jnp.asarray(image[None]))
    z, snr, codes, paths = chain.start(tile_keys), 0, [], b""
    for step in range(STEPS):
        snr_t = np.array([noise_levels.to_float(snr)])
        x_hat = chain.predict(programs.variables, z, snr_t)  # p(z_s | z_t) is q(z_s | z_t, x_hat)
        squared_error = float(process.squared_norm(x - x_hat)[0])
        code = noise_levels.nearest_code(channel.reach**2 / squared_error)  # of SNR(s) - SNR(t)
        delta = np.array([noise_levels.to_float(noise_levels.increment(code))])
        # Relative to p = N(0, I), q is N(mu, I) with KL[q || p] = |mu|^2 / 2 nats.
        mu = standardised_mean(x, x_hat, delta.astype(np.float32))
        keys = message_keys(tile_keys, np.array([step]))
        path, sample = channel.encode(keys, mu)
        z, check = chain.step(keys, z, x_hat, sample, snr_t, delta)
        snr, codes = snr + noise_levels.increment(code), [*codes, code]
        paths += channel.to_bytes(path)
        print(f"step {step}: {dj.ideal_rate(mu)[0]:.1f} bits ideal, {PATH_BITS} sent")
    header = Header(SIDE, SIDE, SIDE, MEMORY, SEED, programs.fingerprint)
    packet = Packet(PATH_BITS, tuple(codes), paths, int(check[0]))
    return container.write_stream(header, [[packet]])


# %% The receiver walks the same chain, then follows the probability flow to an image (DiffC-F).
def decode(data):
    (packet,) = container.parse(data).packets[0]
    z, snr = chain.start(tile_keys), 0
    paths = channel.from_bytes(packet.paths, len(packet.increments))
    for step, code in enumerate(packet.increments):
        snr_t = np.array([noise_levels.to_float(snr)])
        x_hat = chain.predict(programs.variables, z, snr_t)
        keys = message_keys(tile_keys, np.array([step]))
        sample = channel.decode(keys, paths[step : step + 1])
        delta = np.array([noise_levels.to_float(noise_levels.increment(code))])
        z, check = chain.step(keys, z, x_hat, sample, snr_t, delta)
        snr += noise_levels.increment(code)
    assert int(check[0]) == packet.check, "the latents of sender and receiver differ"
    gamma, end = -np.log(noise_levels.to_float(snr)), programs.gamma_range[0]
    grid = jnp.asarray(np.linspace(gamma, end, 17), jnp.float32)
    x = dj.flow(lambda *at: programs.denoiser(programs.variables, *at), z, grid, 16)
    return np.asarray(process.unit_to_pixels(x)[0])


# %% The codec does the same, for images of any size.
data = encode(image)
decoded = decode(data)
assert data == codec.encode(image, packets=1, memory=MEMORY, seed=SEED)
assert np.abs(codec.decode(data).astype(int) - decoded).max() <= 1
psnr = 10 * np.log10(255**2 / np.mean((decoded.astype(float) - image) ** 2))
print(f"{len(data)} bytes, {8 * len(data) / SIDE**2:.3f} bpp, {psnr:.2f} dB: as the codec")

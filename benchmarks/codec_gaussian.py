"""The codec against the ideal rate and distortion, on a Gaussian source with the exact denoiser.

python benchmarks/codec_gaussian.py --memory=12

x has 12288 independent components of variance proportional to i^-1.2, 0.25 on average. Files are cut after
the step with which they hold a number of path bits. All rates are bits over I(X; Z_t), the ideal
rate of the noise level that is reached:

    path       the path bits of the steps
    +incr      and the increments of the signal-to-noise ratio, rounded up to bytes
    packets    everything but the header: heads and checks of the packets, too
    file       the whole file
    D / D_F    squared error of DiffC-F (its exact solution) from the codec's latents, over the closed form
    loss       dB from DiffC-F at the noise level where I(X; Z_t) is the number of bits in the whole file

with the mean over the sources and its standard error.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy.optimize import brentq

from diffc_jax import cli
from diffc_jax.codec import noise_levels
from diffc_jax.codec.chain import Chain
from diffc_jax.codec.container import Header, Packet, write_stream
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.encoder import LongPacket, TileEncoder
from diffc_jax.models.gaussian import independent_eps_hat
from diffc_jax.theory import gaussian

_MEMORY = flags.DEFINE_integer("memory", 12, "Bits of the trellis' register, 3 to 15.")
_SOURCES = flags.DEFINE_integer("sources", 8, "Number of source vectors.", lower_bound=2)
_BITS = flags.DEFINE_list("bits", ["1024", "2048", "4096", "8192"], "Path bits of the files.")

_SHAPE = (64, 64, 3)
_SIZE = 12288
_GAMMA_RANGE = (-13.3, 9.0)
VARIANCES = np.arange(1, _SIZE + 1) ** -1.2
VARIANCES *= 0.25 * _SIZE / VARIANCES.sum()
_COLUMNS = ("path", "+incr", "packets", "file", "D / D_F", "loss")


def first_steps(packets: Sequence[LongPacket], bits: int) -> list[Packet]:
    """As many steps as hold at least so many path bits."""
    chosen = []
    for packet in packets:
        n_steps = min(packet.n_steps, -(-bits // packet.path_bits))
        if n_steps > 0:
            chosen.append(packet.cut(n_steps))
            bits -= n_steps * packet.path_bits
    return chosen


def stream_bits(packets: Sequence[Packet], memory: int) -> tuple[int, int, int, int]:
    """The first four of `_COLUMNS`, in bits."""
    header = Header(_SHAPE[1], _SHAPE[0], _SHAPE[0], memory, 0, bytes(4))
    file = 8 * len(write_stream(header, [packets]))
    everything = file - 8 * len(header.to_bytes())
    # A packet has three bytes besides increments and paths: head, latent check, checksum.
    increments = everything - 24 * len(packets)
    return 8 * sum(len(packet.paths) for packet in packets), increments, everything, file


def measure(
    packets: Sequence[Packet], memory: int, latent: np.ndarray, snr: float, x: np.ndarray
) -> list[float]:
    """One source, one row of `_COLUMNS`."""
    bits = stream_bits(packets, memory)
    y = latent.ravel() * np.sqrt((1 + snr) / snr)
    squared_error = np.sum((y * gaussian.flow_gain(VARIANCES, 1 / snr) - x) ** 2)
    log_ideal_snr = brentq(lambda log_snr: information(np.exp(log_snr)) - bits[-1], -10, 30)
    over_ideal = squared_error / flow_distortion(np.exp(log_ideal_snr))
    return [
        *(number / information(snr) for number in bits),
        squared_error / flow_distortion(snr),
        10 * np.log10(over_ideal),
    ]


def information(snr: float) -> float:
    """I(X; Z_t) in bits."""
    return float(gaussian.rates(VARIANCES, 1 / snr).sum())


def flow_distortion(snr: float) -> float:
    """D_F in closed form."""
    return float(gaussian.distortions_flow(VARIANCES, 1 / snr).sum())


def main() -> None:
    memory, n = _MEMORY.value, _SOURCES.value
    cuts = sorted(map(int, _BITS.value))
    x = np.random.default_rng(0).normal(size=(n, _SIZE)) * np.sqrt(VARIANCES)
    variables = {"fixed": {"variances": jnp.asarray(VARIANCES.reshape(_SHAPE), jnp.float32)}}
    chain = Chain(independent_eps_hat, _SHAPE, _GAMMA_RANGE, memory)
    # A seed for each source, as for files of their own.
    keys = np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.uint32)
    images = x.reshape(n, *_SHAPE).astype(np.float32)
    end_snr = noise_levels.from_float(np.exp(-_GAMMA_RANGE[0]))
    encoder = TileEncoder(chain, variables, images, keys, end_snr, n)
    while sum(packet.n_steps * packet.path_bits for packet in encoder.packets[0]) < cuts[-1]:
        encoder.advance(range(n))
    print(f"memory {memory}, {n} sources: mean (standard error)")
    print("  bits   gamma" + "".join(f"{name:>17}" for name in _COLUMNS))
    for bits in cuts:
        packets = [first_steps(one, bits) for one in encoder.packets]
        decoder = LatentDecoder(chain, variables, keys, n)
        decoder.advance(dict(enumerate(packets)))
        latents = decoder.latents()
        rows = np.array(
            [measure(packets[i], memory, latents.z[i], latents.snr[i], x[i]) for i in range(n)]
        )
        mean, error = rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(n)
        gamma = -np.log(latents.snr).mean()
        cells = (f"{m:8.4f} ({e:.4f})" for m, e in zip(mean, error, strict=True))
        print(f"{bits:>6} {gamma:>7.2f}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    cli.run(main)

"""The codec against the ideal rate and distortion, on a Gaussian source with the exact denoiser.

python benchmarks/codec_gaussian.py --memory=14

x has 12288 independent components of variance proportional to i^-1.2, 0.25 on average. Files are cut after
the step with which they hold a number of path bits. All rates are bits over I(X; Z_t), the ideal
rate of the noise level that is reached:

    path       the path bits of the steps
    +cells     and the cells of their targets
    file       the whole file
    D / D_F    squared error of DiffC-F (its exact solution) from the codec's latents, over the closed form
    loss       dB from DiffC-F at the noise level where I(X; Z_t) is the number of bits in the whole file
    along      variance over the sources of the noise in the first sample after so many bits along the next
               residual x - x_hat; and what it is if this sample is exact

Rates are the mean number of bits over the mean information of the sources, the others means; in brackets
standard errors. An exact scheme's information varies from source to source, by about 30 bits at 512.
Between two steps of a source everything is interpolated to the number of path bits.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float
from scipy.optimize import brentq

from diffc_jax import cli
from diffc_jax.codec.chain import Chain
from diffc_jax.codec.codebooks import OpenCodebook
from diffc_jax.codec.container import parse, write_stream
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.header import CHECK_BITS, DEFAULT_MEMORY
from diffc_jax.codec.stream import Header, Step, snr_from_float
from diffc_jax.codec.tile_encoder import TileEncoder
from diffc_jax.models.gaussian import independent_eps_hat
from diffc_jax.theory import gaussian

_MEMORY = flags.DEFINE_integer(
    "memory", DEFAULT_MEMORY, "Bits of the trellis' register: 8, 12 or 14."
)
_SOURCES = flags.DEFINE_integer("sources", 8, "Number of source vectors.", lower_bound=2)
_BITS = flags.DEFINE_list(
    "bits", ["512", "1024", "2048", "4096", "8192"], "Path bits of the files."
)

_SHAPE = (64, 64, 3)
_SIZE = 12288
_GAMMA_RANGE = (-13.3, 9.0)
VARIANCES = np.arange(1, _SIZE + 1) ** -1.2
VARIANCES *= 0.25 * _SIZE / VARIANCES.sum()
_COLUMNS = ("path", "+cells", "file", "D / D_F", "loss")


def information(snr: float) -> float:
    """I(X; Z_t) in bits."""
    return float(gaussian.rates(VARIANCES, 1 / snr).sum())


def flow_distortion(snr: float) -> float:
    """D_F in closed form."""
    return float(gaussian.distortions_flow(VARIANCES, 1 / snr).sum())


def measure(bits: Sequence[float], latent: np.ndarray, snr: float, x: np.ndarray) -> list[float]:
    """One source at one of its steps: three numbers of bits, information, and the last two of `_COLUMNS`."""
    y = latent.ravel() * np.sqrt((1 + snr) / snr)
    squared_error = np.sum((y * gaussian.flow_gain(VARIANCES, 1 / snr) - x) ** 2)
    log_ideal_snr = brentq(lambda log_snr: information(np.exp(log_snr)) - bits[-1], -10, 30)
    over_ideal = squared_error / flow_distortion(np.exp(log_ideal_snr))
    return [
        *bits,
        information(snr),
        squared_error / flow_distortion(snr),
        10 * np.log10(over_ideal),
    ]


def along_residual(
    noise: np.ndarray, before: np.ndarray, snr_before: float, snr: float, x: np.ndarray
) -> float:
    """How far the noise of a sample goes in the direction of the residual that it leaves.

    `before` is what was known before, snr x + sqrt(snr) eps; the sample adds as much of the same kind.
    """
    delta = snr - snr_before
    known = before + delta * x + np.sqrt(delta) * noise
    residual = x - VARIANCES / (VARIANCES + 1 / snr) * known / snr
    return float(noise @ residual / np.linalg.norm(residual))


def with_error(values: Sequence[float]) -> str:
    """The variance of normal values, with its standard error."""
    variance = np.var(values, ddof=1)
    return f"{variance:.3f} ({variance * np.sqrt(2 / (len(values) - 1)):.3f})"


def at_bits(rows: Sequence[Sequence[float]], bits: int) -> list[float]:
    """A row between the two whose path bits are on either side."""
    table = np.array(rows)
    return [float(np.interp(bits, table[:, 0], column)) for column in table.T]


def summarised(table: Float[np.ndarray, "n 6"]) -> list[tuple[float, float]]:
    """Each of `_COLUMNS` for rows of `at_bits`, with its standard error."""
    ideal = table[:, 3]
    values = []
    for column in table[:, :3].T:
        ratio = column.mean() / ideal.mean()
        values.append((ratio, (column - ratio * ideal) / ideal.mean()))
    values += [(column.mean(), column) for column in table[:, 4:].T]
    return [(mean, rest.std(ddof=1) / np.sqrt(len(rest))) for mean, rest in values]


def main() -> None:
    memory, n = _MEMORY.value, _SOURCES.value
    cuts = sorted(map(int, _BITS.value))
    x = np.random.default_rng(0).normal(size=(n, _SIZE)) * np.sqrt(VARIANCES)
    variables = {"fixed": {"variances": jnp.asarray(VARIANCES.reshape(_SHAPE), jnp.float32)}}
    codebook = OpenCodebook(_SIZE, memory)
    chain = Chain(independent_eps_hat, _SHAPE, _GAMMA_RANGE, memory, codebook)
    # A seed for each source, as for files of their own.
    keys = np.stack([np.arange(n), np.zeros(n)], axis=1).astype(np.uint32)
    images = x.reshape(n, *_SHAPE).astype(np.float32)
    end_snr = snr_from_float(np.exp(-_GAMMA_RANGE[0]))
    encoder = TileEncoder(chain, variables, images, keys, end_snr, n)
    decoder = LatentDecoder(chain, variables, keys, n, CHECK_BITS)
    rows: list[list[list[float]]] = [[] for _ in range(n)]
    # Of each step: path bits before it, and how far its noise and exact noise go along the next residual.
    along: list[list[tuple[int, float, float]]] = [[] for _ in range(n)]
    known, snrs, paths = np.zeros((n, _SIZE)), np.zeros(n), [0] * n
    rng = np.random.default_rng(1)
    while min(one[-1][0] if one else 0 for one in along) < cuts[-1]:
        encoder.advance(range(n))
        new: dict[int, list[Step]] = {}
        files = []
        for i in range(n):
            header = Header(_SHAPE[1], _SHAPE[0], _SHAPE[0], memory, i, b"\0\0")
            files.append(write_stream(header, encoder.steps[i]))
            new[i] = parse(files[-1]).steps()[0][-1:]
        decoder.advance(new)
        latents = decoder.latents()
        for i in range(n):
            path = encoder.sizes[i].bits
            cells = path + sum(one.bits - one.path_bits for one in encoder.choices[i])
            bits = path, cells, 8 * len(files[i])
            snr = float(latents.snr[i])
            rows[i].append(measure(bits, latents.z[i], snr, x[i]))
            after = latents.z[i].ravel() * np.sqrt(snr * (1 + snr))
            delta = snr - snrs[i]
            noise = (after - known[i] - delta * x[i]) / np.sqrt(delta)
            far = [
                along_residual(one, known[i], snrs[i], snr, x[i])
                for one in (noise, rng.normal(size=_SIZE))
            ]
            along[i].append((paths[i], far[0], far[1]))
            known[i], snrs[i], paths[i] = after, snr, path
    print(f"memory {memory}, {n} sources: mean (standard error)")
    titles = (*_COLUMNS, "along", "exact")
    print("  bits  steps" + "".join(f"{name:>17}" for name in titles))
    for bits in cuts:
        table = np.array([at_bits(one, bits) for one in rows])
        steps = np.mean([np.searchsorted([row[0] for row in one], bits) + 1 for one in rows])
        cells = [f"{mean:8.4f} ({error:.4f})" for mean, error in summarised(table)]
        reached = [next(one for one in some if one[0] >= bits) for some in along]
        cells += [with_error([one[i] for one in reached]) for i in (1, 2)]
        print(f"{bits:>6} {steps:>6.1f}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    cli.run(main)

"""Rows of schemes.csv of the open trellis: exact samples, by paths as long as shared randomness says."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from diffc_jax.channel_simulation.channel import length_of_rate, rate_of_energy, sample_statistics
from diffc_jax.channel_simulation.open_trellis import OpenTrellis
from diffc_jax.channel_simulation.open_trellis_reach import mean_projections
from diffc_jax.channel_simulation.projection import UNIT, Grid, bits_for, make_grid
from diffc_jax.codec.step_sizes import most_bits
from diffc_jax.studies.channel_comparison.rows import (
    TRUE_KS,
    Row,
    generator_of,
    random_messages,
    row_of,
)

# |mu| over that of the planned step, as far as the receiver is taken to know it.
_KNOWN = 0.7, 1.4


def open_trellis_rows(
    *, path_bits: int, memory: int, size: int, messages: int, batch: int, seed: int
) -> list[Row]:
    """The trellis of version 2 of the codec, at the length of mu of a step of so many path bits on average.

    Its bits are those of the path and the logarithm of the number of cells in which the |mu| of such a step
    may lie.
    """
    trellis = OpenTrellis(size, memory, most_bits(size))
    ideal_rate = rate_of_energy((mean_projections(memory)[path_bits] / UNIT) ** 2 - 1)
    length = length_of_rate(ideal_rate)
    keys, directions = random_messages(messages, size, seed)
    mu = directions * length
    words = generator_of(seed, f"targets/{path_bits}/{memory}").integers(0, 1 << 32, messages)
    grids = [make_grid(int(word), path_bits, memory) for word in words]
    sent = [bits_for(grid.target(grid.nearest(length)), memory) for grid in grids]
    bits = [k + math.log2(_n_cells(grid, length)) for k, grid in zip(sent, grids, strict=True)]
    counts = np.array(sent, np.int32)
    jax.block_until_ready(trellis.search(keys[:batch], mu[:batch], counts[:batch]))
    samples, seconds = [], []
    for start in range(0, messages, batch):
        part = slice(start, start + batch)
        begin = time.perf_counter()
        paths = jax.block_until_ready(trellis.search(keys[part], mu[part], counts[part]))
        middle = time.perf_counter()
        samples.append(jax.block_until_ready(trellis.decode(keys[part], paths, counts[part])))
        seconds.append([(middle - begin) / batch, (time.perf_counter() - middle) / batch])
    sample = jnp.concatenate(samples)
    along = np.sum(np.asarray(mu, np.float64) * np.asarray(sample), axis=1) / length - length
    found = sample_statistics(mu, sample)
    encode, decode = np.median(seconds, axis=0)
    row = row_of("open_trellis", f"memory {memory}", "channel", ideal_rate, np.array(bits), along)
    return [
        row
        | {
            "chunks": 1,
            "variance_orthogonal": found.variance,
            "ks_orthogonal": found.orthogonal_ks,
            "ks_orthogonal_true": TRUE_KS / mu.size**0.5,
            "size": size,
            "encode_seconds": float(encode),
            "decode_seconds": float(decode),
        }
    ]


def _n_cells(grid: Grid, length: float) -> int:
    """How many cells the known range of |mu| touches."""
    low, high = (grid.nearest(factor * length) for factor in _KNOWN)
    return high - low + 1

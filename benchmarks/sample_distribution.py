"""Whether samples of the codec are samples of N(mu, I): projections on mu, and what is orthogonal to it.

    python benchmarks/sample_distribution.py --path_bits=64

Messages in 12288 dimensions with |mu| from 0.7 to 1.4 times that of a planned step of so many path bits, and
shared randomness of their own, are searched and decoded. One line: bias of the projection over |mu| (0), its
variance about |mu| (1), Kolmogorov-Smirnov distance from N(0, 1) over 0.87 / sqrt(messages), which it has on
average if they are, correlation of the error with |mu| (0), variance orthogonal to mu (1), and path bits
over the ideal rate. In brackets standard errors.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy.stats import kstest

from diffc_jax import cli
from diffc_jax.channel_simulation.open_trellis import OpenTrellis
from diffc_jax.channel_simulation.open_trellis_reach import MOST_BITS, mean_projections
from diffc_jax.channel_simulation.projection import UNIT, bits_for, make_grid
from diffc_jax.codec.header import DEFAULT_MEMORY

_PATH_BITS = flags.DEFINE_multi_integer("path_bits", [64, 256], "K of planned steps.")
_MEMORY = flags.DEFINE_integer("memory", DEFAULT_MEMORY, "Bits of the trellis' register.")
_MESSAGES = flags.DEFINE_integer("messages", 20_000, "Number of messages.")
_SIZE, _BATCH = 12288, 50


def main() -> None:
    memory = _MEMORY.value
    trellis = OpenTrellis(_SIZE, memory, MOST_BITS)
    for planned in _PATH_BITS.value:
        energy = (mean_projections(memory)[planned] / UNIT) ** 2 - 1
        rng = np.random.default_rng(planned)
        lengths, errors, orthogonal, bits = [], [], [], []
        for batch in range(-(-_MESSAGES.value // _BATCH)):
            a = np.sqrt(energy) * rng.uniform(0.7, 1.4, _BATCH)
            grids = [
                make_grid(int(word), planned, memory) for word in rng.integers(0, 1 << 32, _BATCH)
            ]
            targets = [
                grid.target(grid.nearest(length)) for grid, length in zip(grids, a, strict=True)
            ]
            k = jnp.asarray([bits_for(target, memory) for target in targets])
            keys = jnp.asarray(rng.integers(0, 1 << 32, (_BATCH, 2)), jnp.uint32)
            mu = jax.random.normal(jax.random.key(batch), (_BATCH, _SIZE))
            mu *= jnp.asarray(a / np.linalg.norm(mu, axis=1), jnp.float32)[:, None]
            sample = np.float64(trellis.decode(keys, trellis.search(keys, mu, k), k))
            along = np.sum(sample * mu, axis=1) / a
            lengths.append(a)
            errors.append(along - a)
            orthogonal.append((np.sum(sample**2, axis=1) - along**2) / (_SIZE - 1))
            bits.append(np.asarray(k))
        length, error = np.concatenate(lengths), np.concatenate(errors)
        root = math.sqrt(len(error))
        rate = np.sum(np.concatenate(bits)) / (np.sum(length**2) / (2 * math.log(2)))
        print(
            f"K {planned}, memory {memory}, {len(error)} messages: "
            f"bias {error.mean() / length.mean():+.5f} ({error.std() / root / length.mean():.5f}), "
            f"variance {error.var():.4f} ({error.var() * math.sqrt(2) / root:.4f}), "
            f"KS {kstest(error, 'norm').statistic * root / 0.87:.2f}, "
            f"correlation {np.corrcoef(length, error)[0, 1]:+.4f} ({1 / root:.4f}), "
            f"orthogonal {np.mean(orthogonal):.4f}, bits over ideal {rate:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    cli.run(main)

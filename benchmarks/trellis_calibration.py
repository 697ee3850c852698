"""How far the paths of the trellis reach: the tables of diffc_jax/channel_simulation/trellis_reach.py.

    python benchmarks/trellis_calibration.py --table=gains
    python benchmarks/trellis_calibration.py --table=fractions --memory=3 --memory=6 --memory=9 ..
    python benchmarks/trellis_calibration.py --table=stages
    python benchmarks/trellis_calibration.py --table=ratios --path_bits=64 --memory=10

gains: mean projection of the best path on random directions over sqrt(K), all bits free, stages of 48
dimensions. fractions: projection with 1/16 to 7/8 of the bits free and the others left to chance over that
with all free, K = 128. stages: gain with stages of 6 to 384 dimensions over that with 48, K = 64.
ratios: bits over KL at the longest mu that is sent without bias (M = 12288): by the tables, and measured.
In brackets behind each number its standard error.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float

from diffc_jax import cli
from diffc_jax.channel_simulation.bits import random_words
from diffc_jax.channel_simulation.trellis import SEAM_STAGES, TrellisChannel

_TABLE = flags.DEFINE_enum("table", "ratios", ["gains", "fractions", "stages", "ratios"], "Which.")
_MEMORY = flags.DEFINE_multi_integer("memory", list(range(3, 16)), "Bits of the register.")
_PATH_BITS = flags.DEFINE_multi_integer("path_bits", [2**i for i in range(5, 12)], "K.")
_EFFORT = flags.DEFINE_float("effort", 31.0, "log2 of the states to be passed for an entry.")
BATCH = 32
STAGE = 48
FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)
STAGES = (6, 12, 24, 48, 96, 192, 384)


def projections(channel: TrellisChannel, free_bits: int) -> Float[np.ndarray, " n"]:
    """Projections of samples on random directions; as many messages as the effort allows."""
    states = max(channel.path_bits, SEAM_STAGES) << channel.memory
    number = min(2**_EFFORT.value / states, 2**28 / channel.size, 4096)
    found = []
    for batch in range(max(1, round(number / BATCH))):
        keys = random_words(jnp.array([[batch, 0]], jnp.uint32), 0, BATCH)[0]
        mu = jax.random.normal(jax.random.key(batch), (BATCH, channel.size))
        mu /= jnp.linalg.norm(mu, axis=1, keepdims=True)
        _, sample = channel.encode_free(keys, mu, jnp.full(BATCH, free_bits))
        found.append(np.sum(np.asarray(mu, np.float64) * np.asarray(sample), axis=1))
    return np.concatenate(found)


def entry(values: Float[np.ndarray, " n"], unit: float) -> str:
    """Mean over a unit, and its standard error."""
    return f"{values.mean() / unit:.4f} ({values.std() / np.sqrt(len(values)) / unit:.4f})"


def gains() -> None:
    for memory in _MEMORY.value:
        row = [
            entry(projections(TrellisChannel(STAGE * k, k, memory), k), np.sqrt(k))
            for k in _PATH_BITS.value
        ]
        print(memory, *row, flush=True)


def fractions() -> None:
    for memory in _MEMORY.value:
        channel = TrellisChannel(STAGE * 128, 128, memory)
        reach = projections(channel, 128).mean()
        row = [entry(projections(channel, round(128 * fraction)), reach) for fraction in FRACTIONS]
        print(memory, *row, flush=True)


def stages() -> None:
    for memory in _MEMORY.value:
        reach = projections(TrellisChannel(STAGE * 64, 64, memory), 64).mean()
        row = [entry(projections(TrellisChannel(d * 64, 64, memory), 64), reach) for d in STAGES]
        print(memory, *row, flush=True)


def ratios() -> None:
    for path_bits in _PATH_BITS.value:
        for memory in _MEMORY.value:
            channel = TrellisChannel(12288, path_bits, memory)
            found = projections(channel, path_bits)
            error = found.std() / np.sqrt(len(found)) / found.mean()
            measured = 2 * np.log(2) * path_bits / found.mean() ** 2
            print(
                f"K {path_bits:4} memory {memory:2}  table {path_bits / channel.ideal_rate:.4f}"
                f"  measured {measured:.4f} ({2 * error * measured:.4f})"
                f"  reach {channel.reach:.3f}  measured {found.mean():.3f} ({error * found.mean():.3f})",
                flush=True,
            )


def main() -> None:
    {"gains": gains, "fractions": fractions, "stages": stages, "ratios": ratios}[_TABLE.value]()


if __name__ == "__main__":
    cli.run(main)

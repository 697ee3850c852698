"""How far samples of the open trellis go: the tables of diffc_jax/channel_simulation/open_trellis_reach.py.

    python benchmarks/open_trellis_calibration.py --memory=14
    python benchmarks/open_trellis_calibration.py --memory=14 --size=768 --path_bits=32 --path_bits=64

For each memory and number k of path bits: the mean projection R of the best path's sample on a random
direction over sqrt(k), and the variance v of that projection, from so many searches with a fixed seed. Each
line ends with the standard error of the first, bits over KL (k over R^2 / 2 nats), and the variance of the
sample orthogonal to the direction (1 in a Gaussian).
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float

from diffc_jax import cli
from diffc_jax.channel_simulation.open_trellis import OpenTrellis
from diffc_jax.channel_simulation.open_trellis_reach import LADDER, MOST_BITS

_MEMORY = flags.DEFINE_multi_integer("memory", list(range(8, 17)), "Bits of the register.")
_PATH_BITS = flags.DEFINE_multi_integer("path_bits", list(LADDER), "k.")
_SEARCHES = flags.DEFINE_integer("searches", 3000, "Number of searches for each k.")
_SIZE = flags.DEFINE_integer("size", 12288, "Dimensions of a message.")
_BATCH = 50


def statistics(trellis: OpenTrellis, path_bits: int) -> Float[np.ndarray, "n 2"]:
    """Projection on the direction and variance orthogonal to it, of each sample."""
    found = []
    for batch in range(-(-_SEARCHES.value // _BATCH)):
        keys = jnp.stack([jnp.full(_BATCH, batch), jnp.arange(_BATCH) + path_bits * _BATCH], 1)
        mu = jax.random.normal(jax.random.key(batch), (_BATCH, trellis.size))
        k = jnp.full(_BATCH, path_bits)
        paths = trellis.search(keys.astype(jnp.uint32), mu, k)
        sample = np.asarray(trellis.decode(keys.astype(jnp.uint32), paths, k), np.float64)
        direction = np.asarray(mu, np.float64)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        along = np.sum(direction * sample, axis=1)
        rest = np.sum(sample**2, axis=1) - along**2
        found.append(np.stack([along, rest / (trellis.size - 1)], axis=1))
    return np.concatenate(found)


def main() -> None:
    for memory in _MEMORY.value:
        trellis = OpenTrellis(_SIZE.value, memory, min(MOST_BITS, _SIZE.value))
        for k in _PATH_BITS.value:
            along, rest = statistics(trellis, k).T
            gain, error = along.mean() / np.sqrt(k), along.std() / np.sqrt(len(along) * k)
            print(
                f"memory {memory:2} k {k:3}  gain {gain:.5f}  variance {along.var():.5f}  "
                f"({error:.5f})  bits/KL {2 * np.log(2) / gain**2:.4f}  orthogonal {rest.mean():.4f}",
                flush=True,
            )


if __name__ == "__main__":
    cli.run(main)

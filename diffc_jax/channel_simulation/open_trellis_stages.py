"""Where the stages of the open trellis begin and end."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

# Lengths of stages in units of 1 / 64 of an ordinary one: the first RAMP_STAGES rise from 0.1 to 1, the last
# TAIL_STAGES from 1 to 3; of short paths a third and a sixth of them do.
RAMP_STAGES, TAIL_STAGES = 16, 6


def stage_ends(
    size: int, most_bits: int, path_bits: Int[Array | np.ndarray, " b"]
) -> Int[Array | np.ndarray, "b most1"]:
    """Where stages end, in dimensions, for paths of so many bits: 0, then the end of each, then `size`.

    Exact integers below 2^31, which the format needs.
    """
    xp = np if isinstance(path_bits, np.ndarray) else jnp
    k, j = path_bits[:, None].astype(np.int32), np.arange(most_bits, dtype=np.int32)[None]
    ramp = xp.clip(k // 3, 1, RAMP_STAGES)
    tail = xp.clip(k // 6, 1, TAIL_STAGES)
    rising = xp.where(j < ramp, 6 + 58 * (2 * j + 1) // (2 * ramp), 64)
    late = j - (k - tail)
    length = rising + xp.where(late >= 0, 128 * (2 * late + 1) // (2 * tail), 0)
    ends = xp.cumsum(xp.where(j < k, length, 0), axis=1)
    total = ends[:, -1:]
    # size * ends / total, rounded, without a product that overflows.
    ends = size // total * ends + (size % total * ends + total // 2) // total
    return xp.pad(ends, ((0, 0), (1, 0)))

"""The labels of trellises: the fixed Gaussian tables that sender and receiver make, and their units."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float

from diffc_jax.channel_simulation.bits import Stream, random_words

# Labels are multiples of 1 / LABEL_SCALE.
LABEL_SCALE = 16
# Searches see mu in integers up to this one.
LARGEST_TARGET = 127


def label_table(stream: Stream, rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
    """Labels times LABEL_SCALE before signs, the same for every message: integers.

    Normal quantiles of fixed random words, in float64, each column scaled to mean square 1 and rounded.
    """
    count = rows * columns
    with jax.ensure_compile_time_eval():
        words = np.asarray(random_words(jnp.zeros((1, 2), jnp.uint32), stream, -(-count // 2)))
    normal = scipy.special.ndtri((words.ravel()[:count].reshape(rows, columns) + 0.5) / 2**32)
    normal /= np.sqrt(np.mean(normal**2, axis=0))
    return np.rint(LABEL_SCALE * normal).astype(np.float32)

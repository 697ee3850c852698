"""How far the samples of the open trellis go in the direction of mu."""

import functools

REACH_BITS = 16
MOST_BITS = 640


@functools.cache
def mean_projections(memory):
    import numpy as np

    ks = np.array([1, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 640])
    g = np.array(
        [0.8, 1.0, 1.055, 1.086, 1.104, 1.121, 1.128, 1.135, 1.1385, 1.1425, 1.1445, 1.147]
    )
    k = np.arange(MOST_BITS + 1)
    return [int(v) for v in np.rint(np.sqrt(k) * np.interp(k, ks, g) * 65536)]


@functools.cache
def spreads(memory):
    import numpy as np

    ks = np.array([0, 8, 16, 24, 32, 64, 128, 640])
    v = np.array([1, 0.15, 0.09, 0.065, 0.05, 0.03, 0.02, 0.01])
    k = np.arange(MOST_BITS + 1)
    return [int(x) for x in np.rint(np.sqrt(1 - np.interp(k, ks, v) * 0.999) * 65536)]

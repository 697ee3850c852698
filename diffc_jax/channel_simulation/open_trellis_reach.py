"""How far samples of the open trellis go in the direction of mu, as benchmarks/open_trellis_calibration.py found.

The tables are part of the format of files, so that what is between their entries is interpolated in integers.
"""

import functools
import math

# Bits after the point of lengths.
REACH_BITS = 16
# Path bits k for which tables have entries; paths have at most the last of them.
LADDER = (
    *(1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128),
    *(160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)
MOST_BITS = LADDER[-1]
_UNIT = 100_000

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

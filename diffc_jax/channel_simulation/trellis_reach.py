"""How far the paths of the trellis reach towards mu, as benchmarks/trellis_calibration.py measured it."""

import numpy as np
from jaxtyping import Float

# Mean projection of the best path over sqrt(K) for stages of 48 dimensions, by memory, for K = 32, 64, ..
# 2048. Standard errors: up to 0.002, for memory 14 and 15 at K = 32 up to 0.005. (Benchmark with --effort
# 19 + memory for memory 3 to 8, 29.5 for 10, 30 for fractions, else 31.)
_GAINS = {
    3: (0.9991, 0.9994, 0.9999, 0.9992, 0.9976, 0.9992, 0.9990),
    4: (1.0346, 1.0370, 1.0374, 1.0356, 1.0365, 1.0368, 1.0371),
    5: (1.0632, 1.0690, 1.0698, 1.0677, 1.0679, 1.0681, 1.0679),
    6: (1.0827, 1.0876, 1.0883, 1.0882, 1.0882, 1.0883, 1.0887),
    7: (1.0924, 1.1013, 1.1032, 1.1025, 1.1026, 1.1027, 1.1026),
    8: (1.0986, 1.1116, 1.1139, 1.1132, 1.1134, 1.1135, 1.1134),
    9: (1.1009, 1.1204, 1.1243, 1.1245, 1.1247, 1.1245, 1.1246),
    10: (1.0979, 1.1249, 1.1292, 1.1309, 1.1311, 1.1310, 1.1307),
    11: (1.0918, 1.1276, 1.1345, 1.1366, 1.1365, 1.1366, 1.1367),
    12: (1.0823, 1.1280, 1.1392, 1.1409, 1.1412, 1.1415, 1.1415),
    13: (1.0716, 1.1295, 1.1417, 1.1450, 1.1455, 1.1458, 1.1461),
    14: (1.0598, 1.1288, 1.1442, 1.1477, 1.1484, 1.1490, 1.1490),
    15: (1.0408, 1.1234, 1.1444, 1.1507, 1.1519, 1.1523, 1.1522),
}
# The gain with stages of 6, 12 and 24 dimensions over that with 48 (K = 64; standard errors up to
# 0.002): short stages depend on the very table of labels, so between these dimensions it is known to
# about 1 %. Of 96 to 384 dimensions no difference was found; memory 13 to 15 was not measured and
# counts as 1.
_STAGES = (6, 12, 24, 48)
_STAGE_FACTORS = {
    3: (0.9868, 0.9919, 0.9969, 1),
    4: (1.0057, 1.0245, 0.9998, 1),
    5: (1.0083, 0.9995, 0.9956, 1),
    6: (0.9845, 0.9886, 0.9988, 1),
    7: (0.9877, 0.9928, 0.9992, 1),
    8: (0.9909, 0.9918, 1.0004, 1),
    9: (0.9868, 0.9978, 0.9989, 1),
    10: (0.9992, 0.9970, 1.0016, 1),
    11: (0.9956, 0.9971, 0.9981, 1),
    12: (1.0013, 0.9992, 0.9988, 1),
}
# Projection over that with all bits free, by memory, for these fractions of free bits (K = 128; standard
# errors up to 0.001, for memory 12 and 15 up to 0.003 and 0.008).
_FRACTIONS = (0, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)
_FRACTION_FACTORS = {
    3: (0, 0.0866, 0.1711, 0.3436, 0.4617, 0.6206, 0.7071, 0.8197, 0.9131, 1),
    6: (0, 0.0970, 0.1936, 0.3590, 0.4983, 0.6189, 0.7325, 0.8295, 0.9175, 1),
    9: (0, 0.1096, 0.2109, 0.3827, 0.5247, 0.6460, 0.7491, 0.8410, 0.9235, 1),
    12: (0, 0.1192, 0.2293, 0.4028, 0.5448, 0.6591, 0.7601, 0.8486, 0.9273, 1),
    15: (0, 0.1206, 0.2380, 0.4218, 0.5624, 0.6727, 0.7695, 0.8597, 0.9314, 1),
}


def mean_projections(size: int, path_bits: int, memory: int) -> Float[np.ndarray, " k1"]:
    """Mean projection of the best path on any direction, if 0, 1, .. K of its bits are free.

    Arguments are those of `TrellisChannel`.
    """
    memories = list(_FRACTION_FACTORS)
    gain = np.interp(np.log2(path_bits), np.arange(5, 12), _GAINS[memory])
    stage_factors = _STAGE_FACTORS.get(memory, (1, 1, 1, 1))
    gain *= np.interp(np.log2(size / path_bits), np.log2(_STAGES), stage_factors)
    columns = np.array(list(_FRACTION_FACTORS.values())).T
    factors = [np.interp(memory, memories, column) for column in columns]
    factor = np.interp(np.arange(path_bits + 1) / path_bits, _FRACTIONS, factors)
    return (gain * np.sqrt(path_bits) * factor).astype(np.float32)

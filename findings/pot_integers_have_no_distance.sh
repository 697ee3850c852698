#!/usr/bin/env bash
# POT's (Python Optimal Transport) Wasserstein distances of integer samples are 0.
#
# Guess:  `ot.wasserstein_1d` and `ot.sliced_wasserstein_distance` of integers (pixels, counts, labels) are
#         those of the same numbers as floats, as SciPy's `wasserstein_distance` is.
# Seen:   they are exactly 0, for uint8, int32 and int64, however far the samples are from each other;
#         `max_sliced_wasserstein_distance` too. `ot.emd2_1d`, which computes the same, is right for them.
#         There is no warning.
# Why:    weights and projections are made "as" the samples (`type_as`): 1 / n becomes the integer 0, and so
#         does nearly every component of a unit vector. Costs of weight 0 sum to 0.
# Source: https://github.com/PythonOT/POT/blob/master/ot/lp/solver_1d.py (wasserstein_1d)
#         ot/sliced/_sliced_distances.py in the package (0.9.7.post1)
#         https://github.com/PythonOT/POT/issues/345 (integers in `emd`) and
#         https://github.com/PythonOT/POT/issues/530 (integers in Gromov barycentres)
# Hurts:  who compares images, histograms or counts by a sliced distance: all of them seem to be equal.
# Here:   POT is not used.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  POT==0.9.7.post1 numpy==2.4.6 scipy==1.17.1

"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import numpy as np
import ot
from scipy.stats import wasserstein_distance

warnings.simplefilter("error")  # none comes
print("POT", ot.__version__)
generator = np.random.default_rng(0)
dark = generator.integers(0, 100, (200, 3))
bright = generator.integers(150, 250, (200, 3))
true = wasserstein_distance(dark[:, 0], bright[:, 0])
print(f"in one dimension, SciPy: {true:.2f}")

seen = {}
for kind in (np.float64, np.int64, np.int32, np.uint8):
    x, y = dark.astype(kind), bright.astype(kind)
    one = float(ot.wasserstein_1d(x[:, 0], y[:, 0]))
    sorted_one = float(ot.emd2_1d(x[:, 0], y[:, 0], metric="euclidean"))  # a control: right for all
    sliced = float(ot.sliced_wasserstein_distance(x, y, seed=0))
    largest = float(ot.max_sliced_wasserstein_distance(x, y, seed=0))
    seen[kind] = one, sorted_one, sliced, largest
    print(
        f"{kind.__name__}: wasserstein_1d {one:.2f}, emd2_1d {sorted_one:.2f}, sliced {sliced:.2f},"
        f" largest slice {largest:.2f}"
    )

right = all(abs(values[1] - true) < 1e-6 for values in seen.values())
right = right and abs(seen[np.float64][0] - true) < 1e-6 and min(seen[np.float64][2:4]) > 50
zero = all(seen[kind][0] == seen[kind][2] == 0 for kind in (np.int64, np.int32, np.uint8))
if not (right and zero):
    sys.exit("no longer seen: integers have a distance")
print("seen: integer samples that share no value have distance 0")
PYTHON

#!/usr/bin/env bash
# SciPy's distances, paired t-test and Wiener filter wrap around for 8-bit values, and their siblings do not.
#
# Guess:  statistics of 8-bit values are those of the same numbers as floats: the results are float64, and
#         sqeuclidean, cdist, wilcoxon, ttest_ind and medfilt2d of the same arrays are right.
# Seen:   scipy.spatial.distance.euclidean of two images that differ by up to 9 levels is 30 times too large,
#         and not the root of sqeuclidean; cityblock, chebyshev and minkowski likewise. ttest_rel of opinion
#         scores of 1 to 5 finds that two codecs of equal quality differ, with p = 10^-22. signal.wiener of an
#         image returns values far outside of 0 to 255. No warning.
# Why:    differences, products and squares are taken in the type of the input, uint8, and only their means
#         are float64. Others of these functions convert first.
# Source: https://github.com/scipy/scipy/blob/main/scipy/spatial/distance.py
#         https://github.com/scipy/scipy/blob/main/scipy/stats/_stats_py.py (ttest_rel)
#         https://github.com/scipy/scipy/blob/main/scipy/signal/_signaltools.py (wiener)
#         https://github.com/scipy/scipy/issues/10262 (distance_matrix, repaired; these remain)
# Hurts:  who compares images as they come from a file, and who keeps ratings in a small type: the p-value
#         looks like any other.
# Here:   not used on integers; statistics are of float64 (diffc_jax/metrics).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import scipy
from scipy import signal, stats
from scipy.spatial import distance

print("scipy", scipy.__version__)
rng = np.random.default_rng(0)

SIDE = 64
image = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
decoded = np.clip(image + rng.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)
images = image.ravel(), decoded.ravel()
# Ratings of two codecs by the same 200 people, from one distribution.
grades, shares = np.arange(1, 6, dtype=np.uint8), [0.05, 0.15, 0.3, 0.3, 0.2]
scores = tuple(rng.choice(grades, 200, p=shares) for _ in range(2))
gradient = np.add.outer(np.arange(SIDE), np.arange(SIDE)) + 60
noisy = (np.clip(gradient + rng.normal(scale=8, size=gradient.shape), 0, 255).astype(np.uint8),)

cases = {
    # controls: right
    "distance.sqeuclidean": (distance.sqeuclidean, images),
    "distance.correlation": (distance.correlation, images),
    "distance.cdist, euclidean": (lambda a, b: distance.cdist(a[None], b[None])[0, 0], images),
    "stats.wilcoxon, p": (lambda a, b: stats.wilcoxon(a, b).pvalue, scores),
    "stats.ttest_ind, p": (lambda a, b: stats.ttest_ind(a, b).pvalue, scores),
    "signal.medfilt2d, least": (lambda a: signal.medfilt2d(a).min(), noisy),
    # cases
    "distance.euclidean": (distance.euclidean, images),
    "distance.cityblock": (distance.cityblock, images),
    "distance.chebyshev": (distance.chebyshev, images),
    "distance.minkowski": (distance.minkowski, images),
    "stats.ttest_rel, p": (lambda a, b: stats.ttest_rel(a, b).pvalue, scores),
    "signal.wiener, least": (lambda a: signal.wiener(a).min(), noisy),
}
wrong = []
for name, (function, arrays) in cases.items():
    result = float(function(*arrays))
    expected = float(function(*(array.astype(np.float64) for array in arrays)))
    print(f"{name}: uint8 {result:.6g}, float64 {expected:.6g}")
    if not np.isclose(result, expected, rtol=1e-6):
        wrong.append(name)

if wrong != list(cases)[6:]:
    sys.exit("no longer seen: other functions are wrong, or none")
print("seen: some functions wrap around, and others beside them do not")
PYTHON

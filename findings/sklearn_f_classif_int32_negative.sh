#!/usr/bin/env bash
# SelectKBest's default score, f_classif, is noise for int32, uint16 or float32 features.
#
# Guess:  the F statistic of years, pressures or 16-bit pixels does not depend on their type, as
#         with scipy.stats.f_oneway "that should give the same results" (its notes). It is never
#         negative, and of features that have nothing to do with the classes 1 % have p < 0.01.
# Seen:   for 5000 years from 1990 to 2024, kept as int32, F is between -17 and 17 instead of 0 and
#         5, and 13 of 50 have p < 0.01; as int64 all is right. For 16-bit pixels of 30000 +- 50 one
#         that tells the classes apart has F = -279 instead of 70, rank 45 of 50 instead of 1, and
#         SelectKBest keeps noise. No warning.
# Why:    the sums of squares between and within classes are differences of sums of squares that
#         have the mean in them, and all are float32: integers of up to 32 bits become float32 too.
#         The error is about 1e-7 of n mean^2, however small the variance. f_regression asks
#         check_X_y for float64, f_classif does not.
# Source: https://github.com/scikit-learn/scikit-learn/blob/main/sklearn/feature_selection/
#         _univariate_selection.py (f_oneway); sklearn/utils/validation.py (as_float_array)
# Hurts:  who selects features of small types (16-bit images, data frames with 32-bit columns)
#         before scaling them. StandardScaler in front, or astype(float), helps. Only the order of
#         scores is used, so that nobody looks at their size or sign.
# Here:   diffc_jax selects no features; statistics of images are centred, in float64.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import sklearn
from scipy.stats import f_oneway
from sklearn.feature_selection import SelectKBest, f_classif

print("scikit-learn", sklearn.__version__)
generator = np.random.default_rng(0)


def compare(name, features, classes, types):
    """The largest deviation of F from that of SciPy in float64, for each type of the features."""
    exact = features.astype(np.float64)
    true = f_oneway(exact[classes == 0], exact[classes == 1]).statistic
    print(f"{name}: F from {true.min():.2f} to {true.max():.2f} by scipy.stats.f_oneway")
    off = {}
    for dtype in types:
        scores, p = f_classif(features.astype(dtype), classes)
        print(
            f"  {dtype:8}F from {scores.min():.2f} to {scores.max():.2f}; "
            f"{(scores < 0).sum()} of {len(scores)} negative, {(p < 0.01).sum()} with p < 0.01"
        )
        off[dtype] = np.abs(scores - true).max()
    return off


classes = generator.integers(0, 2, 5000)
years = generator.integers(1990, 2025, (5000, 50))
off = compare("years, random classes", years, classes, ["int64", "int32", "int16", "float32"])
centred = compare("years minus 2007", years - 2007, classes, ["int64", "int32", "float32"])
expected = off["int64"] < 1e-6 and min(off["int32"], off["int16"], off["float32"]) > 5
expected &= max(centred.values()) < 0.1

# 50 pixels of a 16-bit camera; the first is brighter by 0.3 deviations in class 1.
pixels = generator.normal(30_000, 50, (5000, 50))
pixels[:, 0] += 15 * classes
pixels = pixels.round()
kept = {}
for dtype, order in [("float64", "C"), ("int64", "C"), ("uint16", "C"), ("uint16", "F")]:
    selector = SelectKBest(k=5).fit(pixels.astype(dtype, order=order), classes)
    scores = selector.scores_
    kept[dtype, order] = bool(selector.get_support()[0])
    print(
        f"pixels, {dtype} ({order}): informative one F = {scores[0]:.0f}, rank "
        f"{(scores > scores[0]).sum() + 1} of 50, others {scores[1:].min():.0f} to "
        f"{scores[1:].max():.0f}, kept by SelectKBest(k=5): {kept[dtype, order]}"
    )
expected &= kept["float64", "C"] and kept["int64", "C"] and not kept["uint16", "C"]

if not expected:
    sys.exit("no longer seen: scores do not depend on the type, or otherwise")
print("seen: scores of small types are noise, and the informative feature is dropped")
PYTHON

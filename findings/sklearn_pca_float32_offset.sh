#!/usr/bin/env bash
# Scikit-learn's PCA is wrong for float32 data whose mean is large beside its deviations.
#
# Guess:  PCA subtracts the mean and then finds the components, so that an offset changes nothing, in float32
#         no more than the rounding of the data does. So it is with svd_solver="full", and was before version
#         1.5.
# Seen:   temperatures of 8 sensors in a room, 293 K on average, that vary by 0.3 K together and by 0.02 to
#         0.2 K each, in float32: by default every variance is wrong, most by more than 30 %, and the smallest
#         are exactly 0. Their whitened values have standard deviations of more than 10^5 instead of 1. No
#         warning. The same numbers are right in float64, with 293 subtracted beforehand, with the solver
#         "full", and with the default one if there are fewer rows than ten for each column.
# Why:    with ten rows or more a column and up to 1000 columns, "auto" means "covariance_eigh" since version
#         1.5. It computes X'X - n mean mean' in the type of X, to save a copy of it. Both terms have the size
#         of the squared mean, and float32 keeps 7 of their digits. What is negative afterwards becomes 0, and
#         whitening divides by its root, which is at least 10^-7 there. The documentation says that the
#         covariance is that of centred data, and warns of a large range of singular values; here it is 36,
#         and numpy.cov in float32, which does centre, and its eigenvalues are right.
# Source: https://github.com/scikit-learn/scikit-learn/blob/main/sklearn/decomposition/_pca.py
#         https://github.com/scikit-learn/scikit-learn/pull/27491 (the new solver)
# Hurts:  who whitens or counts components of float32 measurements with an offset: temperatures, coordinates,
#         activations of networks, latents. Patches of photographs with values of 0 to 1 vary so much that the
#         error is below 1 %.
# Here:   not used. Covariances (diffc_jax/metrics/statistics.py) are of centred values, in float64.
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
from sklearn.decomposition import PCA

print("scikit-learn", sklearn.__version__)
SENSORS, TIMES, OFFSET = 8, 2000, np.float32(293)

rng = np.random.default_rng(0)
room = rng.normal(scale=0.3, size=(TIMES, 1))
own = rng.normal(size=(TIMES, SENSORS)) * np.geomspace(0.2, 0.02, SENSORS)
kelvin = (OFFSET + room + own).astype(np.float32)


def look(name, values, solver="auto"):
    """Whether PCA gets variances right; the truth is that of the same numbers, centred in float64."""
    exact = values.astype(np.float64)
    exact = np.linalg.svd(exact - exact.mean(0), compute_uv=False) ** 2 / (len(values) - 1)
    pca = PCA(whiten=True, svd_solver=solver).fit(values)
    ratios = pca.explained_variance_ / exact
    spread = pca.transform(values).std(0, ddof=1)
    right = bool(np.abs(ratios - 1).max() < 0.01 and np.abs(spread - 1).max() < 0.01)
    print(f"{name}: {'right' if right else 'WRONG'}")
    print("    variances / true ones:     ", " ".join(f"{ratio:.3g}" for ratio in ratios))
    print("    whitened, their deviations:", " ".join(f"{deviation:.3g}" for deviation in spread))
    return right


few = kelvin[: 10 * SENSORS - 1]
covariance = np.cov(kelvin.T, dtype=np.float32)
eigenvalues = np.linalg.eigvalsh(covariance)
singular = np.linalg.svd(kelvin - kelvin.mean(0, dtype=np.float64), compute_uv=False)
print(f"range of the singular values: {singular[0] / singular[-1]:.0f}")
covered = eigenvalues / (singular[::-1] ** 2 / (TIMES - 1))
print("numpy.cov in float32, variances / true ones:", " ".join(f"{ratio:.3g}" for ratio in covered[::-1]))
controls = [
    look("float64", kelvin.astype(np.float64)),
    look("float32, 293 subtracted", kelvin - OFFSET),
    look("float32, svd_solver='full'", kelvin, "full"),
    look(f"float32, {len(few)} rows", few),
    bool(covariance.dtype == np.float32 and np.abs(covered - 1).max() < 0.01),
]
case = look("float32", kelvin)

if case or not all(controls):
    sys.exit("no longer seen: the components are right, or a control is wrong")
print("seen: components of float32 values with an offset are wrong")
PYTHON

#!/usr/bin/env bash
# xarray's mean of float16 data is not NumPy's: the sum sticks, and nothing is said.
#
# Guess:  `array.mean("sample")` of float16 data without NaN is `np.mean` over that axis, which
#         adds in float32 ("by default, float16 results are computed using float32 intermediates").
# Seen:   of 5000 samples around 5 the mean is 3.3, where np.mean has 5.0; of 5000 pixels in [0, 1]
#         it is 0.41 in all places instead of 0.50, and of 10000 half of that. No warning, unless a
#         sum exceeds 65504; then the mean is infinite. (Standard deviations are wrong as well, but
#         np.std has the same error.)
# Why:    `skipna` is on for all floats, so that xarray calls `np.nanmean` even if there is no NaN.
#         It adds in the type of its input: from 1024 on, adding less than 0.5 to a float16 changes
#         nothing.
# Source: https://github.com/pydata/xarray, nanmean in xarray/computation/nanops.py; for np.nanmean
#         alone https://github.com/numpy/numpy/issues/23075 (open, about infinities). NumPy's
#         documentation of nanmean says "the same precision the input has", that of xarray nothing.
# Hurts:  features, activations and weather data that are stored in half precision: values are
#         plausible, and the more samples, the smaller the mean.
# Cure:   `array.mean("sample", dtype="float64")`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  xarray==2026.9.0 numpy==2.4.6 pandas==3.1.1

"$folder/venv/bin/python" -W error - <<'PYTHON'
import sys

import numpy as np
import xarray as xr

print("xarray", xr.__version__, "numpy", np.__version__)
rng = np.random.default_rng(0)
ratios = []


def show(title, numbers):
    """Prints statistics of the first column by xarray and by NumPy, and in float64."""
    half = numbers.astype(np.float16)
    array = xr.DataArray(half, dims=("sample", "feature"))
    right = half.astype(np.float64)
    for name in ("mean", "std"):
        seen = float(getattr(array, name)("sample")[0])
        plain = float(getattr(np, name)(half, axis=0)[0])
        wide = float(getattr(array, name)("sample", dtype="float64")[0])
        exact = float(getattr(right, name)(axis=0)[0])
        print(f"{title:24} {name:4}: xarray {seen:6.3f}, np.{name:4} {plain:6.3f}, xarray with "
              f"dtype=float64 {wide:6.3f}, right {exact:6.3f}")
        if name == "mean":
            ratios.append((seen / exact, plain / exact, wide / exact))


show("normal (5, 1), 100", rng.normal(5, 1, (100, 8)))
show("normal (5, 1), 5000", rng.normal(5, 1, (5000, 8)))
show("uniform (0, 1), 5000", rng.random((5000, 8)))
show("uniform (0, 1), 10000", rng.random((10000, 8)))
seen, plain, wide = np.array(ratios).T
print("means divided by the right ones:", np.round(seen, 2))
if not (np.allclose(plain, 1, atol=0.01) and np.allclose(wide, 1, atol=0.01)
        and abs(seen[0] - 1) < 0.01 and max(seen[1:]) < 0.9 and seen[3] < 0.5):
    sys.exit("no longer seen: means of float16 are those of NumPy")
print("seen: means of float16 by xarray are too small")
PYTHON

#!/usr/bin/env bash
# xarray's weighted mean, sum and standard deviation of small integers wrap around.
#
# Guess:  `image.weighted(mask).mean()` of 8-bit or 16-bit pixels with a boolean mask is the mean
#         under the mask; `image.weighted(counts).mean()` of floats does not depend on whether the
#         weights are uint8 or float. Without weights `image.mean()` is right for all types.
# Seen:   0.1 instead of 129 for 8-bit pixels and a boolean mask (also with uint16, int16, int32
#         rasters), and 4699 instead of 129 for float pixels with a uint8 mask: more than the
#         largest pixel. Standard deviations, variances and sums as well.
# Why:    sums are `xr.dot(values, weights)`, an einsum in the type of its arguments: values times
#         booleans are summed in uint8, and the sum of uint8 weights in uint8. Only boolean weights
#         are widened, and only for the sum of the weights (issue 4074, fixed in 2020).
# Source: https://github.com/pydata/xarray, Weighted._reduce and _sum_of_weights in
#         xarray/computation/weighted.py. No issue about integers was found; the documentation of
#         `weighted` does not mention types.
# Hurts:  statistics of images and satellite rasters under masks or with numbers of observations as
#         weights, as they are read from files: there are no errors and no warnings.
# Cure:   weights in float64: `image.weighted(mask.astype(float))`.
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
pixels = rng.integers(0, 256, (40, 50))
inside = rng.random((40, 50)) < 0.5
image = xr.DataArray(pixels, dims=("y", "x"))
mask = xr.DataArray(inside, dims=("y", "x"))


def seen(values, weights):
    weighted = values.weighted(weights)
    return float(weighted.mean()), float(weighted.std())


wrong = []
print("pixels   weights    mean: seen      right    standard deviation: seen      right")
for pixel_type, scale in (("uint8", 1), ("int16", 40), ("uint16", 200), ("float32", 1)):
    selected = pixels[inside].astype(np.float64) * scale  # by indexing, without weights
    for weight_type in ("bool", "uint8", "float64"):
        mean, deviation = seen((image * scale).astype(pixel_type), mask.astype(weight_type))
        print(f"{pixel_type:8} {weight_type:8} {mean:12.2f} {selected.mean():10.2f} "
              f"{deviation:28.2f} {selected.std():10.2f}")
        off = abs(mean / selected.mean() - 1) > 0.3
        if off != (weight_type == "uint8" or weight_type == "bool" and pixel_type != "float32"):
            sys.exit("no longer seen: another set of types is wrong")
        wrong.append(off)
unweighted = float(image.astype("uint8").mean())
print(f"without weights, uint8: {unweighted:.2f} (right: {pixels.mean():.2f}); "
      f"with `where(mask)`: {float(image.astype('uint8').where(mask).mean()):.2f}")
if sum(wrong) != 7:
    sys.exit("no longer seen: weighted means are right")
print("seen: weighted means of small integers, or with weights that are small integers, are wrong")
PYTHON

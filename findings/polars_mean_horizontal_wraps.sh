#!/usr/bin/env bash
# Polars' mean over columns wraps around for integers: the mean of 255, 255 and 255 is 84.3.
#
# Guess:  pl.mean_horizontal, whose result is Float64, is the mean. Means and sums down a column are
#         right for the same data: the documentation of `sum` says that 8 and 16 bits are cast to
#         Int64 first "to prevent overflow issues".
# Seen:   for UInt8 columns red, green and blue the mean is wrong for all but dark pixels; for Int8
#         three marks of 80 have the mean -5.3. A mean lies outside of the range of its own values.
#         16 and 32 bits wrap likewise beyond their range. `list.mean` of the same columns is right.
#         No warning.
# Why:    it is pl.sum_horizontal, in the type of the columns, divided by their number (the values
#         show it: 765 mod 256 is 253, and 253 / 3 is 84.3).
# Source: https://docs.pola.rs/api/python/stable/reference/expressions/api/polars.Expr.sum.html
#         https://github.com/pola-rs/polars/issues/21515 (open: sum_horizontal of Int8, not means)
# Hurts:  who keeps pixels, marks or counts in small types, as Parquet files often do: the result is
#         a float of a plausible size. pl.mean_horizontal(pl.all().cast(pl.Float64)) helps.
# Here:   diffc_jax does not use Polars.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import polars as pl

print("polars", pl.__version__)
expected = True
names = ["a", "b", "c"]
for value, dtype in [
    (255, pl.UInt8),
    (80, pl.Int8),
    (30_000, pl.UInt16),
    (20_000, pl.Int16),
    (2_000_000_000, pl.Int32),
    (2_000_000_000, pl.Int64),  # control
]:
    frame = pl.DataFrame({name: [value] for name in names}, schema=dict.fromkeys(names, dtype))
    column = pl.DataFrame({"a": [value] * 3}, schema={"a": dtype})["a"]
    across = frame.select(pl.mean_horizontal(names)).item()
    as_list = frame.select(pl.concat_list(names).list.mean()).item()
    print(
        f"three times {value}, {dtype}: mean across {across:.2f}, of a list {as_list:.2f}, "
        f"down a column {column.mean():.2f}"
    )
    expected &= column.mean() == as_list == value
    expected &= (across == value) == (dtype == pl.Int64)

# Grey from columns of 8 bits.
pixels = np.random.default_rng(0).integers(0, 256, (100_000, 3)).astype(np.uint8)
frame = pl.DataFrame({name: pixels[:, i] for i, name in enumerate(names)})
true = pixels.mean(axis=1)
for name, columns in [("UInt8", pl.all()), ("cast to Float64", pl.all().cast(pl.Float64))]:
    grey = frame.select(pl.mean_horizontal(columns)).to_series().to_numpy()
    wrong = (np.abs(grey - true) > 1e-6).mean()
    outside = ((grey < pixels.min(axis=1)) | (grey > pixels.max(axis=1))).mean()
    print(
        f"random colours, {name}: mean grey {grey.mean():.1f} (true: {true.mean():.1f}), "
        f"{wrong:.1%} wrong, {outside:.1%} outside of their own three values"
    )
    expected &= wrong > 0.5 if name == "UInt8" else wrong == 0

if not expected:
    sys.exit("no longer seen: means across columns are right, or others are not")
print("seen: means across integer columns wrap around")
PYTHON

#!/usr/bin/env bash
# pyarrow scrambles images that were mirrored with [::-1] before they became a tensor column.
#
# Guess:  `FixedShapeTensorArray.from_numpy_ndarray(images)` holds `images`, whatever their layout
#         in memory, or refuses it ("If input array data is not contiguous a copy will be made").
# Seen:   batches (N, height, width, channels) that are mirrored (`images[:, :, ::-1]`) or turned
#         by 180 degrees, and grey ones (N, height, width) that are flipped (`images[:, ::-1]`)
#         come back with the same shape and type, but with their pixels shuffled, from memory and
#         from Parquet files. Where height and width were swapped (`transpose(0, 2, 1, 3)`), the
#         column comes back right, but its elements (`column[i].to_numpy()`) are shuffled.
#         Batches that are plain, cropped, with channels reversed or copied are right. Flipped
#         colour images and channels moved to the front are accepted, and fail when they are read
#         ("strides must not involve buffer over run") or have another shape then.
# Why:    the order of axes is the order of the signed strides, which are negative after a flip,
#         while `np.ravel(obj, order="K")` orders them by their absolute values: the values are
#         stored in one order and described in another.
# Source: https://github.com/apache/arrow, FixedShapeTensorArray.from_numpy_ndarray in
#         python/pyarrow/array.pxi; no issue was found. pyarrow.Tensor.from_numpy refuses
#         negative strides.
# Hurts:  who writes augmented images, spectrograms or flow fields as tensor columns. A model
#         that is trained on them sees noise in a part of the data, and nothing fails.
# Cure:   np.ascontiguousarray(images).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6

FILE="$folder/images.parquet" "$folder/venv/bin/python" - <<'PYTHON'
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__, "numpy", np.__version__)
images = np.random.default_rng(0).integers(0, 256, (10, 24, 32, 3), dtype=np.uint8)
grey = np.ascontiguousarray(images[..., 0])


def wrong(batch):
    """Share of values that differ: a column in memory, one from a file, its elements."""
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(batch)
    pq.write_table(pa.table({"image": column}), os.environ["FILE"])
    read = pq.read_table(os.environ["FILE"])["image"].combine_chunks()
    arrays = [column.to_numpy_ndarray(), read.to_numpy_ndarray()]
    try:
        arrays.append(np.stack([element.to_numpy() for element in column]))
    except pa.ArrowInvalid as error:
        print("   element by element:", error)
    assert all(array.shape == batch.shape and array.dtype == batch.dtype for array in arrays)
    return [float(np.mean(array != batch)) for array in arrays]


cases = {
    "plain": (images, []),
    "cropped": (images[:, 2:20, 3:30], []),
    "channels reversed": (images[..., ::-1], []),
    "mirrored, copied": (images[:, :, ::-1].copy(), []),
    "mirrored": (images[:, :, ::-1], [0, 1, 2]),
    "turned by 180 degrees": (images[:, ::-1, ::-1], [0, 1, 2]),
    "grey, flipped": (grey[:, ::-1], [0, 1]),
    "axes swapped": (images.transpose(0, 2, 1, 3), [2]),
}
expected = True
for name, (batch, bad) in cases.items():
    shares = wrong(batch)
    print(f"{name:22} wrong values in memory, from a file, element by element:",
          *(f"{share:4.0%}" for share in shares))
    expected &= all((share > 0.5) if i in bad else share == 0 for i, share in enumerate(shares))
if not expected:
    sys.exit("no longer seen: mirrored images come back")
print("seen: mirrored images are scrambled")
PYTHON

#!/usr/bin/env bash
# pydicom: `apply_voi_lut` uses 256 entries only of a look-up table of 8-bit values.
#
# Guess:  a 12-bit image with a VOI LUT of 4096 entries of 8 bits becomes table[pixels]; with a
#         shorter table, pixels above it get its last entry, as the standard says.
# Seen:   pixels are taken modulo 256 first. With a table from 0 to 255 for pixels from 0 to 4095
#         the result is 0 to 16, sixteen sawteeth in place of a ramp. With 256 entries from pixel
#         1024 on, white for all above 1279, pixel 1280 is black. Tables of 10 to 16 bits are right.
# Why:    `clipped_iv = np.zeros(arr.shape, dtype=dtype)` holds indices into the table but has the
#         type of its values, uint8, and they wrap when they are stored in it. The comments beside
#         it say "IVs > number of entries get set to last entry". In apply_color_lut it is the same,
#         where the guide asks for 8-bit pixels.
# Source: apply_voi in https://github.com/pydicom/pydicom/blob/main/src/pydicom/pixels/processing.py
#         (the same there in June 2026). No issue was found. PS3.3 C.11.2.1.1 allows 8 bits.
# Hurts:  who prepares X-rays or mammograms for reading or for a network: bright and dark are mixed
#         up, and it looks like texture.
# Cure:   item = ds.VOILUTSequence[0]; entries, first, _ = item.LUTDescriptor;
#         np.asarray(item.LUTData)[np.clip(pixels.astype(int) - first, 0, (entries or 65536) - 1)].
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

print("pydicom", pydicom.__version__, "numpy", np.__version__)
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def image(entries, first, bits):
    """A 12-bit ramp with a linear VOI LUT, written as a DICOM file and read again."""
    item = Dataset()
    item.LUTDescriptor = [entries, first, bits]
    table = np.linspace(0, 2**bits - 1, entries).round().astype(int)
    item.add_new("LUTData", "US", table.tolist())
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.set_pixel_data(RAMP, "MONOCHROME2", 12)
    dataset.VOILUTSequence = [item]
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return pydicom.dcmread(file)


def expected(dataset):
    """What PS3.3 C.11.2.1.1 says."""
    item = dataset.VOILUTSequence[0]
    entries, first, _ = item.LUTDescriptor
    indices = np.clip(dataset.pixel_array.astype(int) - first, 0, entries - 1)
    return np.asarray(item.LUTData)[indices]


wrong = {}
for entries, first, bits in ((4096, 0, 8), (256, 1024, 8), (4096, 0, 12), (256, 1024, 12)):
    dataset = image(entries, first, bits)
    result, right = apply_voi_lut(dataset.pixel_array, dataset), expected(dataset)
    wrong[entries, first, bits] = np.mean(result != right)
    print(f"{entries} entries of {bits} bits from pixel {first}: "
          f"{np.mean(result != right):.0%} of the pixels are wrong, range {result.min()} to "
          f"{result.max()} instead of {right.min()} to {right.max()}")
    for pixel in (255, 256, 1279, 1280, 2000, 4095):
        print(f"  pixel {pixel:4}: {result.flat[pixel]:4}, expected {right.flat[pixel]:4}")

if min(wrong[4096, 0, 8], wrong[256, 1024, 8]) < 0.1:
    sys.exit("no longer seen: tables of 8-bit values are used as they are")
print("seen: pixels wrap around in tables of 8-bit values")
PYTHON

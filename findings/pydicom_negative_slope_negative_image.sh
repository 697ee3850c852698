#!/usr/bin/env bash
# pydicom: windowing turns images with a negative rescale slope into negatives.
#
# Guess:  `apply_windowing(apply_modality_lut(pixels, ds), ds)` rises with the modality values that
#         it is given: higher ones are brighter. A window over all of them changes nothing.
# Seen:   with RescaleSlope = -1 and RescaleIntercept = 4095 the darkest value becomes the
#         brightest; a window over the whole range gives back the stored pixels, as if they had not
#         been rescaled. With a positive slope all is as expected. No warning.
# Why:    the range of the output is computed from that of the stored pixels, `y_max = y_max *
#         RescaleSlope + RescaleIntercept` and so y_min, and with a negative slope y_min is above
#         y_max.
# Source: apply_windowing in https://github.com/pydicom/pydicom/blob/main/src/pydicom/pixels/
#         processing.py (the same there in June 2026); DICOM PS3.3 C.11.2.1.2: values below the
#         window become the minimum output value. No issue was found; there is no test with a
#         negative slope.
# Hurts:  who reads X-rays whose stored values are inverted, as radiography with storage phosphors
#         does: bones are dark in some of the images of a dataset and bright in the others.
# Cure:   output.min() + output.max() - output for a negative slope, or an own window.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_windowing

print("pydicom", pydicom.__version__, "numpy", np.__version__)
STORED = np.arange(0, 4096, 455, dtype=np.uint16)


def image(slope, intercept, low, high, function):
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored, dataset.PixelRepresentation = 12, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    dataset.WindowCenter, dataset.WindowWidth = (low + high + 1) / 2, high - low + 1
    dataset.VOILUTFunction = function
    return dataset


def window(values, low, high, smallest, largest):
    """The LINEAR function of PS3.3 C.11.2.1.2.1, with the range of the modality values."""
    return smallest + (largest - smallest) * np.clip((values - low) / (high - low), 0, 1)


inverted = {}
for slope, intercept in ((1, 0), (1, -1024), (-1, 4095), (-0.5, 1000)):
    smallest, largest = sorted((intercept, 4095 * slope + intercept))
    quarter = (largest - smallest) / 4
    for low, high in ((smallest, largest), (smallest + quarter, largest - quarter)):
        dataset = image(slope, intercept, low, high, "LINEAR")
        values = apply_modality_lut(STORED, dataset)
        result = apply_windowing(values, dataset)
        error = np.abs(result - window(values, low, high, smallest, largest)).max()
        sigmoid = apply_windowing(values, image(slope, intercept, low, high, "SIGMOID"))
        signs = [np.sign(np.corrcoef(values, output)[0, 1]) for output in (result, sigmoid)]
        inverted[slope, low] = signs == [-1, -1]
        print(f"slope {slope}, window {low:g} to {high:g}: modality values {values[:3]}, "
              f"windowed {result[:3].round(1)}, error {error:.0f}, "
              f"{'falling' if inverted[slope, low] else 'rising'}")

if not all(negative == (slope < 0) for (slope, _), negative in inverted.items()):
    sys.exit("no longer seen: windows do not depend on the sign of the slope")
print("seen: images with a negative slope are negatives")
PYTHON

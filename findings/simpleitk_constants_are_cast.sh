#!/usr/bin/env bash
# SimpleITK: numbers beside an image become pixels first: `image > 300` means `image > 44`.
#
# Guess:  `image * 0.5`, `image / 2.5` and `image ** 0.5` are computed with these numbers and then
#         rounded or refused; `image > 300` is false everywhere in 8 bits, `image > -1` true.
# Seen:   in images of whole numbers of all sizes `* 0.5` is 0 everywhere, `* 1.5` changes nothing,
#         `** 0.5` is 1, `/ 2.5` (a float64 image) is `/ 2` and `/ 0.5` infinite. In 8 bits, such as
#         masks and photographs, `> 300` is `> 44` and `/ 300` is `/ 44`; in unsigned images `> -1`
#         is false everywhere. The functions sitk.Multiply, sitk.Greater, ... do the same. In float
#         images all is as expected.
# Why:    the filters take a double, and cast it to the type of the pixels before they compute.
# Source: ToPixelType in Code/BasicFilters of https://github.com/SimpleITK/SimpleITK. Its author
#         says so in https://github.com/SimpleITK/SimpleITK/pull/2728 of September 2026, which was
#         open when last seen and leaves sums as they are. The filters document a "double
#         constant". That results wrap around is documented, and is not meant here.
# Hurts:  who scales CT or MR images (int16, uint16) or masks: an image that is dimmed is empty, one
#         that is brightened is what it was, and thresholds beyond the range select something.
# Cure:   sitk.Cast(image, sitk.sitkFloat32) first.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  SimpleITK==2.5.7 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import SimpleITK as sitk

print("SimpleITK", sitk.Version.VersionString(), "numpy", np.__version__)
VALUES = [10, 100, 200]
CASES = {
    "* 0.5": lambda x: x * 0.5,
    "* 1.5": lambda x: x * 1.5,
    "/ 2.5": lambda x: x / 2.5,
    "/ 0.5": lambda x: x / 0.5,
    "/ 300": lambda x: x / 300,
    "** 0.5": lambda x: x ** 0.5,
    "> 300": lambda x: x > 300,
    "> -1": lambda x: x > -1,
    "== 356": lambda x: x == 356,
    "> 99.5": lambda x: x > 99.5,
    "< 100.5": lambda x: x < 100.5,
}

seen = {}
for name, case in CASES.items():
    expected = np.asarray(case(np.array(VALUES, float)), float)
    print(f"image {name}: expected {expected.round(3).tolist()}")
    for kind in (np.uint8, np.int16, np.uint16, np.int32, np.float32):
        image = sitk.GetImageFromArray(np.array([VALUES], kind))
        result = sitk.GetArrayFromImage(case(image))[0]
        # results of whole numbers may be rounded or cut
        seen[name, kind] = bool(np.abs(result - expected).max() > 0.9)
        print(f"  {kind.__name__:8} {result.dtype.name:8} {result.round(3).tolist()}"
              f"{' WRONG' if seen[name, kind] else ''}")

function = sitk.GetArrayFromImage(sitk.Multiply(sitk.GetImageFromArray(np.array([VALUES])), 0.5))
print("sitk.Multiply(image, 0.5):", function.tolist())
if any(seen[name, np.float32] for name in CASES):
    sys.exit("not as expected: float images are wrong too")
if not all(seen[name, np.int16] for name in ("* 0.5", "* 1.5", "/ 2.5", "** 0.5")):
    sys.exit("no longer seen: numbers are used as they are")
print("seen: numbers are cast to the type of the pixels")
PYTHON

#!/usr/bin/env bash
# imagecodecs decodes lossy High-Throughput JPEG 2000 with black pixels in white areas, and the reverse.
#
# Guess:  what a lossy decoder computes is clipped to the range of the samples, as in every other decoder: an
#         error of a few levels stays one of a few levels.
# Seen:   values beyond the range wrap around: 256 becomes 0, -1 becomes 255. Where an image has white or
#         black areas, single pixels are wrong by the whole range, with 8 and 16 bits, signed and unsigned.
#         With 16 bits finer steps make it worse: more bytes, fewer decibels. OpenJPEG, in the same package,
#         decodes the very same bytes without any such pixel.
# Why:    OpenJPH hands out integers that it does not clip, and leaves that to its caller. `htj2k_decode`
#         casts them to the type of the array. In lossless files there are no values beyond the range.
# Source: https://github.com/cgohlke/imagecodecs/blob/master/imagecodecs/_htj2k.pyx (_copy_from_codestream)
#         https://github.com/aous72/OpenJPH/issues/35 (the library's author: callers have to clip)
# Hurts:  who stores images so, in Zarr or elsewhere, or measures the codec: the file is right, the pixels are
#         not. Overexposed areas get black dots, and PSNR falls by up to tens of decibels.
# Here:   JPEG 2000 is written and read by Pillow (diffc_jax/baselines/codecs.py), which has OpenJPEG.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 \
  "imagecodecs==2026.3.6; python_version < '3.12'" "imagecodecs==2026.10.10; python_version >= '3.12'"

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import imagecodecs
import numpy as np

print("imagecodecs", imagecodecs.__version__, imagecodecs.htj2k_version(), imagecodecs.jpeg2k_version())
SIDE = 128
STEPS = [0.03, 0.01, 0.003, 0.0003]


def scene(low, high, dtype):
    """A bright, slightly noisy picture whose highlights are cut off at `high`."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    light = 0.55 + 0.45 * np.sin(5 * rows + 3 * columns) + 0.3 * ((rows - 0.5) ** 2 + columns**2 < 0.1)
    light += np.random.default_rng(0).normal(0, 0.02, light.shape)
    return np.rint(low + (high - low) * light.clip(0, 1)).astype(dtype)


def compared(pixels, decoded):
    """PSNR, and how many samples are wrong by more than half of the range."""
    info = np.iinfo(pixels.dtype)
    error = np.abs(pixels.astype(float) - decoded)
    peak = float(info.max) - info.min
    squared = (error**2).mean()
    decibels = f"{10 * np.log10(peak**2 / squared):.1f} dB" if squared else "exact"
    return decibels, int((error > peak / 2).sum())


colours = np.dstack([scene(0, 255, np.uint8), scene(0, 255, np.uint8).T, scene(0, 255, np.uint8)[::-1]])
images = {
    "8 bits, within 40 to 215": scene(40, 215, np.uint8),  # a control: right
    "8 bits": scene(0, 255, np.uint8),
    "8 bits, RGB": colours,
    "16 bits": scene(0, 65535, np.uint16),
    "16 bits, signed": scene(-32768, 32767, np.int16),
}
most = dict.fromkeys(images, 0)
others = 0
for name, pixels in images.items():
    lossless = imagecodecs.htj2k_decode(imagecodecs.htj2k_encode(pixels))
    assert np.array_equal(lossless, pixels)  # a control
    print(f"{name} (lossless: exact)")
    for step in STEPS:
        data = imagecodecs.htj2k_encode(pixels, step)
        psnr, wrong = compared(pixels, imagecodecs.htj2k_decode(data))
        other_psnr, other_wrong = compared(pixels, imagecodecs.jpeg2k_decode(data))
        print(
            f"  step {step}, {len(data)} bytes: {psnr}, {wrong} samples off by over half of the range; "
            f"by OpenJPEG {other_psnr}, {other_wrong}"
        )
        most[name] = max(most[name], wrong)
        others += other_wrong

print("most samples wrong:", most)
if others or [name for name, wrong in most.items() if wrong == 0] != ["8 bits, within 40 to 215"]:
    sys.exit("no longer seen: other images are wrong, or none")
print("seen: samples beyond the range wrap around")
PYTHON

#!/usr/bin/env bash
# SciPy's filtfilt, sosfiltfilt and decimate spoil the borders of integer signals and images.
#
# Guess:  filters return float64 for integers, the same values as for these numbers as floats; lfilter,
#         sosfilt, resample, resample_poly and savgol_filter do.
# Seen:   a photograph that decimate halves is wrong near its borders by up to 92 of 255 levels, and the ends
#         of 16-bit sound by up to 14,000 of 32,767. No warning: the type of the result is float64. Sound
#         below a third of full scale, and padtype "even" or "constant", are right.
# Why:    before filtering forwards and backwards the signal is extended at both ends by 2 x[0] - x[k], in the
#         type of x, where it wraps around. In decimate a comment says that integers become float64, but only
#         the filter does.
# Source: https://github.com/scipy/scipy/blob/main/scipy/signal/_arraytools.py (odd_ext)
#         https://github.com/scipy/scipy/blob/main/scipy/signal/_signaltools.py (decimate)
# Hurts:  who reads sound as 16-bit integers (scipy.io.wavfile) or images as 8-bit ones and filters them as
#         they are: clicks at the ends of clips, and a frame around images, which PSNR and SSIM see. Clips
#         that fade in and out hide it.
# Here:   not used; diffc_jax resizes with Pillow and filters (diffc_jax/metrics/ms_ssim.py) floats.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6 \
  scikit-learn==1.9.1 pillow==13.0.0

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import scipy
from scipy import signal
from sklearn.datasets import load_sample_image

print("scipy", scipy.__version__)

# A photograph that comes with scikit-learn; its upper part is sky.
image = load_sample_image("china.jpg")[..., 1]
# A tenth of a second of a tone of 2 kHz, cut from its middle.
tone = np.cos(2 * np.pi * 2000 * np.arange(4410) / 44100 + 0.3)
loud, quiet = (np.round(peak * 32767 * tone).astype(np.int16) for peak in (0.9, 0.3))
sections = signal.butter(4, 0.2, output="sos")
numerator, denominator = signal.butter(4, 0.2)


def halved(values):
    """An image of half the height and width."""
    return signal.decimate(signal.decimate(values, 2, axis=0), 2, axis=1)


cases = {
    # controls: right
    "resample_poly, image": (lambda x: signal.resample_poly(x, 1, 2), image),
    "sosfilt, loud": (lambda x: signal.sosfilt(sections, x), loud),
    "lfilter, loud": (lambda x: signal.lfilter(numerator, denominator, x), loud),
    "sosfiltfilt, even, loud": (lambda x: signal.sosfiltfilt(sections, x, padtype="even"), loud),
    "sosfiltfilt, constant, loud": (lambda x: signal.sosfiltfilt(sections, x, padtype="constant"), loud),
    "sosfiltfilt, quiet": (lambda x: signal.sosfiltfilt(sections, x), quiet),
    "decimate by FIR, loud": (lambda x: signal.decimate(x, 2, ftype="fir"), loud),
    # cases
    "decimate, image": (halved, image),
    "decimate, loud": (lambda x: signal.decimate(x, 2), loud),
    "sosfiltfilt, loud": (lambda x: signal.sosfiltfilt(sections, x), loud),
    "filtfilt, loud": (lambda x: signal.filtfilt(numerator, denominator, x), loud),
}
wrong = []
for name, (function, values) in cases.items():
    result, expected = function(values), function(values.astype(np.float64))
    error = np.abs(result - expected)
    scale = 255 if values.dtype == np.uint8 else 32767
    share = (error > 0.01 * scale).mean()
    print(
        f"{name}: {values.dtype} to {result.dtype}, off by up to {error.max():.4g} of {scale}, "
        f"{share:.1%} of the values by more than 1 %"
    )
    if share:
        wrong.append(name)
error = halved(image) - halved(image.astype(np.float64))
print(f"PSNR of the halved image to what it should be: {-10 * np.log10((error**2).mean() / 255**2):.1f} dB")

if wrong != list(cases)[7:]:
    sys.exit("no longer seen: other cases are wrong, or none")
print("seen: the borders of integer signals are wrong")
PYTHON

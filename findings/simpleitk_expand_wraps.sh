#!/usr/bin/env bash
# SimpleITK: `Expand` and `Warp` with B-splines or sinc turn black into white beside edges.
#
# Guess:  sitk.Expand(image, [3, 3], sitk.sitkBSpline) is what sitk.Resample gives for the same grid
#         and interpolator: values beyond the range of the pixels are clipped.
# Seen:   they wrap around. A bright disc on 0, as MR images and masks are, has dots and rings of
#         65535 around it in uint16; if it is 255 in uint8, it has black ones inside, too. 8 to 18 %
#         of the pixels are wrong, and the PSNR against Resample is 8 to 11 dB instead of more than
#         60. So does Warp, with a field of displacements. With linear interpolation, the default,
#         and in float images nothing happens.
# Why:    itk::ExpandImageFilter casts the interpolated double to the type of the pixels;
#         ResampleImageFilter clips it first.
# Source: https://github.com/InsightSoftwareConsortium/ITK, itkExpandImageFilter.hxx (outIt.Set(
#         static_cast<OutputPixelType>(...))) and itkWarpImageFilter.hxx in
#         Modules/Filtering/ImageGrid. No issue was found; the documentation says nothing.
# Hurts:  who enlarges images or label maps for display, registration or training.
# Cure:   sitk.Resample, or a cast to float32 before and sitk.Clamp behind.
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
SIZE, FACTOR = 40, 3
Y, X = np.mgrid[:SIZE, :SIZE]
DISC = (X - 20.0) ** 2 + (Y - 20.0) ** 2 < 12**2
INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "B-spline": sitk.sitkBSpline,
    "Hamming sinc": sitk.sitkHammingWindowedSinc,
}


def expand(image, interpolator):
    return sitk.Expand(image, [FACTOR, FACTOR], interpolator)


def resample(image, interpolator):
    """The same grid of points."""
    start = -0.5 + 0.5 / FACTOR
    return sitk.Resample(image, [SIZE * FACTOR] * 2, sitk.Transform(), interpolator,
                         [start, start], [1 / FACTOR] * 2)


def shift(image, interpolator):
    """By half a pixel, with a field of displacements."""
    field = sitk.GetImageFromArray(np.full((SIZE, SIZE, 2), 0.5), isVector=True)
    return sitk.Warp(image, field, interpolator, [SIZE, SIZE])


def shifted(image, interpolator):
    """The same by Resample."""
    half = sitk.TranslationTransform(2, [0.5, 0.5])
    return sitk.Resample(image, [SIZE, SIZE], half, interpolator)


def psnr(first, second, peak):
    first, second = (sitk.GetArrayFromImage(x).astype(float)[2:-2, 2:-2] for x in (first, second))
    wrapped = np.mean(np.abs(first - second) > peak / 2)
    return 10 * np.log10(peak**2 / max(np.mean((first - second) ** 2), 1e-9)), wrapped


seen = {}
CASES = ((np.uint8, 255, 255), (np.uint16, 3000, 65535), (np.float32, 3000, 65535))
for kind, bright, peak in CASES:
    image = sitk.GetImageFromArray((DISC * bright).astype(kind))
    for name, interpolator in INTERPOLATORS.items():
        for title, one, other in (("Expand", expand, resample), ("Warp", shift, shifted)):
            decibels, wrapped = psnr(one(image, interpolator), other(image, interpolator), peak)
            seen[kind, name, title] = decibels
            print(f"{kind.__name__:8} disc of {bright}, {name:12} {title:6} against Resample: "
                  f"{decibels:6.1f} dB, {wrapped:.1%} of the pixels wrapped around")

if max(seen[kind, "B-spline", "Expand"] for kind in (np.uint8, np.uint16)) > 40:
    sys.exit("no longer seen: Expand clips as Resample does")
print("seen: Expand wraps around")
PYTHON

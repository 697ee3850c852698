#!/usr/bin/env bash
# Pillow and imagecodecs: JPEG 2000 of big-endian 16-bit pixels has their bytes swapped.
#
# Guess:  big-endian images (16-bit TIFF files of ImageJ and Fiji, FITS arrays) are compressed as
#         what they are, as in PNG and in TIFF with zlib, or refused.
# Seen:   lossless JPEG 2000 files hold the bytes of each pixel in the wrong order, so noise: by
#         Pillow's `Image.open(tiff).save(jp2)`, by imagecodecs' jpeg2k_encode and htj2k_encode of
#         ">u2" arrays, and by tifffile with compression="jpeg2000" and either such an array or
#         byteorder=">". PNG and JPEG XL are right or refuse. No warning.
# Why:    imagecodecs hands the memory of the array to OpenJPEG, which takes it for native numbers;
#         Pillow gives what packing mode "I;16B" as if it were "I;16" would give (by the result;
#         its C code was not read).
# Source: imagecodecs/_jpeg2k.pyx, jpeg2k_encode. 2026.3.6 is the last imagecodecs for Python 3.11;
#         2026.10.10 was not run.
# Hurts:  who archives scans or microscope images in lossless JPEG 2000: all pixels are lost to
#         whoever does not know that their bytes can be swapped back.
# Here:   JPEG 2000 by Pillow, of 8-bit RGB only.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 imagecodecs==2026.3.6 tifffile==2026.3.3 numpy==2.4.6 scikit-image==0.26.0

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import warnings

import imagecodecs
import numpy as np
import PIL
import tifffile
from PIL import Image
from skimage import data

warnings.simplefilter("error")  # none comes
print("pillow", PIL.__version__, "imagecodecs", imagecodecs.__version__)
print("tifffile", tifffile.__version__)
photo = data.camera()[:128, :128].astype("<u2") * 16  # 12 bits


def by_pillow(byte_order, **options):
    tiff, buffer = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(tiff, photo, byteorder=byte_order)
    tiff.seek(0)
    with Image.open(tiff) as image:
        assert np.array_equal(image, photo)
        image.save(buffer, **options)
    with Image.open(buffer) as image:
        return np.asarray(image)


def by_tifffile(byte_order, of_array, compression):
    buffer = io.BytesIO()
    array = photo.astype(byte_order + "u2") if of_array else photo
    order = None if of_array else byte_order
    tifffile.imwrite(buffer, array, byteorder=order, compression=compression)
    buffer.seek(0)
    return tifffile.imread(buffer)


def jpeg2k(o):
    return imagecodecs.jpeg2k_decode(
        imagecodecs.jpeg2k_encode(photo.astype(o + "u2"), reversible=True)
    )


def htj2k(o):
    return imagecodecs.htj2k_decode(
        imagecodecs.htj2k_encode(photo.astype(o + "u2"), reversible=True)
    )


right = {
    "Pillow, PNG": lambda o: by_pillow(o, format="PNG"),
    "tifffile, zlib": lambda o: by_tifffile(o, True, "zlib"),
}
wrong = {
    "Pillow, TIFF to JPEG 2000": lambda o: by_pillow(o, format="JPEG2000", irreversible=False),
    "imagecodecs, JPEG 2000": jpeg2k,
    "imagecodecs, HTJ2K": htj2k,
    "tifffile, JPEG 2000, array": lambda o: by_tifffile(o, True, "jpeg2000"),
    "tifffile, JPEG 2000, byteorder": lambda o: by_tifffile(o, False, "jpeg2000"),
}
seen = []
for name, way in {**right, **wrong}.items():
    little, big = way("<"), way(">")
    swapped = np.array_equal(big, photo.byteswap())
    equal = np.array_equal(big, photo)
    error = np.abs(big.astype(float) - photo).max()
    print(f"{name}: largest error {error:.0f} of 4080{', bytes swapped' * swapped}")
    seen.append(np.array_equal(little, photo) and (swapped if name in wrong else equal))

if not all(seen):
    sys.exit("no longer seen: big-endian pixels are kept")
print("seen: JPEG 2000 of big-endian pixels has their bytes swapped")
PYTHON

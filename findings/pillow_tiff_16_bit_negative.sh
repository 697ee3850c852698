#!/usr/bin/env bash
# Pillow opens 16-bit grey TIFF images where 0 is white as negatives, and saves them so.
#
# Guess:  TIFF says by a tag whether 0 is black or white. Pillow inverts grey images where it is white, as it
#         does with 8 bits, so that a scan looks the same with 8 and with 16 bits.
# Seen:   with 8 bits they are inverted, with 16 they are not, compressed or not. (Big-endian ones are refused.)
#         Saved as PNG or TIFF they are negatives for everybody: in the new file 0 is black.
# Why:    the table of kinds of pixels has inverting raw modes ("L;I") up to 8 bits only; the entry for 16 bits has
#         the one of images where 0 is black.
# Source: https://github.com/python-pillow/Pillow/blob/main/src/PIL/TiffImagePlugin.py
# Hurts:  who reads radiographs and scans of film, which are stored so: a model sees negatives, or positives and
#         negatives mixed, by the depth of the file.
# Here:   diffc_jax/runtime/image_headers.py reads the tag, and refuses 16-bit images where 0 is white.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

print("pillow", PIL.__version__, "tifffile", tifffile.__version__)

expected = True
for bits in (8, 16):
    white = 2**bits - 1
    shades = np.array([[0, white // 4, white]], np.uint8 if bits == 8 else np.uint16)
    for photometric in ("minisblack", "miniswhite"):
        # From black to white, whatever the numbers in the file.
        stored = white - shades if photometric == "miniswhite" else shades
        for compression in (None, "lzw"):
            buffer = io.BytesIO()
            tifffile.imwrite(buffer, stored, photometric=photometric, compression=compression)
            with Image.open(buffer) as image:
                pixels = np.asarray(image)
                saved = {name: io.BytesIO() for name in ("PNG", "TIFF")}
                for name, copy in saved.items():
                    image.save(copy, name)
            with tifffile.TiffFile(io.BytesIO(saved["TIFF"].getvalue())) as copy:
                tag = copy.pages[0].photometric.name.lower()
            same = np.array_equal(np.asarray(Image.open(saved["PNG"])), pixels)
            print(
                f"{bits} bits, {photometric}, {compression or 'uncompressed'}: black to white is "
                f"{pixels.ravel().tolist()}, in a PNG {'the same' if same else 'another'}, "
                f"saved as TIFF {tag}"
            )
            negative = bits == 16 and photometric == "miniswhite"
            wanted = stored if negative else shades
            expected &= np.array_equal(pixels, wanted) and same and tag == "minisblack"

if not expected:
    sys.exit("no longer seen: images where 0 is white are treated otherwise")
print("seen: with 16 bits, images where 0 is white are negatives")
PYTHON

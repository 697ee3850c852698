#!/usr/bin/env bash
# Pillow: animated PNG of 16-bit frames loses whatever differs above 255.
#
# Guess:  PNG is lossless, so a stack of 16-bit frames comes back as it was written.
# Seen:   frames that differ in values above 255 only count as equal, and with `duration` one of
#         four is left. If some pixels are below 256 (holes in depth maps), frames are cut to the
#         box around these: 97 % of the pixels stay those of the first frame. imageio's
#         `imwrite("x.png", stack)` of uint16 does the same. With 8 bits, or below 256, all is
#         right. No warning.
# Why:    a frame is cut to the box in which it differs from the one before. The two are compared
#         after `convert("RGBA")`, which clips 16-bit grey at 255, so nearly all is white.
# Source: PIL/PngImagePlugin.py, _write_multiple_frames
# Hurts:  who stores depth maps, microscope or radar frames (12 to 16 bits) in one file that is
#         known to be lossless: most of it is the first frame.
# Here:   still images only.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 imageio==2.38.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import warnings

import imageio.v3 as iio
import numpy as np
import PIL
from PIL import Image

warnings.simplefilter("error")  # none comes
print("pillow", PIL.__version__)
rng = np.random.default_rng(0)


def by_pillow(stack, **options):
    first, *others = (Image.fromarray(frame) for frame in stack)
    buffer = io.BytesIO()
    first.save(buffer, format="PNG", save_all=True, append_images=others, **options)
    with Image.open(buffer) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.array(image))
    return np.stack(frames)


def by_imageio(stack, **options):
    written = iio.imwrite("<bytes>", stack, extension=".png", **options)
    read = iio.imread(written, extension=".png")
    return read.reshape(-1, *stack.shape[1:])


depth = rng.integers(400, 4000, (4, 32, 32)).astype(np.uint16)  # millimetres
dark = rng.integers(0, 256, (4, 32, 32)).astype(np.uint16)
holes = depth.copy()
holes[:, 0] = dark[:, 0]
seen = []
for name, stack, lossy in [
    ("8 bits", dark.astype(np.uint8), ()),
    ("16 bits, below 256", dark, ()),
    ("16 bits, above 255", depth, ("Pillow with duration", "imageio with duration")),
    ("16 bits, above 255 but for one row", holes, "all"),
]:
    for way, read in {
        "Pillow": by_pillow(stack),
        "Pillow with duration": by_pillow(stack, duration=100),
        "imageio": by_imageio(stack),
        "imageio with duration": by_imageio(stack, duration=100),
    }.items():
        kept = [np.mean(new == old) for new, old in zip(read, stack, strict=False)]
        text = ", ".join(f"{100 * part:.0f} %" for part in kept)
        print(f"{name}, {way}: {len(read)} of 4 frames, right pixels {text}")
        exact = len(read) == 4 and min(kept) == 1
        lost = len(read) < 4 or max(kept[1:]) < 0.1
        seen.append(kept[0] == 1 and (lost if lossy == "all" or way in lossy else exact))

if not all(seen):
    sys.exit("no longer seen: 16-bit frames are kept")
print("seen: 16-bit frames are lost")
PYTHON

#!/usr/bin/env bash
# mosaicml-streaming: a "pil" column loses the colours of images with a palette.
#
# Guess:  a column "pil" ("Store PIL image raw") returns the image that was written.
# Seen:   images of mode P (GIF, many PNG) come back in mode P with the indices as they were, but
#         without the palette: `convert("RGB")` is black everywhere, whatever the image. "png" is
#         right.
# Why:    the encoder writes size, mode and `image.tobytes()`, and the decoder is
#         `Image.frombytes(mode, size, raw)`: the palette is not in the file, and that of the new
#         image is empty.
# Source: streaming/base/format/mds/encodings.py, class PIL; no issue was found.
# Hurts:  who writes GIF or palette PNG files, as collected from the web, and converts them to RGB
#         when reading: no error, and most of the data set is right, but these images are black.
# Cure:   convert to RGB or RGBA before writing, or a column "png".
#
# The package needs PyTorch and six cloud clients, of which encoders use none: it is installed
# without them, and the module with the encoders is loaded by its path.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" --no-deps mosaicml-streaming==0.13.0
"${pip[@]}" numpy==2.1.3 pillow==13.0.0 typing_extensions==4.16.0

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import importlib.util
import io
import sys

import numpy as np
from PIL import Image

package = importlib.metadata.distribution("mosaicml-streaming")
path = package.locate_file("streaming/base/format/mds/encodings.py")
spec = importlib.util.spec_from_file_location("encodings", path)
encodings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(encodings)
print("mosaicml-streaming", package.version, "pillow", Image.__version__)

y, x = np.mgrid[:120, :160]
photo = np.stack([255 - x, y * 2, 120 + 100 * np.sin(x / 20)], axis=-1).astype(np.uint8)


def psnr(column, colours, file_format):
    """How well a photo with a palette survives writing and reading, as RGB."""
    file = io.BytesIO()
    Image.fromarray(photo).quantize(colours).save(file, format=file_format)
    image = Image.open(file)
    result = encodings.mds_decode(column, encodings.mds_encode(column, image))
    given, read = (np.asarray(part.convert("RGB"), np.float64) for part in (image, result))
    error = np.mean((given - read) ** 2)
    print(f"{file_format} with {colours:3} colours as {column}: mode {image.mode} to {result.mode},"
          f" mean {given.mean():5.1f} to {read.mean():5.1f}, "
          + (f"PSNR {10 * np.log10(255**2 / error):.1f}" if error else "equal"))
    return 10 * np.log10(255**2 / error) if error else np.inf


bad = [psnr("pil", colours, kind) for kind in ("PNG", "GIF") for colours in (8, 256)]
good = [psnr("png", colours, kind) for kind in ("PNG", "GIF") for colours in (8, 256)]
plain = Image.fromarray(photo)
result = encodings.mds_decode("pil", encodings.mds_encode("pil", plain))
good.append(np.inf if np.array_equal(np.asarray(result), photo) else 0)
if max(bad) > 20 or min(good) < np.inf:
    sys.exit("no longer seen: the palette is kept")
print("seen: the palette is lost")
PYTHON

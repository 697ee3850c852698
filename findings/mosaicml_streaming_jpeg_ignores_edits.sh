#!/usr/bin/env bash
# mosaicml-streaming: a "jpeg" column stores the file from which an image came, not the image.
#
# Guess:  `MDSWriter(columns={"image": "jpeg"})` stores the Pillow image that it is given.
# Seen:   if the image was opened from a JPEG file and then changed in place, the change is lost:
#         after `image.thumbnail((64, 64))` the shard holds all 320 x 240 pixels, after
#         `ImageDraw.Draw(image).rectangle(...)` or `image.paste(...)` what was drawn is not there.
#         The same image in columns "png" and "pil", or after `resize`, is right.
# Why:    to spare a second lossy compression, the encoder of "jpeg" copies the bytes of
#         `image.filename` whenever the image is a `JpegImageFile`. Methods that work in place
#         (thumbnail, draft, paste, putpixel, putdata, drawing, exif_transpose(in_place=True)) keep
#         class and file name. The bytes are those that the file has when it is written, too.
# Source: streaming/base/format/mds/encodings.py, JPEG.encode and mds_encode; added by
#         https://github.com/mosaicml/streaming/pull/142; no issue about it was found.
# Hurts:  who makes small images by `thumbnail`, which Pillow suggests for it: shards are larger and
#         pixels others than thought, although the code looks right; who masks parts of images
#         trains on what was masked. List columns ("list[jpeg]") do the same.
# Cure:   `image.copy()` (a plain Image), "png", or bytes of one's own.
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

cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import importlib.util
import sys

import numpy as np
from PIL import Image, ImageDraw

package = importlib.metadata.distribution("mosaicml-streaming")
path = package.locate_file("streaming/base/format/mds/encodings.py")
spec = importlib.util.spec_from_file_location("encodings", path)
encodings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(encodings)
print("mosaicml-streaming", package.version, "pillow", Image.__version__)

y, x = np.mgrid[:240, :320]
photo = np.stack([x * 255 / 319, y * 255 / 239, 120 + 100 * np.sin(x / 20)], axis=-1)
Image.fromarray(photo.astype(np.uint8)).save("photo.jpg", quality=95)


def stored(column, image):
    """What a reader gets of an image that was written to the column."""
    return encodings.mds_decode(column, encodings.mds_encode(column, image))


def opened(change):
    """The photo after a change in place."""
    image = Image.open("photo.jpg")
    change(image)
    return image


def blacken(image):
    ImageDraw.Draw(image).rectangle((160, 120, 320, 240), fill=(0, 0, 0))


changes = {
    "thumbnail": lambda image: image.thumbnail((64, 64)),
    "rectangle": blacken,
    "paste": lambda image: image.paste((0, 0, 0), (160, 120, 320, 240)),
}
unlike = {}
for name, change in changes.items():
    for column in ("jpeg", "png", "pil"):
        image = opened(change)
        result = stored(column, image)
        mean = [float(np.asarray(part)[-20:, -20:].mean()) for part in (image, result)]
        unlike[name, column] = image.size != result.size or abs(mean[0] - mean[1]) > 20
        print(f"{name:9} as {column:4}: given {image.size}, lower right corner {mean[0]:5.1f}; "
              f"read {result.size}, {mean[1]:5.1f}")
resized = Image.open("photo.jpg").resize((64, 48))
copied = opened(blacken).copy()
fine = stored("jpeg", resized).size == (64, 48)
fine = fine and np.asarray(stored("jpeg", copied))[-20:, -20:].mean() < 5
print("resize() and copy() as jpeg:", "as given" if fine else "not as given")

if {key for key, value in unlike.items() if value} != {(name, "jpeg") for name in changes} \
        or not fine:
    sys.exit("no longer seen: the image is stored as it is given")
print("seen: the original file is stored in place of the image")
PYTHON

#!/usr/bin/env bash
# datasets: a map that only looks at images compresses them again, as JPEG of quality 75.
#
# Guess:  `map(lambda row: {"width": row["image"].width})` adds a column and leaves the images as
#         they are. A map that does not touch them does.
# Seen:   the images of the new dataset have been decoded and saved again with Pillow's defaults.
#         A photograph in JPEG of quality 95 has 41 % of its bytes and 35.8 dB against what it was,
#         one of quality 100 without subsampling 11 % and 34.6 dB, lossless WebP 9 % and 36.2 dB,
#         AVIF 20 % and 39.3 dB, and of two frames of a GIF the first stays. PNG is exact. WebP
#         and AVIF get worse with each map. The same with `return row` and `batched=True`. No
#         warning.
# Why:    map keeps columns as bytes until the function reads them. What it reads becomes a PIL
#         image and is part of its result, and the Image feature encodes it with
#         `image.save(buffer, format=image.format)`, without quality="keep" or lossless=True, and
#         without asking whether it is the same image. (Images of local files, with a path and
#         without bytes, stay; those of Parquet files, so of nearly all of the Hub, are bytes.)
# Source: datasets/features/image.py, image_to_bytes; datasets/arrow_dataset.py, _map_single
#         https://github.com/mosaicml/streaming/pull/142 (the same, in another package)
# Hurts:  who adds sizes, captions, hashes or embeddings to images from the Hub and goes on with
#         the result or uploads it: FID, compression and restoration are measured against JPEG of
#         quality 75, and detectors of forged images learn it.
# Here:   not used.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  datasets==5.2.0 pillow==13.0.0 numpy==2.4.6 scikit-image==0.26.0

export HF_HOME="$folder/cache" HF_DATASETS_OFFLINE=1 HF_HUB_OFFLINE=1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import datasets
import numpy as np
import PIL
from PIL import Image
from skimage import data

print("datasets", datasets.__version__, "pillow", PIL.__version__)
datasets.disable_progress_bars()
photo = Image.fromarray(data.astronaut()[:256, :256])


def file(**options):
    buffer = io.BytesIO()
    photo.save(buffer, **options)
    return buffer.getvalue()


files = {
    "JPEG 95": file(format="JPEG", quality=95),
    "JPEG 100": file(format="JPEG", quality=100, subsampling=0),
    "lossless WebP": file(format="WEBP", lossless=True),
    "AVIF 100": file(format="AVIF", quality=100),
    "PNG": file(format="PNG"),
    "GIF of 2 frames": file(
        format="GIF", save_all=True, append_images=[photo.transpose(Image.Transpose.ROTATE_180)]
    ),
}
rows = {"image": [{"bytes": b, "path": None} for b in files.values()], "label": [0] * len(files)}
kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
first = datasets.Dataset.from_dict(rows, features=kinds)


def whole_row(row):
    row["width"] = row["image"].width
    return row


def look(dataset):
    """Bytes, frames and PSNR against the first dataset of each image."""
    raw = dataset.cast_column("image", datasets.Image(decode=False))
    for old, new, stored in zip(first, dataset, raw, strict=True):
        pair = (np.asarray(row["image"].convert("RGB"), np.float64) for row in (old, new))
        error = np.mean(np.subtract(*pair) ** 2)
        psnr = 10 * np.log10(255**2 / error) if error else np.inf
        yield len(stored["image"]["bytes"]), getattr(new["image"], "n_frames", 1), psnr


maps = {
    "label + 1": (lambda row: {"label": row["label"] + 1}, {}, 1),
    "width": (lambda row: {"width": row["image"].width}, {}, 1),
    "width, three times": (lambda row: {"width": row["image"].width}, {}, 3),
    "width, return row": (whole_row, {}, 1),
    "widths": (lambda rows: {"w": [i.width for i in rows["image"]]}, {"batched": True}, 1),
}
results = {}
for title, (function, options, times) in maps.items():
    dataset = first
    for _ in range(times):
        dataset = dataset.map(function, load_from_cache_file=False, **options)
    results[title] = dict(zip(files, look(dataset), strict=True))
    print(f"map ({title}): bytes before and after, frames, PSNR")
    for name, (size, frames, psnr) in results[title].items():
        print(f"  {name}: {len(files[name])}, {size}, {frames}, {psnr:.1f} dB")

control = results.pop("label + 1")
right = all(size == len(files[n]) and p == np.inf for n, (size, _, p) in control.items())
lossy = ("JPEG 95", "JPEG 100", "lossless WebP")
wrong = all(r[n][2] < 37 and r[n][0] < len(files[n]) / 2 for r in results.values() for n in lossy)
if not (right and wrong):
    sys.exit("no longer seen: images are kept")
print("seen: images that are only looked at are compressed again")
PYTHON

#!/usr/bin/env bash
# OpenEXR's Python module ignores the strides of the arrays that it writes.
#
# Guess:  `OpenEXR.File(header, {"RGB": image}).write(path)` stores the pixels of `image`, whatever
#         its order in memory, or refuses it, as it refuses other types.
# Seen:   crops, every second row, one channel of an interleaved image (`image[..., 0]`) and images
#         whose channels were moved (`chw.transpose(1, 2, 0)`, as from PyTorch) come back with other
#         pixels, cut from memory in C order: 96 % to 100 % of the numbers are wrong, and "R", "G"
#         and "B" become one picture of mixed channels, shifted by one. `channels()` of the object
#         that was written still shows the right ones.
# Why:    the writer takes the address of the first number and computes the strides from the shape.
# Source: https://github.com/AcademySoftwareFoundation/openexr/issues/1929 (open since 2024; a
#         maintainer regrets that the documentation does not say it), PyPart::writePixels in
#         src/wrappers/python/PyOpenEXR.cpp.
# Hurts:  HDR images, depth maps and renderings for training or evaluation: no error, and the file
#         is valid and has the right size.
# Cure:   `np.ascontiguousarray` of each array.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check OpenEXR==3.5.3 numpy==2.4.6

"$folder/venv/bin/python" -W error - "$folder/image.exr" <<'PYTHON'
import sys

import numpy as np
import OpenEXR

print("OpenEXR", OpenEXR.__version__, "numpy", np.__version__)


def stored(channels):
    OpenEXR.File({}, dict(channels)).write(sys.argv[1])  # a copy: it replaces the values
    with OpenEXR.File(sys.argv[1], separate_channels=len(channels) > 1) as file:
        return {name: channel.pixels.copy() for name, channel in file.channels().items()}


rng = np.random.default_rng(0)
image = rng.random((48, 64, 3), dtype=np.float32)
planes = rng.random((3, 48, 64), dtype=np.float32)
cases = {
    "as it is": {"RGB": image},
    "crop": {"RGB": image[8:40, 8:40]},
    "every second row": {"RGB": image[::2]},
    "planes, transposed": {"RGB": planes.transpose(1, 2, 0)},
    "depth of RGBD": {"Y": np.concatenate([image, image[..., :1]], axis=2)[..., 3]},
    "R, G, B of interleaved": {name: image[..., i] for i, name in enumerate("RGB")},
}
wrong = {}
for title, channels in cases.items():
    plain = stored({name: np.ascontiguousarray(array) for name, array in channels.items()})
    seen = stored(channels)
    right = np.stack([channels[name] for name in channels])
    if not np.array_equal(right, np.stack([plain[name] for name in channels])):
        sys.exit("no longer seen: C-order copies are not stored either")
    wrong[title] = float(np.mean(np.stack([seen[name] for name in channels]) != right))
    print(f"{title:24} {wrong[title]:4.0%} of the numbers are wrong (0% for a copy in C order)")
if wrong.pop("as it is") or min(wrong.values()) < 0.3:
    sys.exit("no longer seen: strided arrays are stored as they are")
print("seen: strided arrays are stored scrambled")
PYTHON

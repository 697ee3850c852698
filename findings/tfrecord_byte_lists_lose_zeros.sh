#!/usr/bin/env bash
# tfrecord (the reader for PyTorch): byte strings lose the zeros at their ends, if there are two.
#
# Guess:  a feature of bytes comes back as it was written.
# Seen:   one string does; of two or more in one feature (frames, masks, several tensors) each has
#         lost all zero bytes at its end. Of 4 masks of 64 x 64 with an empty border, none has its
#         length: 3836 to 4028 bytes instead of 4096. Integers lose the upper bytes of their last
#         number: [7, 300] in int32 has 6 bytes.
# Why:    the reader returns `np.array(values, dtype=bytes)` for lists; NumPy's type S pads with
#         zeros, and takes zeros at the end for padding when an element is read. The file is right.
# Source: tfrecord/reader.py, process_feature; by NumPy's design, numpy#25268 and numpy#18441. No
#         issue of tfrecord about it was found.
# Hurts:  who stores raw pixels, compressed arrays or pickled parts as lists and joins or decodes
#         them: with `b"".join(...)` all frames after the first are shifted, with 42 to 44 % of
#         their pixels right. `frombuffer` fails only where the length is no multiple of the type.
# Cure:   one feature for each string, `sequence_description`, or, for equal lengths only,
#         `values.view(np.uint8)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tfrecord==1.14.6 numpy==2.4.6

cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
from tfrecord.reader import tfrecord_loader
from tfrecord.writer import TFRecordWriter

print("tfrecord", importlib.metadata.version("tfrecord"), "numpy", np.__version__)
rng = np.random.default_rng(0)
masks = np.zeros((4, 64, 64), np.uint8)
for index, mask in enumerate(masks):
    mask[: 60 + index, :60] = rng.integers(1, 3, (60 + index, 60))
masks = masks[rng.permutation(4)]
frames = [mask.tobytes() for mask in masks]
numbers = [np.array([0.1, 2.0], np.float32).tobytes(), np.array([7, 300], np.int32).tobytes()]

writer = TFRecordWriter("list.tfrecord")
writer.write({"frames": (frames, "byte"), "first": (frames[0], "byte"),
              "numbers": (numbers, "byte")})
writer.close()
(record,) = tfrecord_loader("list.tfrecord", None)
print("one string: equal" if record["first"] == frames[0] else "one string: changed")
print("list: lengths", [len(frame) for frame in record["frames"]], "of", [len(f) for f in frames])
print("numbers: lengths", [len(part) for part in record["numbers"]], "of 8 and 8")
joined = b"".join(record["frames"]).ljust(masks.size, b"\0")
equal = (np.frombuffer(joined, np.uint8).reshape(masks.shape) == masks).mean(axis=(1, 2))
print("equal pixels after joining:", ", ".join(f"{share:.0%}" for share in equal))

if record["first"] != frames[0] or list(record["frames"]) == frames:
    sys.exit("no longer seen: lists of bytes are returned as written")
print("seen: zeros at the ends of listed byte strings are lost")
PYTHON

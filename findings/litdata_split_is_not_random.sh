#!/usr/bin/env bash
# litdata: `train_test_split(shuffle=True)` and `subsample` draw chunks, not items.
#
# Guess:  with `shuffle=True`, the default, every item is as likely as any other to be in the test
#         set, and another seed gives another test set; `StreamingDataset(..., subsample=0.1,
#         shuffle=True)` has a tenth of the items, "randomly sampled" as its documentation says.
# Seen:   1000 items of 10 classes, written class by class, in chunks of up to 64 MB as in the
#         documentation: the test set is the last 200 items for every seed, so that two classes are
#         never trained and eight never tested. The tenth is class 0. With chunks of 100 items the
#         test set has two classes again, and the seed says which.
# Why:    only the list of chunks is shuffled, and parts are cut off its front. Up to 64 MB there is
#         one chunk, and the order within a chunk is that of the inputs.
# Source: train_test_split and subsample_filenames_and_roi in src/litdata/utilities of
#         https://github.com/Lightning-AI/litData: "whether to shuffle the data before splitting";
#         no issue was found. Epochs of a StreamingDataLoader are shuffled within chunks too.
# Hurts:  who optimizes a folder of classes, or files sorted by date, patient or video, and splits
#         it: scores are those of classes that were never seen, or depend on the seed.
# Cure:   shuffle the inputs of `optimize`, or split them before.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  litdata==0.2.76 torch==2.13.0 numpy==2.4.6

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import collections
import random
import sys

import litdata
from litdata import StreamingDataset, train_test_split
from litdata.streaming.writer import BinaryWriter

ITEMS, CLASSES = 1000, 10
IN_ORDER = list(range(ITEMS))
print("litdata", litdata.__version__)


def write(name, order, **chunks):
    """The files that `optimize` writes, in one process."""
    path = f"{sys.argv[1]}/{name}"
    writer = BinaryWriter(path, **chunks)
    for i, index in enumerate(order):
        writer[i] = {"index": index, "label": index * CLASSES // ITEMS}
    writer.done()
    writer.merge()
    return path


def indices(dataset):
    return [dataset[i]["index"] for i in range(len(dataset))]


def classes(dataset):
    counts = collections.Counter(dataset[i]["label"] for i in range(len(dataset)))
    return dict(sorted(counts.items()))


def show(title, path):
    """Classes in the test sets of three seeds and in a random tenth."""
    print(title)
    tests = []
    for seed in (42, 1, 2):
        _, test = train_test_split(StreamingDataset(path, shuffle=True), [0.8, 0.2], seed=seed)
        tests.append(indices(test))
        print(f"  test set, seed {seed}: {classes(test)}")
    tenth = classes(StreamingDataset(path, shuffle=True, subsample=0.1))
    print(f"  subsample=0.1: {tenth}")
    return tests, tenth


tests, tenth = show("one chunk:", write("one", IN_ORDER, chunk_bytes=64 * 2**20))
show("chunks of 100 items:", write("ten", IN_ORDER, chunk_size=100))
mixed = random.Random(0).sample(IN_ORDER, ITEMS)
show("one chunk, inputs shuffled:", write("mixed", mixed, chunk_bytes=64 * 2**20))

if any(test != IN_ORDER[-200:] for test in tests) or tenth != {0: 100}:
    sys.exit("no longer seen: items of a chunk are shuffled")
print("seen: the test set is the end of the data, with all seeds")
PYTHON

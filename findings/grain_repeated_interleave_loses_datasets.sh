#!/usr/bin/env bash
# Grain's interleave, repeated, never reads the first datasets again from the third epoch on.
#
# Guess:  each epoch of `RepeatIterDataset(InterleaveIterDataset(datasets, cycle_length=c))` returns the
#         elements of all datasets once. The docstring of the former says that all epochs are identical.
# Seen:   with more datasets than `cycle_length`, the first two epochs do. In every one after them the first
#         `cycle_length` datasets do not occur, and other ones occur twice, so that the number of elements
#         stays right where all datasets are as long as each other. Likewise a state of the iterator that is
#         restored twice: the second time other elements follow.
# Why:    `repeat` starts an epoch by restoring the state from before the first one. `set_state` of the
#         interleave keeps the state's list "iterators_in_use_indices" as its own, without a copy, and writes
#         the next datasets' numbers into it. After epoch 2 the saved state names the last datasets in place
#         of the first. With `cycle_length` of at least the number of datasets nothing is ever written.
# Source: https://github.com/google/grain/blob/main/grain/_src/python/dataset/transformations/interleave.py
#         https://github.com/google/grain/blob/main/grain/_src/python/dataset/transformations/repeat.py
# Hurts:  who trains for more than two epochs on files that are read in order (Parquet, TFRecord), which is
#         what the interleave is for: with 64 files and a cycle of 16, a quarter of the data is lost for good
#         and another quarter weighs double. Losses and counts look as before. A cycle of all files, as in
#         the tutorial, is not affected.
# Here:   diffc_jax does not use it: diffc_jax/data/pipeline.py reads by index, and order.py has the epochs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grain==0.2.18 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import logging
import sys

import grain
from grain.experimental import InterleaveIterDataset, RepeatIterDataset

logging.disable()
print("grain", importlib.metadata.version("grain"))
EPOCHS, LENGTH = 4, 3


def interleaved(datasets, cycle_length):
    """Dataset d holds 10 d, 10 d + 1 and 10 d + 2."""
    parts = [
        grain.MapDataset.source([10 * d + i for i in range(LENGTH)]).to_iter_dataset()
        for d in range(datasets)
    ]
    return InterleaveIterDataset(parts, cycle_length=cycle_length)


def whole(datasets, cycle_length):
    """For each epoch, whether its elements are those of all datasets."""
    values = list(RepeatIterDataset(interleaved(datasets, cycle_length), num_epochs=EPOCHS))
    length = datasets * LENGTH
    epochs = [values[epoch * length : (epoch + 1) * length] for epoch in range(EPOCHS)]
    print(f"{datasets} datasets, cycle of {cycle_length}")
    for number, epoch in enumerate(epochs, 1):
        missing = sorted(set(range(datasets)) - {value // 10 for value in epoch})
        print(f"  epoch {number}: {epoch}" + (f", datasets {missing} missing" if missing else ""))
    return [sorted(epoch) == sorted(epochs[0]) for epoch in epochs]


expected = whole(5, 5) == [True] * EPOCHS  # control: all datasets at once
expected &= whole(5, 2) == [True, True, False, False]
expected &= whole(3, 1) == [True, True, False, False]

# The same in a loop over epochs, which is right: each has an iterator of its own.
separate = [sorted(interleaved(5, 2)) for _ in range(EPOCHS)]
expected &= all(epoch == separate[0] for epoch in separate)

iterator = iter(interleaved(5, 2))
first = [next(iterator) for _ in range(4)]
state = iterator.get_state()
rests = []
for _ in range(3):
    rests.append(list(iterator))
    iterator.set_state(state)
print(f"after {first}:", f"  at first      {rests[0]}", f"  restored      {rests[1]}", sep="\n")
print(f"  and once more {rests[2]}")
expected &= rests[0] == rests[1] != rests[2]
iterator.close()
del iterator

if not expected:
    sys.exit("no longer seen: all epochs are whole")
print("seen: from the third epoch on, the first datasets are missing and others come twice")
PYTHON

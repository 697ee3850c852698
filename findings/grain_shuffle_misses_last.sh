#!/usr/bin/env bash
# Grain's shuffle is no permutation for lengths 2^16 + 1, 2^18 + 1, 2^20 + 1, ...
#
# Guess:  each epoch of `MapDataset.range(n).shuffle(seed)` returns each element once.
# Seen:   where n - 1 is an even power of two from 2^16 on, the last element is never returned, in no epoch and
#         with no seed, and another one comes twice. Lengths beside it are shuffled as one expects.
# Why:    the cipher behind it gets ceil(log2(n - 1)) bits, but to write the index n - 1 = 2^k takes k + 1. Odd
#         k are rounded up to even ones, and up to 16 bits there are always 16, which hides it there.
# Source: https://github.com/google/grain/blob/main/grain/_src/python/experimental/index_shuffle/index_shuffle.cc
# Hurts:  who relies on an epoch to see everything once: evaluation over a shuffled set, deduplication, and
#         checks that count. A training set loses one example for good, without a word.
# Here:   diffc_jax/data/order.py takes the bit length of n - 1.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grain==0.2.18 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import grain
import numpy as np

print("grain", importlib.metadata.version("grain"))


def epoch(length, seed, number):
    """All elements of an epoch, in their order."""
    shuffled = grain.MapDataset.range(length).shuffle(seed=seed).repeat(number + 1)
    return np.array([shuffled[number * length + i] for i in range(length)])


expected = True
for length, seed, number in [
    (2**16, 0, 0),  # controls: whole
    (2**16 + 2, 0, 0),
    (2**16 + 1, 0, 0),
    (2**16 + 1, 0, 1),
    (2**16 + 1, 1, 0),
    (2**16 + 1, 2, 0),
    (2**18 + 1, 0, 0),
]:
    values, counts = np.unique(epoch(length, seed, number), return_counts=True)
    missing = np.setdiff1d(np.arange(length), values).tolist()
    twice = values[counts == 2].tolist()
    print(
        f"length {length}, seed {seed}, epoch {number}: {len(values)} distinct elements, "
        f"missing {missing}, twice {twice}"
    )
    broken = length in (2**16 + 1, 2**18 + 1)
    expected &= missing == ([length - 1] if broken else []) and len(twice) == broken

if not expected:
    sys.exit("no longer seen: the shuffle behaves otherwise")
print("seen: the last element is missing and another one comes twice")
PYTHON

#!/usr/bin/env bash
# Runs of Grain with the seeds 0, 1, 2 see the same orders of the data, an epoch apart.
#
# Guess:  shuffles with different seeds are independent of each other.
# Seen:   epoch e with seed s is epoch 0 with seed s + e, element by element, by `MapDataset.shuffle(seed)` and by
#         `DataLoader` with an `IndexSampler`.
# Why:    the permutation depends on seed + epoch alone. The documentation says that "the seed is combined with
#         epoch number", not how. `MapDataset.seed(s).shuffle()` hashes the seed and is not affected.
# Source: https://github.com/google/grain/blob/main/grain/_src/python/dataset/transformations/shuffle.py
#         https://github.com/google/grain/blob/main/grain/_src/python/samplers.py
# Hurts:  who repeats a training with seeds 0, 1, 2 to tell how much the order of the data matters: of ten epochs
#         nine are the same, so the spread comes out too small.
# Here:   diffc_jax/data/order.py adds the epoch too, to seeds that are hashed from the seed of the run and a
#         name (diffc_jax/rng.py), so that those of two runs are far apart.
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

LENGTH, EPOCHS = 1000, 3
print("grain", importlib.metadata.version("grain"))


def explicit_seed(seed):
    return list(grain.MapDataset.range(LENGTH).shuffle(seed=seed).repeat(EPOCHS))


def seed_of_pipeline(seed):
    return list(grain.MapDataset.range(LENGTH).seed(seed).shuffle().repeat(EPOCHS))


def data_loader(seed):
    sampler = grain.samplers.IndexSampler(LENGTH, shuffle=True, seed=seed, num_epochs=EPOCHS)
    return list(grain.DataLoader(data_source=range(LENGTH), sampler=sampler))


shared = {}
for order in (explicit_seed, data_loader, seed_of_pipeline):
    first, second = (np.array(order(seed)).reshape(EPOCHS, LENGTH) for seed in (0, 1))
    shared[order] = [
        (e, f) for e in range(EPOCHS) for f in range(EPOCHS) if (first[e] == second[f]).all()
    ]
    print(f"{order.__name__}: equal epochs of seeds 0 and 1: {shared[order] or 'none'}")

shifted = [(e + 1, e) for e in range(EPOCHS - 1)]
if shared != {explicit_seed: shifted, data_loader: shifted, seed_of_pipeline: []}:
    sys.exit("no longer seen: the seeds share other epochs")
print("seen: epoch e + 1 with seed 0 is epoch e with seed 1")
PYTHON

#!/usr/bin/env bash
# webdataset's shardshuffle has the same order of shards in all epochs, also without a seed.
#
# Guess:  `WebDataset(urls, shardshuffle=100)` draws a new order of the shards whenever it is
#         iterated, as `shuffle` does with samples, and as a DataPipeline with `shuffle(100)`.
# Seen:   one order is drawn when the dataset is made, and every epoch repeats it. With `.shuffle`
#         after it, samples move within its buffer only, so that a sample comes near to the same
#         place in every epoch: places of two epochs have a correlation of 0.9, and in a pipeline
#         0. And `repeat=True` ("Whether to repeat the dataset") has no effect.
# Why:    for `seed=None` the constructor draws a number, and the stage `shuffle(n, seed=number)`
#         makes its generator again from it for each epoch. `detshuffle=True` counts epochs.
#         The argument `repeat` is not read.
# Source: https://github.com/webdataset/webdataset, WebDataset in src/webdataset/compat.py and
#         _shuffle in filters.py; https://github.com/webdataset/webdataset/pull/502 (July 2026,
#         open) on the order. https://github.com/webdataset/webdataset/issues/350 recommends
#         this call.
# Hurts:  who trains for several epochs with shards that differ (by source, class or date): the
#         network sees the same sequence of shards again and again, and runs that stop within an
#         epoch never see the last ones.
# Cure:   detshuffle=True (tried in one process), `resampled=True`, or a DataPipeline of
#         SimpleShardList(urls), shuffle(100), split_by_worker, tarfile_to_samples().
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  webdataset==1.0.2 numpy==2.4.6

SHARDS="$folder/shard-%03d.tar" "$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
from importlib.metadata import version

import numpy as np
import webdataset

print("webdataset", version("webdataset"))
NUMBER, SAMPLES, EPOCHS = 50, 40, 4
urls = [os.environ["SHARDS"] % shard for shard in range(NUMBER)]
for shard, url in enumerate(urls):
    with webdataset.TarWriter(url) as writer:
        for sample in range(SAMPLES):
            writer.write({"__key__": f"{sample:05d}", "cls": shard * SAMPLES + sample})


def measure(name, dataset, buffer=None):
    """Share of shards at the same place in the next epoch, and correlation of places."""
    if buffer:
        dataset = dataset.shuffle(buffer)
    epochs = np.array([[label for (label,) in dataset.decode().to_tuple("cls")]
                       for _ in range(EPOCHS)])
    assert all(np.array_equal(np.sort(epoch), np.arange(NUMBER * SAMPLES)) for epoch in epochs)
    places = np.argsort(epochs, axis=1)
    correlation = float(np.corrcoef(places)[0, 1:].mean())
    same = float(np.mean(epochs[0] // SAMPLES == epochs[1:] // SAMPLES))
    print(f"{name:30} the same shard at a place {same:4.0%}, correlation {correlation:5.2f}")
    return same, correlation


def pipeline():
    """What the constructor could do."""
    return webdataset.DataPipeline(
        webdataset.SimpleShardList(urls), webdataset.shuffle(100),
        webdataset.tarfile_to_samples(), webdataset.decode(), webdataset.to_tuple("cls"),
    )


WebDataset = webdataset.WebDataset
shards = measure("shardshuffle", WebDataset(urls, shardshuffle=100))
samples = measure("shardshuffle, shuffle(200)", WebDataset(urls, shardshuffle=100), 200)
counted = measure("detshuffle", WebDataset(urls, shardshuffle=100, detshuffle=True))
stages = pipeline()
orders = np.array([[label // SAMPLES for (label,) in stages][::SAMPLES] for _ in range(EPOCHS)])
control = float(np.mean(orders[0] == orders[1:]))
print(f"{'DataPipeline':30} the same shard at a place {control:4.0%}")
repeated = sum(1 for _ in WebDataset(urls[:2], shardshuffle=False, repeat=True))
print(f"repeat=True: {repeated} samples of {2 * SAMPLES}")

if not (shards == (1.0, 1.0) and samples[1] > 0.7 and abs(counted[1]) < 0.4
        and control < 0.2 and repeated == 2 * SAMPLES):
    sys.exit("no longer seen: epochs have different orders")
print("seen: one order for all epochs")
PYTHON

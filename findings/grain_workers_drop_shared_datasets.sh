#!/usr/bin/env bash
# Grain's worker processes lose most of a dataset that a pipeline uses twice.
#
# Guess:  `mp_prefetch` with N workers returns the elements that the pipeline returns without workers. Each
#         worker takes every N-th element; the docstring warns of filters and packing only.
# Seen:   where two branches of the pipeline start from one `IterDataset` (images and their mirrored copies
#         that are mixed, or two views of an image that are zipped), N workers return 1/N of the elements,
#         always the same ones, without a word. Branches from datasets of their own, or that part before
#         `to_iter_dataset`, are whole. With threads (`multithread_prefetch`) it is the same.
# Why:    to take a worker's slice, Grain walks through the parents of all datasets and replaces in place. It
#         comes to the shared one along each branch and slices it each time: [0::N][0::N] is [0::N^2], and
#         worker i of N is left with the N-th part of its share.
# Source: https://github.com/google/grain/blob/main/grain/_src/python/dataset/transformations/prefetch.py
#         (_set_slice_iter_dataset)
# Hurts:  who adds workers to such a pipeline for speed: with the default of 10, nine tenths of the training
#         set are never read, and an evaluation is one of a tenth. It looks like a fast epoch.
# Here:   diffc_jax has no worker processes of Grain: diffc_jax/data/pipeline.py decodes in threads, by index.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check grain==0.2.18 numpy==2.4.6

cat >"$folder/pipelines.py" <<'PYTHON' # a file, as each worker imports it
import importlib.metadata
import logging
import sys

import grain
from grain.experimental import ZipIterDataset, multithread_prefetch

logging.disable()
LENGTH = 36


def source():
    return grain.MapDataset.range(LENGTH)


def mirrored(element):
    return -element


def mixed_of_one():
    images = source().to_iter_dataset()
    return grain.IterDataset.mix([images, images.map(mirrored)])


def zipped_of_one():
    images = source().to_iter_dataset()
    return ZipIterDataset([images, images.map(mirrored)])


def mixed_of_two():
    copies = source().to_iter_dataset().map(mirrored)
    return grain.IterDataset.mix([source().to_iter_dataset(), copies])


def mixed_before():
    images = source()
    return grain.MapDataset.mix([images, images.map(mirrored)]).to_iter_dataset()


def chain():
    return source().to_iter_dataset().map(mirrored)


def read(dataset):
    iterator = iter(dataset)
    elements = list(iterator)
    iterator.close()
    return elements


def with_processes(dataset, workers):
    return read(dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers)))


def main():
    print("grain", importlib.metadata.version("grain"))
    expected = True
    for name, make, shared in [
        ("one branch", chain, False),  # controls: whole
        ("mixed, of two datasets", mixed_of_two, False),
        ("mixed before to_iter_dataset", mixed_before, False),
        ("mixed, of one dataset", mixed_of_one, True),
        ("zipped, of one dataset", zipped_of_one, True),
    ]:
        alone = read(make())
        for workers in (1, 2, 3):
            elements = with_processes(make(), workers)
            print(f"{name}, {workers} workers: {len(elements)} of {len(alone)} elements")
            if shared and workers > 1:
                expected &= len(elements) == len(alone) // workers
            else:
                expected &= sorted(elements) == sorted(alone)

    threads = read(multithread_prefetch(zipped_of_one(), num_threads=3, buffer_size=1))
    print(f"zipped, of one dataset, 3 threads: {len(threads)} of {LENGTH}: {threads}")
    expected &= len(threads) == LENGTH // 3 and threads == elements

    if not expected:
        sys.exit("no longer seen: workers change which elements are returned otherwise, or not at all")
    print("seen: N workers return 1/N of the elements")


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" "$folder/pipelines.py"

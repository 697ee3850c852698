#!/usr/bin/env bash
# torchdata.nodes: a shuffled pipeline resumed in its second epoch gets the order of the first.
#
# Guess:  `Loader.load_state_dict` continues with the items that were still to come: none of the
#         epoch comes twice and none is lost, as with StatefulDataLoader.
# Seen:   with a RandomSampler with a seed, stopped in the middle of epoch 1 (the second one) and
#         resumed in a new process, the other half is that of epoch 0: a quarter of the items comes
#         twice and a quarter never. Without a seed in every epoch, the first too. No warning, and
#         the number of items is right. The same with torchdata's own RandomSampler, made to be
#         resumed, and with StatefulDistributedSampler.
# Why:    SamplerWrapper saves the number of items and of the epoch; neither the generator nor the
#         state of the sampler's iterator, which is where RandomSampler keeps it. When loading it
#         makes a new iterator and skips that number of items. If the sampler has `state_dict`, as
#         StatefulDistributedSampler, `set_epoch` is not called.
# Source: torchdata/nodes/adapters.py of https://github.com/meta-pytorch/data. A RandomSampler in a
#         SamplerWrapper is the example of its guide "Migrating to torchdata.nodes", which shows
#         resuming with shuffle=False only. Known for StatefulDistributedSampler:
#         https://github.com/meta-pytorch/data/issues/1513 (open).
# Hurts:  who resumes training within epochs: with every restart a part of the data is lost and
#         another one seen twice.
# Cure:   torch.utils.data.DistributedSampler with one replica, or StatefulDataLoader.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchdata==0.11.0 torch==2.13.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import collections
import sys

import torch
import torch.utils.data
import torchdata
from torchdata.nodes import Batcher, Loader, MapStyleWrapper
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader import sampler as stateful

ITEMS, BATCH = 1000, 10
DATA = list(range(ITEMS))
ONE = {"num_replicas": 1, "rank": 0, "seed": 0}
print("torchdata", torchdata.__version__, "torch", torch.__version__)


def generator():
    return torch.Generator().manual_seed(0)


def nodes(sampler):
    return Loader(Batcher(MapStyleWrapper(DATA, sampler), BATCH, drop_last=False))


LOADERS = {
    "nodes, RandomSampler": lambda: nodes(
        torch.utils.data.RandomSampler(DATA, generator=generator())),
    "nodes, RandomSampler without a seed": lambda: nodes(torch.utils.data.RandomSampler(DATA)),
    "nodes, torchdata's RandomSampler": lambda: nodes(
        stateful.RandomSampler(DATA, generator=generator())),
    "nodes, StatefulDistributedSampler": lambda: nodes(
        stateful.StatefulDistributedSampler(DATA, **ONE)),
    "nodes, DistributedSampler": lambda: nodes(
        torch.utils.data.DistributedSampler(DATA, **ONE)),
    "StatefulDataLoader": lambda: StatefulDataLoader(
        DATA, BATCH, shuffle=True, generator=generator()),
}

seen = {}
for name, new in LOADERS.items():
    for epoch in (0, 1):
        loader = new()
        for _ in range(epoch):
            list(loader)
        items = []
        for batch, content in enumerate(loader, 1):
            items += [int(i) for i in content]
            if batch == ITEMS // BATCH // 2:
                state = loader.state_dict()
                break
        resumed = new()  # in another process
        resumed.load_state_dict(state)
        items += [int(i) for content in resumed for i in content]
        twice = sum(count > 1 for count in collections.Counter(items).values())
        seen[name, epoch] = never = ITEMS - len(set(items))
        print(f"{name}, epoch {epoch}: {len(items)} items, {twice} twice, {never} never")

if not seen["nodes, RandomSampler", 1] or not seen["nodes, torchdata's RandomSampler", 1]:
    sys.exit("no longer seen: the pipeline continues with the rest of its epoch")
if seen["StatefulDataLoader", 1]:
    sys.exit("not as expected: StatefulDataLoader loses items")
print("seen: a quarter of the items is lost")
PYTHON

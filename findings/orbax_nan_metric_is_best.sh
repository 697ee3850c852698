#!/usr/bin/env bash
# Orbax takes the newest checkpoint for the best one if its metric is NaN, and deletes the good ones.
#
# Guess:  with `best_fn` and `max_to_keep=3`, a CheckpointManager keeps the three checkpoints with the lowest
#         loss. One whose loss is NaN is the worst: it is deleted first, as one with an infinite loss is.
# Seen:   when a run diverges, each checkpoint with NaN is "best" and drives a good one out. After three of
#         them nothing else is left, and `best_step()` names parameters that are NaN. A single NaN that passes
#         is enough to lose the best checkpoint. No error and no warning; likewise with `best_mode="max"`.
# Why:    checkpoints are put in order by `sorted` with the metric as its key, and the last ones are kept. NaN
#         is neither less nor greater than anything, so the newest one stays last, and those on both sides of
#         a NaN are not compared.
# Source: https://github.com/google/orbax/tree/main/checkpoint/orbax/checkpoint: `BestN` in
#         _src/checkpoint_managers/preservation_policy.py, `_sort_checkpoints_by_metrics` (for `best_step`) in
#         checkpoint_manager.py
# Hurts:  who keeps the best checkpoints by a validation loss and lets a run go on overnight: it diverges, and
#         the checkpoints for going back are gone.
# Here:   diffc_jax/runtime/checkpoints.py keeps the newest checkpoints and names no metric: not affected.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import logging
import math
import sys

import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

logging.disable(logging.WARNING)
print("orbax-checkpoint", importlib.metadata.version("orbax-checkpoint"))
NAN, INF = math.nan, math.inf


def loss_of(metrics):
    return metrics["loss"]


def run(name, losses, **options):
    """The losses of the checkpoints that are left, and the loss of the "best" one."""
    options |= {"enable_async_checkpointing": False, "best_fn": loss_of}
    with ocp.CheckpointManager(
        f"{sys.argv[1]}/{name}", options=ocp.CheckpointManagerOptions(**options)
    ) as manager:
        for step, loss in enumerate(losses):
            state = {"weights": np.full(4, loss)}
            manager.save(step, args=ocp.args.StandardSave(state), metrics={"loss": loss})
        best = manager.best_step()
        restored = manager.restore(best, args=ocp.args.StandardRestore())["weights"]
        kept = [losses[step] for step in manager.all_steps()]
    print(f"{name}: losses {losses}, kept {kept}, best {losses[best]}, its weights {restored[:2]}")
    return kept, losses[best]


keep = {"max_to_keep": 3, "best_mode": "min"}
policy = {
    "preservation_policy": preservation_policy.BestN(get_metric_fn=loss_of, reverse=True, n=3),
    "best_mode": "min",
}
# Controls: right.
right = run("it gets worse", [3.0, 2.0, 1.0, 4.0, 5.0, 6.0], **keep) == ([3.0, 2.0, 1.0], 1.0)
right &= run("infinite", [3.0, 2.0, 1.0, INF, INF, INF], **keep) == ([3.0, 2.0, 1.0], 1.0)

# Texts, since NaN is not equal to itself.
seen = str(run("diverges", [3.0, 2.0, 1.0, NAN, NAN, NAN], **keep)) == "([nan, nan, nan], nan)"
seen &= str(run("as a policy", [3.0, 2.0, 1.0, NAN, NAN, NAN], **policy)) == "([nan, nan, nan], nan)"
upwards = run("highest score", [-3.0, -2.0, -1.0, NAN, NAN, NAN], max_to_keep=3, best_mode="max")
seen &= str(upwards) == "([nan, nan, nan], nan)"
kept, best = run("one NaN", [3.0, 1.0, NAN, 2.0], max_to_keep=2, best_mode="min")
seen &= 1.0 not in kept and best == 2.0

if not right or not seen:
    sys.exit("no longer seen: NaN does not drive out what is better")
print("seen: checkpoints with NaN are kept, and the best ones are deleted")
PYTHON

#!/usr/bin/env bash
# optax's generalized Dice loss is 0 for wrong predictions if one class is not in the batch.
#
# Guess:  `multiclass_generalized_dice_loss` of predictions that are wrong in every pixel is about
#         1, and that of right ones about 0, whichever classes occur in the batch.
# Seen:   with two of three classes in the batch, both are 2e-7: the loss cannot tell right from
#         wrong. Adam on free logits ends with half of the pixels right (chance between the
#         classes that occur), and with `dice_loss` with all of them. If all classes occur, both
#         work. A rare class does nearly the same: with 4 of 512 pixels right and 508 wrong the
#         loss is 0.0005.
# Why:    weights are 1 / (frequency ** 2 + 1e-7) and then scaled to a sum of the number of
#         classes, so a class that does not occur takes all of it (1e7 against 1e-4), and its loss
#         says only that it should not be predicted. In the paper the weights stand in numerator
#         and denominator of one quotient; here they multiply the losses of the classes.
# Source: https://github.com/google-deepmind/optax, optax/losses/_segmentation.py; Sudre et al.
#         (2017), https://arxiv.org/abs/1707.03237. No issue was found. The docstring says that
#         the function "helps handle class imbalance".
# Hurts:  who segments images with more than a few classes: in most batches one is missing. The
#         loss falls to 0 and looks like success.
# Cure:   optax.losses.dice_loss, or weights from the whole data set as its `class_weights`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.losses import dice_loss, multiclass_generalized_dice_loss

print("optax", optax.__version__, "jax", jax.__version__)
rng = np.random.default_rng(0)
SHAPE = (2, 16, 16)


def mean_dice(logits, targets):
    """The control."""
    return dice_loss(logits, targets).mean()


@partial(jax.jit, static_argnums=0)
def train(loss, targets, logits):
    """Share of right pixels after 300 steps of Adam on free logits, and the loss."""
    optimizer = optax.adam(0.1)

    def step(_, carry):
        logits, state = carry
        updates, state = optimizer.update(jax.grad(loss)(logits, targets), state)
        return optax.apply_updates(logits, updates), state

    logits, _ = jax.lax.fori_loop(0, 300, step, (logits, optimizer.init(logits)))
    return jnp.mean(logits.argmax(-1) == targets.argmax(-1)), loss(logits, targets)


losses, ends = {}, {}
for classes, labels in ((3, rng.integers(0, 2, SHAPE)), (2, rng.integers(0, 2, SHAPE))):
    targets = jax.nn.one_hot(labels, classes)
    swapped = jax.nn.one_hot(1 - labels, classes)
    start = jnp.asarray(rng.normal(size=(*SHAPE, classes)), jnp.float32)
    for loss in (multiclass_generalized_dice_loss, mean_dice):
        losses[classes, loss] = [float(loss(20 * p, targets)) for p in (targets, swapped)]
        ends[classes, loss] = [float(value) for value in train(loss, targets, start)]
        right, wrong = losses[classes, loss]
        print(f"2 of {classes} classes occur, {loss.__name__:32}: right {right:.2g}, all wrong "
              f"{wrong:.2g}; trained: {ends[classes, loss][0]:.0%} right, loss "
              f"{ends[classes, loss][1]:.2g}")

labels = rng.integers(0, 2, SHAPE)
labels[0, 0, :4] = 2
targets = jax.nn.one_hot(labels, 3)
swapped = 20 * jax.nn.one_hot(np.array([1, 0, 2])[labels], 3)
rare = [float(loss(swapped, targets)) for loss in (multiclass_generalized_dice_loss, mean_dice)]
print("4 pixels right, 508 wrong: generalized %.2g, mean %.2g" % tuple(rare))

blind, control = (3, multiclass_generalized_dice_loss), (3, mean_dice)
complete = 2, multiclass_generalized_dice_loss
if not (max(losses[blind]) < 1e-5 and ends[blind][0] < 0.75 and losses[control][1] > 0.5
        and ends[control][0] > 0.98 and losses[complete][1] > 0.9 and ends[complete][0] > 0.98):
    sys.exit("no longer seen: absent classes do not matter")
print("seen: a class that does not occur takes all weight")
PYTHON

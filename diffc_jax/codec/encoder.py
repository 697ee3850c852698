"""The sender: tiles to steps. `send_step` is the algorithm of the paper.

x_hat(z) is known on both sides, so the sender knows how far x is from it, and with that what a step costs
whose precision both sides have predicted (`step_sizes`). All that it chooses is when to depart from that.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffc_jax.channel_simulation.projection import UNIT
from diffc_jax.codec.announced_sizes import MOST_SIZES, TILE_STEPS
from diffc_jax.codec.chain import Chain, TileKeys, message_keys, standardised_mean
from diffc_jax.codec.codebooks import OpenCodebook
from diffc_jax.codec.container import CodedStep
from diffc_jax.codec.header import CHECK_BITS
from diffc_jax.codec.step_sizes import (
    StepOffer,
    StepSizes,
)
from diffc_jax.codec.stream import snr_to_float
from diffc_jax.diffusion import process
from diffc_jax.diffusion.process import Images
from diffc_jax.errors import InputError
from diffc_jax.models import Variables


class Choice(NamedTuple):
    """A step that may be taken.

    Attributes:
        sizes: numbers that announce another size than planned.
        offer: the step.
        cell: where a is in it.
    """

    sizes: tuple[int, ...]
    offer: StepOffer
    cell: int

    @property
    def path_bits(self) -> int:
        """Bits of its path."""
        return self.offer.path_bits(self.cell)

    @property
    def bits(self) -> float:
        """All that it takes in a stream, but for checks."""
        announced = TILE_STEPS.stream_bits * len(self.sizes)
        return announced + self.offer.bits(self.cell) + self.path_bits


# Chooses a step of a tile, given |x - x_hat|^2.
Chooser = Callable[[StepSizes, float], Choice]


def choose(sizes: StepSizes, squared_error: float, numbers: tuple[int, ...] = ()) -> Choice:
    """The step that these numbers announce; if a is out of its reach, a smaller one.

    Raises:
        InputError: |x - x_hat|^2 is not what a denoiser would leave.
    """
    for _ in range(MOST_SIZES):
        try:
            offer = sizes.offer(numbers)
        except ValueError:
            break
        length = math.sqrt(snr_to_float(offer.delta) * squared_error)
        cell = offer.cell(length)
        if cell < offer.n_cells:
            return Choice(numbers, offer, cell)
        reach = offer.target(offer.n_cells - 1) / UNIT
        numbers += (TILE_STEPS.within_reach(reach, length),)
    raise InputError("the model's prediction is too far from the image for the codec")


def towards(end_snr: int) -> Chooser:
    """Chooses planned steps, and as the last one that which leads nearest to a signal-to-noise ratio."""

    def chooser(sizes: StepSizes, squared_error: float) -> Choice:
        return choose(sizes, squared_error, _announced(sizes, end_snr) or ())

    return chooser


def arrived(sizes: StepSizes, end_snr: int) -> bool:
    """Whether no step leads nearer to `end_snr`."""
    return _announced(sizes, end_snr) is None


def _announced(sizes: StepSizes, end_snr: int) -> tuple[int, ...] | None:
    """Announces the step that ends nearest to `end_snr`; None if none leads nearer."""
    left, planned = end_snr - sizes.snr, sizes.offer().delta
    return TILE_STEPS.towards(left, planned, is_first=sizes.n_steps == 0)


def all_sizes() -> list[tuple[int, ...]]:
    """The planned step, and all that one number announces."""
    return [(), *((number,) for number in range(TILE_STEPS.largest + 1))]


class Sent(NamedTuple):
    """What `send_step` did with each image of its batch.

    Attributes:
        steps: as the stream will say them.
        choices: of which they came.
        z: latents after them.
        squared_error: |x - x_hat|^2 before them.
    """

    steps: list[CodedStep]
    choices: list[Choice]
    z: Images
    squared_error: Float[np.ndarray, " b"]


def send_step(
    chain: Chain,
    variables: Variables,
    tile_keys: TileKeys,
    x: Images,
    z: Images,
    sizes: Sequence[StepSizes],
    choosers: Sequence[Chooser],
) -> Sent:
    """Communicates z_s, one step from z_t towards x: the algorithm of the paper (sections 2 and 3).

    Args:
        chain: of the denoiser, with the codebook of version 2.
        variables: of the denoiser.
        tile_keys: of the shared randomness of each image.
        x: images in [-1, 1].
        z: z_t, the latents so far.
        sizes: what both sides know of each tile; not changed.
        choosers: of the size of each step.

    Raises:
        InputError: the denoiser predicts NaN or infinity, or what is too far from x.
    """
    assert isinstance(chain.codebook, OpenCodebook)
    # p(z_s | z_t) puts x_hat(z_t) for x. Both sides know it.
    snr = np.array([snr_to_float(one.snr) for one in sizes])
    x_hat = chain.predict(variables, z, snr)
    # q(z_s | z_t, x) differs from it by KL = a^2 / 2 nats, a^2 = delta |x - x_hat|^2.
    error = np.asarray(_squared_error(x, x_hat), np.float64)
    if not np.isfinite(error).all():
        raise InputError("the model's prediction holds NaN or infinity")
    choices = [
        choose_one(one, float(e)) for choose_one, one, e in zip(choosers, sizes, error, strict=True)
    ]
    delta = np.array([snr_to_float(one.offer.delta) for one in choices])
    # In units in which p is N(0, I), q is N(mu, I). Shared randomness says how far its sample goes in the
    # direction of mu; the best path of the number of bits that this takes is the sample.
    keys = message_keys(tile_keys, np.array([one.n_steps for one in sizes]))
    mu = standardised_mean(x, x_hat, delta.astype(np.float32))
    path_bits = [one.path_bits for one in choices]
    paths = chain.codebook.search(keys, mu, path_bits)
    sample = chain.codebook.decode(keys, list(zip(paths, path_bits, strict=True)))
    # z_s, as the receiver computes it from its own x_hat(z_t) and the sample.
    z_s, checks = chain.step(keys, z, x_hat, sample, snr, delta)
    steps = [
        CodedStep(one.sizes, one.cell, path, int(check) % (1 << CHECK_BITS))
        for one, path, check in zip(choices, paths, jax.device_get(checks), strict=True)
    ]
    return Sent(steps, choices, z_s, error)


@jax.jit
def _squared_error(x: Images, x_hat: Images) -> Float[Array, " b"]:
    # At least the square of what float32 resolves, so that its logarithm is finite.
    return jnp.maximum(process.squared_norm(x - x_hat), 1e-9)

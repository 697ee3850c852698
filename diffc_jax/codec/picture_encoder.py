"""The sender of a whole picture: the algorithm of `encoder.send_step`, with one step for all pixels.

A step is sent in messages. How much each takes is known once x_hat is, before any path is searched, so that
the last step can be made as large as what is left of a budget.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffc_jax.channel_simulation.projection import UNIT
from diffc_jax.codec.announced_sizes import MOST_SIZES, PICTURE_STEPS
from diffc_jax.codec.codebooks import OpenCodebook
from diffc_jax.codec.container import CodedStep
from diffc_jax.codec.header import CHECK_BITS
from diffc_jax.codec.picture_chain import PictureChain, padded, values_of
from diffc_jax.codec.picture_sizes import PictureSizes
from diffc_jax.codec.step_sizes import StepOffer
from diffc_jax.codec.stream import Header, snr_to_float
from diffc_jax.codec.windows import Picture
from diffc_jax.errors import InputError

# At least the square of what float32 resolves, so that its logarithm is finite.
_LEAST_ENERGY = 1e-9


class PictureStep(NamedTuple):
    """A step that may be taken.

    Attributes:
        sizes: numbers that announce another size than planned.
        messages: the offer of each message, and the cell that |mu| is in.
        bits: all that it takes in a stream, but for checks.
        after: where the picture is then.
    """

    sizes: tuple[int, ...]
    messages: list[tuple[StepOffer, int]]
    bits: float
    after: PictureSizes

    @property
    def delta(self) -> int:
        """What it adds to the signal-to-noise ratio, in units of 2^-48."""
        return self.messages[0][0].delta


class PictureEncoder:
    """Encodes a picture step by step.

    Attributes:
        chain: with the latents after the last step.
        sizes: where the picture is after the last step.
        squared_error: |x - x_hat|^2 before the last step.
    """

    def __init__(self, header: Header, x: Picture, chain: PictureChain):
        """Begins with no bits of x, which has the coded shape of the header."""
        self.chain = chain
        self.sizes = PictureSizes(header.seed, x.size, 3 * header.tile**2, header.memory)
        self.squared_error = math.inf
        self._x = x
        self._x_hat = x
        self._energies: list[float] = []
        self._before = chain.z, 0, self.sizes

    @property
    def x_size(self) -> int:
        """Values of the picture."""
        return self._x.size

    def predict(self) -> None:
        """Finds x_hat, and with it what any next step costs.

        Raises:
            InputError: the denoiser predicts NaN or infinity.
        """
        self._x_hat = self.chain.x_hat()
        error, count = self._errors(), self.sizes.n_messages
        self._energies = [
            max(float(np.sum(np.square(error(m), dtype=float))), _LEAST_ENERGY)
            for m in range(count)
        ]
        self.squared_error = math.fsum(self._energies)

    def choose(self, numbers: tuple[int, ...] = ()) -> PictureStep:
        """The step that these numbers announce; if |mu| of a message is out of reach, a smaller one.

        Raises:
            InputError: |x - x_hat|^2 is not what a denoiser would leave.
        """
        for _ in range(MOST_SIZES):
            try:
                offer = self.sizes.offer(numbers)
            except ValueError:
                break
            if (step := self.fitting(numbers)) is not None:
                return step
            reach = offer.target(offer.n_cells - 1) / UNIT
            length = math.sqrt(snr_to_float(offer.delta) * max(self._energies))
            numbers += (PICTURE_STEPS.within_reach(reach, length),)
        raise InputError("the model's prediction is too far from the image for the codec")

    def fitting(self, numbers: tuple[int, ...]) -> PictureStep | None:
        """The step that these numbers announce; None if there is none, or a message is out of reach."""
        sizes, messages = self.sizes.copy(), []
        bits = PICTURE_STEPS.stream_bits * len(numbers)
        for number, energy in enumerate(self._energies):
            try:
                offer = sizes.offer(() if number else numbers)
            except ValueError:
                return None
            cell = offer.cell(math.sqrt(snr_to_float(offer.delta) * energy))
            if cell >= offer.n_cells:
                return None
            messages.append((offer, cell))
            bits += offer.bits(cell) + sizes.advance(offer, cell)
        return PictureStep(numbers, messages, bits, sizes)

    def take(self, step: PictureStep) -> list[CodedStep]:
        """Goes on by a step; its messages as the stream will say them."""
        error, scale = self._errors(), np.float32(math.sqrt(snr_to_float(step.delta)))
        path_bits = [offer.path_bits(cell) for offer, cell in step.messages]
        paths: list[bytes] = []

        def samples(
            codebook: OpenCodebook, keys: jax.Array, group: range
        ) -> Float[np.ndarray, "b m"]:
            some = [m for m in group if m < len(path_bits)]
            mu = padded([scale * error(m) for m in some], len(group), codebook.trellis.size)
            bits = [path_bits[m] for m in some] + [path_bits[0]] * (len(group) - len(some))
            found = codebook.search(keys, jnp.asarray(mu), bits)
            paths.extend(found[: len(some)])
            return np.asarray(codebook.decode(keys, list(zip(found, bits, strict=True))))

        self._before = self.chain.z.copy(), self.chain.snr, self.sizes
        count, size = self.sizes.n_messages, self.sizes.message_size
        check = self.chain.advance(self._x_hat, step.delta, count, size, samples, checked=True)
        self.sizes = step.after
        return _coded(step, paths, check % (1 << CHECK_BITS))

    def undo(self) -> None:
        """Takes the last step back; what `predict` found before it holds again."""
        self.chain.z, self.chain.snr, self.sizes = self._before
        self.chain.n_steps = self.sizes.n_steps

    def _errors(self) -> Callable[[int], Float[np.ndarray, " m"]]:
        """Returns a function that finds x - x_hat of the values of a message."""
        x, x_hat, count = self._x.reshape(-1), self._x_hat.reshape(-1), self.sizes.n_messages

        def error(message: int) -> Float[np.ndarray, " m"]:
            own = values_of(message, count, x.size)
            return x[own] - x_hat[own]

        return error


def _coded(step: PictureStep, paths: Sequence[bytes], check: int) -> list[CodedStep]:
    return [
        CodedStep(step.sizes if i == 0 else (), cell, path, check)
        for i, ((_, cell), path) in enumerate(zip(step.messages, paths, strict=True))
    ]

"""Encoders of tiles, whose steps are taken in batches, those of several images together."""

import math
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from diffc_jax.codec.batches import Rows, batches_for
from diffc_jax.codec.chain import Chain, TileKeys
from diffc_jax.codec.container import CodedStep
from diffc_jax.codec.encoder import Choice, Chooser, Sent, arrived, send_step, towards
from diffc_jax.codec.step_sizes import StepSizes
from diffc_jax.errors import InputError
from diffc_jax.models import Variables


class TileEncoder:
    """Encodes tiles side by side, each as far as it is asked to.

    Attributes:
        chain: of the denoiser.
        variables: of the denoiser.
        x: the tiles, in [-1, 1].
        keys: of their shared randomness.
        z: the latent of each tile after its last step.
        steps: of each tile, so far.
        choices: of which they came.
        sizes: where each tile is after its last step.
        end_snr: where tiles end.
        squared_error: |x - x_hat|^2 of each tile before its last step.
        batch_size: how many tiles go through the denoiser at once, at most.
        on_steps: called after tiles have taken a step.
    """

    def __init__(
        self,
        chain: Chain,
        variables: Variables,
        x: Float[np.ndarray, "n h w c"],
        tile_keys: TileKeys,
        end_snr: int,
        batch_size: int,
        on_steps: Callable[["TileEncoder"], None] = lambda encoder: None,
    ):
        """Begins with no bits of x, tiles with a key each."""
        self.chain, self.variables = chain, variables
        self.x, self.keys = x, tile_keys
        self.end_snr = end_snr
        self.batch_size = batch_size
        self.z = np.zeros(x.shape, np.float32)
        for rows, count in batches_for(len(x), batch_size, chain.place).of(range(len(x))):
            self.z[rows[:count]] = chain.start(tile_keys[rows])[:count]
        self.steps: list[list[CodedStep]] = [[] for _ in x]
        self.choices: list[list[Choice]] = [[] for _ in x]
        size = math.prod(chain.image_shape)
        self.sizes = [
            StepSizes((int(first), int(second)), size, chain.memory) for first, second in tile_keys
        ]
        self.squared_error = np.full(len(x), np.inf)
        self._n_taken = [0] * len(x)
        self._before = [(self.z[i], one.copy()) for i, one in enumerate(self.sizes)]
        self.on_steps = on_steps

    def finished(self, tile: int) -> bool:
        """Whether a tile has arrived at the end."""
        return arrived(self.sizes[tile], self.end_snr)

    def wanted(self, tile: int, chooser: Chooser | None = None) -> "Wanted":
        """The next step of a tile; without a chooser the planned one."""
        return Wanted(self, tile, chooser or towards(self.end_snr))

    def advance(self, tiles: Sequence[int]) -> None:
        """Adds a planned step to each of these tiles, of which none is finished.

        Raises:
            InputError: see `send_step`.
        """
        for error in advance([self.wanted(tile) for tile in tiles], len(self.x)).values():
            raise error

    def take(
        self,
        tile: int,
        step: CodedStep,
        choice: Choice,
        z: Float[np.ndarray, "h w c"],
        squared_error: float,
    ) -> None:
        """Adds a step that was sent, which leads to z."""
        self._before[tile] = self.z[tile].copy(), self.sizes[tile].copy()
        self.steps[tile].append(step)
        self.choices[tile].append(choice)
        self.z[tile] = z
        self.sizes[tile].advance(choice.offer, choice.cell)
        self.squared_error[tile] = squared_error

    def undo(self, tile: int) -> None:
        """Takes the last step of a tile back."""
        self.z[tile], sizes = self._before[tile]
        self.sizes[tile] = sizes.copy()
        self.steps[tile].pop()
        self.choices[tile].pop()
        self._n_taken[tile] = min(self._n_taken[tile], len(self.steps[tile]))

    def next_step(self, tile: int) -> "Job[CodedStep | None]":
        """The next step of a tile that was not given out yet, None after its last one.

        Where it has to be encoded, the tiles that are furthest behind get theirs along with it.
        """
        if self._n_taken[tile] == len(self.steps[tile]):
            if self.finished(tile):
                return None
            waiting = [
                one
                for one in range(len(self.steps))
                if self._n_taken[one] == len(self.steps[one]) and not self.finished(one)
            ]
            waiting.sort(key=lambda one: self.sizes[one].snr)
            yield [self.wanted(one) for one in waiting[: self.batch_size]]
        self._n_taken[tile] += 1
        return self.steps[tile][self._n_taken[tile] - 1]


class Wanted(NamedTuple):
    """A step that a tile of an encoder shall take."""

    encoder: TileEncoder
    tile: int
    chooser: Chooser


# Work that says which steps it needs next, and goes on when they are taken.
T = TypeVar("T")
Job = Generator[Sequence[Wanted], None, T]


def advance(wanted: Sequence[Wanted], n_tiles: int) -> dict[int, InputError]:
    """Takes steps of tiles, with one chain, of which `n_tiles` are under way; see `batches_for`.

    Returns:
        Numbers of the steps that cannot be taken, with what `send_step` said.
    """
    errors: dict[int, InputError] = {}
    first = wanted[0].encoder
    batches = batches_for(n_tiles, first.batch_size, first.chain.place)

    def send(rows: Rows) -> Sent | InputError:
        try:
            return _send([wanted[row] for row in rows.tolist()])
        except InputError as error:
            return error

    for rows, count, sent in batches.map(send, range(len(wanted))):
        if isinstance(sent, Sent):
            z = np.asarray(sent.z)
            for i, row in enumerate(rows[:count].tolist()):
                encoder, tile, _ = wanted[row]
                error = float(sent.squared_error[i])
                encoder.take(tile, sent.steps[i], sent.choices[i], z[i], error)
        elif count == 1:
            errors[int(rows[0])] = sent
        else:
            # Whose fault is it?
            for row in rows[:count].tolist():
                if own := advance([wanted[row]], n_tiles):
                    errors[row] = own[0]
    for encoder in {id(one.encoder): one.encoder for one in wanted}.values():
        encoder.on_steps(encoder)
    return errors


def _send(batch: Sequence[Wanted]) -> Sent:
    """Sends the steps of a batch, which tiles have yet to take."""
    encoders, tiles = [one.encoder for one in batch], [one.tile for one in batch]
    chain = encoders[0].chain

    def gathered(arrays: Callable[[TileEncoder], np.ndarray]) -> np.ndarray:
        pairs = zip(encoders, tiles, strict=True)
        return np.stack([arrays(encoder)[tile] for encoder, tile in pairs])

    return send_step(
        chain,
        encoders[0].variables,
        gathered(lambda encoder: encoder.keys),
        chain.place(gathered(lambda encoder: encoder.x)),
        chain.place(gathered(lambda encoder: encoder.z)),
        [encoder.sizes[tile] for encoder, tile in zip(encoders, tiles, strict=True)],
        [one.chooser for one in batch],
    )

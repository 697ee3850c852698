"""The receiver: steps to latents, and latents to pixels."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from diffc_jax.codec.batches import Place, Rows, batches_for
from diffc_jax.codec.chain import (
    Chain,
    TileKeys,
    check_distance,
    estimate,
    message_keys,
    receiver_keys,
)
from diffc_jax.codec.stream import Step, snr_to_float
from diffc_jax.diffusion import process
from diffc_jax.diffusion.decoders import Decoder, Reconstruct, parse_decoder
from diffc_jax.models import Denoiser, Variables


@dataclasses.dataclass(frozen=True)
class Latents:
    """What steps say about tiles.

    Attributes:
        z: of each tile.
        snr: signal-to-noise ratio of each tile.
        drift: largest distance between a check that was sent and the one found here, for each tile, in
            cells of the check; above `stream.CHECK_TOLERANCE` the two sides went different ways.
    """

    z: Float[np.ndarray, "n h w c"]
    snr: Float[np.ndarray, " n"]
    drift: Int[np.ndarray, " n"]


class LatentDecoder:
    """Walks the chain of each tile, from SNR 0, as far as its steps go."""

    def __init__(
        self,
        chain: Chain,
        variables: Variables,
        tile_keys: TileKeys,
        batch_size: int,
        check_bits: int,
    ):
        """At most `batch_size` tiles go through the denoiser at once, each with its key."""
        n_tiles = len(tile_keys)
        self._chain = chain
        self._variables = variables
        self._keys = tile_keys
        self._check_bits = check_bits
        self._batches = batches_for(n_tiles, batch_size, chain.place)
        self._z = np.zeros((n_tiles, *chain.image_shape), np.float32)
        self._snr = [0] * n_tiles
        self._n_steps = [0] * n_tiles
        self._drift = np.zeros(n_tiles, int)
        for rows, count in self._batches.of(range(n_tiles)):
            self._z[rows[:count]] = chain.start(tile_keys[rows])[:count]

    def advance(self, steps: Mapping[int, Sequence[Step]]) -> None:
        """Decodes the next steps of each of these tiles, side by side."""
        for number in range(max(map(len, steps.values()), default=0)):
            now = {tile: own[number] for tile, own in steps.items() if number < len(own)}

            def step(rows: Rows, now: Mapping[int, Step] = now) -> _Latents:
                return self._step(rows, [now[row] for row in rows.tolist()])

            for rows, count, (z, checks) in self._batches.map(step, list(now)):
                rows = rows[:count]
                taken = [now[row] for row in rows.tolist()]
                self._z[rows] = z[:count]
                for row, one in zip(rows.tolist(), taken, strict=True):
                    self._snr[row] += one.delta
                    self._n_steps[row] += 1
                self._compare(rows, taken, checks[:count])

    def latents(self) -> Latents:
        """Where the tiles are."""
        snr = np.array([snr_to_float(value) for value in self._snr])
        return Latents(self._z.copy(), snr, self._drift.copy())

    def _step(self, rows: Rows, steps: Sequence[Step]) -> "_Latents":
        """The latents of rows after a step of each, and checks: a network call and one of the channel."""
        chain = self._chain
        z = chain.place(self._z[rows])
        snr = np.array([snr_to_float(self._snr[row]) for row in rows])
        x_hat = chain.predict(self._variables, z, snr)
        keys = message_keys(self._keys[rows], np.array([self._n_steps[row] for row in rows]))
        sample = chain.codebook.decode(keys, [(one.path, one.path_bits) for one in steps])
        delta = np.array([snr_to_float(one.delta) for one in steps])
        return jax.device_get(chain.step(keys, z, x_hat, sample, snr, delta))

    def _compare(self, rows: Rows, steps: Sequence[Step], checks: UInt8[np.ndarray, " b"]) -> None:
        checked = [i for i, one in enumerate(steps) if one.check is not None]
        if checked:
            sent = np.array([one.check for one in steps if one.check is not None], np.uint8)
            distance = check_distance(checks[checked], sent, self._check_bits)
            self._drift[rows[checked]] = np.maximum(self._drift[rows[checked]], distance)


_Latents = tuple[Float[np.ndarray, "b h w c"], UInt8[np.ndarray, " b"]]


@dataclasses.dataclass(eq=False)
class Reconstructor:
    """From latents, each with its own noise level, to pixels, by one of `diffusion.decoders`.

    Attributes:
        eps_hat: the denoiser.
        gamma_range: least and largest gamma that it was trained for.
        decoder: its name.
        n_steps: denoiser evaluations of a decoder that takes several; None for what a sweep takes at the
            noise level.
        place: puts batches of images on the devices.

    Raises:
        UsageError: unknown decoder.
    """

    eps_hat: Denoiser
    gamma_range: tuple[float, float]
    decoder: str
    n_steps: int | None = None
    place: Place = jnp.asarray

    def __post_init__(self) -> None:
        self._decoder = parse_decoder(self.decoder, "decoder")

    def __call__(
        self,
        variables: Variables,
        z: Float[np.ndarray, "n h w c"],
        snr: Float[np.ndarray, " n"],
        tile_keys: UInt32[np.ndarray, "n 2"],
        batch_size: int,
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Pixels of latents of positive signal-to-noise ratios, at most `batch_size` at once.

        A random decoder draws noise of the receiver's own, which follows from the keys of the tiles.
        """
        settings = self.gamma_range, self.n_steps
        grids = [gammas_from(self._decoder, gamma, *settings) for gamma in -np.log(snr)]
        # One length for nearly all numbers of steps, so that there is one program.
        longest = -(-max(map(len, grids)) // _GRID_LENGTH) * _GRID_LENGTH

        def pixels_of(rows: Rows) -> UInt8[np.ndarray, "b h w c"]:
            keys = receiver_keys(jnp.asarray(tile_keys[rows]))
            placed, own = self.place(z[rows]), [grids[row] for row in rows.tolist()]
            some = np.stack([np.pad(g, (0, longest - len(g)), mode="edge") for g in own])
            some = some.astype(np.float32)
            known = np.minimum(some[:, 0], np.float32(self.gamma_range[1]))
            x_hat = estimate(self.eps_hat, variables, placed, known)
            n_steps = np.array([len(grid) - 1 for grid in own])
            pixels = _reconstruct_each(
                self._decoder.reconstruct,
                self.eps_hat,
                self.gamma_range[1],
                variables,
                *(placed, x_hat, some, n_steps, keys, np.float32(self._decoder.value)),
            )
            return np.asarray(pixels)

        batches = batches_for(len(z), batch_size, self.place)
        found = [some[:count] for _, count, some in batches.map(pixels_of, range(len(z)))]
        return np.concatenate(found)


# Grids are filled up to a multiple of so many gammas.
_GRID_LENGTH = 16
# Decoders go down to the least gamma, from at least so much above it.
_SHORTEST = 1e-3


def gammas_from(
    decoder: Decoder, gamma: float, gamma_range: tuple[float, float], n_steps: int | None
) -> Float[np.ndarray, " n"]:
    """Where a decoder evaluates the denoiser from latents at `gamma` on, and where it ends.

    None stands for as many steps as a sweep takes there.
    """
    low, high = gamma_range
    first = max(gamma, low + _SHORTEST)
    if n_steps is None:
        n_steps = decoder.default_steps(first, low, high)
    return decoder.steps(first, low, n_steps)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _reconstruct_each(
    reconstruct: Reconstruct,
    eps_hat: Denoiser,
    most_noise: float,
    variables: Variables,
    z: Float[Array, "b h w c"],
    x_hat: Float[Array, "b h w c"],
    grids: Float[Array, "b n"],
    n_steps: Int[Array, " b"],
    keys: Key[Array, " b"],
    value: Float[Array, ""],
) -> UInt8[Array, "b h w c"]:
    """Every image in a batch of its own, with its own grid and its own number of steps."""

    def denoise(z: Array, gamma: Array) -> Array:
        """Where there is more noise than it was trained for, it takes the most for it, as `Chain.predict`."""
        known = jnp.minimum(gamma, most_noise)
        eps = eps_hat(variables, z, known)
        own = process.eps_from_x(z, process.x_from_eps(z, eps, known), gamma)
        return jnp.where(process.per_image(gamma, z) > most_noise, own, eps)

    def one(z: Array, x_hat: Array, grid: Array, count: Array, key: Array) -> Array:
        some = z[None], x_hat[None], grid, count, key[None], value
        return reconstruct(denoise, *some)[0]

    return process.unit_to_pixels(jax.vmap(one)(z, x_hat, grids, n_steps, keys))

"""The receiver: steps to latents, and latents to pixels."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from diffc_jax.codec.chain import Chain, TileKeys, check_distance, estimate, message_keys
from diffc_jax.codec.stream import Step, snr_to_float
from diffc_jax.codec.tiles import Place, batch_size_for, batches
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
        self._batch_size = batch_size_for(n_tiles, batch_size, chain.place)
        self._z = np.zeros((n_tiles, *chain.image_shape), np.float32)
        self._snr = [0] * n_tiles
        self._n_steps = [0] * n_tiles
        self._drift = np.zeros(n_tiles, int)
        for rows, count in batches(range(n_tiles), self._batch_size):
            self._z[rows[:count]] = chain.start(tile_keys[rows])[:count]

    def advance(self, steps: Mapping[int, Sequence[Step]]) -> None:
        """Decodes the next steps of each of these tiles, side by side."""
        for number in range(max(map(len, steps.values()), default=0)):
            now = {tile: own[number] for tile, own in steps.items() if number < len(own)}
            for rows, count in batches(list(now), self._batch_size):
                self._advance_batch(rows, count, [now[row] for row in rows.tolist()])

    def latents(self) -> Latents:
        """Where the tiles are."""
        snr = np.array([snr_to_float(value) for value in self._snr])
        return Latents(self._z.copy(), snr, self._drift.copy())

    def _advance_batch(
        self, rows: Int[np.ndarray, " b"], count: int, steps: Sequence[Step]
    ) -> None:
        """A step of each row, of which the first `count` are kept: a network call and one of the channel."""
        chain = self._chain
        z = chain.place(self._z[rows])
        snr = np.array([snr_to_float(self._snr[row]) for row in rows])
        x_hat = chain.predict(self._variables, z, snr)
        keys = message_keys(self._keys[rows], np.array([self._n_steps[row] for row in rows]))
        sample = chain.codebook.decode(keys, [(one.path, one.path_bits) for one in steps])
        delta = np.array([snr_to_float(one.delta) for one in steps])
        z_s, checks = jax.device_get(chain.step(keys, z, x_hat, sample, snr, delta))
        rows, steps = rows[:count], steps[:count]
        self._z[rows] = z_s[:count]
        for row, step in zip(rows.tolist(), steps, strict=True):
            self._snr[row] += step.delta
            self._n_steps[row] += 1
        self._compare(rows, steps, checks[:count])

    def _compare(
        self, rows: Int[np.ndarray, " b"], steps: Sequence[Step], checks: UInt8[np.ndarray, " b"]
    ) -> None:
        checked = [i for i, one in enumerate(steps) if one.check is not None]
        if checked:
            sent = np.array([one.check for one in steps if one.check is not None], np.uint8)
            distance = check_distance(checks[checked], sent, self._check_bits)
            self._drift[rows[checked]] = np.maximum(self._drift[rows[checked]], distance)


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
        seeds: Int[np.ndarray, " n"],
        batch_size: int,
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Pixels of latents of positive signal-to-noise ratios, at most `batch_size` at once.

        `seeds` are those of the noise of a random decoder, which is the receiver's own.
        """
        settings = self.gamma_range, self.n_steps
        grids = [gammas_from(self._decoder, gamma, *settings) for gamma in -np.log(snr)]
        # One length for nearly all numbers of steps, so that there is one program.
        longest = -(-max(map(len, grids)) // _GRID_LENGTH) * _GRID_LENGTH
        pixels = np.zeros(z.shape, np.uint8)
        size = batch_size_for(len(z), batch_size, self.place)
        for rows, count in batches(range(len(z)), size):
            keys = jax.vmap(jax.random.key)(jnp.asarray(seeds[rows], jnp.uint32))
            placed, own = self.place(z[rows]), [grids[row] for row in rows]
            some = np.stack([np.pad(g, (0, longest - len(g)), mode="edge") for g in own])
            some = some.astype(np.float32)
            x_hat = estimate(self.eps_hat, variables, placed, some[:, 0])
            n_steps = np.array([len(grid) - 1 for grid in own])
            found = _reconstruct_each(
                self._decoder.reconstruct,
                self.eps_hat,
                variables,
                *(placed, x_hat, some, n_steps, keys, np.float32(self._decoder.value)),
            )
            pixels[rows[:count]] = found[:count]
        return pixels


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
    first = min(max(gamma, low + _SHORTEST), high)
    if n_steps is None:
        n_steps = decoder.default_steps(first, low, high)
    return decoder.steps(first, low, n_steps)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _reconstruct_each(
    reconstruct: Reconstruct,
    eps_hat: Denoiser,
    variables: Variables,
    z: Float[Array, "b h w c"],
    x_hat: Float[Array, "b h w c"],
    grids: Float[Array, "b n"],
    n_steps: Int[Array, " b"],
    keys: Key[Array, " b"],
    value: Float[Array, ""],
) -> UInt8[Array, "b h w c"]:
    """Every image in a batch of its own, with its own grid and its own number of steps."""
    denoise = functools.partial(eps_hat, variables)

    def one(z: Array, x_hat: Array, grid: Array, count: Array, key: Array) -> Array:
        some = z[None], x_hat[None], grid, count, key[None], value
        return reconstruct(denoise, *some)[0]

    return process.unit_to_pixels(jax.vmap(one)(z, x_hat, grids, n_steps, keys))

"""Streams of whole pictures to pixels."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from diffc_jax.codec.chain import check_distance, receiver_keys
from diffc_jax.codec.codebooks import OpenCodebook
from diffc_jax.codec.decoder import gammas_from
from diffc_jax.codec.picture_chain import PictureChain
from diffc_jax.codec.picture_sizes import messages_after
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import exact_pixels
from diffc_jax.codec.stream import (
    CHECK_TOLERANCE,
    Header,
    Step,
    Stream,
    snr_from_float,
    snr_to_float,
)
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.codec.windows import Picture, WindowedDenoiser
from diffc_jax.diffusion import process
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.errors import InputError

# Memory for each pixel: latents, estimates, and what solvers keep of them, of three float32 each.
PICTURE_BYTES = 150

Pixels = UInt8[np.ndarray, "h w 3"]


def decode_picture(
    programs: ProgramCache,
    stream: Stream,
    decoder: str,
    n_steps: int | None,
    on_progress: Callable[[float], None],
) -> tuple[Pixels, list[str], bool]:
    """The pixels of a stream of a picture, what is wrong with them, and whether they are exact.

    `on_progress` is called with the share of the work that is done. The rest is as for `decode_stream`.
    """
    header, steps, residuals = stream.header, stream.picture_steps(), stream.residuals()
    kind = parse_decoder(decoder, "decoder")
    work = _Work(on_progress)
    chain = PictureChain(programs, header, work.advance)
    height, width = header.coded_shape
    exact = len(residuals) == header.n_tiles
    work.total = sum(chain.denoiser.n_windows(height, width, snr) for snr in _snrs(steps))
    if not exact:
        end = sum(step[0].delta for step in steps)
        gammas = gammas_from(kind, -math.log(snr_to_float(end)), programs.gamma_range, n_steps)
        # Less noise may need a larger picture, so each evaluation counts its own windows.
        noises = gammas[:1] if kind.name == "mean" else gammas[:-1]
        work.total += sum(
            chain.denoiser.n_windows(height, width, snr_from_float(math.exp(-float(gamma))))
            for gamma in noises
        )
    drifted = walk(chain, header, steps)
    pixels = np.zeros((header.height, header.width, 3), np.uint8)
    warnings: list[str] = []
    found = {}
    for tile, residual in residuals.items():
        try:
            z = chain.z[tile_of(header, tile)]
            found[tile] = exact_pixels(residual, z, snr_to_float(chain.snr))
        except InputError as error:
            warnings.append(f"tile {tile} is not exact: {error}")
    lossless = len(found) == header.n_tiles
    if not lossless:
        z = reconstruct(chain.denoiser, chain.z, chain.snr, kind.name, n_steps, header.seed)
        pixels[:] = z[: header.height, : header.width]
        if drifted:
            warnings.append(
                "the latents are not the sender's: this machine computes the model differently, or data "
                "are damaged; the image may be wrong"
            )
    for tile, own in found.items():
        pixels[tile_of(header, tile)] = own
    return pixels, warnings, lossless


def tile_of(header: Header, tile: int) -> tuple[slice, slice]:
    """Rows and columns of a tile, which at the right and lower edge are fewer than its side."""
    side = header.tile
    row, column = divmod(tile, header.columns)
    rows = slice(row * side, min((row + 1) * side, header.height))
    return rows, slice(column * side, min((column + 1) * side, header.width))


def reconstruct(
    denoiser: WindowedDenoiser, z: Picture, snr: int, decoder: str, n_steps: int | None, seed: int
) -> Pixels:
    """Pixels of latents of a positive signal-to-noise ratio, by one of `diffusion.decoders`.

    `seed` is that of the file, from which the noise of a random decoder follows.
    """
    kind = parse_decoder(decoder, "decoder")
    gamma = -math.log(snr_to_float(snr))
    grid = gammas_from(kind, gamma, denoiser.programs.gamma_range, n_steps)
    gammas = jnp.asarray(grid, jnp.float32)

    def x_hat(z: Array, gamma: float) -> Array:
        return jnp.asarray(denoiser.x_hat(np.asarray(z[0]), snr_from_float(math.exp(-gamma))))[None]

    def eps_hat(z: Array, gamma: Float[Array, " 1"]) -> Array:
        with jax.disable_jit(False):
            return _eps_from_x(z, x_hat(z, float(gamma[0])), gamma)

    latents = jnp.asarray(z)[None]
    keys = receiver_keys(jnp.asarray(tile_keys(seed, 1)))
    start = x_hat(latents, float(gammas[0]))
    # Step by step on the host: between two steps come the windows.
    with jax.disable_jit():
        x = kind.reconstruct(eps_hat, latents, start, gammas, len(gammas) - 1, keys, kind.value)
    return np.asarray(_pixels(x[0]))


_eps_from_x, _pixels = jax.jit(process.eps_from_x), jax.jit(process.unit_to_pixels)


class _Work:
    def __init__(self, on_progress: Callable[[float], None]):
        self.total, self._done, self._on_progress = 1, 0, on_progress

    def advance(self, count: int) -> None:
        self._done += count
        self._on_progress(min(self._done / self.total, 1.0))


def _snrs(steps: Sequence[Sequence[Step]]) -> list[int]:
    """The signal-to-noise ratio before each step."""
    snrs = [0]
    for step in steps:
        snrs.append(snrs[-1] + step[0].delta)
    return snrs[:-1]


def walk(chain: PictureChain, header: Header, steps: Sequence[Sequence[Step]]) -> bool:
    """Takes all steps; whether a check says that the latents are others than the sender's."""
    size = 3 * math.prod(header.coded_shape)
    drifted, bits = False, 0
    for step in steps:
        _, message_size = messages_after(bits, size, 3 * header.tile**2)

        def samples(
            codebook: OpenCodebook, keys: jax.Array, group: range, step: Sequence[Step] = step
        ) -> Float[np.ndarray, "b m"]:
            some = [step[m] if m < len(step) else step[0] for m in group]
            paths = [(one.path, one.path_bits) for one in some]
            return np.asarray(codebook.decode(keys, paths))

        sent = step[-1].check
        check = chain.advance(
            chain.x_hat(), step[0].delta, len(step), message_size, samples, sent is not None
        )
        if sent is not None:
            found, expected = np.array([check], np.uint8), np.array([sent], np.uint8)
            distance = int(check_distance(found, expected, header.check_bits)[0])
            drifted |= distance > CHECK_TOLERANCE
        bits += sum(message.path_bits for message in step)
    return drifted

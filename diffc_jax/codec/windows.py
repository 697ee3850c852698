"""x_hat of a picture of any size, from a denoiser of images of one size.

The denoiser looks at windows that overlap, and what it says of a pixel is averaged with smooth weights that
depend on nothing but the sizes. While there is much noise it looks at the picture shrunk by a power of two
instead: the means of 2^o x 2^o pixels have 4^o times the signal-to-noise ratio, so that the network sees more
of the picture at once and has fewer windows to look at, and finer detail is not to be seen anyway.

Sender and receiver add the same float32 numbers in the same order.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from diffc_jax.codec.batches import Rows, batches_for
from diffc_jax.codec.chain import estimate
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import MOST_OCTAVES, SNR_BITS, snr_to_float
from diffc_jax.errors import InputError

Picture = Float[np.ndarray, "h w 3"]

# A shrunk picture is used up to this signal-to-noise ratio of its own, in quarters: up to there it predicts
# better than the picture itself (docs/pictures.md).
_MOST_QUARTERS = 3
# Of a window's weight in its corners, so that none is zero.
_LEAST_WEIGHT = 1e-3


def most_octaves(height: int, width: int, side: int) -> int:
    """How many times a picture is halved at most: not to less than half a window of `side`."""
    octaves = 0
    while octaves < MOST_OCTAVES and min(height, width) >> (octaves + 1) >= max(side // 2, 1):
        octaves += 1
    return octaves


def octave_at(snr: int, octaves: int) -> int:
    """How many times the picture is halved at a signal-to-noise ratio in units of 2^-48."""
    while octaves and snr << 2 * octaves > _MOST_QUARTERS << (SNR_BITS - 2):
        octaves -= 1
    return octaves


def window_starts(length: int, side: int, stride: int) -> list[int]:
    """Where windows begin along a side of a picture: evenly from one end to the other, `stride` at most."""
    if length <= side:
        return [0]
    count = -(-(length - side) // stride)
    return [i * (length - side) // count for i in range(count + 1)]


@functools.lru_cache(maxsize=64)
def window_weights(length: int, side: int, stride: int) -> list[Float[np.ndarray, " side"]]:
    """The weights of each window along one side; those of all windows of a place add up to 1."""
    bump = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 + _LEAST_WEIGHT
    starts = window_starts(length, side, stride)
    total = np.zeros(max(length, side))
    for start in starts:
        total[start : start + side] += bump
    return [(bump / total[start : start + side]).astype(np.float32) for start in starts]


@dataclasses.dataclass(eq=False)
class WindowedDenoiser:
    """A denoiser of pictures.

    Attributes:
        programs: of the denoiser of windows.
        stride: largest distance of neighbouring windows, 1 up to their side.
        octaves: how often the picture is halved at most.
        on_windows: called with the number of windows after each batch.
    """

    programs: ProgramCache
    stride: int
    octaves: int
    on_windows: Callable[[int], None] = lambda count: None

    def x_hat(self, z: Picture, snr: int) -> Picture:
        """The estimate of x from latents at a signal-to-noise ratio in units of 2^-48.

        Raises:
            InputError: the denoiser predicts NaN or infinity.
        """
        octave = octave_at(snr, self.octaves)
        ratio = snr_to_float(snr)
        if not octave:
            return self.at_gamma(z, -math.log(ratio) if ratio else math.inf)
        shrunk, sizes = z, []
        for _ in range(octave):
            sizes.append(shrunk.shape)
            shrunk = halve(shrunk)
        more = 4**octave
        # Variance preserving again.
        shrunk *= np.float32(math.sqrt(more * (1 + ratio) / (1 + more * ratio)))
        found = self.at_gamma(shrunk, -math.log(more * ratio) if ratio else math.inf)
        for height, width, _ in reversed(sizes):
            found = double(found, height, width)
        return found

    def at_gamma(self, z: Picture, gamma: float) -> Picture:
        """The same at any gamma, from windows of `z` itself."""
        programs, side = self.programs, self.programs.side
        height, width, _ = z.shape
        padding = ((0, max(side - height, 0)), (0, max(side - width, 0)), (0, 0))
        padded = np.pad(z, padding, mode="symmetric") if height < side or width < side else z
        tops, lefts = (window_starts(one, side, self.stride) for one in (height, width))
        of_rows, of_columns = (window_weights(one, side, self.stride) for one in (height, width))
        places = [(i, j) for i in range(len(tops)) for j in range(len(lefts))]
        total = np.zeros(padded.shape, np.float32)
        level = np.float32(np.clip(gamma, *programs.gamma_range))

        def windows(rows: Rows) -> Float[np.ndarray, "b side side 3"]:
            some = [places[row] for row in rows.tolist()]
            batch = np.stack(
                [padded[tops[i] : tops[i] + side, lefts[j] : lefts[j] + side] for i, j in some]
            )
            placed, levels = programs.place(batch), np.full(len(rows), level)
            return np.asarray(estimate(programs.denoiser, programs.variables, placed, levels))

        batches = batches_for(len(places), programs.batch_size, programs.place)
        for rows, count, found in batches.map(windows, range(len(places))):
            for row, one in zip(rows[:count].tolist(), found, strict=False):
                i, j = places[row]
                weights = of_rows[i][:, None, None] * of_columns[j][:, None]
                total[tops[i] : tops[i] + side, lefts[j] : lefts[j] + side] += weights * one
            self.on_windows(count)
        if not np.isfinite(total).all():
            raise InputError("the model's prediction holds NaN or infinity")
        return total[:height, :width]

    def n_windows(self, height: int, width: int, snr: int) -> int:
        """How many windows `x_hat` looks at."""
        octave, side = octave_at(snr, self.octaves), self.programs.side
        for _ in range(octave):
            height, width = -(-height // 2), -(-width // 2)
        return math.prod(len(window_starts(one, side, self.stride)) for one in (height, width))


def halve(picture: Picture) -> Float[np.ndarray, "half_h half_w 3"]:
    """Means of 2x2 pixels; an odd last row or column counts twice."""
    height, width, _ = picture.shape
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = picture[0::2] + picture[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def double(picture: Picture, height: int, width: int) -> Float[np.ndarray, "two_h two_w 3"]:
    """The picture of twice the size, a pixel less where that is odd, by linear interpolation."""
    for axis, length in ((0, height), (1, width)):
        before = np.concatenate([picture.take([0], axis), picture], axis)
        after = np.concatenate([picture, picture.take([-1], axis)], axis)
        n = picture.shape[axis]
        near, quarter = picture * np.float32(0.75), np.float32(0.25)
        even = near + quarter * before.take(range(n), axis)
        odd = near + quarter * after.take(range(1, n + 1), axis)
        shape = list(picture.shape)
        shape[axis] *= 2
        picture = np.stack([even, odd], axis + 1).reshape(shape).take(range(length), axis)
    return picture

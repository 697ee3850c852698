"""What a `.diffc` file says, whichever version of the format it has."""

import dataclasses
from collections.abc import Sequence

from diffc_jax.errors import InputError

LARGEST_SIDE = 65535
LARGEST_SEED = 65535
# A picture is halved at most so many times for the denoiser.
MOST_OCTAVES = 3

# Bits after the point of signal-to-noise ratios.
SNR_BITS = 48
# Bytes of the fingerprint that a header holds, and bits of the checks of latents, by version.
FINGERPRINT_BYTES = {1: 4, 2: 2}
CHECK_BITS = {1: 8, 2: 4}
# Cells by which a check may be off through rounding.
CHECK_TOLERANCE = 1


def snr_to_float(units: int) -> float:
    """A signal-to-noise ratio (or a difference of two), in units of 2^-48, as the nearest float64."""
    return units / (1 << SNR_BITS)


def snr_from_float(ratio: float) -> int:
    """The integer nearest to a signal-to-noise ratio, in units of 2^-48."""
    return round(ratio * (1 << SNR_BITS))


@dataclasses.dataclass(frozen=True)
class Header:
    """What a decoder must know before the first step.

    Attributes:
        width: of the image, 1 to 65535 pixels.
        height: of the image, 1 to 65535 pixels.
        tile: side of the square tiles, 1 to 65535 pixels.
        memory: log2 of the number of states of the trellis.
        seed: of the shared randomness, 0 to 65535.
        fingerprint: the first bytes of the name of the denoiser: two, in version 1 four.
        grey: the image has one channel; it was coded with three equal ones.
        n_steps: how many steps there are before the residuals that make the image exact; None if it is not
            exact, and in version 1. Of a picture it is the number of messages.
        version: of the format.
        stride: largest distance of the windows in which a denoiser sees the picture, whose side is `tile`;
            None if tiles are coded apart.
        octaves: how often the picture is halved at most, for the denoiser.

    Raises:
        InputError: a value out of its range.
    """

    width: int
    height: int
    tile: int
    memory: int
    seed: int
    fingerprint: bytes
    grey: bool = False
    n_steps: int | None = None
    version: int = 2
    stride: int | None = None
    octaves: int = 0

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height), ("tile", self.tile)):
            if not 1 <= side <= LARGEST_SIDE:
                raise InputError(f"{name} of {side} pixels; 1 to {LARGEST_SIDE} can be coded")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed {self.seed}; it must be 0 to {LARGEST_SEED}")
        if len(self.fingerprint) != FINGERPRINT_BYTES[self.version]:
            raise ValueError(f"a fingerprint of {len(self.fingerprint)} bytes")
        if self.stride is not None and not 1 <= self.stride <= self.tile:
            raise InputError(f"windows {self.stride} pixels apart; it must be 1 to {self.tile}")
        if not 0 <= self.octaves <= MOST_OCTAVES:
            raise InputError(
                f"pictures halved {self.octaves} times; it can be up to {MOST_OCTAVES}"
            )

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile)

    @property
    def columns(self) -> int:
        """Columns of tiles."""
        return -(-self.width // self.tile)

    @property
    def n_tiles(self) -> int:
        """Tiles of the image."""
        return self.rows * self.columns

    @property
    def n_chains(self) -> int:
        """Chains of latents: one for each tile, or that of the picture."""
        return self.n_tiles if self.stride is None else 1

    @property
    def coded_shape(self) -> tuple[int, int]:
        """Height and width of the latents of a picture: at least those of a window."""
        return max(self.height, self.tile), max(self.width, self.tile)

    @property
    def n_pixels(self) -> int:
        """Pixels of the image."""
        return self.width * self.height

    @property
    def check_bits(self) -> int:
        """Bits of the checks of latents."""
        return CHECK_BITS[self.version]


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a tile towards more signal.

    Attributes:
        delta: what it adds to the signal-to-noise ratio, in units of 2^-48.
        path_bits: k, the number of bits of its path through the trellis.
        path: these bits, the most significant of each byte first, and zeros up to a whole byte.
        check: of the latent after it; None if the stream has none here.
    """

    delta: int
    path_bits: int
    path: bytes
    check: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Residual:
    """What makes a tile exact; nothing of the tile follows.

    Attributes:
        payload: what `residual.encode_residual` made.
        crc: CRC-32 of the tile's pixels, as bytes in the order row, column, channel.
    """

    payload: bytes
    crc: int

    def __post_init__(self) -> None:
        if not 0 <= self.crc < 1 << 32:
            raise ValueError(f"{self.crc} is not a CRC-32")


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """A place up to which a stream has been checked, and behind which it may be cut off.

    Attributes:
        n_items: steps and residuals before it.
        n_bytes: of a stream that ends here.
    """

    n_items: int
    n_bytes: int


@dataclasses.dataclass(frozen=True)
class Stream:
    """A parsed stream.

    Attributes:
        header: of the stream.
        items: steps and residuals in the order of the stream, each with the raster index of its tile; each
            tile has a step. Of a picture, messages instead of steps, with their numbers in their steps.
        cuts: where packets end, in the order of the stream; the last one is the end of what can be used.
        problem: why the data after the last cut are not used; None if there are none.
        damaged: the problem is not only that the data end.
    """

    header: Header
    items: Sequence[tuple[int, Step | Residual]]
    cuts: Sequence[Cut]
    problem: str | None = None
    damaged: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes that are used."""
        return self.cuts[-1].n_bytes

    def steps(self) -> list[list[Step]]:
        """The steps of each tile, tiles in raster order."""
        steps: list[list[Step]] = [[] for _ in range(self.header.n_tiles)]
        for tile, item in self.items:
            if isinstance(item, Step):
                steps[tile].append(item)
        return steps

    def picture_steps(self) -> list[list[Step]]:
        """The messages of each step of a picture."""
        steps: list[list[Step]] = []
        for message, item in self.items:
            if isinstance(item, Step):
                if message == 0:
                    steps.append([])
                steps[-1].append(item)
        return steps

    def residuals(self) -> dict[int, Residual]:
        """The residual of each tile that has one."""
        return {tile: item for tile, item in self.items if isinstance(item, Residual)}

    @property
    def least(self) -> Cut:
        """The first cut before which each tile has a step."""
        seen: set[int] = set()
        n_items = 0
        while len(seen) < self.header.n_chains:
            seen.add(self.items[n_items][0])
            n_items += 1
        return next(cut for cut in self.cuts if cut.n_items >= n_items)

    def prefix(self, n_bits: int | float) -> "Stream | None":
        """The longest beginning of at most so many bits that is a stream; None if there is none."""
        cuts = [cut for cut in self.cuts if 8 * cut.n_bytes <= n_bits]
        if len(cuts) == len(self.cuts):
            return self
        if not cuts or cuts[-1].n_bytes < self.least.n_bytes:
            return None
        return Stream(self.header, self.items[: cuts[-1].n_items], cuts)

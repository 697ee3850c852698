"""How far to encode."""

import dataclasses
import math

from diffc_jax.codec.header import least_bytes
from diffc_jax.codec.stream import Header
from diffc_jax.diffusion.process import LEVELS
from diffc_jax.errors import UsageError

# Bytes beside the pixels of a tile that exact ones may take; they matter for small pictures only.
_OVERHEAD = 1024
# Beyond what any image takes, so that nothing overflows.
_LARGEST = {"bpp": 1_000_000, "psnr": 1_000}


@dataclasses.dataclass(frozen=True)
class Target:
    """How far to encode; exactly one of these.

    Attributes:
        bpp: size of the stream in bits per pixel, headers and all, that it may not exceed.
        psnr: PSNR in dB that the image of the flow decoder must have.
        packets: number of packets.
        gamma: noise level (negative log signal-to-noise ratio) to arrive at, as nearly as steps lead.
        lossless: exact pixels.

    Raises:
        UsageError: none or several of them, or a value that cannot be.
    """

    bpp: float | None = None
    psnr: float | None = None
    packets: int | float | None = None
    gamma: float | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        named = {"bpp": self.bpp, "psnr": self.psnr, "packets": self.packets, "gamma": self.gamma}
        given = {name: value for name, value in named.items() if value is not None}
        if len(given) + self.lossless != 1:
            raise UsageError(f"choose one of {', '.join(named)} and lossless")
        for name, value in given.items():
            if isinstance(value, str | bytes):
                raise UsageError(f"{value!r} is not a number", field=name)
            if not math.isfinite(value):
                raise UsageError(f"{value} is not a finite number", field=name)
            if name != "gamma" and value <= 0:
                raise UsageError(f"{value} is not positive", field=name)
            if value > _LARGEST.get(name, math.inf):
                raise UsageError(f"{value} is more than {_LARGEST[name]}", field=name)
        if self.packets is not None and self.packets != int(self.packets):
            raise UsageError(f"{self.packets} is not a whole number", field="packets")


def round_up(bpp: float) -> str:
    """With three decimals, such that a rate of so many bits per pixel suffices."""
    return f"{math.ceil(1000 * bpp) / 1000:.3f}"


def mean_error_at(psnr: float) -> float:
    """Mean squared error of images in [-1, 1] with this PSNR in dB."""
    return unit_error((LEVELS - 1) ** 2) / 10 ** (psnr / 10)


def unit_error(pixel_error: int | float) -> float:
    """Mean squared error of images in [-1, 1] that is so much in pixel values."""
    return pixel_error / (LEVELS / 2) ** 2


def unreachable_psnr(psnr: float) -> UsageError:
    """The error of a PSNR that the last step does not reach."""
    return UsageError(
        f"{psnr} dB is not reached by the least noise of this model; use lossless", field="psnr"
    )


def check_target(target: Target, header: Header) -> None:
    """Checks what can be known of a target without encoding.

    Raises:
        UsageError: no stream of an image with this header can meet it.
    """
    least = least_bytes(header)
    if target.bpp is not None and target.bpp * header.n_pixels < 8 * least:
        raise UsageError(
            f"{target.bpp} is too little; this image needs at least {round_up(8 * least / header.n_pixels)}",
            field="bpp",
        )


def check_exact_size(n_bytes: int, n_rgb_bytes: int, header: Header, pixels: str) -> None:
    """Raises UsageError for exact pixels that take more bytes than storing them does.

    They have `n_rgb_bytes` as RGB. `pixels` says which they are, for the message.
    """
    n_pixel_bytes = n_rgb_bytes // 3 if header.grey else n_rgb_bytes
    if n_bytes > n_pixel_bytes + header.n_tiles * _OVERHEAD:
        raise UsageError(
            f"takes more than the {n_pixel_bytes} bytes of {pixels}; this model does not know such images,"
            " so store them as PNG",
            field="lossless",
        )

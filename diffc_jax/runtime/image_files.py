"""The one place that opens image files: what they hold is checked, and every flaw is one line."""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
from jaxtyping import UInt8
from PIL import ImageOps

from diffc_jax.errors import InputError
from diffc_jax.runtime import colour, image_headers, png_data

# The formats whose bits per sample are known, without those that Pillow hands to other programs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_ROWS = 64
_NAMES = {"1": "a black-and-white image", "L": "a grey image", "P": "a palette image"}


class UndecodableError(InputError):
    """An image file that cannot be decoded.

    Attributes:
        reason: why, as far as Pillow tells.
    """

    def __init__(self, label: str, reason: str):
        super().__init__(f"{label}: cannot be decoded ({reason})")
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """The first frame of an image file, and what its file holds.

    Attributes:
        image: as Pillow decodes it, but with at most 8 bits a channel unless it is inconvertible.
        label: names it in messages.
        bits: most bits of a channel in the file.
        n_frames: number of frames or pages; 1 for JPEGs of several pictures (MPO), whose first is the
            photograph that the others serve.
        inconvertible: what its values are if they have no 8-bit counterpart, else empty.
        profile: an ICC profile of other colours than sRGB's.
        colours: words for such colours that cannot be converted, "in ..." or "with ...", else empty.
    """

    image: PIL.Image.Image
    label: str
    bits: int
    n_frames: int
    inconvertible: str
    profile: colour.Profile | None
    colours: str

    @property
    def has_alpha(self) -> bool:
        """Whether pixels can be transparent."""
        return self.image.has_transparency_data

    @property
    def kind(self) -> str | None:
        """What it is, if not one opaque picture in 8-bit RGB with the colours of sRGB."""
        if self.inconvertible:
            return self.inconvertible
        if self.bits > 8:
            return f"a {self.bits}-bit image"
        if self.has_alpha:
            return "an image with alpha"
        if self.n_frames > 1:
            return f"an image with {self.n_frames} frames"
        if self.image.mode != "RGB":
            return _NAMES.get(self.image.mode, f"a {self.image.mode} image")
        colours = f"in {self.profile.name}" if self.profile else self.colours
        return f"an image {colours}" if colours else None

    def to_rgb(self) -> PIL.Image.Image:
        """The image in 8-bit RGB, with its alpha on black.

        Colours with a profile become those of sRGB; others are left as they are.

        Raises:
            InputError: it is inconvertible.
        """
        if self.inconvertible:
            raise InputError(
                f"{self.label}: is {self.inconvertible}, which is not converted; "
                "save it with 8 bits a channel"
            )
        with _one_line(self.label):
            image = self.image
            if self.profile:
                rgb = colour.to_srgb(image, self.profile)
            else:
                # `convert` would copy it.
                as_it_is = image.mode == "RGB" and not self.has_alpha
                rgb = image if as_it_is else image.convert("RGB")
            if not self.has_alpha:
                return rgb
            rgb.putalpha(image.convert("RGBA").getchannel("A"))
            black = PIL.Image.new("RGBA", rgb.size, "black")
            return PIL.Image.alpha_composite(black, rgb).convert("RGB")


def decode_image_file(
    data: bytes,
    label: str,
    *,
    upright: bool = False,
    check_size: Callable[[int, int], None] = lambda width, height: None,
) -> DecodedImage:
    """Decodes the first frame of an image file.

    Args:
        data: the file, in one of the `FORMATS`.
        label: names it in messages.
        upright: turn it as its EXIF orientation says; Pillow does that to TIFF files in any case.
        check_size: called with the width and the height of the header, before anything is decoded; to raise
            an InputError for an image that is too large.

    Raises:
        UndecodableError: it cannot be decoded.
    """
    with _one_line(label):
        file = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
        check_size(*file.size)
        # Before loading, which forgets some of it.
        bits = image_headers.bits_per_sample(file, data)
        inconvertible = image_headers.inconvertible(file, bits)
        icc, colours = image_headers.colour_space(file, data)
        n_frames = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
        if file.format == "PNG" and png_data.is_short(data):
            raise UndecodableError(label, "there are fewer pixels than the header says")
        file.load()
        image_headers.scale_transparent_grey(file, bits)
        image: PIL.Image.Image = file
        if upright:
            ImageOps.exif_transpose(image, in_place=True)
        profile = colour.read_profile(icc) if icc else None
        if icc and not (profile and profile.fits(image)):
            profile, colours = None, "with a colour profile that cannot be used"
        if profile and profile.is_srgb:
            profile = None
        if bits > 8 and image.mode.startswith("I") and not inconvertible:
            # TIFF is the one format whose grey values Pillow does not bring to 16 bits.
            unused = (bits if file.format == "TIFF" else 16) - 8
            image = PIL.Image.fromarray((np.asarray(image) >> unused).astype(np.uint8))
    return DecodedImage(image, label, bits, n_frames, inconvertible, profile, colours)


def as_array(image: PIL.Image.Image) -> UInt8[np.ndarray, "h w *c"]:
    """The 8-bit values of an image, copied some rows at a time: `np.asarray` copies all of it twice."""
    (width, height), n_bands = image.size, len(image.getbands())
    values = np.empty((height, width, n_bands) if n_bands > 1 else (height, width), np.uint8)
    for top in range(0, height, _ROWS):
        end = min(top + _ROWS, height)
        values[top:end] = np.asarray(image.crop((0, top, width, end)))
    return values


@contextlib.contextmanager
def _one_line(label: str) -> Iterator[None]:
    """Turns whatever Pillow raises into one line: it has no common class of errors, and adds kinds."""
    try:
        yield
    except InputError:
        raise
    except PIL.UnidentifiedImageError:
        reason = "unknown image format or kind of pixels"
        raise UndecodableError(label, reason) from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableError(label, reason) from error

"""ICC profiles of images, and their colours in sRGB."""

import functools
import io
from typing import NamedTuple

import numpy as np
import PIL.Image
from PIL import ImageCms

# Of 255. Cheap copies of sRGB, with a curve of few points, are this close to it; a gamma of 2.2 is not.
_SAME_AS_SRGB = 3
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")


class Profile(NamedTuple):
    """An ICC profile.

    Attributes:
        data: the profile.
        name: what it calls itself.
        mode: Pillow's mode of the images that it describes: "RGB", "L" or "CMYK".
        is_srgb: whether its colours are those of sRGB, up to small errors of its curve.
    """

    data: bytes
    name: str
    mode: str
    is_srgb: bool

    def fits(self, image: PIL.Image.Image) -> bool:
        """Whether it can be the profile of this image; grey images may have one for RGB."""
        if self.mode == "L":
            return image.mode in _GREY
        return (self.mode == "CMYK") == (image.mode == "CMYK")


@functools.lru_cache(64)
def read_profile(data: bytes) -> Profile | None:
    """The profile, or None if it is damaged or describes something else than RGB, grey or CMYK."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data)).profile
        mode = _MODES[profile.xcolor_space.strip()]
        found = Profile(data, (profile.profile_description or "").strip(), mode, is_srgb=False)
        probe = _probe(mode)
        shown, plain = to_srgb(probe, found), probe.convert("RGB")
    except Exception:  # Pillow has several kinds; none of them tells more than that it is of no use
        return None
    is_srgb = mode != "CMYK" and _distance(shown, plain) <= _SAME_AS_SRGB
    return found._replace(is_srgb=is_srgb, name=found.name or "without a name")


def to_srgb(image: PIL.Image.Image, profile: Profile) -> PIL.Image.Image:
    """The image in 8-bit sRGB: relative colorimetric, with black-point compensation; without alpha."""
    converted = ImageCms.applyTransform(image.convert(profile.mode), _transform(profile))
    assert converted is not None  # it is not done in place
    return converted


@functools.lru_cache(64)
def _transform(profile: Profile) -> ImageCms.ImageCmsTransform:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if profile.mode == "L":
        # Little CMS's shortcut for grey, ten times faster, is wrong by up to 10 of 255 in the dark.
        flags |= ImageCms.Flags.NOOPTIMIZE
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile.data)),
        ImageCms.createProfile("sRGB"),
        profile.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags,
    )


def _probe(mode: str) -> PIL.Image.Image:
    """Colours all over the range of a mode."""
    steps = bytes(range(0, 256, 15))
    if mode == "L":
        return PIL.Image.frombytes("L", (len(steps), 1), steps)
    colours = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
    return PIL.Image.frombytes("RGB", (len(steps) ** 2, len(steps)), colours).convert(mode)


def _distance(a: PIL.Image.Image, b: PIL.Image.Image) -> int:
    return int(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max())

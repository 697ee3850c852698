"""Image files in and out."""

import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from diffc_jax.errors import InputError

_GREY_MODES = ("1", "L")


def read_picture(path: pathlib.Path) -> UInt8[np.ndarray, "h w c"]:
    """Reads an RGB or grey image, upright as its EXIF orientation says.

    Palettes become RGB and black-and-white images grey; nothing else is converted.

    Returns:
        One channel for grey images, otherwise three.

    Raises:
        InputError: not a readable image, an animation, or one that 8-bit RGB and grey cannot hold.
    """
    try:
        with Image.open(path) as file:
            n_frames = getattr(file, "n_frames", 1)
            if n_frames > 1:
                raise InputError(f"{path}: has {n_frames} frames; save the one to be encoded")
            if file.has_transparency_data:
                raise InputError(f"{path}: has transparency; put it on a background first")
            image: Image.Image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not an image") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is a damaged or absurdly large image ({error})") from error
    if image.mode in _GREY_MODES:
        return np.asarray(image.convert("L"))[..., None]
    if image.mode not in ("RGB", "P"):
        raise InputError(
            f"{path}: is an image of mode {image.mode}; convert it to 8-bit RGB or grey first"
        )
    return np.asarray(image.convert("RGB"))

"""A Gaussian fitted to image patches: the source of the paper's analysis."""

import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.diffusion import process
from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.progress import Progress
from diffc_jax.theory.gaussian import Eigenvalues

_BATCH = 256


def fit_config_patches(config: ConfigDict) -> tuple[Eigenvalues, str]:
    """Eigenvalues of the covariance of the patches of config.source, and a name for the source.

    Raises:
        UsageError: a field that cannot be used.
        InputError: images that cannot be read, or too few.
    """
    try:
        spec = data.SourceSpec(image_size=config.image_size, **config.images)
        images = data.open_source(spec)
    except UsageError as error:
        group = "source" if error.field == "image_size" else "source.images"
        raise error.in_group(group) from error
    size = config.patch_size
    patches = fit_patches(images, size)
    eigenvalues = fitted_spectrum(patches)
    rank = np.count_nonzero(eigenvalues)
    if rank < len(eigenvalues):
        logging.warning(
            "%d patches span %d of %d dimensions; components without variance cost and lose nothing",
            patches.count,
            rank,
            len(eigenvalues),
        )
    return eigenvalues, f"{patches.count} patches of {size}x{size} from {images.name}"


def fit_patches(source: data.ImageSource, patch_size: int) -> RunningCovariance:
    """Mean and covariance of all patches on the grid of every image, in one pass.

    Patches are flat vectors of patch_size * patch_size * 3 pixels in [-1, 1]. Rows and columns beyond a whole
    number of them are left out.

    Raises:
        InputError: an image that cannot be read.
    """
    progress = Progress("covariance", len(source), "images")
    covariance: RunningCovariance | None = None
    for batch in data.eval_batches(source, batch_size=_BATCH):
        images = batch["image"][batch["mask"]]
        batch_covariance = RunningCovariance.of(cut_patches(images, patch_size))
        covariance = batch_covariance if covariance is None else covariance + batch_covariance
        progress.advance(len(images))
    assert covariance is not None  # sources are not empty
    return covariance


def fitted_spectrum(patches: RunningCovariance) -> Eigenvalues:
    """Eigenvalues of the covariance in decreasing order; those that are only rounding errors are zero.

    Raises:
        InputError: fewer than two vectors, or all the same.
    """
    eigenvalues = np.linalg.eigvalsh(patches.covariance())[::-1]
    least = eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps
    if eigenvalues[0] <= 0:
        raise InputError(f"all {patches.count} patches are the same; a covariance needs others")
    return np.where(eigenvalues > least, eigenvalues, 0.0)


def cut_patches(images: UInt8[np.ndarray, "b h w c"], patch_size: int) -> Float[np.ndarray, "n d"]:
    """Neighbouring patches as flat vectors with pixels in [-1, 1]."""
    size, (height, width, channels) = patch_size, images.shape[1:]
    rows, columns = height // size, width // size
    x = np.asarray(process.pixels_to_unit(jnp.asarray(images)))[:, : rows * size, : columns * size]
    blocks = x.reshape(-1, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(-1, size * size * channels)

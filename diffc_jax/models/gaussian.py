"""A Gaussian fitted to images: one variance for each DCT coefficient of each rotated colour channel.

It is the Gaussian baseline of every figure: fitted in seconds by one pass over the data. Its denoiser is
exact (the Wiener filter), so every formula of the Gaussian analysis can be checked on it. Networks may start
from it.
"""

import functools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jaxtyping import Array, Float, Key, UInt8

from diffc_jax.diffusion import process
from diffc_jax.errors import InputError
from diffc_jax.models.base import Model, Variables

# {"mean": (c,), "rotation": (c, c), "variances": (h, w, c)}, in units of x in [-1, 1].
Statistics = Mapping[str, Array | np.ndarray]

# Variance of the rounding to 8 bits: no coefficient of an 8-bit image is known better than this.
_VARIANCE_FLOOR = (2.0 / process.LEVELS) ** 2 / 12.0


@functools.cache
def _dct_matrix(size: int) -> np.ndarray:
    return scipy.fft.dct(np.eye(size), norm="ortho", axis=0).astype(np.float32)


def dct2(images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Orthonormal two-dimensional DCT-II of each channel."""
    rows, columns = _dct_matrix(images.shape[1]), _dct_matrix(images.shape[2])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, images, precision="highest")


def inverse_dct2(coefficients: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Inverse of `dct2`."""
    rows, columns = _dct_matrix(coefficients.shape[1]), _dct_matrix(coefficients.shape[2])
    return jnp.einsum("ih,jw,bijc->bhwc", rows, columns, coefficients, precision="highest")


def to_components(
    images: Float[Array, "b h w c"], rotation: Float[Array, "c c"]
) -> Float[Array, "b h w c"]:
    """Images to the uncorrelated components: DCT coefficients of rotated colours."""
    return dct2(jnp.einsum("bhwc,cd->bhwd", images, rotation, precision="highest"))


def from_components(
    components: Float[Array, "b h w c"], rotation: Float[Array, "c c"]
) -> Float[Array, "b h w c"]:
    """Inverse of `to_components`."""
    return jnp.einsum("bhwd,cd->bhwc", inverse_dct2(components), rotation, precision="highest")


def fit_statistics(batches: Iterable[UInt8[np.ndarray, "_ h w c"]]) -> Statistics:
    """Mean colour, principal colours, and variances of their DCT coefficients; one streaming pass.

    Returns:
        float32 arrays `mean` (c,), `rotation` (c, c) with the principal colours as columns, and `variances`
        (h, w, c).

    Raises:
        InputError: fewer than two images.
    """

    @jax.jit
    def moments(pixels: Array) -> tuple[Array, Array]:
        coefficients = dct2(process.pixels_to_unit(pixels))
        second = jnp.einsum("bhwc,bhwd->hwcd", coefficients, coefficients, precision="highest")
        return coefficients[:, 0, 0].sum(0), second

    count = 0
    first: np.ndarray = np.zeros(())
    second: np.ndarray = np.zeros(())
    for pixels in batches:
        sums = moments(jnp.asarray(pixels))
        first = first + np.asarray(sums[0], np.float64)
        second = second + np.asarray(sums[1], np.float64)
        count += len(pixels)
    if count < 2:
        raise InputError(f"a Gaussian needs at least 2 images, and the data has {count}")
    height, width = second.shape[:2]
    # A constant image has one coefficient, its mean times sqrt(h w).
    dc_mean = first / count
    second /= count
    second[0, 0] -= np.outer(dc_mean, dc_mean)
    _, rotation = np.linalg.eigh(second.sum((0, 1)))
    rotation = rotation[:, ::-1]
    variances = np.einsum("hwcd,ce,de->hwe", second, rotation, rotation)
    return {
        "mean": (dc_mean / np.sqrt(height * width)).astype(np.float32),
        "rotation": np.ascontiguousarray(rotation, np.float32),
        "variances": np.maximum(variances, _VARIANCE_FLOOR).astype(np.float32),
    }


def statistics_shapes(image_shape: tuple[int, int, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of what `fit_statistics` returns for images of a shape."""
    channels = image_shape[-1]
    shapes = {"mean": (channels,), "rotation": (channels, channels), "variances": image_shape}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def eps_hat(
    variables: Variables, z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
) -> Float[Array, "b h w c"]:
    """E[eps | z] for the Gaussian in variables["fixed"]: the Wiener filter, exactly."""
    fixed = variables["fixed"]
    centred = z - process.alpha(process.per_image(gamma, z)) * fixed["mean"].reshape(1, 1, 1, -1)
    components = to_components(centred, fixed["rotation"])
    return from_components(independent_eps_hat(variables, components, gamma), fixed["rotation"])


def independent_eps_hat(
    variables: Variables, z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
) -> Float[Array, "b h w c"]:
    """E[eps | z] for independent x of mean zero and variances variables["fixed"]["variances"] (h, w, c)."""
    gamma = process.per_image(gamma, z)
    alpha, sigma = process.alpha(gamma), process.sigma(gamma)
    return sigma / (alpha**2 * variables["fixed"]["variances"][None] + sigma**2) * z


def gaussian_model(image_shape: tuple[int, int, int]) -> Model:
    """The fitted Gaussian as a model: nothing to train, `init` keeps the statistics."""

    def init(key: Key[Array, ""], statistics: Statistics) -> Variables:
        del key
        if statistics["variances"].shape != image_shape:
            raise ValueError(
                f"statistics of {statistics['variances'].shape} images, not {image_shape}"
            )
        return {"fixed": statistics}

    return Model(
        name="gaussian",
        init=init,
        eps_hat=eps_hat,
        train_eps_hat=lambda variables, z, gamma, key: eps_hat(variables, z, gamma),
        statistics=statistics_shapes(image_shape),
    )

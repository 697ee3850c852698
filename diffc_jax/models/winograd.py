"""Winograd's convolution with 3x3 kernels: 4 or 2.25 multiplications for an output in place of 9.

Along one axis, m outputs y need m + 2 inputs x. Seen as polynomials, they are products at m + 2 points
(Winograd 1980; Lavin and Gray 2016, arXiv 1509.09308):

    y = A^T ((G k) * (B^T x)),        * elementwise

For tiles of m x m outputs these are (m + 2)^2 values, for each of which the sum over channels is a matrix
product. So each output takes (m + 2)^2 / m^2 multiplications for a pair of channels.
"""

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial.polynomial import polyfromroots

# Where polynomials are evaluated, by m, besides infinity. With 3/4 and 3/2, rounding errors are half of those
# with the usual 1 and 2 (Barabasz et al. 2018, arXiv 1803.10986, on why points matter).
_POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.75, -0.75, 1.5, -1.5)}
# Smaller images have too few tiles of four for kernels that are more than twice as large.
_SMALLEST_WITH_FOUR = 16


def tile_side(height: int, width: int) -> int | None:
    """Side m of the tiles for images of this size; None if none fill them."""
    if height % 4 == 0 == width % 4 and min(height, width) >= _SMALLEST_WITH_FOUR:
        return 4
    return 2 if height % 2 == 0 == width % 2 else None


def transform_kernel(kernel: Float[Array, "3 3 c d"], side: int) -> Float[Array, "t c d"]:
    """G k for tiles of this side; t is (side + 2)^2."""
    _, g, _ = _matrices(side)
    return jnp.matmul(g, kernel.reshape(9, -1)).reshape(-1, *kernel.shape[2:])


def convolve(
    x: Float[Array, "b h w c"], kernels: Sequence[Float[Array, "s c d"]]
) -> Float[Array, "b h w d"]:
    """Convolution, zero beyond the borders, with a transformed kernel whose tiles fill the images.

    It may be in parts. Their products are apart, so that several cores have work where images are few.
    """
    batch, height, width, _ = x.shape
    ends = np.cumsum([len(kernel) for kernel in kernels])
    side = math.isqrt(ends[-1]) - 2
    b, _, a = _matrices(side)
    values = _values(x, side)
    parts = []
    for end, kernel in zip(ends, kernels, strict=True):
        own = slice(end - len(kernel), end)
        products = jnp.matmul(_over_values(b[own], values), kernel)
        parts.append(_over_values(a[:, own], products))
    tiles = functools.reduce(jnp.add, parts)
    tiles = tiles.reshape(side, side, batch, height // side, width // side, -1)
    return tiles.transpose(2, 3, 0, 4, 1, 5).reshape(batch, height, width, -1)


def kernel_gradient(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"]
) -> Float[Array, "3 3 c d"]:
    """Gradient of the kernel of a convolution of x, from that of its output."""
    batch, height, width, channels = x.shape
    # There is one kernel for all images, so tiles of four pay off even in small ones.
    side = 4 if height % 4 == 0 == width % 4 else 2
    b, g, a = _matrices(side)
    tiles = grad.reshape(batch, height // side, side, width // side, side, -1)
    tiles = tiles.transpose(2, 4, 0, 1, 3, 5).reshape(side**2, -1, grad.shape[-1])
    values = _over_values(b, _values(x, side))
    sums = jnp.matmul(values.swapaxes(1, 2), _over_values(a.T, tiles))
    return _over_values(g.T, sums).reshape(3, 3, channels, -1)


def _values(x: Float[Array, "b h w c"], side: int) -> Float[Array, "t n c"]:
    """The t = (side + 2)^2 inputs of each of n tiles."""
    _, height, width, channels = x.shape
    size = side + 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # In two steps, of which XLA makes a smaller program than of all pairs.
    rows = jnp.stack([padded[:, i : i + height - side + 1 : side] for i in range(size)])
    values = [rows[:, :, :, j : j + width - side + 1 : side] for j in range(size)]
    return jnp.stack(values, axis=1).reshape(size**2, -1, channels)


def _over_values(
    matrix: Float[np.ndarray, "s t"], values: Float[Array, "t n c"]
) -> Float[Array, "s n c"]:
    """Sums over the values of a tile."""
    _, n, channels = values.shape
    return jnp.matmul(matrix, values.reshape(len(values), -1)).reshape(-1, n, channels)


@functools.cache
def _matrices(
    side: int,
) -> tuple[Float[np.ndarray, "t t"], Float[np.ndarray, "t 9"], Float[np.ndarray, "s t"]]:
    """B^T, G and A^T for both axes: Kronecker products of those of one axis with themselves."""
    points = _POINTS[side]
    size = len(points) + 1
    b, g, a = np.zeros((size, size)), np.zeros((size, 3)), np.zeros((side, size))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        b[i, :-1] = polyfromroots(others)
        g[i] = point ** np.arange(3) / np.prod([point - other for other in others])
        a[:, i] = point ** np.arange(side)
    b[-1], g[-1, -1], a[-1, -1] = polyfromroots(points), 1.0, 1.0
    both = [np.kron(matrix, matrix).astype(np.float32) for matrix in (b, g, a)]
    return both[0], both[1], both[2]

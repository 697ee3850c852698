"""How a code spreads noise, and with it bits, over the components of a Gaussian source.

Each allocation has one parameter, which leads from no information to all of it, and gives the noise-to-signal
ratio n_i of every component (`theory.gaussian`; Theis et al. 2022, section 4). Eigenvalues are in any order
and may contain zeros, but not only zeros.
"""

import numpy as np
from jaxtyping import Float

from diffc_jax.theory.gaussian import Eigenvalues


def isotropic(eigenvalues: Eigenvalues, gamma: float) -> Eigenvalues:
    """Noise of the diffusion process of DiffC (section 3): exp(gamma) for every component."""
    return np.full_like(eigenvalues, np.exp(gamma))


def water_filling(eigenvalues: Eigenvalues, level: float) -> Eigenvalues:
    """Noise that makes posterior variances min(lambda_i, level): 1 / n_i = 1 / level - 1 / lambda_i or 0.

    Optimal for the posterior mean, whose distortion it makes that of reverse water-filling, and hence for
    posterior sampling (DiffC-A*; section 4; 1.4). The level is between 0 and the largest eigenvalue.
    """
    told = eigenvalues > level
    nothing = np.full_like(eigenvalues, np.inf)
    return np.divide(level * eigenvalues, eigenvalues - level, out=nothing, where=told)


def realistic(eigenvalues: Eigenvalues, slope: float) -> Eigenvalues:
    """Noise of DiffC-F*: the least distortion of any code with perfect realism (section 4; 1.5).

    Minimising sum 2 lambda_i (1 - rho_i) at the rate -1/2 sum log2(1 - rho_i^2) gives
    rho_i / (1 - rho_i^2) = c lambda_i, so n_i = lambda_i (1 - rho_i^2) / rho_i^2 = 1 / (c rho_i): every
    component gets some rate, and those far above the noise all get nearly the same noise. The slope is c > 0.
    """
    x = slope * eigenvalues
    rho = 2.0 * x / (1.0 + np.hypot(1.0, 2.0 * x))
    with np.errstate(divide="ignore"):
        return 1.0 / (slope * rho)


def reverse_water_filling(
    eigenvalues: Eigenvalues, level: float
) -> tuple[Eigenvalues, Float[np.ndarray, " m"]]:
    """R(D), the optimum without realism, at a level between 0 and the largest eigenvalue.

    Section 4; Cover & Thomas 2006, theorem 10.3.3; 1.3.

    Returns:
        Rates 1/2 log2(lambda_i / min(lambda_i, level)) in bits, and distortions min(lambda_i, level).
    """
    # log(lambda / level), with all digits where the two are close.
    excess = np.log1p(np.maximum(eigenvalues - level, 0.0) / level)
    return 0.5 * excess / np.log(2.0), np.minimum(eigenvalues, level)

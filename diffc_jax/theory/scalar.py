"""Rates and distortions of DiffC on any scalar source, by quadrature (Theis et al. 2022, section 4).

z = sqrt(1 - s2) x + sqrt(s2) u with u ~ N(0, 1), or, divided by sqrt(1 - s2), y = x + s u with
s^2 = s2 / (1 - s2). X_G is the Gaussian with the mean and variance of X, and Z_G is what noise makes of it.

The posterior mean and the flow T both increase with y. That makes E(E[X|Y] - T(Y))^2 the squared Wasserstein
distance between the posterior mean and X, so that no decoder of Y with perfect realism has less distortion
than the flow, d_f = d_d + W2^2, and 1/2 <= d_f / d_a <= 1 (only in one dimension; Freirich et al. 2021).

Towards small noise d_f / d_a -> 1/2 for smooth densities (the paper's 3 dB). How fast, by our own derivation:

- With finite Fisher information J the ratio is 1/2 (1 + s^2 J / 4 + o(s^2)): the flow and the posterior mean
  differ by s^2 / 2 (log p)'(y), which adds s^4 J / 4 to d_d = s^2 - s^4 J.
- For the uniform density J is infinite, and the excess over 1/2 falls only like s.
- Not for discrete sources. For two points +-1 the ratio tends to 2 / pi, as 2 / pi (1 + (pi^2 / 8 - 1) s^2),
  because d_f = 4 P(U > 1 / s) and d_a = 2 pi s phi(1 / s), phi the density of U. Two very narrow Gaussians
  of standard deviation w follow this while w^2 << s phi(1 / s). With less noise only their own widths are
  left to lose, at the ratio 1 / (1 + w / sqrt(w^2 + s^2)): near 1 while w << s, and 1/2 once s << w.
"""

import dataclasses
import math

import numpy as np

from diffc_jax.errors import UsageError
from diffc_jax.theory.scalar_quadrature import Values
from diffc_jax.theory.scalar_sources import ScalarSource


@dataclasses.dataclass(frozen=True)
class ScalarPoint:
    """DiffC on a scalar source at one noise level (section 4); distortions are in the unit of X squared.

    Attributes:
        sigma2: Variance of the noise in z, between 0 and 1.
        bits: I[X; Z].
        d_a: Distortion of the ancestral decoder, 2 E Var[X | Z].
        d_f: Distortion of the flow decoder, E(X - T(Y))^2.
        d_d: Distortion of the posterior mean, E Var[X | Z].
        ratio: d_f / d_a, which tends to 1/2 for smooth densities (3.4).
        shannon_lower_bound: On the bits that a distortion of d_f costs any code: h(X) - 1/2 log2(2 pi e d_f)
            or 0 (3.3).
        gaussian_bits: I[X_G; Z_G]; equals bits + kl_bits (3.1).
        kl_bits: KL[P_Z || P_Z_G].
        gaussian_d_a: 2 E Var[X_G | Z_G], an upper bound on d_a (3.2).
        gaussian_upper_bound: On the bits that a distortion of d_a costs, R_G(d_a / 2), which is
            1/2 log2(2 Var[X] / d_a).
    """

    sigma2: float
    bits: float
    d_a: float
    d_f: float
    d_d: float
    ratio: float
    shannon_lower_bound: float
    gaussian_bits: float
    kl_bits: float
    gaussian_d_a: float
    gaussian_upper_bound: float


def _kl(log_p: Values, log_q: Values, weights: Values) -> float:
    """KL[p || q] in nats as an integral of q + p (l - 1) >= 0, l = log(p / q), so that no parts cancel."""
    log_ratio = log_p - log_q
    dense = np.maximum(log_ratio, -1.0)
    sparse = np.minimum(log_ratio, -1.0)
    above = np.exp(log_p) * (np.expm1(-dense) + dense)
    below = np.exp(log_q) * (1.0 + np.exp(sparse) * (sparse - 1.0))
    return float(weights @ np.where(log_ratio > -1.0, above, below))


def analyse(source: ScalarSource, sigma2: float | np.floating) -> ScalarPoint:
    """Rate, distortions and bounds at one noise level (Theis et al. 2022, section 4; 3.1 to 3.5).

    Relative errors are below 1e-10 for a source of variance about 1 and sigma2 from 1e-10 to 1 - 1e-4, except
    that kl_bits loses digits where it is below about 1e-14, and that the rounding of x itself shows if a
    source has details of less than 1e-6 of its width.

    Args:
        source: The distribution of X.
        sigma2: Variance of the noise in z.

    Raises:
        UsageError: If sigma2 is not between 0 and 1.
    """
    if not 0.0 < sigma2 < 1.0:
        raise UsageError(
            f"{sigma2!r} is not between 0 and 1; give a variance inside (0, 1)", field="sigma2"
        )
    sigma2 = float(sigma2)
    odds = sigma2 / (1.0 - sigma2)
    noise = math.sqrt(odds)
    variance = source.variance
    total = variance + odds

    y, weights = source.nodes(noise)
    log_density = source.log_density(y, noise)
    log_gaussian = -0.5 * ((y - source.mean) ** 2 / total + np.log(2.0 * np.pi * total))
    kl_bits = _kl(log_density, log_gaussian, weights) / math.log(2.0)
    gaussian_bits = 0.5 * math.log1p(variance / odds) / math.log(2.0)

    probabilities = weights * np.exp(log_density)
    mean, spread = source.posterior(y, noise)
    d_d = float(probabilities @ spread)
    explained = float(probabilities @ (mean - source.mean) ** 2)

    # X - E[X|Y] has no correlation with functions of Y, so d_f is d_d and the flow's own error.
    y, x, probabilities = source.coupling(noise)
    mean, _ = source.posterior(y, noise)
    d_f = d_d + float(probabilities @ (mean - x) ** 2)

    return ScalarPoint(
        sigma2=sigma2,
        bits=gaussian_bits - kl_bits,
        d_a=2.0 * d_d,
        d_f=d_f,
        d_d=d_d,
        ratio=d_f / (2.0 * d_d),
        shannon_lower_bound=max(
            0.0, source.entropy - 0.5 * math.log2(2.0 * math.pi * math.e * d_f)
        ),
        gaussian_bits=gaussian_bits,
        kl_bits=kl_bits,
        gaussian_d_a=2.0 * variance * odds / total,
        # Var[X] = d_d + explained; at little signal, 2 Var[X] / d_a itself would be too close to 1.
        gaussian_upper_bound=0.5 * math.log1p(explained / d_d) / math.log(2.0),
    )

"""What any code for samples of N(mu, I) has to spend: limits beside which schemes can be put.

The receiver knows N(0, I). All depends on |mu| only, and so on the ideal rate |mu|^2 / (2 ln 2) bits, the KL
divergence.
"""

import math

import numpy as np
from scipy import special

from diffc_jax.channel_simulation.channel import length_of_rate

# The integrands are smooth, so that sums of equidistant values are as good as exact.
_STEP, _WIDTH = 1 / 32, 12.0
# Where the tail of a normal is small beside 1 to the last digit, and its logarithm still is exact.
_FAR = 7.0


def channel_simulation_divergence(ideal_rate: int | float) -> float:
    """Bits below which no code with shared randomness has an exact sample, for `ideal_rate` bits above 0.

    With r the density ratio of N(mu, I) to N(0, I) and W(h) the probability of r >= h under N(0, I), it is
    -integral W(h) log2 W(h) dh over h > 0 (Goc & Flamich 2024, arXiv:2401.16579; a bound for all codes in
    arXiv:2501.14053).

    Raises:
        ValueError: ideal_rate is not positive.
    """
    if not ideal_rate > 0:
        raise ValueError(f"ideal_rate is {ideal_rate}, not positive")
    length = length_of_rate(ideal_rate)
    # W is the probability of a projection beyond g, and h the ratio there.
    g = np.arange(-_WIDTH, length + _WIDTH, _STEP)
    log_w = special.log_ndtr(-g)
    slope = length * np.exp(log_w + length * g - length**2 / 2)
    return float(np.sum(slope * -log_w) * _STEP / math.log(2))


def best_projection(bits: int | float) -> float:
    """R, the mean projection on mu of that of 2^bits independent samples of N(0, I) which goes furthest."""
    log_count = bits * math.log(2)
    x = np.arange(-_WIDTH, math.sqrt(2 * log_count) + _WIDTH, _STEP)
    # log(-log Phi(x)), which far out is the logarithm of the tail.
    log_tail = special.log_ndtr(-x)
    log_tail = np.where(x > _FAR, log_tail, np.log(-special.log_ndtr(np.minimum(x, _FAR))))
    with np.errstate(over="ignore"):
        # The distribution of the maximum is Phi(x)^N, and its mean comes by parts.
        below = np.exp(-np.exp(log_count + log_tail))
    return float(x[-1] - np.sum(below[:-1] + below[1:]) * _STEP / 2)

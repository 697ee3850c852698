"""Upper bounds on achievable rates."""

import math

import numpy as np
from jaxtyping import Float, Int

# Bits over C + log2(C + 1) that suffice: with the Poisson functional representation (Li & El Gamal 2018), as
# the paper has it, and with rejection sampling (arXiv:2604.23076).
POISSON_CONSTANT, REJECTION_CONSTANT = 5.0, 2.45


def rate_bound(
    bits: Float[np.ndarray, "*s"] | float, constant: float = POISSON_CONSTANT
) -> Float[np.ndarray, "*s"]:
    """Bits that suffice to communicate a sample whose ideal rate is C = `bits`: C + log2(C + 1) + 5.

    The Poisson functional representation with a Zipf code for its index (Li & El Gamal 2018; Theis et al.
    2022, section 3). A mean over images goes in, because one code serves them all. With
    `REJECTION_CONSTANT` in place of 5 it is another scheme's.
    """
    bits = np.asarray(bits, np.float64)
    return np.asarray(bits + np.log2(bits + 1.0) + constant)


def rate_bound_slope(bits: Float[np.ndarray, "*s"] | float) -> Float[np.ndarray, "*s"]:
    """Derivative of `rate_bound` by the ideal rate in bits: it carries the error of a mean to the bound."""
    return np.asarray(1.0 + 1.0 / ((np.asarray(bits, np.float64) + 1.0) * np.log(2.0)))


def chunked_rate_bound(
    bits: Float[np.ndarray, "*s"] | float, chunk_bits: int | float
) -> Float[np.ndarray, "*s"]:
    """Bits that suffice if a sample is sent in chunks, each as a message of its own.

    Args:
        bits: C, the ideal rate of the sample.
        chunk_bits: k > 0; ceil(C / k) chunks carry k bits each, the last one what is left.

    Returns:
        The sum of k + log2(k + 1) + 5 over the chunks; 0 where C is 0.

    Raises:
        ValueError: chunk_bits is not positive and finite.
    """
    if not 0 < chunk_bits < math.inf:
        raise ValueError(f"chunk_bits is {chunk_bits}, not positive and finite")
    bits = np.asarray(bits, np.float64)
    full = np.floor(bits / chunk_bits)
    rest = np.maximum(bits - full * chunk_bits, 0.0)
    last = np.where(rest > 0, rate_bound(rest), 0.0)
    return np.asarray(full * rate_bound(float(chunk_bits)) + last)


def stepwise_rate_bound(
    bits: Float[np.ndarray, " t"], n_steps: Int[np.ndarray, " t"]
) -> Float[np.ndarray, " t"]:
    """Bits that suffice up to the end of each group of steps if every step is a message of its own.

    Args:
        bits: the ideal rate of each group, in order, divided evenly among its steps.
        n_steps: steps in each group, at least 1.

    Returns:
        Running sums of KL_i + log2(KL_i + 1) + 5 over the steps.

    Raises:
        ValueError: a group has no steps.
    """
    if np.any(n_steps < 1):
        raise ValueError(f"n_steps is {np.min(n_steps)} in a group, not at least 1")
    return np.cumsum(n_steps * rate_bound(bits / n_steps))

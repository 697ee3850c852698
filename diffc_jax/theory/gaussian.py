"""Rates and distortions of DiffC on a Gaussian source with isotropic noise (Theis et al. 2022, section 4).

X ~ N(0, Sigma) with the given eigenvalues; z = sqrt(1 - s2) x + sqrt(s2) u, where s2 = sigmoid(gamma). Rates
are in bits for each source vector, distortions are E|X - Y|^2 summed over the components.
"""

import numpy as np
import scipy.special
from jaxtyping import Float

Eigenvalues = Float[np.ndarray, " m"]


def _variances(eigenvalues: Eigenvalues, gamma: float) -> tuple[np.ndarray, float]:
    """Variance of z for each component, and the noise variance s2."""
    noise = float(scipy.special.expit(gamma))
    return scipy.special.expit(-gamma) * eigenvalues + noise, noise


def rate(eigenvalues: Eigenvalues, gamma: float) -> float:
    """I[X; Z] in bits."""
    total, noise = _variances(eigenvalues, gamma)
    return float(0.5 * np.sum(np.log2(total / noise)))


def posterior_variance(eigenvalues: Eigenvalues, gamma: float) -> Eigenvalues:
    """Var[X_i | Z] for each component."""
    total, noise = _variances(eigenvalues, gamma)
    return eigenvalues * noise / total


def distortion_mean(eigenvalues: Eigenvalues, gamma: float) -> float:
    """D_D: of the posterior mean."""
    return float(np.sum(posterior_variance(eigenvalues, gamma)))


def distortion_ancestral(eigenvalues: Eigenvalues, gamma: float) -> float:
    """D_A = 2 D_D: of a posterior sample."""
    return 2.0 * distortion_mean(eigenvalues, gamma)


def distortion_flow(eigenvalues: Eigenvalues, gamma: float, kappa: float = 1.0) -> float:
    """D_F of the probability flow, which maps z_i to g_i z_i with the gain g of `flow_gain`.

    For kappa = 1 this is sum_i 2 lambda_i (1 - sqrt((1 - s2) lambda_i / tot_i)), evaluated without
    cancellation at high rate.
    """
    gain = flow_gain(eigenvalues, gamma, kappa)
    total, noise = _variances(eigenvalues, gamma)
    # y = g z / alpha with z / alpha = x + s u: E(x - y)^2 = (1 - g)^2 lambda + g^2 s^2.
    odds = noise / scipy.special.expit(-gamma)
    with np.errstate(divide="ignore"):  # a component without variance has gain exp(-inf) = 0
        loss = -np.expm1(0.5 * kappa * np.log1p(-noise / total))
    return float(np.sum(loss**2 * eigenvalues + gain**2 * odds))


def flow_gain(eigenvalues: Eigenvalues, gamma: float, kappa: float = 1.0) -> Eigenvalues:
    """Gain of the score-scaled flow on z / alpha: (lambda / (lambda + s^2))^(kappa / 2)."""
    total, _ = _variances(eigenvalues, gamma)
    return (scipy.special.expit(-gamma) * eigenvalues / total) ** (0.5 * kappa)


def chain_rate(
    eigenvalues: Eigenvalues, gammas: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Bits that a chain of Gaussian steps spends to reach each gamma of its decreasing grid.

    With the exact denoiser: KL of the prior plus sum 1/2 (SNR(s) - SNR(t)) E Var[X | Z_t]. It is above
    `rate` and tends to it as the grid gets finer and starts at more noise.
    """
    gammas = np.asarray(gammas, np.float64)
    signal, noise = scipy.special.expit(-gammas[0]), scipy.special.expit(gammas[0])
    prior = 0.5 * np.sum(signal * eigenvalues + noise - 1.0 - np.log(noise))
    snr = np.exp(-gammas)
    mmse = np.array([distortion_mean(eigenvalues, gamma) for gamma in gammas[:-1]])
    steps = 0.5 * np.diff(snr) * mmse
    return np.concatenate([[prior], prior + np.cumsum(steps)]) / np.log(2.0)

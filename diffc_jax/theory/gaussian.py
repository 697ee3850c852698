"""Rates and distortions of DiffC on a Gaussian source, by component (Theis et al. 2022, section 4).

X ~ N(0, diag(lambda)), and the receiver gets y_i = x_i + sqrt(n_i) u_i with independent standard normal u.
n = sigma^2 / alpha^2 = exp(gamma) is the noise-to-signal ratio of the process; it may differ between
components (`allocation.py`) and be infinite for a component about which nothing is sent. Rates are in bits,
distortions are E|X - Y|^2; both are arrays over the components, whose sums are those of the source vector.
A component without variance costs and loses nothing.

With rho_i = sqrt(lambda_i / (lambda_i + n_i)), the correlation of x_i and y_i, everything is a function of
lambda and rho; the formulas are arranged so that neither rho near 0 nor rho near 1 loses digits.
"""

import numpy as np
from jaxtyping import Float

Eigenvalues = Float[np.ndarray, " m"]
Noise = Float[np.ndarray, " m"] | Float[np.ndarray, ""] | float


def rates(eigenvalues: Eigenvalues, noise: Noise) -> Eigenvalues:
    """Rate I[X_i; Y_i] = 1/2 log2(1 + lambda_i / n_i) in bits (section 4; 1.1)."""
    return 0.5 * np.log1p(eigenvalues / noise) / np.log(2.0)


def distortions_mean(eigenvalues: Eigenvalues, noise: Noise) -> Eigenvalues:
    """D_D of the posterior mean (DiffC-D), which is the posterior variance (section 4; 1.1)."""
    return eigenvalues / (1.0 + eigenvalues / noise)


def distortions_ancestral(eigenvalues: Eigenvalues, noise: Noise) -> Eigenvalues:
    """D_A = 2 D_D of a posterior sample (DiffC-A; section 4; 1.1)."""
    return 2.0 * distortions_mean(eigenvalues, noise)


def distortions_flow(
    eigenvalues: Eigenvalues, noise: Noise, kappa: int | float = 1.0
) -> Eigenvalues:
    """D_F of the probability flow (DiffC-F; section 4; 1.1), or with another kappa of the score-scaled flow.

    For kappa = 1 this is 2 lambda_i (1 - rho_i), for kappa = 2 the distortion of the posterior mean; values
    between them go beyond the paper (1.7).
    """
    missing = np.expm1(_log_gain(eigenvalues, noise, kappa)) ** 2 * eigenvalues
    # Of the output: rho_i^(2 kappa) (lambda_i + n_i).
    variances = eigenvalues**kappa * (eigenvalues + noise) ** (1.0 - kappa)
    return missing + variances / (1.0 + eigenvalues / noise)


def distortions_mix(eigenvalues: Eigenvalues, noise: Noise, weight: int | float) -> Eigenvalues:
    """Distortion of weight times the flow's output plus 1 - weight times the posterior mean.

    D_D + weight^2 lambda_i (1 - rho_i)^2: the least distortion at the realism it has (Freirich et al. 2021;
    1.7).
    """
    loss = np.expm1(_log_gain(eigenvalues, noise, 1.0)) ** 2 * eigenvalues
    return distortions_mean(eigenvalues, noise) + weight**2 * loss


def wasserstein_flow(
    eigenvalues: Eigenvalues, noise: Noise, kappa: int | float = 1.0
) -> Eigenvalues:
    """Squared 2-Wasserstein distance between the source and the output of the score-scaled flow.

    lambda_i (1 - rho_i^(kappa - 1))^2: zero for kappa = 1, that of the posterior mean for kappa = 2 (1.7).
    """
    # A component without variance has none in the output either, though its gain is infinite for kappa < 1.
    loss = np.expm1(_log_gain(eigenvalues, noise, kappa - 1.0)) ** 2
    return np.multiply(loss, eigenvalues, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)


def wasserstein_mix(eigenvalues: Eigenvalues, noise: Noise, weight: int | float) -> Eigenvalues:
    """Squared 2-Wasserstein distance between the source and the mix of `distortions_mix` (1.7)."""
    return (1.0 - weight) ** 2 * wasserstein_flow(eigenvalues, noise, 2.0)


def flow_gain(eigenvalues: Eigenvalues, noise: Noise, kappa: int | float = 1.0) -> Eigenvalues:
    """Gain rho_i^kappa by which the score-scaled flow maps y = z / alpha to its output (1.1, 1.7)."""
    return np.exp(_log_gain(eigenvalues, noise, kappa))


def chain_rate(
    eigenvalues: Eigenvalues, gammas: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Bits that a chain of Gaussian steps spends to reach each gamma of its decreasing grid.

    The ideal rate (section 3; VDM, section 4) with the exact denoiser: KL of the prior plus the sum of
    1/2 (SNR(s) - SNR(t)) E Var[X | Z_t]. It is above the sum of `rates` and tends to it as the grid gets
    finer and starts at more noise.
    """
    noise = np.exp(np.asarray(gammas, np.float64))
    # KL[q(z | x) || N(0, 1)] with alpha^2 = 1 / (1 + n) and sigma^2 = n / (1 + n).
    prior = 0.5 * np.sum((eigenvalues - 1.0) / (1.0 + noise[0]) + np.log1p(1.0 / noise[0]))
    mmse = np.array([np.sum(distortions_mean(eigenvalues, n)) for n in noise[:-1]])
    steps = 0.5 * np.diff(1.0 / noise) * mmse
    return np.concatenate([[prior], prior + np.cumsum(steps)]) / np.log(2.0)


def _log_gain(eigenvalues: Eigenvalues, noise: Noise, kappa: int | float) -> Eigenvalues:
    if kappa == 0.0:
        return np.zeros_like(eigenvalues)
    with np.errstate(divide="ignore", invalid="ignore"):
        return -0.5 * kappa * np.where(eigenvalues > 0, np.log1p(noise / eigenvalues), np.inf)

"""Which candidate wins a race: the distribution of the index and of the sample, by quadrature.

Candidates are samples of N(0, I) that arrive as a Poisson process of rate 1 on [0, N]; N(mu, I) is the
target and w = exp(|mu| g - |mu|^2 / 2) the density ratio, where g is a candidate's projection on mu. A
scheme stretches time and lets the candidate with the smallest S(t) / w win:

    Poisson functional representation     S = t                        (Li & El Gamal 2018)
    ordered random coding                 S = -N ln(1 - t / N)         (Theis & Yosri 2022)

With t(S) the inverse of S, scores s = S / w and g are a Poisson process of intensity w t'(s w) phi(g) ds dg.
So the winner has the density w t'(s w) phi(g) exp(-E[t(s w)]), and its index minus one, the number of
candidates that came before it and lost, is Poisson with mean E[max(t(s w(g)) - t(s w), 0)], expectations
being over a candidate's projection. For the unlimited Poisson functional representation s and g are
independent, s exponential and g ~ N(|mu|, 1): its samples are exact.

A Poisson number of candidates stands for exactly N of them, which makes no difference from some hundreds on.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import special

from diffc_jax.channel_simulation.channel import length_of_rate
from diffc_jax.channel_simulation.index_codes import MAX_DIGITS, IndexCode, digits_code, zipf_code
from diffc_jax.errors import UsageError

MAX_IDEAL_RATE = 40.0

_STEP = 1 / 8  # of g and of ln s; the integrands are smooth, but for a jump where N cuts them off
_WIDTH = 8.0  # standard deviations of g on both sides
# Where ln s is with any number of candidates; with few it can be larger by |mu|^2 / 2.
_LOG_SCORES = (-30.0, 6.0)


@dataclasses.dataclass(frozen=True, eq=False)
class WinnerDistribution:
    """The distribution of the winner.

    Attributes:
        digits: probabilities of 1, 2, ... `MAX_DIGITS` binary digits of its index.
        shift: mean of its projection on mu, over |mu|; 1 for an exact sample.
        variance: variance of this projection; 1 for an exact sample.
    """

    digits: Float[np.ndarray, " n"]
    shift: float
    variance: float


@functools.lru_cache(maxsize=64)
def poisson_winner(ideal_rate: int | float, candidates: int | float = np.inf) -> WinnerDistribution:
    """The winner of the Poisson functional representation; arguments as of `ordered_winner`."""
    return _winner(
        ideal_rate, candidates, lambda x: np.minimum(x, candidates), lambda x: x < candidates
    )


@functools.lru_cache(maxsize=64)
def ordered_winner(ideal_rate: int | float, candidates: int | float) -> WinnerDistribution:
    """The winner of ordered random coding. Minimal random coding has the same, but for the index.

    Args:
        ideal_rate: |mu|^2 / (2 ln 2), above 0 and at most `MAX_IDEAL_RATE`.
        candidates: N, mean number of candidates.

    Raises:
        UsageError: ideal_rate is out of range.
    """
    return _winner(
        ideal_rate,
        candidates,
        lambda x: -candidates * np.expm1(-x / candidates),
        lambda x: np.exp(-x / candidates),
    )


@functools.lru_cache(maxsize=64)
def index_code(
    name: str,
    winner: Callable[[float, float], WinnerDistribution],
    ideal_rate: int | float,
    candidates: int | float,
) -> IndexCode:
    """The code for the index of `winner(ideal_rate, candidates)`.

    `name` is "digits", from the distribution of the index; or "zipf", which only depends on ideal_rate.

    Raises:
        UsageError: unknown name, or ideal_rate out of range.
    """
    if name == "zipf":
        return zipf_code(ideal_rate)
    if name == "digits":
        return digits_code(winner(ideal_rate, candidates).digits)
    raise UsageError(f"unknown {name!r}; choose digits or zipf", field="code")


def _winner(
    ideal_rate: int | float,
    candidates: int | float,
    time: Callable[[np.ndarray], np.ndarray],
    time_slope: Callable[[np.ndarray], np.ndarray],
) -> WinnerDistribution:
    """`time` is t(S) and `time_slope` its derivative."""
    if not 0 < ideal_rate <= MAX_IDEAL_RATE:
        raise UsageError(
            f"{ideal_rate} is not above 0 and at most {MAX_IDEAL_RATE:g}", field="chunk_bits"
        )
    length = length_of_rate(ideal_rate)
    g = np.arange(-_WIDTH, length + _WIDTH, _STEP)
    lowest, highest = _LOG_SCORES
    if np.isfinite(candidates):
        highest += length**2 / 2
    score = np.exp(np.arange(lowest, highest, _STEP))
    mass = np.exp(-(g**2) / 2) * _STEP / np.sqrt(2 * np.pi)
    ratio = np.exp(length * g - length**2 / 2)
    stretched = score[:, None] * ratio
    arrival = time(stretched)
    # Rows: scores, columns: projections.
    density = mass * ratio * time_slope(stretched) * np.exp(-(arrival @ mass))[:, None]
    density *= score[:, None] * _STEP
    density /= density.sum()
    # w grows with g, so those that arrive before column j and lose are columns before j.
    before = arrival * np.cumsum(mass) - np.cumsum(arrival * mass, axis=1)
    shown = density > 1e-12
    weight, mean = density[shown], np.maximum(before[shown], 0.0)
    at_most = [weight @ special.pdtr(2.0**digits - 2, mean) for digits in range(1, MAX_DIGITS)]
    at_most.append(weight.sum())
    projections = density.sum(axis=0)
    centre = projections @ g
    return WinnerDistribution(
        np.maximum(np.diff(at_most, prepend=0.0), 0.0),
        float(centre / length),
        float(projections @ (g - centre) ** 2),
    )

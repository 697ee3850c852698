"""Races of candidates simulated in one dimension: which candidate wins, and where it lies along mu.

Only the projection g ~ N(0, 1) of a candidate on mu decides whether it wins, so that the other dimensions
need not be drawn: orthogonal to mu every winner is N(0, I). `bounded_races` draws all candidates.
`near_exact_race` draws those that take the lead, which makes 2^34 candidates as cheap as a hundred and
changes no law.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from diffc_jax.channel_simulation.pfr import later_winners

_NORMALS_AT_ONCE = 1 << 22
_BISECTIONS = 60


@dataclasses.dataclass(frozen=True, eq=False)
class Winners:
    """Winners of independent races.

    Attributes:
        index: 1, 2, ..., as float64: it may be beyond 2^53.
        along: projection on mu less |mu|; N(0, 1) for exact samples.
        candidates: how many were looked at.
    """

    index: Float[np.ndarray, " n"]
    along: Float[np.ndarray, " n"]
    candidates: Float[np.ndarray, " n"]


def near_exact_race(
    kl_bits: int | float, tail: int | float, count: int, generator: np.random.Generator
) -> Winners:
    """The Poisson functional representation that stops when a later winner has at most probability `tail`.

    With score s and time t of the leader, candidates that beat it later come as a Poisson process whose mean
    number after t is `later_winners`; the time of the next one is found by inverting it, its projection is
    normal above what it needs, and the losers in between are a Poisson number.

    Args:
        kl_bits: |mu|^2 / (2 ln 2) > 0.
        tail: in (0, 1).
        count: races.
        generator: of all randomness.
    """
    length = _length(kl_bits)
    time = generator.exponential(size=count)
    g = generator.normal(size=count)
    log_score = np.log(time) - _log_ratio(g, length)
    index = np.ones(count)
    enough = -np.log1p(-tail)
    racing = np.ones(count, bool)
    while racing.any():
        leader, now = log_score[racing], time[racing]
        expected = later_winners(leader, now, np.full(len(now), length))
        passed = generator.exponential(size=len(now))
        found = expected - passed > enough
        ids = np.flatnonzero(racing)
        racing[ids[~found]] = False
        leader, now, expected, passed = (v[found] for v in (leader, now, expected, passed))
        ids = ids[found]
        then = _time_with(leader, now, length, expected - passed)
        least = (np.log(then) - leader) / length + length / 2
        best = -special.ndtri(generator.uniform(size=len(ids)) * special.ndtr(-least))
        index[ids] += 1 + generator.poisson(np.maximum(then - now - passed, 0.0))
        time[ids], g[ids] = then, best
        log_score[ids] = np.log(then) - _log_ratio(best, length)
    stop = _time_with(log_score, time, length, np.full(count, enough))
    return Winners(index, g - length, np.maximum(index, index + stop - time))


def bounded_races(
    kl_bits: int | float, candidates: int, count: int, generator: np.random.Generator
) -> dict[str, Winners]:
    """Schemes with `candidates` candidates, all on the same ones.

    Returns:
        poisson_truncated, ordered and minimal.
    """
    length, rows = _length(kl_bits), max(1, _NORMALS_AT_ONCE // candidates)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for start in range(0, count, rows):
        shape = (min(rows, count - start), candidates)
        g = generator.standard_normal(shape, np.float32)
        gaps = generator.standard_exponential(shape)
        bonus = length * g
        arrivals = {
            "poisson_truncated": np.cumsum(gaps, axis=1),
            "ordered": np.cumsum(gaps / np.arange(candidates, 0, -1), axis=1),
            "minimal": gaps,
        }
        for scheme, times in arrivals.items():
            winner = np.argmin(np.log(times) - bonus, axis=1)
            along = g[np.arange(len(g)), winner] - length
            found.setdefault(scheme, []).append((winner + 1.0, along.astype(np.float64)))
    looked_at = np.full(count, float(candidates))
    joined = {
        scheme: [np.concatenate(parts) for parts in zip(*groups, strict=True)]
        for scheme, groups in found.items()
    }
    return {scheme: Winners(index, along, looked_at) for scheme, (index, along) in joined.items()}


def _length(kl_bits: int | float) -> float:
    return float(np.sqrt(2 * np.log(2) * kl_bits))


def _log_ratio(g: Float[np.ndarray, " n"], length: int | float) -> Float[np.ndarray, " n"]:
    return length * g - length**2 / 2


def _time_with(
    log_score: Float[np.ndarray, " n"],
    now: Float[np.ndarray, " n"],
    length: int | float,
    expected: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """The time from `now` on after which so many winners are expected; `now` if there are fewer already."""
    low = np.log(now)
    # Candidates 40 standard deviations out do not come.
    high = np.maximum(low, log_score + length * 40.0)
    lengths = np.full(len(now), length)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        later: Bool[np.ndarray, " n"] = later_winners(log_score, np.exp(middle), lengths) > expected
        low, high = np.where(later, middle, low), np.where(later, high, middle)
    return np.exp(low)

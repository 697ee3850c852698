"""Rows of schemes.csv that nothing is simulated for: limits of all codes, and bounds of whole messages.

`any_code` is a lower bound on the mean bits of exact schemes. `codewords` is the best of 2^k independent
samples: with the right mean along mu, or exact as the open trellis is made exact. `bound` is what suffices.
"""

from collections.abc import Sequence

from diffc_jax.channel_simulation.channel import rate_of_energy
from diffc_jax.channel_simulation.limits import best_projection, channel_simulation_divergence
from diffc_jax.channel_simulation.rate_bound import (
    POISSON_CONSTANT,
    REJECTION_CONSTANT,
    rate_bound,
)
from diffc_jax.studies.channel_comparison.rows import FIELDS, Row

# Fewer bits do not reach beyond what an exact sample goes without any.
_LEAST_EXACT_BITS = 8


def limit_rows(*, bits: Sequence[int | float]) -> list[Row]:
    """Rows of messages with these ideal rates, and of codebooks with so many bits."""
    rows = [_row("any_code", "", kl, channel_simulation_divergence(kl)) for kl in bits]
    for setting, least, surplus in (("right mean", 0, 0.0), ("exact", _LEAST_EXACT_BITS, 1.0)):
        for sent in bits:
            if sent >= least:
                energy = best_projection(sent) ** 2 - surplus
                rows.append(_row("codewords", setting, rate_of_energy(energy), sent))
    for constant in (POISSON_CONSTANT, REJECTION_CONSTANT):
        setting = f"KL + log2(KL + 1) + {constant:g}"
        rows += [_row("bound", setting, kl, float(rate_bound(kl, constant))) for kl in bits]
    return rows


def _row(scheme: str, setting: str, kl_bits: float, bits: float) -> Row:
    overhead = bits / kl_bits - 1
    return dict.fromkeys(FIELDS) | {
        "scheme": scheme,
        "setting": setting,
        "source": "theory",
        "kl_bits": float(kl_bits),
        "bits": float(bits),
        "overhead": overhead,
        "credited_overhead": overhead,
    }

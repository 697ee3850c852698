"""Upper bounds on achievable rates."""

import numpy as np
from jaxtyping import Float


def poisson_functional_bound(bits: Float[np.ndarray, "*s"] | float) -> Float[np.ndarray, "*s"]:
    """Bits that suffice to communicate a sample with `bits` of information: C + log2(C + 1) + 5.

    The Poisson functional representation with a Zipf code for its index (Li & El Gamal 2018; Theis et al.
    2022, section 3). A mean over images goes in, because one code serves them all.
    """
    bits = np.asarray(bits, np.float64)
    return np.asarray(bits + np.log2(bits + 1.0) + 5.0)

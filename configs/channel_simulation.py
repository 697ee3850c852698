"""What sending a sample of N(mu, I) costs: all schemes of diffc_jax.channel_simulation, and their samples.

Bits over KL against bits a message, bias and variance along mu, Kolmogorov-Smirnov distances, candidates and
seconds. 7 minutes on two busy CPU cores; a killed run goes on where it was.

    python experiments/channel_simulation.py --config=configs/channel_simulation.py --workdir=runs/channels

Expected: exact samples in chunks cost +80 % at 3.3 bits a chunk, +57 % at 5, +39 % at 8, +32 % at 10, +25 %
at 14; with 2^16 candidates for 14 bits 0.865 of the shift and 0.48 of the variance along mu arrive; the
trellis costs 6 to 18 % with memory 12, most in messages of 32 bits. docs/channel_simulation.md explains the
numbers.
"""

from ml_collections import ConfigDict

from diffc_jax.config import check_config_argument
from diffc_jax.studies.channel_comparison.config import channel_config, shrink_to_smoke


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` shrinks everything to seconds."""
    check_config_argument(argument)
    config = channel_config()
    if argument == "smoke":
        shrink_to_smoke(config)
    return config

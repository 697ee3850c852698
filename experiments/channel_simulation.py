"""Compares all schemes that send a Gaussian sample; tables and figures go to W/channel_simulation.

python experiments/channel_simulation.py --config=configs/channel_simulation.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.analysis.channel_simulation import compare_schemes
from diffc_jax.analysis.channel_simulation_config import validate

if __name__ == "__main__":
    cli.run_experiment(compare_schemes, validate)

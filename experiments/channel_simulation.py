"""Compares all schemes that send a Gaussian sample; tables and figures go to W/channel_simulation.

python experiments/channel_simulation.py --config=configs/channel_simulation.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.analysis.channel_simulation_config import validate
from diffc_jax.optional import require


def _compare(config, workdir):
    for package in ("constriction", "matplotlib"):
        require(package)  # which the next import needs
    from diffc_jax.analysis.channel_simulation import compare_schemes

    compare_schemes(config, workdir)


if __name__ == "__main__":
    cli.run_experiment(_compare, validate)

"""Compares all schemes that send a Gaussian sample; tables and figures go to W/channel_simulation.

python experiments/channel_simulation.py --config=configs/channel_simulation.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.runtime.optional import require
from diffc_jax.studies.channel_comparison.config import validate


def _compare(config, workdir):
    for package in ("constriction", "matplotlib"):
        require(package)  # which the next import needs
    from diffc_jax.studies.channel_comparison.run import compare_schemes

    compare_schemes(config, workdir)


if __name__ == "__main__":
    cli.run_experiment(_compare, validate)

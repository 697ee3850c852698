"""Draws the analysis of Gaussian and scalar sources; tables and figures go to W/gaussian, W/scalar, W/vector.

python experiments/gaussian.py --config=configs/gaussian.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.analysis.config import validate
from diffc_jax.optional import require


def _analyse(config, workdir):
    require("matplotlib")  # which the next import needs
    from diffc_jax.analysis.run import analyse_theory

    analyse_theory(config, workdir)


if __name__ == "__main__":
    cli.run_experiment(_analyse, validate)

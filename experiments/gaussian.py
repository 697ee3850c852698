"""Draws the analysis of Gaussian and scalar sources; tables and figures go to W/gaussian, W/scalar, W/vector.

python experiments/gaussian.py --config=configs/gaussian.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.runtime.optional import require
from diffc_jax.studies.gaussian_analysis.config import validate


def _analyse(config, workdir):
    require("matplotlib")  # which the next import needs
    from diffc_jax.studies.gaussian_analysis.run import analyse_theory

    analyse_theory(config, workdir)


if __name__ == "__main__":
    cli.run_experiment(_analyse, validate)

"""Draws the analysis of Gaussian and scalar sources; tables and figures go to W/gaussian, W/scalar, W/vector.

python experiments/gaussian.py --config=configs/gaussian.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.analysis.config import validate
from diffc_jax.analysis.run import analyse_theory

if __name__ == "__main__":
    cli.run_experiment(analyse_theory, validate)

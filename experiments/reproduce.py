"""Trains, evaluates, runs the baselines and plots, in one command that resumes.

python experiments/reproduce.py --config=configs/quickstart.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.reproduction import reproduce

if __name__ == "__main__":
    cli.run_experiment(reproduce)

"""Trains the model of a config, or resumes.

python experiments/train.py --config=configs/X.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.training.loop import train

if __name__ == "__main__":
    cli.run_experiment(train)

"""Runs the classical codecs on the images of a config's evaluation; rows go to W/eval/rd.csv.

python experiments/baselines.py --config=configs/X.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.baselines.evaluate import evaluate_baselines

if __name__ == "__main__":
    cli.run_experiment(evaluate_baselines)

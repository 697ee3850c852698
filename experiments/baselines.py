"""Measures classical codecs and trained HiFiC runs on a config's evaluation images: rows go to W/eval/rd.csv.

python experiments/baselines.py --config=configs/X.py --workdir=W
"""

from diffc_jax import cli
from diffc_jax.config.validation import validate_evaluation


def _evaluate(config, workdir):
    # Only now, so that a refused config does not wait for it.
    from diffc_jax.baselines.evaluate import evaluate_baselines

    evaluate_baselines(config, workdir)


def _dry_run(config):
    from diffc_jax.baselines.evaluate import check_baselines

    check_baselines(config)
    return cli.describe(config)


if __name__ == "__main__":
    cli.run_experiment(_evaluate, validate_evaluation, dry_run=_dry_run)

"""Measures classical codecs and trained HiFiC runs on a config's evaluation images: rows go to W/eval/rd.csv.

python experiments/baselines.py --config=configs/X.py --workdir=W
"""

from diffc_jax import cli


def _evaluate(config, workdir):
    # Only now, so that --dry_run and a refused config do not wait for it.
    from diffc_jax.baselines.evaluate import evaluate_baselines

    evaluate_baselines(config, workdir)


if __name__ == "__main__":
    cli.run_experiment(_evaluate)

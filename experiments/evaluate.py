"""Sweeps noise levels with a trained model: rates and PSNR of every decoder, in W/eval.

HiFiC has no noise levels: its files are measured instead.

python experiments/evaluate.py --config=configs/X.py --workdir=W
"""

from diffc_jax.errors import PreemptedError
from diffc_jax.runtime.signals import leave_at_signals

leave_at_signals(PreemptedError.exit_code)  # before the imports that take seconds

from diffc_jax import cli
from diffc_jax.commands import describe, evaluate, validate
from diffc_jax.config.validation import check_image_metrics


def _validate(config):
    validate(config)
    check_image_metrics(config)


if __name__ == "__main__":
    cli.run_experiment(evaluate, _validate, dry_run=describe, multi_host=True)

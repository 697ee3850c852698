"""Trains, evaluates, runs the baselines and plots, in one command that resumes.

python experiments/reproduce.py --config=configs/quickstart.py --workdir=W
"""

from diffc_jax.errors import PreemptedError
from diffc_jax.runtime.signals import leave_at_signals

leave_at_signals(PreemptedError.exit_code)  # before the imports that take seconds

from diffc_jax import cli
from diffc_jax.commands import describe
from diffc_jax.config.validation import validate_evaluation
from diffc_jax.runtime.optional import require


def _reproduce(config, workdir):
    require("matplotlib")  # which the next import needs
    from diffc_jax.studies.reproduction import reproduce

    reproduce(config, workdir)


def _dry_run(config):
    from diffc_jax.baselines.evaluate import check_baselines

    check_baselines(config)
    return describe(config)


if __name__ == "__main__":
    cli.run_experiment(_reproduce, validate_evaluation, dry_run=_dry_run)

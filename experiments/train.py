"""Trains the model of a config, or resumes; --dry_run --cost says beforehand what it will cost.

python experiments/train.py --config=configs/X.py --workdir=W
"""

from diffc_jax.errors import PreemptedError
from diffc_jax.runtime.signals import leave_at_signals

leave_at_signals(PreemptedError.exit_code)  # before the imports that take seconds

from absl import flags

from diffc_jax import cli
from diffc_jax.commands import build_task, describe, train, validate
from diffc_jax.config.validation import given_duration
from diffc_jax.errors import UsageError
from diffc_jax.runtime.accelerators import ACCELERATORS

_COST = flags.DEFINE_bool(
    "cost", False, "With --dry_run: compile a step for simulated devices and print what it costs."
)
_COST_DEVICES = flags.DEFINE_integer(
    "cost_devices", 1, "Number of simulated devices.", lower_bound=1
)
_ACCELERATOR = flags.DEFINE_enum(
    "accelerator", "", ["", *ACCELERATORS], "What to estimate the time for."
)


def _validate(config):
    if _COST.value and not flags.FLAGS.dry_run:
        raise UsageError("needs --dry_run; it compiles and does not train", field="--cost")
    for flag in (_COST_DEVICES, _ACCELERATOR):
        if flag.present and not _COST.value:
            raise UsageError("needs --dry_run --cost", field=f"--{flag.name}")
    validate(config)
    if config.model.name != "gaussian":  # which is fitted
        given_duration(config.train)


def _dry_run(config):
    if not _COST.value:
        return describe(config)
    from diffc_jax.training import cost
    from diffc_jax.training.duration import num_train_steps

    cost.simulate_devices(_COST_DEVICES.value)
    task = build_task(config)
    # Not a number of images: data are not opened. A model without steps is refused by `measure_step`.
    num_steps = num_train_steps(config.train, num_images=None) if task.count_trained() else 0
    step = cost.measure_step(task)
    return cost.report_cost(step, num_steps, _ACCELERATOR.value)


if __name__ == "__main__":
    cli.run_experiment(train, _validate, dry_run=_dry_run, multi_host=True)

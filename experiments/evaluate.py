"""Sweeps noise levels with a trained model: rates and PSNR of every decoder, in W/eval.

HiFiC has no noise levels: its files are measured instead.

python experiments/evaluate.py --config=configs/X.py --workdir=W
"""

import pathlib

from absl import flags

from diffc_jax import cli
from diffc_jax.trainees import evaluate, validate

_PARAMS = flags.DEFINE_string(
    "params", None, "Exported params.safetensors to evaluate instead of the checkpoint in workdir."
)


def _evaluate(config, workdir):
    evaluate(config, workdir, params=pathlib.Path(_PARAMS.value) if _PARAMS.value else None)


if __name__ == "__main__":
    cli.run_experiment(_evaluate, validate, multi_host=True)

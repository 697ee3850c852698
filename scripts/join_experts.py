"""Makes one model of two, each for its side of a noise level.

    python scripts/join_experts.py --fine=A.safetensors --noisy=B.safetensors --split_gamma=-2 \
        --output=OUT.safetensors

A and B are exported `unet` weights with their cards beside them, of any shapes and data. OUT is a model
`unet_experts` (diffc_jax/models/experts.py), A for gamma up to --split_gamma and B above; a config of that
model evaluates it, and compress.py takes it as it is.
"""

from absl import flags

from diffc_jax import cli
from diffc_jax.conversion.experts import join_experts
from diffc_jax.runtime.files import local_path

_FINE = flags.DEFINE_string("fine", None, "Weights for gamma up to --split_gamma.")
_NOISY = flags.DEFINE_string("noisy", None, "Weights for gamma above --split_gamma.")
_SPLIT_GAMMA = flags.DEFINE_float("split_gamma", None, "-log SNR at which they meet.")
_OUTPUT = flags.DEFINE_string("output", None, "The joined file; its card is written beside it.")


def main() -> None:
    """Joins the files that the flags name."""
    names = (_FINE.value, _NOISY.value, _OUTPUT.value)
    fine, noisy, output = (local_path(name) for name in names)
    join_experts(fine, noisy, _SPLIT_GAMMA.value, output)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    flags.mark_flags_as_required(["fine", "noisy", "split_gamma", "output"])
    cli.run(main)

"""Stores exported parameters in half the space, to ship them.

    python scripts/pack_weights.py --input=W/params.safetensors --output=weights/NAME.safetensors

The network's parameters become float16, constants and the schedule keep their type; loading gives all of
them back as float32. The card goes with them and says what was done. Evaluate both files before one
replaces the other.
"""

import numpy as np
from absl import flags

from diffc_jax import cli
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models.layers import DTYPES
from diffc_jax.runtime import files
from diffc_jax.runtime.export import Card, export_params, read_card, read_tensors

_INPUT = flags.DEFINE_string("input", None, "params.safetensors of a run, with its card beside it.")
_OUTPUT = flags.DEFINE_string("output", None, "The smaller file; its card is written beside it.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "", ["", *DTYPES], "Activations that the card asks for, if other than in training."
)

_PACKED = "params/model/"


def main() -> None:
    """Reads, rounds and writes."""
    source, output = (files.local_path(name) for name in (_INPUT.value, _OUTPUT.value))
    if output.suffix != ".safetensors":
        raise UsageError("must end in .safetensors", field=f"--output {output}")
    if output.resolve() == source.resolve():
        raise UsageError(
            "is the input, whose parameters would be lost; choose another name",
            field=f"--output {output}",
        )
    card = read_card(source, Card)
    arrays = read_tensors(source)
    if not any(name.startswith(_PACKED) for name in arrays):
        raise InputError(f"{source}: is no denoiser of DiffC; no tensor is called {_PACKED}...")
    with np.errstate(over="ignore"):  # found below
        packed = {
            name: array.astype(np.float16) if name.startswith(_PACKED) else array
            for name, array in arrays.items()
        }
    for name, array in packed.items():
        if not np.isfinite(array).all():
            raise InputError(f"{source}: {name!r} holds values that float16 does not have")
    if _DTYPE.value:
        if "model" not in card:
            raise InputError(f"{source.with_suffix('.json')}: has no model; leave out --dtype")
        model = card["model"]
        experts = [model[side] for side in ("fine", "noisy") if side in model]
        for network in experts or [model]:
            network["dtype"] = _DTYPE.value
    digest = files.file_sha256(source)
    export_params(output, packed, card | {"stored_as": "float16", "packed_from_sha256": digest})
    print(f"{output}: {output.stat().st_size} bytes, from {source.stat().st_size}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["input", "output"])
    cli.run(main)

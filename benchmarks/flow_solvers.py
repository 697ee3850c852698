"""How many denoiser evaluations the flow decoder needs: PSNR of both solvers against 1000 DDIM steps.

python benchmarks/flow_solvers.py --config=configs/quickstart.py --workdir=runs/quickstart/unet

Prints one row for each noise level and solver: the PSNR (of the mean squared error on 8-bit values) and its
difference to first order (DDIM) with 1000 even steps from the same z. Other numbers of steps are those of the
registered decoder, whose first ones are shorter. Last, the fewest evaluations with which a
solver is within 0.05 dB at every level.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from shared import first_latents

from diffc_jax import cli
from diffc_jax.diffusion import process, samplers
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.metrics import psnr

_IMAGES = flags.DEFINE_integer("images", 16, "Number of validation images.")
_LEVELS = flags.DEFINE_integer("levels", 5, "Number of noise levels among those of the config.")
_REFERENCE_STEPS = 1000
_STEPS = (5, 6, 7, 8, 10, 16)
_TOLERANCE = 0.05


def compare(config, workdir):
    """Decodes the same latents with every solver and number of steps."""
    trained, source, pixels, x, noise, _ = first_latents(config, workdir, _IMAGES.value)
    plan = trained.plan(config.eval)
    denoise = functools.partial(trained.model.eps_hat, trained.variables)

    solve = {
        order: jax.jit(functools.partial(samplers.flow, denoise, order=order)) for order in (1, 2)
    }

    def decoded_psnr(decode: Callable, gamma: float, steps: int) -> float:
        grid = np.full(_REFERENCE_STEPS + 1, plan.gammas[-1], np.float32)
        make = parse_decoder("flow").steps if steps < _REFERENCE_STEPS else samplers.step_grid
        grid[: steps + 1] = make(gamma, plan.gammas[-1], steps)
        z = process.diffuse(x, noise, jnp.asarray(gamma, jnp.float32))
        decoded = process.unit_to_pixels(decode(z, grid, steps))
        return psnr.psnr(psnr.mse(pixels, np.asarray(decoded)))

    chosen = np.linspace(0, len(plan.level_gammas) - 1, _LEVELS.value).round().astype(int)
    print(f"{len(pixels)} images of {source.name}, {trained.model.name}, {trained.name}")
    print("  gamma  DDIM 1000 |" + "".join(f"{n:>8}" for n in _STEPS) + "   (difference in dB)")
    worst: dict[tuple[int, int], float] = {}
    for gamma in plan.level_gammas[chosen]:
        reference = decoded_psnr(solve[1], gamma, _REFERENCE_STEPS)
        for order in (1, 2):
            differences = [decoded_psnr(solve[order], gamma, n) - reference for n in _STEPS]
            for n, difference in zip(_STEPS, differences, strict=True):
                worst[order, n] = max(worst.get((order, n), 0.0), abs(difference))
            row = "".join(f"{difference:+8.3f}" for difference in differences)
            print(f"{gamma:7.2f} {reference:7.3f} dB | {row}   order {order}")
    for order in (1, 2):
        enough = [n for n in _STEPS if worst[order, n] <= _TOLERANCE]
        found = f"{min(enough)} evaluations" if enough else f"more than {_STEPS[-1]} evaluations"
        print(
            f"order {order}: within {_TOLERANCE} dB of 1000 DDIM steps at every level with {found}"
        )


if __name__ == "__main__":
    cli.run_experiment(compare)

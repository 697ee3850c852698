"""Whether the default steps of DiffC-F and DiffC-A suffice: PSNR against many steps, from the same latents.

python benchmarks/decoder_steps.py --config=configs/quickstart.py --workdir=runs/quickstart/unet

Prints a row for each noise level of the config and each decoder: the default number of steps there, and the
difference in dB between the PSNR (of the mean squared error) with them and with --reference even steps, with
the standard error over images. DiffC-A draws --samples samples of each image either way.
--powers tries other spacings: where it is above 1, steps are shorter at the beginning (`samplers.step_grid`).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float
from shared import first_latents

from diffc_jax import cli
from diffc_jax.diffusion import process, samplers
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.metrics import psnr

_DECODERS = flags.DEFINE_list("decoders", ["flow", "ancestral"], "Decoders.")
_IMAGES = flags.DEFINE_integer("images", 16, "Number of validation images.", lower_bound=2)
_SAMPLES = flags.DEFINE_integer(
    "samples", 3, "Samples of each image by a random decoder.", lower_bound=1
)
_REFERENCE = flags.DEFINE_integer("reference", 64, "Steps of the reference.", lower_bound=16)
_POWERS = flags.DEFINE_list("powers", [], "Spacings of the steps to try beside the default.")


def compare(config, workdir):
    """Decodes the same latents with few and with many steps."""
    trained, source, pixels, x, noise, keys = first_latents(config, workdir, _IMAGES.value)
    plan = trained.plan(config.eval)
    last, highest = plan.gammas[-1], config.schedule.gamma_max
    denoise = functools.partial(trained.model.eps_hat, trained.variables)

    @functools.partial(jax.jit, static_argnums=0)
    def reconstruct(decoder, z, x_hat, grid, n_steps, keys):
        images = decoder.reconstruct(denoise, z, x_hat, grid, n_steps, keys, decoder.value)
        return process.unit_to_pixels(images)

    estimate = jax.jit(lambda z, gamma: process.x_from_eps(z, denoise(z, gamma), gamma))

    def errors(decoder, z, x_hat, grid: Float[np.ndarray, " n"]) -> Float[np.ndarray, " images"]:
        """Squared errors of the images, means over samples."""
        n_steps = len(grid) - 1
        padded = np.pad(grid, (0, _REFERENCE.value - n_steps), mode="edge").astype(np.float32)
        count = _SAMPLES.value if decoder.name == "ancestral" else 1
        found = []
        for sample in range(count):
            own = jax.vmap(lambda key, sample=sample: jax.random.fold_in(key, sample))(keys)
            decoded = reconstruct(decoder, z, x_hat, padded, n_steps, own)
            found.append(psnr.mse(pixels, np.asarray(decoded)))
        return np.mean(found, axis=0)

    powers = [float(power) for power in _POWERS.value]
    print(f"{len(pixels)} images of {source.name}, {trained.model.name}, {trained.name}")
    print(f"difference in dB to {_REFERENCE.value} even steps (standard error)")
    print("  gamma  decoder    steps   default        " + "".join(f"{p:<16}" for p in powers))
    for gamma in plan.level_gammas:
        z = process.diffuse(x, noise, jnp.asarray(gamma, jnp.float32))
        x_hat = estimate(z, jnp.full(len(z), gamma, jnp.float32))
        for name in _DECODERS.value:
            decoder = parse_decoder(name, "--decoders")
            n_steps = decoder.default_steps(gamma, last, highest)
            grids = [decoder.steps(gamma, last, n_steps)]
            grids += [samplers.step_grid(gamma, last, n_steps, power) for power in powers]
            many = errors(decoder, z, x_hat, samplers.step_grid(gamma, last, _REFERENCE.value))
            row = ""
            for grid in grids:
                few = errors(decoder, z, x_hat, grid)
                difference = psnr.psnr(few) - psnr.psnr(many)
                # Of the logarithm of the ratio of two means over the same images.
                relative = few / few.mean() - many / many.mean()
                error = 10 / np.log(10) * relative.std(ddof=1) / np.sqrt(len(few))
                row += f"{difference:+.3f} ({error:.3f})  "
            print(f"{gamma:7.2f}  {name:10} {n_steps:4}    {row}", flush=True)


if __name__ == "__main__":
    cli.run_experiment(compare)

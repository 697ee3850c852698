"""Cost of a sweep: denoiser evaluations and seconds for each image, and for each rate point.

python benchmarks/sweep_speed.py --config=configs/quickstart.py --workdir=runs/quickstart/unet

Times the parts of the sweep that the config describes on one batch (median of --rounds, after compilation),
and the bare denoiser on the same batch in the same run. The last column is the time of an evaluation inside
the part over that of the bare denoiser: 1.0 means that the sweep costs nothing but its network calls.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import flags
from shared import first_and_median_seconds

from diffc_jax import cli, data
from diffc_jax.diffusion import process
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.training.experiment import build_experiment, open_source

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed runs of each part.", lower_bound=1)
_BARE_CALLS = 20
_LEAST_SHARE = 0.05


def measure(config, workdir):
    """Times the chain alone, then the chain with one decoder at a time, and prints differences."""
    trained = load_trained(build_experiment(config), workdir)
    plan = trained.plan(config.eval)
    source = open_source(config, "eval")
    batch = next(data.eval_batches(source, batch_size=config.eval.batch_size))
    x = process.pixels_to_unit(jnp.asarray(batch["image"]))
    indices = jnp.asarray(batch["index"])
    variables = trained.variables
    denoise = jax.jit(trained.model.eps_hat)
    gamma = jnp.zeros(len(x))

    def bare() -> None:
        for _ in range(_BARE_CALLS):
            jax.block_until_ready(denoise(variables, x, gamma))

    def swept(decoders: tuple[str, ...]) -> Callable[[], None]:
        part = dataclasses.replace(plan, decoders=decoders)
        sweep = Sweep(trained.model.eps_hat, part, config.seed)
        return lambda: jax.block_until_ready(sweep.run(variables, x, indices).reconstructions)

    levels = range(len(plan.levels))
    evaluations = {"rate": len(plan.strata) - 1} | {
        name: sum(plan.n_steps(name, level) for level in levels) for name in plan.decoders
    }

    def median_seconds(function: Callable[[], None]) -> float:
        return first_and_median_seconds(function, _ROUNDS.value)[1]

    per_evaluation = median_seconds(bare) / _BARE_CALLS / len(x)
    chain = median_seconds(swept(())) / len(x)
    seconds = {"rate": chain} | {
        name: median_seconds(swept((name,))) / len(x) - chain for name in plan.decoders
    }
    print(f"{trained.model.name}, batch {len(x)}, T = {len(plan.gammas) - 1}, {len(levels)} levels")
    print(f"bare denoiser: {1 / per_evaluation:.0f} evaluations/s")
    print("part            evaluations/image   per rate point   seconds/image   over bare denoiser")
    for name, count in evaluations.items():
        row = f"{name:<15} {count:>17} {count / len(levels):>16.1f}"
        if count < _LEAST_SHARE * evaluations["rate"]:
            print(f"{row}   below the resolution of the difference")
            continue
        ratio = seconds[name] / count / per_evaluation
        print(f"{row} {seconds[name]:>15.3f} {ratio:>20.2f}")
    # Less than the sum: decoders share the first evaluation of a level.
    count, total = plan.evaluations_per_image(), median_seconds(swept(plan.decoders)) / len(x)
    ratio = total / count / per_evaluation
    print(f"{'all':<15} {count:>17} {count / len(levels):>16.1f} {total:>15.3f} {ratio:>20.2f}")


if __name__ == "__main__":
    cli.run_experiment(measure)

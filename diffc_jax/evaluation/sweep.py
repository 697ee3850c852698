"""One pass down the chain: the rate at every noise level, and reconstructions at the chosen ones.

Works on real-valued x of any range, on any denoiser; 8-bit values are the caller's business. Noise depends on
the image's index only, so results do not depend on batches or devices.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from diffc_jax import rng
from diffc_jax.config import parse_decoder
from diffc_jax.diffusion import bound, decoders, process
from diffc_jax.diffusion.process import Images
from diffc_jax.models import Denoiser, Variables


@dataclasses.dataclass(frozen=True, eq=False)
class SweepPlan:
    """Which noise levels are visited, and how each is decoded.

    Attributes:
        gammas: decreasing grid of the rate's chain, T + 1 values.
        level_indices: increasing positions in `gammas` at which images are reconstructed.
        decoders: "ancestral", "flow", "mean", "kappa=K".
        ancestral_steps: ancestral steps over the whole range of gammas; a level takes its share of
            the range, evenly spaced in gamma.
        flow_steps: denoiser evaluations of the flow decoders, at every level.
    """

    gammas: Float[np.ndarray, " n"]
    level_indices: Int[np.ndarray, " l"]
    decoders: tuple[str, ...]
    ancestral_steps: int
    flow_steps: int

    @property
    def level_gammas(self) -> Float[np.ndarray, " l"]:
        """Negative log signal-to-noise ratio of each level."""
        return self.gammas[self.level_indices]

    def n_steps(self, decoder: str, level: int) -> int:
        """Denoiser evaluations for each image."""
        if decoder == "mean":
            return 1
        if decoder == "ancestral":
            left = self.level_gammas[level] - self.gammas[-1]
            share = left / (self.gammas[0] - self.gammas[-1])
            return max(1, round(self.ancestral_steps * share))
        return self.flow_steps

    def evaluations_per_image(self) -> int:
        """Denoiser evaluations of the whole sweep of an image."""
        levels = range(len(self.level_indices))
        decoded = sum(self.n_steps(name, level) for name in self.decoders for level in levels)
        return len(self.gammas) - 1 + decoded

    def decoder_grid(self, decoder: str, level: int) -> Float[np.ndarray, " n"]:
        """Gammas of a decoder's steps from a level to the end, padded to one length for all levels."""
        steps = self.n_steps(decoder, level)
        longest = self.ancestral_steps if decoder == "ancestral" else self.flow_steps
        grid = decoders.even_grid(self.level_gammas[level], self.gammas[-1], steps)
        return np.pad(grid, (0, max(longest - steps, 0)), mode="edge").astype(np.float32)


def nearest_levels(
    gammas: Float[np.ndarray, " n"], first: float, last: float, count: int
) -> Int[np.ndarray, " l"]:
    """Positions in a decreasing grid nearest to `count` even steps from `first` down to `last`."""
    wanted = np.linspace(first, last, count)
    return np.unique(np.argmin(np.abs(gammas[None] - wanted[:, None]), axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """Of one batch.

    Attributes:
        kl_bits: (b, T + 1) bits spent to reach each gamma of the grid.
        reconstructions: decoder -> one batch of x for each level.
    """

    kl_bits: Float[np.ndarray, "b n"]
    reconstructions: dict[str, list[Array]]


class Sweep:
    """A compiled sweep; every level, batch and set of variables runs the same programs."""

    def __init__(self, eps_hat: Denoiser, plan: SweepPlan, seed: int):
        self._plan = plan
        self._chain_key = rng.stream(seed, "sweep/chain")
        self._ancestral_key = rng.stream(seed, "sweep/ancestral")
        self._start = jax.jit(self._start_chain)
        self._walk = jax.jit(functools.partial(_walk_chain, eps_hat), donate_argnums=(2, 3))
        self._decode: dict[str, Callable[..., Images]] = {
            name: jax.jit(functools.partial(_DECODE[_family(name)], eps_hat))
            for name in {_family(name) for name in plan.decoders}
        }

    def run(
        self,
        variables: Variables,
        x: Images,
        indices: Int[Array, " b"],
        on_evaluations: Callable[[int], None] = lambda count: None,
    ) -> SweepResult:
        """Sweeps one batch.

        Args:
            variables: of the model.
            x: the images.
            indices: of the images in their data set; they alone choose the noise.
            on_evaluations: called with the number of denoiser evaluations of each finished part.
        """
        plan = self._plan
        gammas = jnp.asarray(plan.gammas, jnp.float32)
        keys, z, kl = self._start(x, indices, gammas)
        reconstructions: dict[str, list[Array]] = {decoder: [] for decoder in plan.decoders}
        position = 0
        for level, index in enumerate([*plan.level_indices, len(plan.gammas) - 1]):
            z, kl = self._walk(variables, x, z, kl, gammas, keys, position, int(index))
            jax.block_until_ready(kl)
            on_evaluations(int(index) - position)
            position = int(index)
            if level < len(plan.level_indices):
                for decoder in plan.decoders:
                    image = self._reconstruct(variables, z, indices, decoder, level)
                    reconstructions[decoder].append(jax.block_until_ready(image))
                    on_evaluations(plan.n_steps(decoder, level))
        return SweepResult(
            kl_bits=np.asarray(kl, np.float64).T * bound.BITS_PER_NAT,
            reconstructions=reconstructions,
        )

    def _reconstruct(
        self, variables: Variables, z: Images, indices: Int[Array, " b"], decoder: str, level: int
    ) -> Images:
        plan = self._plan
        decode = self._decode[_family(decoder)]
        if decoder == "mean":
            return decode(variables, z, np.float32(plan.level_gammas[level]))
        grid, steps = plan.decoder_grid(decoder, level), plan.n_steps(decoder, level)
        if decoder == "ancestral":
            keys = rng.per_index(jax.random.fold_in(self._ancestral_key, level), indices)
            return decode(variables, z, grid, steps, keys)
        return decode(variables, z, grid, steps, np.float32(parse_decoder(decoder)))

    def _start_chain(
        self, x: Images, indices: Int[Array, " b"], gammas: Float[Array, " n"]
    ) -> tuple[Key[Array, " b"], Images, Float[Array, "n b"]]:
        keys = rng.per_index(self._chain_key, indices)
        z = process.diffuse(x, process.image_noise(keys, x.shape[1:]), gammas[0])
        kl = jnp.zeros((len(gammas), len(x))).at[0].set(process.prior_kl(x, gammas[0]))
        return keys, z, kl


def _walk_chain(
    eps_hat: Denoiser,
    variables: Variables,
    x: Images,
    z: Images,
    kl: Float[Array, "n b"],
    gammas: Float[Array, " n"],
    keys: Key[Array, " b"],
    start: Int[Array, ""] | int,
    stop: Int[Array, ""] | int,
) -> tuple[Images, Float[Array, "n b"]]:
    """From z at gammas[start] to a sample of q(z | x) at gammas[stop]; kl[i] are nats spent to reach i."""

    def step(
        i: Int[Array, ""], carry: tuple[Images, Float[Array, "n b"]]
    ) -> tuple[Images, Float[Array, "n b"]]:
        z, kl = carry
        gamma_t, gamma_s = gammas[i], gammas[i + 1]
        eps = process.eps_from_x(z, x, gamma_t)
        eps_pred = eps_hat(variables, z, jnp.full(z.shape[:1], gamma_t))
        spent = kl[i] + process.step_kl(eps, eps_pred, gamma_t, gamma_s)
        mean, std = process.conditional(z, eps, gamma_t, gamma_s)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i + 1)
        z = mean + std * process.image_noise(step_keys, z.shape[1:])
        return z, kl.at[i + 1].set(spent)

    return jax.lax.fori_loop(start, stop, step, (z, kl))


def _family(decoder: str) -> str:
    """Decoders that share a compiled program: the flow for every kappa."""
    return decoder if decoder in ("ancestral", "mean") else "flow"


def _decode_mean(eps_hat: Denoiser, variables: Variables, z: Images, gamma: Array) -> Images:
    return decoders.posterior_mean(functools.partial(eps_hat, variables), z, gamma)


def _decode_ancestral(
    eps_hat: Denoiser, variables: Variables, z: Images, gammas: Array, steps: Array, keys: Array
) -> Images:
    return decoders.ancestral(functools.partial(eps_hat, variables), z, gammas, steps, keys)


def _decode_flow(
    eps_hat: Denoiser, variables: Variables, z: Images, gammas: Array, steps: Array, kappa: Array
) -> Images:
    return decoders.flow(functools.partial(eps_hat, variables), z, gammas, steps, kappa)


_DECODE: dict[str, Callable[..., Images]] = {
    "mean": _decode_mean,
    "ancestral": _decode_ancestral,
    "flow": _decode_flow,
}

"""The decoders of DiffC by name; an entry here is in sweeps, files, configs, flags and legends.

A decoder turns z_t into an image. `samplers` has the numerics; the registry adds the name that results,
configs and flags use, the number of steps, and the label and colour of figures.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Key

from diffc_jax.diffusion import samplers
from diffc_jax.diffusion.process import Images, NoisePredictor
from diffc_jax.diffusion.samplers import Count, Grid
from diffc_jax.errors import UsageError

# x from (eps_hat, z at gammas[0], its x_hat, gammas, number of steps, one key for each image, value of the
# decoder). It is traced: gammas may be longer than the steps, whose number may be an array, like the value.
Reconstruct = Callable[
    [NoisePredictor, Images, Images, Grid, Count, Key[Array, " b"], Float[Array, ""] | float],
    Images,
]


@dataclasses.dataclass(frozen=True)
class StepBudget:
    """Denoiser evaluations that a sweep grants its decoders over the whole range of gamma.

    A level gets its fraction of those of the flow. Of the ancestral decoder it gets half in any case, and its
    fraction of the others.
    """

    flow: int
    ancestral: int


# A number as programs write it: float() also takes blanks and underscores.
_NUMBER = re.compile(r"\d*\.?\d+(e[+-]?\d+)?")
# Below it float32 has no room for the number times a step.
_LEAST_VALUE = 1e-30
# Within 0.03 dB (flow) and 0.08 dB (ancestral) of many steps with the shipped network (docs/speed.md).
DEFAULT_BUDGET = StepBudget(flow=9, ancestral=9)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A decoder, or a family of decoders that differ in one positive number.

    Attributes:
        name: in results, configs and flags; members of the family "kappa" are called "kappa=1.5".
        label: in legends; of a family with {} in place of the number.
        description: one line for the help of flags.
        reconstruct: see `Reconstruct`. A sweep compiles it once for all decoders that have it.
        n_steps: denoiser evaluations at a noise level, that of x_hat counted, from the budget and the
            fraction of the sweep's range of gamma that is below the level.
        powers: pairs of a first gamma and the power of `samplers.step_grid` that goes with it; interpolated.
        value: the last argument of `reconstruct`; the number of a member of a family.
        symbol: the number of a family in help and messages; empty for a single decoder.
        color: of lines in figures, "#RRGGBB"; unused for a family, whose members take colours in turn.
        marker: of matplotlib; likewise.
    """

    name: str
    label: str
    description: str
    reconstruct: Reconstruct
    n_steps: Callable[[StepBudget, float], int]
    powers: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    value: float = 1.0
    symbol: str = ""
    color: str = "#000000"
    marker: str = "o"

    @property
    def usage(self) -> str:
        """What to write in a config or flag."""
        least = f"{self.symbol} >= {_LEAST_VALUE:g}"
        return f"{self.name}={self.symbol} with {least}" if self.symbol else self.name

    def steps(self, first: float, last: float, n_steps: int) -> Float[np.ndarray, " n"]:
        """Gammas of n_steps steps from `first` to `last`."""
        gammas, powers = np.array(self.powers).T
        power = float(np.interp(first, gammas, powers))
        return samplers.step_grid(first, last, n_steps, power)

    def default_steps(self, first: float, last: float, highest: float) -> int:
        """Denoiser evaluations from gamma `first` to `last`, as in a sweep from `highest` on."""
        return self.n_steps(DEFAULT_BUDGET, (first - last) / (highest - last))

    @property
    def kind(self) -> tuple[str, float]:
        """Equal for two names of one decoder, as kappa=1.5 and kappa=1.50."""
        return self.name.partition("=")[0], self.value

    def parse(self, name: str) -> "Decoder | None":
        """This decoder, or the member of this family, that has the name; None if none has."""
        if not self.symbol:
            return self if name == self.name else None
        family, _, text = name.partition("=")
        if family != self.name or not _NUMBER.fullmatch(text):
            return None
        value = float(text)
        if not _LEAST_VALUE <= value < math.inf:
            return None
        return dataclasses.replace(
            self, name=name, label=self.label.format(text), value=value, symbol=""
        )


def register(decoder: Decoder) -> None:
    """Makes a decoder known everywhere; ValueError if its name is taken."""
    if decoder.name in DECODERS:
        raise ValueError(f"there is a decoder {decoder.name!r} already")
    DECODERS[decoder.name] = decoder


def find_decoder(name: str) -> Decoder | None:
    """The decoder of this name; None if there is none."""
    found = (decoder.parse(name) for decoder in DECODERS.values())
    return next(filter(None, found), None)


def parse_decoder(name: Any, field: str = "eval.decoders") -> Decoder:
    """The decoder of a name such as "flow" or "kappa=1.5" from a config or a flag.

    Raises:
        UsageError: there is no such decoder, or its number is not positive.
    """
    decoder = find_decoder(name) if isinstance(name, str) else None
    if decoder is None:
        known = ", ".join(decoder.usage for decoder in _by_name())
        raise UsageError(f"{name!r} is not one of {known}", field=field)
    return decoder


def describe_decoders() -> str:
    """The help of a flag that takes a decoder: names and descriptions."""
    return "; ".join(f"{decoder.usage}: {decoder.description}" for decoder in _by_name()) + "."


def _by_name() -> list[Decoder]:
    """Single decoders, then families."""
    return sorted(DECODERS.values(), key=lambda decoder: (bool(decoder.symbol), decoder.name))


def _flow(
    denoise: NoisePredictor,
    z: Images,
    x_hat: Images,
    gammas: Grid,
    n_steps: Count,
    keys: Key[Array, " b"],
    kappa: Float[Array, ""] | float,
) -> Images:
    del keys
    return samplers.flow(denoise, z, gammas, n_steps, kappa, x_hat=x_hat)


# Numbers and powers of steps are fitted to the shipped network (docs/speed.md). Those of the ancestral
# decoder balance two errors: large steps take too little noise, and overshoot with what they take.
_SHIPPED = (
    Decoder(
        name="flow",
        label="DiffC-F (flow)",
        description="probability flow, realistic and deterministic",
        reconstruct=_flow,
        n_steps=lambda budget, fraction: max(1, round(budget.flow * fraction)),
        powers=((-13.3, 1.0), (-4.0, 1.15), (0.0, 1.24), (2.0, 1.32)),
        color="#D55E00",
        marker="o",
    ),
    Decoder(
        name="ancestral",
        label="DiffC-A (ancestral)",
        description="a random sample of the images that fit the bits",
        reconstruct=lambda denoise, z, x_hat, gammas, n_steps, keys, _: samplers.ancestral(
            denoise, z, gammas, n_steps, keys, x_hat=x_hat
        ),
        n_steps=lambda budget, fraction: max(1, round(budget.ancestral * (1 + fraction) / 2)),
        powers=((-4.0, 1.02), (-2.0, 1.03), (0.0, 1.11), (2.0, 1.162)),
        color="#0072B2",
        marker="s",
    ),
    Decoder(
        name="mean",
        label="DiffC-D (posterior mean)",
        description="their mean, with the least distortion and blurred, in one step",
        reconstruct=lambda denoise, z, x_hat, *_: x_hat,
        n_steps=lambda budget, fraction: 1,
        color="#009E73",
        marker="^",
    ),
    Decoder(
        name="kappa",
        label="κ = {}",
        description="flow with the score scaled by K, from flow (1) towards mean (2)",
        reconstruct=_flow,
        n_steps=lambda budget, fraction: max(1, round(2 * budget.flow * fraction)),
        symbol="K",
    ),
)
# In the order of legends, with colours of Okabe and Ito; `register` adds to it.
DECODERS: dict[str, Decoder] = {decoder.name: decoder for decoder in _SHIPPED}

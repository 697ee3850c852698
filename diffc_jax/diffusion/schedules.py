"""Noise schedules: gamma, the negative log signal-to-noise ratio, as an increasing function of time.

t = 0 is the data end (gamma about -13.3 for 8-bit images), t = 1 the noise end (about 5). The
continuous-time ELBO depends on a schedule through its end points only (VDM, section 5.1); the shape in
between changes the variance of its estimate and the steps of a discrete chain. VDM is Kingma et al. 2021,
arXiv 2107.00630.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from diffc_jax.errors import InputError, UsageError
from diffc_jax.typed import Meta, check_arguments, one_of

_HIDDEN = 1024
# Beyond, exp(gamma) is no float64.
_Gamma = Annotated[float, Meta(ge=-700.0, le=700.0)]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A schedule and its parameters.

    Attributes:
        init: `init(key) -> params`; an empty tree for a fixed schedule.
        gamma: `gamma(params, t)` for times t in [0, 1] of any shape.
    """

    init: Callable[[Key[Array, ""]], PyTree]
    gamma: Callable[[PyTree, Float[Array, "*s"]], Float[Array, "*s"]]


def build_schedule(name: str, gamma_min: _Gamma, gamma_max: _Gamma) -> Schedule:
    """Makes a schedule that starts with gamma(0) = gamma_min and gamma(1) = gamma_max (VDM, section 3.2).

    Args:
        name: "linear" (fixed), "learned_linear" (both ends learned) or "learned_network" (ends and a
            monotone network in between).
        gamma_min: gamma at t = 0, below gamma_max.
        gamma_max: gamma at t = 1.

    Raises:
        UsageError: unknown name, or ends that are not finite numbers, or not in order as float32.
    """
    check_ends(gamma_min, gamma_max)
    builders = {
        "linear": _linear,
        "learned_linear": _learned_linear,
        "learned_network": _learned_network,
    }
    one_of("schedule.name", name, builders)
    return builders[name](gamma_min, gamma_max)


def check_ends(gamma_min: int | float, gamma_max: int | float) -> None:
    """Raises UsageError for ends that are not finite numbers, or not in order as float32."""
    for field, gamma in (("gamma_min", gamma_min), ("gamma_max", gamma_max)):
        if not math.isfinite(gamma):
            raise UsageError(f"{gamma} is not a finite number", field=f"schedule.{field}")
    if not np.float32(gamma_min) < np.float32(gamma_max):
        raise UsageError(
            f"{gamma_min} is not below schedule.gamma_max = {gamma_max}", field="schedule.gamma_min"
        )


def schedule_from_fields(fields: Mapping[str, Any]) -> Schedule:
    """`build_schedule(**fields)` for the fields of config.schedule or of a card.

    Raises:
        UsageError: a field that it has no use for, lacks or cannot use.
    """
    check_arguments(build_schedule, fields, "schedule", "a schedule")
    return build_schedule(**fields)


def noise_range(schedule: Schedule, params: PyTree, source: str) -> tuple[float, float]:
    """gamma(0) and gamma(1), which parameters may have moved.

    Raises:
        InputError: they are not finite or not in order, so that no image can be coded; `source` is where the
            parameters come from.
    """
    low, high = np.asarray(schedule.gamma(params, jnp.array([0.0, 1.0]))).tolist()
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"{source}: its noise schedule goes from gamma {low:g} to {high:g}, which must be two finite"
            " numbers in this order; the parameters are damaged or their training diverged"
        )
    return low, high


def gamma_and_slope(
    schedule: Schedule, params: PyTree, t: Float[Array, " b"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """gamma(t) and gamma'(t), the weight of the diffusion loss (VDM, section 5)."""
    return jax.jvp(lambda time: schedule.gamma(params, time), (t,), (jnp.ones_like(t),))


def _linear(gamma_min: float, gamma_max: float) -> Schedule:
    return Schedule(
        init=lambda key: {},
        gamma=lambda params, t: gamma_min + (gamma_max - gamma_min) * t,
    )


def _ends(gamma_min: float, gamma_max: float) -> dict[str, Array]:
    return {
        "start": jnp.asarray(gamma_min, jnp.float32),
        "range": jnp.asarray(gamma_max - gamma_min, jnp.float32),
    }


def _from_unit(params: Any, unit: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Maps [0, 1] onto the learned range; the absolute value keeps gamma increasing."""
    return params["start"] + jnp.abs(params["range"]) * unit


def _learned_linear(gamma_min: float, gamma_max: float) -> Schedule:
    return Schedule(init=lambda key: _ends(gamma_min, gamma_max), gamma=_from_unit)


def _learned_network(gamma_min: float, gamma_max: float) -> Schedule:
    def init(key: Key[Array, ""]) -> PyTree:
        in_key, out_key = jax.random.split(key)
        return _ends(gamma_min, gamma_max) | {
            "linear": jnp.ones(()),
            "in_scale": jax.random.normal(in_key, (_HIDDEN,)),
            "in_shift": jnp.zeros(_HIDDEN),
            "out_scale": 0.01 * jax.random.normal(out_key, (_HIDDEN,)),
        }

    def unnormalised(params: Any, t: Float[Array, "*s"]) -> Float[Array, "*s"]:
        # Positive weights and an increasing activation make the network increasing (VDM, appendix H).
        inner = jnp.multiply.outer(t, jnp.abs(params["in_scale"]))
        hidden = jax.nn.sigmoid(inner + jnp.broadcast_to(params["in_shift"], inner.shape))
        return jnp.abs(params["linear"]) * t + hidden @ jnp.abs(params["out_scale"])

    def gamma(params: Any, t: Float[Array, "*s"]) -> Float[Array, "*s"]:
        low, high = (unnormalised(params, jnp.asarray(end)) for end in (0.0, 1.0))
        return _from_unit(params, (unnormalised(params, t) - low) / (high - low))

    return Schedule(init=init, gamma=gamma)

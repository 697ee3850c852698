"""DiffC: lossy compression with Gaussian diffusion (Theis, Salimans, Hoffman, Mentzer, arXiv 2206.08889).

The names in `__all__` are the public interface, described in docs/api.md; each is imported when it is first
used. All other modules and names are internal and may change.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffc_jax.channel_simulation.candidate_schemes import (
        minimal_channel,
        ordered_channel,
        poisson_channel,
    )
    from diffc_jax.channel_simulation.candidates import CandidateChannel
    from diffc_jax.channel_simulation.channel import (
        Channel,
        SampleStatistics,
        ideal_rate,
        sample_statistics,
    )
    from diffc_jax.channel_simulation.dithered import DitheredChannel
    from diffc_jax.channel_simulation.rate_bound import (
        chunked_rate_bound,
        rate_bound,
        stepwise_rate_bound,
    )
    from diffc_jax.channel_simulation.trellis import TrellisChannel
    from diffc_jax.codec.codec import Codec
    from diffc_jax.codec.files import read_image
    from diffc_jax.codec.loading import load_codec
    from diffc_jax.diffusion.samplers import ancestral, flow, posterior_mean
    from diffc_jax.diffusion.schedules import Schedule, build_schedule
    from diffc_jax.errors import DiffcError, InputError, UsageError
    from diffc_jax.evaluation.plan import SweepPlan, even_strata, nearest_levels
    from diffc_jax.evaluation.rd_sweep import Sweep, SweepResult
    from diffc_jax.models import Model, build_model
    from diffc_jax.models.gaussian import fit_statistics, gaussian_model
    from diffc_jax.theory.curves import CURVES, Curve, CurvePoint
    from diffc_jax.theory.mixture import GaussianMixture
    from diffc_jax.theory.scalar import ScalarPoint, analyse
    from diffc_jax.theory.scalar_sources import Laplace, Uniform

__all__ = [
    "CURVES",
    "CandidateChannel",
    "Channel",
    "Codec",
    "Curve",
    "CurvePoint",
    "DiffcError",
    "DitheredChannel",
    "GaussianMixture",
    "InputError",
    "Laplace",
    "Model",
    "SampleStatistics",
    "ScalarPoint",
    "Schedule",
    "Sweep",
    "SweepPlan",
    "SweepResult",
    "TrellisChannel",
    "Uniform",
    "UsageError",
    "analyse",
    "ancestral",
    "build_model",
    "build_schedule",
    "chunked_rate_bound",
    "even_strata",
    "fit_statistics",
    "flow",
    "gaussian_model",
    "ideal_rate",
    "load_codec",
    "minimal_channel",
    "nearest_levels",
    "ordered_channel",
    "poisson_channel",
    "posterior_mean",
    "rate_bound",
    "read_image",
    "sample_statistics",
    "stepwise_rate_bound",
]

# The modules that define the public names.
_MODULES = {
    "codec.codec": "Codec",
    "codec.loading": "load_codec",
    "codec.files": "read_image",
    "models": "Model build_model",
    "models.gaussian": "fit_statistics gaussian_model",
    "diffusion.schedules": "Schedule build_schedule",
    "diffusion.samplers": "ancestral flow posterior_mean",
    "evaluation.plan": "SweepPlan even_strata nearest_levels",
    "evaluation.rd_sweep": "Sweep SweepResult",
    "theory.curves": "CURVES Curve CurvePoint",
    "theory.mixture": "GaussianMixture",
    "theory.scalar_sources": "Laplace Uniform",
    "theory.scalar": "ScalarPoint analyse",
    "channel_simulation.candidates": "CandidateChannel",
    "channel_simulation.channel": "Channel SampleStatistics ideal_rate sample_statistics",
    "channel_simulation.dithered": "DitheredChannel",
    "channel_simulation.trellis": "TrellisChannel",
    "channel_simulation.rate_bound": "chunked_rate_bound rate_bound stepwise_rate_bound",
    "channel_simulation.candidate_schemes": "minimal_channel ordered_channel poisson_channel",
    "errors": "DiffcError InputError UsageError",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

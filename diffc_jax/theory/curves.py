"""Rate-distortion curves of a Gaussian source: points at a parameter, at a rate, at a distortion.

`CURVES` has those of the paper's analysis figure (Theis et al. 2022, section 4).
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import scipy.optimize
from jaxtyping import Float, Shaped

from diffc_jax.errors import UsageError
from diffc_jax.theory import allocation, gaussian
from diffc_jax.theory.gaussian import Eigenvalues

# Log signal-to-noise ratio of the largest component beyond which others may leave the range of float64.
_MAX_STRENGTH = 600.0
# Levels of water near the largest eigenvalue are too coarse for the least rates.
_RATE_TOLERANCE = 1e-3

_Code = Callable[[Eigenvalues, float], tuple[Eigenvalues, Eigenvalues]]


@dataclasses.dataclass(frozen=True, eq=False)
class CurvePoint:
    """One code on a curve.

    Attributes:
        parameter: value of the parameter of its curve.
        rates: bits of each component.
        distortions: E|X_i - Y_i|^2 of each component.
    """

    parameter: float
    rates: Float[np.ndarray, " m"]
    distortions: Float[np.ndarray, " m"]

    @property
    def bits(self) -> float:
        """Rate of the source vector in bits."""
        return float(np.sum(self.rates))

    @property
    def distortion(self) -> float:
        """E|X - Y|^2 of the source vector."""
        return float(np.sum(self.distortions))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Codes that differ in one parameter, from no information to all of it.

    Attributes:
        parameter: gamma, level or slope; the argument of that name in `theory.allocation`.
        code: (eigenvalues, parameter) -> rates in bits and distortions of the components.
    """

    parameter: str
    code: _Code

    def at_parameter(self, eigenvalues: Eigenvalues, parameter: int | float) -> CurvePoint:
        """The code with the given parameter.

        Raises:
            UsageError: eigenvalues that `check_spectrum` refuses.
        """
        return self._at(_checked(eigenvalues), parameter)

    def at_rate(self, eigenvalues: Eigenvalues, bits: int | float) -> CurvePoint:
        """The code of the given rate, in bits for the source vector.

        Raises:
            UsageError: not positive, more than float64 can hold (some 400 bits for each component) or too
                little for it; or eigenvalues that `check_spectrum` refuses.
        """
        if not 0 < bits < math.inf:
            raise UsageError(f"{bits} is not a positive number", field="bits")
        eigenvalues = _checked(eigenvalues)
        point = self._solve(eigenvalues, lambda point: _log(point.bits) - math.log(bits), "bits")
        if not math.isclose(point.bits, bits, rel_tol=_RATE_TOLERANCE):
            raise _out_of_range(eigenvalues, "bits")
        return point

    def at_distortion(self, eigenvalues: Eigenvalues, distortion: int | float) -> CurvePoint:
        """The code of the given distortion.

        Raises:
            UsageError: not positive, not below the distortion without bits, or smaller than float64 can hold;
                or eigenvalues that `check_spectrum` refuses.
        """
        eigenvalues = _checked(eigenvalues)
        most = self._at_strength(eigenvalues, -_MAX_STRENGTH).distortion
        if not 0 < distortion < most:
            raise UsageError(
                f"{distortion} is not between 0 and the {most:.6g} that cost no bits",
                field="distortion",
            )
        return self._solve(
            eigenvalues, lambda point: math.log(distortion) - _log(point.distortion), "distortion"
        )

    def _solve(
        self, eigenvalues: Eigenvalues, excess: Callable[[CurvePoint], float], name: str
    ) -> CurvePoint:
        """The code at which the increasing `excess` is zero."""

        def at(strength: float) -> float:
            return excess(self._at_strength(eigenvalues, strength))

        def end(sign: float) -> float:
            """A strength on this side of the root."""
            strength = step = 1.0
            while sign * at(sign * strength) < 0:
                if strength == _MAX_STRENGTH:
                    raise _out_of_range(eigenvalues, name)
                strength = min(strength + step, _MAX_STRENGTH)
                step *= 2.0
            return sign * strength

        low, high = end(-1.0), end(1.0)
        root = scipy.optimize.brentq(at, low, high, xtol=1e-15, rtol=4 * np.finfo(float).eps)
        return self._at_strength(eigenvalues, root)

    def _at_strength(self, eigenvalues: Eigenvalues, strength: float) -> CurvePoint:
        """The code with about exp(strength) as signal-to-noise ratio of the largest component."""
        largest = float(eigenvalues.max())
        return self._at(eigenvalues, _PARAMETERS[self.parameter](largest, strength))

    def _at(self, eigenvalues: Eigenvalues, parameter: int | float) -> CurvePoint:
        return CurvePoint(parameter, *self.code(eigenvalues, float(parameter)))


_PARAMETERS: dict[str, Callable[[float, float], float]] = {
    "gamma": lambda largest, strength: math.log(largest) - strength,
    "level": lambda largest, strength: largest * math.exp(-float(np.logaddexp(0.0, strength))),
    "slope": lambda largest, strength: math.exp(strength) / largest,
}


def _out_of_range(eigenvalues: Eigenvalues, field: str) -> UsageError:
    return UsageError(f"out of the range of float64 for {len(eigenvalues)} components", field=field)


def _checked(eigenvalues: Eigenvalues) -> Eigenvalues:
    """Eigenvalues in their order, so that results are those of their components."""
    check_spectrum(eigenvalues)
    return np.maximum(eigenvalues.astype(np.float64), 0.0)


def _log(value: float) -> float:
    """Logarithm that stays finite at zero."""
    return math.log(max(value, 1e-300))


def _allocated(
    allocate: Callable[[Eigenvalues, float], Eigenvalues],
    decode: Callable[[Eigenvalues, Eigenvalues], Eigenvalues],
) -> _Code:
    def code(eigenvalues: Eigenvalues, parameter: float) -> tuple[Eigenvalues, Eigenvalues]:
        noise = allocate(eigenvalues, parameter)
        return gaussian.rates(eigenvalues, noise), decode(eigenvalues, noise)

    return code


def _half(eigenvalues: Eigenvalues, level: float) -> tuple[Eigenvalues, Eigenvalues]:
    rates, distortions = allocation.reverse_water_filling(eigenvalues, level)
    return rates, 2.0 * distortions


# Names of the tables. The last two are limits of coding, whatever the code: R(D), and R(D/2), which
# posterior sampling reaches (Yan et al. 2021).
CURVES: dict[str, Curve] = {
    "diffc_a": Curve("gamma", _allocated(allocation.isotropic, gaussian.distortions_ancestral)),
    "diffc_f": Curve("gamma", _allocated(allocation.isotropic, gaussian.distortions_flow)),
    "diffc_d": Curve("gamma", _allocated(allocation.isotropic, gaussian.distortions_mean)),
    "diffc_a_star": Curve(
        "level", _allocated(allocation.water_filling, gaussian.distortions_ancestral)
    ),
    "diffc_f_star": Curve("slope", _allocated(allocation.realistic, gaussian.distortions_flow)),
    "rd": Curve("level", allocation.reverse_water_filling),
    "rd_half": Curve("level", _half),
}


def score_scaled(kappa: int | float) -> Curve:
    """DiffC with the score-scaled flow (1.7): kappa = 1 is DiffC-F, kappa = 2 DiffC-D."""
    decode = functools.partial(gaussian.distortions_flow, kappa=kappa)
    return Curve("gamma", _allocated(allocation.isotropic, decode))


def check_spectrum(values: Shaped[np.ndarray, "..."]) -> Eigenvalues:
    """Eigenvalues of a covariance as float64 in decreasing order.

    Negative values down to -1e-10 of the largest are rounding errors of a matrix without full rank and become
    zero: components without variance, which cost and lose nothing.

    Raises:
        UsageError: not a non-empty vector of real, finite numbers, negative, or without a positive one.
    """
    if values.ndim != 1 or not len(values):
        raise UsageError(
            f"an array of shape {values.shape} is not a non-empty vector", field="eigenvalues"
        )
    if values.dtype.kind not in "fiu":
        raise UsageError(f"{values.dtype} is not a type of real numbers", field="eigenvalues")
    values = np.sort(values.astype(np.float64))[::-1]
    if not np.isfinite(values).all():
        raise UsageError(
            f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} are not finite",
            field="eigenvalues",
        )
    if values[-1] < -1e-10 * values[0] or values[0] <= 0:
        raise UsageError(
            "must not be negative, nor all zero; "
            f"they run from {values[-1]:.6g} to {values[0]:.6g}",
            field="eigenvalues",
        )
    return np.maximum(values, 0.0)

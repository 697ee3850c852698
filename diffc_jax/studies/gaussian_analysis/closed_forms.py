"""Tables of closed forms and quadrature: Gaussian curves, components and realism, and scalar sources.

The paper's analysis figure (Theis et al. 2022, section 4). Everything Gaussian happens in principal
components: isotropic noise and every decoder commute with rotations, so only the eigenvalues matter.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.array_files import read_array
from diffc_jax.theory import allocation, gaussian
from diffc_jax.theory.curves import CURVES, Curve, check_spectrum
from diffc_jax.theory.gaussian import Eigenvalues
from diffc_jax.theory.mixture import GaussianMixture
from diffc_jax.theory.scalar import analyse
from diffc_jax.theory.scalar_sources import Laplace, ScalarSource, Uniform

Row = dict[str, Any]

DIMENSIONS_PER_PIXEL = 3
_KAPPAS = np.linspace(1.0, 2.0, 21)
# The last bits of a component are far below the noise of any data: no curve has more than this many.
MAX_BITS_PER_COMPONENT = 64.0


def curve_rows(eigenvalues: Eigenvalues, config: ConfigDict) -> list[Row]:
    """Rows of curves.csv: every curve at the same rates, evenly spaced in their logarithm.

    Raises:
        UsageError: the range of rates has none of them.
    """
    limit = min(config.max_bits, MAX_BITS_PER_COMPONENT * np.count_nonzero(eigenvalues))
    rates = _powers_of_ten(config.min_bits, limit, config.points_per_decade)
    if not rates:
        raise UsageError(
            f"from {config.min_bits:g} to {config.max_bits:g} bits, and at most "
            f"{MAX_BITS_PER_COMPONENT:g} a component, there is no rate to draw",
            field="gaussian.min_bits",
        )
    return [
        _row(name, eigenvalues, bits, curve) for name, curve in CURVES.items() for bits in rates
    ]


def component_rows(eigenvalues: Eigenvalues, config: ConfigDict) -> list[Row]:
    """Rows of components.csv: how rate and distortion of each curve spread at config.component_bpp."""
    rows = []
    for name, curve in CURVES.items():
        for bpp in config.component_bpp:
            point = curve.at_rate(eigenvalues, bpp * n_pixels(eigenvalues))
            columns = (column.tolist() for column in (eigenvalues, point.rates, point.distortions))
            for i, (value, bits, distortion) in enumerate(zip(*columns, strict=True), start=1):
                rows.append(
                    {
                        "curve": name,
                        "bits_per_pixel": bpp,
                        "component": i,
                        "eigenvalue": value,
                        "bits": bits,
                        "distortion": distortion,
                        "snr_db": decibels(value / distortion) if distortion > 0 else None,
                    }
                )
    return rows


def realism_rows(eigenvalues: Eigenvalues, config: ConfigDict) -> list[Row]:
    """Rows of realism.csv: between DiffC-F and DiffC-D at fixed noise, distortion against realism.

    squared_wasserstein is the squared 2-Wasserstein distance between source and reconstruction. The
    score-scaled flow (kappa) and the mix of flow and mean are both at the rates config.component_bpp.
    """
    rows = []
    for bpp in config.component_bpp:
        point = CURVES["diffc_f"].at_rate(eigenvalues, bpp * n_pixels(eigenvalues))
        noise = allocation.isotropic(eigenvalues, point.parameter)
        for kappa in _KAPPAS:
            for family, parameter, distortions, distances in (
                ("kappa", kappa, gaussian.distortions_flow, gaussian.wasserstein_flow),
                ("mix", 2.0 - kappa, gaussian.distortions_mix, gaussian.wasserstein_mix),
            ):
                rows.append(
                    {
                        "family": family,
                        "parameter": float(parameter),
                        "bits": point.bits,
                        "bits_per_pixel": bpp,
                        "distortion": float(distortions(eigenvalues, noise, parameter).sum()),
                        "squared_wasserstein": float(
                            distances(eigenvalues, noise, parameter).sum()
                        ),
                    }
                )
    return rows


def n_pixels(eigenvalues: Eigenvalues) -> float:
    """Pixels of a source vector."""
    return len(eigenvalues) / DIMENSIONS_PER_PIXEL


def scalar_source(name: str, config: ConfigDict) -> ScalarSource:
    """The source called `name` in config.scalar.

    Raises:
        UsageError: an unknown name, or parameters out of range.
    """
    try:
        if name == "laplace":
            return Laplace(config.laplace_scale)
        if name == "uniform":
            return Uniform(config.uniform_half_width)
        if name in config.mixtures:
            return GaussianMixture(**config.mixtures[name])
    except UsageError as error:
        place = f"mixtures.{name}." if name in config.mixtures else f"{name}_"
        raise UsageError(error.message, field=f"scalar.{place}{error.field}") from error
    raise UsageError(
        f"unknown {name!r}; choose among laplace, uniform, {', '.join(config.mixtures)}",
        field="scalar.sources",
    )


def scalar_rows(config: ConfigDict) -> list[Row]:
    """Rows of scalar/curves.csv, by quadrature as config.scalar says."""
    powers = _powers_of_ten(config.min_sigma2, 1.0, config.points_per_decade)
    sigma2s = sorted([*powers[:-1], 0.5, 0.8, 0.9, 0.97, 0.99])  # a few are nearly all noise
    return [
        {"source": name} | dataclasses.asdict(analyse(scalar_source(name, config), sigma2))
        for name in config.sources
        for sigma2 in sigma2s
    ]


def read_spectrum(path: pathlib.Path) -> Eigenvalues:
    """Eigenvalues from a .npy file, in decreasing order.

    Raises:
        InputError: missing, not such a file, or not a spectrum (`theory.curves.check_spectrum`).
    """
    values = read_array(path, "is not a .npy file of numbers", "save one vector with numpy.save")
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise InputError(f"{path}: is an array of {values.dtype}, not of numbers")
    try:
        return check_spectrum(values)
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error


def decibels(ratio: float) -> float:
    """10 log10 of a ratio of powers."""
    return float(10.0 * np.log10(ratio))


def _powers_of_ten(lowest: float, highest: float, per_decade: int) -> list[float]:
    """Powers of ten and numbers between them, evenly spaced in their logarithm."""
    first, last = np.log10(lowest) * per_decade, np.log10(highest) * per_decade
    positions = range(int(np.ceil(first - 1e-9)), int(np.floor(last + 1e-9)) + 1)
    return [10.0 ** (i / per_decade) for i in positions]


def _row(name: str, eigenvalues: Eigenvalues, bits: float, curve: Curve) -> Row:
    point = curve.at_rate(eigenvalues, bits)
    return {
        "curve": name,
        "parameter": point.parameter,
        "bits": point.bits,
        "bits_per_pixel": point.bits / n_pixels(eigenvalues),
        "distortion": point.distortion,
        "snr_db": decibels(eigenvalues.sum() / point.distortion),
    }

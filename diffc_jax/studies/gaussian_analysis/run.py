"""`analyse_theory(config, workdir)`: all tables and figures of the paper's analysis (section 4)."""

import pathlib
import time
from collections.abc import Sequence

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from diffc_jax.evaluation.results import write_table
from diffc_jax.plotting import analysis as figures
from diffc_jax.plotting.figures import save_figure
from diffc_jax.runtime.environment import write_environment
from diffc_jax.runtime.files import atomic_write, write_json
from diffc_jax.runtime.run_config import check_no_training
from diffc_jax.studies.gaussian_analysis import closed_forms
from diffc_jax.studies.gaussian_analysis.config import vector_mixture
from diffc_jax.theory.gaussian import Eigenvalues
from diffc_jax.theory.mixture import GaussianMixture, Mixture

# Files that only a run with a simulation has.
_SIMULATED = (
    *("gaussian/simulation.csv", "scalar/simulation.csv"),
    *("vector/curves.csv", "vector/curves.png", "vector/curves.pdf"),
)

# Modules that need JAX or images are imported where they are used: a given spectrum needs neither, and
# loading them would take as long as its analysis.


def analyse_theory(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes W/gaussian, W/scalar and W/vector: tables as CSV, each with its figure as PNG and PDF.

    The config is one that `config.validate` has checked. Files of the same names are replaced; without a
    simulation those of an earlier one are removed.

    Raises:
        UsageError: a field that cannot be used, or a folder with a run of a model.
        InputError: a spectrum or images that cannot be read.
    """
    begin = time.monotonic()
    check_no_training(workdir)
    eigenvalues, source = _open_source(config, workdir)
    write_json(workdir / "config.json", config.to_dict())
    write_environment(workdir)
    simulated = config.monte_carlo == "always" or (
        config.monte_carlo == "auto" and not config.source.eigenvalues
    )
    if not simulated:
        for name in _SIMULATED:
            (workdir / name).unlink(missing_ok=True)
    _analyse_gaussian(config, workdir / "gaussian", eigenvalues, source, simulated)
    _analyse_scalar(config, workdir / "scalar", simulated)
    if simulated:
        rows = _simulate_mixture("vector", vector_mixture(config), config)
        save_figure(figures.plot_vector(rows), workdir / "vector" / "curves", rows)
    logging.info("analysis in %s, %.0f s", workdir, time.monotonic() - begin)


def _open_source(config: ConfigDict, workdir: pathlib.Path) -> tuple[Eigenvalues, str]:
    """Eigenvalues, and what figures call the source."""
    if config.source.eigenvalues:
        path = pathlib.Path(config.source.eigenvalues)
        eigenvalues = closed_forms.read_spectrum(path)
        return eigenvalues, f"{len(eigenvalues)} eigenvalues of {path.name}"
    from diffc_jax.studies.gaussian_analysis.patches import fit_config_patches

    eigenvalues, description = fit_config_patches(config.source)
    with atomic_write(workdir / "gaussian" / "eigenvalues.npy") as temporary:
        np.save(temporary, eigenvalues)
    return eigenvalues, description


def _analyse_gaussian(
    config: ConfigDict, folder: pathlib.Path, eigenvalues: Eigenvalues, source: str, simulated: bool
) -> None:
    settings = config.gaussian
    components = closed_forms.component_rows(eigenvalues, settings)
    save_figure(figures.plot_components(components, source), folder / "components", components)
    realism = closed_forms.realism_rows(eigenvalues, settings)
    save_figure(figures.plot_realism(realism, source), folder / "realism", realism)
    points: list[closed_forms.Row] = []
    if simulated:
        from diffc_jax.studies.gaussian_analysis import simulation

        points = list(simulation.gaussian_rows(eigenvalues, settings, config.seed))
        _write(folder / "simulation.csv", points)
    curves = closed_forms.curve_rows(eigenvalues, settings)
    save_figure(figures.plot_curves(curves, points, source), folder / "curves", curves)


def _one_dimensional(source: GaussianMixture) -> Mixture:
    weights, means, stds = (np.array(v) for v in (source.weights, source.means, source.stds))
    return Mixture(weights, means[:, None], np.square(stds)[:, None, None])


def _analyse_scalar(config: ConfigDict, folder: pathlib.Path, simulated: bool) -> None:
    points: list[closed_forms.Row] = []
    for name in config.scalar.sources:
        source = closed_forms.scalar_source(name, config.scalar)
        if simulated and isinstance(source, GaussianMixture):
            points += _simulate_mixture(name, _one_dimensional(source), config)
    if points:
        _write(folder / "simulation.csv", points)
    else:
        (folder / "simulation.csv").unlink(missing_ok=True)
    curves = closed_forms.scalar_rows(config.scalar)
    save_figure(figures.plot_scalar(curves, points), folder / "curves", curves)


def _simulate_mixture(name: str, mixture: Mixture, config: ConfigDict) -> list[closed_forms.Row]:
    from diffc_jax.studies.gaussian_analysis import simulation

    return list(simulation.mixture_rows(name, mixture, config.mixture, config.seed))


def _write(path: pathlib.Path, rows: Sequence[closed_forms.Row]) -> None:
    write_table(path, rows[0].keys(), map(dict, rows))

"""The paper's analysis (section 4): DiffC on Gaussian sources in closed form, and on any source.

Draws the figure with SNR against bits per pixel for DiffC-A, -F, -A*, -F*, R(D) and R(D/2), how bits spread
over principal components, the checks by simulation, and the scalar sources. A minute on two CPU cores.

    python experiments/gaussian.py --config=configs/gaussian.py --workdir=runs/gaussian_analysis

The covariance is that of 16x16 patches of the built-in photographs. For ImageNet, or any other images:

    ... --config.source.images.source=tar --config.source.images.path='DATA/*.tar'

For a given spectrum, closed forms and quadrature only (seconds; --config.monte_carlo=always simulates too):

    ... --config.source.eigenvalues=FILE.npy

At 100 bits, eigenvalues i^-1.5 of 768 components scaled to a trace of 192 give D_A = 43.101, D_A* = 35.391,
D_F = 28.157, D_F* = 26.238 and D(R) = 17.695.
"""

from ml_collections import ConfigDict

from diffc_jax.config import check_config_argument
from diffc_jax.studies.gaussian_analysis.config import analysis_config, shrink_to_smoke


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` shrinks the simulation and the grids."""
    check_config_argument(argument)
    config = analysis_config()
    if argument == "smoke":
        shrink_to_smoke(config)
    return config

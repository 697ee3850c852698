"""A spectrum from a file."""

import pathlib

import numpy as np

from diffc_jax.errors import InputError, UsageError
from diffc_jax.theory.curves import check_spectrum
from diffc_jax.theory.gaussian import Eigenvalues


def read_spectrum(path: pathlib.Path) -> Eigenvalues:
    """Eigenvalues from a .npy file, in decreasing order.

    Raises:
        InputError: missing, not such a file, or not a spectrum (`theory.curves.check_spectrum`).
    """
    try:
        values = np.load(path, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: is not a .npy file of numbers ({error})") from error
    if not isinstance(values, np.ndarray):
        raise InputError(f"{path}: holds several arrays; save one vector with numpy.save")
    try:
        return check_spectrum(values)
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error
